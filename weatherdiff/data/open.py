"""Open anyone's gridded analyses as one lazy data set with canonical names, order and units.

Nothing is guessed: what cannot be told is refused with advice, and whatever is reinterpreted is
logged and recorded in the attributes of the result.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from weatherdiff.data.sources.analysis import DIMENSION_ORDER, chunk, settle, stored_times
from weatherdiff.data.sources.bounds import unpack_bounds
from weatherdiff.data.sources.combine import combine, order_times
from weatherdiff.data.sources.formats import find_paths, open_all, reading
from weatherdiff.data.sources.source import SOURCES, files_of
from weatherdiff.data.sources.stacked import split_channels
from weatherdiff.data.sources.stored_chunks import STORED, remember_stored
from weatherdiff.data.storing.packing import packing_of
from weatherdiff.errors import ConfigError, InputError, WeatherdiffError
from weatherdiff.layout import LAYOUT, Layout, canonical_layout
from weatherdiff.schema import VARIABLES, canonical_names, validate
from weatherdiff.units import unit_conversion

__all__ = [
    "check_known",
    "choose",
    "describe",
    "merge_parts",
    "naming",
    "open_fields",
    "plain_attrs",
    "read_parts",
]

_LOG = logging.getLogger(__name__)


def open_fields(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | xr.Dataset,
    *,
    variables: Sequence[str] | None = None,
    levels: Sequence[float] | None = None,
    rename: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    chunks: Mapping[str, int] | None = None,
    engine: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Open analyses on a latitude-longitude grid, in whatever convention they were written.

    Files that differ in time, in variables or in levels are joined; coordinates must then agree
    exactly, nothing is dropped or filled. Gaps in time are allowed.

    Parameters
    ----------
    paths : path, list of paths, or xr.Dataset
        NetCDF, GRIB or Zarr: local paths, globs, URLs (``s3://``, ``https://``, ...),
        ``sample:NAME``; or a data set that is open already.
    variables : sequence of str, optional
        Variables to take, by canonical or own name, in this order; all gridded ones by default.
    levels : sequence of float, optional
        Pressure levels to take [hPa], in this order; all by default.
    rename : mapping, optional
        Canonical names by own ones, where they are not known: ``{"my_t": "2m_temperature"}``.
    units : mapping, optional
        Units by own or canonical name, where they are missing or wrong.
    chunks : mapping, optional
        Sizes of dask chunks by canonical dimension; by default whole fields, and about 64 MB of
        consecutive times in multiples of the stored chunks.
    engine : {"cfgrib", "h5netcdf", "netcdf4", "scipy", "zarr"}, optional
        xarray's engine; found out from the first bytes of each file by default.
    storage_options : mapping, optional
        Options for a remote file system, such as ``{"anon": True}``; among them ``patience``, how
        often and how long to try: ``{"attempts": 5, "timeout": 120, "wait": 1}`` (seconds). They
        are written nowhere.

    Returns
    -------
    xr.Dataset
        Variables (time[, level], latitude, longitude), static ones (latitude, longitude); dask
        arrays of float32, NaN where there are no data. Times are datetime64[ns], or cftime where
        the calendar needs it. The attributes ``weatherdiff_layout`` (see
        :class:`~weatherdiff.layout.Layout`) and ``weatherdiff_history`` tell what was changed.

    Raises
    ------
    ConfigError
        An argument is wrong, or an optional package is missing.
    MissingInputError
        A path does not exist.
    InputError
        A file is truncated or damaged, a variable or a level is absent, a time occurs twice.
    DimensionError
        A dimension is missing or unexpected, or these are forecasts.
    GridMismatchError
        Files are on different grids.
    UnitsError
        Units are missing, unknown, or implausible for the values.
    StorageError
        Reading failed.

    Examples
    --------
    >>> ds = open_fields("sample:uk-2018", variables=["2m_temperature", "PSurf"])
    >>> list(ds.data_vars), ds["surface_pressure"].dims
    (['2m_temperature', 'surface_pressure'], ('time', 'latitude', 'longitude'))
    """
    history: list[str] = []

    def note(text: str) -> None:
        if text not in history:  # many files give the same notes
            history.append(text)
            _LOG.info(text)

    raw = read_parts(paths, rename, engine, storage_options)
    names = {old: new for _, _, own in raw for old, new in own.items()}
    present = {str(name) for _, ds, _ in raw for name in (*ds.variables, *ds.dims)}
    check_known("rename", rename or (), present)
    check_known("units", units or (), present | set(names.values()))

    parts: list[tuple[str, xr.Dataset]] = []
    layouts: list[Layout] = []
    lengths: set[int] = set()
    empty: list[str] = []
    for source, ds, own in raw:
        with naming(source):
            wanted = None if variables is None else [own.get(name, name) for name in variables]
            part = settle(ds.rename(own), variables=wanted, note=note)
            if part.sizes.get("time") == 0:
                empty.append(source)
                note(f"there is no time in {source}, which is passed over")
            elif part.data_vars:
                stated = {own.get(name, name): unit for name, unit in (units or {}).items()}
                lengths.add(stored_times(part, own) if "time" in part.dims else 1)
                part, layout = canonical_layout(chunk(part, chunks, own), units=stated)
                parts.append((source, part))
                layouts.append(replace(layout, names={new: old for old, new in own.items()}))
    if empty and not parts:
        raise InputError(f"no time is in {', '.join(empty)}; fetch it again.")
    chosen = choose(variables, [ds for _, ds in parts], raw)
    sources = list(dict.fromkeys(source for source, _ in parts))
    everything = ", ".join(sources[:3]) + (f" and {len(sources) - 3} more" if sources[3:] else "")
    ds = combine(parts, levels)[chosen]
    with naming(everything):
        ds = order_times(ds, note)
    layout = merge_parts(layouts, ds)
    ds = plain_attrs(ds, layout)
    with naming(everything), reading(everything):
        validate(ds)
    describe(layout, ds, note)
    recorded = {LAYOUT: json.dumps(layout.to_dict()), "weatherdiff_history": "\n".join(history)}
    ds = ds.assign_attrs(recorded)
    # for prepare: what the data were read from, and in which pieces they can be read at once
    files = files_of(
        [source for source, _ in parts if not isinstance(paths, xr.Dataset)], storage_options
    )
    whole = len(raw) == 1 and len(lengths) == 1  # else the pieces begin anywhere
    chunk_times = lengths.pop() if whole else 1
    ds.encoding[SOURCES] = {
        "files": files,
        "chunk": chunk_times,
        "packed": packing_of(raw),
        STORED: remember_stored(parts, ds),
    }
    return ds


def read_parts(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | xr.Dataset,
    rename: Mapping[str, str] | None,
    engine: str | None,
    storage_options: Mapping[str, Any] | None,
) -> list[tuple[str, xr.Dataset, dict[str, str]]]:
    """Each source, what it holds, and the canonical names of that."""
    if isinstance(paths, xr.Dataset):
        ds = split_channels(paths)
        return unpack_bounds([("the data set", ds, canonical_names(ds, rename))])
    raw = []
    found = find_paths(paths, storage_options)
    for path, ds in open_all(found, engine=engine, storage_options=storage_options):
        with naming(path):
            if "weatherdiff" in ds.attrs and "fields" in ds:
                raise InputError(
                    f"{path} is a field store that prepare has written, no source; give the "
                    "source, or FieldStore.open(...).to_dataset()."
                )
            ds = split_channels(ds)
            raw.append((path, ds, canonical_names(ds, rename)))
    return unpack_bounds(raw)


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Say in the message which file is at fault."""
    try:
        yield
    except WeatherdiffError as error:
        if source in str(error):
            raise
        raise type(error)(f"{source}: {error}") from error


def check_known(argument: str, given: Iterable[str], known: set[str]) -> None:
    """Refuse a name that occurs nowhere: a typing error must not pass silently."""
    for name in given:
        if name not in known:
            raise ConfigError(
                f"{argument} names {name!r}, which is not there{_nearest(name, known)}"
            )


def choose(
    variables: Sequence[str] | None,
    parts: Sequence[xr.Dataset],
    raw: Sequence[tuple[str, xr.Dataset, dict[str, str]]],
) -> list[str]:
    """Canonical names of the variables asked for; one name may mean two in different files."""
    found = dict.fromkeys(str(name) for ds in parts for name in ds.data_vars)
    known = {own.get(str(name), str(name)) for _, ds, own in raw for name in ds.data_vars}
    if not found and not variables:
        raise InputError(f"there is no variable on latitude and longitude{_nearest('', known)}")
    if variables is None:
        return list(found)
    chosen: dict[str, None] = {}
    for name in variables:
        meant = [new for new in found if new in {own.get(name, name) for _, _, own in raw}]
        if not meant:
            raise InputError(f"there is no variable {name!r}{_nearest(name, known)}")
        chosen.update(dict.fromkeys(meant))
    return list(chosen)


def _nearest(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    guess = f", do you mean {close[0]!r}?" if close else "."
    return f"{guess} There are: {', '.join(sorted(known)) or 'none'}."


def merge_parts(layouts: Sequence[Layout], ds: xr.Dataset) -> Layout:
    """Give one layout of all the files: grid and order of the first, names and units of each."""
    names = {new: old for layout in layouts for new, old in layout.names.items()}
    units = {name: unit for layout in layouts for name, unit in layout.units.items()}
    return replace(
        layouts[0],
        names={new: old for new, old in names.items() if new in ds.variables},
        units={name: unit for name, unit in units.items() if name in ds.variables},
    )


_KEPT_ATTRS = ("standard_name", "long_name", "cell_methods", "units")
_COORDINATE_ATTRS = {
    "time": {"standard_name": "time"},
    "level": {"standard_name": "air_pressure", "units": "hPa", "positive": "down"},
}


def plain_attrs(ds: xr.Dataset, layout: Layout) -> xr.Dataset:
    """Keep only attributes and encodings that are still true of the canonical data."""
    ds = ds.drop_encoding()
    for name, field in ds.data_vars.items():
        # bounds of a known variable are in the schema; of another they are in its unchanged units
        kept = _KEPT_ATTRS if name in VARIABLES else (*_KEPT_ATTRS, "valid_min", "valid_max")
        ds[name].attrs = {key: value for key, value in field.attrs.items() if key in kept}
    for name, attrs in _COORDINATE_ATTRS.items():
        if name in ds.coords:
            ds[name].attrs = dict(attrs)
    return ds


def describe(layout: Layout, ds: xr.Dataset, note: Callable[[str], None]) -> None:
    """Say how names, units and order differ from what was read."""
    for new, old in layout.names.items():
        note(f"{old} is read as {new}")
    for name, units in layout.units.items():
        canonical = ds[name].attrs["units"]
        if units != canonical and unit_conversion(units, canonical) != (1, 0):
            note(f"{name} is turned from {units} into {canonical}")
    for name, own in (("latitude", layout.latitude), ("longitude", layout.longitude)):
        values = ds[name].values.tolist()
        if not np.allclose(own, values):
            note(
                f"{name} went from {own[0]:g} to {own[-1]:g} and goes from {values[0]:g} to "
                f"{values[-1]:g}"
            )
    if list(layout.order) != [dim for dim in DIMENSION_ORDER if dim in layout.order]:
        note(f"dimensions ({', '.join(layout.order)}) are reordered")
