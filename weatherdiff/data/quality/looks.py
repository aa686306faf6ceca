"""A look at a frame: a hundred numbers that tell whether it is like its neighbours.

They are what a statistic is to a sample: how much is missing or out of range, the extremes, and the
means along latitude circles and meridians. Turning a field over, rolling it or writing it in other
units does exactly the same to these means, so that a frame and its neighbour can be compared
without the fields. Looks of parts of a record are those of the whole, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weatherdiff.data.quality.rules import Range

__all__ = ["NUMBERS", "Looker"]

Array = npt.NDArray[Any]

#: What the first numbers of a look are. Fractions are those of all cells.
NUMBERS = (
    "missing",
    "infinite",
    "outside",  # of the range that is possible
    "worst",  # of these values the furthest outside; NaN if there is none
    "minimum",
    "maximum",
    "mean",  # by area
    "pattern",  # a name for where data are missing, 0 for nowhere; that of the frame ...
    "pattern_south_north",  # ... turned over
    "pattern_east_west",
    "pattern_both",
    "pattern_rolled",  # the same however the frame is rolled in longitude
)

_PATTERN = NUMBERS.index("pattern")
ROWS, COLUMNS = 32, 32  # means of latitude circles, and of meridians in each half, at most
TILE = 2**16  # values that stay in the cache while they are passed over


@dataclass(frozen=True)
class Looker:
    """Looks at frames of a grid.

    Parameters
    ----------
    ranges : sequence of Range
        One per channel.
    heights : (latitude,)
        Area of a cell of each latitude, in any unit.
    columns : int
        Number of longitudes.

    Examples
    --------
    >>> from weatherdiff.data.quality.rules import ANYTHING
    >>> looker = Looker((ANYTHING,), np.ones(3), 4)
    >>> fields = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    >>> look = looker.look(fields)[0, 0]
    >>> dict(zip(NUMBERS, look.tolist()))["mean"], look[len(NUMBERS):len(NUMBERS) + 3]
    (5.5, array([1.5, 5.5, 9.5], dtype=float32))
    """

    ranges: Sequence[Range]
    heights: Array
    columns: int

    @property
    def rows(self) -> int:
        """Means along latitude circles, from south to north."""
        return _bins(len(self.heights), ROWS)

    @property
    def meridians(self) -> int:
        """Means along the meridians, of each half."""
        return _bins(self.columns, COLUMNS)

    @property
    def labels(self) -> list[str]:
        """Names of the numbers in a look."""
        rows = [f"row_{i}" for i in range(self.rows)]
        halves = [f"{h}_{i}" for h in ("south", "north") for i in range(self.meridians)]
        return [*NUMBERS, *rows, *halves]

    @property
    def size(self) -> int:
        """Numbers in a look."""
        return len(NUMBERS) + self.rows + 2 * self.meridians

    def look(self, fields: Array, infinite: Array | None = None) -> npt.NDArray[np.float32]:
        """Look at frames.

        Parameters
        ----------
        fields : (time, channel, latitude, longitude)
            float32, NaN where there are no data; finite.
        infinite : (time, channel), optional
            Fraction of values that were infinite, where that is known and they are NaN now.

        Returns
        -------
        (time, channel, number)
            :data:`NUMBERS`, then the means along latitude circles, along meridians of the southern
            half, and of the northern half; NaN where there are no data.
        """
        out = np.empty((*fields.shape[:2], self.size), np.float32)
        for channel, known in enumerate(self.ranges):
            sums = _Sums.of(fields[:, channel], self._halves)
            self._fill(out[:, channel], fields[:, channel], sums, known)
        out[..., 1] = 0 if infinite is None else infinite
        return out

    def _fill(self, out: Array, values: Array, sums: _Sums, known: Range) -> None:
        """Turn sums over the frames of one channel into their looks."""
        first, cells = _PATTERN + 5, values.shape[1] * values.shape[2]
        total = sums.row_counts.sum(axis=1)
        out[:, 0] = 1 - total / cells
        out[:, 2:4] = 0, np.nan
        out[:, 4], out[:, 5] = sums.low, sums.high
        with np.errstate(invalid="ignore", divide="ignore"):
            for t in np.flatnonzero((sums.low < known.low) | (sums.high > known.high)):
                out[t, 2] = np.mean((values[t] < known.low) | (values[t] > known.high))
                below, above = known.low - sums.low[t], sums.high[t] - known.high
                out[t, 3] = sums.low[t] if below > above else sums.high[t]
            area = (sums.row_counts * self.heights).sum(axis=1)
            out[:, 6] = (sums.rows * self.heights).sum(axis=1, dtype=np.float64) / area
            out[:, first : first + self.rows] = _binned(sums.rows, self.rows) / _binned(
                sums.row_counts, self.rows
            )
            columns = _binned(sums.columns, self.meridians) / _binned(
                sums.column_counts, self.meridians
            )
            out[:, first + self.rows :] = columns.reshape(len(out), 2 * self.meridians)
        out[:, _PATTERN:first] = 0
        gaps = total < cells
        if gaps.any():
            out[gaps, _PATTERN:first] = _patterns(sums.row_counts[gaps], sums.everywhere[gaps])

    @property
    def _halves(self) -> tuple[slice, slice]:
        """Rows of the south and of the north; a middle row is in both, so that they may swap."""
        count = len(self.heights)
        return slice(0, (count + 1) // 2), slice(count // 2, count)


@dataclass
class _Sums:
    """Sums over the frames of one channel, and of how many values.

    Attributes
    ----------
    rows, row_counts : (time, latitude)
    columns, column_counts : (time, half, longitude)
    everywhere : (time, longitude)
        Counts of whole meridians.
    low, high : (time,)
        Extremes; NaN where there are no data.
    """

    rows: Array
    row_counts: Array
    columns: Array
    column_counts: Array
    everywhere: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, values: Array, halves: tuple[slice, slice]) -> _Sums:
        """Sum frames (time, latitude, longitude), by tiles that stay in the cache."""
        count, rows, columns = values.shape
        heights = np.array([[half.stop - half.start] for half in halves], np.float32)
        sums = cls(
            np.empty((count, rows), np.float32),
            np.full((count, rows), columns, np.float32),
            np.empty((count, 2, columns), np.float32),
            np.broadcast_to(heights, (count, 2, columns)).copy(),
            np.full((count, columns), rows, np.float32),
            np.empty(count, np.float32),
            np.empty(count, np.float32),
        )
        frames = max(1, TILE // (rows * columns))
        with np.errstate(invalid="ignore", over="ignore"):
            for start in range(0, count, frames):
                part = slice(start, start + frames)
                tile = values[part]
                np.sum(tile, axis=2, out=sums.rows[part])
                if np.isnan(sums.rows[part]).any():
                    tile = sums._count(tile, part, halves)
                    np.sum(tile, axis=2, out=sums.rows[part])
                else:
                    np.min(tile, axis=(1, 2), out=sums.low[part])
                    np.max(tile, axis=(1, 2), out=sums.high[part])
                for number, half in enumerate(halves):
                    np.sum(tile[:, half], axis=1, out=sums.columns[part, number])
        return sums

    def _count(self, tile: Array, part: slice, halves: tuple[slice, slice]) -> Array:
        """Count what there is in a tile; return it with zeros for what is missing."""
        there = ~np.isnan(tile)
        low = np.where(there, tile, np.float32(np.inf)).min(axis=(1, 2))
        high = np.where(there, tile, np.float32(-np.inf)).max(axis=(1, 2))
        self.low[part] = np.where(low <= high, low, np.nan)
        self.high[part] = np.where(low <= high, high, np.nan)
        # most often the same cells are missing in all frames
        counted = there[:1] if (there == there[0]).all() else there
        self.row_counts[part] = counted.sum(axis=2)
        self.everywhere[part] = counted.sum(axis=1)
        for number, half in enumerate(halves):
            self.column_counts[part, number] = counted[:, half].sum(axis=1)
        return np.where(there, tile, np.float32(0))


def _patterns(rows: Array, columns: Array) -> Array:
    """Names, below 2**24 as a float32 holds no more, of where data are (time, name).

    Made of how many there are along each circle and meridian.
    """
    rows, columns = rows.astype(np.int64), columns.astype(np.int64)
    rng = np.random.default_rng(0)
    by_row = rng.integers(1, 2**40, rows.shape[1])
    by_column = rng.integers(1, 2**40, columns.shape[1])
    names = [
        r @ by_row + c @ by_column
        for c in (columns, columns[:, ::-1])
        for r in (rows, rows[:, ::-1])
    ]
    pairs = (columns + 1) * (np.roll(columns, 1, axis=1) * 7919 + 104729)
    names.append(rows @ by_row + (pairs * (pairs % 65537)).sum(axis=1))
    mixed = np.stack(names, axis=1).astype(np.uint64)
    mixed ^= mixed >> np.uint64(29)
    return np.asarray(1 + mixed % np.uint64(2**24 - 3))


def _bins(length: int, most: int) -> int:
    """Give how many bins are made of so many numbers, so that they are alike from both ends."""
    return length if length <= most else most - length % 2


def _binned(sums: Array, count: int) -> Array:
    """Add neighbours on the last axis, so that few are left; alike from both ends."""
    length = sums.shape[-1]
    if length == count:
        return sums
    edges = np.arange(count) * length / count
    # rounded to the nearest from both ends
    starts = np.where(edges <= length / 2, np.floor(edges + 0.5), np.ceil(edges - 0.5))
    return np.add.reduceat(sums, starts.astype(np.int64), axis=-1)
