"""Energy scores that join lead times or variables, in tables."""

from __future__ import annotations

from html import escape

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.plotting.appearance import display_units, lead_labels, title_of
from weatherdiff.plotting.selection import hours, reference_names
from weatherdiff.report.page import paragraph, table
from weatherdiff.report.tables import score_cell, skill_cell

__all__ = ["joint_tables"]

# What is joined beside space, by the end of the score's name.
_JOINED = {
    "_lead_time": "space and lead times",
    "_variable": "space and variables",
    "_lead_time_variable": "space, lead times and variables",
}
_ABOUT = (
    "The energy score is the CRPS of whole films or fields: members that are right cell by cell, "
    "but not together, do worse. ▼ marks skill of 0 or less."
)


def joint_tables(scores: xr.Dataset) -> list[str]:
    """Tables of the energy scores that join more than space, with their skills.

    Parameters
    ----------
    scores : (variable, lead_time[, ...])
        Scores of one region, season, ... with ``energy_score_lead_time`` (variable),
        ``energy_score_variable`` (lead_time) or ``energy_score_lead_time_variable``, and
        ``energy_skill_..._NAME`` of the references. Nothing if there is none of them.
    """
    joined = {
        ending: words for ending, words in _JOINED.items() if f"energy_score{ending}" in scores
    }
    if not joined:
        return []
    return [paragraph(_ABOUT), *(_table(scores, ending, words) for ending, words in joined.items())]


def _table(scores: xr.Dataset, ending: str, words: str) -> str:
    score = scores[f"energy_score{ending}"]
    skill = f"energy_skill{ending}"
    references = reference_names(scores, skill)
    heads = [
        f"joint over {words}",
        "energy score",
        *(f"skill against {title_of(name)} [%]" for name in references),
    ]
    rows = []
    for place, (name, label, factor) in _rows(score).items():
        cells = [f'<th scope="row">{escape(name)}</th>']
        cells.append(score_cell(float(score[place]) * factor, label))
        cells += [skill_cell(float(scores[f"{skill}_{other}"][place])) for other in references]
        rows.append("".join(cells))
    return table(heads, rows)


def _rows(score: xr.DataArray) -> dict[tuple[int, ...], tuple[str, str, float]]:
    """Name, unit and factor of each number, by its position."""
    if "variable" in score.dims:
        names = [title_of(str(label)) for label in score["variable"].values]
        stored: npt.NDArray[np.str_] = np.full(len(names), "", object)
        if "units" in score.coords:
            stored = score["units"].values
        units = [display_units(str(unit)) for unit in stored]
        return {
            (index,): (name, unit.label, unit.factor)
            for index, (name, unit) in enumerate(zip(names, units, strict=True))
        }
    if "lead_time" in score.dims:
        labels = lead_labels(hours(score["lead_time"].values))
        return {(index,): (label, "", 1.0) for index, label in enumerate(labels)}
    return {(): ("all", "", 1.0)}
