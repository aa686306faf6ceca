"""Ranks of observations among the members: one by one, counted, and as shares."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.evaluation.kernels import EnsembleSums, Wanted, ensemble_sums
from weatherdiff.evaluation.pointwise import (
    as_points,
    block_size,
    blocks,
    pointwise,
    require_ensemble,
)

__all__ = ["pit", "rank_histogram", "rank_of_observation"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

_RANKS_ONLY = Wanted(fields=False)


def rank_of_observation(
    forecast: xr.DataArray, observation: xr.DataArray, *, dim: str = "number"
) -> xr.DataArray:
    """Rank of the observation among the members, as fractional counts over the M + 1 ranks.

    Rank ``r`` means that ``r`` members lie below the observation. An observation that equals
    some members could take any rank ``a`` to ``b``: its count is spread equally over them, so that
    ties (dry cells, dark hours) need no random number and stay flat for a calibrated ensemble.

    Parameters
    ----------
    forecast : (number, ...)
        Ensemble, any unit. NaN propagates to every rank.
    observation : (...)
        Verifying values in the same unit, without ``dim``.
    dim : str
        The ensemble dimension.

    Returns
    -------
    (..., rank)
        Counts that sum to one over ``rank`` = 0..M; lazy if the input is.

    Raises
    ------
    DimensionError
        ``dim`` missing from the forecast or present in the observation.

    References
    ----------
    Hamill (2001), doi:10.1175/1520-0493(2001)129<0550:IORHFV>2.0.CO;2.

    Examples
    --------
    >>> forecast = xr.DataArray([0.0, 0.0, 3.0], dims="number")
    >>> rank_of_observation(forecast, xr.DataArray(1.0)).values
    array([0., 0., 1., 0.])
    >>> rank_of_observation(forecast, xr.DataArray(0.0)).values.round(2)
    array([0.33, 0.33, 0.33, 0.  ])
    """
    members = require_ensemble(forecast, observation, dim)
    counts = pointwise(_ranks, (forecast, observation), dim, new={"rank": members + 1})
    return counts.assign_coords(rank=np.arange(members + 1))


def rank_histogram(
    forecast: xr.DataArray,
    observation: xr.DataArray,
    *,
    dim: str = "number",
    over: tuple[str, ...] | None = None,
    weights: xr.DataArray | None = None,
) -> xr.DataArray:
    """Weighted number of cases by rank of the observation among the members.

    The sum of :func:`rank_of_observation`, without making it.

    Parameters
    ----------
    forecast : (number, ...)
        Ensemble, any unit.
    observation : (...)
        Verifying values in the same unit, without ``dim``. Where it is NaN there is no case.
    dim : str
        The ensemble dimension.
    over : tuple of str, optional
        Dimensions to sum over; all of the forecast but ``dim`` unless given.
    weights : (...), optional
        Weights of the cases, at least 0, over some of ``over``; 1 unless given.

    Returns
    -------
    (..., rank)
        Weight of the cases of each rank, 0 to M; NaN if a member is NaN where there is a case.

    Raises
    ------
    DimensionError
        ``dim`` missing from the forecast or present in the observation.
    InputError
        A weight is negative or NaN.

    Examples
    --------
    >>> forecast = xr.DataArray([[0.0, 0.0], [2.0, 2.0]], dims=("number", "time"))
    >>> observation = xr.DataArray([1.0, 3.0], dims="time")
    >>> rank_histogram(forecast, observation).values
    array([0., 1., 1.])
    """
    members = require_ensemble(forecast, observation, dim)
    over = tuple(str(name) for name in forecast.dims if name != dim) if over is None else over
    cases = forecast.isel({dim: 0}, drop=True)
    # Only what lacks a dimension is broadcast; the rest is left to apply_ufunc.
    arrays = [
        array if set(array.dims) == set(cases.dims) else _broadcast(array, cases)
        for array in (observation, weights)
        if array is not None
    ]
    histogram = xr.apply_ufunc(
        partial(_histograms, over=len(over)),
        forecast,
        *arrays,
        input_core_dims=[[dim, *over], *(over for _ in arrays)],
        output_core_dims=[["rank"]],
        join="exact",
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"rank": members + 1}, "allow_rechunk": True},
    )
    return histogram.assign_coords(rank=np.arange(members + 1))


def pit(forecast: xr.DataArray, observation: xr.DataArray, *, dim: str = "number") -> xr.DataArray:
    """Probability integral transform: the share of the members below the observation.

    Members that equal the observation count half, so that no random number is needed. The
    histogram of an ensemble is better made by :func:`rank_histogram`.

    Parameters, errors and laziness are those of :func:`error_of_mean`.

    Examples
    --------
    >>> float(pit(xr.DataArray([1.0, 2.0, 2.0, 3.0], dims="number"), xr.DataArray(2.0)))
    0.5
    """
    require_ensemble(forecast, observation, dim)
    return pointwise(_pit, (forecast, observation), dim)


def _ranks(x: Array, y: Array, *, out: FloatArray) -> None:
    below, ties, known = _counts(x, y)
    rank = np.arange(len(x) + 1)
    possible = (rank >= below[:, np.newaxis]) & (rank <= (below + ties)[:, np.newaxis])
    share = np.where(known, 1 / (ties + 1.0), np.nan)[:, np.newaxis]
    out[:] = np.where(possible, share, share * 0.0)  # NaN stays


def _pit(x: Array, y: Array, *, out: FloatArray) -> None:
    below, ties, known = _counts(x, y)
    out[:] = np.where(known, (below + ties / 2) / len(x), np.nan)


def _counts(x: Array, y: Array) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """Count the members below and at the observation; tell whether nothing is NaN."""
    below, ties = np.zeros((2, len(y)), np.int32)
    known = ~np.isnan(y)
    for member in x:
        below += member < y
        ties += member == y
        known &= member == member  # not NaN
    return below, ties, known


def _broadcast(array: xr.DataArray, cases: xr.DataArray) -> xr.DataArray:
    aligned, _ = xr.align(array, cases, join="exact")
    return aligned.broadcast_like(cases)


def _histograms(
    forecast: Array, observation: Array, weights: Array | None = None, *, over: int
) -> FloatArray:
    """One histogram for each place, of the cases along the last ``over`` dimensions."""
    split = observation.ndim - over
    places, cases = observation.shape[:split], observation.shape[split:]
    members = forecast.shape[split]
    if weights is None:
        weights = np.broadcast_to(1.0, observation.shape)
    in_place = forecast[(0,) * (split + 1)].flags.c_contiguous if forecast.size else True
    limit = block_size(math.prod(cases), copied=not in_place)
    histograms = np.empty((*places, members + 1))
    for place in np.ndindex(*places):
        sums = EnsembleSums.zero(members, 1)
        for block in blocks(cases, limit):
            ensemble_sums(
                as_points(forecast[place][(slice(None), *block)], (members,)),
                as_points(observation[place][block]),
                as_points(weights[place][block])[np.newaxis],
                wanted=_RANKS_ONLY,
                into=sums,
            )
        histograms[place] = sums.rank[0]
    return histograms
