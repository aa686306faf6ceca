"""Zarr stores of public collections that are laid out in ways of their own.

*anemoi-datasets* keeps all variables in one array ``data`` (time, variable, ensemble, cell), with
names in the attributes and units nowhere: those of ECMWF's parameters are fixed, and are added.
Only regular grids of latitudes and longitudes are read. Its chunks hold all variables of a time,
and each variable that is read decodes them again: choose few.

*ARCO-ERA5* has a time axis from 1900 on that is longer than its data; its attributes tell which
part of it is valid, and the rest would read as fill values.

WeatherBench 2 needs nothing of the kind: its order of dimensions and its names are known.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from xarray.core import indexing

from weatherdiff.errors import DimensionError, InputError

__all__ = ["is_anemoi", "settled_layout"]

_LOG = logging.getLogger(__name__)

_ANEMOI = ("time", "variable", "ensemble", "cell")
_ON_LEVEL = re.compile(r"(?P<name>[a-z]+)_(?P<level>\d+)")
#: ECMWF's parameters, https://codes.ecmwf.int/grib/param-db
_UNITS = {
    **dict.fromkeys(("2t", "2d", "sst", "skt", "t"), "K"),
    **dict.fromkeys(("10u", "10v", "100u", "100v", "u", "v"), "m s**-1"),
    **dict.fromkeys(("sp", "msl"), "Pa"),
    **dict.fromkeys(("tp", "cp"), "m"),
    **dict.fromkeys(("lsm", "tcc"), "1"),
    "z": "m**2 s**-2",
    "q": "kg kg**-1",
    "r": "%",
    "w": "Pa s**-1",
    "tcwv": "kg m**-2",
}


def settled_layout(ds: xr.Dataset) -> list[xr.Dataset]:
    """Give a store as data sets on latitude and longitude, lazily; most are so already.

    Parameters
    ----------
    ds : Dataset
        As xarray opens the store.

    Returns
    -------
    list of Dataset
        One, or one for each set of levels.

    Raises
    ------
    DimensionError
        It is an ensemble, or on no regular grid.
    InputError
        Its attributes do not fit its arrays.
    """
    if is_anemoi(ds):
        return _anemoi(ds)
    start, stop = (ds.attrs.get(f"valid_time_{end}") for end in ("start", "stop"))
    if isinstance(start, str) and isinstance(stop, str) and "time" in ds.indexes:
        part = ds.sel(time=slice(start, stop))
        if part.sizes["time"] < ds.sizes["time"]:
            _LOG.info(
                "%d of %d times are taken: its attributes say that those from %s to %s are valid",
                part.sizes["time"], ds.sizes["time"], start, stop,
            )  # fmt: skip
        return [part]
    return [ds]


def is_anemoi(ds: xr.Dataset) -> bool:
    """Tell whether a store is one of anemoi-datasets."""
    return "data" in ds.data_vars and ds["data"].dims == _ANEMOI and "variables" in ds.attrs


def _anemoi(ds: xr.Dataset) -> list[xr.Dataset]:
    names = [str(name) for name in ds.attrs["variables"]]
    if len(names) != ds.sizes["variable"]:
        raise InputError(
            f"it names {len(names)} variables, and has {ds.sizes['variable']} of them in its array."
        )
    if ds.sizes["ensemble"] != 1:
        raise DimensionError(
            f"this is an ensemble of {ds.sizes['ensemble']} members, expected an analysis; select "
            "one member when the dataset is made."
        )
    latitude, longitude = _axes(ds)
    times = np.asarray(ds["dates"].values)
    missing = np.array(ds.attrs.get("missing_dates", []), "datetime64[s]")
    kept = np.flatnonzero(~np.isin(times.astype("datetime64[s]"), missing))
    coords = {"time": times[kept], "latitude": latitude, "longitude": longitude}
    columns: dict[str, dict[float, int]] = {}
    fields: dict[str, Any] = {}
    metadata = ds.attrs.get("variables_metadata", {})
    for number, name in enumerate(names):
        short, level = _level(name, metadata.get(name, {}))
        if level is None:
            fields[name] = _field(ds["data"].variable, kept, [number], coords, short, levels=False)
        else:
            columns.setdefault(short, {})[level] = number
    found = [xr.Dataset(fields, coords)] if fields else []
    by_levels: dict[tuple[float, ...], dict[str, Any]] = {}
    for short, numbers in columns.items():
        levels = tuple(sorted(numbers))
        by_levels.setdefault(levels, {})[short] = _field(
            ds["data"].variable, kept, [numbers[x] for x in levels], coords, short, levels=True
        )
    for levels, column in by_levels.items():
        level_axis = ("level", np.array(levels), {"units": "hPa", "standard_name": "air_pressure"})
        found.append(xr.Dataset(column, {**coords, "level": level_axis}))
    return found


def _axes(ds: xr.Dataset) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    shape = tuple(ds.attrs.get("field_shape", ()))
    if len(shape) == 2 and shape[0] * shape[1] == ds.sizes["cell"]:
        latitude = ds["latitudes"].values.reshape(shape)
        longitude = ds["longitudes"].values.reshape(shape)
        if (latitude == latitude[:, :1]).all() and (longitude == longitude[:1]).all():
            return latitude[:, 0], longitude[0]
    raise DimensionError(
        f"its {ds.sizes['cell']} cells (field shape {list(shape)}) are on no regular grid of "
        "latitudes and longitudes but on a reduced or unstructured one; regrid it when the dataset "
        "is made."
    )


def _level(name: str, metadata: Mapping[str, Any]) -> tuple[str, float | None]:
    """Give ECMWF's name of a variable, and its pressure level."""
    mars = metadata.get("mars", {})
    if mars.get("levtype") == "pl" and "levelist" in mars:
        return str(mars.get("param", name.rpartition("_")[0])), float(mars["levelist"])
    match = _ON_LEVEL.fullmatch(name)
    if not mars and match and match["name"] in _UNITS:
        return match["name"], float(match["level"])
    return name, None


def _field(
    data: xr.Variable,
    kept: npt.NDArray[np.intp],
    numbers: list[int],
    coords: Mapping[str, Any],
    short: str,
    *,
    levels: bool,
) -> xr.Variable:
    shape = (len(coords["latitude"]), len(coords["longitude"]))
    array = _Cells(data, kept, numbers, shape, levels=levels)
    dims = ("time", *(("level",) if levels else ()), "latitude", "longitude")
    attrs = {"units": _UNITS[short]} if short in _UNITS else {}
    stored = data.encoding.get("preferred_chunks", {}).get("time", 1)
    encoding = {"preferred_chunks": {"time": stored}} if len(kept) == data.shape[0] else {}
    return xr.Variable(dims, indexing.LazilyIndexedArray(array), attrs, encoding)


class _Cells(xr.backends.BackendArray):
    """Some variables of an array (time, variable, ensemble, cell), as fields."""

    def __init__(
        self,
        data: xr.Variable,
        kept: npt.NDArray[np.intp],
        numbers: list[int],
        field: tuple[int, int],
        *,
        levels: bool,
    ) -> None:
        self.data, self.kept, self.numbers, self.field = data, kept, np.array(numbers), field
        self.levels = levels
        self.shape = (len(kept), *((len(numbers),) if levels else ()), *field)
        self.dtype = data.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> npt.NDArray[Any]:
        outer = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, outer, self._read)

    def _read(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        places = [np.atleast_1d(np.arange(n)[k]) for n, k in zip(self.shape, key, strict=True)]
        time, *level, rows, columns = places
        numbers = self.numbers[level[0]] if self.levels else self.numbers
        block = self.data.isel(ensemble=0).isel(time=self.kept[time], variable=numbers)
        values = np.asarray(block.values).reshape(len(time), len(numbers), *self.field)
        values = values[:, :, rows][:, :, :, columns]
        if not self.levels:
            values = values[:, 0]
        single = tuple(i for i, k in enumerate(key) if isinstance(k, int | np.integer))
        return values.squeeze(single)
