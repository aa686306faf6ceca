r"""Scores of forecasts that are a quantile or a density, and the distance of two distributions.

Arguments come as ``(forecast, observation)``; NaN propagates; results are lazy if the input is.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import special

from weatherdiff.errors import DimensionError
from weatherdiff.evaluation.pointwise import require_ensemble

__all__ = ["crps_normal", "log_score_normal", "quantile_score", "wasserstein_distance"]

FloatArray = npt.NDArray[np.float64]


def quantile_score(
    forecast: xr.DataArray,
    observation: xr.DataArray,
    *,
    quantile: float,
    dim: str | None = None,
) -> xr.DataArray:
    r"""Quantile (pinball) score, :math:`\max(\tau(y-q), (1-\tau)(q-y))`.

    Its expectation is least for the true quantile; twice its integral over the levels is the CRPS.

    Parameters
    ----------
    forecast : (...) or (number, ...)
        The quantile forecast, or with ``dim`` an ensemble, whose quantile is interpolated linearly
        between the members.
    observation : (...)
        Verifying values in the same unit.
    quantile : float
        Level :math:`\tau`, above 0 and below 1.
    dim : str, optional
        The ensemble dimension, if the forecast is an ensemble.

    Returns
    -------
    (...)
        Pointwise score in the forecast's unit; lazy if the input is.

    Raises
    ------
    DimensionError
        ``dim`` is missing from the forecast or present in the observation.
    ValueError
        The level is not between 0 and 1.

    References
    ----------
    Koenker and Bassett (1978), doi:10.2307/1913643. Gneiting and Ranjan (2011),
    doi:10.1198/jbes.2010.08110.

    Examples
    --------
    >>> float(quantile_score(xr.DataArray(1.0), xr.DataArray(3.0), quantile=0.75))
    1.5
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile is {quantile}, expected a level between 0 and 1.")
    if dim is not None:
        require_ensemble(forecast, observation, dim)
        if forecast.chunks is not None:
            forecast = forecast.chunk({dim: -1})
        forecast = forecast.astype(np.float64).quantile(quantile, dim, skipna=False)
        forecast = forecast.drop_vars("quantile")

    def pinball(q: FloatArray, y: FloatArray) -> FloatArray:
        below = np.subtract(y, q, dtype=np.float64)
        return np.maximum(quantile * below, (quantile - 1) * below)

    return _pointwise(pinball, forecast, observation)


def crps_normal(
    mean: xr.DataArray, standard_deviation: xr.DataArray, observation: xr.DataArray
) -> xr.DataArray:
    r"""CRPS of a normal distribution.

    .. math:: \sigma\left[z(2\Phi(z)-1) + 2\varphi(z) - 1/\sqrt\pi\right], \quad z = (y-\mu)/\sigma

    Parameters
    ----------
    mean, standard_deviation : (...)
        Of the forecast. A standard deviation of 0 gives the absolute error, a negative one NaN.
    observation : (...)
        Verifying values in the same unit.

    Returns
    -------
    (...)
        Pointwise CRPS in the forecast's unit; lazy if the input is.

    References
    ----------
    Gneiting et al. (2005), doi:10.1175/MWR2904.1.

    Examples
    --------
    >>> one, zero = xr.DataArray(1.0), xr.DataArray(0.0)
    >>> round(float(crps_normal(zero, one, zero)), 6)  # (sqrt(2) - 1) / sqrt(pi)
    0.233695
    """
    return _pointwise(_crps_normal, mean, standard_deviation, observation)


def log_score_normal(
    mean: xr.DataArray, standard_deviation: xr.DataArray, observation: xr.DataArray
) -> xr.DataArray:
    r"""Logarithmic score of a normal distribution, :math:`-\log p(y)`.

    Parameters
    ----------
    mean, standard_deviation : (...)
        Of the forecast; NaN unless the standard deviation is above 0.
    observation : (...)
        Verifying values in the same unit.

    Returns
    -------
    (...)
        Pointwise score in nats, less the logarithm of the unit; lazy if the input is.

    References
    ----------
    Good (1952), doi:10.1111/j.2517-6161.1952.tb00104.x.

    Examples
    --------
    >>> one, zero = xr.DataArray(1.0), xr.DataArray(0.0)
    >>> round(float(log_score_normal(zero, one, zero)), 6)  # log(2 pi) / 2
    0.918939
    """
    return _pointwise(_log_score_normal, mean, standard_deviation, observation)


def wasserstein_distance(
    first: xr.DataArray, second: xr.DataArray, *, dim: str = "number"
) -> xr.DataArray:
    r"""Wasserstein-1 distance of two samples, :math:`\int_0^1|F^{-1}(u)-G^{-1}(u)|\,du`.

    How far, on average, the values of one have to be moved to become those of the other: of two
    climatologies, say.

    Parameters
    ----------
    first, second : (number, ...)
        Samples, of any two sizes, of the same unit.
    dim : str
        The dimension along which they are samples.

    Returns
    -------
    (...)
        Distance in the same unit; lazy if the input is.

    Raises
    ------
    DimensionError
        ``dim`` is missing from one of them, or has no element.

    References
    ----------
    Vallender (1974), doi:10.1137/1118101.

    Examples
    --------
    >>> first = xr.DataArray([0.0, 1.0, 3.0], dims="number")
    >>> float(wasserstein_distance(first, first + 5))
    5.0
    """
    for sample in (first, second):
        if sample.sizes.get(dim, 0) == 0:
            raise DimensionError(f"a sample has nothing along {dim!r}; it has {sample.dims}.")
    return xr.apply_ufunc(
        _wasserstein,
        first.rename({dim: "first"}),
        second.rename({dim: "second"}),
        input_core_dims=[["first"], ["second"]],
        join="exact",
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"allow_rechunk": True},
    )


def _pointwise(function: Any, *arrays: xr.DataArray) -> xr.DataArray:
    return xr.apply_ufunc(
        partial(_quietly, function),
        *arrays,
        join="exact",  # coordinates that differ are an error, not an intersection
        keep_attrs=False,
        dask="parallelized",
        output_dtypes=[np.float64],
    )


def _quietly(function: Any, *arrays: npt.NDArray[Any]) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN is the answer
        result: FloatArray = function(*arrays)
    return result


def _crps_normal(mean: FloatArray, deviation: FloatArray, y: FloatArray) -> FloatArray:
    error = np.subtract(y, mean, dtype=np.float64)
    z = error / np.where(deviation > 0, deviation, np.nan)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    score = deviation * (z * special.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))
    return np.where(deviation == 0, np.abs(error), score)


def _log_score_normal(mean: FloatArray, deviation: FloatArray, y: FloatArray) -> FloatArray:
    width = np.where(deviation > 0, deviation, np.nan).astype(np.float64)
    z = np.subtract(y, mean, dtype=np.float64) / width
    return z**2 / 2 + np.log(width) + math.log(2 * math.pi) / 2


def _wasserstein(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> FloatArray:
    n, m = first.shape[-1], second.shape[-1]
    # Levels at which one of the two quantile functions steps, times n m: exact in integers.
    levels = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    lower, widths = levels[:-1], np.diff(levels) / (n * m)
    a, b = (np.sort(sample.astype(np.float64), axis=-1) for sample in (first, second))
    distance: FloatArray = np.abs(a[..., lower // m] - b[..., lower // n]) @ widths
    # A NaN is sorted last, and seen there.
    return distance
