"""Whether the files of a field store are there and are what was written, fields apart.

A frame of the fields has a checksum that is looked at whenever it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from weatherdiff.data.manifest import CHANGES, FIELDS, FRAMES, LOG, SEEN, Manifest
from weatherdiff.data.shards import chunk_file
from weatherdiff.errors import InputError
from weatherdiff.sealed import unseal

__all__ = ["require_sound", "require_sound_moments"]

_NAMED = 20  # files in one message


def require_sound(path: Path, manifest: Manifest) -> None:
    """Require all files of a store, and that those no addition changes are as they were.

    Raises
    ------
    InputError
        All that are not are named.
    """
    damage = [] if manifest.files else ["fields/manifest.json lists no files"]
    damage += manifest.damage(path)
    damage += [f"{file.relative_to(path)} is absent" for file in _grown(path, manifest)
               if not file.is_file()]  # fmt: skip
    _refuse(path, damage)


def require_sound_moments(path: Path) -> None:
    """Read the moments and the log of a store.

    Raises
    ------
    InputError
        All files that are damaged are named.
    """
    manifest = Manifest.read(path)
    group = zarr.open_group(path, mode="r", use_consolidated=False)
    damage = []
    for index in range(-(-manifest.frames // manifest.shard) if manifest.shard else 0):
        for name in (FRAMES, CHANGES, SEEN):
            array: Any = group[name]
            rows = array.chunks[0]
            try:
                np.asarray(array[index * rows : (index + 1) * rows])
            except (OSError, RuntimeError, ValueError) as error:
                damage.append(f"{_chunk(path, name, index).relative_to(path)} ({error})")
        for file in _logs(path, index):
            try:
                unseal(file.read_text())
            except (OSError, ValueError) as error:
                damage.append(f"{file.relative_to(path)} ({error})")
    _refuse(path, damage)


def _refuse(path: Path, damage: list[str]) -> None:
    if damage:
        more = f"; and {len(damage) - _NAMED} more" if len(damage) > _NAMED else ""
        raise InputError(f"{path} is damaged: {'; '.join(damage[:_NAMED])}{more}.")


def _grown(path: Path, manifest: Manifest) -> Iterator[Path]:
    """Give the files that hold what grows with time, but for the coordinates."""
    for index in range(-(-manifest.frames // manifest.shard) if manifest.shard else 0):
        for name in (FIELDS, FRAMES, CHANGES, SEEN):
            yield _chunk(path, name, index)
        yield from _logs(path, index)


def _chunk(path: Path, name: str, index: int) -> Path:
    return chunk_file(path / name, index, *[0] * (2 if name == FRAMES else 3))


def _logs(path: Path, index: int) -> list[Path]:
    return [path / LOG / f"{index:06d}.{kind}.json" for kind in ("fields", "changes")]
