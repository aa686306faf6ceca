r"""Weighted sums that add, and the scores that follow from them.

Statistics are a data set of sums over cells for each ``(variable, init_time, lead_time)``: of the
area weights, ``sum_weight``, and of the weighted pointwise scores, ``sum_crps`` and so on. Sums
over disjoint sets of cells or initial times add, so that any partition of the work gives the same
result. Every nonlinear step (root, ratio, skill) comes last, in :func:`scores_from`: roots are
never averaged.

.. math::
    \mathrm{rmse} = \sqrt{\overline{(\bar x - y)^2}}, \quad
    \mathrm{spread} = \sqrt{\overline{s^2}}, \quad
    \mathrm{ratio} = \sqrt{\tfrac{M+1}{M}}\,\mathrm{spread} / \mathrm{rmse}, \quad
    \mathrm{skill} = 1 - \overline{\mathrm{crps}} / \overline{\mathrm{crps}_\mathrm{reference}}

with bars over cells and initial times, :math:`s^2` the unbiased variance of the M members. The
factor makes the ratio of a perfect ensemble 1 for every M (Fortin et al. 2014,
doi:10.1175/JHM-D-14-0008.1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import InputError

__all__ = ["merge_statistics", "scores_from", "sum_over_cells"]

# What statistics must agree on before they may be added.
_SETTINGS = ("members", "estimator", "nan", "references")


def sum_over_cells(
    field: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    counted: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    """Weighted sum over the last two dimensions, of the counted cells only.

    Parameters
    ----------
    field : (..., latitude, longitude)
        Pointwise scores. NaN in a counted cell makes the sum NaN.
    weights : (latitude, longitude)
        Relative areas.
    counted : (..., latitude, longitude)
        Cells that enter the sum.

    Returns
    -------
    (...)
        Sums, each independent of the others to the last bit.

    Examples
    --------
    >>> field = np.array([[[1.0, 2.0], [3.0, np.nan]]])
    >>> sum_over_cells(field, np.array([[1.0, 1.0], [2.0, 2.0]]), ~np.isnan(field))
    array([9.])
    """
    # In C order whatever the input's: numpy adds in the order of the memory.
    weighted = np.ascontiguousarray(np.where(counted, field, 0.0) * weights)
    return weighted.reshape(*weighted.shape[:-2], -1).sum(axis=-1)


def merge_statistics(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Join the statistics of disjoint sets of initial times.

    Parameters
    ----------
    parts : sequence of xr.Dataset
        Results of :func:`~weatherdiff.evaluation.statistics` for the same variables, lead times,
        members, estimator and references.

    Returns
    -------
    xr.Dataset
        Statistics of all initial times, ascending.

    Raises
    ------
    InputError
        There is nothing to join, the parts differ in what was scored or how, or an initial time
        occurs twice and would count double.
    """
    if not parts:
        raise InputError("there are no statistics to merge.")
    first = parts[0]
    for other in parts[1:]:
        differing = [name for name in _SETTINGS if other.attrs[name] != first.attrs[name]]
        differing += [
            name
            for name in ("variable", "lead_time", "cell_weight")
            if not np.array_equal(other[name].values, first[name].values)
        ]
        if differing:
            raise InputError(f"statistics differ in {', '.join(differing)} and cannot be merged.")
    joined = xr.concat(
        parts, "init_time", data_vars="minimal", coords="minimal", compat="override", join="exact"
    ).sortby("init_time")
    if not joined.get_index("init_time").is_unique:
        raise InputError("an init_time is in two of the statistics to merge and would count twice.")
    observed = np.logical_or.reduce([part["cell_observed"].values for part in parts])
    return joined.assign(cell_observed=first["cell_observed"].copy(data=observed))


def scores_from(statistics: xr.Dataset) -> xr.Dataset:
    """Turn statistics into scores.

    Parameters
    ----------
    statistics : xr.Dataset
        Result of :func:`~weatherdiff.evaluation.statistics`, merged or with initial times selected
        (``statistics.isel(init_time=...)``, a season, a bootstrap sample).

    Returns
    -------
    xr.Dataset
        Scores over ``(variable, lead_time)``: ``crps``, ``rmse``, ``bias`` and ``mae`` of the
        ensemble mean, ``spread``, ``spread_skill_ratio``, ``rank_histogram`` (with ``rank``, area
        weighted, relative to its sum), ``coverage`` (share of the area and initial times, of the
        cells ever observed, where observation, forecast and references are all there),
        ``missing_valid_times`` (lead_time), and for each reference ``crps_NAME`` and ``crpss_NAME``
        (NaN if the reference is perfect). The statistics themselves are kept beside them.

    Raises
    ------
    InputError
        The statistics hold no initial time.
    """
    if statistics.sizes.get("init_time", 0) == 0:
        raise InputError("the statistics hold no initial time.")
    members = int(statistics.attrs["members"])
    weight = _total(statistics["sum_weight"])
    weight = weight.where(weight > 0)

    def mean(name: str) -> xr.DataArray:
        return _total(statistics[f"sum_{name}"]) / weight

    crps = mean("crps")
    rmse = mean("squared_error") ** 0.5
    spread = mean("variance") ** 0.5
    ratio = ((members + 1) / members) ** 0.5 * spread / rmse.where(rmse > 0)
    scores = {
        "crps": crps.assign_attrs(estimator=statistics.attrs["estimator"]),
        "rmse": rmse.assign_attrs(long_name="root mean square error of the ensemble mean"),
        "spread": spread.assign_attrs(long_name="root mean unbiased ensemble variance"),
        "spread_skill_ratio": ratio.assign_attrs(
            long_name="sqrt((members + 1) / members) * spread / rmse", units="1"
        ),
        "bias": mean("error").assign_attrs(long_name="mean error of the ensemble mean"),
        "mae": mean("absolute_error").assign_attrs(
            long_name="mean absolute error of the ensemble mean"
        ),
        "rank_histogram": mean("rank").assign_attrs(
            long_name="relative frequency of the observation's rank", units="1"
        ),
        "coverage": _coverage(statistics),
        "missing_valid_times": (~statistics["valid_time_found"]).sum("init_time"),
    }
    for name in statistics.attrs["references"]:
        reference = mean(f"crps_{name}")
        scores[f"crps_{name}"] = reference.assign_attrs(statistics[f"sum_crps_{name}"].attrs)
        scores[f"crpss_{name}"] = (1 - crps / reference.where(reference > 0)).assign_attrs(
            long_name=f"CRPS skill score against {name}", units="1"
        )
    inits = statistics["init_time"].values.astype("datetime64[s]")
    attrs = {"inits": len(inits), "period": f"{inits.min()}/{inits.max()}"}
    return statistics.assign(scores).assign_attrs(attrs)


def _total(sums: xr.DataArray) -> xr.DataArray:
    # C order again, so that any partition gives the same bits.
    return sums.reduce(lambda a, axis: np.ascontiguousarray(a).sum(axis=axis), "init_time")


def _coverage(statistics: xr.Dataset) -> xr.DataArray:
    cells = statistics["cell_observed"]
    possible = sum_over_cells(np.ones(cells.shape), statistics["cell_weight"].values, cells.values)
    share = statistics["sum_complete"] / xr.DataArray(possible, dims="variable")
    return share.mean("init_time", skipna=False).assign_attrs(
        long_name="share of observed cells and initial times with observation, forecast "
        "and references",
        units="1",
    )
