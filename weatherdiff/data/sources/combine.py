"""Join data sets that hold other times, variables or levels, and put the times in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Literal

import dask
import numpy as np
import xarray as xr
from dask.local import get_sync

from weatherdiff.errors import DimensionError, GridMismatchError, InputError, UnitsError
from weatherdiff.grid import Grid

__all__ = ["Join", "combine", "order_times"]

_TOLERANCE = 1e-5  # relative, of two levels that are one but for rounding


Join = Literal["exact", "inner", "outer"]


def combine(
    parts: Sequence[tuple[str, xr.Dataset]],
    levels: Sequence[float] | None = None,
    *,
    join: Join = "exact",
    note: Callable[[str], None] = lambda _: None,
) -> xr.Dataset:
    """Join canonical data sets along time and level, and their variables.

    Parameters
    ----------
    parts : sequence of (source, dataset)
        At least one; the source is for messages.
    levels : sequence of float, optional
        Levels to take [hPa]; all by default.
    join : {"exact", "inner", "outer"}
        Of the times of different variables: refused if they differ, those that all have, or all
        that any has, with NaN where there are no fields.
    note : callable
        Told in a sentence what was left out or is missing.

    Returns
    -------
    xr.Dataset
        All of them, lazily; times in the order of the parts' first times.

    Raises
    ------
    GridMismatchError
        They are on different grids.
    InputError
        A level is absent, variables have different times or levels, or two data sets hold the
        same static field with different values.
    UnitsError
        A variable has different units.
    """
    first_source, first = parts[0]
    grid = Grid.from_dataset(first)
    pieces: dict[str, list[tuple[str, xr.Dataset]]] = {}
    for source, ds in parts:
        try:
            grid.require_same(Grid.from_dataset(ds))
        except GridMismatchError as error:
            raise GridMismatchError(f"{first_source} and {source}: {error}") from error
        ds = ds.assign_coords(latitude=first["latitude"], longitude=first["longitude"])
        for name in map(str, ds.data_vars):
            pieces.setdefault(name, []).append((source, ds[[name]]))
    with dask.config.set(scheduler=get_sync):  # fields without time are compared
        columns = [_join(name, found) for name, found in pieces.items()]
    if levels is not None:
        if not any("level" in column.dims for column in columns):
            raise InputError(f"there is no level {list(levels)} hPa: no variable has levels.")
        columns = [_select_levels(column, levels) for column in columns]
    if join != "exact":
        columns = _same_times(columns, join, note)
    try:
        return xr.merge(columns, join="exact", compat="equals", combine_attrs="override")
    except ValueError as error:
        spans = "; ".join(f"{', '.join(map(str, c.data_vars))}: {_span(c)}" for c in columns)
        raise InputError(
            f"the variables cannot be joined, they differ in time or level: {spans}; give files "
            "that hold the same times for each variable (or, in a configuration, set data.join), "
            "and choose levels they all have."
        ) from error


def _same_times(
    columns: Sequence[xr.Dataset], join: Join, note: Callable[[str], None]
) -> list[xr.Dataset]:
    """Give all columns the times that all, or any, have."""
    timed = [order_times(column, note) for column in columns if "time" in column.dims]
    indexes = [column.indexes["time"] for column in timed]
    kinds = {column["time"].dt.calendar for column in timed}
    if len(kinds) > 1:
        raise InputError(f"the calendars of the sources differ: {', '.join(sorted(kinds))}.")
    times = reduce(lambda a, b: a.intersection(b) if join == "inner" else a.union(b), indexes)
    if not len(times):
        raise InputError(
            f"no time is in all sources: {'; '.join(_span(column) for column in timed)}."
        )
    for column, index in zip(timed, indexes, strict=True):
        names = ", ".join(map(str, column.data_vars))
        left, absent = len(index.difference(times)), len(times.difference(index))
        if left:
            note(f"{names}: {left} of {len(index)} times are left out, which other sources lack")
        if absent:
            note(f"{names}: {absent} of {len(times)} times are missing, which other sources have")
    fitted = iter(column.reindex(time=times) for column in timed)
    return [next(fitted) if "time" in column.dims else column for column in columns]


def _join(name: str, pieces: Sequence[tuple[str, xr.Dataset]]) -> xr.Dataset:
    """One variable from all the data sets that hold some of it."""
    first_source, first = pieces[0]
    by_level: dict[tuple[float, ...], list[xr.Dataset]] = {}
    for source, ds in pieces:
        units, first_units = ds[name].attrs["units"], first[name].attrs["units"]
        if units != first_units:
            raise UnitsError(
                f"{name} is in {first_units!r} in {first_source} and in {units!r} in {source}; "
                "convert one of them."
            )
        differs = "time" not in ds.dims and not ds.equals(first)
        if differs or ds[name].dims != first[name].dims:
            raise InputError(
                f"{name} is given by {first_source} and by {source}, and they do not fit together: "
                f"dimensions {first[name].dims} and {ds[name].dims}; choose one."
            )
        levels = tuple(ds["level"].values.tolist()) if "level" in ds.coords else ()
        by_level.setdefault(levels, []).append(ds)
    if "time" not in first.dims:
        return first
    known = np.unique(np.concatenate([np.asarray(levels) for levels in by_level]))
    close = np.flatnonzero(np.diff(known) < _TOLERANCE * known[1:])
    if close.size:
        pair = " and ".join(f"{level:g}" for level in known[close[0] : close[0] + 2])
        raise InputError(
            f"{name} cannot be joined along level: {pair} hPa are almost the same level; give both "
            "files the same."
        )
    return _concat([_concat(same, "time") for same in by_level.values()], "level")


def _concat(parts: list[xr.Dataset], dim: str) -> xr.Dataset:
    if len(parts) == 1:
        return parts[0]
    calendars = {ds[dim].dt.calendar for ds in parts} if dim == "time" else set()
    if len(calendars) > 1:
        raise InputError(
            f"the sources have times of different calendars ({', '.join(sorted(calendars))}), "
            "which cannot be joined; convert one of them with xarray's convert_calendar."
        )
    try:
        return xr.concat(
            sorted(parts, key=lambda ds: ds[dim].values[0]),
            dim,
            data_vars="minimal",
            coords="minimal",
            compat="equals",
            join="exact",
            combine_attrs="override",
        )
    except ValueError as error:
        names = ", ".join(map(str, parts[0].data_vars))
        raise InputError(
            f"{len(parts)} sources of {names} cannot be joined along {dim}: {error}"
        ) from error


def _select_levels(column: xr.Dataset, levels: Sequence[float]) -> xr.Dataset:
    if "level" not in column.dims:
        return column
    present = column["level"].values.tolist()
    missing = [level for level in levels if level not in present]
    if missing:
        names = ", ".join(map(str, column.data_vars))
        raise InputError(f"{names} has no level {missing} hPa; there are: {present}.")
    return column.sel(level=list(levels))


def _span(ds: xr.Dataset) -> str:
    times = ds.indexes.get("time", [])
    levels = f", levels {ds['level'].values.tolist()}" if "level" in ds.coords else ""
    span = f"{len(times)} times from {times[0]} to {times[-1]}" if len(times) else "no time"
    return span + levels


def order_times(ds: xr.Dataset, note: Callable[[str], None]) -> xr.Dataset:
    """Sort by time; refuse a time that is there twice, tell of gaps.

    Raises
    ------
    DimensionError
        The times are not dates.
    InputError
        A time is missing, or occurs twice, be it but for rounding.
    """
    if "time" not in ds.dims:
        return ds
    if ds["time"].dtype.kind == "M":
        ds = ds.assign_coords(time=ds["time"].astype("datetime64[ns]"))
    elif ds["time"].dtype.kind != "O":
        raise DimensionError(
            f"time is of type {ds['time'].dtype}, expected dates; its units should read like "
            "'hours since 2000-01-01'."
        )
    index = ds.indexes["time"]
    missing = int(index.isna().sum())
    if missing:
        raise InputError(
            f"{missing} of {len(index)} times {'is' if missing == 1 else 'are'} missing; fetch the "
            "data again."
        )
    twice = index[index.duplicated()]
    if len(twice):
        raise InputError(
            f"{len(twice)} times occur twice, the first is {twice[0]}; give each time once."
        )
    if not index.is_monotonic_increasing:
        note("the times were not in order and have been sorted")
        ds = ds.sortby("time")
    exact = np.diff(ds["time"].values).astype("timedelta64[us]")
    if exact.size and exact.min() < np.timedelta64(1, "s"):
        raise InputError(
            f"times are less than a second apart, after {ds.indexes['time'][exact.argmin()]}: they "
            "are the same but for rounding; give each time once."
        )
    steps = exact.astype("timedelta64[s]")
    if steps.size:
        gaps = np.flatnonzero(steps > steps.min())
        if gaps.size:
            note(
                f"time has {gaps.size} gaps longer than its step of {steps.min()}, the first after "
                f"{ds.indexes['time'][gaps[0]]}, the longest of {steps.max()}"
            )
    return ds
