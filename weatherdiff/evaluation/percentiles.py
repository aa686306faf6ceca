"""Thresholds that vary with place and season: percentiles of a training period.

The percentile of a cell, day of the year and hour of day is that of the training values at this
hour within a window of days around the day, all years together. Values are read by spatial tiles,
so that memory holds one tile's whole record and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array
import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import DimensionError, InputError
from weatherdiff.evaluation.baselines.training import (
    calendar_of,
    day_of_year,
    days_of_year,
    hour_of_day,
    season_distance,
    spans_a_year,
    within,
)
from weatherdiff.evaluation.events import NANOSECONDS_PER_HOUR, Event

__all__ = ["climatological_percentile", "percentile_events"]

# Values of the record in one tile: 256 MiB of float32.
_TILE_VALUES = 2**26
_CELLS = ("latitude", "longitude")


def climatological_percentile(
    analyses: xr.Dataset,
    percentile: float | Sequence[float],
    *,
    period: tuple[object, object],
    window: int = 15,
) -> xr.Dataset:
    """Percentiles of each cell, day of the year and hour of day.

    A record of less than a year has no season: every day of it counts, and the result has no
    ``dayofyear``. Missing values are left out: a threshold is that of the values there are, and NaN
    where there is none. Days of the year without any training day nearby are not in the result.

    Parameters
    ----------
    analyses : (time[, level], latitude, longitude)
        Variables, ascending in time, in memory or lazy; those without ``time`` are skipped.
    percentile : float or sequence of float
        Between 0 and 100, interpolated linearly between the sorted values.
    period : (start, end)
        Training period, both ends included, as anything ``analyses.sel(time=slice(...))`` takes.
        It should not contain the times that are verified.
    window : int
        Half-width in days of the window of the season: 15 takes 31 days of every year.

    Returns
    -------
    xr.Dataset, ([percentile,] [dayofyear,] hour[, level], latitude, longitude)
        Thresholds in the unit and type of the variables, lazy, a spatial tile at a time; each tile
        reads its part of the record. Compute it, or store it and open it, before events are made
        of it. ``percentile`` is a dimension if a sequence was given.

    Raises
    ------
    DimensionError
        ``time`` is missing or is not made of dates, or a variable has another dimension than told.
    InputError
        No analysis lies in the period, times are not ascending, or a percentile is out of range.
    ValueError
        ``window`` is negative.

    Examples
    --------
    >>> time = np.arange("2020-01-01", "2020-01-06", 12, dtype="datetime64[h]")
    >>> values = np.arange(10.0)[:, np.newaxis, np.newaxis] * np.ones((2, 3))
    >>> analyses = xr.Dataset(
    ...     {"t": (("time", "latitude", "longitude"), values)},
    ...     {"time": time.astype("datetime64[ns]"), "latitude": [0, 1], "longitude": [0, 1, 2]},
    ... )
    >>> thresholds = climatological_percentile(analyses, 75, period=("2020-01-01", "2020-01-05"))
    >>> thresholds["t"].dims, thresholds["t"][:, 0, 0].values
    (('hour', 'latitude', 'longitude'), array([6., 7.]))
    """
    percentiles = np.atleast_1d(np.asarray(percentile, np.float64))
    if percentiles.ndim > 1 or not np.all((percentiles >= 0) & (percentiles <= 100)):
        raise InputError(f"percentile is {percentile}, expected numbers between 0 and 100.")
    if window < 0:
        raise ValueError(f"window is {window}, expected at least 0 days.")
    analyses = within(analyses, period)
    times = analyses["time"].values
    samples, coords = _samples(times, window)
    coords = {"percentile": percentiles, **coords}
    thresholds = xr.Dataset(
        {
            name: _percentile_field(field, samples, coords)
            for name, field in analyses.data_vars.items()
            if "time" in field.dims
        },
        attrs={"period": f"{period[0]}/{period[1]}", "window_days": window},
    )
    own = calendar_of(times)
    if "dayofyear" in thresholds and not own.standard:
        thresholds["dayofyear"].attrs["calendar"] = own.name
    return thresholds if np.ndim(percentile) else thresholds.isel(percentile=0)


def percentile_events(thresholds: xr.Dataset, *, above: bool = True) -> list[Event]:
    """Events of every variable, level and percentile of climatological thresholds.

    Parameters
    ----------
    thresholds : xr.Dataset
        Result of :func:`climatological_percentile`, computed or opened from a file.
    above : bool
        Whether the events are values greater than the thresholds, or less.

    Returns
    -------
    list of Event
        Labelled ``"above_p90"`` or ``"below_p10"``, the same for all variables.

    Raises
    ------
    DimensionError
        The thresholds state no ``percentile``.

    Examples
    --------
    >>> thresholds = xr.Dataset(
    ...     {"t": (("level", "latitude", "longitude"), np.zeros((2, 2, 2)))},
    ...     {"level": [500, 850], "latitude": [0, 1], "longitude": [0, 1], "percentile": 90.0},
    ... )
    >>> [(event.variable, event.label) for event in percentile_events(thresholds)]
    [('t_500', 'above_p90'), ('t_850', 'above_p90')]
    """
    if "percentile" not in thresholds.coords:
        raise DimensionError("thresholds have no coordinate percentile.")
    if "percentile" not in thresholds.dims:
        thresholds = thresholds.expand_dims("percentile")
    side = "above" if above else "below"
    return [
        Event(variable, field, above, f"{side}_p{value:g}")
        for i, value in enumerate(thresholds["percentile"].values)
        for name, whole in thresholds.isel(percentile=i).data_vars.items()
        for variable, field in _channels(str(name), whole)
    ]


def _channels(name: str, field: xr.DataArray) -> list[tuple[str, xr.DataArray]]:
    if "level" not in field.dims:
        return [(name, field)]
    return [
        (f"{name}_{level:g}", field.isel(level=i, drop=True))
        for i, level in enumerate(field["level"].values)
    ]


def _samples(
    times: npt.NDArray[np.datetime64], window: int
) -> tuple[list[list[npt.NDArray[np.intp]]], dict[str, npt.NDArray[Any]]]:
    """Positions in time of the training values by day of year and hour, and the coordinates."""
    days, of_day = day_of_year(times), hour_of_day(times)
    at_hour = [np.flatnonzero(of_day == hour) for hour in np.unique(of_day)]
    hours = np.unique(of_day) / NANOSECONDS_PER_HOUR
    if not spans_a_year(times):
        return [at_hour], {"hour": hours}
    by_day = {}
    year = days_of_year(times)
    for day in range(year):
        near = season_distance(days, day, year) <= window
        if near.any():
            by_day[day + 1] = [positions[near[positions]] for positions in at_hour]
    return list(by_day.values()), {"dayofyear": np.array(list(by_day)), "hour": hours}


def _percentile_field(
    field: xr.DataArray,
    samples: list[list[npt.NDArray[np.intp]]],
    coords: dict[str, npt.NDArray[Any]],
) -> xr.DataArray:
    """Lazy percentiles of one variable, (percentile, [dayofyear,] hour, ...)."""
    space = tuple(str(dim) for dim in field.dims if dim != "time")
    if set(space) - {"level"} != set(_CELLS):
        raise DimensionError(
            f"{field.name} has dimensions {field.dims}, expected time, latitude, longitude and "
            "perhaps level."
        )
    dtype = field.dtype if field.dtype.kind == "f" else np.dtype(np.float64)
    tiling = _tiling(field, space)
    lead = tuple((len(values),) for values in coords.values())
    data = dask.array.map_blocks(
        _Tile(field.transpose("time", *space).astype(dtype), tiling, samples, coords["percentile"]),
        chunks=lead + tiling,
        dtype=dtype,
        meta=np.empty((0,) * (len(lead) + len(space)), dtype),
    )
    kept = {name: field[name] for name in space if name in field.coords}
    units = {key: field.attrs[key] for key in ("units",) if key in field.attrs}
    return xr.DataArray(data, {**coords, **kept}, (*coords, *space), field.name, units)


def _tiling(field: xr.DataArray, space: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    """Chunks of the spatial dimensions so that a tile's record fits the budget."""
    left = max(1, _TILE_VALUES // field.sizes["time"])
    tiling = []
    for dim in reversed(space):  # a whole row before the next one
        step = min(field.sizes[dim], left)
        whole, rest = divmod(field.sizes[dim], step)
        tiling.append((step,) * whole + ((rest,) if rest else ()))
        left = max(1, left // step)
    return tuple(reversed(tiling))


class _Tile:
    """Percentiles of one tile; an object, so that dask does not look into its field."""

    def __init__(
        self,
        field: xr.DataArray,
        tiling: tuple[tuple[int, ...], ...],
        samples: list[list[npt.NDArray[np.intp]]],
        percentiles: npt.NDArray[np.float64],
    ) -> None:
        self._field = field
        self._starts = [np.concatenate([[0], np.cumsum(sizes)]) for sizes in tiling]
        self._samples = samples
        self._percentiles = percentiles

    def __call__(self, *, block_id: tuple[int, ...]) -> npt.NDArray[np.floating]:
        places = block_id[-len(self._starts) :]
        part = {
            dim: slice(starts[i], starts[i + 1])
            for dim, starts, i in zip(self._field.dims[1:], self._starts, places, strict=True)
        }
        # Within a task of dask: its own threads are at work already.
        record = self._field.isel(part).compute(scheduler="synchronous").values
        cells = record.shape[1:]
        record = np.ascontiguousarray(record.reshape(len(record), -1).T)
        by_day = [
            np.stack([percentiles_of(record[:, hour], self._percentiles) for hour in day])
            for day in self._samples
        ]
        result = np.moveaxis(np.stack(by_day), -1, 0)  # (percentile, day, hour, cell)
        if len(block_id) - len(cells) == 2:  # no season
            result = result[:, 0]
        return result.reshape(*result.shape[:-1], *cells).astype(record.dtype)


def percentiles_of(
    values: npt.NDArray[np.floating], percentiles: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Percentiles along the last axis of the values there are, interpolated linearly.

    ``np.nanpercentile`` gives the same, cell by cell in Python.

    Parameters
    ----------
    values : (cell, sample)
        NaN is left out.
    percentiles : (percentile,)
        Between 0 and 100.

    Returns
    -------
    (cell, percentile)
        NaN where a cell has no value.

    Examples
    --------
    >>> percentiles_of(np.array([[3.0, 1.0, np.nan], [np.nan] * 3]), np.array([50.0]))
    array([[ 2.],
           [nan]])
    """
    ordered = np.sort(values, axis=-1)  # NaN last
    found = np.count_nonzero(~np.isnan(ordered), axis=-1)
    if values.shape[-1] == 0:
        return np.full((len(values), percentiles.size), np.nan)
    place = percentiles / 100 * np.maximum(found - 1, 0)[:, np.newaxis]
    lower = np.floor(place).astype(np.intp)
    upper = np.minimum(lower + 1, np.maximum(found - 1, 0)[:, np.newaxis])
    low = np.take_along_axis(ordered, lower, axis=-1).astype(np.float64)
    high = np.take_along_axis(ordered, upper, axis=-1).astype(np.float64)
    return low + (high - low) * (place - lower)  # exact where both are equal
