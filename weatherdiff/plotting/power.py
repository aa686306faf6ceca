"""Power spectra that the scores hold, and how spectra are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.plotting.appearance import (
    COLORS,
    DisplayUnits,
    display_units,
    lead_labels,
    title_of,
)
from weatherdiff.plotting.frame import put_legend, put_title
from weatherdiff.plotting.selection import hours, of_variable, one_stratum, pick_leads

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["STORED_POWERS", "draw_power", "plot_power"]

# Where the scores keep what is drawn, by its name in the picture.
STORED_POWERS = {
    "observation": "power_observation",
    "members": "power_members",
    "ensemble mean": "power_mean",
}
_LINES = {
    "observation": (COLORS["observation"], 2.0),
    "members": (COLORS["ensemble"], 1.5),
    "ensemble mean": (COLORS["mean"], 1.5),
}


def plot_power(
    scores: xr.Dataset,
    *,
    variable: str,
    lead_times: Sequence[np.timedelta64] | None = None,
) -> Figure:
    """Power of members, their mean and the observation as the scores hold it, and its ratio.

    The picture of :func:`plot_spectrum`, of all forecasts scored and without reading any.

    Parameters
    ----------
    scores : (variable, lead_time, wavenumber)
        With ``power_members``, ``power_mean`` and ``power_observation``.
    variable : str
        Channel label.
    lead_times : sequence of timedelta64, optional
        Default: four evenly spaced ones.

    Raises
    ------
    InputError
        Unknown channel or lead time, or scores without spectra of this variable.
    """
    if not set(STORED_POWERS.values()) <= set(scores):
        raise InputError("the scores hold no spectra.")
    stored = scores[list(STORED_POWERS.values())]
    power, where = one_stratum(of_variable(stored, variable))
    units = display_units(str(power["units"].values) if "units" in power.coords else None)
    power = power.sel(lead_time=pick_leads(power, lead_times))
    power = power.rename({stored: name for name, stored in STORED_POWERS.items()})
    power = power.transpose("lead_time", "wavenumber") * units.factor**2
    # Shorter waves than a grid resolves, beside variables on a finer one.
    power = power.dropna("wavenumber", how="all")
    if not (power["observation"] > 0).any():
        raise InputError(f"the scores hold no spectra of {variable}.")
    title = f"{title_of(variable).capitalize()}{where}: power spectrum"
    return draw_power(power, units=units, title=title)


def draw_power(power: xr.Dataset, *, units: DisplayUnits, title: str) -> Figure:
    """Draw powers, and below them their ratio to the observed one, a column for each lead time.

    Parameters
    ----------
    power : (lead_time, wavenumber)
        ``observation``, ``members`` and ``ensemble mean``, in the square of ``units``. The
        attributes of ``wavenumber`` name the axis.
    units : DisplayUnits
        Of the variable, for the label alone.
    title : str
        What is drawn.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    count = power.sizes["lead_time"]
    figure = Figure(figsize=(2.6 * count + 0.6, 4.6), layout="constrained")
    axes = figure.subplots(2, count, sharex=True, sharey="row", squeeze=False, height_ratios=(3, 2))
    labels = lead_labels(hours(power["lead_time"].values))
    waves = {"long_name": "wavenumber", "units": "1"} | power["wavenumber"].attrs
    xlabel = waves["long_name"]
    if waves["units"] != "1":
        xlabel = display_units(waves["units"]).axis_label(xlabel)
    for index, (top, bottom) in enumerate(axes.T):
        at_lead = power.isel(lead_time=index)
        wavenumber = at_lead["wavenumber"]
        observed = at_lead["observation"].where(at_lead["observation"] > 0)
        for name, (color, width) in _LINES.items():
            label = name if index == 0 else None
            top.loglog(wavenumber, at_lead[name], color=color, linewidth=width, label=label)
            bottom.loglog(wavenumber, at_lead[name] / observed, color=color, linewidth=width)
        top.set_title(labels[index], fontsize=11)
        bottom.set_xlabel(xlabel)
        for panel in (top, bottom):
            panel.grid(color="0.9", linewidth=0.6)
            panel.minorticks_off()  # hundreds of them, drawn slowly
    low, high = axes[1, 0].get_ylim()
    # At least a factor of two each way; the mean of a long forecast may leave at the bottom.
    axes[1, 0].set_ylim(max(min(low, 0.4), 0.03), max(high, 2.5))
    for axis in (axes[1, 0].xaxis, axes[1, 0].yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes[0, 0].set_ylabel(f"power [{units.squared}]" if units.label else "power")
    axes[1, 0].set_ylabel("ratio to observation")
    put_title(figure, title)
    put_legend(figure, axes[0, 0])
    return figure
