"""What the CRPS is made of, by part and by spatial scale, and the scores of fields as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.plotting.appearance import (
    COLORS,
    color_of,
    display_units,
    lead_axis,
    lead_labels,
    line_colors,
    title_of,
)
from weatherdiff.plotting.selection import hours, of_variable, one_stratum, pick_leads
from weatherdiff.plotting.sums import with_pooled_sums

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["JOINT_SCORES", "plot_crps_by_scale", "plot_crps_parts", "plot_joint_scores"]

# Scores of fields as a whole, and their titles.
JOINT_SCORES = {"energy_score": "energy score", "variogram_score": "variogram score"}

_CALIBRATION = {
    "crps_potential": ("potential: CRPS if calibrated", COLORS["ensemble"]),
    "crps_reliability": ("reliability (0 if calibrated)", COLORS["persistence"]),
    "crps_resolution": ("resolution (higher is better)", COLORS["mean"]),
    "crps_uncertainty": ("uncertainty: CRPS of the climatology", COLORS["climatology"]),
}
_STYLE = {"marker": "o", "markersize": 3.5}


def plot_crps_parts(scores: xr.Dataset, *, variable: str, region: str | None = None) -> Figure:
    """Draw what the CRPS is made of against lead time.

    The members' mean distance from the observation is the sum of two parts, of members above it
    and of members below it; very unequal ones tell of a bias. The CRPS is what remains once the
    dispersion of the members, half their mean distance from each other, is taken off. Where the
    scores have them, a second panel shows the reliability part of the standard CRPS and the
    potential that it leaves, which is the uncertainty less the resolution.

    Parameters
    ----------
    scores : (variable, [region,] lead_time)
        With ``crps``, ``over`` and ``under``; perhaps ``crps_reliability``, ``crps_potential``,
        ``crps_resolution`` and ``crps_uncertainty``.
    variable : str
        Channel label.
    region : str, optional
        Default: the first.

    Raises
    ------
    InputError
        Unknown channel or region, or scores without the parts.

    References
    ----------
    Hersbach (2000), doi:10.1175/1520-0434(2000)015<0559:DOTCRP>2.0.CO;2.
    """
    from matplotlib.figure import Figure

    scores = of_variable(with_pooled_sums(scores), variable)
    scores, where = one_stratum(scores, region=region)
    if not {"crps", "over", "under"} <= set(scores):
        raise InputError("the scores do not hold the parts of the CRPS.")
    units = display_units(str(scores["units"].values) if "units" in scores.coords else None)
    lead_hours = hours(scores["lead_time"].values)
    over, under, crps = (scores[name].values * units.factor for name in ("over", "under", "crps"))
    second = [name for name in _CALIBRATION if name in scores]

    figure = Figure(figsize=(10 if second else 5.6, 3.6), layout="constrained")
    panels = figure.subplots(1, 2 if second else 1, squeeze=False)[0]
    for axes in panels:
        leads = lead_axis(axes, lead_hours)
        axes.grid(color="0.9", linewidth=0.6)
    panels[0].fill_between(
        leads, over, color=color_of("persistence"), alpha=0.55, linewidth=0, label="members above"
    )
    panels[0].fill_between(
        leads,
        over,
        over + under,
        color=color_of("ensemble"),
        alpha=0.55,
        linewidth=0,
        label="members below",
    )
    panels[0].fill_between(
        leads,
        crps,
        over + under,
        facecolor="none",
        edgecolor="0.25",
        hatch="///",
        linewidth=0,
        label="less: dispersion",
    )
    panels[0].plot(leads, crps, color="0.1", label="CRPS", **_STYLE)
    panels[0].set_axisbelow(True)
    panels[0].set_ylim(0, 1.35 * max(np.nanmax(over + under), 1e-12))  # room for the legend
    panels[0].legend(loc="upper left", ncols=2, frameon=False, fontsize=9)
    panels[0].set_title("Mean distance of members from the observation", loc="left", fontsize=11)
    panels[0].set_ylabel(units.axis_label("CRPS and its parts"))
    for name in second:
        label, color = _CALIBRATION[name]
        panels[1].plot(
            leads, scores[name].values * units.factor, color=color, label=label, **_STYLE
        )
    if second:
        bottom, top = panels[1].get_ylim()
        panels[1].set_ylim(bottom, top + 0.45 * (top - bottom))
        panels[1].legend(loc="upper left", frameon=False, fontsize=9)
        panels[1].axhline(0, color="0.3", linewidth=0.8)
        panels[1].set_title("Calibration", loc="left", fontsize=11)
        panels[1].set_ylabel(units.axis_label("parts of the CRPS"))
    figure.suptitle(_title(variable, where, "parts of the CRPS"), x=0.01, ha="left")
    return figure


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
        With ``crps_by_scale``; its skill is drawn for each reference NAME that has
        ``crps_by_scale_NAME``. The attributes of ``scale`` name its axis.
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
    references = _references(scores, "crps_by_scale")
    labels = lead_labels(hours(scores["lead_time"].values))
    colors = line_colors(len(labels), ordered=True)

    figure = Figure(figsize=(4.4 * (1 + len(references)) + 0.6, 3.6), layout="constrained")
    panels = figure.subplots(1, 1 + len(references), squeeze=False)[0]
    for index, (label, color) in enumerate(zip(labels, colors, strict=True)):
        at_lead = scores.isel(lead_time=index)
        crps = at_lead["crps_by_scale"].transpose("scale").values
        panels[0].plot(scale, crps * units.factor, color=color, label=label, **_STYLE)
        for panel, name in zip(panels[1:], references, strict=True):
            reference = at_lead[f"crps_by_scale_{name}"].values
            skill = 1 - crps / np.where(reference > 0, reference, np.nan)
            panel.plot(scale, skill, color=color, **_STYLE)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel(units.axis_label("CRPS"))
    panels[0].set_title("CRPS", loc="left", fontsize=11)
    _legend(panels[0])
    for panel, name in zip(panels[1:], references, strict=True):
        panel.axhline(0, color="0.3", linewidth=0.8)
        panel.set_title(f"Skill against {name}", loc="left", fontsize=11)
    for panel in panels:
        panel.set_xscale("log")
        panel.set_xticks(scale, [f"{value:g}" for value in scale])
        panel.minorticks_off()
        panel.grid(color="0.9", linewidth=0.6)
        panel.set_xlabel(f"{about['long_name']}{unit}")
    figure.suptitle(_title(variable, where, "CRPS by scale"), x=0.01, ha="left")
    return figure


def plot_joint_scores(scores: xr.Dataset, *, variable: str, region: str | None = None) -> Figure:
    """Energy and variogram scores of fields as a whole against lead time.

    Parameters
    ----------
    scores : (variable, [region,] lead_time)
        With ``energy_score`` or ``variogram_score``, perhaps ``energy_score_NAME`` of references.
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
    units = display_units(str(scores["units"].values) if "units" in scores.coords else None)
    lead_hours = hours(scores["lead_time"].values)

    figure = Figure(figsize=(4.7 * len(drawn) + 0.6, 3.4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        leads = lead_axis(axes, lead_hours)
        # The variogram score is in a power of the variable's unit that it does not say.
        factor = units.factor if name == "energy_score" else 1.0
        for forecast in ("", *_references(scores, name)):
            values = scores[f"{name}_{forecast}" if forecast else name].values * factor
            label = forecast or "ensemble"
            axes.plot(leads, values, color=color_of(label), label=label, **_STYLE)
        axes.set_ylim(bottom=0)
        axes.grid(color="0.9", linewidth=0.6)
        title = JOINT_SCORES[name]
        axes.set_title(f"{title.capitalize()} (lower is better)", loc="left", fontsize=11)
        axes.set_ylabel(units.axis_label(title) if name == "energy_score" else title)
        _legend(axes)
    figure.suptitle(_title(variable, where, "fields as a whole"), x=0.01, ha="left")
    return figure


def _references(scores: xr.Dataset, name: str) -> list[str]:
    """Forecasts whose score ``name`` is there too, as ``name_FORECAST``."""
    prefix = f"{name}_"
    return [str(other).removeprefix(prefix) for other in scores if str(other).startswith(prefix)]


def _title(variable: str, where: str, what: str) -> str:
    return f"{title_of(variable).capitalize()}{where}: {what}"


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=9)
