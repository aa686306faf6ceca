"""The manifest of a field store: how far it is valid. Written last, and all that readers trust."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weatherdiff.data.shards import checksum, put_file

__all__ = [
    "CHANGES",
    "FIELDS",
    "FRAMES",
    "GROWING",
    "LOG",
    "LOOKS",
    "SEEN",
    "Manifest",
    "checksums",
]

#: Folders of the arrays, within the store. What is no array lies in that of the fields, where
#: nothing that reads Zarr looks for any.
FIELDS, FRAMES, CHANGES, SEEN = "fields", "moments/frames", "moments/changes", "moments/seen"
LOOKS = "quality/looks"
LOG = "fields/log"
FILE = "fields/manifest.json"

#: Arrays that dates are added to: their chunks have checksums of their own, and their metadata keep
#: all but the length.
GROWING = ("fields", "time", "valid", FRAMES, CHANGES, SEEN, LOOKS)

_NOT_LISTED = (f"{LOG}/", *(f"{name}/c/" for name in GROWING))


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
    reaching : int, optional
        How long additions that are under way, or were stopped, may have made the arrays.
    files : mapping
        Checksum of each file that no addition changes, see :func:`checksums`; empty in stores of
        the second version.
    shard : int
        Frames of one file, where ``files`` is not empty.
    packing : dict
        Of a packed store: the measured error of each channel, over all frames; see
        :func:`weatherdiff.data.rounding.summarize_errors`. Else empty.
    quality : tuple of dict, optional
        What quality control has found in these frames, see
        :class:`weatherdiff.data.quality.Finding`; None if nothing has looked.
    """

    frames: int
    frames_with_gaps: int
    additions: tuple[dict[str, Any], ...] = ()
    reaching: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    shard: int = 0
    packing: dict[str, dict[str, Any]] = field(default_factory=dict)
    quality: tuple[dict[str, Any], ...] | None = None

    @classmethod
    def read(cls, store: Path) -> Manifest:
        """Read the manifest of a store.

        Raises
        ------
        OSError
            It is not there.
        ValueError
            It is damaged.
        """
        content = (store / FILE).read_bytes()
        try:
            document = json.loads(content)
            known = document.pop("checksum")
            if checksum(_text(document).encode()) != known:
                raise ValueError("it does not have its checksum")
            document["additions"] = tuple(document["additions"])
            if document.get("quality") is not None:
                document["quality"] = tuple(document["quality"])
            return cls(**document)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{FILE} is damaged: {error}") from error

    @staticmethod
    def is_there(store: Path) -> bool:
        """Tell whether a store has one: those of the first version have not."""
        return (store / FILE).is_file()

    def write(self, store: Path) -> None:
        """Publish: from now on readers see this state."""
        document = dataclasses.asdict(self)
        for name in ("packing", "reaching", "files", "shard"):
            if not document[name]:
                del document[name]
        if self.quality is None:
            del document["quality"]
        document["checksum"] = checksum(_text(document).encode())
        put_file(store / FILE, json.dumps(document, indent=1) + "\n", durable=True)

    def damage(self, store: Path) -> list[str]:
        """Compare the files that no addition changes; return a part of a sentence for each."""
        found = []
        for name, known in self.files.items():
            try:
                content = (store / name).read_bytes()
                if _checksum(name, content) != known:
                    found.append(f"{name} was altered (its checksum differs)")
                elif _growing(name):
                    self._require_length(name, json.loads(content))
            except FileNotFoundError:
                found.append(f"{name} is absent")
            except (ArithmeticError, LookupError, OSError, TypeError, ValueError) as error:
                found.append(f"{name} cannot be read ({error})")
        return found

    def _require_length(self, name: str, array: dict[str, Any]) -> None:
        low, high = self.frames, max(self.frames, self.reaching or 0)
        if name == f"{SEEN}/zarr.json":  # one for each shard
            low, high = (-(-n // self.shard) for n in (low, high))
        if not low <= array["shape"][0] <= high:
            raise ValueError(f"its length is {array['shape'][0]}, expected {low}")


def checksums(store: Path) -> dict[str, str]:
    """Give the checksums of the files that no addition changes, by name.

    Of the metadata of an array that grows, it is that of all but its length.
    """
    return {name: _checksum(name, (store / name).read_bytes()) for name in _fixed(store)}


def _fixed(store: Path) -> Iterator[str]:
    for file in sorted(store.rglob("*")):
        name = file.relative_to(store).as_posix()
        hidden = file.name.startswith(".")  # locks
        if file.is_file() and not hidden and name != FILE and not name.startswith(_NOT_LISTED):
            yield name


def _growing(name: str) -> bool:
    array, _, file = name.rpartition("/")
    return file == "zarr.json" and array in GROWING


def _checksum(name: str, content: bytes) -> str:
    if _growing(name):
        document = json.loads(content)
        del document["shape"][0]
        content = _text(document).encode()
    return checksum(content)


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True)
