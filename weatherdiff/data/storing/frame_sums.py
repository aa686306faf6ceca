"""Sums over the values of frames, from which moments and looks are made: one reading of each value.

They are made by :mod:`~weatherdiff.data.storing.compiled_sums`; where that is not worth its while,
or without numba (or with ``WEATHERDIFF_NUMBA=0`` in the environment), by numpy: the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weatherdiff.data.storing.moments import added, compiles, moments_about

__all__ = ["FrameSums", "frame_sums"]

Array = npt.NDArray[Any]

TILE = 2**16  # values that stay in the cache while they are passed over


@dataclass(frozen=True)
class FrameSums:
    """Sums over the values of each frame and channel that there are, and of how many they are.

    Attributes
    ----------
    rows, row_counts : (time, channel, latitude)
        Float32, as all but the moments.
    columns, column_counts : (time, channel, half, longitude)
        Of the southern and the northern half; a middle row is in both.
    everywhere : (time, channel, longitude)
        Counts of whole meridians.
    moments : (time, channel, statistic)
        Those of :func:`~weatherdiff.data.storing.moments.frame_moments`.
    """

    rows: Array
    row_counts: Array
    columns: Array
    column_counts: Array
    everywhere: Array
    moments: Array

    @property
    def infinite(self) -> bool:
        """Whether a value is infinite."""
        there = self.moments[..., 0] > 0
        return bool(np.isinf(self.moments[..., 3:][there]).any())


def halves(rows: int) -> tuple[slice, slice]:
    """Rows of the south and of the north; a middle row is in both, so that they may swap."""
    return slice(0, (rows + 1) // 2), slice(rows // 2, rows)


def frame_sums(fields: Array) -> FrameSums:
    """Sum frames.

    Parameters
    ----------
    fields : (time, channel, latitude, longitude)
        float32, NaN where there are no data.

    Examples
    --------
    >>> fields = np.array([[[[1, 2], [np.nan, 4], [5, 6]]]], np.float32)
    >>> sums = frame_sums(fields)
    >>> sums.rows[0, 0].tolist(), sums.columns[0, 0].tolist(), sums.everywhere[0, 0].tolist()
    ([3.0, 4.0, 11.0], [[1.0, 6.0], [5.0, 10.0]], [2.0, 3.0])
    """
    count, channels, height, width = fields.shape

    def of(*shape: int) -> Array:
        return np.empty((count, channels, *shape), np.float32)

    rows, row_counts, everywhere = of(height), of(height), of(width)
    columns, column_counts = of(2, width), of(2, width)
    moments = np.empty((count, channels, 5))
    sums = FrameSums(rows, row_counts, columns, column_counts, everywhere, moments)
    fields = np.ascontiguousarray(fields, np.float32)
    if compiles(fields):
        from weatherdiff.data.storing.compiled_sums import pairwise, sum_frames

        sum_frames(
            fields, np.array(pairwise(0, width)),
            rows, row_counts, columns, column_counts, everywhere, moments,
        )  # fmt: skip
        return sums
    frames = max(1, TILE // (height * width))
    with np.errstate(invalid="ignore", over="ignore"):
        for channel in range(channels):
            for start in range(0, count, frames):
                part = slice(start, start + frames), channel
                _sum_tile(sums, part, fields[part])
                moments[part] = moments_about(fields[part], added(rows[part]))
    return sums


def _sum_tile(sums: FrameSums, part: Any, tile: Array) -> None:
    """Sum a few frames of one channel."""
    height, width = tile.shape[1:]
    sums.row_counts[part], sums.everywhere[part] = width, height
    np.sum(tile, axis=2, out=sums.rows[part])
    there = None
    if np.isnan(sums.rows[part]).any():
        there = ~np.isnan(tile)
        tile = np.where(there, tile, np.float32(0))
        sums.row_counts[part] = there.sum(axis=2)
        sums.everywhere[part] = there.sum(axis=1)
        np.sum(tile, axis=2, out=sums.rows[part])
    for number, half in enumerate(halves(height)):
        np.sum(tile[:, half], axis=1, out=sums.columns[part][:, number])
        counts = half.stop - half.start if there is None else there[:, half].sum(axis=1)
        sums.column_counts[part][:, number] = counts
