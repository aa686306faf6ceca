"""The kernel compiled by numba; see :mod:`weatherdiff.evaluation.kernels` for what it does."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from weatherdiff.evaluation.kernels.lanes import (
    LANES,
    equal,
    greater,
    less,
    load,
    splat,
    store,
    total,
    wide,
)
from weatherdiff.evaluation.kernels.network import network
from weatherdiff.evaluation.kernels.sums import TILE, EnsembleSums, Points, Wanted
from weatherdiff.evaluation.kernels.tiles import BYTES, STRIDE, constant, flat, sort, width_of

__all__ = ["accumulate"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

_compiled = numba.njit(nogil=True, cache=True, error_model="numpy")


def accumulate(points: Points, wanted: Wanted, sums: EnsembleSums, pointwise: FloatArray) -> None:
    """Add the points to ``sums``, and fill ``pointwise`` if it is wanted."""
    size = points.forecast.shape[1]
    whole = size - size % TILE
    if whole:
        _accumulate(points.part(slice(whole)), wanted, sums, pointwise[:, :whole])
    if whole < size:
        rest = np.empty((len(pointwise), TILE))
        _accumulate(points.part(slice(whole, size)).padded(TILE), wanted, sums, rest)
        pointwise[:, whole:] = rest[:, : size - whole]


def _accumulate(points: Points, wanted: Wanted, sums: EnsembleSums, pointwise: FloatArray) -> None:
    members, size = points.forecast.shape
    kind = points.thresholds.dtype
    counts = np.empty((2 + len(points.above), TILE), f"i{kind.itemsize}")
    fields = np.empty((len(sums.fields), size if wanted.pointwise else 0))
    _tiles(
        flat(points.forecast),
        (constant(points.observation), constant(points.usable), constant(points.climatology)),
        constant(points.weights),
        (constant(points.thresholds), constant(points.above)),
        network(members),
        (wanted.fields, wanted.rank, wanted.clipped, wanted.decompose, wanted.omit),
        (np.empty((members + 1) * STRIDE, kind), counts),
        (
            *(sums.totals, sums.weight, sums.complete, sums.rank, sums.missing),
            *(sums.joint, sums.clipped, sums.alpha, sums.beta),
        ),
        fields,
    )
    if wanted.pointwise:
        pointwise[:] = fields


@_compiled
def _tiles(ensemble, truth, weights, events, blocks, wanted, scratch, sums, fields):  # type: ignore[no-untyped-def]
    x, stride, members = ensemble
    y, usable, climatology = truth
    thresholds, above = events
    with_fields, with_rank, with_clipped, with_alpha, omit = wanted
    tile, counts = scratch  # differences and counts, of as many bits
    totals, weight, complete_weight, rank, missing, joint, clipped, alpha, beta = sums
    regions, points = weights.shape
    per_point = thresholds.shape[1] != 1
    width = width_of(tile, members)

    level = np.empty((len(above), TILE), tile.dtype)
    check = np.empty(TILE, tile.dtype)
    occurred = np.empty((len(above), TILE), np.uint8)
    values = np.empty((totals.shape[1], TILE))
    parts = np.empty((len(above), 3, TILE))
    bins = np.empty((2, members + 1 if with_alpha else 0, TILE))
    counted, complete = np.ones(TILE, np.bool_), np.ones(TILE, np.bool_)
    w = np.empty(TILE)

    for first in range(0, points, TILE):
        _copy(x, first, stride, tile, members)
        known = True
        for event in range(len(above)):
            for t in range(TILE):
                level[event, t] = thresholds[event, first + t if per_point else 0]
                known &= level[event, t] == level[event, t]
                if above[event]:
                    occurred[event, t] = y[first + t] > level[event, t]
                else:
                    occurred[event, t] = y[first + t] < level[event, t]
            _count_inside(tile, members, level, event, above[event], counts)
        _subtract(tile, members, y, first, counts, check)
        clean = _observe(weights, first, y, usable, check, missing)
        if not clean:
            marks = (missing, counted, complete)
            _mark(ensemble, first, (y, usable), weights, omit, marks)
        if with_fields:
            sort(tile, members, blocks, width)
            _fields(tile, members, values)
            if climatology.size:
                _anomalies(values, y, climatology, first)
            if with_clipped:
                for event in range(len(above)):
                    _clip((tile, members), level, event, above[event], y, first, parts)
            if with_alpha:
                _bins(tile, members, bins)
            if not clean:
                _blank(values, complete)
                for event in range(len(above)):
                    _blank(parts[event], complete)
                _blank(bins[0], complete)
                _blank(bins[1], complete)
            if not known:
                for event in range(len(above)):
                    _blank(parts[event], level[event] == level[event])
            if fields.shape[1]:
                for field in range(len(fields)):
                    for t in range(TILE):
                        fields[field, first + t] = values[field, t]

        for region in range(regions):
            for t in range(TILE):
                w[t] = weights[region, first + t]
            whole = True
            if not clean:
                for t in range(TILE):
                    if not counted[t]:
                        w[t] = 0.0
                    whole &= complete[t] or w[t] == 0.0
            here = _sum(w)
            if here == 0.0:
                continue
            weight[region] += here
            if whole:
                complete_weight[region] += here
            else:
                for t in range(TILE):
                    if complete[t]:
                        complete_weight[region] += w[t]
            if with_rank:
                if whole:
                    _add_ranks(rank[region], w, counts)
                else:
                    _spoil(rank[region])
            for event in range(len(above)):
                if whole:
                    _add_counts(joint[region, event], w, counts, event, occurred)
                else:
                    _spoil(joint[region, event].reshape(-1))
                if not known:
                    for t in range(TILE):
                        if w[t] > 0.0 and level[event, t] != level[event, t]:
                            _spoil(joint[region, event].reshape(-1))
            if with_fields:
                for field in range(len(values)):
                    totals[region, field] += _weighted(w, values, field)
                if with_clipped:
                    for event in range(len(above)):
                        for k in range(3):
                            clipped[region, event, k] += _weighted(w, parts, 3 * event + k)
                if with_alpha:
                    for k in range(members + 1):
                        alpha[region, k] += _weighted(w, bins, k)
                        beta[region, k] += _weighted(w, bins, members + 1 + k)
        if not clean:
            for t in range(TILE):
                counted[t] = complete[t] = True


@_compiled
def _blank(rows, kept):  # type: ignore[no-untyped-def]
    for row in range(len(rows)):
        for t in range(TILE):
            if not kept[t]:
                rows[row, t] = np.nan


@_compiled
def _spoil(sums):  # type: ignore[no-untyped-def]
    for k in range(len(sums)):
        sums[k] = np.nan


@_compiled
def _copy(x, first, stride, tile, members):  # type: ignore[no-untyped-def]
    lanes = BYTES // tile.itemsize
    for member in range(members):
        start = first + member * stride
        for t in range(0, TILE, lanes):
            store(tile, member * STRIDE + t, load(x, start + t, tile))
    for t in range(TILE):
        tile[members * STRIDE + t] = np.inf


@_compiled
def _count_inside(tile, members, level, event, above, counts):  # type: ignore[no-untyped-def]
    for t in range(0, TILE, BYTES // tile.itemsize):
        limit = load(level, event * TILE + t, tile)
        inside = less(limit, limit)  # none
        if above:
            for member in range(members):
                inside = inside - less(limit, load(tile, member * STRIDE + t, tile))
        else:
            for member in range(members):
                inside = inside - less(load(tile, member * STRIDE + t, tile), limit)
        store(counts, (2 + event) * TILE + t, inside)


@_compiled
def _subtract(tile, members, y, first, counts, check):  # type: ignore[no-untyped-def]
    """Turn members into differences; count those below and at the observation."""
    for t in range(0, TILE, BYTES // tile.itemsize):
        truth = load(y, first + t, tile)
        below = less(truth, truth)
        ties = below
        summed = splat(0.0, tile)
        for member in range(members):
            value = load(tile, member * STRIDE + t, tile)
            below = below - less(value, truth)
            ties = ties - equal(value, truth)
            difference = value - truth
            summed = summed + difference
            store(tile, member * STRIDE + t, difference)
        store(counts, t, below)
        store(counts, TILE + t, ties)
        store(check, t, summed)


@_compiled
def _observe(weights, first, y, usable, check, missing):  # type: ignore[no-untyped-def]
    """Tell whether nothing is missing; then all points of some weight are observed."""
    lacking = 0
    for t in range(TILE):
        lacking += (check[t] != check[t]) | (not usable[first + t])
    if lacking:
        return False
    seen = 0
    for t in range(TILE):
        here = 0.0
        for region in range(len(weights)):
            here = max(here, weights[region, first + t])
        seen += here > 0.0
    missing[-1] += seen
    return True


@_compiled
def _mark(ensemble, first, truth, weights, omit, marks):  # type: ignore[no-untyped-def]
    """Find the points that count, and those that are complete, one by one."""
    x, stride, members = ensemble
    y, usable = truth
    missing, counted, complete = marks
    for t in range(TILE):
        there = y[first + t] == y[first + t]
        seen = False
        for region in range(len(weights)):
            seen |= there and weights[region, first + t] > 0.0
        missing[-1] += seen
        complete[t] = there and usable[first + t]
        for member in range(members):
            value = x[first + t + member * stride]
            if value != value:
                complete[t] = False
                missing[member] += seen
        counted[t] = complete[t] if omit else there


@_compiled
def _fields(tile, members, values):  # type: ignore[no-untyped-def]
    """Scores of sorted differences, from pairs of members, the outermost first."""
    half, middle = members // 2, (members // 2) * STRIDE
    zero, size = splat(0.0, values), splat(float(members), values)
    pairs = splat(float(max(1, members * (members - 1))), values)
    freedom = splat(float(max(1, members - 1)), values)
    two, inner = splat(2.0, values), splat(0.5, values)
    for t in range(0, TILE, LANES):
        center = wide(tile, middle + t)
        twice = two * center
        over, summed, shifted, squares, apart = zero, zero, zero, zero, zero
        for k in range(half):
            a = wide(tile, k * STRIDE + t)
            b = wide(tile, (members - 1 - k) * STRIDE + t)
            both, gap = a + b, b - a
            about = both - twice
            over = over + (greater(a, zero) + greater(b, zero))
            summed = summed + both
            shifted = shifted + about
            squares = squares + gap * gap + about * about  # of both about the center, doubled
            apart = apart + splat(float(members - 1 - 2 * k), values) * gap
        if members % 2:
            over = over + greater(center, zero)
            summed = summed + center
        mean = shifted / size
        error = center + mean
        store(values, t, over / size)
        store(values, TILE + t, (over - summed) / size)
        store(values, 2 * TILE + t, apart / pairs)
        store(values, 3 * TILE + t, error)
        store(values, 4 * TILE + t, error * error)
        store(values, 5 * TILE + t, greater(error, zero - error))
        store(values, 6 * TILE + t, (inner * squares - shifted * mean) / freedom)


@_compiled
def _anomalies(values, y, climatology, first):  # type: ignore[no-untyped-def]
    for t in range(TILE):
        of_truth = y[first + t] - climatology[first + t]
        of_mean = of_truth + values[3, t]
        values[7, t] = of_mean * of_truth
        values[8, t] = of_mean * of_mean
        values[9, t] = of_truth * of_truth


@_compiled
def _clip(ensemble, level, event, above, y, first, parts):  # type: ignore[no-untyped-def]
    """Over, under and dispersion of max(x, threshold), or below it of -max(-x, -threshold)."""
    tile, members = ensemble
    side = splat(1.0 if above else -1.0, parts)
    zero, size = splat(0.0, parts), splat(float(members), parts)
    pairs = splat(float(max(1, members * (members - 1))), parts)
    row = 3 * event * TILE
    low = 0 if above else members - 1
    toward = 1 if above else -1
    for t in range(0, TILE, LANES):
        limit = side * (wide(level, event * TILE + t) - wide(y, first + t))
        truth = greater(limit, zero)
        over, summed, apart = zero, zero, zero
        for k in range(members // 2):
            outer = (low + toward * k) * STRIDE + t
            other = (members - 1 - low - toward * k) * STRIDE + t
            a = greater(side * wide(tile, outer), limit) - truth
            b = greater(side * wide(tile, other), limit) - truth
            over = over + (greater(a, zero) + greater(b, zero))
            summed = summed + (a + b)
            apart = apart + splat(float(members - 1 - 2 * k), parts) * (b - a)
        if members % 2:
            a = greater(side * wide(tile, (members // 2) * STRIDE + t), limit) - truth
            over = over + greater(a, zero)
            summed = summed + a
        over, under = over / size, (over - summed) / size
        store(parts, row + (0 if above else TILE) + t, over)
        store(parts, row + (TILE if above else 0) + t, under)
        store(parts, row + 2 * TILE + t, apart / pairs)


@_compiled
def _bins(tile, members, bins):  # type: ignore[no-untyped-def]
    """Parts of the gap before each member that are below and above the observation."""
    for k in range(members + 1):
        for t in range(TILE):
            low = tile[(k - 1) * STRIDE + t] if k > 0 else 0.0
            high = tile[k * STRIDE + t] if k < members else 0.0
            bins[0, k, t] = max(min(high, 0.0) - min(low, 0.0), 0.0)
            bins[1, k, t] = max(max(high, 0.0) - max(low, 0.0), 0.0)


@_compiled
def _sum(w):  # type: ignore[no-untyped-def]
    summed = wide(w, 0)
    for t in range(LANES, TILE, LANES):
        summed = summed + wide(w, t)
    return total(summed)


@_compiled
def _weighted(w, values, row):  # type: ignore[no-untyped-def]
    start = row * TILE
    a, b = splat(0.0, w), splat(0.0, w)
    for t in range(0, TILE, 2 * LANES):
        a = a + wide(w, t) * wide(values, start + t)
        b = b + wide(w, t + LANES) * wide(values, start + t + LANES)
    summed = total(a + b)
    if np.isfinite(summed):
        return summed
    # What has no weight does not count even where it is infinite or NaN.
    summed = 0.0
    flat = values.reshape(-1)
    for t in range(TILE):
        if w[t] > 0.0:
            summed += w[t] * flat[start + t]
    return summed


@_compiled
def _add_ranks(rank, w, counts):  # type: ignore[no-untyped-def]
    for t in range(TILE):
        if w[t] > 0.0:
            below, ties = counts[0, t], counts[1, t]
            if ties == 0:
                rank[below] += w[t]
            else:
                for k in range(ties + 1):
                    rank[below + k] += w[t] / (ties + 1)


@_compiled
def _add_counts(joint, w, counts, event, occurred):  # type: ignore[no-untyped-def]
    for t in range(TILE):
        joint[occurred[event, t], counts[2 + event, t]] += w[t]
