"""The kernel in numpy: a few tiles at a time, each point's members sorted where they lie together.

Sums run over one point's members, or over one tile and then over tiles in order, so that no result
depends on what else is in the block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from weatherdiff.evaluation.kernels.sums import TILE, EnsembleSums, Points, Wanted

__all__ = ["accumulate", "crps"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

# Values worked on at a time: they fit the cache next to the core.
_BLOCK_VALUES = 2**14
_CRPS_VALUES = 2**15


def accumulate(points: Points, wanted: Wanted, sums: EnsembleSums, pointwise: FloatArray) -> None:
    """Add the points to ``sums``, and fill ``pointwise`` if it is wanted."""
    members, size = points.forecast.shape
    step = TILE * max(1, _BLOCK_VALUES // (TILE * members))
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf is NaN, which is the answer
        for start in range(0, size, step):
            part = slice(start, min(start + step, size))
            _accumulate(points.part(part), wanted, sums, pointwise[:, part])


def crps(forecast: Array, observation: Array, factor: float, out: FloatArray) -> None:
    """Write the CRPS of each point; see :func:`ensemble_crps` for the arguments."""
    members, size = forecast.shape
    lift = (2.0 * np.arange(members) - members + 1) * (factor / max(1, members * (members - 1)))
    share = np.full(members, 1 / members)
    step = max(1, _CRPS_VALUES // members)
    for start in range(0, size, step):
        part = slice(start, start + step)
        d = np.ascontiguousarray((forecast[:, part] - observation[part]).T)
        d.sort(axis=1)
        d = d.astype(np.float64, copy=False)
        np.einsum("pm,m->p", d, lift, out=out[part])  # each point's sum, whatever its neighbours
        np.subtract(np.einsum("pm,m->p", np.abs(d, out=d), share), out[part], out=out[part])


def _accumulate(points: Points, wanted: Wanted, sums: EnsembleSums, pointwise: FloatArray) -> None:
    x, y, weights = points.forecast, points.observation, points.weights
    absent = np.isnan(x)
    there = ~np.isnan(y)
    observed = there & (weights > 0).any(axis=0)
    sums.missing[:-1] += (absent & observed).sum(axis=1)
    sums.missing[-1] += observed.sum()
    complete = there & points.usable & ~absent.any(axis=0)
    counted = complete if wanted.omit else there
    weights = np.where(counted, weights, 0.0)
    _add(sums.weight, weights)
    _add(sums.complete, np.where(complete, weights, 0.0))
    # The weights of what counts; NaN makes the sums it enters NaN.
    weights = np.where(complete | (weights == 0), weights, np.nan)

    if wanted.rank:
        _add_ranks(sums.rank, weights, (x < y).sum(axis=0), (x == y).sum(axis=0))
    for event, above in enumerate(points.above):
        threshold = points.thresholds[event]
        forecast_in = (x > threshold if above else x < threshold).sum(axis=0)
        observed_in = y > threshold if above else y < threshold
        unknown = np.isnan(threshold) & (weights > 0)
        _add_counts(
            sums.joint[:, event], np.where(unknown, np.nan, weights), observed_in, forecast_in
        )
    if not wanted.fields:
        return
    d = np.empty((x.shape[1], len(x)), np.result_type(x, y))
    np.subtract(x.T, y[:, np.newaxis], out=d)
    d.sort(axis=1)
    d = d.astype(np.float64, copy=False)
    fields = _fields(d)
    if points.climatology.size:
        observed_anomaly = y - points.climatology
        anomaly = observed_anomaly + fields[3]
        fields += [anomaly * observed_anomaly, anomaly**2, observed_anomaly**2]
    for total, field in zip(sums.totals.T, fields, strict=True):
        _add(total, weights, field)
    if wanted.pointwise:
        pointwise[:] = np.where(complete, fields, np.nan)
    if wanted.clipped:
        for event, above in enumerate(points.above):
            beyond = (points.thresholds[event] - y.astype(np.float64))[:, np.newaxis]
            clipped = np.maximum(d, beyond) if above else np.minimum(d, beyond)
            clipped -= np.maximum(beyond, 0.0) if above else np.minimum(beyond, 0.0)
            for k, field in enumerate(_spread(clipped)):
                _add(sums.clipped[:, event, k], weights, field)
    if wanted.decompose:
        edges = np.zeros((len(d), len(x) + 2))
        edges[:, 1:-1] = d
        for rank in range(len(x) + 1):
            low, high = edges[:, rank], edges[:, rank + 1]
            alpha = np.maximum(np.minimum(high, 0.0) - np.minimum(low, 0.0), 0.0)
            beta = np.maximum(np.maximum(high, 0.0) - np.maximum(low, 0.0), 0.0)
            _add(sums.alpha[:, rank], weights, alpha)
            _add(sums.beta[:, rank], weights, beta)


def _spread(d: FloatArray) -> list[FloatArray]:
    """Over, under and dispersion of sorted differences, (point, member)."""
    members = d.shape[1]
    over = np.maximum(d, 0.0).sum(axis=1) / members
    under = np.maximum(-d, 0.0).sum(axis=1) / members
    # sum_{i<j} (d_j - d_i) = sum over pairs from the outside in, none of them negative.
    half = members // 2
    lift = members - 1.0 - 2.0 * np.arange(half)
    apart = d[:, ::-1][:, :half] - d[:, :half]
    pairs = max(1, members * (members - 1))
    return [over, under, np.einsum("pm,m->p", apart, lift) / pairs]


def _fields(d: FloatArray) -> list[FloatArray]:
    members = d.shape[1]
    # About the middle member, constants give exactly 0 and a common offset loses nothing.
    middle = d[:, members // 2]
    apart = d - middle[:, np.newaxis]
    total = apart.sum(axis=1)
    error = middle + total / members
    squares = np.einsum("pm,pm->p", apart, apart)
    variance = (squares - total * total / members) / max(1, members - 1)
    return [*_spread(d), error, error * error, np.abs(error), variance]


def _add(total: FloatArray, weights: FloatArray, field: FloatArray | None = None) -> None:
    """Add a weighted sum over points, tile after tile; where the weight is 0 nothing counts."""
    products = weights if field is None else np.where(weights == 0, 0.0, weights * field)
    tiles = -(-products.shape[1] // TILE)
    padded = np.pad(products, ((0, 0), (0, tiles * TILE - products.shape[1])))
    added = padded.reshape(len(total), tiles, TILE).sum(axis=2)
    total[:] = np.add.accumulate(np.column_stack([total, added]), axis=1)[:, -1]


def _add_ranks(histogram: FloatArray, weights: FloatArray, below: Array, ties: Array) -> None:
    for region, w in zip(histogram, weights, strict=True):
        of = np.flatnonzero(w > 0)
        ranks = ties[of] + 1  # that the observation could take
        first = np.cumsum(ranks) - ranks
        rank = np.repeat(below[of] - first, ranks) + np.arange(ranks.sum())
        np.add.at(region, rank, np.repeat(w[of] / ranks, ranks))
        if np.isnan(w).any():
            region[:] = np.nan


def _add_counts(joint: FloatArray, weights: FloatArray, occurred: Array, counts: Array) -> None:
    for region, w in zip(joint, weights, strict=True):
        of = w > 0
        np.add.at(region, (occurred[of].astype(np.intp), counts[of]), w[of])
        if np.isnan(w).any():
            region[:] = np.nan
