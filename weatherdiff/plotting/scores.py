"""Scores against lead time, and rank histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.plotting.appearance import (
    COLORS,
    SPREAD_SKILL_BAND,
    color_of,
    display_units,
    include,
    lead_axis,
    lead_labels,
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

__all__ = ["plot_rank_histogram", "plot_scores"]


def plot_scores(scores: xr.Dataset, *, variable: str, region: str | None = None) -> Figure:
    """CRPS, skill, error with spread, and their ratio against lead time.

    Parameters
    ----------
    scores : (variable, [region,] lead_time[, ...])
        What :func:`weatherdiff.evaluation.evaluate` returns.
    variable : str
        Channel label.
    region : str, optional
        Default: the first.

    Raises
    ------
    InputError
        The scores have no such channel or region.

    See Also
    --------
    plot_scores_by : Regions or seasons in one picture.
    """
    from matplotlib.figure import Figure

    scores, where = one_stratum(of_variable(scores, variable), region=region)
    units = display_units(str(scores["units"].values) if "units" in scores.coords else None)
    lead_hours = hours(scores["lead_time"].values)
    references = reference_names(scores)

    figure = Figure(figsize=(10, 6), layout="constrained")
    (crps, skill), (error, ratio) = figure.subplots(2, 2)
    for axes in (crps, skill, error, ratio):
        leads = lead_axis(axes, lead_hours)
        axes.grid(color="0.9", linewidth=0.6)

    style = {"marker": "o", "markersize": 3.5}
    crps.plot(
        leads, scores["crps"] * units.factor, label="ensemble", color=color_of("ensemble"), **style
    )
    skill.axhline(0, color="0.3", linewidth=0.8)
    for name in references:
        label, color = title_of(name), color_of(name)
        crps.plot(leads, scores[f"crps_{name}"] * units.factor, label=label, color=color, **style)
        label = f"against {label}"
        skill.plot(leads, scores[f"crpss_{name}"], label=label, color=color, **style)
    crps.set_ylim(bottom=0)
    crps.set_title("CRPS (lower is better)", loc="left", fontsize=11)
    crps.set_ylabel(units.axis_label("CRPS"))
    skill.set_title("CRPS skill against each (above 0 beats it)", loc="left", fontsize=11)
    skill.set_ylabel("1 - CRPS / reference")

    error.plot(
        leads,
        scores["rmse"] * units.factor,
        label="RMSE of the mean",
        color=color_of("observation"),
        **style,
    )
    spread = scores["spread_skill_ratio"] * scores["rmse"]  # with the factor of the ratio
    error.plot(
        leads,
        spread * units.factor,
        label="spread, corrected for ensemble size",
        color=color_of("ensemble"),
        **style,
    )
    error.set_ylim(0, 1.3 * error.get_ylim()[1])  # room for the legend
    error.set_title("Error and spread (equal if calibrated)", loc="left", fontsize=11)
    error.set_ylabel(units.axis_label("RMSE, spread"))

    low, high = SPREAD_SKILL_BAND
    ratio.axhspan(low, high, color=COLORS["mean"], alpha=0.12, label=f"{low:g} to {high:g}")
    ratio.axhline(1, color="0.3", linewidth=0.8)
    ratio.plot(leads, scores["spread_skill_ratio"], color=color_of("ensemble"), **style)
    include(ratio, 0.5, 1.5)
    ratio.set_title("Spread-skill ratio (below 1: too confident)", loc="left", fontsize=11)
    ratio.set_ylabel("spread / RMSE")
    for axes in (error, ratio):
        axes.legend(frameon=False, fontsize=9)
    put_legend(figure, crps)
    put_title(figure, f"{title_of(variable).capitalize()}{where}")
    return figure


def plot_rank_histogram(
    scores: xr.Dataset,
    *,
    variable: str,
    lead_times: Sequence[np.timedelta64] | None = None,
    region: str | None = None,
    effective_sample_size: float | None = None,
) -> Figure:
    """How often the observation took each rank among the members, one panel a lead time.

    Flat if observation and members are exchangeable, a bowl if the members are too close together,
    a dome if too far apart, a slope if they are biased. The reliability index, the sum of the bars'
    distances from the flat histogram, is written above.

    Parameters
    ----------
    scores : (variable, [region,] lead_time, rank, ...)
        With ``rank_histogram`` as relative frequencies.
    variable : str
        Channel label.
    lead_times : sequence of timedelta64, optional
        Default: four evenly spaced ones.
    region : str, optional
        Default: the first.
    effective_sample_size : float, optional
        Number of independent observations behind the frequencies; neighbouring cells and
        successive forecasts are not independent. Draws the band that holds 95 % of a flat
        histogram's bars, each by itself (normal approximation of the binomial), and gives the
        p-value of the chi-square test of flatness.

    Raises
    ------
    InputError
        Unknown channel, region or lead time, or scores without a rank histogram.
    """
    from matplotlib.figure import Figure

    scores, where = one_stratum(of_variable(scores, variable), region=region)
    if "rank_histogram" not in scores:
        raise InputError("the scores hold no rank_histogram.")
    histogram = scores["rank_histogram"].transpose("lead_time", "rank")
    histogram = histogram.sel(lead_time=pick_leads(histogram, lead_times))
    ranks = np.arange(histogram.sizes["rank"])
    uniform = 1 / ranks.size

    figure = Figure(figsize=(2.6 * histogram.sizes["lead_time"] + 0.4, 2.9), layout="constrained")
    panels = figure.subplots(1, histogram.sizes["lead_time"], sharey=True, squeeze=False)[0]
    labels = lead_labels(hours(histogram["lead_time"].values))
    titles = _flatness(histogram, effective_sample_size)
    for panel, label, title, frequencies in zip(
        panels, labels, titles, histogram.values, strict=True
    ):
        panel.bar(ranks, frequencies, width=0.9, color=COLORS["ensemble"], alpha=0.75)
        panel.axhline(uniform, color="0.1", linewidth=1)
        if effective_sample_size is not None:
            half = 1.96 * np.sqrt(uniform * (1 - uniform) / effective_sample_size)
            panel.axhspan(max(uniform - half, 0), uniform + half, color="0.3", alpha=0.2, zorder=3)
        panel.set_title(label, loc="left", fontsize=11)
        panel.set_title(title, loc="right", fontsize=9)
        panel.set_xlabel("rank of the observation")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.set_xlim(-0.6, ranks.size - 0.4)
    include(panels[0], 0, 2 * uniform)
    panels[0].set_ylabel("relative frequency")
    put_title(figure, f"{title_of(variable).capitalize()}{where}: rank histogram")
    return figure


def _flatness(histogram: xr.DataArray, cases: float | None) -> list[str]:
    """Reliability index of each lead time, and whether chi-square finds it too large."""
    from weatherdiff.evaluation.calibration import flatness_test, reliability_index

    texts = [f"index {value:.2f}" for value in reliability_index(histogram).values]
    if cases is None:
        return texts
    p_values = flatness_test(histogram, cases=cases)["p_value_chi_square"].values
    return [f"{text}, p {p:.2g}" for text, p in zip(texts, p_values, strict=True)]
