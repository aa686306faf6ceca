"""Forecasts on disk: one folder per initial time, published whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from weatherdiff.data.calendars import Calendar
from weatherdiff.errors import ConfigError, InputError, MissingInputError
from weatherdiff.forecasting.arrays import (
    FORMAT_VERSION,
    PRODUCTS,
    create_fields,
    finish,
    is_coordinate,
    put_block,
)
from weatherdiff.forecasting.manifest import (
    MANIFEST,
    find_damage,
    find_extra,
    read_manifest,
    write_manifest,
)
from weatherdiff.forecasting.published import PublishedStore
from weatherdiff.layout import LAYOUT, Layout
from weatherdiff.sealed import Entry
from weatherdiff.staging import staged

__all__ = [
    "FORMAT_VERSION",
    "calendar_of",
    "forecast_attributes",
    "forecast_name",
    "forecast_time",
    "is_ours",
    "open_forecasts",
    "open_products",
    "verify_forecast",
    "write_forecast",
]

_STANDARD = Calendar()


def forecast_name(init_time: np.datetime64) -> str:
    """Folder of an initial time, without characters that a file system may refuse.

    Examples
    --------
    >>> forecast_name(np.datetime64("2018-07-20T06:00"))
    '2018-07-20T06.zarr'
    >>> forecast_name(np.datetime64("2018-07-20T06:30"))
    '2018-07-20T0630.zarr'
    """
    own = Calendar.of(np.array([init_time]))
    text = own.text(own.seconds(np.array([init_time]))[0])
    hour, minute = text[:-6], text[-5:-3]
    return f"{hour}{'' if minute == '00' else minute}.zarr"


def forecast_time(name: str, calendar: Calendar = _STANDARD) -> int | None:
    """Undo :func:`forecast_name`: seconds since 1970-01-01 UTC; None for any other name.

    Which calendar a folder of forecasts is in, :func:`calendar_of` knows.

    Examples
    --------
    >>> forecast_time("2018-07-20T06.zarr") == forecast_time("2018-07-20T0600.zarr") == 1532066400
    True
    >>> forecast_time("fields.zarr")
    """
    found = re.fullmatch(r"(-?\d{4,}-\d\d-\d\dT\d\d)(\d\d)?\.zarr", name)
    try:
        if found and not calendar.standard:
            return calendar.parse(f"{found[1]}:{found[2] or '00'}")
        return found and int(np.datetime64(f"{found[1]}:{found[2] or '00'}", "s").astype(int))
    except (ConfigError, ValueError):  # a thirteenth month
        return None


def calendar_of(folder: str | os.PathLike[str], default: Calendar = _STANDARD) -> Calendar:
    """Give the calendar of the forecasts in a folder, or a default if there is none."""
    for path in Path(folder).glob("[!.]*.zarr"):  # all are of one model: the first will do
        try:
            description = (path / "init_time" / "zarr.json").read_text()
            return Calendar(json.loads(description)["attributes"]["calendar"])
        except (InputError, KeyError, OSError, RecursionError, TypeError, ValueError):
            continue  # damaged, as is said where the forecast is read
    return default


def write_forecast(
    folder: str | os.PathLike[str],
    blocks: Iterable[xr.Dataset],
    *,
    frames: int,
    member_block: int = 10,
    attributes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the blocks of one forecast as they come; rename to the final name at the end.

    Parameters
    ----------
    folder : path
        Of all forecasts; this one becomes ``folder/<init time>.zarr``.
    blocks : iterable of Dataset
        As :meth:`Forecaster.rollout` yields them: consecutive in ``lead_time``, the same one
        initial time and members.
    frames : int
        Lead times in all.
    member_block : int
        Members in one chunk.
    attributes : mapping, optional
        Provenance, plain types.
    overwrite : bool
        Replace a forecast that is there.

    Returns
    -------
    Path
        The published folder, a Zarr v3 group with a ``manifest.json`` of sizes and SHA-256.

    Raises
    ------
    StorageError
        It exists already, or the disk is full. Nothing is visible then.
    InputError
        The blocks do not add up to ``frames``.
    """
    iterator = iter(blocks)
    first = next(iterator, None)
    if first is None:
        raise InputError("The forecast has no frames.")
    path = Path(folder) / forecast_name(first["init_time"].values[0])
    with staged(path, overwrite=overwrite) as temporary:
        size = first.sizes["lead_time"]
        group = create_fields(temporary, first, frames=frames, block=(size, member_block))
        leads: list[np.ndarray] = []
        done = 0
        block: xr.Dataset | None = first
        while block is not None:
            span = slice(done, done + block.sizes["lead_time"])
            if span.stop > frames:
                break
            put_block(group, block, frames=span)
            leads.append(block["lead_time"].to_numpy())
            done, block = span.stop, next(iterator, None)
        if done != frames or block is not None:
            count = f"{done}" if block is None else f"more than {done}"
            raise InputError(f"The forecast has {count} frames, {frames} were announced.")
        finish(group, first, lead_times=np.concatenate(leads), attributes=attributes)
        write_manifest(temporary)
    return path


def open_forecasts(
    folder: str | os.PathLike[str], *, layout: Literal["canonical", "source"] = "canonical"
) -> xr.Dataset:
    """Open all forecasts of a folder as one lazy Dataset.

    Files are checked against the manifest by name and size, the small ones by hash. A chunk of a
    field has a checksum that is looked at when it is read; :func:`verify_forecast` hashes all.

    Parameters
    ----------
    folder : path
        With one ``<init time>.zarr`` for each initial time, or one such folder itself.
    layout : {"canonical", "source"}
        ``"source"`` gives latitudes, longitudes, names and units back as the source data had them.

    Returns
    -------
    Dataset
        (init_time, lead_time, number[, level], latitude, longitude), dask-backed, ordered by
        ``init_time``.

    Raises
    ------
    MissingInputError
        No forecast is there.
    InputError
        A forecast is damaged, or was published without its members, or they differ in grid, members
        or lead times.
    """
    ds = _open_all(folder)
    if not ds.data_vars:
        raise InputError(
            f"The forecasts in {folder} were published without their members; open_products opens "
            "what was made of these."
        )
    if layout == "canonical":
        return ds
    if LAYOUT not in ds.attrs:
        raise InputError(f"The forecasts in {folder} do not tell the layout of their source.")
    return Layout.from_dict(json.loads(ds.attrs[LAYOUT])).restore(ds)


def open_products(folder: str | os.PathLike[str]) -> xr.Dataset:
    """Open the products of all forecasts of a folder as one lazy Dataset.

    Parameters
    ----------
    folder : path
        As for :func:`open_forecasts`, which says how far files are checked.

    Returns
    -------
    Dataset
        (init_time, lead_time[, quantile or threshold][, level], latitude, longitude), dask-backed,
        ordered by ``init_time``; see :class:`weatherdiff.forecasting.products.Products`.

    Raises
    ------
    MissingInputError
        No forecast is there.
    InputError
        A forecast is damaged, or has no products, or they differ in what they hold.
    """
    return _open_all(folder, PRODUCTS)


def _open_all(folder: str | os.PathLike[str], group: str = "") -> xr.Dataset:
    """Open a group of all forecasts of a folder."""
    folder = Path(folder)
    paths = [folder] if folder.suffix == ".zarr" else sorted(folder.glob("[!.]*.zarr"))
    if not paths or not paths[0].exists():
        raise MissingInputError(f"There are no forecasts (<init time>.zarr) in {folder}.")
    opened = []
    for path in paths:
        _, files = read_manifest(path)
        _checked(path, files, hashes=False)
        if not (path / group / "zarr.json").is_file():
            raise InputError(f"{path} has no {group}; name some in forecast.products.")
        store = PublishedStore.of(path, group, frozenset(files))
        opened.append(xr.open_zarr(store, consolidated=True, decode_timedelta=True, chunks={}))
        store.require_possible()
    try:
        if any(ds.data_vars.keys() != opened[0].data_vars.keys() for ds in opened):
            raise ValueError("variables differ")  # which concat would fill with NaN
        ds = xr.concat(
            opened, "init_time", data_vars="minimal", coords="minimal", compat="equals",
            join="exact", combine_attrs="drop_conflicts",
        )  # fmt: skip
    except ValueError as error:
        raise InputError(
            f"The forecasts in {folder} do not fit together ({error}); keep forecasts of one "
            "model, ensemble size and lead time in a folder."
        ) from error
    return ds


def is_ours(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path is a forecast of weatherdiff, or a folder of them."""
    path = Path(path)
    return (path / MANIFEST).is_file() or any(
        (found / MANIFEST).is_file() for found in path.glob("[!.]*.zarr")
    )


def forecast_attributes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what was written as ``attributes``; files are checked by name and size.

    Raises
    ------
    MissingInputError
        There is no forecast.
    InputError
        It is damaged.
    """
    path = Path(path)
    return _checked(path, read_manifest(path)[1], hashes=False)


def verify_forecast(path: str | os.PathLike[str]) -> None:
    """Read every file of a forecast and compare it with the manifest.

    Parameters
    ----------
    path : path
        One ``<init time>.zarr``.

    Raises
    ------
    MissingInputError
        There is no forecast.
    InputError
        Files are absent, extra, cut or altered; all are named.
    StorageError
        A file cannot be read.
    """
    path = Path(path)
    _checked(path, read_manifest(path)[1], hashes=True)


def _is_metadata(name: str) -> bool:
    """Tell the small files, which a reader hashes; chunks of fields have their own checksum."""
    variable, _, rest = name.removeprefix(f"{PRODUCTS}/").partition("/")
    return not rest.startswith("c") or is_coordinate(variable)


def _checked(path: Path, files: Mapping[str, Entry], *, hashes: bool) -> dict[str, Any]:
    """Compare with what the manifest lists; return the attributes."""
    if hashes:
        damage = find_damage(path, files)
        damage += [f"{name} was not there when it was written" for name in find_extra(path, files)]
    else:
        damage = find_damage(path, files, read=_is_metadata)
    if damage:
        raise InputError(f"{path} is damaged: {'; '.join(damage)}.")
    try:
        attributes = dict(json.loads((path / "zarr.json").read_text())["attributes"])
        version = int(attributes["format_version"])
    except (KeyError, OSError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: zarr.json ({error}).") from error
    if version > FORMAT_VERSION:
        raise InputError(f"{path} has format version {version}; upgrade weatherdiff.")
    return attributes
