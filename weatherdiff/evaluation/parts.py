"""Sums of a block in one file, while the rest of them is made: arrays and JSON, never a pickle.

A zip of NumPy arrays, uncompressed, so that no array is larger than the file; zip checks every byte
by CRC. What the headers declare is compared with what is there before anything is allocated.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from numpy.lib import format as npy

from weatherdiff.data.calendars import Calendar
from weatherdiff.errors import InputError, StorageError

__all__ = ["read_part", "write_part"]

_LAYOUT = "layout"
_CALENDARS = "calendars"
_LARGEST_HEADER = 10_000  # bytes


def write_part(part: xr.Dataset, path: Path) -> None:
    """Write arrays with their names, dimensions and attributes.

    Parameters
    ----------
    part : Dataset
        Attributes are plain types.
    path : Path
        ``*.npz``.
    """
    layout: dict[str, Any] = {
        "attrs": part.attrs,
        "coords": list(map(str, part.coords)),
        "variables": {str(name): [v.dims, v.attrs] for name, v in part.variables.items()},
    }
    arrays = {str(name): array.values for name, array in part.variables.items()}
    for name, values in arrays.items():
        if values.dtype == object:  # dates of cftime
            own = Calendar.of(values)
            layout.setdefault(_CALENDARS, {})[name] = own.name
            arrays[name] = own.seconds(values)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **{_LAYOUT: np.array(json.dumps(layout))}, **arrays)


def read_part(path: Path) -> xr.Dataset:
    """Read what :func:`write_part` has written.

    Raises
    ------
    StorageError
        The file is damaged, or declares more than it holds.
    """
    try:
        arrays = dict(_arrays(path))
        layout = json.loads(str(arrays[_LAYOUT]))
        for name, calendar in layout.get(_CALENDARS, {}).items():
            arrays[name] = Calendar(calendar).dates(arrays[name])
        variables = {
            name: (dims, arrays[name], attrs) for name, (dims, attrs) in layout["variables"].items()
        }
        return xr.Dataset(variables, attrs=layout["attrs"]).set_coords(layout["coords"])
    except (
        ArithmeticError,
        AttributeError,
        EOFError,
        InputError,
        KeyError,
        OSError,
        RuntimeError,
        SyntaxError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise StorageError(
            f"{path} is damaged ({error}); remove it, and its forecasts are scored again."
        ) from error


def _arrays(path: Path) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
    size = path.stat().st_size
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > size:
                raise ValueError(f"{member.filename} is not stored as it is")
            with archive.open(member) as content:
                yield member.filename.removesuffix(".npy"), _array(content, member.file_size)


def _array(content: IO[bytes], size: int) -> npt.NDArray[np.generic]:
    """Read an array that fills ``size`` bytes with its header."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(content)
    if version not in readers:
        raise ValueError(f"NumPy's format {version} is unknown")
    shape, fortran, dtype = readers[version](content, max_header_size=_LARGEST_HEADER)
    declared = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or declared != size - content.tell():
        raise ValueError(
            f"an array {shape} of {dtype} is declared, with {size - content.tell()} bytes"
        )
    values = np.frombuffer(bytearray(content.read()), dtype)
    return values.reshape(shape, order="F" if fortran else "C")
