"""The Zarr group of one forecast: its arrays, chunks and coordinates.

A chunk of a field holds a block of frames of a block of members, so that whoever draws these
members writes whole objects, which nobody else writes. Products, which have no members, are a group
of their own inside, of blocks of frames.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from weatherdiff.data.calendars import Calendar
from weatherdiff.data.storing.profiles import LZ4
from weatherdiff.errors import InputError

__all__ = [
    "FORMAT_VERSION",
    "PRODUCTS",
    "array_of",
    "create_fields",
    "finish",
    "is_coordinate",
    "objects_of",
    "put_block",
]

FORMAT = "weatherdiff forecast"
FORMAT_VERSION = 1
EPOCH = {"units": "seconds since 1970-01-01 00:00:00"}
COORDINATES = (
    "init_time", "lead_time", "valid_time", "number", "level", "latitude", "longitude", "quantile"
)  # fmt: skip
#: Of the group of products in that of a forecast.
PRODUCTS = "products"


def is_coordinate(name: str) -> bool:
    """Tell an array of coordinates from one of fields, by its name."""
    return name in COORDINATES or name.startswith("threshold_")


def create_fields(
    path: Path, example: xr.Dataset, *, frames: int, block: tuple[int, int]
) -> zarr.Group:
    """Create the arrays of the fields, without values, and the coordinates known beforehand.

    Parameters
    ----------
    path : path
        Of a folder that does not exist.
    example : Dataset
        A block of frames as :meth:`Forecaster.rollout` yields it, of all members, or of products.
    frames : int
        Lead times in all.
    block : (int, int)
        Frames and members of a chunk.
    """
    group = zarr.create_group(path, zarr_format=3)
    whole = {"lead_time": block[0], "number": block[1]}
    for name, values in example.data_vars.items():
        shape = [frames if d == "lead_time" else n for d, n in values.sizes.items()]
        group.create_array(
            str(name),
            shape=shape,
            chunks=tuple(
                min(n, whole.get(str(d), n)) for d, n in zip(values.dims, shape, strict=True)
            ),
            dtype=np.float32,
            fill_value=np.nan,
            compressors=LZ4,
            dimension_names=[str(d) for d in values.dims],
            config={"write_empty_chunks": True},
            attributes={**values.attrs, "coordinates": "valid_time"},
        )
    for name in map(str, example.coords):
        if is_coordinate(name) and name not in ("init_time", "lead_time", "valid_time"):
            _coordinate(group, example, name, example[name].to_numpy())
    calendar = Calendar.of(example["init_time"])
    init = calendar.seconds(example["init_time"].values)
    _coordinate(group, example, "init_time", init, **EPOCH, calendar=calendar.name)
    return group


def put_block(
    group: zarr.Group, block: xr.Dataset, *, frames: slice, members: slice = slice(None)
) -> None:
    """Write a block of frames of some members to its place."""
    for name, values in block.data_vars.items():
        place = {"lead_time": frames, "number": members}
        array = array_of(group, str(name))
        array[tuple(place.get(str(d), slice(None)) for d in values.dims)] = values.to_numpy()


def finish(
    group: zarr.Group,
    example: xr.Dataset,
    *,
    lead_times: npt.NDArray[np.timedelta64],
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write the times and the attributes, and all metadata once more in one file."""
    leads = lead_times.astype("timedelta64[s]").astype(np.int64)
    calendar = Calendar.of(example["init_time"])
    init = int(calendar.seconds(example["init_time"].values)[0])
    # With the dtype xarray decodes it unasked; without, seconds would be plain integers.
    timedelta = {"units": "seconds", "dtype": "timedelta64[ns]"}
    _coordinate(group, example, "lead_time", leads, **timedelta)
    _coordinate(group, example, "valid_time", leads[None] + init, **EPOCH, calendar=calendar.name)
    # Flat, as netCDF takes no nested attributes when a reader copies them there.
    own: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION}
    group.attrs.update({**(attributes or {}), **own})
    with warnings.catch_warnings():
        # Consolidated metadata opens in one read; zarr warns that Zarr v3 has no word on it.
        warnings.simplefilter("ignore", UserWarning)
        zarr.consolidate_metadata(group.store)


def objects_of(group: zarr.Group, block: int, dim: str = "number") -> list[str]:
    """Name the stored objects that hold a block of members, and nothing else.

    Parameters
    ----------
    group : Group
        As :func:`create_fields` gives it.
    block : int
        Which block of members, from 0.
    dim : str
        ``"lead_time"`` for a block of frames of products.

    Returns
    -------
    list of str
        Paths relative to the group.
    """
    names = []
    for name, array in sorted(group.arrays()):
        if is_coordinate(name):
            continue
        along = list(array.metadata.dimension_names or ()).index(dim)  # type: ignore[union-attr]
        grid = [-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)]
        for index in np.ndindex(*grid):
            if index[along] == block:
                names.append(f"{name}/{array.metadata.encode_chunk_key(index)}")
    return names


def _coordinate(
    group: zarr.Group, ds: xr.Dataset, name: str, values: np.ndarray, **attributes: str
) -> None:
    group.create_array(
        name,
        data=values,
        chunks=values.shape,
        compressors=LZ4,  # with a checksum, also for those that read without weatherdiff
        dimension_names=[str(d) for d in ds[name].dims],
        attributes={**ds[name].attrs, **attributes},
    )


def array_of(group: zarr.Group, name: str) -> zarr.Array:
    """Give an array of a group.

    Raises
    ------
    InputError
        It is a group.
    """
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise InputError(f"{name} is a group, an array was expected.")
    return array
