r"""Pointwise scores of an ensemble :math:`x_1, \ldots, x_M` against an observation :math:`y`.

Every score is a function of the differences :math:`d_i = x_i - y`, taken first, in float64 unless
both are float32: a geopotential of 500,000 m² s⁻² then loses no digit of an error of 1. The work
is done by the kernel of :mod:`weatherdiff.evaluation.kernels`, in blocks of points, so that
temporary memory does not grow with the field.

Arguments come as ``(forecast, observation)``. Results are float64, and lazy if the input is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import DimensionError
from weatherdiff.evaluation.kernels import CLIPPED, FIELDS, Wanted, ensemble_crps, ensemble_sums
from weatherdiff.evaluation.pointwise import pointwise, require_ensemble
from weatherdiff.evaluation.ranks import rank_of_observation

__all__ = [
    "absolute_error_of_mean",
    "crps_ensemble",
    "crps_parts",
    "dispersion_factor",
    "ensemble_variance",
    "error_of_mean",
    "rank_of_observation",
    "squared_error_of_mean",
    "threshold_weighted_crps",
]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

_FIELDS_ONLY = Wanted(rank=False, clipped=False, pointwise=True)
_MOST = 2**19  # points given to a kernel that holds nothing beside its result


def dispersion_factor(
    estimator: str, members: int, *, alpha: float = 0.95, size: int | None = None
) -> float:
    r"""Factor of the fair dispersion in an estimator of the CRPS.

    Every estimator is :math:`\mathrm{over} + \mathrm{under} - f \cdot \mathrm{dispersion}` of
    :func:`crps_parts`: this is :math:`f`.

    Parameters
    ----------
    estimator : {"fair", "standard", "almost_fair", "adjusted"}
        See :func:`crps_ensemble`.
    members : int
        Members of the ensemble.
    alpha : float
        Share of the fair estimator in the almost fair one.
    size : int, optional
        Members that the score is adjusted to.

    Returns
    -------
    float
        1 for ``"fair"``, :math:`1-1/M` for ``"standard"``, :math:`1-(1-\alpha)/M` for
        ``"almost_fair"``, :math:`1-1/\mathrm{size}` for ``"adjusted"``.

    Raises
    ------
    DimensionError
        One member, whose dispersion is unknown, with another estimator than ``"standard"``.
    ValueError
        Another estimator, ``alpha`` not in 0 to 1, or ``size`` missing, unused or below 1.

    Examples
    --------
    >>> dispersion_factor("standard", 10), dispersion_factor("adjusted", 10, size=50)
    (0.9, 0.98)
    """
    if estimator not in ("fair", "standard", "almost_fair", "adjusted"):
        raise ValueError(
            f"estimator is {estimator!r}, expected 'fair' or 'standard', "
            "or 'almost_fair' or 'adjusted'."
        )
    if (estimator == "adjusted") != (size is not None):
        raise ValueError("members are given with estimator='adjusted', and only then.")
    if members == 1 and estimator != "standard":
        raise DimensionError(
            f"the {estimator} CRPS is undefined for one member; use estimator='standard', "
            "which is then the absolute error."
        )
    if size is not None:
        if size < 1:
            raise ValueError(f"the CRPS cannot be adjusted to {size} members.")
        return 1 - 1 / size
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}, expected 0 to 1.")
    return 1 - {"fair": 0.0, "almost_fair": 1 - alpha, "standard": 1.0}[estimator] / members


def crps_ensemble(
    forecast: xr.DataArray,
    observation: xr.DataArray,
    *,
    dim: str = "number",
    estimator: str = "fair",
    alpha: float = 0.95,
    members: int | None = None,
) -> xr.DataArray:
    r"""Continuous ranked probability score (CRPS) of an ensemble.

    .. math:: \frac1M\sum_i|x_i-y| - \frac1{2K}\sum_{i,j}|x_i-x_j|

    with :math:`K=M(M-1)` if ``estimator="fair"`` and :math:`M^2` if ``"standard"``. The fair one
    is unbiased for the distribution the members are drawn from; the standard one is the score of
    the ensemble as it stands, and for a calibrated ensemble larger by a factor :math:`1+1/M`.
    ``"almost_fair"`` is ``alpha`` times the first plus ``1 - alpha`` times the second;
    ``"adjusted"`` is the standard score to be expected of an ensemble of ``members``.

    Parameters
    ----------
    forecast : (number, ...)
        Ensemble, any unit. NaN propagates.
    observation : (...)
        Verifying values in the same unit, without ``dim``.
    dim : str
        The ensemble dimension.
    estimator : {"fair", "standard", "almost_fair", "adjusted"}
        The estimator of the second term.
    alpha : float
        For ``"almost_fair"``.
    members : int, optional
        For ``"adjusted"``.

    Returns
    -------
    (...)
        Pointwise CRPS in the forecast's unit; lazy if the input is.

    Raises
    ------
    DimensionError
        ``dim`` missing from the forecast or present in the observation
        (usually swapped arguments), or one member with another estimator than ``"standard"``.
    ValueError
        Another ``estimator``, or ``alpha`` or ``members`` that do not fit it.

    References
    ----------
    Ferro (2014), doi:10.1002/qj.2270; Ferro, Richardson and Weigel (2008), doi:10.1002/met.45, for
    the adjustment. Zamo and Naveau (2018), doi:10.1007/s11004-017-9709-7. Lang et al. (2024),
    doi:10.48550/arXiv.2412.15832, for the almost fair one.

    Examples
    --------
    >>> forecast = xr.DataArray([271.0, 273.0], dims="number")
    >>> float(crps_ensemble(forecast, xr.DataArray(272.5), estimator="standard"))
    0.5
    >>> float(crps_ensemble(forecast, xr.DataArray(272.5), estimator="fair"))
    0.0
    >>> float(crps_ensemble(forecast, xr.DataArray(272.5), estimator="adjusted", members=4))
    0.25
    """
    present = require_ensemble(forecast, observation, dim)
    factor = dispersion_factor(estimator, present, alpha=alpha, size=members)
    return pointwise(_crps, (forecast, observation), dim, most=_MOST, factor=factor)


def crps_parts(
    forecast: xr.DataArray, observation: xr.DataArray, *, dim: str = "number"
) -> xr.Dataset:
    r"""Split the CRPS: forecast above, forecast below, and spread of the members.

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
    xr.Dataset
        In the forecast's unit, lazy if the input is: ``over``,
        :math:`\frac1M\sum_i(x_i-y)^+`; ``under``, :math:`\frac1M\sum_i(y-x_i)^+`; and
        ``dispersion``, :math:`\frac1{2M(M-1)}\sum_{i,j}|x_i-x_j|`, 0 for one member. The fair
        CRPS is ``over + under - dispersion``; for others see :func:`dispersion_factor`.

    Raises
    ------
    DimensionError
        ``dim`` missing from the forecast or present in the observation.

    Examples
    --------
    >>> parts = crps_parts(xr.DataArray([271.0, 273.0], dims="number"), xr.DataArray(272.5))
    >>> [float(parts[name]) for name in ("over", "under", "dispersion")]
    [0.25, 0.75, 1.0]
    """
    require_ensemble(forecast, observation, dim)
    parts = pointwise(_parts, (forecast, observation), dim, new={"part": len(CLIPPED)})
    return xr.Dataset({name: parts.isel(part=i) for i, name in enumerate(CLIPPED)})


def threshold_weighted_crps(
    forecast: xr.DataArray,
    observation: xr.DataArray,
    *,
    threshold: float | xr.DataArray,
    above: bool = True,
    dim: str = "number",
    estimator: str = "fair",
) -> xr.DataArray:
    r"""CRPS that looks at one side of a threshold only.

    The CRPS of values clipped at the threshold, :math:`\max(x, t)` or :math:`\min(x, t)`: proper,
    unlike the CRPS of the cases in which something extreme was observed.

    Parameters
    ----------
    forecast : (number, ...)
        Ensemble, any unit. NaN propagates.
    observation : (...)
        Verifying values in the same unit, without ``dim``.
    threshold : float or (...)
        Threshold in the same unit; it may vary over dimensions of the observation.
    above : bool
        The values above the threshold matter, rather than those below.
    dim : str
        The ensemble dimension.
    estimator : {"fair", "standard"}
        See :func:`crps_ensemble`.

    Returns
    -------
    (...)
        Pointwise score in the forecast's unit; lazy if the input is.

    Raises
    ------
    DimensionError
        As for :func:`crps_ensemble`.
    ValueError
        Another estimator.

    References
    ----------
    Gneiting and Ranjan (2011), doi:10.1198/jbes.2010.08110. Allen, Ginsbourger and Ziegel (2023),
    doi:10.1137/22M1532184.

    Examples
    --------
    >>> forecast = xr.DataArray([1.0, 2.0, 4.0], dims="number")
    >>> float(threshold_weighted_crps(forecast, xr.DataArray(1.0), threshold=3.0))
    0.0
    """
    members = require_ensemble(forecast, observation, dim)
    limit = xr.DataArray(threshold)
    require_ensemble(forecast, limit, dim)
    factor = dispersion_factor(estimator, members)
    arrays = (forecast, observation, limit)
    return pointwise(_clipped_crps, arrays, dim, factor=factor, above=above)


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
    require_ensemble(forecast, observation, dim)
    return pointwise(_field, (forecast, observation), dim, name="error")


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
    origin = xr.DataArray(np.zeros((), forecast.dtype))
    if require_ensemble(forecast, origin, dim) == 1:
        raise DimensionError("the ensemble variance is undefined for one member.")
    return pointwise(_field, (forecast, origin), dim, name="variance")


def _fields(x: Array, y: Array) -> FloatArray:
    return ensemble_sums(x, y, np.empty((0, len(y))), wanted=_FIELDS_ONLY).pointwise


def _field(x: Array, y: Array, *, name: str, out: FloatArray) -> None:
    out[:] = _fields(x, y)[FIELDS.index(name)]


def _parts(x: Array, y: Array, *, out: FloatArray) -> None:
    out[:] = _fields(x, y)[: len(CLIPPED)].T


def _crps(x: Array, y: Array, *, factor: float, out: FloatArray) -> None:
    ensemble_crps(x, y, factor=factor, out=out)


def _clipped_crps(
    x: Array, y: Array, limit: Array, *, factor: float, above: bool, out: FloatArray
) -> None:
    clip = np.maximum if above else np.minimum
    ensemble_crps(clip(x, limit), clip(y, limit), factor=factor, out=out)
