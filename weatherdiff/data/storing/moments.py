r"""Count, mean, squared deviations, minimum and maximum: moments that merge exactly.

Moments of the parts of a sample give those of the whole (Chan, Golub & LeVeque 1983, equation 2.1,
for any number of parts):

.. math::
    n = \sum_i n_i, \quad \bar x = \frac1n\sum_i n_i \bar x_i, \quad
    S = \sum_i S_i + \sum_i n_i (\bar x_i - \bar x)^2 .

They are kept for each frame and channel, 40 bytes beside tens of kilobytes of fields, and for each
change over a lead. So any period, and any choice of frames within it, has its exact statistics
from these alone: no frame is read again, not even at the period's ends, which parts of whole shards
would need.

References
----------
Chan, Golub & LeVeque (1983), doi:10.2307/2683386.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weatherdiff import compiling

__all__ = [
    "NOTHING",
    "STATISTICS",
    "Moments",
    "added",
    "change_moments",
    "compiles",
    "frame_moments",
    "moments_about",
    "weighted_squares",
]

#: Order of the numbers on the last axis of a table of moments.
STATISTICS = ("count", "mean", "squared_deviations", "minimum", "maximum")

Array = npt.NDArray[Any]

#: A row of such a table, of no value.
NOTHING = (0.0, np.nan, 0.0, np.inf, -np.inf)

TILE = 2**15  # values that stay in the processor's cache while they are passed over twice
LARGE = 2**25  # bytes of fields that are worth to load a compiler for

_given = [0]  # bytes of fields, by this process


@dataclass(frozen=True)
class Moments:
    """Moments of a sample, for each channel.

    Attributes
    ----------
    count, mean, squared_deviations, minimum, maximum : (channel,)
        float64; where the count is 0 the mean is NaN, the minimum infinite, the maximum -infinite.

    Examples
    --------
    >>> fields = np.arange(12, dtype=np.float32).reshape(3, 1, 2, 2)
    >>> whole = Moments.merge(frame_moments(fields))
    >>> whole.mean, whole.std.round(3)
    (array([5.5]), array([3.452]))
    >>> parts = [Moments.merge(frame_moments(part)) for part in (fields[:1], fields[1:])]
    >>> bool((parts[0] + parts[1]).std == whole.std)
    True
    """

    count: Array
    mean: Array
    squared_deviations: Array
    minimum: Array
    maximum: Array

    @classmethod
    def merge(cls, table: Array) -> Moments:
        """Merge the rows of a table (part, ..., statistic) along its first axis."""
        count, mean, squares, low, high = np.moveaxis(table, -1, 0)
        total = count.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            # about the first part's mean: rounding is then that of the spread, not of the mean
            start = np.where(np.isnan(mean), np.inf, mean).min(axis=0, initial=np.inf)
            offset = np.where(count > 0, mean - start, 0)
            shift = (count * offset).sum(axis=0) / total
            between = (count * (offset - shift) ** 2).sum(axis=0)
            return cls(
                total,
                start + shift,
                np.where(count > 0, squares, 0).sum(axis=0) + np.where(total > 0, between, 0),
                low.min(axis=0, initial=np.inf),
                high.max(axis=0, initial=-np.inf),
            )

    @property
    def table(self) -> Array:
        """The numbers on a last axis, in the order of :data:`STATISTICS`."""
        return np.stack([getattr(self, name) for name in STATISTICS], axis=-1)

    def __add__(self, other: Moments) -> Moments:
        return Moments.merge(np.stack([self.table, other.table]))

    @property
    def std(self) -> Array:
        """Standard deviation, of the sample itself (divided by the count)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.sqrt(self.squared_deviations / self.count))


def compiles(fields: Array) -> bool:
    """Tell whether numba does the work, rather than numpy, with the same result bit by bit.

    For little work, all calls of a process together, it is not loaded: that takes a second.
    """
    _given[0] += fields.nbytes
    return _given[0] >= LARGE and compiling.compiles()


def frame_moments(fields: Array) -> Array:
    """Moments of each frame and channel, over the cells that have data.

    Parameters
    ----------
    fields : (time, channel, latitude, longitude)
        float32, NaN where there are no data.

    Returns
    -------
    (time, channel, statistic)
        In the order of :data:`STATISTICS`, accumulated in float64.
    """
    from weatherdiff.data.storing.frame_sums import frame_sums

    return frame_sums(fields).moments


def change_moments(now: Array, before: Array) -> Array:
    """Moments of the change from one frame to another, each over cells with data in both.

    Parameters
    ----------
    now, before : (time, channel, latitude, longitude)
        float32.

    Returns
    -------
    (time, channel, statistic)
    """
    now, before = (np.ascontiguousarray(a, np.float32) for a in (now, before))
    out = np.empty((*now.shape[:2], len(STATISTICS)))
    if compiles(now):
        from weatherdiff.data.storing.compiled_sums import change_moments as compiled

        compiled(now, before, out)
        return out
    frames = max(1, TILE // (now.shape[2] * now.shape[3]))
    for channel in range(now.shape[1]):
        for start in range(0, len(now), frames):
            part = slice(start, start + frames), channel
            changes = np.subtract(now[part], before[part], dtype=np.float64)
            known = np.where(np.isnan(changes), 0, changes).reshape(len(changes), -1)
            out[part] = moments_about(changes, added(known))
    return out


def weighted_squares(
    now: Array, rows: Array, before: Array | None, places: Array, c: int, area: Array
) -> float:
    """Add the weighted squares of a channel of frames, or of their changes since others.

    Parameters
    ----------
    now : (time, channel, latitude, longitude)
        float32, contiguous.
    rows : (n,)
        Which of these frames.
    before : (time, channel, latitude, longitude) or None
        The others; None for the squares of the frames themselves.
    places : (n,)
        Which of the others.
    c : int
        The channel.
    area : (latitude, longitude)
        Weights, float64 and contiguous.
    """
    if compiles(now[: len(rows), c]):
        from weatherdiff.data.storing.compiled_sums import weighted_squares as compiled

        others = now if before is None else before
        return float(compiled(now, rows, others, places, c, before is not None, area))
    total, tile = 0.0, max(1, TILE // area.size)
    for start in range(0, len(rows), tile):
        part = slice(start, start + tile)
        values = now[rows[part], c]
        if before is not None:
            values = values - before[places[part], c]
        wide = values.astype(np.float64)
        for one in added((wide * wide * area).sum(axis=1)).tolist():
            total += one
    return total


def moments_about(values: Array, totals: Array) -> Array:
    r"""Moments of fields, from their deviations from a mean that is right to a few digits.

    With :math:`d = x - p` for any :math:`p` near the mean, :math:`\bar x = p + \bar d` and
    :math:`S = \sum d^2 - n \bar d^2`, of which nearly nothing cancels.

    Parameters
    ----------
    values : (field, latitude, longitude)
        NaN where there are no data.
    totals : (field,)
        Sum of each, roughly.

    Returns
    -------
    (field, statistic)
    """
    there = ~np.isnan(values)
    count = there.sum(axis=(1, 2))
    out = np.empty((len(values), len(STATISTICS)))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        pivot = totals / count
        pivot[~np.isfinite(pivot)] = 0
        deviations = np.where(there, values.astype(np.float64) - pivot[:, None, None], 0)
        # row after row, then along the row, as the compiled kernels add
        one, two = (added(part.sum(axis=1)) for part in (deviations, deviations * deviations))
        low = np.where(there, values, np.inf).min(axis=(1, 2))
        high = np.where(there, values, -np.inf).max(axis=(1, 2))
        squares = np.maximum(two - one * one / count, 0)
        out.T[:] = count, pivot + one / count, np.where(low < high, squares, 0), low, high
    out[count == 0] = NOTHING
    return out


def added(values: Array) -> Array:
    """Sum along the last axis in float64, one value after the other, which numpy's sum does not."""
    return np.cumsum(values, axis=-1, dtype=np.float64)[..., -1]
