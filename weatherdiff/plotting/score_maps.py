"""Where on the map a forecast is good, better than a reference, biased, or too confident."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.grid import Grid
from weatherdiff.plotting.appearance import (
    COLORS,
    DisplayUnits,
    FieldStyle,
    display_units,
    lead_labels,
    title_of,
)
from weatherdiff.plotting.frame import put_title
from weatherdiff.plotting.geography import bar_axes, cell_edges, finish_maps, map_panels
from weatherdiff.plotting.selection import (
    hours,
    of_variable,
    one_stratum,
    pick_leads,
    reference_names,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_score_maps"]

# Skill beyond the end of its scale is not told apart: small denominators make any number. The first
# end that leaves out few cells is taken.
_SKILL_ENDS = (0.5, 1.0)
# More references than this do not fit beside each other.
_MOST_REFERENCES = 3


def plot_score_maps(
    scores: xr.Dataset,
    *,
    variable: str,
    lead_times: Sequence[np.timedelta64] | None = None,
) -> Figure:
    """Draw maps of the CRPS, its skill, bias and spread-skill ratio, a row for each lead time.

    Means over the initial times, cell by cell: with few of them, a single cell says little. Cells
    without an observation or forecast are grey. The first three references are drawn.

    Parameters
    ----------
    scores : (variable, lead_time, latitude, longitude)
        With the sums ``map_weight``, ``map_over``, ``map_under``, ``map_dispersion``; the other
        maps as far as there are ``map_crps_NAME``, ``map_error``, ``map_squared_error`` and
        ``map_variance``. The attributes ``members`` and ``estimator`` say how to score;
        an adjusted CRPS is drawn as the fair one.
    variable : str
        Channel label.
    lead_times : sequence of timedelta64, optional
        Default: three evenly spaced ones.

    Raises
    ------
    InputError
        Unknown channel or lead time, or scores without maps.
    """
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.ticker import NullLocator

    fields, units = _fields(scores, variable, lead_times)
    grid = Grid.from_dataset(fields)
    edges = cell_edges(grid)
    figure, axes = map_panels(fields.sizes["lead_time"], len(fields), edges)
    skill = [str(name) for name in fields if str(name).startswith("skill")]
    end = _end(fields[skill])
    for column, (name, field) in enumerate(fields.items()):
        values = field.transpose("lead_time", "latitude", "longitude").values
        bar: dict[str, Any] = {"extend": "both"}
        norm: Normalize
        if name == "crps":
            title, colormap, bar = "CRPS", "magma_r", {"extend": "max"}
            norm = Normalize(*FieldStyle(colormap, "zero").limits(values))
            bar["label"] = units.axis_label("CRPS")
        elif name == "bias":
            title, colormap = "bias of the mean", "PuOr_r"
            norm = Normalize(*FieldStyle(colormap, "symmetric").limits(values))
            bar["label"] = units.axis_label("bias")
        elif name in skill:
            against = title_of(str(name).removeprefix("skill_"))
            title, colormap = f"skill against\n{against}", "RdBu"
            norm = Normalize(-end, end)
            bar |= {"label": "CRPS skill, blue: better", "ticks": [-end, 0, end]}
        else:
            title, colormap = "spread-skill ratio", "BrBG"
            norm = LogNorm(0.5, 2)
            bar |= {"label": "below 1: too confident", "ticks": [0.5, 0.7, 1, 1.4, 2]}
        for panel, at_lead in zip(axes[:, column], values, strict=True):
            panel.set_facecolor(COLORS["masked"])
            mesh = panel.pcolormesh(*edges, at_lead, cmap=colormap, norm=norm)
        axes[0, column].set_title(title, fontsize=11)
        drawn = figure.colorbar(
            mesh, cax=bar_axes(figure, axes[-1, [column]]), orientation="horizontal", **bar
        )
        if "ticks" in bar:
            drawn.ax.xaxis.set_major_formatter("{x:g}")
            drawn.ax.xaxis.set_minor_locator(NullLocator())
        else:
            drawn.ax.locator_params(nbins=4)
        drawn.ax.tick_params(labelsize=8)
        drawn.ax.xaxis.label.set_fontsize(9)
    valid = np.isfinite(fields["crps"].values).any(axis=0)
    labels = lead_labels(hours(fields["lead_time"].values))
    finish_maps(axes, edges, valid=valid, rows=labels)
    height = figure.get_figheight()
    title = f"{title_of(variable).capitalize()}: scores on the map"
    put_title(figure, title, y=1 - 0.1 / height)
    return figure


def _end(skills: xr.Dataset) -> float:
    """End of the colour scale of all skills."""
    sizes = np.abs(skills.to_array().values) if skills else np.zeros(1)
    sizes = sizes[np.isfinite(sizes)]
    small, large = _SKILL_ENDS
    return small if not sizes.size or (sizes > small).mean() < 0.1 else large


def _fields(
    scores: xr.Dataset, variable: str, lead_times: Sequence[np.timedelta64] | None
) -> tuple[xr.Dataset, DisplayUnits]:
    """Give what the columns show, (lead_time, latitude, longitude) each, in print units."""
    from weatherdiff.evaluation.scores import dispersion_factor

    needed = {"map_weight", "map_over", "map_under", "map_dispersion"}
    if not needed <= set(scores):
        raise InputError("the scores hold no maps.")
    sums = scores[[name for name in scores if str(name).startswith("map_")]]
    sums, _ = one_stratum(of_variable(sums, variable))
    sums = sums.sel(lead_time=pick_leads(sums, lead_times, count=3)).sortby("latitude")
    units = display_units(str(sums["units"].values) if "units" in sums.coords else None)
    members, estimator = scores.attrs.get("members"), scores.attrs.get("estimator", "fair")
    weight = sums["map_weight"].where(sums["map_weight"] > 0)
    mean = {str(name).removeprefix("map_"): sums[name] / weight for name in sums}

    factor = 1.0
    if members is not None and int(members) > 1 and estimator != "adjusted":
        factor = dispersion_factor(str(estimator), int(members))
    crps = mean["over"] + mean["under"] - factor * mean["dispersion"]
    fields = {"crps": crps * units.factor}
    for name in reference_names(scores, "map_crps")[:_MOST_REFERENCES]:
        reference = mean[f"crps_{name}"]
        fields[f"skill_{name}"] = 1 - crps / reference.where(reference > 0)
    if "error" in mean:
        fields["bias"] = mean["error"] * units.factor
    if members is not None and {"variance", "squared_error"} <= set(mean):
        squared_error = mean["squared_error"].where(mean["squared_error"] > 0)
        inflated = (int(members) + 1) / int(members) * mean["variance"]
        fields["spread_skill_ratio"] = (inflated / squared_error) ** 0.5
    return xr.Dataset(fields).transpose("lead_time", "latitude", "longitude"), units
