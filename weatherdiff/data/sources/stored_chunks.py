"""Fields of a local Zarr, from the files of its chunks straight into the place they are wanted in.

What :func:`~weatherdiff.open_fields` gives is lazy through xarray, dask and zarr-python, which take
several times as long as to read the files. A local store of float32 (Zarr v2 or v3, without shards)
whose values are meant as they are stored is read here instead; levels, latitudes and longitudes may
be divided, transposed or in the opposite order. Whatever is not as expected, a chunk that is absent
or damaged included, is left to them.

That a variable of a data set is still that of the store, nothing taken out, changed or put in
another order, is known by the name of its dask array, which anything that is done to it changes.
And nothing is taken on trust: one frame must be the same, bit by bit, read both ways.
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numcodecs.zstd
import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.sources.as_stored import (
    as_slice,
    is_nan,
    require_as_meant,
    stored_names,
)
from weatherdiff.data.sources.frames import decoded_size
from weatherdiff.data.storing.shards import CRC_BYTES, seal_of
from weatherdiff.grid import canonical_grid
from weatherdiff.layout import LAYOUT, Layout

__all__ = ["STORED", "StoredField", "remember_stored", "stored_field"]

#: Key of what :func:`~weatherdiff.open_fields` says of itself, under which it says what is stored.
STORED = "stored"

Float = npt.NDArray[np.float32]

MOST_PARTS = 512  # that the system reads into at once; POSIX promises 16, Linux 1024


@dataclass(frozen=True)
class StoredField:
    """A variable as it is stored.

    Attributes
    ----------
    path : str
        Folder of the array, links resolved.
    dims : tuple of str
        Canonical names of its dimensions; time first.
    shape, chunk : tuple of int
        Of the array, and of what is in one file.
    compressor : {"blosc", "zstd"} or None
    checksum : bool
        Whether a CRC32C follows.
    prefix, separator : str
        Of the names of the files.
    rows, columns : slice or array of int
        Which latitudes and longitudes, in canonical order.
    """

    path: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    compressor: str | None
    checksum: bool
    prefix: str
    separator: str
    rows: slice | npt.NDArray[np.intp]
    columns: slice | npt.NDArray[np.intp]

    def read(self, start: int, stop: int, out: Float) -> None:
        """Read times ``start`` to ``stop`` (excluded).

        Parameters
        ----------
        start, stop : int
        out : (time, level, latitude, longitude)
            To be filled; one level where there are none.

        Raises
        ------
        OSError, ValueError, RuntimeError
            A file is absent, or not as the metadata say.
        """
        if not self._is_plain:
            whole = np.empty((stop - start, *self.shape[1:]), np.float32)
            for number, piece in product(self._numbers(start, stop), self._pieces()):
                first = number * self.chunk[0]
                rows = slice(max(start - first, 0), min(stop - first, self.chunk[0]))
                values = self._decoded((number, *piece))[rows]
                part = [slice(first + rows.start - start, first + rows.start - start + len(values))]
                for place, size, length in zip(piece, self.chunk[1:], self.shape[1:], strict=True):
                    part.append(slice(place * size, min((place + 1) * size, length)))
                kept = tuple(slice(p.stop - p.start) for p in part)
                whole[tuple(part)] = values[kept]
            order = [d for d in ("time", "level", "latitude", "longitude") if d in self.dims]
            fields = whole.transpose([self.dims.index(dim) for dim in order])
            fields = fields.reshape(out.shape)[:, :, self.rows]
            out[...] = fields[..., self.columns]
            return
        frame_bytes = 4 * math.prod(self.shape[1:])
        for number in self._numbers(start, stop):
            first = number * self.chunk[0]
            begin, end = max(start, first), min(stop, first + self.chunk[0])
            file = self._open((number, *[0] * (len(self.shape) - 1)))
            try:
                parts = [
                    memoryview(level).cast("B")
                    for frame in out[begin - start : end - start]
                    for level in ((frame,) if frame.flags.c_contiguous else frame)
                ]
                _read_into(file, parts, (begin - first) * frame_bytes)
            finally:
                os.close(file)

    @property
    def _is_plain(self) -> bool:
        """Whether the bytes of a file are those of whole frames, as they are wanted."""
        whole = slice(None)
        return (
            self.compressor is None
            and not self.checksum
            and self.chunk[1:] == self.shape[1:]
            and self.dims[-2:] == ("latitude", "longitude")
            and isinstance(self.rows, slice)
            and isinstance(self.columns, slice)
            and self.rows == self.columns == whole
        )

    def _numbers(self, start: int, stop: int) -> range:
        return range(start // self.chunk[0], -(-stop // self.chunk[0]))

    def _pieces(self) -> Iterator[tuple[int, ...]]:
        """Places of the files that hold some times."""
        sizes = zip(self.shape[1:], self.chunk[1:], strict=True)
        return product(*(range(-(-length // size)) for length, size in sizes))

    def _open(self, place: tuple[int, ...]) -> int:
        """Open a file, which must lie inside and have the size that it should have."""
        name = self.prefix + self.separator.join(map(str, place))
        path = os.path.join(self.path, name)
        if os.path.realpath(path) != path:
            raise ValueError(f"{path} is a link")
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(file)
        size = 4 * math.prod(self.chunk)
        wrong = status.st_size > size + size // 8 + 2**16
        if self.compressor is None:
            wrong = status.st_size != size + self.checksum * CRC_BYTES
        if wrong or not stat.S_ISREG(status.st_mode):
            os.close(file)
            raise ValueError(f"{path} has another size than its metadata say")
        return file

    def _decoded(self, place: tuple[int, ...]) -> Float:
        with os.fdopen(self._open(place), "rb") as file:
            content = file.read()
        if self.checksum:
            content, known = content[:-CRC_BYTES], content[-CRC_BYTES:]
            if seal_of(content) != known:
                raise ValueError("a chunk is not what its checksum says")
        values = np.empty(self.chunk, np.float32)
        if self.compressor is None:
            return np.frombuffer(content, "<f4").reshape(self.chunk)
        if decoded_size(self.compressor, content, values.nbytes) != values.nbytes:
            raise ValueError("a chunk does not have the size that its metadata say")
        codec = numcodecs.blosc if self.compressor == "blosc" else numcodecs.zstd
        codec.decompress(content, values)
        return values


def _read_into(file: int, parts: list[memoryview], offset: int) -> None:
    """Read consecutive bytes into several places."""
    for first in range(0, len(parts), MOST_PARTS):
        some = parts[first : first + MOST_PARTS]
        wanted = sum(part.nbytes for part in some)
        if os.preadv(file, some, offset) != wanted:  # a signal, or the end
            raise ValueError("a file is cut off")
        offset += wanted


def remember_stored(
    parts: Sequence[tuple[str, xr.Dataset]], ds: xr.Dataset
) -> dict[str, tuple[str, str]]:
    """Say which variables are those of one source, whole and as they were.

    Parameters
    ----------
    parts : sequence of (source, Dataset)
        As dask arrays on a canonical grid.
    ds : Dataset
        What became of them.

    Returns
    -------
    dict
        Source and name of the dask array by variable.
    """
    found = {}
    for source, part in parts:
        for name, field in part.variables.items():
            own = getattr(field.data, "name", None)
            final = getattr(ds.variables[name].data, "name", None) if name in ds else None
            if own is not None and own == final and Path(source).is_dir():
                found[str(name)] = (source, own)
    return found


def stored_field(ds: xr.Dataset, variable: str, known: Mapping[str, Any]) -> StoredField | None:
    """Find the files of a variable.

    Parameters
    ----------
    ds : Dataset
        As :func:`~weatherdiff.open_fields` gives it, or what was made of that.
    variable : str
    known : mapping
        What :func:`~weatherdiff.open_fields` says of it.

    Returns
    -------
    StoredField or None
        None where it is another variable now, or stored in a way that is not known here.
    """
    source, name = known.get(STORED, {}).get(variable, ("", ""))
    field = ds.variables[variable]
    if not source or getattr(field.data, "name", None) != name or LAYOUT not in ds.attrs:
        return None
    try:
        return _find(ds, variable, Path(source))
    except (OSError, KeyError, TypeError, ValueError, struct.error):
        return None


def _find(ds: xr.Dataset, variable: str, source: Path) -> StoredField:
    """Read the metadata.

    Raises
    ------
    OSError, KeyError, TypeError, ValueError
        They are not known here.
    """
    layout = Layout.from_dict(json.loads(ds.attrs[LAYOUT]))
    (own,) = stored_names(ds, [variable], layout)
    _, rows, columns = canonical_grid(layout.latitude, layout.longitude)
    path = os.path.realpath(source / own)
    if path != os.path.join(os.path.realpath(source), own):
        raise ValueError("it is a link")
    stored = _metadata(path)
    canonical = {old: new for new, old in layout.names.items()}
    dims = tuple(canonical.get(dim, dim) for dim in stored["dims"])
    shape = tuple(ds[variable].sizes[dim] for dim in dims)
    if dims[0] != "time" or shape != stored["shape"] or set(dims) != set(ds[variable].dims):
        raise ValueError(f"it has the dimensions {dims} and the shape {stored['shape']}")
    if ds[variable].dtype != np.float32:
        raise ValueError("it is of another type")
    return StoredField(
        path, rows=as_slice(rows), columns=as_slice(columns), **stored | {"dims": dims}
    )


def _metadata(path: str) -> dict[str, Any]:
    """Give what a :class:`StoredField` is made of."""
    file = os.path.join(path, "zarr.json")
    if os.path.exists(file):
        with open(file, "rb") as opened:
            document = json.load(opened)
        attributes = document.get("attributes", {})
        grid, keys = document["chunk_grid"], document["chunk_key_encoding"]
        chain = [codec["name"] for codec in document["codecs"]]
        known = [["bytes"], ["bytes", "blosc"], ["bytes", "zstd"]]
        checksum = chain[-1] == "crc32c"
        if chain[: len(chain) - checksum] not in known or document.get("storage_transformers"):
            raise ValueError(f"codecs {chain}")
        if document["codecs"][0].get("configuration", {}).get("endian") != "little":
            raise ValueError("big-endian values")
        if (document["node_type"], document["data_type"], grid["name"], keys["name"]) != (
            "array", "float32", "regular", "default",
        ):  # fmt: skip
            raise ValueError("another kind of array")
        separator = keys.get("configuration", {}).get("separator", "/")
        found = {
            "dims": document["dimension_names"],
            "chunk": tuple(grid["configuration"]["chunk_shape"]),
            "compressor": chain[1] if len(chain) - checksum > 1 else None,
            "checksum": checksum,
            "prefix": f"c{separator}",
        }
    else:
        with open(os.path.join(path, ".zarray"), "rb") as opened:
            document = json.load(opened)
        with open(os.path.join(path, ".zattrs"), "rb") as opened:
            attributes = json.load(opened)
        compressor = (document["compressor"] or {}).get("id")
        if document["filters"] or compressor not in (None, "blosc", "zstd"):
            raise ValueError("other codecs")
        if (document["zarr_format"], document["dtype"], document["order"]) != (2, "<f4", "C"):
            raise ValueError("another kind of array")
        if document["fill_value"] is not None and not is_nan(document["fill_value"]):
            raise ValueError("a fill value that stands for what is missing")
        separator = document.get("dimension_separator", ".")
        found = {
            "dims": attributes["_ARRAY_DIMENSIONS"],
            "chunk": tuple(document["chunks"]),
            "compressor": compressor,
            "checksum": False,
            "prefix": "",
        }
    require_as_meant(attributes)
    if separator not in ("/", ".") or min(found["chunk"]) < 1:
        raise ValueError("unusual metadata")
    return found | {"shape": tuple(document["shape"]), "separator": separator}
