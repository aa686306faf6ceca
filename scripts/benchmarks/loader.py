"""Random windows from disk: our loader, a memory map, and the libraries beside us.

Everything is relative to copying the same windows, in batches of 8, from a memory map of raw
float32 in the page cache (``memmap + copy``, one thread). Runs take turns; figures are medians of
the ratios of wall time within a turn, with the ratio of processor time beside each (``*_cpu``). A
peer that is not installed, or fails, gives null: never a pass. The fields look like GRIB: smooth,
and of 16 significant bits. ``--quick`` takes fewer times and turns, and fewer rows.

Ours reads what :func:`weatherdiff.prepare` writes in its three profiles (one time a chunk, a CRC
each, shards of 64), in two threads, as it is: checksums are verified, and packed values are
unpacked; ``unprepared`` is a user's own store of one file a chunk, opened as training opens it.
``over_best_peer`` is the smallest of ours over the fastest peer on the same layout; packed, which
no peer reads, over the fastest on any; preparing, over the fastest that writes the same array.

    python scripts/benchmarks/loader.py [--quick] --json results.json
"""

# ruff: noqa: E402

import os
import sys

for _name in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"

import argparse
import gc
import json
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from loader_anemoi import beside_memory_map, make_anemoi
from loader_peers import (
    BATCH,
    OWN,
    OWN_STORE,
    PEERS,
    SLOW,
    memory_map,
    start_workers,
    tensorstore_gather,
    versions,
)
from loader_prepare import Preparers, statistics_speed
from loader_stalls import stalls
from loader_stores import SHARD, UNITS, forget, make_stores

from weatherdiff.data.channels import Channels
from weatherdiff.data.loading.direct import direct_reader
from weatherdiff.data.loading.order import ExactOrder, Order, PoolOrder
from weatherdiff.data.loading.reader import BlockReader, Reader
from weatherdiff.data.loading.stream import WindowStream
from weatherdiff.data.loading.unprepared import SourceReader
from weatherdiff.data.open import open_fields
from weatherdiff.data.sources.source import Source

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]

SMALL = (2000, 12, 64, 128)
QUICK = (768, *SMALL[1:])
LARGE = (400, 69, 121, 240)
FRAMES, THREADS = 4, 2
BOUNDS = {
    "pool_lz4": (">=", 0.60),
    "pool_packed": (">=", 0.60),
    "exact_raw": (">=", 0.60),
    "exact_packed": (">=", 0.45),
    "exact_lz4": (">=", 0.30),
    "unprepared": (">=", 0.20),
    "cold_lz4": (">=", 2.5),
    "stall_percent": ("<=", 2),
    "prepare_MBps": (">=", 250),
    "prepare_rss_GB": ("<=", 0.5),
    "statistics_MBps": (">=", 500),
    "over_best_peer": (">", 1),
    "memory_growth_16x": ("<=", 1.1),
}
#: Our rows of warm reading, and the layout on which peers are compared.
ROWS = {
    "pool_lz4": "lz4",
    "pool_packed": "any",
    "exact_raw": "raw",
    "exact_packed": "any",
    "exact_lz4": "lz4",
    "unprepared": "unprepared",
}
PREPARE_PEERS = ("prepare_xarray_MBps", "prepare_tensorstore_MBps")
WHY_NULL = {
    "over_best_peer": "a peer is absent or failed",
    "anemoi": "anemoi-datasets needs zarr 2, so an environment of its own: --anemoi its python",
}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short small store, fewer runs")
    parser.add_argument("--json", help="file for the results")
    parser.add_argument("--folder", help="where to make the stores; a temporary folder by default")
    parser.add_argument("--anemoi", help="python of an environment that has anemoi-datasets")
    parser.add_argument("--resident", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.resident:
        print(resident(Path(options.resident[0]), int(options.resident[1])))
        return
    results: dict[str, Any] = dict.fromkeys(BOUNDS)
    begun = time.perf_counter()
    gc.freeze()  # what the imports made need not be looked through before each run
    # (of few times, most of the time would go to what does not grow with them)
    shape, turns, whole = ((1280, *SMALL[1:]), 2, 1) if options.quick else (SMALL, 3, 3)
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as name,
        closing(Preparers(Path(name), shape=shape, turns=turns, all_statistics=whole)) as preparers,
        ThreadPoolExecutor(2) as pool,
    ):
        folder = Path(name)
        start_workers()
        written = pool.submit(preparers.make_source)
        make_stores(folder / "small", QUICK if options.quick else SMALL)
        written.result()
        synced = pool.submit(os.sync)  # or the system would write while the disk is measured
        results |= warm(folder / "small", quick=options.quick)
        results |= beside_anemoi(folder / "small", options.anemoi, turns=3 if options.quick else 7)
        synced.result()
        results |= cold(folder / "small", windows=80 if options.quick else 200)
        prepared = preparers.preparing()
        WHY_NULL.update(prepared.pop("why"))
        results |= prepared
        results |= stalls(folder / "prepared.zarr", quick=options.quick)
        results |= statistics_speed(SMALL)
        # neither memory nor order depend on who else is there
        rows = (pool.submit(memory_growth, folder / "small"),
                pool.submit(preparers.growth, 192 if options.quick else 640))  # fmt: skip
        if not options.quick:
            results |= mixing()
        for row in rows:
            results |= row.result()
        results["memory_growth_16x"] = max(
            results["load_memory_growth_16x"], results["prepare_memory_growth_16x"]
        )
        if not options.quick:
            make_stores(folder / "large", LARGE)
            large = warm(folder / "large", quick=False)
            results |= {f"{key}_large": value for key, value in large.items()}
        results |= against_peers(results)
    results["seconds"] = time.perf_counter() - begun
    results["why_null"] = {k: why for k, why in WHY_NULL.items() if results.get(k) is None}
    results["versions"] = versions() | {"anemoi.datasets": results.pop("anemoi_version")}
    results["machine"] = f"{os.cpu_count()} processors, {platform.machine()}, {platform.release()}"
    for key, value in results.items():
        bound = " ".join(map(str, BOUNDS[key])) if key in BOUNDS else ""
        shown = f"{value:.4g}" if isinstance(value, float) else value
        print(f"{key:32} {shown!s:>12} {bound}")
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2) + "\n")


def windows(frames: int) -> Int:
    """Positions of the frames of all windows."""
    return np.arange(frames - FRAMES + 1)[:, None] + np.arange(FRAMES)


def stream(array: Path, order: Order, *, threads: int = THREADS) -> WindowStream[Float]:
    """Our loader on one of the stores; its batches are raw arrays."""
    known = BlockReader(array)
    reader = unprepared_reader(array.parent) if array.parent.name == OWN_STORE else known
    return WindowStream(
        reader, known.shape[1:], windows(known.shape[0]), order, lambda rows, parts: parts[0],
        threads=threads,
    )  # fmt: skip


def unprepared_reader(store: Path) -> Reader:
    """Give what :func:`~weatherdiff.data.loading.unprepared.open_unprepared` reads it with."""
    count = BlockReader(store / "fields").shape[1]
    ds = open_fields(store, units=dict(list(UNITS.items())[:count]))
    source = Source(ds, Channels.from_dataset(ds))
    ordinary = SourceReader(source)
    reader = direct_reader(source, ordinary)
    if reader is ordinary:
        raise RuntimeError(f"{store} is read through xarray")
    return reader


def pool_order(shape: tuple[int, ...], pool_bytes: int = 2**31) -> PoolOrder:
    """Sixteen blocks of 64 windows where two gigabytes allow, as the training has them."""
    indices, size = windows(shape[0]), 4 * int(np.prod(shape[1:]))
    return PoolOrder.sized(indices, BATCH, 0, frame_bytes=size, pool_bytes=pool_bytes)


def warm(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Rates relative to the memory map, everything in the page cache, in turns."""
    shape = BlockReader(folder / "lz4").shape
    count = len(windows(shape[0]))
    exact, pool = ExactOrder(count, BATCH, 0), pool_order(shape)
    many = pool.steps if quick else 2 * pool.steps
    several, few = max(1, many // 4), max(1, many // (40 if quick else 25))
    ours = {
        "pool_lz4": (folder / "lz4", pool, many),
        "pool_packed": (folder / "packed", pool, many),
        "exact_lz4": (folder / "lz4", exact, several),
        "exact_packed": (folder / "packed", exact, several),
        "exact_raw": (folder / "raw", exact, several),
        "unprepared": (folder / OWN, exact, several),
    }
    streams = {name: stream(array, order) for name, (array, order, _) in ours.items()}
    rng = np.random.default_rng(1)
    # one map for all turns
    mapped = np.load(folder.with_suffix(".npy"), mmap_mode="r")

    def run(name: str, turn: int) -> tuple[int, Iterator[Float]]:
        if name == "memmap":
            # a system that takes pages back, or a process that does not know them, is not measured
            mapped.ravel()[:: 4096 // mapped.itemsize].sum()
            return several, memory_map(mapped, rng.integers(count, size=several * BATCH), FRAMES)
        if name in ours:
            # the first turn fills the page cache and takes the memory of a pool
            steps = ours[name][2] if turn else several
            # another part of the epoch each time; whole epochs of a pool, its first fill included
            start = 0 if name.startswith("pool") else int(rng.integers(1000))
            return steps, streams[name].steps(start, start + steps)
        steps = few if name in SLOW else several
        batches = PEERS[name][1](folder, rng.integers(count, size=steps * BATCH), FRAMES)
        if "workers" in name:  # their start is not counted
            next(batches)
            steps -= 1
        return steps, batches

    present = [name for name, (_, peer) in PEERS.items() if peer is not None]
    spent: list[dict[str, tuple[float, float]]] = []
    for turn in range(7 if quick else 8):
        spent.append({})
        for name in ["memmap", *ours, *present]:
            if "workers" in name and turn not in ((1,) if quick else (1, 2)):  # seconds each
                continue
            if quick and name in SLOW and turn != 1:
                continue
            try:
                spent[-1][name] = timed(*run(name, turn))
            except Exception as error:
                if name not in present:
                    raise
                WHY_NULL[name] = repr(error)
                present.remove(name)
    spent = spent[1:]
    results: dict[str, Any] = {
        "memmap_MBps": BATCH * FRAMES * 4e-6 * np.prod(shape[1:])
        / statistics.median(turn["memmap"][0] for turn in spent)
    }  # fmt: skip
    for name in [*ours, *PEERS]:
        for key, kind in ((name, 0), (f"{name}_cpu", 1)):
            ratios = [t["memmap"][kind] / t[name][kind] for t in spent if name in t]
            # processor time of worker processes is not ours to see
            seen = (name in ours or name in present) and not (kind and "workers" in name)
            results[key] = statistics.median(ratios) if seen else None
    return results


def beside_anemoi(folder: Path, python: str | None, *, turns: int) -> dict[str, Any]:
    """Rate of anemoi-datasets on a store in its own layout, in its own environment."""
    told: dict[str, Any] = dict.fromkeys(("anemoi", "anemoi_cpu", "anemoi_version"))
    if python:
        mapped = folder.with_suffix(".npy")
        store = make_anemoi(mapped)
        try:
            told |= beside_memory_map(python, store, mapped, frames=FRAMES, turns=turns)
        except subprocess.CalledProcessError as error:
            WHY_NULL["anemoi"] = error.stderr.strip().splitlines()[-1]
    return told


def against_peers(results: dict[str, Any]) -> dict[str, float | None]:
    """Ours over the fastest peer, row by row, and the smallest of all."""
    rows: dict[str, float] = {}
    if any(results[name] is None for name in (*PEERS, *PREPARE_PEERS)):
        return {"over_best_peer": None}  # the best may be absent
    for size in ("", "_large"):
        for name, layout in ROWS.items():
            if name + size in results:
                rates = [
                    results[peer + size]
                    for peer, (array, _) in PEERS.items()
                    if layout in (array, "any")
                ]
                if layout == "any" and results.get("anemoi") and not size:
                    rates.append(results["anemoi"])
                rows[f"over_best_peer_{name}{size}"] = results[name + size] / max(rates)
    best = max(results[name] for name in PREPARE_PEERS)
    rows["over_best_peer_prepare"] = results["prepare_MBps"] / best
    return rows | {"over_best_peer": min(rows.values())}


def timed(steps: int, batches: Iterator[Float]) -> tuple[float, float]:
    """Give wall and processor seconds for each batch."""
    gc.collect()
    start = time.perf_counter(), time.process_time()
    done = sum(1 for _ in batches)
    spent = time.perf_counter() - start[0], time.process_time() - start[1]
    if done != steps:
        raise RuntimeError(f"{done} batches instead of {steps}")
    return spent[0] / steps, spent[1] / steps


def cold(folder: Path, *, windows: int) -> dict[str, float]:
    """Read windows that no cache holds: ours with eight threads, memory map, tensorstore."""
    shape = BlockReader(folder / "lz4").shape
    # apart from each other, so that none is read ahead of with another
    rng = np.random.default_rng(2)
    apart = np.arange(0, shape[0] - FRAMES, max(FRAMES, (shape[0] - FRAMES) // windows))
    starts = rng.permutation(apart)[: len(apart) // BATCH * BATCH]

    class Given:
        """The same windows for all."""

        def rows(self, step: int) -> Int:
            return starts[step * BATCH : (step + 1) * BATCH]

        def state(self) -> dict[str, Any]:
            return {}

    steps = len(starts) // BATCH
    runs = {
        "memmap": lambda: memory_map(
            np.load(folder.with_suffix(".npy"), mmap_mode="r"), starts, FRAMES
        ),
        "ours": lambda: stream(folder / "lz4", Given(), threads=8).steps(0, steps),
        "tensorstore": (lambda: tensorstore_gather("lz4", folder, starts, FRAMES))
        if PEERS["tensorstore_lz4"][1]
        else None,
    }
    spent: dict[str, list[float]] = {}
    for _ in range(3):
        for name, run in runs.items():
            if run is not None:
                forget(folder / "lz4", folder.with_suffix(".npy"))
                spent.setdefault(name, []).append(timed(steps, run())[0])
    middle = {name: statistics.median(values) for name, values in spent.items()}
    return {
        "cold_lz4": middle["memmap"] / middle["ours"],
        "cold_tensorstore_lz4": middle["memmap"] / middle["tensorstore"]
        if "tensorstore" in middle
        else None,
    }


def memory_growth(folder: Path) -> dict[str, float]:
    """Peak memory of a process that loads 16 times as many times, over that of one.

    The longer store's shards are links to those of the shorter. Both are drawn from pools of a
    quarter of the shorter, so that both have several.
    """
    source, longer = folder / "lz4", folder / "longer"
    document = json.loads((source / "zarr.json").read_text())
    shards = document["shape"][0] // SHARD
    document["shape"][0] = 16 * shards * SHARD
    longer.mkdir()
    (longer / "zarr.json").write_text(json.dumps(document))
    for number in range(16 * shards):
        place = Path("c") / str(number) / "0" / "0" / "0"
        (longer / place).parent.mkdir(parents=True)
        os.link(source / "c" / str(number % shards) / "0" / "0" / "0", longer / place)
    pools = 2 * int(np.prod(BlockReader(source).shape))  # bytes of two
    running = [
        subprocess.Popen(
            [sys.executable, __file__, "--resident", str(path), str(pools)], stdout=subprocess.PIPE
        )
        for path in (source, longer)
    ]
    told = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError("a process that loads has failed")
    one, sixteen = map(float, told)
    return {"load_memory_growth_16x": sixteen / one, "memory_1x_MB": one / 1e3}


def resident(array: Path, pool_bytes: int) -> int:
    """Load a few pools; give the peak of resident memory in kB."""
    order = pool_order(BlockReader(array).shape, pool_bytes)
    first = len(order.pools(0)[0].rows) // BATCH
    for _ in stream(array, order).steps(0, 4 * first):
        pass
    # Not ru_maxrss, which a process inherits from the one that started it.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def mixing() -> dict[str, float]:
    """How far the batches of a pool order are from those of a full permutation.

    A signal with the memory of weather, six-hourly red noise with an e-folding time of five days,
    is averaged over each batch. ``pool_variance_inflation`` is the variance of these averages
    relative to that of a full permutation's (1: as good), ``pool_pair_correlation`` the mean
    correlation of two windows of a batch, ``(inflation - 1) / (batch - 1)``; for 16 blocks of 58
    windows, batches of 32, and records of 16 and 160 pools.
    """
    results = {}
    batch, block, blocks = 32, 58, 16
    for name, count in (("", 16 * block * blocks), ("_long", 160 * block * blocks)):
        rng, memory = np.random.default_rng(3), float(np.exp(-0.25 / 5))
        signal = rng.normal(size=count)
        for time_ in range(1, count):
            signal[time_] = memory * signal[time_ - 1] + np.sqrt(1 - memory**2) * signal[time_]
        variances = []
        for order in (
            PoolOrder(count, batch, 0, block=block, blocks=blocks),
            ExactOrder(count, batch, 0),
        ):
            steps = 4 * (count // batch)
            variances.append(np.var([signal[order.rows(s)].mean() for s in range(steps)]))
        inflation = float(variances[0] / variances[1])
        results[f"pool_variance_inflation{name}"] = inflation
        results[f"pool_pair_correlation{name}"] = (inflation - 1) / (batch - 1)
    return results


if __name__ == "__main__":
    main()
