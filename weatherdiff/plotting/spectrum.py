"""Power against wavenumber, to see whether forecasts have the detail of the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from weatherdiff.data.calendars import after
from weatherdiff.plotting.appearance import display_units, title_of
from weatherdiff.plotting.power import draw_power
from weatherdiff.plotting.selection import (
    forecast_and_observation,
    observed_at,
    pick_leads,
    single_init,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_spectrum"]


def plot_spectrum(
    forecast: xr.Dataset,
    observation: xr.Dataset,
    *,
    variable: str,
    lead_times: Sequence[np.timedelta64] | None = None,
) -> Figure:
    """Power of the members, their mean and the observation, and its ratio to the latter.

    Members that are states like the observed ones have ratio 1 at every wavenumber. The ensemble
    mean rightly loses what is no longer predictable. Powers are averaged over the init times.

    Parameters
    ----------
    forecast : ([init_time,] lead_time, number[, level], latitude, longitude)
        Read one init time and lead time at a time.
    observation : (time[, level], latitude, longitude)
        Analysis on the same grid, with every valid time drawn.
    variable : str
        Channel label.
    lead_times : sequence of timedelta64, optional
        Default: four evenly spaced ones.

    Raises
    ------
    InputError
        Unknown channel or lead time, missing cells or times, or a grid without a spectrum.
    GridMismatchError, UnitsError
        The grids or the units differ.

    See Also
    --------
    weatherdiff.evaluation.spectra.power_spectrum : What is drawn.
    plot_power : The picture of spectra that the scores hold.
    """
    members, truth = forecast_and_observation(forecast, observation, variable)
    leads = pick_leads(members, lead_times)
    units = display_units(members.attrs.get("units"))
    power = _mean_power(members.sel(lead_time=leads), truth) * units.factor**2
    title = f"{title_of(variable).capitalize()}: power spectrum"
    return draw_power(power.assign_coords(lead_time=leads), units=units, title=title)


# What is joined is of one grid and variable: nothing to compare, nothing to fill.
_ALIGNED: dict[str, Any] = {"coords": "minimal", "compat": "override", "join": "exact"}


def _mean_power(members: xr.DataArray, truth: xr.DataArray) -> xr.Dataset:
    """Powers (lead_time, wavenumber), averaged over init times in constant memory."""
    from weatherdiff.evaluation.spectra import power_spectra

    inits = members["init_time"].values.reshape(-1)
    powers = []
    for index in range(inits.size):
        case = single_init(
            members.isel(init_time=[index]) if "init_time" in members.dims else members
        )
        at_lead = []
        for lead in case["lead_time"].values:
            observed = observed_at(truth, np.array([after(inits[index], lead)])).isel(
                time=0, drop=True
            )
            at_lead.append(power_spectra(case.sel(lead_time=lead).load(), observed))
        powers.append(xr.concat(at_lead, dim="lead_time", **_ALIGNED))
    mean = xr.concat(powers, dim="init_time", **_ALIGNED).mean("init_time", keep_attrs=True)
    return mean.rename(ensemble_mean="ensemble mean")
