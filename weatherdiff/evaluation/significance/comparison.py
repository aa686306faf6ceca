"""Is one forecast better than another? Differences with intervals that hold."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.evaluation.significance.pairing import in_order, pair
from weatherdiff.evaluation.significance.pooled import SCORES, PooledScore, influence, pool
from weatherdiff.evaluation.significance.series import (
    MINIMUM_LENGTH,
    TESTS,
    mean_distribution,
)

__all__ = ["compare"]

FloatArray = npt.NDArray[np.float64]

# Relative: the same cells added up in another order are the same cells.
_ROUNDING = 1e-12
_DEPENDENCE = {"positive": "bh", "any": "by"}
_RESULTS = ("first", "second", "lower", "upper", "p_value", "effective_sample_size", "pairs")


def compare(
    first: xr.Dataset,
    second: xr.Dataset | str,
    *,
    score: str = "crps",
    estimator: str = "fair",
    test: str = "adaptive",
    level: float = 0.95,
    dependence: str = "positive",
) -> xr.Dataset:
    r"""Compare the scores of two models, or of a model and one of its references.

    Two models are compared on the variables, regions, lead times and initial times that both
    have. An initial time for which the two were scored on different cells, so that the sums of
    weights differ, is left out and counted. The score is pooled over what remains; the difference
    is first minus second, tested for zero on the series of what each initial time adds to it.

    Autocorrelation is accounted for, see :mod:`weatherdiff.evaluation.significance.series`. Initial
    times are taken as a series in their order: where some are missing, autocorrelation is that of
    neighbours in the series, a mean over the spacings that occur. Interval and p-value are of one
    statistic: the p-value is below ``1 - level`` exactly where the interval leaves out zero.

    Parameters
    ----------
    first : xr.Dataset
        Statistics of a model, sums for each initial time, as
        :func:`~weatherdiff.evaluation.statistics` makes them.
    second : xr.Dataset or str
        Statistics of another model scored with the same observations, or the name of a reference
        in ``first``.
    score : str
        See :class:`PooledScore`. Events, where the score has them, are a dimension of the result.
    estimator : {"fair", "standard", "almost_fair"}
        Estimator of CRPS and Brier score. Ensembles of different size are compared with the fair
        one alone. The error of an ensemble mean depends on the number of members as it stands;
        ``score="mse_unbiased"`` does not.
    test : {"adaptive", "ewc", "independent"}
        The first is the one to trust. The equal-weighted cosine estimator of Lazarus et al. (2018)
        rejects too often if differences are persistent, the plain t-test if they are at all
        autocorrelated.
    level : float
        Confidence of the interval; ``1 - level`` is the accepted share of false discoveries.
    dependence : {"positive", "any"}
        Dependence allowed among the cells of the scorecard: q-values of Benjamini and Hochberg
        (1995), or the more cautious ones of Benjamini and Yekutieli (2001).

    Returns
    -------
    xr.Dataset
        Over ``(variable, [region], lead_time, [event])``: pooled scores ``first`` and ``second``;
        ``difference``; ``relative_difference``, to second; ``skill``, its negative (NaN for scores
        of which lower is not better); ``lower`` and ``upper`` bound of the difference; ``p_value``;
        ``q_value``, the p-value adjusted for all cells of the scorecard; ``significant``, where the
        q-value is at most ``1 - level``; ``effective_sample_size``, the number of independent
        initial times that would tell as much; ``pairs``, initial times compared; ``left_out``,
        initial times both have but scored on different cells. Below 8 pairs, or if the
        difference never varies, there is no test and everything of it is NaN; the attribute
        ``untested`` of ``p_value`` tells why. Equal scores have the p-value 1.

    Raises
    ------
    GridMismatchError, UnitsError
        Grids or units differ.
    InputError
        Nothing is in common, the ensembles differ in size and the estimator is not fair, the
        observations differ, or the statistics lack what the score needs.
    ValueError
        An unknown option.

    References
    ----------
    Benjamini and Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x. Benjamini and Yekutieli
    (2001), doi:10.1214/aos/1013699998. Lazarus, Lewis, Stock and Watson (2018),
    doi:10.1080/07350015.2018.1506926. Wilks (2016), doi:10.1175/BAMS-D-15-00267.1.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> dims = ("variable", "region", "init_time", "lead_time")
    >>> coords = {
    ...     "variable": ["t"],
    ...     "region": ["all"],
    ...     "init_time": np.datetime64("2020-01-01", "ns") + np.arange(60) * np.timedelta64(1, "D"),
    ...     "lead_time": np.array([24], dtype="timedelta64[h]").astype("timedelta64[ns]"),
    ... }
    >>> error = 5 + rng.normal(size=(1, 1, 60, 1))
    >>> ours, theirs = (
    ...     xr.Dataset(
    ...         {"sum_weight": (dims, np.ones(error.shape)), "sum_squared_error": (dims, values)},
    ...         coords,
    ...     )
    ...     for values in (error, error + rng.normal(0.5, 0.5, size=error.shape))
    ... )
    >>> found = compare(ours, theirs, score="mse")
    >>> bool(found["significant"].all()), found["skill"].values.round(2).tolist()
    (True, [[0.09]])
    """
    scored = PooledScore(score, estimator)
    if test not in TESTS:
        raise ValueError(f"test is {test!r}, expected one of {', '.join(TESTS)}.")
    if dependence not in _DEPENDENCE:
        raise ValueError(f"dependence is {dependence!r}, expected 'positive' or 'any'.")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, expected a number between 0 and 1.")
    if isinstance(second, str):
        if second not in first.attrs.get("references", []):
            raise InputError(
                f"{second} is none of the references of the statistics, "
                f"{list(first.attrs.get('references', []))}."
            )
        ours = theirs = in_order(first)
        scores = [scored, PooledScore(score, estimator, reference=second)]
        alone: dict[str, int] = {}
    else:
        ours, theirs, alone = pair(first, second, estimator=estimator)
        scores = [scored, scored]
    result = _compare(ours, theirs, scores, test, level)
    _adjust(result, level, _DEPENDENCE[dependence])
    if result.sizes.get("region") == 1 and result["region"].values[0] == "all":
        result = result.isel(region=0, drop=True)
    return result.assign_attrs(
        score=score,
        better=SCORES[score],
        estimator=estimator,
        test=test,
        level=level,
        dependence=dependence,
        second=second if isinstance(second, str) else "statistics",
        **alone,
    )


def _compare(
    ours: xr.Dataset, theirs: xr.Dataset, scores: list[PooledScore], test: str, level: float
) -> xr.Dataset:
    """Compare cell by cell of the scorecard, without the adjustment for their number."""
    parts = [score.parts(ds) for score, ds in zip(scores, (ours, theirs), strict=True)]
    dims: list[Hashable] = [dim for dim in parts[0][0].dims if dim != "init_time"]
    # Positions were matched by label: values alone, so that nothing is aligned again.
    template = parts[0][0].isel(init_time=0, drop=True).drop_attrs()
    template = template.drop_vars(set(template.coords) - {*dims, "units"})
    inits = ours.sizes["init_time"]
    weights = [_rows(ds["sum_weight"], template, dims, inits) for ds in (ours, theirs)]
    sums = [[_rows(part, template, dims, inits) for part in of_model] for of_model in parts]
    if "event" in dims:
        _require_same_events(ours, theirs)
    same = _same(weights[0], weights[1])
    used = same & (weights[0] > 0)
    values = {name: np.full(len(used), np.nan) for name in _RESULTS}
    values["pairs"] = used.sum(axis=-1).astype(np.float64)
    # Cells of the scorecard with the same initial times make one array.
    patterns, members = np.unique(used, axis=0, return_inverse=True)
    for p, pattern in enumerate(patterns):
        rows = np.flatnonzero(members.ravel() == p)
        if pattern.any():
            here = [[part[rows][:, pattern] for part in of_model] for of_model in sums]
            found = _tested(here, weights[0][rows][:, pattern], scores, test, level)
            for name, value in found.items():
                values[name][rows] = value

    def fill(value: npt.NDArray[np.generic]) -> xr.DataArray:
        return template.copy(data=value.reshape(template.shape))

    result = xr.Dataset({name: fill(value) for name, value in values.items()})
    result["pairs"] = result["pairs"].astype(np.int64)
    result["left_out"] = fill((~same).sum(axis=-1))
    first, second = result["first"], result["second"]
    result["difference"] = first - second
    result["relative_difference"] = result["difference"] / abs(second).where(second != 0)
    lower_is_better = SCORES[scores[0].score] == "lower"
    result["skill"] = -result["relative_difference"].where(lower_is_better)
    return result


def _tested(
    sums: list[list[FloatArray]],
    weight: FloatArray,
    scores: list[PooledScore],
    test: str,
    level: float,
) -> dict[str, FloatArray]:
    """Pooled scores and the test, for (cell, init_time) sums without gaps."""
    first, second = (
        score.of_means(*pool(parts, weight)) for score, parts in zip(scores, sums, strict=True)
    )
    difference = first - second
    found = {"first": first, "second": second}
    if weight.shape[-1] < MINIMUM_LENGTH:
        return found
    ours, theirs = (influence(s, parts, weight) for s, parts in zip(scores, sums, strict=True))
    deviation = ours - theirs
    # Equal sums make the difference zero, whatever the derivative of the score.
    equal = np.all([_same(a, b).all(axis=-1) for a, b in zip(*sums, strict=True)], axis=0)
    # A difference that never varies leaves nothing to judge it by (an event that never came).
    vary = np.abs(deviation).max(axis=-1) > _ROUNDING * np.abs(difference)
    vary &= ~equal
    p, half = np.where(equal, 1.0, np.nan), np.where(equal, 0.0, np.nan)
    effective = np.full(len(p), np.nan)
    if vary.any():
        spread = mean_distribution(deviation[vary], test=test)
        p[vary] = spread.p_value(difference[vary])
        half[vary] = spread.half_width(level)
        effective[vary] = spread.effective_size
    return found | {
        "lower": difference - half,
        "upper": difference + half,
        "p_value": p,
        "effective_sample_size": effective,
    }


def _same(ours: FloatArray, theirs: FloatArray) -> npt.NDArray[np.bool_]:
    """Tell which values are equal but for rounding; NaN equals nothing."""
    return np.abs(ours - theirs) <= _ROUNDING * np.maximum(np.abs(ours), np.abs(theirs))


def _adjust(result: xr.Dataset, level: float, method: str) -> None:
    """Add q-values and significance, and say what was not tested."""
    p = result["p_value"].values
    tested = ~np.isnan(p)
    q = np.full(p.shape, np.nan)
    if tested.any():
        from scipy.stats import false_discovery_control  # half a second, where nothing is compared

        q[tested] = false_discovery_control(p[tested], method=method)
    result["q_value"] = result["p_value"].copy(data=q)
    result["significant"] = result["q_value"] <= 1 - level
    short = result["pairs"].values < MINIMUM_LENGTH
    undefined = np.isnan(result["difference"].values) & ~short
    constant = ~tested & ~short & ~undefined
    reasons = {
        f"fewer than {MINIMUM_LENGTH} pairs": short,
        "NaN in their statistics, or no such score": undefined,
        "a difference that never varies": constant,
    }
    untested = [f"{where.sum()} of {p.size} have {why}" for why, where in reasons.items()]
    untested = [text for text, where in zip(untested, reasons.values(), strict=True) if where.any()]
    if untested:
        result["p_value"].attrs["untested"] = "; ".join(untested)


def _rows(
    sums: xr.DataArray, template: xr.DataArray, dims: list[Hashable], inits: int
) -> FloatArray:
    """Values as (cell of the scorecard, init_time), repeated over dimensions they lack."""
    sizes = {dim: template.sizes[dim] for dim in dims if dim not in sums.dims}
    full = sums.variable.set_dims({**sizes, **sums.variable.sizes}).transpose(*dims, "init_time")
    return np.ascontiguousarray(full.values, dtype=np.float64).reshape(-1, inits)


def _require_same_events(ours: xr.Dataset, theirs: xr.Dataset) -> None:
    """Refuse two models whose observed events differ: other thresholds, other observations."""
    name = "sum_event_occurred"
    if ours is theirs or name not in ours or name not in theirs:
        return
    weights = [ds["sum_weight"].variable for ds in (ours, theirs)]
    occurred = [ds[name].variable.sum("count", skipna=False) for ds in (ours, theirs)]
    same_cells = _same(weights[0].values, weights[1].values)
    differ = abs(occurred[0] - occurred[1]) > 1e-9 * weights[0]
    if (differ & xr.Variable(weights[0].dims, same_cells)).any():
        raise InputError(
            "the observed events of the two statistics differ, though the same cells were scored; "
            "were thresholds and observations the same?"
        )
