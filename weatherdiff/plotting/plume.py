"""The plume of one forecast at one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from weatherdiff.data.calendars import after, on_axis
from weatherdiff.errors import InputError
from weatherdiff.grid import Grid
from weatherdiff.plotting.appearance import (
    COLORS,
    degrees_east,
    degrees_north,
    format_time,
    lead_axis,
    shown_units,
    title_of,
)
from weatherdiff.plotting.selection import (
    forecast_and_observation,
    hours,
    nearest_cell,
    single_init,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_plume"]

# Central probabilities of the bands, the widest first, with their opacity.
_BANDS = ((0.9, 0.18), (0.5, 0.3))


def plot_plume(
    forecast: xr.Dataset,
    observation: xr.Dataset,
    *,
    variable: str,
    latitude: float,
    longitude: float,
) -> Figure:
    """Members, quantile bands, median and observations at the cell nearest to a point.

    Quantile ``p`` lies at rank ``p (M + 1)`` of the M sorted members, where an ensemble drawn from
    the true distribution would have it; a band whose ends would fall outside the ensemble is not
    drawn (the 90 % band needs 19 members). Observations begin half the forecast's length before
    the init time, as far as there are any.

    Parameters
    ----------
    forecast : ([init_time,] lead_time, number[, level], latitude, longitude)
        From one init time; only the cell drawn is read.
    observation : (time[, level], latitude, longitude)
        Analysis on the same grid.
    variable : str
        Channel label.
    latitude, longitude : float
        Degrees north and east, in any convention of longitude.

    Raises
    ------
    InputError
        Unknown channel, a point outside the grid, or a forecast without valid values there.
    DimensionError
        Several init times, or a dimension missing.
    GridMismatchError, UnitsError
        The grids or the units differ.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
    from matplotlib.figure import Figure

    members, truth = forecast_and_observation(forecast, observation, variable)
    members = single_init(members)
    grid = Grid.from_dataset(members)
    row, column = nearest_cell(grid, latitude=latitude, longitude=longitude)
    cell = {"latitude": row, "longitude": column}
    place = f"{degrees_north(grid.latitude[row])} {degrees_east(grid.longitude[column])}"

    units = shown_units(members.attrs.get("units"), variable)
    values = units.value_of(members.isel(cell).values)
    if not np.isfinite(values).any():
        raise InputError(f"the forecast of {variable} has no valid value at {place}.")
    init, leads = members["init_time"].values, members["lead_time"].values
    times: Any = after(init, leads)
    begin: Any = after(init, -(leads[-1] / 2))
    truth = truth.isel(cell).sel(time=slice(begin, times[-1]))
    observed_times = truth["time"].values

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots()
    start, dated = format_time(init), times.dtype.kind == "M"
    if not dated:  # matplotlib knows no other calendar
        unit = lead_axis(axes, hours(leads))[-1] / hours(leads)[-1]
        times, observed_times, begin, init = (
            hours(on_axis(dates) - on_axis(init)) * unit
            for dates in (times, observed_times, begin, init)
        )
    axes.plot(times, values, color=COLORS["ensemble"], linewidth=0.5, alpha=0.4)
    axes.plot([], [], color=COLORS["ensemble"], linewidth=0.5, label="members")
    for probability, opacity in _BANDS:
        tail = (1 - probability) / 2
        if tail * (values.shape[1] + 1) < 1 - 1e-9:
            continue
        low, high = np.quantile(values, [tail, 1 - tail], axis=1, method="weibull")
        axes.fill_between(
            times,
            low,
            high,
            color=COLORS["ensemble"],
            alpha=opacity,
            linewidth=0,
            label=f"central {probability:.0%}",
        )
    median = np.median(values, axis=1)
    axes.plot(
        times,
        median,
        color=COLORS["ensemble"],
        linewidth=2,
        marker="o",
        markersize=4,
        label="median",
    )
    axes.plot(
        observed_times,
        units.value_of(truth.values),
        color=COLORS["observation"],
        linewidth=1.3,
        marker=".",
        markersize=4,
        label="observation",
    )
    axes.axvline(date2num(init) if dated else 0, color="0.4", linewidth=0.8, linestyle="--")
    axes.set_xlim(begin, times[-1] + (times[-1] - begin) / 100)
    axes.set_ylabel(units.axis_label(""))
    if dated:
        locator = AutoDateLocator(minticks=4, maxticks=9)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes.set_xlabel("valid time [UTC]")
    axes.set_axisbelow(True)
    axes.grid(color="0.9", linewidth=0.6)
    title = f"{title_of(variable).capitalize()} at {place}\nforecast from {start}"
    axes.set_title(title, loc="left", fontsize=11)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure
