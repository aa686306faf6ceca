"""Scores in short: numbers for a program, tables for a reader."""

from __future__ import annotations

import numpy as np
import xarray as xr

from weatherdiff.errors import InputError

__all__ = ["score_table", "scorecard", "scorecard_table", "summary"]

_COLUMNS = ("crps", "crpss_climatology", "crpss_persistence", "spread_skill_ratio")


def summary(scores: xr.Dataset) -> dict[str, object]:
    """Headline scores as plain numbers, ready for JSON or YAML.

    Parameters
    ----------
    scores : xr.Dataset
        Result of :func:`~weatherdiff.evaluation.evaluate`.

    Returns
    -------
    dict
        ``{"members": M, "variables": {NAME: {HOURS: {SCORE: value}}}}`` with ``HOURS`` the lead
        time in hours as a string and ``SCORE`` among ``crps`` (in the variable's unit),
        ``crpss_climatology``, ``crpss_persistence`` (those references that were given) and
        ``spread_skill_ratio``. An undefined score is ``nan``. With regions, ``variables`` is that
        of the first, and ``{"regions": {REGION: {NAME: ...}}}`` has them all.

    Raises
    ------
    InputError
        The scores have other dimensions, such as seasons; select one.

    Examples
    --------
    >>> leads = np.array([6], dtype="timedelta64[h]").astype("timedelta64[ns]")
    >>> scores = xr.Dataset(
    ...     {"crps": (("variable", "lead_time"), [[0.5]])},
    ...     {"variable": ["t"], "lead_time": leads},
    ...     attrs={"members": 4},
    ... )
    >>> summary(scores)
    {'members': 4, 'variables': {'t': {'6': {'crps': 0.5}}}}
    """
    extra = set(map(str, scores["crps"].dims)) - {"variable", "region", "lead_time"}
    if extra:
        raise InputError(f"the scores are by {', '.join(sorted(extra))}; select one.")
    members = int(scores.attrs["members"])
    if "region" not in scores["crps"].dims:
        return {"members": members, "variables": _variables(scores)}
    regions = {
        str(label): _variables(scores.isel(region=i))
        for i, label in enumerate(scores["region"].values)
    }
    first = next(iter(regions.values()))
    return {"members": members, "variables": first, "regions": regions}


def score_table(scores: xr.Dataset) -> str:
    """Headline scores as an aligned plain-text table, one line per variable and lead time.

    Regions, seasons and the like have lines of their own.

    Parameters
    ----------
    scores : xr.Dataset
        Result of :func:`~weatherdiff.evaluation.evaluate`.

    Returns
    -------
    str
        The scores of :func:`summary`, with a line that says what they are.

    Examples
    --------
    >>> leads = np.array([6, 24], dtype="timedelta64[h]").astype("timedelta64[ns]")
    >>> scores = xr.Dataset(
    ...     {"crps": (("variable", "lead_time"), [[0.5, 1.25]])},
    ...     {"variable": ["t"], "lead_time": leads, "units": ("variable", ["K"])},
    ...     attrs={"members": 4, "inits": 9, "estimator": "fair", "period": "2020-01/2020-02"},
    ... )
    >>> print(score_table(scores))
    variable  lead    crps
    t [K]      6 h     0.5
    t [K]     24 h    1.25
    4 members, 9 initial times (2020-01/2020-02), fair CRPS
    """
    columns = [name for name in _COLUMNS if name in scores]
    others = [str(dim) for dim in scores["crps"].dims if dim not in ("variable", "lead_time")]
    rows = [["variable", *others, "lead", *columns]]
    lines = scores[columns].stack(line=["variable", *others]).transpose("line", "lead_time")
    units = dict(zip(scores["variable"].values, scores["units"].values, strict=True))
    for i, labels in enumerate(lines["line"].values):
        variable, *where = labels
        unit = units[variable]
        values = lines.isel(line=i)
        rows += [
            [
                f"{variable} [{unit}]" if unit else str(variable),
                *map(str, where),
                f"{hour} h",
                *(_number(values[name].values[j], name) for name in columns),
            ]
            for j, hour in enumerate(_hours(scores))
        ]
    about = (
        f"{scores.attrs['members']} members, {scores.attrs['inits']} initial times "
        f"({scores.attrs['period']}), {scores.attrs['estimator']} CRPS"
    )
    return "\n".join([*_aligned(rows, names=1 + len(others)), about])


def scorecard(comparison: xr.Dataset) -> xr.Dataset:
    """Say for each cell of a comparison which is better, by how much, and how sure that is.

    Parameters
    ----------
    comparison : xr.Dataset
        Result of :func:`~weatherdiff.evaluation.compare`.

    Returns
    -------
    xr.Dataset
        Over the dimensions of the comparison: ``percent``, the difference in percent of the second
        score; ``verdict``, 1 where the first is better, -1 where it is worse, 0 where the two are
        equal, not comparable (NaN) or neither way is better; ``evidence``, 2 if significant over
        the whole scorecard, 1 if only taken alone, 0 if not, -1 if not tested.

    Raises
    ------
    InputError
        That is not a comparison.

    Examples
    --------
    >>> comparison = xr.Dataset(
    ...     {
    ...         "difference": ("lead_time", [-2.0, 1.0]),
    ...         "relative_difference": ("lead_time", [-0.2, 0.1]),
    ...         "p_value": ("lead_time", [0.001, 0.2]),
    ...         "significant": ("lead_time", [True, False]),
    ...     },
    ...     attrs={"level": 0.95, "better": "lower"},
    ... )
    >>> card = scorecard(comparison)
    >>> card["verdict"].values.tolist(), card["evidence"].values.tolist()
    ([1, -1], [2, 0])
    """
    needed = ("difference", "relative_difference", "p_value", "significant")
    missing = [name for name in needed if name not in comparison]
    missing += [name for name in ("level", "better") if name not in comparison.attrs]
    if missing:
        raise InputError(f"the comparison holds no {', '.join(missing)}.")
    p, difference = comparison["p_value"], comparison["difference"]
    alone = (p <= 1 - comparison.attrs["level"]).astype(int)
    sign = {"lower": -1, "higher": 1, "neither": 0}[comparison.attrs["better"]]
    return xr.Dataset(
        {
            "percent": 100 * comparison["relative_difference"],
            "verdict": sign * (difference > 0).astype(int) - sign * (difference < 0).astype(int),
            "evidence": xr.where(comparison["significant"], 2, alone).where(p.notnull(), -1),
        },
        attrs=comparison.attrs,
    )


def scorecard_table(comparison: xr.Dataset) -> str:
    """Comparison as an aligned plain-text table, a line per variable and a column per lead time.

    Regions and events have lines of their own. Differences are in percent of the second score: for
    most scores, a negative number says that the first forecast is better.

    Parameters
    ----------
    comparison : xr.Dataset
        Result of :func:`~weatherdiff.evaluation.compare`.

    Returns
    -------
    str
        The percentages, with ``*`` if significant over the whole scorecard, ``.`` if only taken
        alone and ``?`` if not tested, then what is compared, and how often either is better.

    Raises
    ------
    InputError
        That is not a comparison.

    Examples
    --------
    >>> dims = ("variable", "lead_time")
    >>> comparison = xr.Dataset(
    ...     {
    ...         "difference": (dims, [[-2.0, 1.0]]),
    ...         "relative_difference": (dims, [[-0.2, 0.104]]),
    ...         "p_value": (dims, [[0.001, 0.2]]),
    ...         "significant": (dims, [[True, False]]),
    ...     },
    ...     {"variable": ["t"], "lead_time": np.array([6, 24], "timedelta64[h]")},
    ...     attrs={"score": "rmse", "test": "adaptive", "level": 0.95, "better": "lower"},
    ... )
    >>> print(scorecard_table(comparison))
    variable      6 h     24 h
    t         -20.0%*  +10.4%
    rmse, first relative to second; lower is better
    * significant, false discovery rate 5% (adaptive test); . taken alone only; ? not tested
    first significantly better in 1 of 2, worse in 0
    """
    card = scorecard(comparison)
    others = [dim for dim in ("region", "event") if dim in card.dims]
    rows = [["variable", *others, *(f"{hour} h " for hour in _hours(card))]]
    lines = card.stack(line=["variable", *others]).transpose("line", "lead_time")
    for i, labels in enumerate(lines["line"].values):
        row = lines.isel(line=i)
        cells = zip(row["percent"].values, row["evidence"].values, strict=True)
        rows.append([*map(str, labels), *(_percent(percent, sure) for percent, sure in cells)])
    attrs = card.attrs
    sure = card["evidence"] == 2
    wins, losses = (int((sure & (card["verdict"] == sign)).sum()) for sign in (1, -1))
    better = attrs["better"]
    outcome = (
        f"significant in {int(sure.sum())} of {sure.size}"
        if better == "neither"
        else f"first significantly better in {wins} of {sure.size}, worse in {losses}"
    )
    return "\n".join(
        [
            *map(str.rstrip, _aligned(rows, names=1 + len(others))),
            f"{attrs['score']}, first relative to second"
            + ("" if better == "neither" else f"; {better} is better"),
            f"* significant, false discovery rate {1 - attrs['level']:.0%} ({attrs['test']} test); "
            ". taken alone only; ? not tested",
            outcome,
        ]
    )


def _aligned(rows: list[list[str]], *, names: int) -> list[str]:
    """Lines of a table, the first columns to the left and numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            text.ljust(width) if i < names else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _percent(percent: float, evidence: int) -> str:
    if np.isnan(percent):
        return "- "
    mark = {2: "*", 1: ".", 0: " ", -1: "?"}[int(evidence)]
    # Adding zero turns -0.0 into +0.0.
    return f"{round(percent, 1) + 0.0:+.1f}%{mark}"


def _variables(scores: xr.Dataset) -> dict[str, dict[str, dict[str, float]]]:
    columns = [name for name in _COLUMNS if name in scores]
    return {
        str(variable): {
            hour: {name: float(scores[name].sel(variable=variable).values[i]) for name in columns}
            for i, hour in enumerate(_hours(scores))
        }
        for variable in scores["variable"].values
    }


def _hours(scores: xr.Dataset) -> list[str]:
    """Lead times in hours, without a fraction where there is none."""
    return [f"{hours:g}" for hours in scores["lead_time"].values / np.timedelta64(1, "h")]


def _number(value: float, name: str) -> str:
    # Skills and ratios are of order one; a CRPS has its variable's unit, 1e-4 or 1e3.
    # Adding zero turns -0.00 into 0.00.
    return f"{value:.4g}" if name == "crps" else f"{round(value, 2) + 0.0:.2f}"
