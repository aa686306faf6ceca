"""Files of a Zarr v3 array, byte by byte: one shard is one file, written by one writer and renamed.

A shard holds its frames one after the other in the order of time, each compressed and followed by
its CRC32C, then an index of (offset, size) for every place, and the index's own CRC32C
(https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html). Frames that are
added come after those that are there, so the bytes of a frame never move: whoever has read the
index of the shorter file reads the same frames from the longer one that took its name.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np
import numpy.typing as npt
from crc32c import crc32c

from weatherdiff.errors import StorageError
from weatherdiff.staging import hidden_beside

__all__ = [
    "checksum",
    "chunk_file",
    "compress",
    "decode",
    "encode",
    "pack_shard",
    "put_file",
    "read_shard",
    "seal",
    "seal_of",
    "shard_parts",
    "unpack_shard",
    "unseal",
]

CODEC, LEVEL = b"lz4", 5
ABSENT = np.uint64(2**64 - 1)  # offset and size of a place that is not filled
CRC_BYTES = 4

Array = npt.NDArray[Any]


def encode(values: Array) -> bytes:
    """Compress one chunk (blosc, LZ4, bytes shuffled), and append its CRC32C.

    Examples
    --------
    >>> values = np.arange(6, dtype=np.float32)
    >>> decode(encode(values), np.empty(6, np.float32), Path("the doctest"))
    array([0., 1., 2., 3., 4., 5.], dtype=float32)
    """
    return seal(compress(values))


def compress(values: Array) -> bytes:
    """Compress one chunk, as :func:`encode` does, without the checksum."""
    if threading.current_thread() is threading.main_thread():
        # there blosc would use threads of its own, which put their parts in any order
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(compress, values).result()
    values = np.ascontiguousarray(values)
    return bytes(numcodecs.blosc.compress(values, CODEC, LEVEL, numcodecs.blosc.SHUFFLE))


def decode(chunk: bytes, out: Array, path: Path) -> Array:
    """Undo :func:`encode` into ``out``.

    Raises
    ------
    StorageError
        The checksum does not match.
    """
    numcodecs.blosc.decompress(unseal(chunk, path), out)
    return out


def seal(content: bytes) -> bytes:
    """Append the CRC32C."""
    return content + seal_of(content)


def seal_of(content: bytes) -> bytes:
    """Give the CRC32C that :func:`seal` appends."""
    return crc32c(content).to_bytes(CRC_BYTES, "little")


def unseal(chunk: bytes, path: Path) -> memoryview:
    """Undo :func:`seal`, without a copy; a :class:`StorageError` if the checksum does not match."""
    _verify(chunk, path)
    return memoryview(chunk)[:-CRC_BYTES]


def _verify(chunk: bytes, path: Path) -> None:
    if len(chunk) <= CRC_BYTES or seal_of(chunk[:-CRC_BYTES]) != chunk[-CRC_BYTES:]:
        raise StorageError(f"{path} is damaged: a checksum does not match; prepare it again.")


def pack_shard(chunks: Sequence[bytes], places: int) -> bytes:
    """Lay encoded chunks one after the other, and their index behind.

    Parameters
    ----------
    chunks : sequence of bytes
        The first of the shard's chunks.
    places : int
        How many the shard has room for.
    """
    return b"".join(shard_parts([(chunk,) for chunk in chunks], places))


def shard_parts(chunks: Iterable[Sequence[bytes]], places: int) -> Iterator[bytes]:
    """Give the bytes of :func:`pack_shard` in pieces, as the chunks come.

    Parameters
    ----------
    chunks : iterable of sequences of bytes
        The pieces of each chunk.
    places : int
    """
    index, end = np.full((places, 2), ABSENT, "<u8"), 0
    for number, chunk in enumerate(chunks):
        size = sum(map(len, chunk))
        index[number] = end, size
        end += size
        yield from chunk
    table = index.tobytes()
    yield table
    yield seal_of(table)


def unpack_shard(path: Path, places: int) -> list[bytes]:
    """Read the encoded chunks of a shard, in order: what :func:`pack_shard` was given.

    Raises
    ------
    StorageError
        The shard is damaged.
    """
    with damaged(path):
        content = path.read_bytes()
    index = _index(content[-16 * places - CRC_BYTES :], places, path)
    filled = index[index[:, 0] != ABSENT].tolist()
    chunks = [content[offset : offset + length] for offset, length in filled]
    for chunk in chunks:
        _verify(chunk, path)
    return chunks


def read_shard(
    path: Path,
    places: int,
    slots: npt.NDArray[np.integer],
    frame: tuple[int, ...],
    decode: Callable[[bytes, Array, Path], Array] = decode,
    out: Array | None = None,
) -> Array:
    """Read some frames of a shard.

    Parameters
    ----------
    path : Path
    places : int
        How many frames the shard has room for.
    slots : (n,)
        Places within the shard, ascending.
    frame : tuple of int
        Shape of one.
    decode : callable
        ``decode(chunk, out, path)``; by default that of this module.
    out : (n, *frame), optional
        float32, to be filled.

    Returns
    -------
    (n, *frame)
        float32.

    Raises
    ------
    StorageError
        A frame is lost or damaged.
    """
    if out is None:
        out = np.empty((len(slots), *frame), np.float32)
    with damaged(path), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 16 * places - CRC_BYTES))
        index = _index(file.read(), places, path)[slots]
        if (index == ABSENT).any():
            raise StorageError(f"{path} has lost frames; prepare it again.")
        for (offset, length), place in zip(index.tolist(), out, strict=True):
            file.seek(offset)
            decode(file.read(length), place, path)
    return out


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Say which file cannot be read."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise StorageError(f"{path} cannot be read: {error}; prepare it again.") from error


def _index(table: bytes, places: int, path: Path) -> Array:
    """Offsets and sizes of all places (place, 2)."""
    if len(table) != 16 * places + CRC_BYTES or seal_of(table[:-CRC_BYTES]) != table[-CRC_BYTES:]:
        raise StorageError(f"{path} is damaged: its index is lost; prepare it again.")
    return np.frombuffer(table[:-CRC_BYTES], "<u8").reshape(places, 2)


def checksum(content: bytes) -> str:
    """CRC32C of bytes as text.

    Examples
    --------
    >>> checksum(b"123456789")
    'crc32c:e3069283'
    """
    return _told(crc32c(content))


def _told(value: int) -> str:
    return f"crc32c:{value:08x}"


def chunk_file(array: Path, *place: int) -> Path:
    """Name the file of a chunk (or shard) in the folder of its array."""
    return array.joinpath("c", *map(str, place))


def put_file(
    path: Path, content: bytes | str | Iterable[bytes], *, durable: bool = False
) -> tuple[int, str]:
    """Write a file under a temporary name and rename it: it is never seen in part.

    Parameters
    ----------
    path : Path
        Its folder is created.
    content : bytes or str, or iterable of bytes
    durable : bool
        Wait until the disk has it. Otherwise a power failure, though no killed process, can leave
        a file that is short; checksums find it.

    Returns
    -------
    size : int
    checksum : str
        See :func:`checksum`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = hidden_beside(path)
    size = value = 0
    try:
        with temporary.open("wb") as file:
            if isinstance(content, str):
                content = content.encode()
            for piece in (content,) if isinstance(content, bytes) else content:
                file.write(piece)
                size, value = size + len(piece), crc32c(piece, value)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return size, _told(value)
