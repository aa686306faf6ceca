"""Settle the dimensions of one opened data set, or refuse it: it must hold ensemble forecasts.

A forecast has one value for each initial time, lead time, member, level, latitude and longitude;
what an analysis has is settled by :mod:`weatherdiff.data.sources.analysis`.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from weatherdiff.data.sources.analysis import gridded, named_dimensions, place, used_dimensions
from weatherdiff.data.sources.forecast_times import (
    decode_init_times,
    decode_lead_times,
    require_valid_times,
)
from weatherdiff.errors import DimensionError, InputError
from weatherdiff.grid import canonical_grid, grid_coordinates

__all__ = ["DIMENSION_ORDER", "FORECAST_DIMENSIONS", "chunk", "settle"]

#: The dimensions that make forecasts of fields.
FORECAST_DIMENSIONS = ("init_time", "lead_time", "number")
#: The dimensions of ensemble forecasts in canonical order.
DIMENSION_ORDER = (*FORECAST_DIMENSIONS, "level", "latitude", "longitude")
_CHUNK_BYTES = 64e6


def settle(
    ds: xr.Dataset, units: Mapping[str, str], *, strict: bool, note: Callable[[str], None]
) -> xr.Dataset:
    """Reduce a data set to its variables on the dimensions of forecasts, with decoded times.

    Parameters
    ----------
    ds : xr.Dataset
        With canonical names, otherwise as it was opened; dask arrays, where a dimension is to be
        added without reading.
    units : mapping
        Units of ``lead_time``, if the user states them.
    strict : bool
        Whether to refuse a variable that is not on the grid, instead of dropping it.
    note : callable
        Told in a sentence of everything that is dropped or reinterpreted.

    Returns
    -------
    xr.Dataset
        Variables with all of ``init_time``, ``lead_time`` and ``number``, static ones with none;
        no coordinates but those of dimensions.

    Raises
    ------
    DimensionError
        A dimension is unexpected, missing in a variable or has no coordinate, a time is not what
        it must be, or the grid is not one of latitude and longitude.
    InputError
        A dimension is empty, or valid times contradict initial and lead times.
    """
    if not ds.data_vars:
        return ds
    ds = named_dimensions(ds)
    along = {
        ds[name].dims[0]: name
        for name in FORECAST_DIMENSIONS
        if name in ds.coords and name not in ds.dims and ds[name].ndim == 1
    }
    along = {dim: name for dim, name in along.items() if dim not in DIMENSION_ORDER}
    ds = ds.swap_dims(along)
    _require_own_dimensions(ds)
    ones = [str(dim) for dim, size in ds.sizes.items() if size == 1 and dim not in DIMENSION_ORDER]
    if ones:
        note(f"dropped dimensions of size one: {', '.join(ones)}")
        ds = ds.squeeze(ones)
    canonical_grid(*grid_coordinates(ds))  # refuses what is no latitude-longitude grid
    ds = gridded(ds, strict=strict, note=note)
    used = used_dimensions(ds)
    for dim in used - set(DIMENSION_ORDER):
        raise DimensionError(
            f"there is an unexpected dimension {dim} of size {ds.sizes[dim]}, expected only "
            f"{', '.join(DIMENSION_ORDER)}; if it is one of these, say which with "
            f"rename={{{dim!r}: 'number'}}, else select from it with xarray first."
        )
    empty = [dim for dim in DIMENSION_ORDER if ds.sizes.get(dim) == 0]
    if empty:
        raise InputError(f"there is nothing along {', '.join(empty)}: the selection is empty.")
    ds = _decode(ds, units, note)
    dropped = sorted(set(map(str, ds.coords)) - set(DIMENSION_ORDER) - {"valid_time"})
    if dropped:
        note(f"dropped coordinates that are no dimensions: {', '.join(dropped)}")
    ds = ds.drop_vars([*dropped, "valid_time"], errors="ignore")
    return _expand(ds, note)


def _require_own_dimensions(ds: xr.Dataset) -> None:
    for name in FORECAST_DIMENSIONS:
        if name in ds.coords and ds[name].dims not in ((), (name,)):
            raise DimensionError(
                f"{name} has dimensions {ds[name].dims}, expected one of its own; arrange the "
                "forecasts by initial time, lead time and member."
            )


def _decode(ds: xr.Dataset, units: Mapping[str, str], note: Callable[[str], None]) -> xr.Dataset:
    """Give times of the right type without attributes of the file, and labels of the members."""
    for name in ("init_time", "lead_time"):
        if name not in ds.coords:
            raise DimensionError(f"dimension {name} has no coordinate of that name.")
    if "number" not in ds.coords:
        count = ds.sizes.get("number")
        note(f"the members have no numbers and get 0 to {count - 1}" if count else "there is one "
             "forecast and no member, which is read as an ensemble of one")  # fmt: skip
        ds = ds.assign_coords(number=("number", np.arange(count)) if count else 0)
    init = decode_init_times(ds["init_time"])
    lead = decode_lead_times(ds["lead_time"], units.get("lead_time"))
    ds = ds.assign_coords(
        init_time=(ds["init_time"].dims, init), lead_time=(ds["lead_time"].dims, lead)
    )
    require_valid_times(ds)
    return ds


def _expand(ds: xr.Dataset, note: Callable[[str], None]) -> xr.Dataset:
    """Give each variable all the dimensions, static ones latitude and longitude alone."""
    used = [dim for dim in FORECAST_DIMENSIONS if dim in used_dimensions(ds)]
    scalars = [
        dim for dim in (*FORECAST_DIMENSIONS, "level") if dim in ds.coords and ds[dim].ndim == 0
    ]
    fields: dict[str, xr.DataArray] = {}
    for name, field in ds.data_vars.items():
        name, where = str(name), place(str(name))
        own = [dim for dim in FORECAST_DIMENSIONS if dim in field.dims]
        if where == "static" or (not where and used and not own):
            if own:
                note(f"{name} is static: its first field is taken")
            fields[name] = field.isel(dict.fromkeys(own, 0)).drop_vars(
                FORECAST_DIMENSIONS, errors="ignore"
            )
            fields[name] = fields[name].drop_vars("level", errors="ignore")
            continue
        missing = [dim for dim in used if dim not in own]
        if missing:
            raise DimensionError(
                f"{name} has dimensions {field.dims}, without {', '.join(missing)} that others "
                "have; choose variables=[...] that have the same."
            )
        new = [dim for dim in scalars if dim != "level" or where in ("level", "")]
        if "level" in scalars and "level" not in new:
            field = field.drop_vars("level")
        fields[name] = field.expand_dims(new)
    return xr.Dataset(fields)


def chunk(ds: xr.Dataset, chunks: Mapping[str, int] | None, names: Mapping[str, str]) -> xr.Dataset:
    """Divide a data set into dask arrays: whole fields, of as many members and leads as fit.

    Parameters
    ----------
    ds : xr.Dataset
        With canonical names.
    chunks : mapping, optional
        Chunk sizes by canonical dimension; by default about 64 MB in multiples of the stored
        chunks, and what is a dask array already stays so.
    names : mapping
        Canonical names by own ones, to look the stored chunks up.
    """
    if not chunks and any(field.chunks for field in ds.data_vars.values()):
        return ds.chunk()
    stored: dict[str, int] = {}
    for field in ds.data_vars.values():
        for old, size in field.encoding.get("preferred_chunks", {}).items():
            dim = names.get(old, old)
            stored[dim] = max(stored.get(dim, 1), size)
    sizes = {str(dim): size for dim, size in ds.sizes.items()}
    divided = [dim for dim in ("number", "level", "lead_time", "init_time") if dim in sizes]
    size = max((field.dtype.itemsize for field in ds.data_vars.values()), default=1)
    size *= math.prod(min(stored.get(d, 1), n) if d in divided else n for d, n in sizes.items())
    for dim in divided:
        step = min(stored.get(dim, 1), sizes[dim])
        times = max(1, min(int(_CHUNK_BYTES // size), -(-sizes[dim] // step)))
        sizes[dim], size = step * times, size * times
    sizes |= {dim: length for dim, length in (chunks or {}).items() if dim in sizes}
    # a token of its own: dask would otherwise read the data to compute one
    return ds.chunk(sizes, token=uuid.uuid4().hex)
