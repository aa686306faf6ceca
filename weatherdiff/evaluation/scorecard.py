"""Scores in short: numbers for a program, a table for a reader."""

from __future__ import annotations

import numpy as np
import xarray as xr

__all__ = ["score_table", "summary"]

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
        ``spread_skill_ratio``. An undefined score is ``nan``.

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
    columns = [name for name in _COLUMNS if name in scores]
    hours = _hours(scores)
    variables = {
        str(variable): {
            hour: {name: float(scores[name].sel(variable=variable).values[i]) for name in columns}
            for i, hour in enumerate(hours)
        }
        for variable in scores["variable"].values
    }
    return {"members": int(scores.attrs["members"]), "variables": variables}


def score_table(scores: xr.Dataset) -> str:
    """Headline scores as an aligned plain-text table, one line per variable and lead time.

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
    rows = [["variable", "lead", *columns]]
    for variable, unit in zip(scores["variable"].values, scores["units"].values, strict=True):
        values = scores[columns].sel(variable=variable)
        rows += [
            [
                f"{variable} [{unit}]" if unit else str(variable),
                f"{hour} h",
                *(_number(values[name].values[i], name) for name in columns),
            ]
            for i, hour in enumerate(_hours(scores))
        ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    about = (
        f"{scores.attrs['members']} members, {scores.attrs['inits']} initial times "
        f"({scores.attrs['period']}), {scores.attrs['estimator']} CRPS"
    )
    return "\n".join([*lines, about])


def _hours(scores: xr.Dataset) -> list[str]:
    """Lead times in hours, without a fraction where there is none."""
    return [f"{hours:g}" for hours in scores["lead_time"].values / np.timedelta64(1, "h")]


def _number(value: float, name: str) -> str:
    # Skills and ratios are of order one; a CRPS has its variable's unit, 1e-4 or 1e3.
    # Adding zero turns -0.00 into 0.00.
    return f"{value:.4g}" if name == "crps" else f"{round(value, 2) + 0.0:.2f}"
