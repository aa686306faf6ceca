"""What the CRPS is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.plotting.appearance import (
    COLORS,
    color_of,
    display_units,
    lead_axis,
    title_of,
)
from weatherdiff.plotting.frame import put_title
from weatherdiff.plotting.selection import hours, of_variable, one_stratum

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_crps_parts"]

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

    scores = of_variable(scores, variable)
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
    put_title(figure, f"{title_of(variable).capitalize()}{where}: parts of the CRPS")
    return figure
