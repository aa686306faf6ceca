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
TILE = 2**15  # values that stay in the processor's cache while they are passed over


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
        return min(len(self.heights), ROWS)

    @property
    def meridians(self) -> int:
        """Means along the meridians, of each half."""
        return min(self.columns, COLUMNS)

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
        frames = max(1, TILE // (fields.shape[2] * fields.shape[3]))
        for channel, known in enumerate(self.ranges):
            for start in range(0, len(fields), frames):
                part = slice(start, start + frames), channel
                self._fill(out[part], fields[part], known)
        out[..., 1] = 0 if infinite is None else infinite
        return out

    def _fill(self, out: Array, values: Array, known: Range) -> None:
        """Look at some frames (time, latitude, longitude) of one channel."""
        south, north = self._halves
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            sums = values.sum(axis=2)
            there: Array | None = None
            if np.isnan(sums).any():
                there = ~np.isnan(values)
                values = np.where(there, values, 0)
                sums = values.sum(axis=2)
                counts = there.sum(axis=2)
            else:
                counts = np.full(sums.shape, self.columns)
            total = counts.sum(axis=1)
            out[:, 0] = 1 - total / (values.shape[1] * values.shape[2])
            if there is None:
                low, high = values.min(axis=(1, 2)), values.max(axis=(1, 2))
            else:
                low = np.min(values, axis=(1, 2), where=there, initial=np.inf)
                high = np.max(values, axis=(1, 2), where=there, initial=-np.inf)
            low, high = (np.where(total > 0, x, np.nan) for x in (low, high))
            out[:, 2:4] = 0, np.nan
            out[:, _PATTERN : _PATTERN + 5] = 0 if there is None else _patterns(counts, there)
            for t in np.flatnonzero((low < known.low) | (high > known.high)):
                below, above = values[t] < known.low, values[t] > known.high
                bad = below | above if there is None else (below | above) & there[t]
                out[t, 2] = bad.mean()
                out[t, 3] = low[t] if known.low - low[t] > high[t] - known.high else high[t]
            out[:, 4], out[:, 5] = low, high
            weight = counts * self.heights
            out[:, 6] = (sums * self.heights).sum(axis=1, dtype=np.float64) / weight.sum(axis=1)
            first = len(NUMBERS)
            out[:, first : first + self.rows] = _binned(sums, self.rows) / _binned(
                counts, self.rows
            )
            for half in (south, north):
                first = self.size - self.meridians * (2 if half is south else 1)
                part = values[:, half].sum(axis=1)
                if there is None:
                    much: Array = np.full(part.shape, half.stop - half.start)
                else:
                    much = there[:, half].sum(axis=1)
                out[:, first : first + self.meridians] = _binned(part, self.meridians) / _binned(
                    much, self.meridians
                )

    @property
    def _halves(self) -> tuple[slice, slice]:
        """Rows of the south and of the north; a middle row is in both, so that they may swap."""
        count = len(self.heights)
        return slice(0, (count + 1) // 2), slice(count // 2, count)


def _patterns(rows: Array, there: Array) -> Array:
    """Names, below 2**24 as a float32 holds no more, of where data are (time, name).

    Made of how many there are along each circle and meridian.
    """
    columns = there.sum(axis=1)
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


def _binned(sums: Array, count: int) -> Array:
    """Add neighbours on the last axis, so that few are left; alike from both ends."""
    length = sums.shape[-1]
    if length == count:
        return sums
    edges = np.arange(count) * length / count
    # rounded to the nearest from both ends
    starts = np.where(edges <= length / 2, np.floor(edges + 0.5), np.ceil(edges - 0.5))
    return np.add.reduceat(sums, starts.astype(np.int64), axis=-1)
