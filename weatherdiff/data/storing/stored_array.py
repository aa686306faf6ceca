"""How the frames of a Zarr v3 array lie in its files: ``zarr.json``, read once.

Only what is understood to the last key is accepted: an array whose metadata say anything else is
left to zarr-python (:class:`UnknownLayoutError` says why).
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from weatherdiff.data.storing.packing import CODEC_NAME
from weatherdiff.errors import InputError

__all__ = ["StoredArray", "UnknownLayoutError"]

COMPRESSORS = ("blosc", "zstd")
# (whoever opens a pipe would else wait for its writer)
READING = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


class UnknownLayoutError(InputError):
    """The array is stored in a way that only zarr-python reads."""


@dataclass(frozen=True)
class StoredArray:
    """An array of float32 frames, one frame a chunk, in files of one or many frames.

    Attributes
    ----------
    path : Path
        Folder of the array.
    shape : tuple of int
        Time first.
    frames_per_file : int
        Of a shard; 1 where there are no shards.
    sharded : bool
        Whether files are shards, with an index at their end (or their start).
    index_at_end : bool
    index_checksum : bool
        Whether a CRC32C follows the index.
    compressor : str or None
        ``"blosc"``, ``"zstd"``, ``"packed"`` (:mod:`weatherdiff.data.storing.packing`), or None for
        raw values.
    checksum : bool
        Whether a CRC32C follows each chunk.
    fill_value : float
        What a chunk that is not there stands for.
    separator : str
        In the names of the files.
    """

    path: Path
    shape: tuple[int, ...]
    frames_per_file: int
    sharded: bool
    index_at_end: bool
    index_checksum: bool
    compressor: str | None
    checksum: bool
    fill_value: float
    separator: str

    @classmethod
    def open(cls, path: Path) -> StoredArray:
        """Read the metadata of the array in a folder.

        Raises
        ------
        UnknownLayoutError
            The layout is another one; the message says in what.
        OSError, ValueError
            The metadata cannot be read at all.
        """
        document = json.loads((path / "zarr.json").read_bytes())
        try:
            return cls._parse(path, document)
        except (KeyError, TypeError, AttributeError) as error:
            raise UnknownLayoutError(f"{path}: unusual metadata ({error!r})") from error

    @classmethod
    def _parse(cls, path: Path, document: dict[str, Any]) -> StoredArray:
        def require(condition: bool, what: str) -> None:
            if not condition:
                raise UnknownLayoutError(f"{path}: {what}")

        require(document["zarr_format"] == 3, f"Zarr format {document['zarr_format']}")
        require(document["node_type"] == "array", f"a {document['node_type']}, not an array")
        require(document["data_type"] == "float32", f"values of type {document['data_type']}")
        require(not document.get("storage_transformers"), "storage transformers")
        grid, keys = document["chunk_grid"], document["chunk_key_encoding"]
        require(grid["name"] == "regular", f"a chunk grid {grid['name']!r}")
        require(keys["name"] == "default", f"chunk keys {keys['name']!r}")
        shape = tuple(int(n) for n in document["shape"])
        outer = tuple(int(n) for n in grid["configuration"]["chunk_shape"])
        codecs, index = document["codecs"], []
        sharded, at_end, chunk = codecs[0]["name"] == "sharding_indexed", True, outer
        if sharded:
            require(len(codecs) == 1, f"codecs after sharding: {codecs[1:]}")
            inner = codecs[0]["configuration"]
            chunk = tuple(int(n) for n in inner["chunk_shape"])
            codecs, index = inner["codecs"], inner["index_codecs"]
            at_end = inner.get("index_location", "end") == "end"
            require(outer[1:] == shape[1:], f"shards {outer} that divide a frame of {shape}")
        require(len(shape) > 1, f"an array of {len(shape)} dimension")
        require(chunk == (1, *shape[1:]), f"chunks {chunk} that are not one frame of {shape}")
        compressor, checksum = _codecs(codecs, require)
        no_compressor, index_checksum = _codecs(index, require) if sharded else (None, False)
        require(no_compressor is None, "a compressed index")
        return cls(
            path=path,
            shape=shape,
            frames_per_file=outer[0],
            sharded=sharded,
            index_at_end=at_end,
            index_checksum=index_checksum,
            compressor=compressor,
            checksum=checksum,
            fill_value=float(document["fill_value"]),
            separator=keys.get("configuration", {}).get("separator", "/"),
        )

    @property
    def frame_bytes(self) -> int:
        """Size of a decoded frame."""
        return 4 * math.prod(self.shape[1:])

    @property
    def index_bytes(self) -> int:
        """Size of a shard's index with its checksum."""
        return 16 * self.frames_per_file + 4 * self.index_checksum

    def file(self, number: int) -> Path:
        """Name the file of frames ``number * frames_per_file`` and following."""
        return Path(self.file_name(number))

    def file_name(self, number: int) -> str:
        """Give the same as text, which costs a tenth."""
        before, after = self._around_number
        return f"{before}{number}{after}"

    def open_file(self, number: int) -> int:
        """Open a file to read from; give its descriptor."""
        return os.open(self.file_name(number), READING)

    def admit(self, number: int, file: int) -> None:
        """Refuse an open file that is none of the store; asked before it is read."""

    def admitted(self, number: int) -> bool:
        """Tell whether a file was asked for before, and admitted."""
        return True

    @cached_property
    def _around_number(self) -> tuple[str, str]:
        tail = "".join(f"{self.separator}0" for _ in self.shape[1:])
        return os.path.join(self.path, f"c{self.separator}"), tail


def _codecs(codecs: list[dict[str, Any]], require: Any) -> tuple[str | None, bool]:
    """Give the compressor, and whether a checksum ends the chain."""
    chain = [codec["name"] for codec in codecs]
    if chain == [CODEC_NAME, "crc32c"]:
        return "packed", True
    require(chain[:1] == ["bytes"], f"codecs {chain}")
    require(codecs[0].get("configuration", {}).get("endian") == "little", "big-endian values")
    checksum = chain[-1] == "crc32c"
    between = chain[1:-1] if checksum else chain[1:]
    require(len(between) <= 1 and set(between) <= set(COMPRESSORS), f"codecs {chain}")
    return (between[0] if between else None), checksum
