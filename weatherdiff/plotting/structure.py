"""Whether fields are right as a whole: the CRPS by scale, energy and variogram scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.plotting.appearance import (
    color_of,
    display_units,
    lead_axis,
    lead_labels,
    line_colors,
    title_of,
)
from weatherdiff.plotting.frame import put_legend, put_title
from weatherdiff.plotting.selection import (
    hours,
    of_variable,
    one_stratum,
    pick_leads,
    reference_names,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["JOINT_SCORES", "plot_crps_by_scale", "plot_joint_scores"]

# Scores of fields as a whole at each lead time, and their titles.
JOINT_SCORES = {"energy_score": "energy score", "variogram_score": "variogram score"}
_STYLE = {"marker": "o", "markersize": 3.5}


def plot_crps_by_scale(
    scores: xr.Dataset,
    *,
    variable: str,
    lead_times: Sequence[np.timedelta64] | None = None,
    region: str | None = None,
) -> Figure:
    """CRPS of fields averaged over ever larger scales, and its skill, a line for each lead time.

    Parameters
    ----------
    scores : (variable, [region,] lead_time, scale)
        With ``crps_by_scale``, perhaps its skill ``crpss_by_scale_NAME`` against each reference
        NAME. The attributes of ``scale`` name its axis.
    variable : str
        Channel label.
    lead_times : sequence of timedelta64, optional
        Default: four evenly spaced ones.
    region : str, optional
        Default: the first.

    Raises
    ------
    InputError
        Unknown channel, lead time or region, or scores without the CRPS by scale.
    """
    from matplotlib.figure import Figure

    scores, where = one_stratum(of_variable(scores, variable), region=region)
    if "crps_by_scale" not in scores:
        raise InputError("the scores do not hold the CRPS by scale.")
    scores = scores.sel(lead_time=pick_leads(scores, lead_times))
    units = display_units(str(scores["units"].values) if "units" in scores.coords else None)
    about = {"long_name": "scale", "units": "1"} | scores["scale"].attrs
    unit = f" [{about['units']}]" if about["units"] != "1" else ""
    scale = scores["scale"].values
    references = reference_names(scores, "crpss_by_scale")
    labels = lead_labels(hours(scores["lead_time"].values))
    colors = line_colors(len(labels), ordered=True)

    count = 1 + len(references)
    figure = Figure(figsize=(min(4.4, 12 / count) * count + 0.6, 3.6), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False)[0]
    for panel in panels[2:]:
        panel.sharey(panels[1])
    for index, (label, color) in enumerate(zip(labels, colors, strict=True)):
        at_lead = scores.isel(lead_time=index)
        crps = at_lead["crps_by_scale"].transpose("scale").values
        panels[0].plot(scale, crps * units.factor, color=color, label=label, **_STYLE)
        for panel, name in zip(panels[1:], references, strict=True):
            panel.plot(scale, at_lead[f"crpss_by_scale_{name}"], color=color, **_STYLE)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel(units.axis_label("CRPS"))
    panels[0].set_title("CRPS (lower is better)", loc="left", fontsize=11)
    put_legend(figure, panels[0])
    for panel, name in zip(panels[1:], references, strict=True):
        panel.axhline(0, color="0.3", linewidth=0.8)
        panel.set_title(f"Skill against {title_of(name)}", loc="left", fontsize=11)
    for panel in panels:
        panel.set_xscale("log")
        panel.set_xticks(scale, [f"{value:g}" for value in scale])
        panel.minorticks_off()
        panel.grid(color="0.9", linewidth=0.6)
        panel.set_xlabel(f"{about['long_name']}{unit}")
    put_title(figure, _title(variable, where, "CRPS by scale"))
    return figure


def plot_joint_scores(scores: xr.Dataset, *, variable: str, region: str | None = None) -> Figure:
    """Energy score, its skill, and variogram score of fields as a whole against lead time.

    Parameters
    ----------
    scores : (variable, [region,] lead_time)
        With ``energy_score`` or ``variogram_score``, perhaps those of references,
        ``energy_score_NAME`` and ``variogram_score_NAME``, and ``energy_skill_NAME``.
    variable : str
        Channel label.
    region : str, optional
        Default: the first.

    Raises
    ------
    InputError
        Unknown channel or region, or scores with neither.
    """
    from matplotlib.figure import Figure

    scores, where = one_stratum(of_variable(scores, variable), region=region)
    drawn = [name for name in JOINT_SCORES if name in scores]
    if not drawn:
        raise InputError("the scores hold neither energy_score nor variogram_score.")
    if reference_names(scores, "energy_skill"):
        drawn.insert(1, "energy_skill")
    units = display_units(str(scores["units"].values) if "units" in scores.coords else None)
    lead_hours = hours(scores["lead_time"].values)

    width = min(4.7, 13 / len(drawn)) * len(drawn) + 0.6
    figure = Figure(figsize=(width, 3.4), layout="constrained")
    panels = figure.subplots(1, len(drawn), squeeze=False)[0]
    for axes, name in zip(panels, drawn, strict=True):
        leads = lead_axis(axes, lead_hours)
        # The variogram score is in a power of the variable's unit that it does not say.
        factor = units.factor if name == "energy_score" else 1.0
        for forecast in ("", *reference_names(scores, name)):
            if not forecast and name == "energy_skill":
                continue
            values = scores[f"{name}_{forecast}" if forecast else name].values * factor
            label, color = title_of(forecast or "ensemble"), color_of(forecast or "ensemble")
            axes.plot(leads, values, color=color, label=label, **_STYLE)
        axes.grid(color="0.9", linewidth=0.6)
        if name == "energy_skill":
            axes.axhline(0, color="0.3", linewidth=0.8)
            axes.set_title("Energy skill against each (above 0 beats it)", loc="left", fontsize=11)
            axes.set_ylabel("1 - score / reference")
            continue
        axes.set_ylim(bottom=0)
        title = JOINT_SCORES[name]
        axes.set_title(f"{title.capitalize()} (lower is better)", loc="left", fontsize=11)
        axes.set_ylabel(units.axis_label(title) if name == "energy_score" else title)
    put_legend(figure, panels[0])
    put_title(figure, _title(variable, where, "fields as a whole"))
    return figure


def _title(variable: str, where: str, what: str) -> str:
    return f"{title_of(variable).capitalize()}{where}: {what}"
