"""Frames from disk into the caller's memory, at the speed of the codec.

zarr-python reads any array, and spends most of its time between the disk and the codec. Here the
metadata are read once, the index of each shard once, and each frame goes from one read of its bytes
through its checksum into the memory that the caller gives: nothing else is allocated or copied.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numcodecs.blosc
import numcodecs.zstd
import numpy as np
import numpy.typing as npt
from crc32c import crc32c

from weatherdiff.data.loading.files import fill, read_files
from weatherdiff.data.storing.packing import unpack
from weatherdiff.data.storing.stored_array import StoredArray, UnknownLayoutError
from weatherdiff.errors import StorageError

__all__ = ["BlockReader", "FunctionReader", "Reader"]

logger = logging.getLogger(__name__)

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

# Small frames are fetched together up to so many bytes; many more would leave the processor's cache
# before they are decoded.
SPAN = 2**20
# Files of one frame are read some at once, when that many bytes were given so that it is worth to
# compile how; a chunk may be so much larger than its frame.
FILES, LARGE, SLACK = 2**21, 2**26, 64
AHEAD = 2**22  # bytes that the system is asked to fetch ahead


class Reader(Protocol):
    """Whatever gives frames by their positions on the time axis."""

    def read(self, indices: npt.ArrayLike, out: Float | None = None) -> Float:
        """Read frames (n, ...) in the order asked for, into ``out`` if it is given."""


class FunctionReader:
    """A :class:`Reader` of a function from positions to frames.

    Examples
    --------
    >>> reader = FunctionReader(lambda indices: np.float32(10) * indices[:, None])
    >>> reader.read([2, 0]).ravel()
    array([20.,  0.], dtype=float32)
    """

    def __init__(self, function: Callable[[Int], Float]) -> None:
        self.function = function

    def read(self, indices: npt.ArrayLike, out: Float | None = None) -> Float:
        """Read frames (n, ...) in the order asked for, into ``out`` if it is given."""
        found = np.asarray(self.function(np.asarray(indices, np.int64)), np.float32)
        if out is None:
            return found
        out[...] = found
        return out


class BlockReader:
    """Reader of a Zarr v3 array that holds one frame a chunk.

    Any number of threads may read at once; what is kept between reads is the index of each shard,
    and a shard whose file was replaced is noticed.

    Parameters
    ----------
    path : path
        Folder of the array.
    threads : int
        That decode the frames of one call. The codecs release the interpreter's lock.
    absent : float, optional
        What a chunk that is not there stands for; by default it is lost, which is an error.
    advice : str
        What to do about damage; ends the message of an error.

    Raises
    ------
    UnknownLayoutError
        The array is stored in another way, or the system lacks ``preadv``: use zarr-python.
    OSError, ValueError
        The array's metadata cannot be read.

    Examples
    --------
    >>> import tempfile, zarr
    >>> path = tempfile.mkdtemp()
    >>> array = zarr.create_array(path, shape=(6, 2, 3), chunks=(1, 2, 3), shards=(4, 2, 3),
    ...                           dtype="float32", overwrite=True)
    >>> array[...] = np.arange(36).reshape(6, 2, 3)
    >>> BlockReader(path).read([5, 0])[:, 0, 0]
    array([30.,  0.], dtype=float32)
    """

    dtype: np.dtype[Any] = np.dtype(np.float32)

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int = 1,
        absent: float | None = None,
        advice: str = "The store is damaged.",
    ) -> None:
        if not hasattr(os, "preadv"):
            raise UnknownLayoutError(f"{path}: this system has no preadv")
        self.array = StoredArray.open(Path(path))
        self.threads, self.absent, self.advice = threads, absent, advice
        self._start()

    def _start(self) -> None:
        self._indices: dict[int, tuple[tuple[int, ...], list[list[int]]]] = {}
        self._scratch = threading.local()
        self._given = 0  # bytes, about
        self._executor: tuple[int, ThreadPoolExecutor] | None = None

    def __getstate__(self) -> dict[str, object]:
        """Leave threads and caches behind: another process makes its own."""
        return {name: getattr(self, name) for name in ("array", "threads", "absent", "advice")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._start()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole array, time first."""
        return self.array.shape

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Of a frame as it is given."""
        return self.shape[1:]

    def read(self, indices: npt.ArrayLike, out: Float | None = None) -> Float:
        """Read frames.

        Parameters
        ----------
        indices : (n,)
            Positions on the time axis, in any order.
        out : (n, ...), optional
            Where to put them: float32 and contiguous.

        Returns
        -------
        (n, ...)
            ``out``, or a new array.

        Raises
        ------
        StorageError
            A frame is lost or damaged; the first one is named.
        IndexError
            A position is not on the time axis.
        """
        wanted = np.asarray(indices, np.int64)
        shape, dtype = (len(wanted), *self.frame_shape), self.dtype
        if out is None:
            out = np.empty(shape, dtype)
        elif out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous:
            raise ValueError(f"out is {out.dtype} {out.shape}; expected contiguous {dtype} {shape}")
        if not len(wanted):
            return out
        if wanted.min() < 0 or wanted.max() >= self.shape[0]:
            raise IndexError(f"frames {wanted.min()} to {wanted.max()} of {self.shape[0]}")
        rows = out.reshape(len(wanted), -1).view(np.uint8)
        places: dict[int, int] = {}
        again = []
        for row, frame in enumerate(wanted.tolist()):
            if frame in places:
                again.append((row, places[frame]))
            else:
                places[frame] = row
        frames = sorted(places)
        parts = min(self.threads, len(frames))
        if parts > 1:
            cuts = [len(frames) * part // parts for part in range(parts + 1)]
            pieces = [frames[a:b] for a, b in pairwise(cuts)]
            tasks = [self._threads().submit(self._decode, p, places, rows) for p in pieces]
            errors = [task.exception() for task in tasks]
            for error in errors:
                if error is not None:
                    raise error
        else:
            self._decode(frames, places, rows)
        for row, source in again:
            rows[row] = rows[source]
        return out

    def _threads(self) -> ThreadPoolExecutor:
        """Give the threads of this process: a fork has none of its parent's."""
        if self._executor is None or self._executor[0] != os.getpid():
            self._executor = (os.getpid(), ThreadPoolExecutor(self.threads, "decode"))
        return self._executor[1]

    def _decode(self, frames: list[int], places: dict[int, int], rows: Bytes) -> None:
        """Decode frames in ascending order, file by file."""
        size = self.array.frames_per_file
        if self._given >= LARGE and not self.array.sharded:
            frames = self._decode_files(frames, places, rows)
        self._given += len(frames) * self.array.frame_bytes
        start = 0
        while start < len(frames):
            number, stop = frames[start] // size, start + 1
            while stop < len(frames) and frames[stop] // size == number:
                stop += 1
            self._decode_file(number, frames[start:stop], places, rows)
            start = stop

    def _decode_files(self, frames: list[int], places: dict[int, int], rows: Bytes) -> list[int]:
        """Decode frames of a file each, some files in one call; give those that are left to do.

        These are not admitted yet, or something is wrong with them, which is told when they are
        read one by one.
        """
        array, limit = self.array, self.array.frame_bytes + SLACK
        ready = [f for f in frames if array.compressor is not None and array.admitted(f)]
        done, count = set(), max(1, FILES // limit)
        for start in range(0, len(ready), count):
            part = ready[start : start + count]
            memory = self._memory(len(part) * limit).reshape(len(part), limit)
            sizes = read_files([array.file_name(frame) for frame in part], memory)
            for frame, size, chunk in zip(part, sizes or (), memory, strict=False):
                if 0 < size < limit:
                    self._decode_chunk(chunk[:size], frame, frame, rows[places[frame]])
                    done.add(frame)
        return [frame for frame in frames if frame not in done]

    def _decode_file(
        self, number: int, frames: list[int], places: dict[int, int], rows: Bytes
    ) -> None:
        first = number * self.array.frames_per_file
        try:
            file = self.array.open_file(number)
        except FileNotFoundError:
            for frame in frames:
                self._give_absent(frame, number, rows[places[frame]])
            return
        except OSError as error:
            raise self._damaged(frames[0], number, str(error.strerror)) from error
        try:
            extents = self._extents(file, number, frames[0])
            ahead = _end_of([extents[frame - first] for frame in frames])
            start = 0
            while start < len(frames):
                begin, size = extents[frames[start] - first]
                if begin == -1:
                    self._give_absent(frames[start], number, rows[places[frames[start]]])
                    start += 1
                    continue
                end, stop = begin + size, start + 1
                # neighbours on disk are fetched in one read
                while stop < len(frames) and end - begin < SPAN:
                    following, size = extents[frames[stop] - first]
                    if following != end or end + size - begin > SPAN:
                        break
                    end, stop = end + size, stop + 1
                run = [(f, *extents[f - first], rows[places[f]]) for f in frames[start:stop]]
                self._decode_run(file, number, begin, end, ahead, run)
                start = stop
        except BaseException as error:
            self._indices.pop(number, None)
            if isinstance(error, OSError):
                raise self._damaged(frames[0], number, str(error.strerror)) from error
            raise
        finally:
            os.close(file)

    def _extents(self, file: int, number: int, frame: int) -> list[list[int]]:
        """Offset and size of each chunk of an open file; (-1, -1) for one that is not there."""
        status, array = os.fstat(file), self.array
        size = status.st_size
        if not array.sharded:  # nothing is kept: there may be a million files
            array.admit(number, file)
            return [[0, size]]
        identity = (status.st_dev, status.st_ino, size, status.st_mtime_ns)
        known = self._indices.get(number)
        if known is None or known[0] != identity:
            array.admit(number, file)
            known = identity, self._index(file, number, frame, size)
            self._indices[number] = known
        return known[1]

    def _index(self, file: int, number: int, frame: int, size: int) -> list[list[int]]:
        """Read the index of a shard."""
        array = self.array
        begin = size - array.index_bytes if array.index_at_end else 0
        if begin < 0 or size < array.index_bytes:
            raise self._damaged(frame, number, f"a shard of {size} bytes is cut")
        index = self._fetch(file, number, frame, begin, array.index_bytes, 0)
        if array.index_checksum and not _is_whole(index):
            raise self._damaged(frame, number, "the checksum of the index does not match")
        entries = np.frombuffer(index, "<i8", 2 * array.frames_per_file).reshape(-1, 2)
        absent = (entries == -1).all(axis=1)
        inside = (
            (entries >= 0).all(axis=1)
            & (entries[:, 0] <= size - np.clip(entries[:, 1], 0, size))
            & (entries[:, 1] <= size)
        )
        if not (absent | inside).all():
            raise self._damaged(frame, number, "the index points outside the file")
        found: list[list[int]] = entries.tolist()
        return found

    def _give_absent(self, frame: int, number: int, row: Bytes) -> None:
        if self.absent is None:
            raise self._damaged(frame, number, "it is lost")
        row.view(np.float32)[...] = self.absent

    def _decode_run(
        self,
        file: int,
        number: int,
        begin: int,
        end: int,
        ahead: int,
        run: list[tuple[int, int, int, Bytes]],
    ) -> None:
        """Read neighbouring chunks at once, check and decode them."""
        array = self.array
        if array.compressor is None:
            for frame, offset, size, row in run:
                self._read_raw(file, number, frame, offset, size, ahead, row)
            return
        fetched = self._fetch(file, number, run[0][0], begin, end - begin, ahead)
        for frame, offset, size, row in run:
            self._decode_chunk(fetched[offset - begin : offset - begin + size], frame, number, row)

    def _decode_chunk(self, chunk: Bytes, frame: int, number: int, row: Bytes) -> None:
        if self.array.checksum:
            if not _is_whole(chunk):
                raise self._damaged(frame, number, "its checksum does not match")
            chunk = chunk[:-4]
        try:
            self._decompress(chunk, row)
        except (RuntimeError, ValueError) as error:
            raise self._damaged(frame, number, str(error)) from error

    def _decompress(self, chunk: Bytes, row: Bytes) -> None:
        if self.array.compressor == "packed":
            unpack(chunk, row.view(np.float32).reshape(self.shape[1], -1))
        elif self.array.compressor == "blosc":
            _decompress_blosc(chunk, row)
        else:
            numcodecs.zstd.decompress(chunk, row)

    def _read_raw(
        self, file: int, number: int, frame: int, offset: int, size: int, ahead: int, row: Bytes
    ) -> None:
        """Read a chunk without a compressor to where it belongs."""
        tail = np.empty(4 if self.array.checksum else 0, np.uint8)
        if size != len(row) + len(tail):
            raise self._damaged(frame, number, f"it has {size} bytes for {len(row)}")
        if not fill(file, offset, ahead, row, tail):
            raise self._damaged(frame, number, "the file is cut")
        if len(tail) and crc32c(row.data) != int.from_bytes(tail.tobytes(), "little"):
            raise self._damaged(frame, number, "its checksum does not match")

    def _fetch(
        self, file: int, number: int, frame: int, offset: int, size: int, ahead: int
    ) -> Bytes:
        """Read bytes to memory of this thread, which the next call overwrites."""
        fetched = self._memory(size)
        if not fill(file, offset, ahead, fetched):
            raise self._damaged(frame, number, "the file is cut")
        return fetched

    def _memory(self, size: int) -> Bytes:
        memory: Bytes | None = getattr(self._scratch, "memory", None)
        if memory is None or len(memory) < size:
            memory = self._scratch.memory = np.empty(max(size, SPAN), np.uint8)
        return memory[:size]

    def _damaged(self, frame: int, number: int, reason: str) -> StorageError:
        return StorageError(
            f"Frame {frame} cannot be read from {self.array.file(number)}: {reason}. {self.advice}"
        )


def _end_of(extents: list[list[int]]) -> int:
    """Where the chunks that follow each other without a gap end, or enough of them."""
    begin, size = extents[0]
    end = begin + size
    for following, size in extents[1:]:
        if following != end or end - begin > AHEAD:
            break
        end += size
    return end


def _is_whole(data: Bytes) -> bool:
    """Whether bytes end with the CRC32C of those before."""
    known = int.from_bytes(data[-4:].tobytes(), "little")
    return len(data) >= 4 and crc32c(data[:-4].data) == known


def _decompress_blosc(chunk: Bytes, row: Bytes) -> None:
    """Decode; a chunk that claims other sizes is refused: the decoder would read or fill others."""
    claimed, stored = -1, -1
    if len(chunk) >= 16:
        claimed, _, stored = struct.unpack("<III", chunk[4:16].data)
    if claimed != len(row):
        raise ValueError(f"it holds {claimed} bytes instead of {len(row)}")
    if stored > len(chunk):
        raise ValueError(f"of its {stored} bytes {len(chunk)} are there")
    numcodecs.blosc.decompress(chunk, row)
