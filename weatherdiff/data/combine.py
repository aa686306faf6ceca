"""Join data sets that hold other times, variables or levels, and put the times in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from weatherdiff.errors import DimensionError, GridMismatchError, InputError, UnitsError
from weatherdiff.grid import Grid

__all__ = ["combine", "order_times"]


def combine(parts: Sequence[tuple[str, xr.Dataset]]) -> xr.Dataset:
    """Join canonical data sets along time and level, and their variables.

    Parameters
    ----------
    parts : sequence of (source, dataset)
        At least one; the source is for messages.

    Returns
    -------
    xr.Dataset
        All of them, lazily; times in the order of the parts' first times.

    Raises
    ------
    GridMismatchError
        They are on different grids.
    InputError
        Variables have different times or levels, or the same static field is there twice.
    UnitsError
        A variable has different units.
    """
    first_source, first = parts[0]
    grid = Grid.from_dataset(first)
    units: dict[str, tuple[str, str]] = {}
    groups: dict[tuple[str, ...], dict[tuple[float, ...], list[xr.Dataset]]] = {}
    for source, ds in parts:
        try:
            grid.require_same(Grid.from_dataset(ds))
        except GridMismatchError as error:
            raise GridMismatchError(f"{first_source} and {source}: {error}") from error
        for name, field in ds.data_vars.items():
            known, stated = units.setdefault(str(name), (source, field.attrs["units"]))
            if field.attrs["units"] != stated:
                raise UnitsError(
                    f"{name} is in {stated!r} in {known} and in {field.attrs['units']!r} in "
                    f"{source}; convert one of them."
                )
        ds = ds.assign_coords(latitude=first["latitude"], longitude=first["longitude"])
        levels = tuple(ds["level"].values.tolist()) if "level" in ds.coords else ()
        groups.setdefault(tuple(map(str, ds.data_vars)), {}).setdefault(levels, []).append(ds)
    columns = []
    for by_level in groups.values():
        layers = [_concat(_by_time(same), "time") for same in by_level.values()]
        columns.append(_concat(layers, "level"))
    if len(columns) == 1:
        return columns[0]
    try:
        return xr.merge(columns, join="exact", compat="no_conflicts", combine_attrs="override")
    except ValueError as error:
        spans = "; ".join(f"{', '.join(map(str, c.data_vars))}: {_span(c)}" for c in columns)
        raise InputError(
            f"the variables cannot be joined, they differ in time or level: {spans}; give files "
            "that hold the same times and levels for each variable."
        ) from error


def _by_time(parts: list[xr.Dataset]) -> list[xr.Dataset]:
    if all("time" in ds.dims for ds in parts):
        return sorted(parts, key=lambda ds: ds["time"].values[0])
    return parts


def _concat(parts: list[xr.Dataset], dim: str) -> xr.Dataset:
    if len(parts) == 1:
        return parts[0]
    try:
        if not all(dim in ds.dims for ds in parts):
            raise ValueError(f"some have no {dim}")
        return xr.concat(
            parts,
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
            f"{len(parts)} files with {names} cannot be joined along {dim}: {error}; give each "
            "field once."
        ) from error


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
        A time occurs twice.
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
    twice = index[index.duplicated()]
    if len(twice):
        raise InputError(
            f"{len(twice)} times occur twice, the first is {twice[0]}; give each time once."
        )
    if not index.is_monotonic_increasing:
        note("the times were not in order and have been sorted")
        ds = ds.sortby("time")
    steps = np.diff(ds["time"].values).astype("timedelta64[s]")
    if steps.size:
        gaps = np.flatnonzero(steps > steps.min())
        if gaps.size:
            note(
                f"time has {gaps.size} gaps longer than its step of {steps.min()}, the first after "
                f"{ds.indexes['time'][gaps[0]]}, the longest of {steps.max()}"
            )
    return ds
