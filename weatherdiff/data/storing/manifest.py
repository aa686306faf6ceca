"""The manifest of a field store: how far it is valid. Written last, and all that readers trust."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weatherdiff.data.storing.shards import checksum, put_file

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
    packing : dict
        Of a packed store: the measured error of each channel, over all frames; see
        :func:`weatherdiff.data.storing.rounding.summarize_errors`. Else empty.
    quality : tuple of dict, optional
        What quality control has found in these frames, see
        :class:`weatherdiff.data.quality.Finding`; None if nothing has looked.
    """

    frames: int
    frames_with_gaps: int
    additions: tuple[dict[str, Any], ...] = ()
    packing: dict[str, dict[str, Any]] = field(default_factory=dict)
    quality: tuple[dict[str, Any], ...] | None = None

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
        if document.get("quality") is not None:
            document["quality"] = tuple(document["quality"])
        return cls(**document)

    def write(self, store: Path) -> None:
        """Publish: from now on readers see this state."""
        document = dataclasses.asdict(self)
        if not self.packing:
            del document["packing"]
        if self.quality is None:
            del document["quality"]
        document["checksum"] = checksum(_text(document).encode())
        put_file(store / FILE, json.dumps(document, indent=1) + "\n", durable=True)


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True)
