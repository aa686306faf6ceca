"""The manifest of a field store: how far it is valid. Written last, and all that readers trust."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weatherdiff.data.shards import checksum, put_file

__all__ = ["Manifest"]

FILE = "fields/manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What a store holds at this moment; one rename replaces it.

    Attributes
    ----------
    frames : int
        Those before this one are whole. There may be more in the files: an addition that is under
        way, or was stopped.
    frames_with_gaps : int
        Of these, how many have missing data.
    additions : tuple of dict
        One for each time that dates were added: their span, and the drift of their statistics.
    """

    frames: int
    frames_with_gaps: int
    additions: tuple[dict[str, Any], ...] = ()

    @classmethod
    def read(cls, store: Path) -> Manifest:
        """Read the manifest of a store.

        Raises
        ------
        OSError, ValueError, TypeError, KeyError
            It is not there, or damaged.
        """
        document = json.loads((store / FILE).read_bytes())
        known = document.pop("checksum")
        if checksum(_text(document).encode()) != known:
            raise ValueError("the manifest does not have its checksum")
        document["additions"] = tuple(document["additions"])
        return cls(**document)

    def write(self, store: Path) -> None:
        """Publish: from now on readers see this state."""
        document = dataclasses.asdict(self)
        document["checksum"] = checksum(_text(document).encode())
        put_file(store / FILE, json.dumps(document, indent=1) + "\n", durable=True)


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True)
