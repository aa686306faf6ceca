"""Matching of forecasts with analyses: rows, channels, leads and times, all of them exactly.

Times are matched through positions found once by binary search on integers: nanoseconds, in the
calendars of climate models seconds. Selecting by label, per block, would cost a hundred thousand
tasks for a season of forecasts, and xarray's arithmetic would silently keep the intersection of
coordinates that differ.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import dask.array
import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.calendars import is_cftime, on_axis, require_same_calendar
from weatherdiff.errors import DimensionError, InputError, UnitsError
from weatherdiff.grid import Grid

__all__ = [
    "Channel",
    "analysis_times",
    "ascending_latitude",
    "channels",
    "gather",
    "init_times",
    "lead_times",
    "positions",
    "require_same_units",
]

# Of what is gathered together.
_PART_BYTES = 2**24

#: datetime64[ns], or dates of cftime where the calendar needs it.
Times = npt.NDArray[Any]
Leads = npt.NDArray[np.timedelta64]


@dataclass(frozen=True)
class Channel:
    """One variable, at one level if it has levels.

    Parameters
    ----------
    name : str
        Name of the variable in its data set.
    level : str or None
        Value of the ``level`` coordinate to six digits, so that float32 and float64 agree.
    """

    name: str
    level: str | None = None

    @property
    def label(self) -> str:
        """``name``, or ``name_level``."""
        return self.name if self.level is None else f"{self.name}_{self.level}"

    def of(self, ds: xr.Dataset) -> xr.DataArray:
        """Take this channel from a data set, lazily."""
        field = ds[self.name]
        if self.level is None:
            return field
        return field.isel(level=_levels(field).index(self.level), drop=True)


def channels(ds: xr.Dataset, dims: tuple[str, ...]) -> list[Channel]:
    """List the channels of a data set, in its order.

    Parameters
    ----------
    ds : xr.Dataset
        Forecasts or analyses.
    dims : tuple of str
        Dimensions, besides ``level``, that a variable must have to count; others are skipped
        (static fields).

    Raises
    ------
    DimensionError
        A variable has a dimension beyond these and ``level``.

    Examples
    --------
    >>> ds = xr.Dataset({"t": (("time", "level"), np.zeros((2, 2))), "z": ("level", [0.0, 0.0])})
    >>> [channel.label for channel in channels(ds.assign_coords(level=[500, 850]), ("time",))]
    ['t_500', 't_850']
    """
    found: list[Channel] = []
    for name, field in ds.data_vars.items():
        if not set(dims) <= set(field.dims):
            continue
        extra = set(field.dims) - {*dims, "level"}
        if extra:
            raise DimensionError(
                f"{name} has dimensions {field.dims}, expected {dims} and perhaps level."
            )
        if "level" in field.dims:
            found.extend(Channel(str(name), level) for level in _levels(field))
        else:
            found.append(Channel(str(name)))
    return found


def ascending_latitude(ds: xr.Dataset) -> tuple[xr.Dataset, Grid]:
    """Turn a data set whose latitude decreases; values stay with their coordinates.

    Returns
    -------
    (xr.Dataset, Grid)
        The data set with latitude ascending, and its grid.

    Raises
    ------
    DimensionError, InputError
        The coordinates are no latitude-longitude grid, see :class:`~weatherdiff.grid.Grid`.
    """
    grid = Grid.from_dataset(ds)
    if grid.latitude[0] < grid.latitude[-1]:
        return ds, grid
    ds = ds.isel(latitude=slice(None, None, -1))
    return ds, Grid.from_dataset(ds)


def init_times(forecasts: xr.Dataset) -> Times:
    """Give the initial times as ``datetime64[ns]`` or dates of cftime, each once.

    Raises
    ------
    DimensionError
        ``init_time`` is missing or is no vector of dates.
    InputError
        An initial time occurs twice.
    """
    times = _dates(forecasts, "init_time")
    if np.unique(on_axis(times)).size != times.size:
        raise InputError("init_time holds a value twice; drop_duplicates('init_time') first.")
    return times


def lead_times(forecasts: xr.Dataset) -> Leads:
    """Give the lead times as ``timedelta64[ns]``.

    Raises
    ------
    DimensionError
        ``lead_time`` is missing, or numbers without a unit.

    Examples
    --------
    >>> lead_times(xr.Dataset(coords={"lead_time": [6, 12]}))
    Traceback (most recent call last):
        ...
    weatherdiff.errors.DimensionError: lead_time is int64, expected timedelta64; open the file with
    xr.open_dataset(..., decode_timedelta=True).
    """
    return _vector(forecasts, "lead_time", "m").astype("timedelta64[ns]")


def analysis_times(analyses: xr.Dataset) -> Times:
    """Give the times of analyses as ``datetime64[ns]`` or dates of cftime, ascending.

    Raises
    ------
    DimensionError
        ``time`` is missing or is no vector of dates.
    InputError
        Times are not strictly ascending.
    """
    times = _dates(analyses, "time")
    if np.any(np.diff(on_axis(times)) <= np.timedelta64(0)):
        raise InputError("time is not ascending, or holds a value twice; sort the analyses first.")
    return times


def positions(times: Times, wanted: Times) -> npt.NDArray[np.int64]:
    """Find where times lie among ascending ones.

    Parameters
    ----------
    times : (time,)
        Strictly ascending; of any calendar, or what ``on_axis`` of
        :mod:`weatherdiff.data.calendars` gives.
    wanted : (...)
        Times sought, alike.

    Returns
    -------
    (...)
        Position in ``times`` of the equal value, -1 if there is none.

    Raises
    ------
    InputError
        The two are of different calendars.

    Examples
    --------
    >>> days = np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[ns]")
    >>> positions(days, days[::-1] + np.timedelta64(24, "h"))
    array([-1,  1])
    """
    if object in (times.dtype, wanted.dtype):
        require_same_calendar(wanted, times, ("the times sought", "those there are"))
    known, sought = on_axis(times).astype(np.int64), on_axis(wanted).astype(np.int64)
    if known.size == 0:
        return np.full(sought.shape, -1)
    index = np.searchsorted(known, sought).clip(max=known.size - 1)
    return np.where(known[index] == sought, index, -1)


def gather(
    field: xr.DataArray, index: npt.NDArray[np.int64], dims: tuple[str, ...]
) -> xr.DataArray:
    """Take frames at given positions in time, lazily.

    Each frame needed is in the graph once, however often it is repeated: a climatology takes the
    same training days for every forecast. Chunks are small, so that a few lead times or rows can
    be taken without making the others.

    Parameters
    ----------
    field : (time, ...)
        Frames, in memory or lazy.
    index : (*dims)
        Positions in time; -1 gives NaN.
    dims : tuple of str
        Names of the dimensions of ``index``.

    Returns
    -------
    xr.DataArray, (*dims, ...)
        Dask-backed frames.

    Examples
    --------
    >>> field = xr.DataArray([[1.0], [2.0]], dims=("time", "x"))
    >>> gather(field, np.array([1, -1, 1]), ("lead_time",)).values.ravel()
    array([ 2., nan,  2.])
    """
    found = index >= 0
    needed, inverse = np.unique(index[found], return_inverse=True)
    slots = np.full(index.shape, -1)
    slots[found] = inverse
    frames = field.isel(time=needed).transpose("time", ...)
    parts, space = _parts(index.shape, frames, dims)
    frames = frames.chunk({"time": -1, **space})
    names = (*dims, *frames.dims[1:])
    data = dask.array.blockwise(
        _take, names,
        frames.data, frames.dims,
        dask.array.from_array(slots, chunks=parts), dims,
        dtype=_floating(field.dtype), concatenate=True, meta=np.empty((), _floating(field.dtype)),
    )  # fmt: skip
    coords = {name: c for name, c in field.coords.items() if "time" not in c.dims and c.dims}
    return xr.DataArray(data, coords, names, field.name, field.attrs)


def _parts(
    shape: tuple[int, ...], frames: xr.DataArray, dims: tuple[str, ...]
) -> tuple[tuple[int, ...], dict[Hashable, int]]:
    """Chunks of the index, and of latitude if one frame of all members is too large already."""
    frame = math.prod(frames.shape[1:]) * _floating(frames.dtype).itemsize
    together = shape[dims.index("number")] if "number" in dims else 1
    space: dict[Hashable, int] = {}
    if "latitude" in frames.dims:
        row = frame // max(1, frames.sizes["latitude"]) * max(together, len(frames))
        space["latitude"] = min(frames.sizes["latitude"], max(1, _PART_BYTES // max(1, row)))
    fitting, parts = max(1, _PART_BYTES // max(1, together * frame)), []
    for name, size in zip(reversed(dims), reversed(shape), strict=True):
        step = size if name == "number" else min(size, fitting)
        parts.append(max(1, step))
        fitting = fitting if name == "number" else max(1, fitting // max(1, step))
    return tuple(reversed(parts)), space


def require_same_units(forecast: xr.DataArray, observation: xr.DataArray) -> str:
    """Give the unit two arrays share, empty if neither states one.

    Raises
    ------
    UnitsError
        Both state a unit, and they differ.
    """
    stated = [
        str(array.attrs["units"]) for array in (forecast, observation) if "units" in array.attrs
    ]
    if len(set(stated)) > 1:
        raise UnitsError(
            f"{forecast.name} is in {stated[0]!r} but is to be compared with {stated[1]!r}; "
            "convert one of them."
        )
    return stated[0] if stated else ""


def _levels(field: xr.DataArray) -> list[str]:
    return [f"{level:g}" for level in field["level"].values]


def _floating(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Type that holds the values and NaN."""
    return np.result_type(dtype, np.float32)


def _take(frames: npt.NDArray[Any], slots: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Frames (time, ...) at slots (...); NaN where a slot is -1."""
    found = slots >= 0
    frames = frames.astype(_floating(frames.dtype), copy=False)
    if found.all():  # the usual case, in one copy
        return np.take(frames, slots, axis=0)
    result = np.full(slots.shape + frames.shape[1:], np.nan, dtype=frames.dtype)
    result[found] = frames[slots[found]]
    return result


def _dates(ds: xr.Dataset, name: str) -> Times:
    times = _vector(ds, name, "M")
    return times if times.dtype == object else times.astype("datetime64[ns]")


def _vector(ds: xr.Dataset, name: str, kind: str) -> npt.NDArray[Any]:
    """Coordinate values, refused unless a vector of dates (kind M) or durations (m)."""
    if name not in ds.coords:
        raise DimensionError(f"no coordinate {name} among {sorted(map(str, ds.coords))}.")
    values = ds[name].values
    if values.ndim != 1:
        raise DimensionError(f"{name} has dimensions {ds[name].dims}, expected one.")
    if kind == "M" and is_cftime(values):
        return values
    if values.dtype.kind != kind:
        expected = "datetime64" if kind == "M" else "timedelta64"
        option = "decode_times" if kind == "M" else "decode_timedelta"
        raise DimensionError(
            f"{name} is {values.dtype}, expected {expected}; open the file with "
            f"xr.open_dataset(..., {option}=True)."
        )
    return values
