"""Sums over frames in one reading of their values, compiled: see :mod:`.frame_sums`.

Values are added in a fixed order, whatever the processor: along a latitude circle as numpy adds
(pairwise, eight sums side by side), so that the results are its, bit by bit; else row after row,
each longitude for itself, which fills the lanes of a register without changing the order.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba import types

__all__ = ["change_moments", "pairwise", "sum_frames", "weighted_squares"]

Array = npt.NDArray[Any]

PAIRWISE = 128  # values that numpy adds without halving them

_compiled = numba.njit(nogil=True, cache=True, error_model="numpy")

# Types are given, so that all is there when this is imported, be it compiled or out of the cache.
_FIELDS = types.Array(types.float32, 4, "C", readonly=True)
_PARTS = types.Array(types.int64, 2, "C", readonly=True)
_THREE, _FOUR = types.Array(types.float32, 3, "C"), types.Array(types.float32, 4, "C")
_TABLE = types.Array(types.float64, 3, "C")
_PLACES = types.Array(types.int64, 1, "C", readonly=True)
_AREA = types.Array(types.float64, 2, "C", readonly=True)


@_compiled
def _short_sum(x: Array, start: int, stop: int) -> Any:
    """Add at most :data:`PAIRWISE` values as numpy does."""
    if stop - start < 8:
        total = np.float32(0)
        for i in range(start, stop):
            total += x[i]
        return total
    a, b, c, d = x[start], x[start + 1], x[start + 2], x[start + 3]
    e, f, g, h = x[start + 4], x[start + 5], x[start + 6], x[start + 7]
    end = stop - (stop - start) % 8
    for i in range(start + 8, end, 8):
        a += x[i]
        b += x[i + 1]
        c += x[i + 2]
        d += x[i + 3]
        e += x[i + 4]
        f += x[i + 5]
        g += x[i + 6]
        h += x[i + 7]
    total = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for i in range(end, stop):
        total += x[i]
    return total


def pairwise(start: int, stop: int) -> list[list[int]]:
    """Tell how numpy adds so many values: ends of parts, and how many sums to add after each.

    Examples
    --------
    >>> pairwise(0, 400)
    [[96, 0], [200, 1], [296, 0], [400, 2]]
    """
    count = stop - start
    if count <= PAIRWISE:
        return [[stop, 0]]
    half = count // 2
    half -= half % 8
    parts = pairwise(start, start + half) + pairwise(start + half, stop)
    parts[-1][1] += 1
    return parts


@_compiled
def _sum(x: Array, parts: Array, found: Array) -> Any:
    """Add float32 values as numpy does; ``found`` is room for the sums of parts."""
    start, known = 0, 0
    for k in range(parts.shape[0]):
        found[known] = _short_sum(x, start, parts[k, 0])
        start = parts[k, 0]
        for _ in range(parts[k, 1]):
            known -= 1
            found[known] += found[known + 1]
        known += 1
    return found[0]


@_compiled
def _add_row(x: Array, pivot: float, first: Array, second: Array) -> None:
    """Add the deviations of a row from the pivot, and their squares."""
    for j in range(x.size):
        deviation = np.float64(x[j]) - pivot
        first[j] += deviation
        second[j] += deviation * deviation


@_compiled
def _add_row_with_gaps(x: Array, pivot: float, first: Array, second: Array) -> None:
    """Do the same where there are values."""
    for j in range(x.size):
        deviation = np.float64(x[j]) - pivot if x[j] == x[j] else 0.0
        first[j] += deviation
        second[j] += deviation * deviation


@_compiled
def _extremes(x: Array, low: Any, high: Any) -> Any:
    """Give the least and the greatest of a row and of those before; NaN is neither."""
    for j in range(x.size):
        low = x[j] if x[j] < low else low
        high = x[j] if x[j] > high else high
    return low, high


@_compiled
def _moments(
    count: int, pivot: float, first: Array, second: Array, low: Any, high: Any, out: Array
) -> None:
    """Turn the sums of all longitudes into a row of moments."""
    out[0] = count
    out[1], out[2], out[3], out[4] = np.nan, 0, np.inf, -np.inf
    if count == 0:
        return
    one = two = 0.0
    for j in range(first.size):
        one += first[j]
        two += second[j]
    out[1] = pivot + one / count
    # rounding must not make it negative, nor anything of values that are all the same
    out[2] = max(two - one * one / count, 0.0) if low < high else 0.0
    out[3], out[4] = low, high


@numba.njit(
    types.void(_FIELDS, _PARTS, _THREE, _THREE, _FOUR, _FOUR, _THREE, _TABLE),
    nogil=True,
    cache=True,
    error_model="numpy",
)
def sum_frames(
    fields: Array,
    parts: Array,
    rows: Array,
    row_counts: Array,
    columns: Array,
    column_counts: Array,
    everywhere: Array,
    moments: Array,
) -> None:
    """Fill what a :class:`~weatherdiff.data.storing.frame_sums.FrameSums` is made of.

    ``parts`` is that of :func:`pairwise` for a row.
    """
    times, channels, height, width = fields.shape
    first, second, there = np.empty(width), np.empty(width), np.empty(width, np.float32)
    infinity = np.float32(np.inf)
    found = np.empty(parts.shape[0] + 1, np.float32)
    south, north = (height + 1) // 2, height // 2  # a middle row is in both halves
    for t in range(times):
        for c in range(channels):
            frame = fields[t, c]
            total, count = 0.0, height * width
            for i in range(height):
                rows[t, c, i] = _sum(frame[i], parts, found)
                row_counts[t, c, i] = width
                total += rows[t, c, i]
            gaps = np.isnan(total)
            if gaps:
                total, count = 0.0, 0
                for i in range(height):
                    present = 0
                    for j in range(width):
                        x = frame[i, j]
                        present += x == x
                        there[j] = x if x == x else np.float32(0)
                    rows[t, c, i] = _sum(there, parts, found)
                    row_counts[t, c, i] = present
                    total += rows[t, c, i]
                    count += present
            pivot = total / count if count else 0.0
            if not np.isfinite(pivot):
                pivot = 0.0
            first[:], second[:] = 0, 0
            low, high = infinity, -infinity
            columns[t, c] = 0
            column_counts[t, c, 0], column_counts[t, c, 1] = south, height - north
            everywhere[t, c] = height
            if gaps:
                column_counts[t, c] = 0
                everywhere[t, c] = 0
            for i in range(height):
                x = frame[i]
                low, high = _extremes(x, low, high)
                if gaps:
                    _add_row_with_gaps(x, pivot, first, second)
                    for j in range(width):
                        there[j] = x[j] if x[j] == x[j] else np.float32(0)
                        everywhere[t, c, j] += x[j] == x[j]
                else:
                    _add_row(x, pivot, first, second)
                for half, inside in enumerate((i < south, i >= north)):
                    if not inside:
                        continue
                    sums = columns[t, c, half]
                    if gaps:
                        counts = column_counts[t, c, half]
                        for j in range(width):
                            sums[j] += there[j]
                            counts[j] += x[j] == x[j]
                    else:
                        for j in range(width):
                            sums[j] += x[j]
            _moments(count, pivot, first, second, low, high, moments[t, c])


@numba.njit(types.void(_FIELDS, _FIELDS, _TABLE), nogil=True, cache=True, error_model="numpy")
def change_moments(now: Array, before: Array, out: Array) -> None:
    """Fill the moments of changes (time, channel, statistic)."""
    times, channels, height, width = now.shape
    first, second, change = np.empty(width), np.empty(width), np.empty(width)
    for t in range(times):
        for c in range(channels):
            first[:], second[:] = 0, 0
            low, high = np.inf, -np.inf
            total, count = 0.0, 0
            for i in range(height):  # a mean that is good enough to begin with
                later, earlier = now[t, c, i], before[t, c, i]
                for j in range(width):
                    x = np.float64(later[j]) - np.float64(earlier[j])
                    change[j] = x if x == x else 0.0
                    count += x == x
                for j in range(width):
                    total += change[j]
            pivot = total / count if count else 0.0
            if not np.isfinite(pivot):
                pivot = 0.0
            for i in range(height):
                later, earlier = now[t, c, i], before[t, c, i]
                for j in range(width):
                    change[j] = np.float64(later[j]) - np.float64(earlier[j])
                low, high = _extremes(change, low, high)
                _add_row_with_gaps(change, pivot, first, second)
            _moments(count, pivot, first, second, low, high, out[t, c])


@numba.njit(
    types.float64(_FIELDS, _PLACES, _FIELDS, _PLACES, types.int64, types.boolean, _AREA),
    nogil=True,
    cache=True,
    error_model="numpy",
)
def weighted_squares(
    now: Array, rows: Array, before: Array, places: Array, c: int, changes: bool, area: Array
) -> Any:
    """Add the weighted squares of a channel of frames, or of their changes since others."""
    height, width = area.shape
    lanes, total = np.empty(width), 0.0
    for k in range(rows.size):
        lanes[:] = 0
        for i in range(height):
            later, weight = now[rows[k], c, i], area[i]
            if changes:
                earlier = before[places[k], c, i]
                for j in range(width):
                    value = np.float64(later[j] - earlier[j])
                    lanes[j] += value * value * weight[j]
            else:
                for j in range(width):
                    value = np.float64(later[j])
                    lanes[j] += value * value * weight[j]
        one = 0.0
        for j in range(width):
            one += lanes[j]
        total += one
    return total
