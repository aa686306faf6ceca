"""Forecasts on disk: one folder per initial time, published whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
import zarr

from weatherdiff.data.store import CODECS
from weatherdiff.errors import InputError, MissingInputError
from weatherdiff.layout import LAYOUT, Layout
from weatherdiff.staging import staged

__all__ = [
    "FORMAT_VERSION",
    "forecast_attributes",
    "forecast_name",
    "is_ours",
    "open_forecasts",
    "verify_forecast",
    "write_forecast",
]

FORMAT = "weatherdiff forecast"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
EPOCH = {"units": "seconds since 1970-01-01 00:00:00", "calendar": "proleptic_gregorian"}


def forecast_name(init_time: np.datetime64) -> str:
    """Folder of an initial time, without characters that a file system may refuse.

    Examples
    --------
    >>> forecast_name(np.datetime64("2018-07-20T06:00"))
    '2018-07-20T06.zarr'
    >>> forecast_name(np.datetime64("2018-07-20T06:30"))
    '2018-07-20T0630.zarr'
    """
    minute = init_time.astype("datetime64[m]")
    hour = minute.astype("datetime64[h]")
    text = str(hour) if hour == minute else str(minute).replace(":", "")
    return f"{text}.zarr"


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
        group = _create(temporary, first, frames, member_block)
        leads: list[int] = []
        block: xr.Dataset | None = first
        while block is not None:
            span = slice(len(leads), len(leads) + block.sizes["lead_time"])
            if span.stop > frames:
                break
            for name, values in block.data_vars.items():
                _array(group, str(name))[:, span] = values.to_numpy()
            leads += block["lead_time"].values.astype("timedelta64[s]").astype(int).tolist()
            block = next(iterator, None)
        if len(leads) != frames or block is not None:
            count = f"{len(leads)}" if block is None else f"more than {len(leads)}"
            raise InputError(f"The forecast has {count} frames, {frames} were announced.")
        init = int(first["init_time"].values[0].astype("datetime64[s]").astype(int))
        # With the dtype xarray decodes it unasked; without, seconds would be plain integers.
        timedelta = {"units": "seconds", "dtype": "timedelta64[ns]"}
        _coordinate(group, first, "lead_time", np.array(leads), **timedelta)
        _coordinate(group, first, "valid_time", np.array([leads]) + init, **EPOCH)
        # Flat, as netCDF takes no nested attributes when a reader copies them there.
        own: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION}
        group.attrs.update({**(attributes or {}), **own})
        with warnings.catch_warnings():
            # Consolidated metadata opens in one read; zarr warns that Zarr v3 has no word on it.
            warnings.simplefilter("ignore", UserWarning)
            zarr.consolidate_metadata(temporary)
        _write_manifest(temporary)
    return path


def open_forecasts(
    folder: str | os.PathLike[str], *, layout: Literal["canonical", "source"] = "canonical"
) -> xr.Dataset:
    """Open all forecasts of a folder as one lazy Dataset.

    Files are checked against the manifest by name and size; :func:`verify_forecast` also reads
    and hashes them.

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
        A forecast is damaged, or they differ in grid, members or lead times.
    """
    folder = Path(folder)
    paths = [folder] if folder.suffix == ".zarr" else sorted(folder.glob("[!.]*.zarr"))
    if not paths or not paths[0].exists():
        raise MissingInputError(f"There are no forecasts (<init time>.zarr) in {folder}.")
    opened = []
    for path in paths:
        _check_files(path, hashes=False)
        opened.append(xr.open_zarr(path, consolidated=True, decode_timedelta=True, chunks={}))
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
    if layout == "canonical":
        return ds
    if LAYOUT not in ds.attrs:
        raise InputError(f"The forecasts in {folder} do not tell the layout of their source.")
    return Layout.from_dict(json.loads(ds.attrs[LAYOUT])).restore(ds)


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
    return _check_files(Path(path), hashes=False)


def verify_forecast(path: str | os.PathLike[str]) -> None:
    """Read every file of a forecast and compare it with the manifest.

    Raises
    ------
    MissingInputError
        There is no forecast.
    InputError
        A file is absent, extra, cut or altered; it is named.
    """
    _check_files(Path(path), hashes=True)


def _create(path: Path, first: xr.Dataset, frames: int, member_block: int) -> zarr.Group:
    group = zarr.create_group(path, zarr_format=3)
    for name, values in first.data_vars.items():
        shape = [frames if d == "lead_time" else n for d, n in values.sizes.items()]
        whole = {"lead_time": first.sizes["lead_time"], "number": member_block}
        group.create_array(
            str(name),
            shape=shape,
            chunks=tuple(
                min(n, whole.get(str(d), n)) for d, n in zip(values.dims, shape, strict=True)
            ),
            dtype=np.float32,
            fill_value=np.nan,
            compressors=CODECS,
            dimension_names=[str(d) for d in values.dims],
            config={"write_empty_chunks": True},
            attributes={**values.attrs, "coordinates": "valid_time"},
        )
    for name in ("number", "level", "latitude", "longitude"):
        if name in first.coords:
            _coordinate(group, first, name, first[name].to_numpy())
    init = first["init_time"].values.astype("datetime64[s]").astype(np.int64)
    _coordinate(group, first, "init_time", init, **EPOCH)
    return group


def _coordinate(
    group: zarr.Group, ds: xr.Dataset, name: str, values: np.ndarray, **attributes: str
) -> None:
    group.create_array(
        name,
        data=values,
        chunks=values.shape,
        dimension_names=[str(d) for d in ds[name].dims],
        attributes={**ds[name].attrs, **attributes},
    )


def _array(group: zarr.Group, name: str) -> zarr.Array:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise InputError(f"{name} is a group, an array was expected.")
    return array


def _write_manifest(path: Path) -> None:
    files = {
        str(file.relative_to(path)): {
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }
    (path / MANIFEST).write_text(json.dumps({"files": files}, indent=1) + "\n")


def _check_files(path: Path, *, hashes: bool) -> dict[str, Any]:
    """Compare with the manifest; return the attributes."""
    if not path.exists():
        raise MissingInputError(f"There is no forecast at {path}.")
    try:
        manifest = {
            str(name): (entry["bytes"], entry["sha256"])
            for name, entry in json.loads((path / MANIFEST).read_text())["files"].items()
        }
    except FileNotFoundError:
        raise InputError(
            f"{path} has no {MANIFEST}: it is not a whole forecast of weatherdiff."
        ) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path / MANIFEST} is damaged: {error}.") from error
    for name, (size, sha256) in manifest.items():
        file = path / name
        if not file.is_file():
            raise InputError(f"{path} is damaged: {name} is absent.")
        if file.stat().st_size != size:
            raise InputError(
                f"{path} is damaged: {name} has {file.stat().st_size} bytes, {size} were written."
            )
        if hashes and hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
            raise InputError(f"{path} is damaged: {name} was altered (its SHA-256 differs).")
    if hashes:
        found = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
        for name in sorted(found - manifest.keys() - {MANIFEST}):
            raise InputError(f"{path} is damaged: {name} was not there when it was written.")
    try:
        attributes = dict(json.loads((path / "zarr.json").read_text())["attributes"])
        version = int(attributes["format_version"])
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: zarr.json ({error}).") from error
    if version > FORMAT_VERSION:
        raise InputError(f"{path} has format version {version}; upgrade weatherdiff.")
    return attributes
