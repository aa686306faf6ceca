"""What preparing would save, measured on a piece of the user's own data."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zarr

from weatherdiff.data.loading.reader import BlockReader, Reader
from weatherdiff.data.loading.unprepared import SourceFields
from weatherdiff.data.storing.profiles import LZ4
from weatherdiff.data.windows import Int

__all__ = ["Gain", "measure_gain"]

PIECE_BYTES = 32 * 2**20  # that are prepared to measure it
SECONDS = 0.5  # for each of the two readings, at least one batch


class Gain(NamedTuple):
    """Windows a second, of one thread, both read just before and so from the system's cache.

    Attributes
    ----------
    unprepared, prepared : float
    frames : int
        Of the piece that was prepared.
    """

    unprepared: float
    prepared: float
    frames: int

    def __str__(self) -> str:
        return (
            f"{self.unprepared:.3g} windows/s; a prepared store would give about "
            f"{self.prepared:.3g} (both measured on {self.frames} frames, in one thread and from "
            "the system's cache)"
        )


def measure_gain(fields: SourceFields, indices: Int, *, batch_size: int) -> Gain:
    """Read windows at random from a piece of the source, and again when that is prepared.

    Parameters
    ----------
    fields : SourceFields
    indices : (window, frames)
        Positions of the frames of the windows that will be read. The piece is the first of them.
    batch_size : int
        Windows that are read at once.
    """
    frame_bytes = fields.nbytes // len(fields.times)
    first = int(indices.min())
    length = max(PIECE_BYTES // frame_bytes, int(indices[0].max() - indices[0].min()) + 1)
    stop = min(first + length, len(fields.times))
    inside = indices[(indices >= first).all(axis=1) & (indices < stop).all(axis=1)] - first
    piece = fields.reader().read(np.arange(first, stop))
    with tempfile.TemporaryDirectory(prefix="weatherdiff-") as folder:
        zarr.create_array(
            Path(folder) / "piece",
            data=piece,
            chunks=(1, *piece.shape[1:]),
            shards=piece.shape,
            compressors=LZ4,
        )
        unprepared = _rate(fields.reader(), inside + first, batch_size)
        prepared = _rate(BlockReader(Path(folder) / "piece"), inside, batch_size)
    return Gain(unprepared, prepared, len(piece))


def _rate(reader: Reader, indices: Int, batch_size: int) -> float:
    """Windows a second."""
    done, start = 0, time.perf_counter()
    for rows in _batches(len(indices), batch_size):
        reader.read(indices[rows].ravel())
        done += len(rows)
        spent = time.perf_counter() - start
        if spent > SECONDS:
            break
    return done / spent


def _batches(windows: int, batch_size: int) -> Iterator[Int]:
    rng = np.random.default_rng(0)
    while True:
        yield rng.integers(windows, size=batch_size)
