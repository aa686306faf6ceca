"""The arrays of a field store, created empty, filled in, and made longer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from weatherdiff.data.calendars import STANDARD
from weatherdiff.data.channels import Channels
from weatherdiff.data.normalization import Normalizer
from weatherdiff.data.quality import Looker
from weatherdiff.data.store import FORMAT, FORMAT_VERSION, LOST
from weatherdiff.data.storing.inventory import Inventory
from weatherdiff.data.storing.moments import STATISTICS
from weatherdiff.data.storing.profiles import LZ4, Profile
from weatherdiff.data.storing.shards import chunk_file, encode, put_file
from weatherdiff.data.storing.tasks import CHANGES, FIELDS, FRAMES, LOOKS, SEEN
from weatherdiff.data.windows import Int
from weatherdiff.grid import Grid

__all__ = ["create_store", "finish_store", "lengthen"]

# Of the arrays that grow with time. Their shape can then change without their chunks.
TIMES_PER_CHUNK = 2**16


def create_store(
    path: Path,
    *,
    channels: Channels,
    grid: Grid,
    times: Int,
    shard: int,
    leads: Int,
    looker: Looker | None = None,
    calendar: str = STANDARD,
    profile: Profile | None = None,
) -> None:
    """Create a store with its coordinates, and the empty arrays that the tasks will fill."""
    group = zarr.create_group(path, zarr_format=3, overwrite=False)
    put(group, "time", times, ("time",), grows=True).attrs.update(
        {
            "units": "seconds since 1970-01-01 00:00:00",
            "calendar": calendar,
            "standard_name": "time",
        }
    )
    labels = _text(channels.labels)
    put(group, "channel", labels, ("channel",))
    put(group, "latitude", grid.latitude, ("latitude",)).attrs["units"] = "degrees_north"
    put(group, "longitude", grid.longitude, ("longitude",)).attrs["units"] = "degrees_east"
    frame = (len(channels), *grid.shape)
    group.create_array(
        FIELDS,
        shape=(len(times), *frame),
        chunks=(1, *frame),
        shards=(shard, *frame),
        dtype=np.float32,
        fill_value=LOST,
        **(profile or Profile()).codecs(),
        dimension_names=("time", "channel", "latitude", "longitude"),
    )
    moments = group.create_group("moments")
    put(moments, "statistic", _text(STATISTICS), ("statistic",))
    put(moments, "channel", labels, ("channel",))
    put(moments, "lead", leads, ("lead",)).attrs["units"] = "seconds"
    counted = (len(channels), len(STATISTICS))
    arrays: list[tuple[str, int, tuple[int, ...], tuple[str, ...], str]] = [
        (FRAMES, shard, (len(times), *counted), ("time", "channel", "statistic"), "f8"),
        (
            CHANGES,
            shard,
            (len(times), len(leads), *counted),
            ("time", "lead", "channel", "statistic"),
            "f8",
        ),
        (
            SEEN,
            1,
            (-(-len(times) // shard), *frame),
            ("shard", "channel", "latitude", "longitude"),
            "bool",
        ),
    ]
    if looker is not None:
        quality = group.create_group("quality")
        put(quality, "number", _text(looker.labels), ("number",))
        put(quality, "channel", labels, ("channel",))
        looks = (len(times), len(channels), looker.size)
        # First: the last of all is what tells a run that goes on that the others are there.
        arrays.insert(0, (LOOKS, shard, looks, ("time", "channel", "number"), "f4"))
    for name, one, sizes, dimensions, dtype in arrays:
        group.create_array(
            name,
            shape=sizes,
            chunks=(one, *sizes[1:]),
            dtype=dtype,
            fill_value=False if dtype == "bool" else np.nan,
            compressors=LZ4,
            dimension_names=dimensions,
        )


def put(
    group: zarr.Group,
    name: str,
    values: npt.NDArray[Any],
    dimensions: tuple[str, ...],
    *,
    grows: bool = False,
) -> zarr.Array:
    """Write a small array in one chunk, whatever it holds, so that a lost one is found."""
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        dimension_names=dimensions,
        chunks=(TIMES_PER_CHUNK,) if grows else values.shape,
        compressors=LZ4,
        config={"write_empty_chunks": True},
    )
    array[...] = np.ascontiguousarray(values)
    return array


def finish_store(
    path: Path,
    *,
    valid: npt.NDArray[np.bool_],
    mask: npt.NDArray[np.bool_],
    static: npt.NDArray[np.float32],
    normalizer: Normalizer,
    metadata: dict[str, Any],
) -> None:
    """Write what is known only after all fields are."""
    group = zarr.open_group(path, mode="r+")
    for name in ("valid", "mask", "static", "statistics"):
        if name in group:  # of a run that was stopped here
            del group[name]
    put(group, "valid", valid, ("time",), grows=True)
    put(group, "mask", mask, ("channel", "latitude", "longitude"))
    put(group, "static", static, ("static_field", "latitude", "longitude"))
    statistics = group.create_group("statistics")
    axes = {
        "climatology": ("basis", "channel", "latitude", "longitude"),
        "std": ("channel",),
        "tendency_std": ("lead", "channel"),
    }
    for name, values in normalizer.arrays().items():
        put(statistics, name, values, axes[name])
    document = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        **metadata,
        "normalizer": normalizer.to_dict(),
    }
    group.attrs["weatherdiff"] = json.loads(json.dumps(document))
    Inventory.take(path, len(valid)).write(path)


def lengthen(
    path: Path, times: Int, valid: npt.NDArray[np.bool_], shard: int, since: int
) -> list[Path]:
    """Make the arrays of a store longer; each file is replaced by one that begins the same.

    Parameters
    ----------
    path : Path
    times, valid : (time,)
        Of the longer store.
    shard : int
        Frames of one shard.
    since : int
        The first new one.

    Returns
    -------
    list of Path
        The files that were replaced.
    """
    Inventory.extend(path, len(times))  # or readers would take the longer arrays for damaged
    changed = []
    for name, values in (("time", times), ("valid", valid)):
        for number in range(since // TIMES_PER_CHUNK, -(-len(times) // TIMES_PER_CHUNK)):
            part = values[number * TIMES_PER_CHUNK : (number + 1) * TIMES_PER_CHUNK]
            chunk = np.zeros(TIMES_PER_CHUNK, values.dtype)
            chunk[: len(part)] = part
            changed.append(chunk_file(path / name, number))
            put_file(changed[-1], encode(chunk), durable=True)
    count = len(times)
    for name, length in (
        ("time", count),
        ("valid", count),
        (FIELDS, count),
        (FRAMES, count),
        (CHANGES, count),
        (LOOKS, count),
        (SEEN, -(-count // shard)),
    ):
        if name == LOOKS and not (path / name).exists():  # a store of an older version
            continue
        changed.append(path / name / "zarr.json")
        document = json.loads(changed[-1].read_bytes())
        document["shape"][0] = length
        put_file(changed[-1], json.dumps(document, indent=2), durable=True)
    return changed


def _text(labels: Sequence[str]) -> npt.NDArray[Any]:
    return np.array(labels, dtype=np.dtypes.StringDType())
