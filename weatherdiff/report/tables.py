"""Tables of numbers."""

from __future__ import annotations

from html import escape

import numpy as np
import xarray as xr

from weatherdiff.plotting.appearance import SPREAD_SKILL_BAND, display_units, lead_labels, title_of
from weatherdiff.plotting.selection import (
    evenly_spaced,
    hours,
    known,
    one_stratum,
    reference_names,
)
from weatherdiff.report.page import table

__all__ = ["score_cell", "score_table", "skill_cell", "strata_table"]

# Lead times beside each other in a table of regions or seasons.
_MOST_LEADS = 4
_MARKS = "▼ marks skill of 0 or less and ratios below {:g}, ▲ ratios above {:g}.".format(
    *SPREAD_SKILL_BAND
)


def score_table(scores: xr.Dataset) -> str:
    """Table of one variable's scores, a row for each lead time; failures marked and coloured.

    Parameters
    ----------
    scores : (lead_time[, ...])
        Scores of one variable.
    """
    units = display_units(str(scores["units"].values) if "units" in scores.coords else None)
    references = reference_names(scores)
    heads = ["lead [h]", units.axis_label("CRPS")]
    heads += [f"CRPS skill against {title_of(name)} [%]" for name in references]
    heads += ["spread-skill ratio", units.axis_label("RMSE of the mean"), units.axis_label("bias")]
    incomplete = "coverage" in scores and bool((scores["coverage"] < 0.9995).any())
    heads += ["coverage [%]"] if incomplete else []

    rows = []
    for index, lead in enumerate(hours(scores["lead_time"].values)):
        at_lead = {name: float(scores[name][index]) for name in _columns(references, incomplete)}
        cells = [
            f'<th scope="row">{lead:g}</th>',
            _cell(_significant(at_lead["crps"] * units.factor)),
        ]
        for name in references:
            cells.append(skill_cell(at_lead[f"crpss_{name}"]))
        cells.append(_ratio_cell(at_lead["spread_skill_ratio"]))
        cells += [_cell(_significant(at_lead[name] * units.factor)) for name in ("rmse", "bias")]
        cells += [_cell(f"{100 * at_lead['coverage']:.1f}")] if incomplete else []
        rows.append("".join(cells))
    return table(heads, rows, caption=_MARKS)


def strata_table(scores: xr.Dataset, by: str) -> str:
    """Table of one variable's scores, a row for each region, season, month or hour with any.

    CRPS, its skill against the first reference and the spread-skill ratio, at up to four lead
    times.

    Parameters
    ----------
    scores : (..., lead_time[, ...])
        Scores of one variable, with the dimension ``by``; of others like it the first
        known is taken.
    by : str
        What the rows are.
    """
    units = display_units(str(scores["units"].values) if "units" in scores.coords else None)
    columns = {"crps": units.axis_label("CRPS")}
    columns |= {
        f"crpss_{name}": f"skill against {title_of(name)} [%]"
        for name in reference_names(scores)[:1]
    }
    columns["spread_skill_ratio"] = "spread-skill ratio"
    positions = evenly_spaced(scores.sizes["lead_time"], _MOST_LEADS)
    labels = lead_labels(hours(scores["lead_time"].values))
    groups = "".join(
        f'<th scope="colgroup" class="group" colspan="{len(positions)}">{escape(head)}</th>'
        for head in columns.values()
    )
    leads = "".join(f'<th scope="col">{labels[index]}</th>' for index in positions) * len(columns)
    rows = []
    for index in np.flatnonzero(known(scores, by)):
        value = scores[by].values[index]
        part, _ = one_stratum(scores[list(columns)].isel({by: index}))
        cells = [f'<th scope="row">{escape(title_of(str(value)))}</th>']
        for name in columns:
            for number in part[name].values[positions]:
                cells.append(_stratum_cell(name, float(number), units.factor))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table><caption>{escape(_MARKS)}</caption><thead>'
        f'<tr><th scope="col" rowspan="2">{escape(title_of(by))}</th>{groups}</tr>'
        f"<tr>{leads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _stratum_cell(name: str, value: float, factor: float) -> str:
    if name == "crps":
        return _cell(_significant(value * factor))
    if name == "spread_skill_ratio":
        return _ratio_cell(value)
    return skill_cell(value)


def score_cell(value: float, units: str = "") -> str:
    """Cell of a number with its unit."""
    return _cell(f"{_significant(value)} {units}".strip())


def skill_cell(skill: float) -> str:
    """Cell of a skill in percent, marked if there is none."""
    return _cell(f"{100 * skill:.1f}", mark="▼" if skill <= 0 else "")


def _ratio_cell(ratio: float) -> str:
    low, high = SPREAD_SKILL_BAND
    return _cell(f"{ratio:.2f}", mark="▼" if ratio < low else "▲" if ratio > high else "")


def _columns(references: list[str], incomplete: bool) -> list[str]:
    names = ["crps", "spread_skill_ratio", "rmse", "bias"]
    return names + [f"crpss_{name}" for name in references] + ["coverage"] * incomplete


def _significant(value: float) -> str:
    """Three significant digits, never as a power of ten."""
    if value == 0 or np.isnan(value):
        return str(value)
    return f"{value:.{max(2 - int(np.floor(np.log10(abs(value)))), 0)}f}"


def _cell(text: str, *, mark: str = "") -> str:
    text = text.replace("nan", "not known")
    return f'<td class="bad">{mark} {text}</td>' if mark else f"<td>{text}</td>"
