r"""Pointwise scores of an ensemble :math:`x_1, \ldots, x_M` against an observation :math:`y`.

Every score is a function of the differences :math:`d_i = x_i - y`, taken in float64 first: a
geopotential of 500,000 m² s⁻² then loses no digit of an error of 1. The work is done in blocks of
points that fit the cache, so that temporary memory does not grow with the field.

Arguments come as ``(forecast, observation)``. Results are float64, and lazy if the input is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import DimensionError

__all__ = [
    "absolute_error_of_mean",
    "crps_ensemble",
    "ensemble_variance",
    "error_of_mean",
    "rank_of_observation",
    "squared_error_of_mean",
]

FloatArray = npt.NDArray[np.float64]

# Differences worked on at a time: 1 MiB of float64, about the size of a core's cache.
_BLOCK_VALUES = 2**17


def crps_ensemble(
    forecast: xr.DataArray,
    observation: xr.DataArray,
    *,
    dim: str = "number",
    estimator: str = "fair",
) -> xr.DataArray:
    r"""Continuous ranked probability score (CRPS) of an ensemble.

    .. math:: \frac1M\sum_i|x_i-y| - \frac1{2K}\sum_{i,j}|x_i-x_j|

    with :math:`K=M(M-1)` if ``estimator="fair"`` and :math:`M^2` if ``"standard"``. The fair one
    is unbiased for the distribution the members are drawn from; the standard one is the score of
    the ensemble as it stands, and for a calibrated ensemble larger by a factor :math:`1+1/M`.

    Parameters
    ----------
    forecast : (number, ...)
        Ensemble, any unit. NaN propagates.
    observation : (...)
        Verifying values in the same unit, without ``dim``.
    dim : str
        The ensemble dimension.
    estimator : {"fair", "standard"}
        The estimator of the second term.

    Returns
    -------
    (...)
        Pointwise CRPS in the forecast's unit; lazy if the input is.

    Raises
    ------
    DimensionError
        ``dim`` missing from the forecast or present in the observation
        (usually swapped arguments), or ``"fair"`` with one member.
    ValueError
        Another ``estimator``.

    References
    ----------
    Ferro (2014), doi:10.1002/qj.2270. Zamo and Naveau (2018), doi:10.1007/s11004-017-9709-7.

    Examples
    --------
    >>> forecast = xr.DataArray([271.0, 273.0], dims="number")
    >>> float(crps_ensemble(forecast, xr.DataArray(272.5), estimator="standard"))
    0.5
    >>> float(crps_ensemble(forecast, xr.DataArray(272.5), estimator="fair"))
    0.0
    """
    members = _require_ensemble(forecast, observation, dim)
    if estimator not in ("fair", "standard"):
        raise ValueError(f"estimator is {estimator!r}, expected 'fair' or 'standard'.")
    if estimator == "fair" and members == 1:
        raise DimensionError(
            "the fair CRPS is undefined for one member; use estimator='standard', "
            "which is then the absolute error."
        )
    pairs = members * (members - 1) if estimator == "fair" else members**2
    return _pointwise(partial(_crps, pairs=pairs), forecast, observation, dim)


def error_of_mean(
    forecast: xr.DataArray, observation: xr.DataArray, *, dim: str = "number"
) -> xr.DataArray:
    """Ensemble mean minus observation, whose average is the bias.

    Parameters
    ----------
    forecast : (number, ...)
        Ensemble, any unit. NaN propagates.
    observation : (...)
        Verifying values in the same unit, without ``dim``.
    dim : str
        The ensemble dimension.

    Returns
    -------
    (...)
        Error in the forecast's unit; lazy if the input is.

    Raises
    ------
    DimensionError
        ``dim`` missing from the forecast or present in the observation.

    Examples
    --------
    >>> forecast = xr.DataArray([271.0, 273.0], dims="number")
    >>> float(error_of_mean(forecast, xr.DataArray(272.5)))
    -0.5
    """
    _require_ensemble(forecast, observation, dim)
    return _pointwise(_mean, forecast, observation, dim)


def squared_error_of_mean(
    forecast: xr.DataArray, observation: xr.DataArray, *, dim: str = "number"
) -> xr.DataArray:
    """Squared error of the ensemble mean, in the forecast's unit squared.

    Parameters, errors and laziness are those of :func:`error_of_mean`.

    Examples
    --------
    >>> forecast = xr.DataArray([271.0, 273.0], dims="number")
    >>> float(squared_error_of_mean(forecast, xr.DataArray(272.5)))
    0.25
    """
    return error_of_mean(forecast, observation, dim=dim) ** 2


def absolute_error_of_mean(
    forecast: xr.DataArray, observation: xr.DataArray, *, dim: str = "number"
) -> xr.DataArray:
    """Absolute error of the ensemble mean, in the forecast's unit.

    Parameters, errors and laziness are those of :func:`error_of_mean`.

    Examples
    --------
    >>> forecast = xr.DataArray([271.0, 273.0], dims="number")
    >>> float(absolute_error_of_mean(forecast, xr.DataArray(272.5)))
    0.5
    """
    return abs(error_of_mean(forecast, observation, dim=dim))


def ensemble_variance(forecast: xr.DataArray, *, dim: str = "number") -> xr.DataArray:
    r"""Unbiased variance of the members, :math:`\frac1{M-1}\sum_i(x_i-\bar x)^2`.

    Parameters
    ----------
    forecast : (number, ...)
        Ensemble, any unit. NaN propagates.
    dim : str
        The ensemble dimension.

    Returns
    -------
    (...)
        Variance in the forecast's unit squared; lazy if the input is.

    Raises
    ------
    DimensionError
        ``dim`` missing from the forecast, or one member only.

    Examples
    --------
    >>> float(ensemble_variance(xr.DataArray([271.0, 273.0], dims="number")))
    2.0
    """
    origin = xr.DataArray(0.0)
    if _require_ensemble(forecast, origin, dim) == 1:
        raise DimensionError("the ensemble variance is undefined for one member.")
    return _pointwise(_variance, forecast, origin, dim)


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
    members = _require_ensemble(forecast, observation, dim)
    counts = _pointwise(_ranks, forecast, observation, dim, new={"rank": members + 1})
    return counts.assign_coords(rank=np.arange(members + 1))


def _require_ensemble(forecast: xr.DataArray, observation: xr.DataArray, dim: str) -> int:
    """Refuse arrays that are not an ensemble and an observation; give the number of members."""
    if dim in observation.dims:
        raise DimensionError(
            f"the observation has the ensemble dimension {dim!r}; are the arguments swapped? "
            "The order is (forecast, observation)."
        )
    if dim not in forecast.dims:
        raise DimensionError(
            f"the forecast has no dimension {dim!r} among {forecast.dims}; "
            f"a single forecast needs expand_dims({dim!r})."
        )
    if forecast.sizes[dim] == 0:
        raise DimensionError(f"the forecast has no member along {dim!r}.")
    return forecast.sizes[dim]


def _pointwise(
    kernel: Callable[[FloatArray], FloatArray],
    forecast: xr.DataArray,
    observation: xr.DataArray,
    dim: str,
    new: Mapping[str, int] | None = None,
) -> xr.DataArray:
    """Apply a kernel of the differences, (points, members) -> (points[, new])."""
    sizes = dict(new or {})
    return xr.apply_ufunc(
        partial(_in_blocks, kernel),
        forecast,
        observation,
        input_core_dims=[[dim], []],
        output_core_dims=[list(sizes)],
        join="exact",  # coordinates that differ are an error, not an intersection
        keep_attrs=False,  # the unit of a variance is not that of its members
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": sizes, "allow_rechunk": True},
    )


def _in_blocks(
    kernel: Callable[[FloatArray], FloatArray],
    forecast: npt.NDArray[Any],
    observation: npt.NDArray[Any],
) -> FloatArray:
    members = forecast.shape[-1]
    shape = np.broadcast_shapes(forecast.shape[:-1], observation.shape)
    x = np.broadcast_to(forecast, (*shape, members)).reshape(-1, members)
    y = np.broadcast_to(observation, shape).reshape(-1, 1)
    points = max(1, _BLOCK_VALUES // members)
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which is the answer
        blocks = [
            kernel(np.subtract(x[i : i + points], y[i : i + points], dtype=np.float64))
            for i in range(0, max(1, len(x)), points)
        ]
    result = np.concatenate(blocks)
    return result.reshape(shape + result.shape[1:])


def _crps(d: FloatArray, *, pairs: int) -> FloatArray:
    # With d sorted, sum_{i<j} (d_j - d_i) = sum_i (2i - M + 1) d_i, i from 0: M log M, not M^2.
    members = d.shape[-1]
    ordered = np.sort(d, axis=-1)
    lift = (2 * np.arange(members) - members + 1) / pairs
    return (np.abs(ordered) / members - lift * ordered).sum(axis=-1)


def _mean(d: FloatArray) -> FloatArray:
    return d.mean(axis=-1)


def _variance(d: FloatArray) -> FloatArray:
    return d.var(axis=-1, ddof=1)


def _ranks(d: FloatArray) -> FloatArray:
    below = np.count_nonzero(d < 0, axis=-1)[:, np.newaxis]
    ties = np.count_nonzero(d == 0, axis=-1)[:, np.newaxis]
    rank = np.arange(d.shape[-1] + 1)
    counts = ((rank >= below) & (rank <= below + ties)) / (ties + 1.0)
    counts[np.isnan(d).any(axis=-1)] = np.nan
    return counts
