"""The fields of a canonical Dataset, a few frames at a time and one variable after the other.

What is in memory at once is bounded by the frames asked for, once more those of one variable, and
the stored chunks of that variable that hold them: never by the length of the record, the number of
files or the number of variables, however the source is divided.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.local import get_sync  # by its name, dask would import distributed first: 0.5 s

from weatherdiff.data.channels import Channels
from weatherdiff.data.sources.formats import SUFFIXES, reading, translated
from weatherdiff.data.sources.remote_files import RemoteFiles
from weatherdiff.data.sources.stored_chunks import StoredField, stored_field
from weatherdiff.errors import InputError
from weatherdiff.layout import LAYOUT

__all__ = ["SOURCES", "Source", "files_of", "fingerprint", "require_unchanged"]

#: Key of the encoding in which :func:`~weatherdiff.open_fields` says what it has read.
SOURCES = "weatherdiff_sources"


@dataclass(frozen=True)
class Source:
    """Variables with time, to be read by position on the time axis.

    Parameters
    ----------
    ds : Dataset
        Canonical; other variables than those of the channels do no harm.
    channels : Channels
    stored : mapping, optional
        Variables that are read from their files, see :meth:`past_xarray`.

    Examples
    --------
    >>> dims = ("time", "latitude", "longitude")
    >>> ds = xr.Dataset({"t": (dims, np.zeros((4, 2, 3))), "u": (dims, np.ones((4, 2, 3)))})
    >>> Source(ds, Channels.from_dataset(ds)).read(1, 3)[:, :, 0, 0]
    array([[0., 1.],
           [0., 1.]], dtype=float32)
    """

    ds: xr.Dataset
    channels: Channels
    stored: Mapping[str, StoredField] = field(default_factory=dict)

    @classmethod
    def past_xarray(cls, ds: xr.Dataset, channels: Channels) -> Source:
        """Give a source that reads the files of what is stored plainly on a local disk.

        One frame of each such variable is read in the ordinary way, too, and must be the same.
        """
        known = ds.encoding.get(SOURCES, {})
        parts = {part.variables[0]: part for _, part in cls(ds, channels)._variables()}
        found = {n: s for n in parts if (s := stored_field(ds, n, known)) is not None}
        if not found:
            return cls(ds, channels)
        place = ds.sizes["time"] // 3  # not the middle: it stays if the times are turned round
        frame = ds[list(found)].isel(time=slice(place, place + 1))
        with reading("the source data"):
            ordinary = cls(frame.compute(scheduler=get_sync), channels)
        stored = {}
        for name, one in found.items():
            values = ordinary._ordinary(parts[name], 0, 1)
            same = np.empty(values.shape, np.float32)
            if _from_files(one, place, place + 1, same) and np.array_equal(
                values, same, equal_nan=True
            ):
                stored[name] = one
        return cls(ds, channels, stored)

    def read(
        self, start: int, stop: int, out: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[np.float32]:
        """Read frames ``start`` to ``stop`` (excluded).

        Parameters
        ----------
        start, stop : int
        out : (time, channel, latitude, longitude), optional
            To be filled with them.

        Returns
        -------
        (time, channel, latitude, longitude)
            NaN where there are no data.

        Raises
        ------
        InputError, MissingInputError, StorageError
            The source is damaged, has gone, or cannot be read.
        """
        stop = min(stop, self.ds.sizes["time"])
        if out is None:
            sizes = self.ds.sizes
            frame = (len(self.channels), sizes["latitude"], sizes["longitude"])
            out = np.empty((stop - start, *frame), np.float32)
        for where, part in self._variables():
            found = self.stored.get(part.variables[0])
            if found is None or not _from_files(found, start, stop, out[:, where]):
                out[:, where] = self._ordinary(part, start, stop)
        return out

    def _ordinary(self, part: Channels, start: int, stop: int) -> npt.NDArray[Any]:
        """Read the channels of one variable through xarray."""
        # The bare variable: to slice a data set, its indices and each lazy step after that
        # costs more than to copy a small frame.
        lazy = self.ds.variables[part.variables[0]].isel(time=slice(start, stop))
        with translated("the source data"):
            # Explicitly: a setting of dask's would be one for all threads. HDF5 likes no more.
            values = lazy.compute(scheduler=get_sync)
            return self._laid(values, part)

    def _laid(self, variable: xr.Variable, part: Channels) -> npt.NDArray[Any]:
        """Give the values as (time, channel, latitude, longitude)."""
        if part.levels[0] is None:
            return variable.transpose("time", "latitude", "longitude").to_numpy()[:, None]
        values = variable.transpose("time", "level", "latitude", "longitude").to_numpy()
        known = self.ds["level"].values.tolist()
        places = [known.index(level) for level in part.levels]
        return values if places == list(range(len(known))) else values[:, places]

    def _variables(self) -> Iterator[tuple[slice, Channels]]:
        """Channels of one variable, which are stored together, and where they are."""
        start = 0
        for _, group in groupby(self.channels.variables):
            stop = start + len(list(group))
            where = slice(start, stop)
            yield where, Channels(self.channels.variables[where], self.channels.levels[where])
            start = stop


def _from_files(found: StoredField, start: int, stop: int, out: npt.NDArray[np.float32]) -> bool:
    """Read a variable from its files; tell whether they are as they should be."""
    try:
        found.read(start, stop, out)
    except (OSError, RuntimeError, ValueError):
        return False
    return True


def files_of(paths: list[str], storage_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Size and version of files, of local stores that of all their files, of remote ones of these.

    The version is the time of change, of a URL what its server says: the tag of an object, or else
    when it was last modified; of a remote store only its metadata are asked for. None where nothing
    is known.
    """
    return {
        path: _remote_state(path, storage_options) if "://" in path else _local_state(path)
        for path in dict.fromkeys(paths)
    }


_METADATA = ("zarr.json", ".zmetadata", ".zgroup")
_DOCUMENTS = {*_METADATA, ".zarray", ".zattrs"}
MOST_FILES = 10_000  # of a store that are looked at: half a second, on a network many


def _local_state(path: str) -> list[int] | None:
    """Size and newest change of a file; of a folder those of metadata, then count and both of data.

    Of a store of very many files only some are looked at, always the same.
    """
    if not os.path.exists(path):
        return None
    if os.path.isfile(path):
        status = os.stat(path)
        return [status.st_size, status.st_mtime_ns]
    size, changed, files, content, newest = 0, 0, 0, 0, 0
    for name, status in islice(_files_below(path), MOST_FILES):
        if name in _DOCUMENTS:
            size, changed = size + status.st_size, max(changed, status.st_mtime_ns)
        else:
            files, content = files + 1, content + status.st_size
            newest = max(newest, status.st_mtime_ns)
    return [size, changed, files, content, newest]


def _files_below(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Names and states of the files below a folder, always in the same order."""
    folders = [folder]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:  # it may go at this moment
            for entry in sorted(entries, key=lambda entry: entry.name, reverse=True):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    with suppress(OSError):
                        yield entry.name, entry.stat(follow_symlinks=False)


def _remote_state(url: str, storage_options: Mapping[str, Any] | None) -> list[Any] | None:
    files = RemoteFiles(storage_options, "")
    with translated(url):
        inside = [] if url.endswith(SUFFIXES) else [f"{url.rstrip('/')}/{n}" for n in _METADATA]
        version = next((v for v in map(files.version, [*inside, url]) if v is not None), None)
    return None if version is None else list(version)


def require_unchanged(ds: xr.Dataset) -> None:
    """Refuse files that are others than they were when :func:`~weatherdiff.open_fields` read them.

    Zarr stores may grow meanwhile: what was there stays. One grows where its metadata change or
    files are added; that chunks are rewritten and nothing else is a change. What is not there any
    more was read before.

    Raises
    ------
    InputError
    """
    for path, known in ds.encoding.get(SOURCES, {}).get("files", {}).items():
        state = None if "://" in path or known is None else _local_state(path)
        if state is None or state == known:
            continue
        if len(state) == len(known) > 2 and (state[:2] != known[:2] or state[2] > known[2]):
            continue
        raise InputError(
            f"{path} was changed while it was read, so that old and new fields may be mixed; run "
            "again when it is whole."
        )


def fingerprint(ds: xr.Dataset) -> str:
    """Tell two sources apart without reading fields.

    It covers coordinates, attributes and types; the sizes and times of the files that
    :func:`~weatherdiff.open_fields` has read, see :func:`files_of`; the values of what is in
    memory; the names of dask's arrays that were made otherwise.
    """
    state = hashlib.sha256()

    def add(*parts: object) -> None:
        state.update(json.dumps([str(part) for part in parts]).encode())

    for name, variable in sorted(ds.variables.items(), key=lambda item: str(item[0])):
        add(name, variable.dims, variable.shape, variable.dtype, sorted(variable.attrs.items()))
        if dask.is_dask_collection(variable):
            if LAYOUT not in ds.attrs:  # open_fields gives names at random
                add(variable.data.name)
        elif name in ds.coords or variable._in_memory:
            values = variable.to_numpy()
            content = values.astype(str) if values.dtype.kind == "O" else values
            state.update(np.ascontiguousarray(content).tobytes())
    add(sorted((key, str(value)) for key, value in ds.attrs.items()))
    add(sorted(ds.encoding.get(SOURCES, {}).get("files", {}).items()))
    return state.hexdigest()
