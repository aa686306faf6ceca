r"""Reliability, resolution and uncertainty of the CRPS (Hersbach 2000).

The sorted members :math:`x_1 \le \ldots \le x_M` cut the axis into M + 1 intervals. In interval
i, below which i members lie, :math:`\alpha_i` is the length to the left of the observation and
:math:`\beta_i` the length to its right (the outer intervals end at the observation). With
:math:`p_i = i/M` the standard CRPS is

.. math:: \sum_{i=0}^M \alpha_i\,p_i^2 + \beta_i\,(1-p_i)^2

and so is its average, of the averages :math:`\bar\alpha_i` and :math:`\bar\beta_i`. An interval of
average width :math:`\bar g_i` below which the observation lies with frequency :math:`\bar o_i`
gives

.. math:: \mathrm{reliability} = \sum_i \bar g_i(\bar o_i-p_i)^2, \quad
          \mathrm{potential} = \sum_i \bar g_i\,\bar o_i(1-\bar o_i)

where :math:`\bar g_i = \bar\alpha_i+\bar\beta_i` and :math:`\bar o_i = \bar\beta_i/\bar g_i`
inside; outside :math:`\bar o_0` and :math:`1-\bar o_M` are the frequencies of observations beyond
all members, :math:`\bar g_0 = \bar\beta_0/\bar o_0` and :math:`\bar g_M=\bar\alpha_M/(1-\bar o_M)`.
Their sum is the average CRPS exactly. The averages add over points and times.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import DimensionError, InputError
from weatherdiff.evaluation.pointwise import require_ensemble

__all__ = ["hersbach_decomposition", "hersbach_distances", "sample_climatology_crps"]

FloatArray = npt.NDArray[np.float64]


def hersbach_distances(
    forecast: xr.DataArray, observation: xr.DataArray, *, dim: str = "number"
) -> xr.Dataset:
    """Lengths between sorted members on either side of the observation, of each point.

    Parameters
    ----------
    forecast : (number, ...)
        Ensemble of M members, any unit.
    observation : (...)
        Verifying values in the same unit, without ``dim``.
    dim : str
        The ensemble dimension.

    Returns
    -------
    xr.Dataset, (..., rank)
        ``alpha`` and ``beta`` over ``rank`` = 0..M in the forecast's unit. NaN in a member or the
        observation makes every rank NaN. Lazy if the input is.

    Raises
    ------
    DimensionError
        ``dim`` missing from the forecast or present in the observation.

    Examples
    --------
    >>> forecast = xr.DataArray([1.0, 2.0, 4.0], dims="number")
    >>> intervals = hersbach_distances(forecast, xr.DataArray(3.5))
    >>> print(intervals["alpha"].values, intervals["beta"].values)
    [0.  1.  1.5 0. ] [0.  0.  0.5 0. ]
    """
    ranks = require_ensemble(forecast, observation, dim) + 1
    alpha, beta = xr.apply_ufunc(
        _intervals,
        forecast,
        observation,
        input_core_dims=[[dim], []],
        output_core_dims=[["rank"], ["rank"]],
        join="exact",
        keep_attrs=False,
        dask="parallelized",
        output_dtypes=[np.float64, np.float64],
        dask_gufunc_kwargs={"output_sizes": {"rank": ranks}, "allow_rechunk": True},
    )
    return xr.Dataset({"alpha": alpha, "beta": beta}).assign_coords(rank=np.arange(ranks))


def hersbach_decomposition(
    alpha: xr.DataArray,
    beta: xr.DataArray,
    rank_histogram: xr.DataArray,
    *,
    uncertainty: xr.DataArray | float | None = None,
) -> xr.Dataset:
    """Reliability and potential, or resolution, of the standard CRPS.

    Pool first, then decompose: the parts of two halves of the cases do not average to those of the
    whole. The reliability of a perfect ensemble is not zero: members that claim to hold every
    observation miss 2 in M + 1 of them, which for Gaussian distributions makes it about
    1.5 / M² of the CRPS (1.4% for 10 members, 0.06% for 50). It is too large from few cases, by
    sampling alone, and where members tie with the observation at the end of the ensemble (dry
    cells, dark hours), as the rank histogram spreads those over the ranks. The sum of both parts
    is exact all the same.

    Parameters
    ----------
    alpha, beta : (..., rank)
        Averages over the cases of :func:`hersbach_distances`. NaN propagates.
    rank_histogram : (..., rank)
        Relative frequency, or weight, of the ranks of the same cases.
    uncertainty : (...) or float, optional
        CRPS of the climatology that resolution is reckoned from, such as
        :func:`sample_climatology_crps`, or the standard CRPS of a climatological ensemble.

    Returns
    -------
    xr.Dataset, (...)
        ``reliability`` (0 is best) and ``potential``, the CRPS of the ensemble made reliable, in
        the unit of ``alpha``; with reliability + potential = standard CRPS. With ``uncertainty``,
        that and ``resolution`` = uncertainty - potential too. ``interval_width`` and
        ``observed_frequency`` (..., rank) are what they are made of, the latter to be compared
        with ``rank`` / M; it is NaN in intervals of no width.

    Raises
    ------
    DimensionError
        An array lacks ``rank``, or they differ in size, or there are fewer than two ranks.

    References
    ----------
    Hersbach (2000), doi:10.1175/1520-0434(2000)015<0559:DOTCRP>2.0.CO;2.

    Examples
    --------
    >>> forecast = xr.DataArray([[0.0, 0.0], [2.0, 1.0]], dims=("number", "case"))
    >>> observation = xr.DataArray([1.0, 3.0], dims="case")
    >>> from weatherdiff.evaluation import rank_of_observation
    >>> mean = hersbach_distances(forecast, observation).mean("case")
    >>> ranks = rank_of_observation(forecast, observation).mean("case")
    >>> parts = hersbach_decomposition(mean["alpha"], mean["beta"], ranks, uncertainty=0.5)
    >>> {name: round(float(parts[name]), 4) for name in ("reliability", "potential", "resolution")}
    {'reliability': 0.5417, 'potential': 0.8333, 'resolution': -0.3333}
    """
    sizes = {array.sizes.get("rank", 0) for array in (alpha, beta, rank_histogram)}
    if len(sizes) > 1 or min(sizes) < 2:
        raise DimensionError(
            f"alpha, beta and the rank histogram have {sorted(sizes)} ranks, expected one number "
            "of at least two."
        )
    alpha, beta, rank_histogram = (
        array.drop_vars("rank", errors="ignore") for array in (alpha, beta, rank_histogram)
    )
    with xr.set_options(arithmetic_join="exact", keep_attrs=False):
        frequency = rank_histogram / rank_histogram.sum("rank", skipna=False)
        width, below = _observed(alpha, beta, frequency)
        rank = xr.DataArray(np.arange(alpha.sizes["rank"]), dims="rank")
        wanted = rank / (alpha.sizes["rank"] - 1)
        # A width of zero has no frequency, and no part in the sums.
        frequency_or_any = below.where(width != 0, 0.0)
        parts = {
            "reliability": width * (frequency_or_any - wanted) ** 2,
            "potential": width * frequency_or_any * (1 - frequency_or_any),
        }
        result = {name: part.sum("rank", skipna=False) for name, part in parts.items()}
        if uncertainty is not None:
            result["uncertainty"] = xr.zeros_like(result["potential"]) + uncertainty
            result["resolution"] = uncertainty - result["potential"]
    intervals = {"interval_width": width, "observed_frequency": below}
    return xr.Dataset({**result, **intervals}).assign_coords(rank=rank)


def sample_climatology_crps(
    observations: xr.DataArray,
    *,
    weights: xr.DataArray | None = None,
    dim: Hashable | Sequence[Hashable] | None = None,
) -> xr.DataArray:
    r"""CRPS of the observations' own distribution as the forecast of each of them.

    .. math:: \int F(y)\,(1-F(y))\,dy

    with the empirical distribution F of the sample: the uncertainty of Hersbach (2000). One
    distribution serves all points of ``dim``, so that over many cells it also holds how they
    differ; the CRPS of a climatology of each cell is smaller and the stricter measure.

    Parameters
    ----------
    observations : (...)
        Values in any unit, not chunked along ``dim``. NaN propagates unless its weight is zero.
    weights : (...), optional
        At least zero; equal unless given.
    dim : dimension or sequence of them, optional
        The sample; all dimensions unless given.

    Returns
    -------
    (...) without ``dim``
        In the unit of the observations; NaN without weight.

    Raises
    ------
    DimensionError
        ``dim`` is not a dimension of the observations.
    InputError
        Weights are negative or NaN.

    Examples
    --------
    >>> float(sample_climatology_crps(xr.DataArray([1.0, 3.0], dims="time")))
    0.5
    """
    if dim is None:
        dims: list[Hashable] = list(observations.dims)
    else:
        dims = [dim] if isinstance(dim, str) or not isinstance(dim, Sequence) else list(dim)
    unknown = [name for name in dims if name not in observations.dims]
    if unknown:
        raise DimensionError(f"observations have no dimension {unknown} among {observations.dims}.")
    if weights is None:
        weights = xr.ones_like(observations, dtype=np.float64)
    with xr.set_options(arithmetic_join="exact"):
        weights = weights * xr.ones_like(observations, dtype=np.float64)
    return xr.apply_ufunc(
        _sample_crps,
        observations,
        weights,
        input_core_dims=[dims, dims],
        kwargs={"core": len(dims)},
        join="exact",
        keep_attrs=False,
        dask="parallelized",
        output_dtypes=[np.float64],
    )


def _intervals(forecast: npt.NDArray[Any], observation: npt.NDArray[Any]) -> Any:
    # Differences in float64 first, as in weatherdiff.evaluation.scores.
    d = np.sort(np.subtract(forecast, observation[..., np.newaxis], dtype=np.float64), axis=-1)
    # The outer intervals end at the observation, which is the origin.
    left = np.concatenate([np.minimum(d[..., :1], 0.0), d], axis=-1)
    right = np.concatenate([d, np.maximum(d[..., -1:], 0.0)], axis=-1)
    alpha = np.maximum(np.minimum(right, 0.0) - left, 0.0)
    beta = np.maximum(right - np.maximum(left, 0.0), 0.0)
    alpha[..., 0] = beta[..., -1] = 0.0
    missing = np.isnan(d).any(axis=-1)
    alpha[missing] = beta[missing] = np.nan
    return alpha, beta


def _observed(
    alpha: xr.DataArray, beta: xr.DataArray, frequency: xr.DataArray
) -> tuple[xr.DataArray, xr.DataArray]:
    """Widths of the intervals, and how often the observation lies below them."""
    last = alpha.sizes["rank"] - 1
    inner = slice(1, last)
    width = alpha + beta
    below = beta / width.where(width > 0)
    lowest, lacking = frequency.isel(rank=[0]), beta.isel(rank=[0])
    highest, exceeding = frequency.isel(rank=[last]), alpha.isel(rank=[last])
    widths = [
        (lacking / lowest.where(lowest > 0)).where(lacking != 0, 0.0),
        width.isel(rank=inner),
        (exceeding / highest.where(highest > 0)).where(exceeding != 0, 0.0),
    ]
    frequencies = [lowest, below.isel(rank=inner), 1 - highest]
    joined = [
        xr.concat(parts, "rank", coords="minimal", compat="override", join="exact")
        for parts in (widths, frequencies)
    ]
    return joined[0], joined[1].where(joined[0] != 0)


def _sample_crps(values: npt.NDArray[Any], weights: FloatArray, *, core: int) -> FloatArray:
    shape = values.shape[: values.ndim - core]
    y = values.reshape(*shape, -1).astype(np.float64)
    w = np.broadcast_to(weights, values.shape).reshape(*shape, -1)
    if not np.all(w >= 0):
        raise InputError("weights are negative or NaN.")
    order = np.argsort(y, axis=-1)
    y, w = (np.take_along_axis(array, order, axis=-1) for array in (y, w))
    total = w.sum(axis=-1, keepdims=True)
    below = np.cumsum(w, axis=-1) / np.where(total > 0, total, np.nan)
    # From the other end for the rest: 1 - F would leave rounding where it should be zero.
    above = np.cumsum(w[..., ::-1], axis=-1)[..., ::-1] / np.where(total > 0, total, np.nan)
    parts = below[..., :-1] * above[..., 1:] * np.diff(y, axis=-1)
    # NaN, sorted last, has a part of zero only where it has no weight.
    unknown = (np.isnan(y) & (w > 0)).any(axis=-1)
    parts = np.where(np.isnan(y[..., 1:]) & ~np.isnan(total), 0.0, parts)
    result = parts.sum(axis=-1)
    return np.where(unknown | (total[..., 0] == 0), np.nan, result)
