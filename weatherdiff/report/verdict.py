"""What the scores say, in words: how often a reference is beaten, and where the forecast fails."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.plotting.appearance import SPREAD_SKILL_BAND, title_of
from weatherdiff.plotting.selection import hours, one_stratum, reference_names

__all__ = ["headline", "shortcomings", "significance", "variable_summary"]

Leads = npt.NDArray[np.bool_]


def headline(scores: xr.Dataset, comparisons: Mapping[str, xr.Dataset] | None = None) -> str:
    """Sum up all variables and leads in a few sentences.

    Parameters
    ----------
    scores : (variable, lead_time[, ...])
        What :func:`weatherdiff.evaluation.evaluate` returns.
    comparisons : mapping of str to Dataset, optional
        Comparisons of the CRPS with references, by their names.

    Examples
    --------
    >>> dims = ("variable", "lead_time")
    >>> scores = xr.Dataset(
    ...     {
    ...         "crpss_climatology": (dims, [[0.3, -0.1]]),
    ...         "spread_skill_ratio": (dims, [[0.95, 1.5]]),
    ...     },
    ...     {"variable": ["2m_temperature"], "lead_time": np.array([6, 12], "timedelta64[h]")},
    ...     {"members": 20, "references": ["climatology"]},
    ... )
    >>> print(headline(scores))
    The ensemble of 20 members beats climatology at 1 of 2 leads. Its spread-skill ratio lies within
    0.8 to 1.2 at 1 of 2. "Beats" means a lower mean CRPS; no significance test was made.
    """
    variables, leads = scores.sizes["variable"], scores.sizes["lead_time"]
    unit = "leads" if variables == 1 else f"pairs of {variables} variables and {leads} leads"
    members = scores.attrs.get("members")
    subject = "The ensemble" if members is None else f"The ensemble of {members} members"
    calibrated = _count(_within_band(scores["spread_skill_ratio"].values))
    ratio = f"Its spread-skill ratio lies within {_band()} at {calibrated}."
    if not reference_names(scores):
        return f"{subject} was scored at {variables * leads} {unit}, against no reference. {ratio}"
    return (
        f"{subject} beats {_wins(scores, unit)}. {ratio} "
        f'"Beats" means a lower mean CRPS{_tests(comparisons or {}, reference_names(scores))}'
    )


def significance(comparison: xr.Dataset, name: str) -> str:
    """Say how often a comparison found a difference that is significant.

    Parameters
    ----------
    comparison : (variable, [region,] lead_time, [event])
        What :func:`weatherdiff.evaluation.compare` returns.
    name : str
        What the forecasts were compared with.

    Examples
    --------
    >>> dims = ("variable", "lead_time")
    >>> comparison = xr.Dataset(
    ...     {
    ...         "difference": (dims, [[-1.0, 0.5, -0.1, np.nan]]),
    ...         "significant": (dims, [[True, True, False, False]]),
    ...         "p_value": (dims, [[0.01, 0.01, 0.5, np.nan]]),
    ...     },
    ... )
    >>> significance(comparison, "persistence")
    'better than persistence at 1 of 4, worse at 1 (1 not tested)'
    """
    significant = comparison["significant"].values.astype(bool)
    difference = comparison["difference"].values
    if comparison.attrs.get("better") == "higher":
        difference = -difference
    better, worse = significant & (difference < 0), significant & (difference > 0)
    untested = int(np.isnan(comparison["p_value"].values).sum()) if "p_value" in comparison else 0
    name = title_of(name)
    text = f"better than {name} at {_count(better)}, worse at {int(worse.sum()) or 'none'}"
    return f"{text} ({untested} not tested)" if untested else text


def variable_summary(scores: xr.Dataset) -> str:
    """Sum up one variable in a sentence.

    Parameters
    ----------
    scores : (lead_time[, ...])
        Scores of one variable.
    """
    calibrated = _count(_within_band(scores["spread_skill_ratio"].values))
    wins = f"beats {_wins(scores, 'leads')}; " if reference_names(scores) else ""
    name = title_of(str(scores["variable"].values)).capitalize()
    return f"{name}: {wins}spread-skill ratio within {_band()} at {calibrated}."


def shortcomings(scores: xr.Dataset) -> str:
    """List where one variable's forecasts fail: no skill, spread out of proportion, no score.

    Parameters
    ----------
    scores : (lead_time[, ...])
        Scores of one variable.

    Examples
    --------
    >>> scores = xr.Dataset(
    ...     {
    ...         "crpss_persistence": ("lead_time", [-0.04, 0.1, 0.2]),
    ...         "spread_skill_ratio": ("lead_time", [1.71, 1.0, 0.62]),
    ...     },
    ...     {"lead_time": np.array([3, 6, 9], "timedelta64[h]")},
    ...     {"references": ["persistence"]},
    ... )
    >>> print(shortcomings(scores))
    Falls short: no better than persistence at 3 h (skill down to -4 %); too confident at 9 h
    (spread-skill ratio down to 0.62); too dispersed at 3 h (spread-skill ratio up to 1.71).
    """
    lead_hours = hours(scores["lead_time"].values)
    faults = []
    for reference in reference_names(scores):
        name, skill = title_of(reference), scores[f"crpss_{reference}"].values
        if (skill <= 0).any():
            where = _at(skill <= 0, lead_hours)
            faults.append(
                f"no better than {name} {where} (skill down to {100 * np.nanmin(skill):.0f} %)"
            )
        if np.isnan(skill).any():
            faults.append(f"no skill against {name} known {_at(np.isnan(skill), lead_hours)}")
    ratio = scores["spread_skill_ratio"].values
    low, high = SPREAD_SKILL_BAND
    if (ratio < low).any():
        where = _at(ratio < low, lead_hours)
        faults.append(f"too confident {where} (spread-skill ratio down to {np.nanmin(ratio):.2f})")
    if (ratio > high).any():
        where = _at(ratio > high, lead_hours)
        faults.append(f"too dispersed {where} (spread-skill ratio up to {np.nanmax(ratio):.2f})")
    if np.isnan(ratio).any():
        faults.append(f"no spread-skill ratio known {_at(np.isnan(ratio), lead_hours)}")
    if not faults:
        return f"Falls short nowhere: skill above 0 and spread-skill ratio within {_band()}."
    return f"Falls short: {'; '.join(faults)}."


def _wins(scores: xr.Dataset, unit: str) -> str:
    """``climatology at 8 of 8 leads and persistence at 7 of 8``."""
    counts = [
        f"{title_of(name)} at {_count(scores[f'crpss_{name}'].values > 0)}"
        for name in reference_names(scores)
    ]
    counts[0] += f" {unit}"
    return _joined(counts)


def _tests(comparisons: Mapping[str, xr.Dataset], names: list[str]) -> str:
    """Say what the tests of the CRPS found, as the end of a sentence and others after it."""
    tested = {
        name: one_stratum(comparison)[0]
        for name, comparison in comparisons.items()
        if comparison.attrs.get("score", "crps") == "crps" and "significant" in comparison
    }
    if not tested:
        return "; no significance test was made."
    level = next(iter(tested.values())).attrs.get("level")
    rate = "" if level is None else f" at a false discovery rate of {100 * (1 - level):.3g} %"
    found = "; ".join(significance(comparison, name) for name, comparison in tested.items())
    untested = [title_of(name) for name in names if name not in tested]
    rest = f" No significance test was made against {_joined(untested)}." if untested else ""
    return f". Tested{rate}, it is significantly {found}.{rest}"


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _within_band(ratio: npt.NDArray[np.float64]) -> Leads:
    return (ratio >= SPREAD_SKILL_BAND[0]) & (ratio <= SPREAD_SKILL_BAND[1])


def _band() -> str:
    return "{:g} to {:g}".format(*SPREAD_SKILL_BAND)


def _count(true: Leads) -> str:
    return f"{int(true.sum())} of {true.size}"


def _at(where: Leads, lead_hours: npt.NDArray[np.float64]) -> str:
    if where.all():
        return "at every lead"
    return f"at {', '.join(f'{lead:g}' for lead in lead_hours[where])} h"
