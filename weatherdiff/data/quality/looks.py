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
from weatherdiff.data.storing.frame_sums import FrameSums, frame_sums

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

    def look(
        self, fields: Array, infinite: Array | None = None, sums: FrameSums | None = None
    ) -> npt.NDArray[np.float32]:
        """Look at frames.

        Parameters
        ----------
        fields : (time, channel, latitude, longitude)
            float32, NaN where there are no data; finite.
        infinite : (time, channel), optional
            Fraction of values that were infinite, where that is known and they are NaN now.
        sums : FrameSums, optional
            Of the fields, if they are known.

        Returns
        -------
        (time, channel, number)
            :data:`NUMBERS`, then the means along latitude circles, along meridians of the southern
            half, and of the northern half; NaN where there are no data.
        """
        sums = sums or frame_sums(fields)
        out = np.empty((*fields.shape[:2], self.size), np.float32)
        first, cells = _PATTERN + 5, fields.shape[2] * fields.shape[3]
        total = sums.row_counts.sum(axis=2)
        low, high = np.moveaxis(sums.moments[..., 3:].astype(np.float32), -1, 0)
        low[total == 0] = high[total == 0] = np.nan
        least, most = (np.array([getattr(r, n) for r in self.ranges]) for n in ("low", "high"))
        out[..., 0] = 1 - total / cells
        out[..., 1] = 0 if infinite is None else infinite
        out[..., 2:4] = 0, np.nan
        out[..., 4], out[..., 5] = low, high
        with np.errstate(invalid="ignore", divide="ignore"):
            for t, c in np.argwhere((low < least) | (high > most)).tolist():
                known, values = self.ranges[c], fields[t, c]
                out[t, c, 2] = np.mean((values < known.low) | (values > known.high))
                below, above = known.low - low[t, c], high[t, c] - known.high
                out[t, c, 3] = low[t, c] if below > above else high[t, c]
            area = (sums.row_counts * self.heights).sum(axis=2)
            out[..., 6] = (sums.rows * self.heights).sum(axis=2, dtype=np.float64) / area
            rows = _binned(sums.rows, self.rows) / _binned(sums.row_counts, self.rows)
            out[..., first : first + self.rows] = rows
            columns = _binned(sums.columns, self.meridians) / _binned(
                sums.column_counts, self.meridians
            )
            out[..., first + self.rows :] = columns.reshape(*out.shape[:2], 2 * self.meridians)
        out[..., _PATTERN:first] = 0
        gaps = total < cells
        if gaps.any():
            out[gaps, _PATTERN:first] = _patterns(sums.row_counts[gaps], sums.everywhere[gaps])
        return out


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
