r"""Weighted sums that add, and the scores that follow from them.

Statistics are a data set of sums over cells for each ``(variable, region, init_time, lead_time)``:
of the weights, ``sum_weight``, and of weighted pointwise values, ``sum_over`` and so on. Sums over
disjoint sets of cells or initial times add, so that any partition of the work gives the same
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

The CRPS is kept in three parts, from which every estimator follows without another pass:

.. math::
    \mathrm{over} = \frac1M\sum_i (x_i - y)^+, \quad
    \mathrm{under} = \frac1M\sum_i (y - x_i)^+, \quad
    \mathrm{dispersion} = \frac1{2M(M-1)}\sum_{i,j}|x_i - x_j|,

the fair CRPS being over + under - dispersion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.calendars import written
from weatherdiff.errors import InputError
from weatherdiff.evaluation.decomposition import hersbach_decomposition
from weatherdiff.evaluation.estimators import crps_from_parts, score_from_parts, skill
from weatherdiff.evaluation.fields import field_scores
from weatherdiff.evaluation.reliability import brier_from_tables
from weatherdiff.evaluation.totals import Total

__all__ = ["merge_statistics", "scores_from"]

# What statistics must agree on before they may be added.
_SETTINGS = ("members", "nan", "references")
CELL_DIMS = ("latitude", "longitude")
_COORDINATES = ("variable", "region", "lead_time", "cell_weight", "event", "event_threshold")


def merge_statistics(parts: Iterable[xr.Dataset]) -> xr.Dataset:
    """Join the statistics of disjoint sets of initial times.

    Parameters
    ----------
    parts : iterable of xr.Dataset
        Taken one by one. Results of :func:`~weatherdiff.evaluation.statistics` for the same
        variables, regions, lead times, events, members and references.

    Returns
    -------
    xr.Dataset
        Statistics of all initial times, ascending. Maps are added up.

    Raises
    ------
    InputError
        There is nothing to join, the parts differ in what was scored or how, or an initial time
        occurs twice and would count double.
    """
    first: xr.Dataset | None = None
    sums: list[xr.Dataset] = []
    added: dict[str, npt.NDArray[np.generic]] = {}
    for part in parts:
        if first is None:
            first = part
        else:
            _require_alike(first, part)
        sums.append(part[[name for name in part.data_vars if "init_time" in part[name].dims]])
        for name, array in part.data_vars.items():
            if name == "cell_observed" or str(name).startswith("map_"):
                combine = np.logical_or if name == "cell_observed" else np.add
                known = added.get(str(name))
                values = array.values
                added[str(name)] = values.copy() if known is None else combine(known, values, known)
    if first is None:
        raise InputError("there are no statistics to merge.")
    joined = xr.concat(
        sums, "init_time", data_vars="minimal", coords="minimal", compat="override", join="exact"
    ).sortby("init_time")
    if not joined.get_index("init_time").is_unique:
        raise InputError("an init_time is in two of the statistics to merge and would count twice.")
    constant = {name: array for name, array in first.data_vars.items() if name not in joined}
    return joined.assign(
        {
            name: array.copy(data=added.get(str(name), array.values))
            for name, array in constant.items()
        }
    )[list(first.data_vars)]


def _require_alike(first: xr.Dataset, other: xr.Dataset) -> None:
    differing = [name for name in _SETTINGS if other.attrs[name] != first.attrs[name]]
    differing += [
        name
        for name in _COORDINATES
        if (name in first) != (name in other)
        or (name in first and not np.array_equal(other[name].values, first[name].values))
    ]
    differing += sorted(map(str, set(first.data_vars) ^ set(other.data_vars)))
    if differing:
        raise InputError(f"statistics differ in {', '.join(differing)} and cannot be merged.")


def scores_from(
    statistics: xr.Dataset,
    *,
    estimator: str = "fair",
    ensemble_size: int | None = None,
    by: str | None = None,
) -> xr.Dataset:
    """Turn statistics into scores.

    Parameters
    ----------
    statistics : xr.Dataset
        Result of :func:`~weatherdiff.evaluation.statistics`, merged or with initial times selected
        (``statistics.isel(init_time=...)``).
    estimator : {"fair", "standard", "almost_fair", "adjusted"}
        Of the CRPS, see :func:`crps_from_parts`; of the Brier score the fair or, if
        ``"standard"``, the standard one. References of one member have the standard one.
    ensemble_size : int, optional
        For ``"adjusted"``.
    by : {"season", "month", "hour", "valid_season", "valid_month", "valid_hour"}, optional
        Group the initial times, or initial and lead times by their valid time. The scores get a
        dimension of that name.

    Returns
    -------
    xr.Dataset
        Scores over ``(variable[, region][, by], lead_time)``, the region left away where the whole
        grid is the only one: ``crps`` with its parts ``over``, ``under`` and ``dispersion``;
        ``rmse``, ``mse_unbiased`` (of the mean of infinitely many members), ``bias`` and ``mae`` of
        the ensemble mean; ``spread``, ``spread_skill_ratio``, ``rank_histogram`` (with ``rank``,
        weighted, relative to its sum), ``coverage`` (share of the weight and initial times, of the
        cells ever observed, where observation, forecast and references are all there),
        ``missing_valid_times`` (lead_time), and for each reference ``crps_NAME``, ``crpss_NAME``
        (NaN if the reference is perfect) and ``rmse_NAME``. With events, over ``event`` too:
        ``brier``, ``threshold_weighted_crps``, ``base_rate``, ``brier_NAME`` and
        ``brier_skill_NAME``. With a climatology: ``acc``, the anomaly correlation pooled over
        cells and initial times. With the decomposition: ``crps_reliability`` and
        ``crps_potential`` of the standard CRPS, and, if there is a reference ``climatology``, its
        standard CRPS ``crps_uncertainty`` and ``crps_resolution`` from it. The statistics
        themselves are kept beside them.

    Raises
    ------
    InputError
        The statistics hold no initial time.
    ValueError, DimensionError
        See :func:`crps_from_parts`, or an unknown ``by``.
    """
    if statistics.sizes.get("init_time", 0) == 0:
        raise InputError("the statistics hold no initial time.")
    members = int(statistics.attrs["members"])
    total = Total(statistics, by)
    weight = total("sum_weight")
    weight = weight.where(weight > 0)

    def mean(name: str) -> xr.DataArray:
        return total(f"sum_{name}") / weight

    def crps(suffix: str = "", count: int = members) -> xr.DataArray:
        parts = [mean(f"{part}{suffix}") for part in ("over", "under", "dispersion")]
        return score_from_parts(
            parts, members=count, reference=bool(suffix), estimator=estimator,
            ensemble_size=ensemble_size,
        )  # fmt: skip

    scores = {"crps": crps()}
    for part in ("over", "under", "dispersion"):
        scores[part] = mean(part).assign_attrs(long_name=f"part of the CRPS: {part}")
    squared, variance = mean("squared_error"), mean("variance")
    rmse, spread = squared**0.5, variance**0.5
    ratio = ((members + 1) / members) ** 0.5 * spread / rmse.where(rmse > 0)
    scores |= {
        "rmse": rmse.assign_attrs(long_name="root mean square error of the ensemble mean"),
        "mse_unbiased": (squared - variance / members).assign_attrs(
            long_name="mean square error of the mean of infinitely many members"
        ),
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
        "coverage": _coverage(statistics, total),
        "missing_valid_times": (~statistics["valid_time_found"]).sum("init_time"),
    }
    for name in statistics.attrs["references"]:
        count = int(statistics[f"sum_over_{name}"].attrs["members"])
        reference = crps(f"_{name}", count).assign_attrs(members=count)
        scores[f"crps_{name}"] = reference
        scores[f"crpss_{name}"] = skill(scores["crps"], reference, f"CRPS skill against {name}")
        scores[f"rmse_{name}"] = mean(f"squared_error_{name}") ** 0.5
    if "sum_anomaly_product" in statistics:
        size = (mean("anomaly_forecast") * mean("anomaly_observation")) ** 0.5
        scores["acc"] = (mean("anomaly_product") / size.where(size > 0)).assign_attrs(
            long_name="anomaly correlation, pooled over cells and initial times", units="1"
        )
    if "sum_alpha" in statistics:
        scores |= _calibration(statistics, mean)
    if "sum_event_count" in statistics:
        scores |= _event_scores(total, weight, members, estimator, ensemble_size)
    scores |= field_scores(total, estimator=estimator, ensemble_size=ensemble_size)
    scores = {name: _without_lone_region(score) for name, score in scores.items()}
    inits = statistics["init_time"].values
    inits = inits if inits.dtype == object else inits.astype("datetime64[s]")
    period = "/".join(written(time, "s") for time in (inits.min(), inits.max()))
    attrs = {"inits": len(inits), "period": period, "estimator": estimator}
    return statistics.drop_vars(scores, errors="ignore").assign(scores).assign_attrs(attrs)


def _coverage(statistics: xr.Dataset, total: Total) -> xr.DataArray:
    cells = statistics["cell_observed"]
    possible = (cells * statistics["cell_weight"]).sum(CELL_DIMS)
    ones = xr.ones_like(statistics["sum_complete"])
    share = total("sum_complete") / (total(ones) * possible.where(possible > 0))
    # Two sums of the same weights, added in another order: whole is whole.
    return share.round(12).assign_attrs(
        long_name="share of observed cells and initial times with observation, forecast "
        "and references",
        units="1",
    )


def _calibration(
    statistics: xr.Dataset, mean: Callable[[str], xr.DataArray]
) -> dict[str, xr.DataArray]:
    """Reliability and potential of the standard CRPS; resolution if there is a climatology."""
    uncertainty = None
    if "climatology" in statistics.attrs["references"]:
        members = int(statistics["sum_over_climatology"].attrs["members"])
        parts = [mean(f"{part}_climatology") for part in ("over", "under", "dispersion")]
        uncertainty = crps_from_parts(*parts, members=members, estimator="standard")
    parts_of = hersbach_decomposition(
        mean("alpha"), mean("beta"), mean("rank"), uncertainty=uncertainty
    )
    names = ("reliability", "potential", "resolution", "uncertainty")
    return {f"crps_{name}": parts_of[name] for name in names if name in parts_of}


def _event_scores(
    total: Total,
    weight: xr.DataArray,
    members: int,
    estimator: str,
    ensemble_size: int | None,
) -> dict[str, xr.DataArray]:
    count, occurred = total("sum_event_count"), total("sum_event_occurred")
    size = ensemble_size if estimator == "adjusted" else None
    brier = brier_from_tables(count, occurred, estimator=estimator, members=size)
    parts = [total(f"sum_event_{part}") / weight for part in ("over", "under", "dispersion")]
    crps = crps_from_parts(
        *parts, members=members, estimator=estimator, ensemble_size=ensemble_size
    )
    occurring, points = occurred.sum("count", skipna=False), count.sum("count", skipna=False)
    scores = {
        "brier": brier.assign_attrs(estimator=estimator, units="1"),
        "base_rate": (occurring / points.where(points > 0)).assign_attrs(units="1"),
        "threshold_weighted_crps": crps.assign_attrs(estimator=estimator),
    }
    for name in total.statistics.attrs["references"]:
        of_one = total.statistics[f"sum_brier_{name}"].attrs["members"] == 1
        kind = "brier" if of_one or estimator == "standard" else "brier_fair"
        reference = total(f"sum_{kind}_{name}") / weight
        scores[f"brier_{name}"] = reference.assign_attrs(units="1")
        scores[f"brier_skill_{name}"] = skill(brier, reference, f"Brier skill against {name}")
    return scores


def _without_lone_region(score: xr.DataArray) -> xr.DataArray:
    if "region" in score.dims and score.sizes["region"] == 1:
        return score.isel(region=0, drop=True)
    return score
