"""Events: whether their probabilities are right, tell them apart, and are worth anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.plotting.appearance import COLORS, lead_labels, line_colors
from weatherdiff.plotting.event_names import event_title
from weatherdiff.plotting.frame import put_title
from weatherdiff.plotting.selection import hours, of_variable, one_stratum, pick_leads
from weatherdiff.plotting.sums import with_pooled_sums

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["event_labels", "plot_economic_value", "plot_reliability", "plot_roc"]

_TABLES = ["event_count", "event_occurred"]
_PARTS = ("miscalibration", "discrimination")


def event_labels(scores: xr.Dataset, variable: str) -> list[str]:
    """Events with tables for a variable, in their order; none if the scores have no tables."""
    scores = with_pooled_sums(scores)
    if not set(_TABLES) <= set(scores):
        return []
    count = of_variable(scores, variable)["event_count"]
    weight = count.sum([dim for dim in count.dims if dim != "event"])
    return [str(label) for label in count["event"].values[weight.values > 0]]


def plot_reliability(
    scores: xr.Dataset,
    *,
    variable: str,
    event: str,
    lead_times: Sequence[np.timedelta64] | None = None,
    region: str | None = None,
) -> Figure:
    """Reliability diagrams of an event, a column for each lead time.

    Above, how often the event occurred when it had each probability: circles as counted, large
    for probabilities often given; the line made to increase by isotonic regression, which needs no
    bins. Reliable probabilities lie on the diagonal. Dotted lines are the base rate; a forecast
    that always gives it is their crossing. In the shaded area a probability improves the Brier
    score on that forecast; its edge is the line of no skill. Written into the panel are the two
    parts of the Brier score that the forecast can change. Below, how often each probability was
    given.

    Parameters
    ----------
    scores : (variable, [region,] lead_time, event, count)
        With the tables ``event_count`` and ``event_occurred``, or the sums they follow from.
    variable, event : str
        Channel label, and one of its events.
    lead_times : sequence of timedelta64, optional
        Default: four evenly spaced ones.
    region : str, optional
        Default: the first.

    Raises
    ------
    InputError
        Unknown channel, event, region or lead time, or scores without event tables.

    References
    ----------
    Dimitriadis, Gneiting and Jordan (2021), doi:10.1073/pnas.2016191118.

    See Also
    --------
    weatherdiff.evaluation.reliability.corp_decomposition : The parts written into the panels.
    """
    from matplotlib.figure import Figure

    tables, where = _tables(scores, variable, event, lead_times, region)
    count = tables.sizes["lead_time"]
    figure = Figure(figsize=(2.5 * count + 0.7, 4.5), layout="constrained")
    axes = figure.subplots(
        2, count, sharex=True, sharey="row", squeeze=False, height_ratios=(2.6, 1)
    )
    labels = lead_labels(hours(tables["lead_time"].values))
    for index, (diagram, use) in enumerate(axes.T):
        _draw_reliability(diagram, use, tables.isel(lead_time=index))
        diagram.set_title(labels[index], fontsize=11)
        use.set_xlabel("forecast probability")
    axes[0, 0].set_ylabel("observed frequency")
    axes[1, 0].set_ylabel("share of use")
    axes[1, 0].set_yscale("log")
    axes[1, 0].set_ylim(1e-4, 1)
    axes[1, 0].set_yticks([1e-4, 1e-2, 1], ["0.0001", "0.01", "1"])
    axes[1, 0].minorticks_off()
    put_title(figure, _title(tables, variable, event, where, "reliability"))
    return figure


def plot_roc(
    scores: xr.Dataset,
    *,
    variable: str,
    event: str,
    lead_times: Sequence[np.timedelta64] | None = None,
    region: str | None = None,
) -> Figure:
    """Relative operating characteristic of an event, a curve for each lead time, with its area.

    Hit rate against false-alarm rate when action is taken from 1, 2, ... members on. Probabilities
    that tell nothing apart lie on the diagonal and have area 0.5, perfect ones have 1; whether
    they are calibrated plays no part.

    Parameters
    ----------
    scores, variable, event, lead_times, region
        As in :func:`plot_reliability`.

    Raises
    ------
    InputError
        Unknown channel, event, region or lead time, or scores without event tables.
    """
    from matplotlib.figure import Figure

    from weatherdiff.evaluation.discrimination import roc_area, roc_curve

    tables, where = _tables(scores, variable, event, lead_times, region)
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.3", linewidth=0.8)
    for table, label, color in _leads(tables):
        tables_of_lead = [table[name] for name in _TABLES]
        curve, area = roc_curve(*tables_of_lead), float(roc_area(*tables_of_lead))
        axes.plot(
            curve["false_alarm_rate"],
            curve["hit_rate"],
            color=color,
            marker="o",
            markersize=3,
            label=f"{label}: area {area:.2f}",
            clip_on=False,
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_xlabel("false-alarm rate")
    axes.set_ylabel("hit rate")
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    put_title(figure, _title(tables, variable, event, where, "ROC"))
    return figure


def plot_economic_value(
    scores: xr.Dataset,
    *,
    variable: str,
    event: str,
    lead_times: Sequence[np.timedelta64] | None = None,
    region: str | None = None,
) -> Figure:
    """Potential relative economic value of an event's forecasts, a curve for each lead time.

    Of what a user would save who knew the future, the share that she saves who acts from the
    probability on that suits her best; against her costs of protection over her avoidable loss.
    Zero is the value of knowing the climatological frequency alone.

    Parameters
    ----------
    scores, variable, event, lead_times, region
        As in :func:`plot_reliability`.

    Raises
    ------
    InputError
        Unknown channel, event, region or lead time, or scores without event tables.

    References
    ----------
    Richardson (2000), doi:10.1002/qj.49712656313.
    """
    from matplotlib.figure import Figure

    from weatherdiff.evaluation.discrimination import relative_economic_value

    tables, where = _tables(scores, variable, event, lead_times, region)
    figure = Figure(figsize=(5.4, 4.4), layout="constrained")
    axes = figure.subplots()
    ratio = 1 / (1 + np.exp(-np.linspace(-5.5, 5.5, 221)))  # evenly spaced on the axis
    axes.axhline(0, color="0.3", linewidth=0.8)
    for table, label, color in _leads(tables):
        value = relative_economic_value(*(table[name] for name in _TABLES), cost_loss=list(ratio))
        axes.plot(ratio, value.max("at_least"), color=color, label=label)
    axes.set_xscale("logit")
    ticks = [0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(ratio[0], ratio[-1])
    axes.set_ylim(-0.1, 1)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_xlabel("cost / loss")
    axes.set_ylabel("relative value")
    axes.legend(frameon=False, fontsize=9)
    put_title(figure, _title(tables, variable, event, where, "economic value"))
    return figure


def _tables(
    scores: xr.Dataset,
    variable: str,
    event: str,
    lead_times: Sequence[np.timedelta64] | None,
    region: str | None,
) -> tuple[xr.Dataset, str]:
    """Tables (lead_time, count) of one event, and what was taken of regions and seasons."""
    scores = with_pooled_sums(scores)
    if not set(_TABLES) <= set(scores):
        raise InputError("the scores hold no event tables.")
    offered = event_labels(scores, variable)
    if event not in offered:
        raise InputError(f"no event {event!r} of {variable}, only {', '.join(offered) or 'none'}.")
    tables, where = one_stratum(of_variable(scores[_TABLES], variable), region=region)
    position = [str(label) for label in tables["event"].values].index(event)
    tables = tables.isel(event=position).transpose("lead_time", "count")
    return tables.sel(lead_time=pick_leads(tables, lead_times)), where


def _leads(tables: xr.Dataset) -> list[tuple[xr.Dataset, str, str]]:
    """Table, label and colour of each lead time."""
    labels = lead_labels(hours(tables["lead_time"].values))
    colors = line_colors(len(labels), ordered=True)
    return [
        (tables.isel(lead_time=index), label, color)
        for index, (label, color) in enumerate(zip(labels, colors, strict=True))
    ]


def _title(tables: xr.Dataset, variable: str, event: str, where: str, what: str) -> str:
    units = str(tables["units"].values) if "units" in tables.coords else None
    name = event_title(event, variable=variable, units=units)
    return f"{name[:1].upper()}{name[1:]}{where}: {what}"


def _draw_reliability(diagram: Axes, use: Axes, table: xr.Dataset) -> None:
    from weatherdiff.evaluation.reliability import corp_decomposition, reliability_diagram

    tables = [table[name] for name in _TABLES]
    data, parts = reliability_diagram(*tables), corp_decomposition(*tables)
    probability, base = data["forecast_probability"].values, float(data["base_rate"])
    given = data["share"].values > 0
    # Better than always giving the base rate: beyond the line of no skill.
    diagram.fill_between([0, base], [base / 2, base], 0, color="0.92", linewidth=0)
    diagram.fill_between([base, 1], [base, (1 + base) / 2], 1, color="0.92", linewidth=0)
    diagram.plot([0, 1], [base / 2, (1 + base) / 2], color="0.6", linewidth=0.8)
    diagram.plot([0, 1], [0, 1], color="0.1", linewidth=0.8)
    for draw in (diagram.axhline, diagram.axvline):
        draw(base, color=COLORS["climatology"], linewidth=1, linestyle=":")
    diagram.plot(
        probability[given],
        data["recalibrated_probability"].values[given],
        color=COLORS["ensemble"],
        linewidth=2,
        zorder=3,
    )
    diagram.scatter(
        probability[given],
        data["observed_frequency"].values[given],
        s=np.clip(300 * data["share"].values[given], 3, 24),
        facecolors="white",
        edgecolors=COLORS["ensemble"],
        linewidths=0.9,
        zorder=4,
    )
    diagram.text(
        0.04,
        0.97,
        "\n".join(f"{name} {round(float(parts[name]), 3) + 0.0:.3f}" for name in _PARTS),
        va="top",
        fontsize=8,
        linespacing=1.3,
        bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1},
    )
    diagram.set_xlim(-0.03, 1.03)
    diagram.set_ylim(-0.03, 1.03)
    diagram.set_aspect("equal")
    width = 0.8 / (probability.size - 1)
    use.bar(probability, data["share"], width=width, color=COLORS["ensemble"], alpha=0.75)
