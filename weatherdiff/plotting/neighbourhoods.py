"""Whether events are forecast about where they occur: the fractions skill score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.plotting.appearance import lead_labels, line_colors, title_of
from weatherdiff.plotting.event_names import event_title
from weatherdiff.plotting.frame import put_legend, put_title
from weatherdiff.plotting.selection import hours, of_variable, one_stratum, pick_leads

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["fractions_events", "plot_fractions_skill"]

_SCORE, _BASE = "fractions_skill_score", "base_rate"
_COLUMNS = 3


def fractions_events(scores: xr.Dataset, variable: str) -> list[str]:
    """Events of a variable with a known fractions skill score; none if there are no such scores."""
    if _SCORE not in scores:
        return []
    known = of_variable(scores[[_SCORE]], variable)[_SCORE].notnull()
    known = known.any([dim for dim in known.dims if dim != "event"])
    return [str(label) for label in known["event"].values[known.values]]


def plot_fractions_skill(
    scores: xr.Dataset,
    *,
    variable: str,
    lead_times: Sequence[np.timedelta64] | None = None,
) -> Figure:
    """Fractions skill score against the width of the neighbourhood, a panel for each event.

    Within a neighbourhood, the share of cells with the event counts and not their places. Where
    the score is above its target, half-way between that of a random forecast with the right base
    rate and 1, neighbourhoods of that width are usefully forecast. Targets are dashed, in the
    colour of their lead time.

    Parameters
    ----------
    scores : (variable, lead_time, event, window)
        With ``fractions_skill_score``; targets are drawn if there is a ``base_rate``, which may
        have regions of which the first is the whole grid.
    variable : str
        Channel label.
    lead_times : sequence of timedelta64, optional
        Default: four evenly spaced ones.

    Raises
    ------
    InputError
        Unknown channel or lead time, or scores without the fractions skill score of any event of
        this variable.

    References
    ----------
    Roberts and Lean (2008), doi:10.1175/2007MWR2123.1, eq. 8.
    """
    from matplotlib.figure import Figure

    if _SCORE not in scores:
        raise InputError("the scores hold no fractions skill score.")
    events = fractions_events(scores, variable)
    if not events:
        raise InputError(f"the scores hold no fractions skill score of any event of {variable}.")
    names = [name for name in (_SCORE, _BASE) if name in scores]
    drawn, where = one_stratum(of_variable(scores[names], variable))
    where = where if "region" not in scores[_SCORE].dims else ""
    drawn = drawn.sel(lead_time=pick_leads(drawn, lead_times))
    units = str(drawn["units"].values) if "units" in drawn.coords else None

    columns = min(len(events), _COLUMNS)
    rows = -(-len(events) // columns)
    figure = Figure(figsize=(4.4 * columns + 0.6, 3.3 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    labels = [str(label) for label in drawn["event"].values]
    for panel, event in zip(panels, events, strict=False):
        _draw(panel, drawn.isel(event=labels.index(event)))
        title = event_title(event, variable=variable, units=units)
        panel.set_title(title, loc="left", fontsize=10)
    for panel in panels[len(events) :]:
        panel.set_axis_off()
    for panel in panels[:: columns or 1]:
        panel.set_ylabel("fractions skill score")
    put_legend(figure, panels[0])
    put_title(figure, f"{title_of(variable).capitalize()}{where}: fractions skill score")
    return figure


def _draw(panel: Axes, scores: xr.Dataset) -> None:
    window = scores["window"].values
    leads = lead_labels(hours(scores["lead_time"].values))
    for index, color in enumerate(line_colors(len(leads), ordered=True)):
        at_lead = scores.isel(lead_time=index)
        values = at_lead[_SCORE].transpose("window").values
        panel.plot(window, values, color=color, marker="o", markersize=3.5, label=leads[index])
        if _BASE in at_lead:
            target = 0.5 + float(at_lead[_BASE]) / 2
            panel.axhline(target, color=color, linewidth=0.9, linestyle="--")
    if _BASE in scores:
        panel.plot([], [], color="0.4", linewidth=0.9, linestyle="--", label="target")
    panel.set_xticks(window, [f"{width:g}" for width in window])
    panel.set_ylim(0, 1.02)
    panel.grid(color="0.9", linewidth=0.6)
    panel.set_xlabel("width of the neighbourhood [cells]")
