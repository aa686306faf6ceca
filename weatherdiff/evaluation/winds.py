r"""Winds as vectors: errors and spread of both components together, and wind speed.

Squared errors and variances of the components add, so that

.. math::
    \mathrm{rmse} = \sqrt{\overline{(\bar u-u_y)^2 + (\bar v-v_y)^2}}, \qquad
    \mathrm{spread} = \sqrt{\overline{s_u^2 + s_v^2}}

follow from the statistics of the components; their ratio, times :math:`\sqrt{(M+1)/M}`, is 1 for a
perfect ensemble.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import InputError, UnitsError
from weatherdiff.evaluation.distances import check_estimator
from weatherdiff.evaluation.pointwise import require_ensemble

__all__ = [
    "WindPair",
    "vector_energy_parts",
    "vector_energy_score",
    "vector_scores",
    "wind_pairs",
    "with_wind_speed",
]

FloatArray = npt.NDArray[np.float64]

_COMPONENT = re.compile(r"(?P<height>\d+m_)?u_component_of_wind(?P<level>_[\d.]+)?")
# Differences worked on at a time: 512 KiB of float64, of each component.
_BLOCK_VALUES = 2**16


class WindPair(NamedTuple):
    """Names of the components of a wind, of their vector and of its speed."""

    u: str
    v: str
    vector: str
    speed: str


def wind_pairs(names: Iterable[str]) -> list[WindPair]:
    """Winds of which both components are there, as variables or as channel labels.

    Parameters
    ----------
    names : iterable of str
        Canonical names, with or without a level.

    Examples
    --------
    >>> labels = ["10m_u_component_of_wind", "10m_v_component_of_wind", "u_component_of_wind_850"]
    >>> wind_pairs(labels)[0]
    WindPair(u='10m_u_component_of_wind', v='10m_v_component_of_wind',
             vector='10m_wind', speed='10m_wind_speed')
    >>> len(wind_pairs(labels))
    1
    """
    known = list(names)
    pairs = []
    for name in known:
        match = _COMPONENT.fullmatch(name)
        if match:
            height, level = match["height"] or "", match["level"] or ""
            other = f"{height}v_component_of_wind{level}"
            if other in known:
                vector = f"{height}wind{level}"
                pairs.append(WindPair(name, other, vector, f"{height}wind_speed{level}"))
    return pairs


def with_wind_speed(ds: xr.Dataset) -> xr.Dataset:
    """Add the speed of every wind of which both components are there, unless it is there too.

    Parameters
    ----------
    ds : xr.Dataset
        Forecasts or observations with canonical names. Apply it to both.

    Returns
    -------
    xr.Dataset
        With ``wind_speed``, ``10m_wind_speed`` and so on; lazy if the components are. The speed of
        a member is that of its own wind, the mean speed not that of the mean wind.

    Raises
    ------
    UnitsError
        The components' units differ.

    Examples
    --------
    >>> ds = xr.Dataset({"10m_u_component_of_wind": 3.0, "10m_v_component_of_wind": -4.0})
    >>> float(with_wind_speed(ds)["10m_wind_speed"])
    5.0
    """
    speeds = {}
    for pair in wind_pairs(map(str, ds.data_vars)):
        units = [ds[name].attrs.get("units") for name in (pair.u, pair.v)]
        if units[0] != units[1]:
            raise UnitsError(f"{pair.u} is in {units[0]} but {pair.v} in {units[1]}.")
        if pair.speed not in ds:
            speed = xr.apply_ufunc(
                np.hypot, ds[pair.u], ds[pair.v], join="exact", dask="allowed", keep_attrs=False
            )
            speed.attrs = {"standard_name": "wind_speed", "long_name": "wind speed"}
            if units[0] is not None:
                speed.attrs["units"] = units[0]
            speeds[pair.speed] = speed
    return ds.assign(speeds)


def vector_scores(statistics: xr.Dataset) -> xr.Dataset:
    """Vector error and spread of the winds, from the sums of their components.

    Parameters
    ----------
    statistics : (variable, ..., init_time, lead_time)
        With ``sum_weight``, ``sum_squared_error`` and ``sum_variance``, and the number of members
        in ``attrs["members"]``.

    Returns
    -------
    xr.Dataset
        Over the winds as ``variable`` and the other dimensions without ``init_time``:
        ``vector_rmse`` of the ensemble mean, ``vector_spread`` and ``vector_spread_skill_ratio``
        (NaN for one member). Each component is averaged over the weights it has.

    Raises
    ------
    InputError
        No wind has both its components.

    References
    ----------
    Fortin et al. (2014), doi:10.1175/JHM-D-14-0008.1.

    Examples
    --------
    >>> names = ["u_component_of_wind_850", "v_component_of_wind_850"]
    >>> dims = ("variable", "init_time")
    >>> statistics = xr.Dataset(
    ...     {
    ...         "sum_weight": (dims, [[2.0, 2.0], [2.0, 2.0]]),
    ...         "sum_squared_error": (dims, [[10.0, 26.0], [20.0, 44.0]]),
    ...         "sum_variance": (dims, [[5.0, 13.0], [10.0, 22.0]]),
    ...     },
    ...     {"variable": names},
    ...     {"members": 1000},
    ... )
    >>> scores = vector_scores(statistics)
    >>> print(scores["variable"].values, scores["vector_rmse"].values)
    ['wind_850'] [5.]
    """
    pairs = wind_pairs(map(str, statistics["variable"].values))
    if not pairs:
        raise InputError("there is no wind with both components among the variables.")
    sums = statistics[["sum_weight", "sum_squared_error", "sum_variance"]]
    if "init_time" in sums.dims:
        sums = sums.sum("init_time", skipna=False)
    weight = sums["sum_weight"]
    means = sums.drop_vars("sum_weight") / weight.where(weight > 0)
    u, v = (
        means.sel(variable=list(names)).assign_coords(variable=[pair.vector for pair in pairs])
        for names in (tuple(p.u for p in pairs), tuple(p.v for p in pairs))
    )
    total = (u + v).drop_vars("units", errors="ignore")
    members = int(statistics.attrs["members"])
    rmse, spread = total["sum_squared_error"] ** 0.5, total["sum_variance"] ** 0.5
    if members == 1:
        spread = spread * np.nan
    ratio = ((members + 1) / members) ** 0.5 * spread / rmse.where(rmse > 0)
    return xr.Dataset(
        {"vector_rmse": rmse, "vector_spread": spread, "vector_spread_skill_ratio": ratio}
    )


def vector_energy_score(
    forecast_u: xr.DataArray,
    forecast_v: xr.DataArray,
    observation_u: xr.DataArray,
    observation_v: xr.DataArray,
    *,
    dim: str = "number",
    estimator: str = "fair",
) -> xr.DataArray:
    r"""Pointwise energy score of a wind: the CRPS with the length of vectors for absolute values.

    .. math::
        \frac1M\sum_i \lVert x_i-y \rVert - \frac1{2K}\sum_{i,j} \lVert x_i-x_j \rVert

    with :math:`K=M(M-1)` if fair and :math:`M^2` if standard.

    Parameters
    ----------
    forecast_u, forecast_v : (number, ...)
        Components of the members. NaN propagates.
    observation_u, observation_v : (...)
        Verifying components in the same unit, without ``dim``.
    dim : str
        The ensemble dimension.
    estimator : {"fair", "standard"}
        See :func:`~weatherdiff.evaluation.crps_ensemble`.

    Returns
    -------
    (...)
        In the unit of the wind; float64, lazy if the input is.

    Raises
    ------
    DimensionError
        ``dim`` missing from the forecast or present in the observation
        (usually swapped arguments), or ``"fair"`` with one member.
    ValueError
        Another ``estimator``.

    References
    ----------
    Gneiting et al. (2008), doi:10.1007/s11749-008-0114-x.

    Examples
    --------
    >>> u, v = (xr.DataArray(values, dims="number") for values in ([3.0, 0.0], [0.0, 4.0]))
    >>> calm = xr.DataArray(0.0)
    >>> float(vector_energy_score(u, v, calm, calm, estimator="standard"))
    2.25
    >>> float(vector_energy_score(u, v, calm, calm))
    1.0
    """
    for forecast, observation in ((forecast_u, observation_u), (forecast_v, observation_v)):
        check_estimator(estimator, require_ensemble(forecast, observation, dim))
    return xr.apply_ufunc(
        partial(_score, fair=estimator == "fair"),
        forecast_u,
        forecast_v,
        observation_u,
        observation_v,
        input_core_dims=[[dim], [dim], [], []],
        join="exact",  # coordinates that differ are an error, not an intersection
        keep_attrs=False,
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"allow_rechunk": True},
    )


def vector_energy_parts(u: npt.NDArray[Any], v: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    r"""Mean distance to the observation, and fair half mean distance between members.

    The fair score is their difference; the standard one subtracts :math:`1-1/M` of the second,
    which is zero for one member.

    Parameters
    ----------
    u, v : (number, point)
        Differences of the members from the observation, float64.

    Returns
    -------
    distance, dispersion : (point,)
        In the unit of the differences.
    """
    members, points = u.shape
    distance = np.sqrt(u * u + v * v).mean(axis=0)
    apart = np.zeros(points)
    for i in range(1, members):
        du, dv = u[:i] - u[i], v[:i] - v[i]
        du *= du
        dv *= dv
        du += dv
        apart += np.sqrt(du, out=du).sum(axis=0)
    return distance, apart / max(1, members * (members - 1))


def _score(
    forecast_u: npt.NDArray[Any],
    forecast_v: npt.NDArray[Any],
    observation_u: npt.NDArray[Any],
    observation_v: npt.NDArray[Any],
    *,
    fair: bool,
) -> FloatArray:
    members = forecast_u.shape[-1]
    shape = np.broadcast_shapes(
        forecast_u.shape[:-1], forecast_v.shape[:-1], observation_u.shape, observation_v.shape
    )
    pairs = [
        (np.broadcast_to(x, (*shape, members)).reshape(-1, members).T, np.broadcast_to(y, shape))
        for x, y in ((forecast_u, observation_u), (forecast_v, observation_v))
    ]
    total = int(np.prod(shape, dtype=np.int64))
    result = np.empty(total)
    step = max(1, _BLOCK_VALUES // members)
    for start in range(0, total, step):
        part = slice(start, start + step)
        with np.errstate(invalid="ignore"):  # inf - inf is NaN, which is the answer
            u, v = (
                np.ascontiguousarray(np.subtract(x[:, part], y.reshape(-1)[part], dtype=np.float64))
                for x, y in pairs
            )
            distance, dispersion = vector_energy_parts(u, v)
        result[part] = distance - (1.0 if fair else 1 - 1 / members) * dispersion
    return result.reshape(shape)
