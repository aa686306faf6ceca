"""Find and open files and stores of gridded data: NetCDF, GRIB, Zarr and references to chunks.

What is opened here is still as its makers named and ordered it.
"""

from __future__ import annotations

import glob
import logging
import os
import re
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import dask
import fsspec
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.local import get_sync
from xarray.core import indexing

from weatherdiff.data.samples import sample_path
from weatherdiff.data.sources.grib import open_grib
from weatherdiff.data.sources.hdf5 import require_harmless
from weatherdiff.data.sources.netcdf3 import required_bytes
from weatherdiff.data.sources.public_layouts import is_anemoi, settled_layout
from weatherdiff.data.sources.references import ReferenceStore, read_references
from weatherdiff.data.sources.remote import require_no_secret
from weatherdiff.data.sources.remote_files import RemoteFiles
from weatherdiff.data.sources.zarr_guard import GuardedStore, guarded_store
from weatherdiff.errors import ConfigError, InputError, MissingInputError, StorageError

__all__ = ["SUFFIXES", "find_paths", "load", "open_all", "open_raw", "reading", "translated"]

Lazy = TypeVar("Lazy", xr.Dataset, xr.DataArray)

_LOG = logging.getLogger(__name__)

_MAGIC = {b"CDF": "netcdf3", b"\x89HDF": "hdf5", b"GRIB": "cfgrib", b"{": "references"}
# What the libraries raise when bytes are not as they expect; of no use to tell apart.
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
#: How names end that are not of a Zarr store.
SUFFIXES = (
    ".nc", ".nc3", ".nc4", ".cdf", ".h5", ".hdf5", ".grib", ".grib2", ".grb", ".grb2", ".json",
)  # fmt: skip
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
            require_no_secret(path)
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
            matches = _remote(storage_options).glob(pattern)
    else:
        matches = glob.glob(pattern, recursive=True)
    if not matches:
        raise MissingInputError(f"nothing matches {pattern}.")
    return sorted(matches)


def open_raw(
    path: str, *, engine: str | None = None, storage_options: Mapping[str, Any] | None = None
) -> list[xr.Dataset]:
    """Open one file or store, see :func:`open_all`."""
    return [ds for _, ds in open_all([path], engine=engine, storage_options=storage_options)]


def open_all(
    paths: Sequence[str],
    *,
    engine: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> list[tuple[str, xr.Dataset]]:
    """Open files and stores lazily, without dask.

    They may come from anybody: what reaches for other files, or declares more than it can hold, is
    refused before it is read. That a file changes between this check and its use is not provided
    for.

    Parameters
    ----------
    paths : sequence of str
        Local paths or URLs that fsspec knows. Remote files that are not Zarr are copied to a
        temporary folder first.
    engine : {"cfgrib", "h5netcdf", "netcdf4", "scipy", "zarr"}, optional
        xarray's engine; found out from the first bytes by default.
    storage_options : mapping, optional
        Options of the fsspec file system, such as ``{"anon": True}``, and ``patience``: see
        :class:`~weatherdiff.data.sources.remote.Patience`.

    Returns
    -------
    list of (path, xr.Dataset)
        One for each path, or as many as there are kinds of level (GRIB) or sets of them (anemoi).

    Raises
    ------
    ConfigError
        The engine is unknown, or its package is not installed.
    MissingInputError
        There is nothing at a path.
    InputError
        A file is truncated, damaged, hostile, or of another format.
    StorageError
        A file may not be read, or reading failed.
    """
    if engine is not None and engine not in _ENGINES:
        raise ConfigError(f"engine {engine!r} is unknown; there are {', '.join(_ENGINES)}.")
    options = dict(storage_options or {})
    found: list[tuple[str, str, str]] = []  # the path given, the local copy of it, its format
    for path in paths:
        with translated(path, _DAMAGE):
            found.append((path, *_locate(path, engine, options)))
    require_harmless([local for _, local, kind in found if kind == "hdf5"])
    opened = []
    for path, local, kind in found:
        with translated(path, _DAMAGE), dask.config.set(scheduler=get_sync):
            parts = _open_kind(path, local, kind, engine, options)
            opened += [(path, _named(ds, path)) for ds in parts]
    return opened


class _Named(xr.backends.BackendArray):
    """A variable that is read when it is needed, and says from which file if that fails."""

    def __init__(self, path: str, variable: xr.Variable) -> None:
        self.path, self.variable = path, variable
        self.shape, self.dtype = variable.shape, variable.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> npt.NDArray[Any]:
        outer = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, outer, self._read)

    def _read(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        with translated(self.path, _DAMAGE):
            return np.asarray(self.variable[key].values)


def _require_utc(ds: xr.Dataset) -> None:
    """Refuse a time zone by name: offsets are understood, names are passed over in silence."""
    for name, variable in ds.variables.items():
        reference = str(variable.encoding.get("units", "")).partition(" since ")[2]
        words = set(re.findall("[a-z]+", reference.lower())) - {"t", "z", "utc", "gmt"}
        if words:
            raise ValueError(
                f"the units of {name} are {variable.encoding['units']!r}, whose "
                f"{' '.join(sorted(words))!r} would be ignored; give the offset from UTC, as in "
                "'hours since 2018-07-20 00:00 +02:00'."
            )


def _named(ds: xr.Dataset, path: str) -> xr.Dataset:
    """Let every variable know its file."""
    _require_utc(ds)
    variables = {
        name: xr.Variable(
            variable.dims,
            indexing.LazilyIndexedArray(_Named(path, variable)),
            variable.attrs,
            variable.encoding,
        )
        for name, variable in ds.variables.items()
        if name not in ds.indexes
    }
    named = ds.assign_coords({k: v for k, v in variables.items() if k in ds.coords})
    named = named.assign({k: v for k, v in variables.items() if k not in ds.coords})
    named.set_close(ds.close)
    return named


def _locate(path: str, engine: str | None, options: dict[str, Any]) -> tuple[str, str]:
    """Where a file is, copied if it is far away, and its format."""
    if engine == "zarr":
        return path, "zarr"
    if "://" not in path:
        if not Path(path).is_dir():
            return path, _detect(Path(path), engine)
        return path, "references" if any(Path(path).glob("*/refs.0.parq")) else "zarr"
    files = _remote(options)
    name = path.rstrip("/").rpartition("/")[2].lower()
    if engine is None and not name.endswith(SUFFIXES):
        # a URL has no folders that could be looked at; stores have many names (ARCO's: .zarr-v3)
        names = [f"{path.rstrip('/')}/{key}" for key in ("zarr.json", ".zmetadata", ".zgroup")]
        if ".zarr" in name or any(files.exists(key) for key in names):
            return path, "zarr"
    local = files.copy(path)
    return str(local), _detect(local, engine)


def _open_kind(
    path: str, local: str, kind: str, engine: str | None, options: dict[str, Any]
) -> list[xr.Dataset]:
    if kind == "zarr":
        return _open_zarr(guarded_store(path, options, tell_absent=True))
    if kind == "references":
        store = ReferenceStore(read_references(local, path), path, options)
        return _open_zarr(GuardedStore(store, name=path, tell_absent=True))
    if kind == "cfgrib":
        return open_grib(local)
    return [_open(local, engine=engine or "netcdf4")]


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
    with translated(path), dask.config.set(scheduler=get_sync):
        yield


@contextmanager
def translated(
    path: str, damage: tuple[type[Exception], ...] = (RuntimeError, ValueError)
) -> Iterator[None]:
    """Turn what the many libraries raise into our errors; ``damage`` is of the file's bytes."""
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
    except MemoryError as error:
        raise InputError(
            f"{path} declares more than there is memory for; it is damaged or hostile, or must be "
            "divided into smaller chunks."
        ) from error
    except Exception as error:
        if "://" in path and "unexpected keyword argument" in str(error):
            raise ConfigError(
                f"{path}: storage_options has a key that its file system does not know: {error}."
            ) from error
        if not isinstance(error, damage):
            raise
        raise InputError(
            f"{path} could not be opened or read: {error or type(error).__name__}; if it is "
            "damaged, fetch it again."
        ) from error


def _remote(options: Mapping[str, Any]) -> RemoteFiles:
    return RemoteFiles(options, _copies().name)


@cache
def _copies() -> tempfile.TemporaryDirectory[str]:
    """Give the folder of the copies that this process makes; it goes with it."""
    return tempfile.TemporaryDirectory(prefix="weatherdiff-copies-")


def _detect(path: Path, engine: str | None) -> str:
    """Tell the format by the first bytes, by the engine where they are not known."""
    if not path.is_file() and path.exists():
        raise InputError(f"{path} is neither a file nor a folder.")
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
    if engine in ("netcdf4", "h5netcdf"):  # HDF5 may begin with bytes of another's
        return "hdf5"
    if engine == "cfgrib":
        return engine
    raise InputError(
        f"{path} ({path.stat().st_size} bytes) is neither NetCDF nor GRIB by its first bytes; if "
        "it is compressed, unpack it; if it is in a form of one of these, name the engine."
    )


def _open(source: Any, **kwargs: Any) -> xr.Dataset:
    return xr.open_dataset(
        source,
        chunks=None,
        decode_times=xr.coders.CFDatetimeCoder(time_unit="ns"),
        decode_timedelta=False,
        **kwargs,
    )


def _open_zarr(store: GuardedStore) -> list[xr.Dataset]:
    with warnings.catch_warnings():
        # a store without consolidated metadata is slower to open, and otherwise as good
        warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated metadata")
        ds = _open(store, engine="zarr")
        if is_anemoi(ds):  # whose fill value may be 0, which is no mark of missing values there
            ds = _open(store, engine="zarr", mask_and_scale=False)
    store.require_possible()
    # without consolidated metadata zarr-python lists arrays in the order in which their metadata
    # happen to arrive, which would give a store other channels with each preparing
    return settled_layout(ds[sorted(ds.variables, key=str)])
