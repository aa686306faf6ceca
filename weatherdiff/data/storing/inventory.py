"""Whether the files of a field store are there, and are what was written.

The inventory, ``fields/files.json``, has the checksum of each file that no addition changes: of all
but the chunks of arrays that grow with time, and of what tells of these all but their length. A
chunk has a checksum of its own that is looked at when it is read; a shard that is lost is no reason
not to read others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from weatherdiff.data.storing.manifest import FILE as MANIFEST
from weatherdiff.data.storing.manifest import Manifest
from weatherdiff.data.storing.shards import checksum, put_file
from weatherdiff.errors import InputError
from weatherdiff.sealed import seal, unseal
from weatherdiff.staging import PARTIAL_SUFFIX

__all__ = ["FILES", "Inventory", "require_all", "require_moments"]

FILES = "fields/files.json"
FIELDS, LOG = "fields", "fields/log"

_GROWING = ("time", "shard")  # first dimensions of arrays that dates are added to
_NAMED = 20  # files in one message


@dataclass(frozen=True)
class Inventory:
    """What a store consists of.

    Attributes
    ----------
    reaching : int
        Frames that the arrays may have: an addition that is under way, or was stopped, may have
        made them longer than they are whole.
    files : dict
        Name -> checksum.
    """

    reaching: int
    files: dict[str, str]

    @classmethod
    def take(cls, store: Path, frames: int) -> Inventory:
        """Read a store that is whole, but for its manifest."""
        documents = {file.parent: _array(file) for file in sorted(store.rglob("zarr.json"))}
        growing = [folder / "c" for folder, array in documents.items() if _grows(array)]
        files = {}
        for file in sorted(store.rglob("*")):
            name = file.relative_to(store).as_posix()
            left_out = (
                name in (FILES, MANIFEST)
                or name.startswith(f"{LOG}/")
                or file.name.startswith(".")  # a lock
                or file.name.endswith(PARTIAL_SUFFIX)
                or any(folder in file.parents for folder in growing)
            )
            if file.is_file() and not left_out:
                files[name] = _checksum(file)
        return cls(frames, files)

    @classmethod
    def read(cls, store: Path) -> Inventory:
        """Read the inventory of a store.

        Raises
        ------
        InputError
            It is absent or damaged.
        """
        try:
            return cls(**unseal((store / FILES).read_text()))
        except (OSError, TypeError, ValueError) as error:
            raise InputError(f"{store} is damaged: {FILES} ({error}).") from error

    def write(self, store: Path) -> None:
        """Put it into the store."""
        put_file(store / FILES, seal(asdict(self)), durable=True)

    @classmethod
    def extend(cls, store: Path, frames: int) -> None:
        """Allow for so many frames, if the store has an inventory; older ones have none."""
        if (store / FILES).is_file():
            known = cls.read(store)
            replace(known, reaching=max(known.reaching, frames)).write(store)

    def damage(self, store: Path, frames: int) -> list[str]:
        """Compare the files; return a part of a sentence for each that differs.

        Parameters
        ----------
        store : Path
        frames : int
            Of the manifest.
        """
        found = []
        for name, known in self.files.items():
            file = store / name
            try:
                if _checksum(file) != known:
                    found.append(f"{name} was altered (its checksum differs)")
                elif file.name == "zarr.json" and _grows(array := _array(file)):
                    rows = _frames_of(array, store)
                    low, high = (-(-n // rows) for n in (frames, max(frames, self.reaching)))
                    if not low <= array["shape"][0] <= high:
                        length = array["shape"][0]
                        found.append(f"{name} was altered (its length is {length}, not {low})")
            except FileNotFoundError:
                found.append(f"{name} is absent")
            except (ArithmeticError, LookupError, OSError, TypeError, ValueError) as error:
                found.append(f"{name} cannot be read ({error})")
        return found


def require_moments(path: Path) -> None:
    """Require that no file of the moments is absent, which would read as no data.

    Raises
    ------
    InputError
        All that are absent are named.
    """
    _refuse(path, [f"{name} is absent" for name, _ in _chunks(path) if not (path / name).is_file()])


def require_all(path: Path) -> None:
    """Require all files of a store, and read the arrays that grow, but the fields, and the log.

    Raises
    ------
    InputError
        All files that are absent or damaged are named.
    """
    damage = []
    for name, rows in _chunks(path):
        try:
            if not (path / name).is_file():
                raise FileNotFoundError("it is absent")
            array: Any = zarr.open_array(path / name.partition("/c/")[0], mode="r")
            np.asarray(array[rows])
        except (OSError, RuntimeError, ValueError) as error:
            damage.append(f"{name} ({error})")
    frames = Manifest.read(path).frames
    for index in range(-(-frames // _frames_of({"dimension_names": ["shard"]}, path))):
        for kind in ("fields", "changes"):
            name = f"{LOG}/{index:06d}.{kind}.json"
            try:
                unseal((path / name).read_text())
            except (OSError, ValueError) as error:
                damage.append(f"{name} ({error})")
        shard = f"{FIELDS}/c/{index}/0/0/0"
        if not (path / shard).is_file():
            damage.append(f"{shard} (it is absent)")
    _refuse(path, damage)


def _refuse(path: Path, damage: list[str]) -> None:
    if damage:
        more = f"; and {len(damage) - _NAMED} more" if len(damage) > _NAMED else ""
        raise InputError(f"{path} is damaged: {'; '.join(damage[:_NAMED])}{more}.")


def _chunks(path: Path) -> Iterator[tuple[str, slice]]:
    """Give the chunks of the arrays that grow, but the fields, and the rows that each holds."""
    frames = Manifest.read(path).frames
    for name in Inventory.read(path).files:
        folder = (path / name).parent
        if not name.endswith("zarr.json") or folder == path / FIELDS:
            continue
        if _grows(_array(path / name)):
            array = zarr.open_array(folder, mode="r")
            length = -(-frames // _frames_of(_array(path / name), path))
            size, rest = array.chunks[0], [0] * (array.ndim - 1)
            for index in range(-(-length // size)):
                key = array.metadata.encode_chunk_key((index, *rest))
                rows = slice(index * size, min((index + 1) * size, length))
                yield (folder / key).relative_to(path).as_posix(), rows


def _array(file: Path) -> dict[str, Any]:
    document = json.loads(file.read_bytes())
    if not isinstance(document, dict):
        raise ValueError("it holds no object")
    return document


def _grows(array: dict[str, Any]) -> bool:
    return (array.get("dimension_names") or [None])[0] in _GROWING


def _frames_of(array: dict[str, Any], store: Path) -> int:
    """Tell how many frames one row of an array stands for."""
    if array["dimension_names"][0] == "time":
        return 1
    fields = _array(store / FIELDS / "zarr.json")
    return int(fields["chunk_grid"]["configuration"]["chunk_shape"][0])


def _checksum(file: Path) -> str:
    content = file.read_bytes()
    if file.name == "zarr.json" and _grows(document := _array(file)):
        del document["shape"][0]
        content = json.dumps(document, sort_keys=True).encode()
    return checksum(content)
