"""Settle the dimensions of one opened data set, or refuse it: it must be an analysis.

An analysis has one value for each valid time, level, latitude and longitude. Forecasts and
ensembles have more, and which of their values is meant cannot be guessed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping

import numpy as np
import xarray as xr

from weatherdiff.data.calendars import whole_seconds
from weatherdiff.data.sources.grib import REPEATED
from weatherdiff.errors import DimensionError, InputError
from weatherdiff.grid import canonical_grid, grid_coordinates
from weatherdiff.schema import VARIABLES

__all__ = [
    "DIMENSION_ORDER",
    "chunk",
    "gridded",
    "named_dimensions",
    "place",
    "settle",
    "stored_times",
    "used_dimensions",
]

#: The dimensions an analysis may have, in canonical order.
DIMENSION_ORDER = ("time", "level", "latitude", "longitude")
_CHUNK_BYTES = 64e6


def settle(
    ds: xr.Dataset, *, variables: Collection[str] | None, note: Callable[[str], None]
) -> xr.Dataset:
    """Reduce a data set to the wanted variables on (time, level, latitude, longitude).

    Parameters
    ----------
    ds : xr.Dataset
        With canonical names, otherwise as it was opened.
    variables : collection of str, optional
        Variables to keep if they are here; all gridded ones by default.
    note : callable
        Told in a sentence of everything that is dropped or reinterpreted.

    Returns
    -------
    xr.Dataset
        The variables, with the coordinates they use and no others; perhaps none.

    Raises
    ------
    DimensionError
        It is a forecast or an ensemble, a dimension is unexpected or has no coordinate, or the
        grid is not one of latitude and longitude.
    InputError
        A field is there more than once.
    """
    if variables is not None:
        ds = ds[[name for name in ds.data_vars if name in variables]]
        if not ds.data_vars:
            return ds
    ds = named_dimensions(ds)
    ones = [name for name, size in ds.sizes.items() if size == 1 and name not in DIMENSION_ORDER]
    if ones:
        note(f"dropped dimensions of size one: {', '.join(map(str, ones))}")
        ds = ds.squeeze(ones)
    _refuse_forecasts(ds)
    canonical_grid(*grid_coordinates(ds))  # refuses what is no latitude-longitude grid
    ds = gridded(ds, strict=variables is not None, note=note)
    _refuse_repeated(ds)
    for dim in used_dimensions(ds):
        if dim not in DIMENSION_ORDER:
            raise DimensionError(
                f"there is an unexpected dimension {dim} of size {ds.sizes[dim]}, expected only "
                f"{', '.join(DIMENSION_ORDER)}; open the file with xarray, {_reduced(ds, dim)}, "
                "and give the result to open_fields."
            )
        if dim not in ds.coords:
            raise DimensionError(f"dimension {dim} has no coordinate of that name.")
    ds = _expand(ds, "level", lambda name: place(name) in ("level", ""))
    ds = _expand(ds, "time", lambda name: place(name) != "static")
    for name, field in ds.data_vars.items():
        if place(str(name)) == "static" and "time" in field.dims:
            note(f"{name} is static: its first time is taken")
            ds = ds.assign({name: field.isel(time=0, drop=True)})
    if "time" in ds.coords and ds["time"].dtype.kind == "M":
        ds = ds.assign_coords(time=ds["time"].copy(data=whole_seconds(ds["time"].values)))
    used = used_dimensions(ds)
    others = [str(name) for name in ds.coords if name not in used]
    if others:
        note(f"dropped coordinates that are no dimensions: {', '.join(others)}")
    return ds.drop_vars(others)


def used_dimensions(ds: xr.Dataset) -> set[str]:
    """Name the dimensions that a variable has."""
    return {str(dim) for field in ds.data_vars.values() for dim in field.dims}


def place(name: str) -> str:
    """Tell where a known variable is given, see :class:`Variable`; empty for any other."""
    return VARIABLES[name].place if name in VARIABLES else ""


def named_dimensions(ds: xr.Dataset) -> xr.Dataset:
    """Name a dimension after its coordinate, where that has another name."""
    along = {
        name: ds[name].dims[0]
        for name in DIMENSION_ORDER
        if name in ds.coords and name not in ds.dims and ds[name].ndim == 1
    }
    if "latitude" in along and along["latitude"] == along.get("longitude"):
        raise DimensionError(
            f"latitude and longitude run along the same dimension {along['latitude']}: the grid is "
            "reduced or unstructured and must first be regridded."
        )
    return ds.swap_dims({dim: name for name, dim in along.items()})


def _refuse_forecasts(ds: xr.Dataset) -> None:
    if "number" in ds.dims:
        raise DimensionError(
            f"this is an ensemble of {ds.sizes['number']} members, expected one analysis; choose "
            "one member, or take their mean, before giving it to open_fields."
        )
    lead = ds["lead_time"].values if "lead_time" in ds.coords else np.zeros(())
    leads = (lead != np.zeros((), lead.dtype)).any()
    if {"time", "valid_time"} <= set(ds.coords) and ds["time"].dims == ds["valid_time"].dims:
        leads = leads or (ds["time"].values != ds["valid_time"].values).any()
    if leads or {"lead_time", "init_time"} & set(ds.dims):
        raise DimensionError(
            "this is a forecast, expected an analysis: beside a time it has a lead time "
            f"(dimensions {dict(ds.sizes)}), so that time is when it started; select one lead "
            "time, make its valid time the only time, and give that to open_fields, or choose "
            f"other variables than {', '.join(map(str, ds.data_vars))} with variables=[...]."
        )


def _reduced(ds: xr.Dataset, dim: str) -> str:
    """Say how to be rid of a dimension."""
    if dim == "expver":  # each time is in one of the two, and missing in the other
        first, *others = (f"ds.sel(expver={v!r}, drop=True)" for v in ds[dim].values.tolist())
        joined = "".join(f".combine_first({other})" for other in others)
        return f"join ERA5 and the preliminary ERA5T as in {first}{joined}"
    return f"select as in ds.isel({dim}=0)"


def _refuse_repeated(ds: xr.Dataset) -> None:
    for name, field in ds.data_vars.items():
        if REPEATED in field.attrs:
            raise InputError(
                f"{name} is not one field for each time: {field.attrs[REPEATED]}; give each once, "
                "or choose other variables with variables=[...]."
            )


def gridded(ds: xr.Dataset, *, strict: bool, note: Callable[[str], None]) -> xr.Dataset:
    """Keep the variables on the grid; others are noted or, if they were asked for, refused."""
    others = [
        str(name)
        for name, field in ds.data_vars.items()
        if not {"latitude", "longitude"} <= set(field.dims) or field.dtype.kind not in "bfiu"
    ]
    if others and strict:
        field = ds[others[0]]
        raise DimensionError(
            f"{others[0]} is of type {field.dtype} with dimensions {field.dims}, expected numbers "
            "on (latitude, longitude)."
        )
    if others:
        note(f"left out what is not on the grid: {', '.join(others)}")
    return ds.drop_vars(others)


def _expand(ds: xr.Dataset, dim: str, belongs: Callable[[str], bool]) -> xr.Dataset:
    """Make a scalar coordinate a dimension of the variables it belongs to."""
    if dim not in ds.coords or ds[dim].ndim:
        return ds
    fields = {
        name: field.expand_dims(dim) for name, field in ds.data_vars.items() if belongs(str(name))
    }
    return ds.drop_vars(dim).assign(fields)


def chunk(ds: xr.Dataset, chunks: Mapping[str, int] | None, names: Mapping[str, str]) -> xr.Dataset:
    """Divide a data set into dask arrays: whole fields, times in multiples of the stored chunks.

    Parameters
    ----------
    ds : xr.Dataset
        With canonical names.
    chunks : mapping, optional
        Chunk sizes by canonical dimension; what is a dask array already stays so without.
    names : mapping
        Canonical names by own ones, to look the stored chunks up.
    """
    if ds.chunks and not chunks:
        return ds.chunk()
    stored = stored_times(ds, names)
    step = max((v.nbytes // v.sizes.get("time", 1) for v in ds.data_vars.values()), default=1)
    times = max(1, int(_CHUNK_BYTES // (step * stored))) * stored
    sizes = {**dict.fromkeys(DIMENSION_ORDER, -1), "time": times, **(chunks or {})}
    # a token of its own: dask would otherwise read the data to compute one
    return ds.chunk({k: v for k, v in sizes.items() if k in ds.dims}, token=uuid.uuid4().hex)


def stored_times(ds: xr.Dataset, names: Mapping[str, str]) -> int:
    """Tell how many consecutive times the source stores together; 1 if it does not say.

    Parameters
    ----------
    ds : xr.Dataset
        With canonical names.
    names : mapping
        Canonical names by own ones.
    """
    own = next((old for old, new in names.items() if new == "time"), "time")
    sizes = (v.encoding.get("preferred_chunks", {}).get(own, 1) for v in ds.data_vars.values())
    return max(sizes, default=1)
