"""anemoi-datasets for ``loader.py``: in an environment of its own, since it needs zarr 2.

    python -m venv anemoi && anemoi/bin/pip install anemoi-datasets
    python scripts/benchmarks/loader.py --anemoi anemoi/bin/python --json results.json

This file is run by both: ours writes a store of that layout, theirs reads windows of it, and copies
windows of the memory map in turns with that, so that the ratio is of one process.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from loader_peers import BATCH, Float, Int, memory_map

__all__ = ["beside_memory_map", "make_anemoi"]

BATCHES = 20  # of a turn


def make_anemoi(mapped: Path) -> Path:
    """Write what a memory map holds as anemoi-datasets does: one array, a time a chunk, Zarr 2."""
    import numcodecs
    import zarr

    fields = np.load(mapped, mmap_mode="r")
    times, channels, height, width = fields.shape
    path = mapped.with_name("anemoi.zarr")
    group = zarr.create_group(path, zarr_format=2)
    names = ("time", "variable", "ensemble", "cell")
    frame = (channels, 1, height * width)
    data = group.create_array(
        "data", shape=(times, *frame), chunks=(1, *frame), dtype="float32",
        compressors=numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE),
        attributes={"_ARRAY_DIMENSIONS": names},
    )  # fmt: skip
    for start in range(0, times, 64):
        block = np.asarray(fields[start : start + 64])
        data[start : start + 64] = block.reshape(len(block), *frame)
    latitude, longitude = np.meshgrid(
        np.linspace(-90, 90, height), np.arange(width) * 360 / width, indexing="ij"
    )
    dates = np.datetime64("2015-01-01", "s") + np.arange(times) * np.timedelta64(6, "h")
    one = np.ones(channels)
    for name, values in {
        "latitudes": latitude.ravel(), "longitudes": longitude.ravel(), "dates": dates,
        "mean": one, "stdev": one, "minimum": one, "maximum": one,
    }.items():  # fmt: skip
        group.create_array(name, data=values)
    group.attrs.update(
        variables=[f"channel_{c:02d}" for c in range(channels)],
        variables_metadata={},
        field_shape=[height, width],
        flatten_grid=True,
        ensemble_dimension=2,
        resolution="none",
        frequency="6h",
        missing_dates=[],
        start_date=str(dates[0]),
        end_date=str(dates[-1]),
        version="0.30",
    )
    return path


def beside_memory_map(
    python: str, store: Path, mapped: Path, *, frames: int, turns: int
) -> dict[str, Any]:
    """Give what a process of that environment measures: see :func:`main`."""
    command = [python, __file__, str(store), str(mapped), str(frames), str(turns)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _windows(store: Any, starts: Int, frames: int) -> Iterator[Float]:
    """Slices of the data set, as its own loaders take them."""
    for batch in starts.reshape(-1, BATCH):
        yield np.stack([store[start : start + frames] for start in batch.tolist()])


def main(path: str, mapped: str, frames: int, turns: int) -> None:
    """Print the ratio of the rates, median of the turns after the first."""
    from anemoi.datasets import open_dataset

    store, fields = open_dataset(path), np.load(mapped, mmap_mode="r")
    fields.ravel()[:: 4096 // fields.itemsize].sum()  # as for the other peers
    rng = np.random.default_rng(4)
    ratios: list[tuple[float, float]] = []
    for _ in range(turns + 1):
        spent = []
        for read in (
            lambda starts: memory_map(fields, starts, frames),
            lambda starts: _windows(store, starts, frames),
        ):
            starts = rng.integers(len(fields) - frames + 1, size=BATCHES * BATCH)
            begun = time.perf_counter(), time.process_time()
            for _ in read(starts):
                pass
            spent.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
        ratios.append((spent[0][0] / spent[1][0], spent[0][1] / spent[1][1]))
    wall, cpu = (statistics.median(values) for values in zip(*ratios[1:], strict=True))
    version = metadata.version("anemoi-datasets")
    print(json.dumps({"anemoi": wall, "anemoi_cpu": cpu, "anemoi_version": version}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
