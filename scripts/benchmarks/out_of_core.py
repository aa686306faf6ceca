"""Evaluation of stored forecasts: time over reading alone, growth of memory, time to plan.

`scores.py` runs this and merges the result; it can be run alone.

    python scripts/benchmarks/out_of_core.py [--quick] --json results.json
"""

# ruff: noqa: E402

import argparse
import json
import os
import shutil
import statistics as stat
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# This folder has a scores.py, which must not be taken for the library of that name.
sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]

import numpy as np
import xarray as xr
import zarr

from weatherdiff.evaluation import ClimatologyEnsemble, Persistence, Settings, statistics
from weatherdiff.evaluation.matching import Match, match

THREADS = 2
STEP = np.timedelta64(6, "h")
START = np.datetime64("2020-03-01", "ns")
LARGER = {"inits": (16, 1, 1), "leads": (1, 16, 1), "members": (1, 1, 16)}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less data")
    parser.add_argument("--json", help="file for the results")
    parser.add_argument("--resident", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.resident:
        print(resident(Path(options.resident)))
        return
    with tempfile.TemporaryDirectory() as folder:
        results = {
            **over_decode(Path(folder), quick=options.quick),
            **memory_growth(Path(folder), quick=options.quick),
            "plan_seconds": plan_seconds(),
        }
    for name, value in results.items():
        print(f"{name:40} {value:.4g}")
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2) + "\n")


def make_store(folder: Path, inits: int, leads: int, members: int, grid: tuple[int, int]) -> None:
    """Write forecasts as weatherdiff does (chunks of 8 leads and 10 members), and analyses."""
    from weatherdiff.data.store import CODECS  # imports torch, which is not to be measured

    latitude = np.linspace(-87, 87, grid[0])
    longitude = np.arange(grid[1]) * (360 / grid[1])
    cells = {"latitude": latitude, "longitude": longitude}
    rng = np.random.default_rng(1)
    dims = ("init_time", "lead_time", "number", "latitude", "longitude")
    waves = 20 * np.cos(np.deg2rad(latitude))[:, None] + 5 * np.sin(np.deg2rad(3 * longitude))
    template = xr.Dataset(
        {"t": (dims, np.broadcast_to(np.float32(0), (inits, leads, members, *grid)))},
        {
            "init_time": START + STEP * np.arange(inits),
            "lead_time": (STEP * np.arange(1, leads + 1)).astype("timedelta64[ns]"),
            "number": np.arange(members),
            **cells,
        },
    ).chunk({"init_time": 1, "lead_time": 8, "number": 10})
    template["t"].attrs["units"] = "K"
    chunks = (1, min(8, leads), min(10, members), *grid)
    encoding = {"t": {"chunks": chunks, "compressors": CODECS}}
    path = folder / "forecasts.zarr"
    template.to_zarr(path, compute=False, encoding=encoding, consolidated=False, zarr_format=3)
    array = zarr.open_group(path, mode="r+")["t"]
    noise = 2 * rng.standard_normal((1, leads, members, *grid), dtype=np.float32)
    for i in range(inits):  # the same noise shifted, which takes less time to make than to write
        array[i : i + 1] = (280 + waves + np.roll(noise, i, axis=-1)).astype(np.float32)
    times = inits + leads + 1
    truth = (280 + waves + 2 * rng.standard_normal((times, *grid))).astype(np.float32)
    xr.Dataset(
        {"t": (("time", "latitude", "longitude"), truth, {"units": "K"})},
        {"time": START + STEP * np.arange(times), **cells},
    ).to_zarr(folder / "analyses.zarr", consolidated=False, zarr_format=3)


def open_both(folder: Path) -> tuple[xr.Dataset, xr.Dataset]:
    """Open forecasts and analyses lazily."""
    return tuple(  # type: ignore[return-value]
        xr.open_zarr(folder / f"{name}.zarr", consolidated=False, chunks={}, decode_timedelta=True)
        for name in ("forecasts", "analyses")
    )


def over_decode(folder: Path, *, quick: bool) -> dict[str, float]:
    """Compare evaluating with reading and decoding the same blocks, in turns, processor time."""
    folder = folder / "decode"
    make_store(folder, 24 if quick else 40, 8, 50, (64, 128))  # 315 MB, 524 MB
    forecasts, analyses = open_both(folder)

    def read(block: Match) -> float:
        """Read what is read to be scored."""
        total = 0.0
        for channel in block.units:
            block.load_observation(channel)
            for leads, rows in block.tiles():
                total += block.load_forecast(channel, leads, rows)[..., 0, 0].sum()
        return total

    def reading() -> None:
        matched = match(forecasts, analyses, {}, Settings())
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(read, [matched.select(block) for block in matched.blocks()]))

    def scoring() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            statistics(forecasts, analyses, executor=pool)

    runs = {"reading": reading, "scoring": scoring}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(4 if quick else 6):
        for name, run in runs.items():
            start = time.perf_counter(), time.process_time()
            run()
            if turn:  # the first compiles, and fills the caches
                spent = time.perf_counter() - start[0], time.process_time() - start[1]
                seconds[name].append(spent)
    wall, processor = (
        {name: stat.median(spent[kind] for spent in both) for name, both in seconds.items()}
        for kind in (0, 1)
    )
    return {
        "out_of_core_over_decode": processor["scoring"] / processor["reading"],
        "out_of_core_over_decode_wall": wall["scoring"] / wall["reading"],
        "out_of_core_decode_seconds": processor["reading"],
    }


def memory_growth(folder: Path, *, quick: bool) -> dict[str, float]:
    """Peak resident memory of a process that evaluates 16 times as much, over that of one."""
    base = (8 if quick else 28, 8, 16)  # two blocks, or four
    grid = (48, 96)
    peaks = {}
    for name, factor in {"1x": (1, 1, 1), **LARGER}.items():
        store = folder / name
        make_store(store, *(n * k for n, k in zip(base, factor, strict=True)), grid)
        command = [sys.executable, __file__, "--resident", str(store)]
        if not peaks:  # compiles, which takes memory of its own
            subprocess.run(command, check=True, capture_output=True)
        peaks[name] = float(subprocess.run(command, check=True, capture_output=True).stdout)
        shutil.rmtree(store)
    growth = {f"memory_growth_16x_{name}": peaks[name] / peaks["1x"] for name in LARGER}
    return {
        "memory_growth_16x": max(growth.values()),
        **growth,
        "memory_1x_MB": peaks["1x"] / 1e3,
    }


def resident(folder: Path) -> int:
    """Evaluate a store; give the peak of resident memory in kB."""
    forecasts, analyses = open_both(folder)
    statistics(forecasts, analyses, reference={"persistence": Persistence(analyses)})
    # Not ru_maxrss, which a process inherits from the one that started it.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def plan_seconds() -> float:
    """Plan 730 initial times by 40 lead times with two references."""
    import dask.array

    grid = {"latitude": np.linspace(-87, 87, 60), "longitude": np.arange(0.0, 360, 3)}
    dims = ("init_time", "lead_time", "number", "latitude", "longitude")
    shape = (730, 40, 50, 60, 120)
    forecasts = xr.Dataset(
        {"t": (dims, dask.array.zeros(shape, np.float32, chunks=(1, 8, 10, 60, 120)))},
        {
            "init_time": np.datetime64("2020-01-01", "ns") + 2 * STEP * np.arange(730),
            "lead_time": (STEP * np.arange(1, 41)).astype("timedelta64[ns]"),
            **grid,
        },
    )
    time_axis = np.datetime64("2017-01-01", "ns") + STEP * np.arange(4 * 365 * 5)
    zeros = dask.array.zeros((time_axis.size, 60, 120), np.float32, chunks=(100, 60, 120))
    analyses = xr.Dataset({"t": (("time", *dims[3:]), zeros)}, {"time": time_axis, **grid})
    references = {
        "climatology": ClimatologyEnsemble(analyses, period=("2017-01-01", "2019-12-31")),
        "persistence": Persistence(analyses),
    }
    start = time.perf_counter()
    matched = match(forecasts, analyses, references, Settings())
    blocks, tiles = matched.blocks(), matched.tiles()
    seconds = time.perf_counter() - start
    print(f"{len(blocks)} blocks of {len(tiles)} tiles")
    return seconds


if __name__ == "__main__":
    main()
