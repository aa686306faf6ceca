"""Find and open files and stores of gridded data: NetCDF, GRIB and Zarr, local or remote.

What is opened here is still as its makers named and ordered it.
"""

from __future__ import annotations

import glob
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import dask
import fsspec
import xarray as xr

from weatherdiff.data.netcdf3 import required_bytes
from weatherdiff.data.samples import sample_path
from weatherdiff.errors import ConfigError, InputError, MissingInputError, StorageError

__all__ = ["find_paths", "load", "open_raw", "reading", "translated"]

Lazy = TypeVar("Lazy", xr.Dataset, xr.DataArray)

_LOG = logging.getLogger(__name__)

_MAGIC = {b"CDF": "netcdf3", b"\x89HDF": "netcdf4", b"GRIB": "cfgrib"}
_ENGINES = ("cfgrib", "h5netcdf", "netcdf4", "scipy", "zarr")


def find_paths(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    storage_options: Mapping[str, Any] | None = None,
) -> list[str]:
    """Expand globs and ``sample:NAME``, and check that local files exist.

    Raises
    ------
    ConfigError
        A protocol or a sample is unknown, or the package a protocol needs is not installed.
    MissingInputError
        A file is not there, or a glob matches nothing.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    found = []
    for path in [os.fspath(path).removeprefix("file://") for path in paths]:
        if path.startswith("sample:"):
            found.append(str(sample_path(path.removeprefix("sample:"))))
        elif "://" in path:
            _check_protocol(path)
            # a question mark is a wildcard for files, and begins the query of a URL
            found += _expand(path, storage_options or {}) if "*" in path else [path]
        elif Path(path).exists():
            found.append(path)
        elif glob.has_magic(path):
            found += _expand(path, {})
        else:
            raise MissingInputError(f"{path} does not exist.")
    if not found:
        raise MissingInputError("no path was given.")
    return found


def _check_protocol(path: str) -> None:
    try:
        fsspec.get_filesystem_class(fsspec.core.split_protocol(path)[0])
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be reached: {error}; `pip install 'weatherdiff[remote]'` brings what "
            "https, s3 and gs need."
        ) from error


def _expand(pattern: str, storage_options: Mapping[str, Any]) -> list[str]:
    if "://" in pattern:
        with reading(pattern):
            fs, inner = fsspec.core.url_to_fs(pattern, **storage_options)
            matches = [str(fs.unstrip_protocol(path)) for path in fs.glob(inner)]
    else:
        matches = glob.glob(pattern, recursive=True)
    if not matches:
        raise MissingInputError(f"nothing matches {pattern}.")
    return sorted(matches)


def open_raw(
    path: str, *, engine: str | None = None, storage_options: Mapping[str, Any] | None = None
) -> list[xr.Dataset]:
    """Open one file or store lazily, without dask.

    Parameters
    ----------
    path : str
        A local path or a URL that fsspec knows. Remote files that are not Zarr are copied to a
        temporary folder first.
    engine : {"cfgrib", "h5netcdf", "netcdf4", "scipy", "zarr"}, optional
        xarray's engine; found out from the first bytes by default.
    storage_options : mapping, optional
        Options of the fsspec file system, such as ``{"anon": True}``.

    Returns
    -------
    list of xr.Dataset
        One, or for GRIB as many as there are kinds of level.

    Raises
    ------
    ConfigError
        The engine is unknown, or its package is not installed.
    MissingInputError
        There is nothing at ``path``.
    InputError
        The file is truncated, damaged, or of another format.
    StorageError
        The file may not be read, or reading failed.
    """
    if engine is not None and engine not in _ENGINES:
        raise ConfigError(f"engine {engine!r} is unknown; there are {', '.join(_ENGINES)}.")
    options = dict(storage_options or {})
    with reading(path):
        if "://" in path:
            if engine == "zarr" or path.rstrip("/").endswith(".zarr"):
                return [_open_zarr(path, options)]
            path = _copy(path, options)
        if engine == "zarr" or Path(path).is_dir():
            return [_open_zarr(path, None)]
        kind = _detect(Path(path)) if engine is None else engine
        if kind == "cfgrib":
            return _open_grib(path)
        return [_open(path, engine="netcdf4" if kind == "netcdf3" else kind)]


def load(ds: Lazy) -> Lazy:
    """Read a lazy data set into memory.

    Raises
    ------
    MissingInputError
        A file has gone since it was opened.
    InputError
        A file is damaged where it was not looked at before.
    StorageError
        The system reports that reading failed.
    """
    with reading("the source data"):
        return ds.load()


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what the many libraries raise into our errors; one thread: HDF5 likes no more."""
    with translated(path), dask.config.set(scheduler="synchronous"):
        yield


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn what the many libraries raise into our errors."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingInputError(
            f"{path}: there is no file or Zarr store here; the files of a folder are given as "
            "folder/*.nc."
        ) from error
    except ImportError as error:
        raise ConfigError(f"{path} needs a package that is not installed: {error}") from error
    except OSError as error:
        # netCDF and HDF5 give negative numbers or none, the operating system positive ones
        if error.errno is not None and error.errno > 0:
            raise StorageError(f"{path} could not be read: {error}.") from error
        raise InputError(f"{path} is truncated or damaged: {error}; fetch it again.") from error
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path} could not be opened or read: {error}") from error


def _copy(url: str, options: dict[str, Any]) -> str:
    protocol = fsspec.core.split_protocol(url)[0]
    local = fsspec.open_local(f"simplecache::{url}", **{protocol: options})
    _LOG.info("%s was copied to %s", url, local)
    return str(local)


def _detect(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            if kind == "netcdf3" and path.stat().st_size < required_bytes(path):
                raise InputError(
                    f"{path} is truncated: it has {path.stat().st_size} of the "
                    f"{required_bytes(path)} bytes its header promises; fetch it again."
                )
            return kind
    size = path.stat().st_size
    raise InputError(
        f"{path} ({size} bytes) is neither NetCDF nor GRIB by its first bytes; if it is in a form "
        "of one of these, name the engine."
    )


def _open(path: str, **kwargs: Any) -> xr.Dataset:
    return xr.open_dataset(
        path,
        chunks=None,
        decode_times=xr.coders.CFDatetimeCoder(time_unit="ns"),
        decode_timedelta=False,
        **kwargs,
    )


def _open_zarr(path: str, options: dict[str, Any] | None) -> xr.Dataset:
    with warnings.catch_warnings():
        # a store without consolidated metadata is slower to open, and otherwise as good
        warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated metadata")
        return _open(path, engine="zarr", storage_options=options)


def _open_grib(path: str) -> list[xr.Dataset]:
    try:
        import cfgrib
        import eccodes
    except ImportError as error:
        raise ConfigError(
            f"{path} is GRIB, which needs `pip install 'weatherdiff[grib]'`."
        ) from error
    try:
        # no index file beside the user's data; a damaged message is not to be passed over
        found = cfgrib.open_datasets(path, backend_kwargs={"indexpath": "", "errors": "raise"})
    except (eccodes.CodesInternalError, EOFError) as error:
        raise InputError(
            f"{path} is truncated or damaged GRIB: {error}; fetch it again."
        ) from error
    return list(found)
