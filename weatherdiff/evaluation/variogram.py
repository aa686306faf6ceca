r"""Variogram score: how right the differences between places, lead times or variables are.

.. math::
    \mathrm{VS} = \sum_{(a,b)} w_{ab} \Bigl[\bigl(|y_a-y_b|^p - \overline{|x_a-x_b|^p}\bigr)^2
    - \tfrac1M s^2_{ab}\Bigr], \qquad \sum w_{ab} = 1

with the mean over the M members and :math:`s^2_{ab}` the unbiased variance of
:math:`|x_a-x_b|^p` among them. The last term, in the fair score only, makes it unbiased for the
distribution the members are drawn from. Pairs are cells within a set of offsets of each other, not
all of them: near ones carry the information (Scheuerer and Hamill 2015). A pair's weight is the
product of those of its cells.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import DimensionError, InputError
from weatherdiff.evaluation.multivariate import check_joint, joint_weights
from weatherdiff.grid import Grid

__all__ = ["neighbour_lags", "variogram_score", "variogram_sums"]

FloatArray = npt.NDArray[np.float64]
Lag = tuple[int, ...]

# Differences worked on at a time: 1 MiB of float64.
_BLOCK_VALUES = 2**17


def variogram_score(
    forecast: xr.DataArray | xr.Dataset,
    observation: xr.DataArray | xr.Dataset,
    *,
    order: float = 0.5,
    over: Sequence[str] = ("latitude", "longitude"),
    lags: int | Sequence[Mapping[str, int]] = 2,
    weights: xr.DataArray | None = None,
    scales: Mapping[str, float] | None = None,
    estimator: str = "fair",
) -> xr.DataArray:
    """Variogram score of an ensemble over neighbours in the joined dimensions.

    Pairs with a cell without observation or with zero weight are left out; a NaN in a member makes
    the score NaN. Pairs go round the globe where the longitudes do.

    Parameters
    ----------
    forecast : (number, ...)
        Ensemble, any unit; a Dataset if variables are joined.
    observation : (...)
        Verifying values in the same unit, with all of ``over`` and without ``number``.
    order : float
        Exponent p of the differences, above zero.
    over : sequence of str
        Dimensions in which pairs are formed; ``"variable"`` pairs the variables of a Dataset. The
        rest is kept.
    lags : int, or sequence of mappings of str to int
        All pairs at most so many steps apart in each dimension (any two variables), or the offsets
        themselves, as in ``[{"longitude": 1}, {"latitude": 1, "longitude": -1}]``.
    weights : (...), optional
        Weights at least zero, over dimensions among ``over``; exact cell areas where ``over`` has
        latitude or longitude, else equal ones.
    scales : mapping of str to float, optional
        What each variable is divided by, such as its standard deviation; required if variables are
        joined, and unused else.
    estimator : {"fair", "standard"}
        Unbiased for the distribution the members are drawn from (it may then be negative), or of
        the ensemble as it stands.

    Returns
    -------
    (...)
        In the unit of the forecast to the power ``2 * order``. Float64, lazy if the input is; a
        lazy input has the joined dimensions brought into one chunk.

    Raises
    ------
    DimensionError
        ``number`` missing from the forecast or present in the observation (usually swapped
        arguments), a dimension of ``over`` missing, or ``"fair"`` with one member.
    InputError
        No pair is that close, variables or scales are missing, or weights are negative or NaN.
    ValueError
        Another ``estimator``, or ``order`` not above zero.

    References
    ----------
    Scheuerer and Hamill (2015), doi:10.1175/MWR-D-14-00269.1.

    Examples
    --------
    >>> forecast = xr.DataArray([[0.0, 1.0], [0.0, 3.0]], dims=("number", "lead_time"))
    >>> observation = xr.DataArray([0.0, 4.0], dims="lead_time")
    >>> options = {"order": 1, "over": ["lead_time"]}
    >>> float(variogram_score(forecast, observation, **options, estimator="standard"))
    4.0
    >>> float(variogram_score(forecast, observation, **options, estimator="fair"))
    3.0
    """
    if not order > 0:
        raise ValueError(f"order is {order}, expected above zero.")
    if not over or "number" in over:
        raise DimensionError(f"over is {list(over)}, expected at least one, and not 'number'.")
    if "variable" in over:
        forecast, observation = (
            _stacked(fields, forecast, scales) for fields in (forecast, observation)
        )
    if isinstance(forecast, xr.Dataset) or isinstance(observation, xr.Dataset):
        raise InputError("pass DataArrays, or Datasets with 'variable' in over.")
    check_joint(forecast, observation, "number", over, estimator)
    cells = joint_weights(forecast, over, weights)
    wraps = "longitude" in over and bool(Grid.from_dataset(forecast).is_periodic)
    periodic = list(over).index("longitude") if wraps else None
    if isinstance(lags, int):
        free = [list(over).index("variable")] if "variable" in over else []
        offsets = neighbour_lags(cells.shape, lags, periodic=periodic, free=free)
    else:
        if unknown := {name for lag in lags for name in lag} - set(over):
            raise DimensionError(f"lags have {sorted(unknown)}, not among {list(over)}.")
        offsets = [tuple(lag.get(name, 0) for name in over) for lag in lags]
    if not offsets:
        raise InputError(f"there is no pair of cells among {dict(cells.sizes)} at lags {lags}.")
    return xr.apply_ufunc(
        partial(_score, lags=offsets, periodic=periodic, order=order, fair=estimator == "fair"),
        forecast,
        observation,
        cells,
        input_core_dims=[["number", *over], [*over], [*over]],
        join="exact",  # coordinates that differ are an error, not an intersection
        keep_attrs=False,
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"allow_rechunk": True},
    )


def neighbour_lags(
    shape: Sequence[int], reach: int, *, periodic: int | None = None, free: Sequence[int] = ()
) -> list[Lag]:
    """Offsets of all pairs at most ``reach`` steps apart along each axis, each pair once.

    Parameters
    ----------
    shape : sequence of int
        Numbers of cells.
    reach : int
        Largest offset, at least zero.
    periodic : int, optional
        The axis that closes on itself.
    free : sequence of int
        Axes along which any two are paired.

    Returns
    -------
    list of tuple of int
        Of an offset and its negative only one.

    Examples
    --------
    >>> neighbour_lags((5, 8), 1)
    [(0, 1), (1, -1), (1, 0), (1, 1)]
    """
    ranges = []
    for axis, size in enumerate(shape):
        most = size - 1 if axis in free else min(reach, size - 1)
        if axis == periodic and 2 * most >= size:  # every meridian once
            ranges.append(range(-((size - 1) // 2), size // 2 + 1))
        else:
            ranges.append(range(-most, most + 1))
    found: dict[Lag, None] = {}
    for lag in itertools.product(*ranges):
        opposite = [-step for step in lag]
        if periodic is not None and 2 * lag[periodic] == shape[periodic]:
            opposite[periodic] = lag[periodic]  # half round, either way
        if any(lag) and tuple(opposite) not in found:
            found[lag] = None
    return sorted(max(lag, tuple(-step for step in lag)) for lag in found)


def variogram_sums(
    forecast: npt.NDArray[Any],
    observation: npt.NDArray[Any],
    weights: npt.NDArray[Any],
    lags: Sequence[Lag],
    *,
    periodic: int | None = None,
    order: float = 0.5,
) -> tuple[float, float, float]:
    """Sum over pairs what both estimators follow from; the sums add over fields.

    Parameters
    ----------
    forecast : (number, ...)
        Members. NaN in a cell that counts makes the sums NaN.
    observation : (...)
        Pairs with a NaN are left out.
    weights : (...)
        At least zero, zero leaves out.
    lags : sequence of tuple of int
        Offsets along each axis of the observation.
    periodic : int, optional
        The axis that closes on itself.
    order : float
        Exponent of the differences.

    Returns
    -------
    squares : float
        Weighted squared differences of the observation's and the mean of the members' variogram.
    corrections : float
        Weighted variances among the members divided by M; zero for one member.
    weight : float
        Weights of the pairs that counted. The standard score is ``squares / weight``, the fair one
        ``(squares - corrections) / weight``.

    Examples
    --------
    >>> members, observation = np.array([[0.0, 1.0], [0.0, 3.0]]), np.array([0.0, 4.0])
    >>> variogram_sums(members, observation, np.ones(2), [(1,)], order=1)
    (4.0, 1.0, 1.0)
    """
    count = len(forecast)
    counted = ~np.isnan(observation) & (weights > 0)
    totals = np.zeros(3)
    for lag in lags:
        for here, there in _shifted(observation.shape, lag, periodic):
            pair = counted[here] & counted[there]
            weight = np.where(pair, weights[here] * weights[there], 0.0)
            width = max(1, _BLOCK_VALUES // max(1, count * weight[:1].size))
            for start in range(0, len(weight), width):
                rows = slice(start, start + width)
                block = _power(forecast[:, *here][:, rows], forecast[:, *there][:, rows], order)
                seen = _power(observation[here][rows], observation[there][rows], order)
                mean = block.mean(axis=0)
                block -= mean
                variance = np.einsum("m...,m...->...", block, block) / max(1, count - 1)
                for k, field in enumerate(((seen - mean) ** 2, variance / count)):
                    kept = np.where(pair[rows], field, 0.0)
                    totals[k] += np.vdot(kept, weight[rows])
            totals[2] += weight.sum()
    return float(totals[0]), float(totals[1]), float(totals[2])


def _power(a: npt.NDArray[Any], b: npt.NDArray[Any], order: float) -> FloatArray:
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which is the answer
        apart = np.abs(np.subtract(a, b, dtype=np.float64))
    if order == 0.5:
        return np.sqrt(apart, out=apart)
    return apart if order == 1 else apart**order


def _shifted(
    shape: Sequence[int], lag: Lag, periodic: int | None
) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Slices of the first and the second cells of the pairs: two parts where they cross the seam.

    Half-way round, the pairs of one row are met twice and counted once.
    """
    options = []
    for axis, (size, step) in enumerate(zip(shape, lag, strict=True)):
        if axis == periodic:
            step %= size
        low = (slice(0, size - step), slice(step, size))
        if step < 0:
            low = (slice(-step, size), slice(0, size + step))
        both = [low]
        alone = not any(other for place, other in enumerate(lag) if place != axis)
        if axis == periodic and step and not (2 * step == size and alone):
            both.append((slice(size - step, size), slice(0, step)))
        options.append(both)
    parts = [
        (tuple(here for here, _ in each), tuple(there for _, there in each))
        for each in itertools.product(*options)
    ]
    return [part for part in parts if all(cut.stop > cut.start for cut in part[0])]


def _score(
    forecast: npt.NDArray[Any],
    observation: npt.NDArray[Any],
    weights: FloatArray,
    *,
    lags: Sequence[Lag],
    periodic: int | None,
    order: float,
    fair: bool,
) -> FloatArray:
    cells = weights.ndim
    shape = np.broadcast_shapes(
        forecast.shape[: forecast.ndim - cells - 1], observation.shape[: observation.ndim - cells]
    )
    x = np.broadcast_to(forecast, shape + forecast.shape[forecast.ndim - cells - 1 :])
    y = np.broadcast_to(observation, shape + weights.shape)
    result = np.empty(shape)
    for case in np.ndindex(shape):
        squares, corrections, weight = variogram_sums(
            x[case], y[case], weights, lags, periodic=periodic, order=order
        )
        result[case] = (squares - fair * corrections) / weight if weight else np.nan
    return result


def _stacked(
    fields: xr.Dataset | xr.DataArray,
    forecast: xr.Dataset | xr.DataArray,
    scales: Mapping[str, float] | None,
) -> xr.DataArray:
    """Variables of a data set in units of their scales, along a dimension of their own."""
    if not (isinstance(fields, xr.Dataset) and isinstance(forecast, xr.Dataset)):
        raise InputError("variables are joined of two Datasets.")
    names = list(forecast.data_vars)
    if absent := [str(name) for name in names if name not in fields.data_vars]:
        raise InputError(f"the observation lacks {', '.join(absent)}.")
    if unscaled := [str(name) for name in names if not (scales or {}).get(str(name), 0) > 0]:
        raise InputError(
            "variables are joined in units of their scales, pass scales={...} above zero for "
            f"{', '.join(unscaled)}."
        )
    if len({frozenset(fields[name].dims) for name in names}) > 1:
        raise DimensionError("joined variables must have the same dimensions.")
    return xr.concat(
        [fields[name].astype(np.float64) / (scales or {})[str(name)] for name in names],
        dim=xr.DataArray([str(name) for name in names], dims="variable", name="variable"),
    )
