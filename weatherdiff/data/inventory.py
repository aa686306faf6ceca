"""Whether the files of a field store are there, and are what was written.

A frame of the fields has a checksum that is looked at whenever it is read; a shard that is lost is
no reason not to read others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from weatherdiff.data.manifest import CHANGES, FIELDS, FRAMES, LOG, LOOKS, SEEN, Manifest
from weatherdiff.data.shards import chunk_file
from weatherdiff.errors import InputError
from weatherdiff.sealed import unseal

__all__ = ["require_all", "require_moments", "require_sound"]

_NAMED = 20  # files in one message


def require_sound(path: Path, manifest: Manifest) -> None:
    """Require the files of a store that no addition changes, as they were.

    Raises
    ------
    InputError
        All that are not are named.
    """
    damage = [] if manifest.files else ["fields/manifest.json lists no files"]
    _refuse(path, damage + manifest.damage(path))


def require_moments(path: Path) -> None:
    """Require that no file of the moments is absent, which would read as no data.

    Raises
    ------
    InputError
        All that are absent are named.
    """
    files = [file for _, group in _grown(path) for file in group[1:4]]  # FRAMES, CHANGES, SEEN
    _refuse(path, [f"{file.relative_to(path)} is absent" for file in files if not file.is_file()])


def require_all(path: Path) -> None:
    """Require all files of a store, and read the moments and the log.

    Raises
    ------
    InputError
        All files that are absent or damaged are named.
    """
    group = zarr.open_group(path, mode="r", use_consolidated=False)
    damage = []
    for index, files in _grown(path):
        for file in files:
            try:
                if not file.is_file():
                    raise FileNotFoundError("absent")
                if file.suffix == ".json":
                    unseal(file.read_text())
            except (OSError, ValueError) as error:
                damage.append(f"{file.relative_to(path)} ({error})")
        for name, file in zip(_arrays(path)[1:], files[1:-2], strict=True):
            array: Any = group[name]
            rows = array.chunks[0]
            try:
                np.asarray(array[index * rows : (index + 1) * rows])
            except (OSError, RuntimeError, ValueError) as error:
                damage.append(f"{file.relative_to(path)} ({error})")
    _refuse(path, damage)


def _refuse(path: Path, damage: list[str]) -> None:
    if damage:
        more = f"; and {len(damage) - _NAMED} more" if len(damage) > _NAMED else ""
        raise InputError(f"{path} is damaged: {'; '.join(damage[:_NAMED])}{more}.")


def _grown(path: Path) -> Iterator[tuple[int, list[Path]]]:
    """Give the files of each shard: fields, moments, and the log."""
    manifest = Manifest.read(path)
    for index in range(-(-manifest.frames // manifest.shard) if manifest.shard else 0):
        log = [path / LOG / f"{index:06d}.{kind}.json" for kind in ("fields", "changes")]
        yield index, [_chunk(path, name, index) for name in _arrays(path)] + log


def _arrays(path: Path) -> list[str]:
    """Name the arrays that have a file for each shard; older stores have no looks."""
    looks = [LOOKS] if (path / LOOKS).is_dir() else []
    return [FIELDS, FRAMES, CHANGES, SEEN, *looks]


def _chunk(path: Path, name: str, index: int) -> Path:
    return chunk_file(path / name, index, *[0] * (2 if name in (FRAMES, LOOKS) else 3))
