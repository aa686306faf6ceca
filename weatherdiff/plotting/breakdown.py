"""Scores of regions, seasons, months or hours beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.plotting.appearance import (
    COLORS,
    SPREAD_SKILL_BAND,
    display_units,
    include,
    lead_axis,
    line_colors,
    title_of,
)
from weatherdiff.plotting.frame import put_legend, put_title
from weatherdiff.plotting.selection import (
    hours,
    known,
    of_variable,
    one_stratum,
    reference_names,
    strata,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_scores_by"]


def plot_scores_by(scores: xr.Dataset, *, variable: str, by: str = "region") -> Figure:
    """CRPS, its skill, the spread-skill ratio and the bias against lead time, a line for each part.

    Parts without any known score, such as seasons without forecasts, are left out.

    Parameters
    ----------
    scores : (variable, lead_time, ...)
        With the dimension ``by``, which parts the scores.
    variable : str
        Channel label.
    by : str
        ``"region"``, ``"season"``, ``"month"``, ``"hour"``, ``"valid_season"`` and so on.
        Of the other ones that the scores have, the first known value is taken.

    Raises
    ------
    InputError
        Unknown channel, or scores that are not parted so, or not known.
    """
    from matplotlib.figure import Figure

    if by not in strata(scores):
        offered = ", ".join(strata(scores)) or "nothing"
        raise InputError(f"the scores are not parted by {by}, only by {offered}.")
    scores = of_variable(scores, variable)
    parts = [scores.isel({by: index}) for index in np.flatnonzero(known(scores, by))]
    if not parts:
        raise InputError(f"no score of {variable} is known of any {by}.")
    names = [title_of(str(part[by].values)) for part in parts]
    parts, where = [one_stratum(part)[0] for part in parts], one_stratum(parts[0])[1]
    units = display_units(str(scores["units"].values) if "units" in scores.coords else None)
    references = reference_names(scores)

    panels = {"crps": ("CRPS (lower is better)", units.axis_label("CRPS"), units.factor)}
    for name in references[:1]:
        panels[f"crpss_{name}"] = (
            f"CRPS skill against {title_of(name)}",
            "1 - CRPS / reference",
            1.0,
        )
    panels["spread_skill_ratio"] = ("Spread-skill ratio", "spread / RMSE", 1.0)
    if "bias" in scores:
        panels["bias"] = ("Bias of the mean", units.axis_label("bias"), units.factor)

    columns = 2
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(10, 2.9 * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    colors = line_colors(len(names), ordered=by.endswith(("month", "hour")))
    for panel, (score, (title, label, factor)) in zip(axes, panels.items(), strict=False):
        leads = lead_axis(panel, hours(scores["lead_time"].values))
        panel.grid(color="0.9", linewidth=0.6)
        if score == "spread_skill_ratio":
            panel.axhspan(*SPREAD_SKILL_BAND, color=COLORS["mean"], alpha=0.12)
        if score != "crps":
            panel.axhline(float(score == "spread_skill_ratio"), color="0.3", linewidth=0.8)
        for name, part, color in zip(names, parts, colors, strict=True):
            values = part[score].values * factor
            panel.plot(leads, values, color=color, marker="o", markersize=3, label=name)
        if score == "crps":
            panel.set_ylim(bottom=0)
        elif score == "spread_skill_ratio":
            include(panel, 0.5, 1.5)
        panel.set_title(title, loc="left", fontsize=11)
        panel.set_ylabel(label)
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    put_legend(figure, axes[0])
    put_title(figure, f"{title_of(variable).capitalize()}{where}: by {title_of(by)}")
    return figure
