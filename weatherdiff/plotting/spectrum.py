"""Power against zonal wavenumber, to see whether forecasts have the detail of the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.grid import Grid
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

__all__ = ["plot_spectrum", "zonal_power"]


def zonal_power(field: xr.DataArray) -> xr.DataArray:
    r"""Variance of a field in each zonal wavenumber, averaged over the area.

    The rows of a global field are taken as they are, so that the powers of wavenumbers 1, 2, ...
    add up to the variance about the zonal mean. The rows of a regional field first lose their
    linear trend and are tapered with a Hann window :math:`w`; dividing by the mean of :math:`w^2`
    keeps the variance in expectation. Wavenumber 1 of a region is then hardly more than a remnant.

    Parameters
    ----------
    field : (..., latitude, longitude)
        Evenly spaced in longitude, without missing values. Read into memory.

    Returns
    -------
    (..., wavenumber)
        In the square of the field's unit; ``wavenumber`` from 1 in cycles per extent of the grid.

    Raises
    ------
    InputError
        Missing values, or longitudes that are not evenly spaced.

    Examples
    --------
    >>> longitude = np.arange(0, 360, 45.0)
    >>> wave = xr.DataArray(
    ...     np.tile(3 * np.cos(np.deg2rad(2 * longitude)), (2, 1)),
    ...     {"latitude": [-30.0, 30.0], "longitude": longitude},
    ...     ("latitude", "longitude"),
    ... )
    >>> zonal_power(wave).values.round(6)
    array([0. , 4.5, 0. , 0. ])
    """
    field = field.transpose(..., "latitude", "longitude")
    grid = Grid.from_dataset(field)
    steps = np.diff(grid.longitude)
    if np.ptp(steps) > 1e-3 * np.abs(steps).min():
        raise InputError("a zonal spectrum needs evenly spaced longitudes.")
    values = field.values.astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError("a zonal spectrum needs a field without missing cells.")
    size = values.shape[-1]
    values = values - values.mean(axis=-1, keepdims=True)
    if not grid.is_periodic:
        position = np.arange(size) - (size - 1) / 2
        slope = (values * position).sum(axis=-1, keepdims=True) / (position**2).sum()
        # The window that does not repeat its zero: no point of the row is lost.
        window = np.hanning(size + 2)[1:-1]
        values = (values - slope * position) * window / np.sqrt(np.mean(window**2))
    power = 2 * np.abs(np.fft.rfft(values) / size) ** 2
    if size % 2 == 0:
        power[..., -1] /= 2  # the shortest wave has no separate negative frequency
    weights = grid.area_weights().mean("longitude").values
    mean = np.average(power[..., 1:], axis=-2, weights=weights)
    return xr.DataArray(
        mean,
        {name: field[name] for name in field.dims[:-2] if name in field.coords}
        | {"wavenumber": np.arange(1, mean.shape[-1] + 1)},
        (*field.dims[:-2], "wavenumber"),
    )


def plot_spectrum(
    forecast: xr.Dataset,
    observation: xr.Dataset,
    *,
    variable: str,
    lead_times: Sequence[np.timedelta64] | None = None,
) -> Figure:
    """Zonal power of the members, their mean and the observation, and its ratio to the latter.

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
        Unknown channel or lead time, missing cells or times, uneven longitudes.
    GridMismatchError, UnitsError
        The grids or the units differ.

    See Also
    --------
    zonal_power : What is drawn.
    """
    members, truth = forecast_and_observation(forecast, observation, variable)
    grid = Grid.from_dataset(members)
    leads = pick_leads(members, lead_times)
    units = display_units(members.attrs.get("units"))
    power = _mean_power(members.sel(lead_time=leads), truth) * units.factor**2

    return draw_power(
        power.assign_coords(lead_time=leads),
        units=units,
        xlabel="waves around the globe" if grid.is_periodic else "waves across the area",
        title=f"{title_of(variable).capitalize()}: zonal power",
    )


def _mean_power(members: xr.DataArray, truth: xr.DataArray) -> xr.Dataset:
    """Powers (lead_time, wavenumber), averaged over init times in constant memory."""
    inits = members["init_time"].values.reshape(-1)
    powers = []
    for index in range(inits.size):
        case = single_init(
            members.isel(init_time=[index]) if "init_time" in members.dims else members
        )
        at_lead = []
        for lead in case["lead_time"].values:
            ensemble = case.sel(lead_time=lead).load()
            observed = observed_at(truth, np.array([inits[index] + lead])).isel(time=0, drop=True)
            at_lead.append(
                xr.Dataset(
                    {
                        "observation": zonal_power(observed),
                        "members": zonal_power(ensemble).mean("number"),
                        "ensemble mean": zonal_power(ensemble.mean("number", skipna=False)),
                    }
                )
            )
        powers.append(xr.concat(at_lead, dim="lead_time"))
    return xr.concat(powers, dim="init_time").mean("init_time")
