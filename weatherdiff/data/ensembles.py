"""Open anyone's ensemble forecasts as one lazy data set with canonical names, order and units.

The dialects are told apart by their names alone; :func:`to_weatherbench` and
:func:`to_cfgrib_layout` write them:

============================  ============  ====================  ============================
..                            initial time  lead time             member
============================  ============  ====================  ============================
canonical and WeatherBench-X  init_time     lead_time             number
WeatherBench 2                time          prediction_timedelta  number, realization, or none
cfgrib                        time          step                  number
============================  ============  ====================  ============================

Everything else is read as :func:`~weatherdiff.data.open.open_fields` reads analyses.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from weatherdiff.data.calendars import after
from weatherdiff.data.open import (
    check_known,
    choose,
    describe,
    merge_parts,
    naming,
    plain_attrs,
    read_parts,
)
from weatherdiff.data.sources.combine import combine
from weatherdiff.data.sources.forecast import DIMENSION_ORDER, FORECAST_DIMENSIONS, chunk, settle
from weatherdiff.data.sources.forecast_times import tell_times_apart
from weatherdiff.data.sources.formats import reading
from weatherdiff.errors import InputError
from weatherdiff.layout import LAYOUT, Layout, canonical_layout
from weatherdiff.schema import validate

__all__ = ["open_ensembles", "to_cfgrib_layout", "to_weatherbench"]

_LOG = logging.getLogger(__name__)


def open_ensembles(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | xr.Dataset,
    *,
    variables: Sequence[str] | None = None,
    levels: Sequence[float] | None = None,
    rename: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    chunks: Mapping[str, int] | None = None,
    engine: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Open ensemble forecasts on a latitude-longitude grid, in whatever layout they were written.

    Beside a lead time (``step``, ``prediction_timedelta``, ...), ``time`` is the initial time, as
    in the layouts of WeatherBench 2 and cfgrib; a valid time that says otherwise is refused, and so
    is a ``time`` without a lead time. Forecasts without members get one. Files that differ in
    initial times, lead times, members, variables or levels are joined; what they hold together must
    be complete. Missing values stay NaN, a whole missing member too. No more than one field of each
    variable is read.

    Parameters
    ----------
    source : path, list of paths, or xr.Dataset
        NetCDF, GRIB or Zarr: local paths, globs, URLs (``gs://``, ``https://``, ...), a forecast
        of ours (``INIT.zarr``); or a data set that is open already.
    variables : sequence of str, optional
        Variables to take, by canonical or own name, in this order; all gridded ones by default.
    levels : sequence of float, optional
        Pressure levels to take [hPa], in this order; all by default.
    rename : mapping, optional
        Canonical names by own ones, where they are not known: ``{"sample": "number"}``.
    units : mapping, optional
        Units by own or canonical name, where they are missing or wrong, those of the lead time too:
        ``{"lead_time": "hours"}``.
    chunks : mapping, optional
        Sizes of dask chunks by canonical dimension; by default whole fields, and about 64 MB of
        members, levels and lead times in multiples of the stored chunks.
    engine : {"cfgrib", "h5netcdf", "netcdf4", "scipy", "zarr"}, optional
        xarray's engine; found out from the first bytes of each file by default.
    storage_options : mapping, optional
        Options for a remote file system, such as ``{"token": "anon"}``.

    Returns
    -------
    xr.Dataset
        Variables (init_time, lead_time, number[, level], latitude, longitude), static ones
        (latitude, longitude); dask arrays of float32. ``init_time`` is datetime64[ns], or
        cftime where the calendar needs it, and ``lead_time`` timedelta64[ns], both ascending;
        ``valid_time`` (init_time, lead_time) is their sum. The attributes ``weatherdiff_layout``
        and ``weatherdiff_history`` tell what was changed.

    Raises
    ------
    ConfigError
        An argument is wrong, or an optional package is missing.
    MissingInputError
        A path does not exist.
    InputError
        A file is truncated or damaged, a variable or a level is absent, a coordinate repeats a
        value, files do not fit together, or valid times contradict initial and lead times.
    DimensionError
        There is no initial or lead time, lead times have no units, or a dimension is unexpected.
    GridMismatchError
        Files are on different grids.
    UnitsError
        Units are missing, unknown, or implausible for the values.
    StorageError
        Reading failed.

    Examples
    --------
    >>> import numpy as np
    >>> ds = xr.Dataset(
    ...     {"2m_temperature": (("time", "step", "lat", "lon"), np.full((1, 2, 2, 3), 15.0))},
    ...     {
    ...         "time": np.array(["2020-01-01"], "datetime64[ns]"),
    ...         "step": ("step", [6, 12], {"units": "hours"}),
    ...         "lat": [50.0, 51.0],
    ...         "lon": [0.0, 1.0, 2.0],
    ...     },
    ... )
    >>> forecasts = open_ensembles(ds, units={"2m_temperature": "degC"})
    >>> print(dict(forecasts.sizes))
    {'init_time': 1, 'lead_time': 2, 'number': 1, 'latitude': 2, 'longitude': 3}
    >>> print(forecasts["valid_time"].dt.hour.values)
    [[ 6 12]]
    """
    history: list[str] = []

    def note(text: str) -> None:
        if text not in history:  # many files give the same notes
            history.append(text)
            _LOG.info(text)

    raw: list[tuple[str, xr.Dataset, dict[str, str]]] = []
    for path, ds, names in read_parts(source, rename, engine, storage_options):
        with naming(path):
            raw.append((path, ds, tell_times_apart(ds, names, rename or {})))
    names = {old: new for _, _, own in raw for old, new in own.items()}
    present = {str(name) for _, ds, _ in raw for name in (*ds.variables, *ds.dims)}
    check_known("rename", rename or (), present)
    check_known("units", units or (), present | set(names.values()))

    parts: list[tuple[str, xr.Dataset]] = []
    layouts: list[Layout] = []
    checked: set[str] = set()
    for path, ds, own in raw:
        with naming(path), reading(path):
            stated = {own.get(name, name): unit for name, unit in (units or {}).items()}
            ds = _wanted(ds.rename(own), variables, own)
            if not checked.issuperset(map(str, ds.data_vars)):
                checked.update(map(str, ds.data_vars))
                _check_first_fields(ds, stated, variables is not None)
            ds = settle(chunk(ds, chunks, own), stated, strict=variables is not None, note=note)
            if ds.data_vars:
                part, layout = canonical_layout(ds, units=stated)
                parts.append((path, part.transpose(*DIMENSION_ORDER, missing_dims="ignore")))
                layouts.append(replace(layout, names={new: old for old, new in own.items()}))
    chosen = choose(variables, [ds for _, ds in parts], raw)
    ds = _ascending(_combine(parts, levels)[chosen], "init_time", parts[0][0])
    layout = merge_parts(layouts, ds)
    ds = _label(plain_attrs(ds, layout))
    describe(replace(layout, order=()), ds, note)
    recorded = {LAYOUT: json.dumps(layout.to_dict()), "weatherdiff_history": "\n".join(history)}
    return ds.assign_attrs(recorded)


def _wanted(
    ds: xr.Dataset, variables: Sequence[str] | None, names: Mapping[str, str]
) -> xr.Dataset:
    """Take the wanted variables; times and members become coordinates where they were none."""
    ds = ds.set_coords(
        [name for name in (*FORECAST_DIMENSIONS, "valid_time") if name in ds.data_vars]
    )
    if variables is None:
        return ds
    wanted = {names.get(name, name) for name in variables}
    return ds[[name for name in ds.data_vars if name in wanted]]


def _check_first_fields(ds: xr.Dataset, units: Mapping[str, str], strict: bool) -> None:
    """Check one field of each variable as the analysis that it is; nothing else is read."""
    whole = ("level", "latitude", "longitude")
    kept = {dim for name in whole if name in ds.coords for dim in ds[name].dims}
    first = ds.isel({dim: slice(0, 1) for dim in ds.dims if dim not in kept})
    first = settle(first, units, strict=strict, note=lambda text: None)
    if first.data_vars:
        first = canonical_layout(first, units=units)[0]
        first = first.isel(lead_time=0, number=0, drop=True, missing_dims="ignore")
        if "init_time" in first.dims:
            first = first.rename(init_time="time")
        validate(first.transpose("time", "level", ..., missing_dims="ignore"))


def _combine(parts: Sequence[tuple[str, xr.Dataset]], levels: Sequence[float] | None) -> xr.Dataset:
    """Join files of other lead times and members, then of other initial times and levels."""
    if not parts:
        return xr.Dataset()
    for dim in ("lead_time", "number"):
        parts = _join(parts, dim)
    for dim in ("lead_time", "number"):
        _require_same(parts, dim)
    as_time = [(source, _renamed(ds, init_time="time")) for source, ds in parts]
    return _renamed(combine(as_time, levels), time="init_time")


def _renamed(ds: xr.Dataset, **names: str) -> xr.Dataset:
    return ds.rename({old: new for old, new in names.items() if old in ds.dims})


def _join(parts: Sequence[tuple[str, xr.Dataset]], dim: str) -> list[tuple[str, xr.Dataset]]:
    """Join what differs in one dimension only, in ascending order."""
    groups: dict[Any, list[tuple[str, xr.Dataset]]] = {}
    for source, ds in parts:
        others = [d for d in (*FORECAST_DIMENSIONS, "level") if d in ds.dims and d != dim]
        fields = tuple((str(name), field.attrs["units"]) for name, field in ds.data_vars.items())
        key = (fields, dim in ds.dims, *(tuple(ds.indexes[d]) for d in others))
        groups.setdefault(key, []).append((source, ds))
    joined = []
    for same in groups.values():
        source, ds = same[0]
        if len(same) > 1 and dim in ds.dims:
            try:
                ds = xr.concat(
                    [ds for _, ds in same], dim, data_vars="minimal", coords="minimal",
                    compat="equals", join="exact", combine_attrs="override",
                )  # fmt: skip
            except ValueError as error:
                raise InputError(
                    f"{source} and {len(same) - 1} others do not fit together: {error}"
                ) from error
        elif len(same) > 1:
            joined += same[1:]
        joined.append((source, _ascending(ds, dim, source)))
    return joined


def _ascending(ds: xr.Dataset, dim: str, source: str) -> xr.Dataset:
    if dim not in ds.dims:
        return ds
    index = ds.indexes[dim]
    if not index.is_unique:
        twice = index[index.duplicated()]
        raise InputError(
            f"{source}: {len(twice)} values of {dim} occur twice, the first is {twice[0]}; give "
            "each once."
        )
    return ds if index.is_monotonic_increasing else ds.sortby(dim)


def _require_same(parts: Sequence[tuple[str, xr.Dataset]], dim: str) -> None:
    """Refuse parts with other lead times or members: joined, they would have holes."""
    having = [(source, ds) for source, ds in parts if dim in ds.dims]
    for source, ds in having:
        first_source, first = having[0]
        if not ds.indexes[dim].equals(first.indexes[dim]):
            raise InputError(
                f"{', '.join(map(str, first.data_vars))} in {first_source} has "
                f"{_span(first, dim)} and {', '.join(map(str, ds.data_vars))} in {source} has "
                f"{_span(ds, dim)}; choose files or variables with the same {dim}."
            )


def _span(ds: xr.Dataset, dim: str) -> str:
    index = ds.indexes[dim]
    return f"{len(index)} {dim} from {index[0]} to {index[-1]}"


_COORDINATE_ATTRS = {
    "init_time": {"standard_name": "forecast_reference_time"},
    "lead_time": {"standard_name": "forecast_period"},
    "valid_time": {"standard_name": "time"},
    "number": {"standard_name": "realization", "units": "1"},
}


def _label(ds: xr.Dataset) -> xr.Dataset:
    """Add the valid times, and say what the coordinates are."""
    if "init_time" in ds.dims:
        init, lead = ds["init_time"], ds["lead_time"]
        if init.dtype == object:  # dates of cftime
            times = after(init.values[:, np.newaxis], lead.values)
            ds = ds.assign_coords(valid_time=(("init_time", "lead_time"), times))
        else:
            ds = ds.assign_coords(valid_time=init + lead)
    for name, attrs in _COORDINATE_ATTRS.items():
        if name in ds.coords:
            ds[name].attrs = dict(attrs)
    return ds


def to_weatherbench(ds: xr.Dataset) -> xr.Dataset:
    """Give canonical forecasts in the layout of WeatherBench 2.

    Parameters
    ----------
    ds : (init_time, lead_time, number[, level], latitude, longitude)
        Canonical forecasts, as :func:`open_ensembles` returns.

    Returns
    -------
    xr.Dataset
        The same with ``time`` for the initial and ``prediction_timedelta`` for the lead time; lazy
        if ``ds`` is. Canonical names of variables are WeatherBench 2's.

    Examples
    --------
    >>> import numpy as np
    >>> lead = np.array([6, 12], "timedelta64[h]").astype("timedelta64[ns]")
    >>> init = np.array(["2020-01-01"], "datetime64[ns]")
    >>> list(to_weatherbench(xr.Dataset(coords={"init_time": init, "lead_time": lead})).dims)
    ['time', 'prediction_timedelta']
    """
    return ds.drop_attrs(deep=False).rename(init_time="time", lead_time="prediction_timedelta")


# The names cfgrib gives by canonical name, where they mean nothing else at the same place.
_CFGRIB = {
    "init_time": "time",
    "lead_time": "step",
    "level": "isobaricInhPa",
    "2m_temperature": "t2m",
    "2m_dewpoint_temperature": "d2m",
    "10m_u_component_of_wind": "u10",
    "10m_v_component_of_wind": "v10",
    "10m_wind_speed": "si10",
    "surface_pressure": "sp",
    "mean_sea_level_pressure": "msl",
    "sea_surface_temperature": "sst",
    "skin_temperature": "skt",
    "total_cloud_cover": "tcc",
    "sea_ice_cover": "siconc",
    "total_column_water_vapour": "tcwv",
    "total_precipitation": "tp",
    "temperature": "t",
    "geopotential": "z",
    "geopotential_height": "gh",
    "specific_humidity": "q",
    "relative_humidity": "r",
    "u_component_of_wind": "u",
    "v_component_of_wind": "v",
    "vertical_velocity": "w",
    "land_sea_mask": "lsm",
    "orography": "orog",
}


def to_cfgrib_layout(ds: xr.Dataset) -> xr.Dataset:
    """Give canonical forecasts in the layout cfgrib reads GRIB files into.

    Parameters
    ----------
    ds : (init_time, lead_time, number[, level], latitude, longitude)
        Canonical forecasts, as :func:`open_ensembles` returns.

    Returns
    -------
    xr.Dataset
        Variables (number, time, step[, isobaricInhPa], latitude, longitude) from north to south,
        with ECMWF's short names where they are unambiguous; units stay canonical. Lazy if ``ds``
        is.

    Examples
    --------
    >>> import numpy as np
    >>> dims = ("init_time", "lead_time", "number", "latitude", "longitude")
    >>> ds = xr.Dataset({"2m_temperature": (dims, np.full((1, 2, 3, 2, 4), 280.0))})
    >>> to_cfgrib_layout(ds)["t2m"].dims
    ('number', 'time', 'step', 'latitude', 'longitude')
    """
    own = {old: new for old, new in _CFGRIB.items() if old in ds.variables or old in ds.dims}
    ds = ds.drop_attrs(deep=False).isel(latitude=slice(None, None, -1))
    return ds.transpose("number", "init_time", ..., "latitude", "longitude").rename(own)
