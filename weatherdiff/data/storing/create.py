"""The arrays of a field store, created empty, filled in, and made longer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

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

Files = dict[str, Buffer]

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
    files: Files = {}
    group = zarr.create_group(MemoryStore(files), zarr_format=3)
    seconds = "seconds since 1970-01-01 00:00:00"
    put(group, "time", times, ("time",), grows=True, units=seconds, calendar=calendar,
        standard_name="time")  # fmt: skip
    labels = _text(channels.labels)
    put(group, "channel", labels, ("channel",))
    put(group, "latitude", grid.latitude, ("latitude",), units="degrees_north")
    put(group, "longitude", grid.longitude, ("longitude",), units="degrees_east")
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
    put(moments, "lead", leads, ("lead",), units="seconds")
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
    ]
    if looker is not None:
        quality = group.create_group("quality")
        put(quality, "number", _text(looker.labels), ("number",))
        put(quality, "channel", labels, ("channel",))
        looks = (len(times), len(channels), looker.size)
        arrays.append((LOOKS, shard, looks, ("time", "channel", "number"), "f4"))
    # Last, for where it is, a run that goes on takes all arrays to be.
    seen = (-(-len(times) // shard), *frame)
    arrays.append((SEEN, 1, seen, ("shard", "channel", "latitude", "longitude"), "bool"))
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
    _write(path, files)


def put(
    group: zarr.Group,
    name: str,
    values: npt.NDArray[Any],
    dimensions: tuple[str, ...],
    *,
    grows: bool = False,
    **attributes: str,
) -> None:
    """Write a small array in one chunk, whatever it holds, so that a lost one is found."""
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        dimension_names=dimensions,
        chunks=(TIMES_PER_CHUNK,) if grows else values.shape,
        compressors=LZ4,
        attributes=dict(attributes),
        config={"write_empty_chunks": True},
    )
    array[...] = np.ascontiguousarray(values)


def _write(path: Path, files: Files) -> None:
    """Put what was made in memory, which takes half the time, to its places, in order."""
    for name, content in files.items():
        put_file(path / name, content.to_bytes())


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
    for name in ("valid", "mask", "static", "statistics"):
        if (path / name).exists():  # of a run that was stopped here
            shutil.rmtree(path / name)
    files: Files = {}
    group = zarr.create_group(MemoryStore(files), zarr_format=3)
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
    files["zarr.json"] = files.pop("zarr.json")  # last: it tells that the others are there
    _write(path, files)
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
