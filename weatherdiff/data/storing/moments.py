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

import os
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["NOTHING", "STATISTICS", "Moments", "change_moments", "compiles", "frame_moments"]

#: Order of the numbers on the last axis of a table of moments.
STATISTICS = ("count", "mean", "squared_deviations", "minimum", "maximum")

Array = npt.NDArray[Any]

#: A row of such a table, of no value.
NOTHING = (0.0, np.nan, 0.0, np.inf, -np.inf)

TILE = 2**15  # values that stay in the processor's cache while they are passed over twice


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


@cache
def compiles() -> bool:
    """Tell whether numba does the work, rather than numpy."""
    return os.environ.get("WEATHERDIFF_NUMBA", "1") != "0" and find_spec("numba") is not None


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
    if compiles() and fields.dtype == np.float32:
        from weatherdiff.data.storing.frame_sums import frame_sums

        return frame_sums(fields).moments
    flat = fields.reshape(*fields.shape[:2], -1)
    out = np.empty((*flat.shape[:2], len(STATISTICS)))
    rows = max(1, TILE // flat.shape[2])
    for channel in range(flat.shape[1]):
        for start in range(0, len(flat), rows):
            part = (slice(start, start + rows), channel)
            _fill(out[part], flat[part])
    return out


def change_moments(now: Array, before: Array) -> Array:
    """Moments of the change from one frame to another, each over cells with data in both.

    Parameters
    ----------
    now, before : (time, channel, latitude, longitude)

    Returns
    -------
    (time, channel, statistic)
    """
    if compiles() and now.dtype == before.dtype == np.float32:
        from weatherdiff.data.storing.compiled_sums import change_moments as compiled

        out = np.empty((*now.shape[:2], len(STATISTICS)))
        compiled(np.ascontiguousarray(now), np.ascontiguousarray(before), out)
        return out
    now, before = (a.reshape(*a.shape[:2], -1) for a in (now, before))
    out = np.empty((*now.shape[:2], len(STATISTICS)))
    rows = max(1, TILE // now.shape[2])
    for channel in range(now.shape[1]):
        for start in range(0, len(now), rows):
            part = (slice(start, start + rows), channel)
            _fill(out[part], np.subtract(now[part], before[part], dtype=np.float64))
    return out


def _fill(out: Array, values: Array) -> None:
    """Moments of each row (row, value) into (row, statistic)."""
    count, mean, squares, low, high = out.T
    low[:], high[:] = values.min(axis=1), values.max(axis=1)
    if np.isnan(low).any():  # a minimum is NaN where any value is
        for row, place in zip(values, out, strict=True):
            there = row[~np.isnan(row)]
            if len(there):
                _fill(place[None], there[None])
            else:
                place[:] = NOTHING
        return
    x = values.astype(np.float64)
    count[:] = x.shape[1]
    x.mean(axis=1, out=mean)
    x -= mean[:, None]
    np.einsum("ij,ij->i", x, x, out=squares)
