"""What to draw: one channel, one init time, a few leads, and the observations that verify them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.calendars import require_same_calendar
from weatherdiff.errors import DimensionError, InputError, UnitsError
from weatherdiff.grid import Grid
from weatherdiff.plotting.appearance import title_of

__all__ = [
    "channel",
    "channel_labels",
    "evenly_spaced",
    "forecast_and_observation",
    "hours",
    "known",
    "nearest_cell",
    "observed_at",
    "of_variable",
    "one_stratum",
    "pick_leads",
    "reference_names",
    "single_init",
    "strata",
]

# Dimensions that part the scores; a picture shows one value of each, or compares those of one.
_TIMES = ("season", "month", "hour")
_STRATA = ("region", *_TIMES, *(f"valid_{name}" for name in _TIMES))


def channel_labels(dataset: xr.Dataset) -> list[str]:
    """Labels of the gridded variables, ``name`` or ``name_level`` one for each level.

    Examples
    --------
    >>> temperature = xr.DataArray(
    ...     np.zeros((2, 1, 1)), {"level": [500, 850]}, ("level", "latitude", "longitude")
    ... )
    >>> channel_labels(xr.Dataset({"temperature": temperature}))
    ['temperature_500', 'temperature_850']
    """
    labels = []
    for name, array in dataset.data_vars.items():
        if "level" in array.dims:
            labels += [f"{name}_{level:g}" for level in array["level"].values]
        elif {"latitude", "longitude"} <= set(array.dims):
            labels.append(str(name))
    return labels


def channel(dataset: xr.Dataset, label: str) -> xr.DataArray:
    """One channel of a dataset, without ``level`` and with latitude ascending; stays lazy.

    Raises
    ------
    InputError
        The dataset has no such channel.
    """
    if label not in channel_labels(dataset):
        raise InputError(f"no channel {label!r}, only {', '.join(channel_labels(dataset))}.")
    name = next(name for name in dataset if label in channel_labels(dataset[[name]]))
    array = dataset[name]
    if "level" in array.dims:
        array = array.isel(level=channel_labels(dataset[[name]]).index(label), drop=True)
    if array["latitude"].values[0] > array["latitude"].values[-1]:
        array = array.isel(latitude=slice(None, None, -1))
    return array


def forecast_and_observation(
    forecast: xr.Dataset, observation: xr.Dataset, label: str
) -> tuple[xr.DataArray, xr.DataArray]:
    """Take one channel of both, after checking that they can be compared.

    Raises
    ------
    InputError
        One of them lacks the channel, or they are of different calendars.
    DimensionError
        The observation has no ``time``, or has members.
    GridMismatchError
        The grids differ.
    UnitsError
        Both state a unit, and they differ.
    """
    members, truth = channel(forecast, label), channel(observation, label)
    if set(truth.dims) != {"time", "latitude", "longitude"}:
        raise DimensionError(
            f"the observation has dimensions {truth.dims}, expected time, latitude, longitude; "
            "the forecast comes first, the observation second."
        )
    Grid.from_dataset(members).require_same(Grid.from_dataset(truth))
    if "init_time" in members.coords:
        inits, times = members["init_time"].values, truth["time"].values
        require_same_calendar(inits, times, ("the forecasts", "the observations"))
    units = members.attrs.get("units"), truth.attrs.get("units")
    if None not in units and units[0] != units[1]:
        raise UnitsError(f"{label} is forecast in {units[0]} but observed in {units[1]}.")
    return members, truth.transpose("time", "latitude", "longitude")


def single_init(forecast: xr.DataArray) -> xr.DataArray:
    """Take the forecast from its only init time, with ``init_time`` as a scalar coordinate.

    Raises
    ------
    DimensionError
        There are several init times, or another dimension is missing or unexpected.
    """
    if "init_time" in forecast.dims:
        if forecast.sizes["init_time"] != 1:
            raise DimensionError(
                f"the forecast has {forecast.sizes['init_time']} init times; "
                "select the one to draw with forecast.isel(init_time=[0])."
            )
        forecast = forecast.isel(init_time=0)
    expected = {"lead_time", "number", "latitude", "longitude"}
    if set(forecast.dims) != expected or "init_time" not in forecast.coords:
        raise DimensionError(
            f"the forecast has dimensions {forecast.dims}, expected init_time, "
            f"{', '.join(sorted(expected))}."
        )
    return forecast.transpose("lead_time", "number", "latitude", "longitude")


def of_variable(scores: xr.Dataset, variable: str) -> xr.Dataset:
    """Scores of one channel.

    Raises
    ------
    InputError
        The scores have no such channel.
    """
    labels = [str(label) for label in scores["variable"].values]
    if variable not in labels:
        raise InputError(f"no scores of {variable!r}, only of {', '.join(labels)}.")
    return scores.isel(variable=labels.index(variable))


def reference_names(scores: xr.Dataset, score: str = "crpss") -> list[str]:
    """Names of the reference forecasts with a score of theirs, ``SCORE_NAME``, in the dataset.

    Parameters
    ----------
    scores : xr.Dataset
        With the attribute ``references``; without it there are none.
    score : str
        Without the reference's name.

    Examples
    --------
    >>> scores = xr.Dataset({"crpss_x": 0.1, "crpss_by_scale_x": 0.2}, attrs={"references": ["x"]})
    >>> reference_names(scores), reference_names(scores, "energy_score")
    (['x'], [])
    """
    # NetCDF gives a list of one as a string.
    names = [str(name) for name in np.atleast_1d(scores.attrs.get("references", []))]
    return [name for name in names if f"{score}_{name}" in scores]


def strata(scores: xr.Dataset) -> list[str]:
    """Dimensions that part the scores into several regions, seasons, months or hours.

    Examples
    --------
    >>> crps = xr.DataArray(np.ones((2, 1)), {"region": ["all", "tropics"]}, ("region", "lead"))
    >>> strata(xr.Dataset({"crps": crps}))
    ['region']
    """
    return [name for name in _STRATA if scores.sizes.get(name, 1) > 1]


def one_stratum(scores: xr.Dataset, *, region: str | None = None) -> tuple[xr.Dataset, str]:
    """Take one region, season, month or hour, where the scores are parted so.

    Unless named, the first with a known score is taken: a season without forecasts has none.

    Parameters
    ----------
    scores : ([region,] [season | month | hour,] ...)
        Scores or a comparison.
    region : str, optional
        Its name.

    Returns
    -------
    Dataset
        Without those dimensions.
    str
        What was taken of several, such as ``", tropics, season DJF"``; empty if nothing was.

    Raises
    ------
    InputError
        The scores have no such region.
    """
    words = ""
    if region is not None:
        offered = scores["region"].values.reshape(-1) if "region" in scores.coords else ["all"]
        names = [str(name) for name in offered]
        if region not in names:
            raise InputError(f"no scores of region {region!r}, only of {', '.join(names)}.")
        if "region" in scores.dims:
            position = names.index(region)
            words = f", {title_of(region)}" if len(names) > 1 else ""
            scores = scores.isel(region=position)
    for dim in _STRATA:
        if dim in scores.dims:
            taken = scores.isel({dim: int(known(scores, dim).argmax())})
            if scores.sizes[dim] > 1:
                value = title_of(str(taken[dim].values))
                words += f", {value}" if dim == "region" else f", {title_of(dim)} {value}"
            scores = taken
    return scores, words


def known(scores: xr.Dataset, dim: str) -> npt.NDArray[np.bool_]:
    """Tell which regions, seasons, months or hours have a known score.

    Parameters
    ----------
    scores : (dim, ...)
        Scores with ``crps``, or a comparison; where they are neither, all are known.
    dim : str
        The dimension that parts them.
    """
    for name in ("crps", "relative_difference"):
        if name in scores and dim in scores[name].dims:
            others = [other for other in scores[name].dims if other != dim]
            found: npt.NDArray[np.bool_] = scores[name].notnull().any(others).values
            return found
    return np.ones(scores.sizes[dim], bool)


def evenly_spaced(size: int, count: int) -> list[int]:
    """At most ``count`` positions among ``size``, the first and the last among them.

    Examples
    --------
    >>> evenly_spaced(8, 4)
    [0, 2, 5, 7]
    """
    return sorted({round(position) for position in np.linspace(0, size - 1, min(size, count))})


def pick_leads(
    array: xr.DataArray | xr.Dataset,
    lead_times: Sequence[np.timedelta64] | None,
    *,
    count: int = 4,
) -> xr.DataArray:
    """Take the requested lead times of ``array``, or ``count`` evenly spaced ones.

    Raises
    ------
    InputError
        ``lead_times`` is empty, or one is not among those of the array.
    """
    available = array["lead_time"]
    if lead_times is None:
        return available.isel(lead_time=evenly_spaced(available.size, count))
    wanted = np.asarray(lead_times, dtype="timedelta64[ns]")
    absent = ~np.isin(wanted, available.values)
    if absent.any() or not wanted.size:
        raise InputError(
            f"lead times of {_listed(hours(wanted[absent]))} h are not among the forecast's "
            f"{_listed(hours(available.values))} h."
        )
    return available.sel(lead_time=wanted)


def observed_at(observation: xr.DataArray, times: npt.NDArray[Any]) -> xr.DataArray:
    """Observations at exactly these times, NaN at a time that has none.

    Parameters
    ----------
    observation : (time, ...)
        Analysis; ``time`` ascending and unique.
    times : (time,)
        Ascending and unique, in the calendar of the observations.

    Returns
    -------
    (time, ...)
        Lazy if the input is.
    """
    times = times if times.dtype == object else np.asarray(times, dtype="datetime64[ns]")
    # The narrow slice keeps a long record's task graph short.
    window = observation.sel(time=slice(times[0], times[-1]))
    return window.reindex(time=times)


def nearest_cell(grid: Grid, *, latitude: float, longitude: float) -> tuple[int, int]:
    """Row and column of the cell centre nearest to a point; longitudes count modulo 360.

    Raises
    ------
    InputError
        The point is farther from every cell centre than one cell.

    Examples
    --------
    >>> nearest_cell(Grid([50.0, 51.0, 52.0], [0.0, 2.0, 358.0]), latitude=51.2, longitude=-1.9)
    (1, 2)
    """
    north = np.abs(grid.latitude - latitude)
    east = np.abs((grid.longitude - longitude + 180) % 360 - 180)
    row, column = int(north.argmin()), int(east.argmin())
    spacing = np.abs(np.diff(grid.latitude)).max(), np.abs(np.diff(grid.longitude)).max()
    if north[row] > spacing[0] or east[column] > spacing[1]:
        raise InputError(f"the point {latitude:g}N {longitude:g}E is outside the grid.")
    return row, column


def hours(lead_time: npt.NDArray[np.timedelta64] | np.timedelta64) -> npt.NDArray[np.float64]:
    """Lead times in hours."""
    return np.asarray(lead_time / np.timedelta64(1, "h"), dtype=np.float64)


def _listed(values: npt.NDArray[np.float64]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "(none)"
