"""The rows of ``loader.py`` that are about preparing: its speed and memory, and statistics.

Whoever prepares has a process of its own, so that its memory can be told; it opens the source and
prepares when it is told to, after its imports. The source has 12 variables, each an uncompressed
array of a Zarr store.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from loader_stores import SHARD, frames_like_grib

__all__ = ["Preparers", "statistics_speed"]

Clock = tuple[float, float]
#: Prepares all, or the fields alone, and may tell when these were written.
Prepare = Callable[[str], Clock | None]

DIMS = ("time", "latitude", "longitude")
START = np.datetime64("2015-01-01", "ns")
PEERS = ("xarray", "tensorstore")


def make_source(path: Path, shape: tuple[int, ...]) -> None:
    """Write 12 variables of a few distinct frames, block by block."""
    frames = frames_like_grib((SHARD, *shape[1:]))
    height, width = shape[2:]
    latitude = np.linspace(-90, 90, height, endpoint=False) + 90 / height
    longitude = np.arange(width) * 360 / width
    for start in range(0, shape[0], 16 * SHARD):
        count = min(16 * SHARD, shape[0] - start)
        block = np.resize(frames, (count, *shape[1:]))
        time_ = START + np.arange(start, start + count) * np.timedelta64(6, "h")
        ds = xr.Dataset(
            {
                f"channel_{c:02d}": (DIMS, block[:, c], {"units": "m"})
                for c in range(shape[1])
            },
            {"time": time_, "latitude": latitude, "longitude": longitude},
        )  # fmt: skip
        ds["latitude"].attrs["units"], ds["longitude"].attrs["units"] = (
            "degrees_north",
            "degrees_east",
        )
        if start:
            ds.to_zarr(path, append_dim="time", consolidated=False)
        else:
            encoding = {
                name: {"chunks": (SHARD, height, width), "compressors": None, "filters": None}
                for name in ds.data_vars
            } | {"time": {"units": "hours since 2015-01-01", "dtype": "int64"}}
            ds.to_zarr(path, encoding=encoding, consolidated=False, zarr_format=3)


class Preparers:
    """All processes that prepare, which import what they need while other things are done.

    Parameters
    ----------
    folder : Path
    shape : tuple of int
        Of the source.
    turns : int
    all_statistics : int
        Turns in which statistics are made, too.
    """

    def __init__(
        self, folder: Path, *, shape: tuple[int, ...], turns: int, all_statistics: int
    ) -> None:
        self.folder, self.shape, self.all_statistics = folder, shape, all_statistics
        self.turns = turns
        self.ours, self.peers = _Preparer(), _Preparer()
        self.pair = [_Preparer() for _ in range(2)]

    def make_source(self) -> None:
        """Write what will be prepared."""
        make_source(self.folder / "source.zarr", self.shape)

    def close(self) -> None:
        """End what runs still."""
        for preparer in (self.ours, self.peers, *self.pair):
            preparer.end()

    def preparing(self) -> dict[str, Any]:
        """MB/s of fields that become one sharded array, ours beside the peers, and our peak memory.

        Ours includes the moments of all frames, which the peers do not compute; with all statistics
        it is ``prepare_with_statistics_MBps``. The store is left as ``prepared.zarr``.
        """
        rates: dict[str, list[float]] = {}
        peaks, why = [], {}
        for preparer in (self.ours, self.peers):
            preparer.open(self.folder / "source.zarr", self.folder / "target")
        os.sync()  # what was written before is not written meanwhile
        for turn in range(1, self.turns + 1):
            for name in ("ours", *PEERS):
                if name == "xarray" and turn > 1:  # seconds each
                    continue
                whole = name == "ours" and turn > self.turns - self.all_statistics
                preparer = self.ours if name == "ours" else self.peers
                try:
                    told = preparer.prepare(name, "all" if whole else "fields")
                except RuntimeError as error:
                    if name == "ours":
                        raise
                    why[f"prepare_{name}_MBps"] = str(error)
                    continue
                size = told["times"] * 4e-6 * np.prod(self.shape[1:])
                rates.setdefault(f"prepare_{name}_MBps", []).append(size / told["fields"])
                rates.setdefault(f"prepare_{name}_MB_per_cpu_second", []).append(
                    size / told["fields_cpu"]
                )
                if name == "ours":
                    peaks.append(told["peak"])
                if whole:
                    rates.setdefault("prepare_with_statistics_MBps", []).append(size / told["all"])
                    shutil.rmtree(self.folder / "prepared.zarr", ignore_errors=True)
                    (self.folder / "target").rename(self.folder / "prepared.zarr")
        results: dict[str, Any] = {name: statistics.median(found) for name, found in rates.items()}
        for kind in ("MBps", "MB_per_cpu_second"):
            results[f"prepare_{kind}"] = results.pop(f"prepare_ours_{kind}")
        results["prepare_rss_GB"] = max(peaks)
        for name in PEERS:
            results.setdefault(f"prepare_{name}_MBps", None)
        results["why"] = why
        return results

    def growth(self, frames: int) -> dict[str, float]:
        """Peak memory of preparing 16 times as many times, over that of one.

        On a small grid and in shards of 4 MB, so that the shorter record has many shards too: two
        tasks at once take what they take, however long it is.
        """
        one, longer = sixteen_times(self.folder, (frames, 12, 24, 48))
        for preparer, path in zip(self.pair, (one, longer), strict=True):
            preparer.open(path, path.with_suffix(".target"))
        with ThreadPoolExecutor(2) as pool:  # what one takes does not depend on the other
            told = pool.map(lambda preparer: preparer.prepare("small", "all"), self.pair)
            peaks = [one["peak"] for one in told]
        return {"prepare_memory_growth_16x": peaks[1] / peaks[0], "prepare_memory_1x_GB": peaks[0]}


def sixteen_times(folder: Path, shape: tuple[int, ...]) -> tuple[Path, Path]:
    """Write a record, and one of 16 links to each of its files."""
    times = 16
    one, longer = folder / "one.zarr", folder / "sixteen.zarr"
    make_source(one, shape)
    shutil.copytree(one, longer)
    count = shape[0] // SHARD
    for array in longer.iterdir():
        if not (array / "zarr.json").exists() or array.name in DIMS:
            continue
        document = json.loads((array / "zarr.json").read_text())
        document["shape"][0] *= times
        (array / "zarr.json").write_text(json.dumps(document))
        for number in range(count, count * times):
            chunk = array / "c" / str(number) / "0" / "0"
            chunk.parent.mkdir(parents=True)
            chunk.hardlink_to(array / "c" / str(number % count) / "0" / "0")
    shutil.rmtree(longer / "time")
    hours = {"units": "hours since 2015-01-01", "dtype": "int64"}
    time_ = START + np.arange(times * shape[0]) * np.timedelta64(6, "h")
    xr.Dataset(coords={"time": time_}).to_zarr(
        longer, mode="a", encoding={"time": hours}, consolidated=False
    )
    return one, longer


def statistics_speed(shape: tuple[int, ...]) -> dict[str, Any]:
    """MB of fields a second of one processor, where the moments are those of exact arithmetic."""
    from weatherdiff.data.storing.moments import Moments, frame_moments

    frames = frames_like_grib((SHARD, *shape[1:]))
    frame_moments(frames[:2])
    spent = []
    for _ in range(5):
        start = time.process_time()
        table = frame_moments(frames)
        spent.append(time.process_time() - start)
    found = Moments.merge(table)
    exact = frames.astype(np.longdouble)
    mean = exact.mean(axis=(0, 2, 3))
    std = np.sqrt(((exact - mean[:, None, None]) ** 2).mean(axis=(0, 2, 3)))
    error = max(
        float(np.abs(found.mean / mean - 1).max()), float(np.abs(found.std / std - 1).max())
    )
    rate = frames.nbytes / 1e6 / statistics.median(spent)
    return {"statistics_MBps": rate if error < 1e-12 else None, "statistics_error": error}


class _Preparer:
    """A process that imports what it needs, opens a source, and prepares when it is told to."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def open(self, source: Path, target: Path) -> None:
        """Say what to prepare, and wait until its imports are done."""
        self.target = target
        self._tell(str(source), str(target))
        self.process.stdout.readline()  # type: ignore[union-attr]

    def prepare(self, name: str, what: str) -> dict[str, float]:
        """Have it prepare somehow, perhaps the fields alone; give what it has measured."""
        for path in (self.target, self.target.with_name(f".{self.target.name}.prepared.working")):
            shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            self._tell(f"{name} {what}")
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        told = json.loads(line or '{"error": "it said nothing"}')
        if "error" in told:
            raise RuntimeError(told["error"])
        return told

    def _tell(self, *lines: str) -> None:
        print(*lines, sep="\n", file=self.process.stdin, flush=True)

    def end(self) -> None:
        """End the process, which has nothing to lose."""
        self.process.kill()
        self.process.communicate()


def _ours(source: Path, target: Path) -> tuple[int, Prepare]:
    import weatherdiff.data.storing.compiled_sums  # noqa: F401  (prepare does on its first frames)
    from weatherdiff.data.open import open_fields
    from weatherdiff.data.prepare import prepare

    ds = open_fields(source)
    start, stop = ("2015-01-01", str(ds["time"].values[len(ds["time"]) // 2])[:10])

    def run(what: str) -> Clock | None:
        written = None

        def told(done: int, total: int) -> None:
            nonlocal written
            if done == total:
                written = clock()
                if what == "fields":
                    raise _WrittenError

        with suppress(_WrittenError):
            prepare(
                ds, target, training_period=(start, stop), step="6h", frames=3,
                scheduler="threads", progress=told,
            )  # fmt: skip
        return written

    return len(ds["time"]), run


class _WrittenError(Exception):
    """Fields are written, and no more is wanted."""


def _small(source: Path, target: Path) -> tuple[int, Prepare]:
    from weatherdiff.data import prepare

    prepare.BLOCK_BYTES = 2**22
    return _ours(source, target)


def _xarray(source: Path, target: Path) -> tuple[int, Prepare]:
    """``to_zarr`` of the stacked variables with chunks that are whole shards."""
    ds = xr.open_zarr(source, consolidated=False, chunks={"time": SHARD})
    ds = ds.isel(time=slice(8 * SHARD))  # more would be no faster

    def run(what: str) -> None:
        stacked = ds.to_dataarray("channel").transpose("time", "channel", ...)
        stacked = stacked.chunk(channel=-1).drop_vars("channel")
        frame = stacked.shape[1:]
        encoding = {"chunks": (1, *frame), "shards": (SHARD, *frame), "compressors": _codecs()}
        stacked.to_dataset(name="fields").to_zarr(
            target, encoding={"fields": encoding}, consolidated=False, zarr_format=3
        )

    return len(ds["time"]), run


def _tensorstore(source: Path, target: Path) -> tuple[int, Prepare]:
    """Shards, one after the other, which tensorstore compresses and writes in its own threads."""
    import tensorstore

    ds = xr.open_zarr(source, consolidated=False, chunks=None)
    frame = (len(ds.data_vars), ds.sizes["latitude"], ds.sizes["longitude"])
    shape = (ds.sizes["time"], *frame)
    inner = [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "blosc", "configuration": {"cname": "lz4", "clevel": 5, "shuffle": "shuffle",
         "typesize": 4, "blocksize": 0}},
        {"name": "crc32c"},
    ]  # fmt: skip

    def run(what: str) -> None:
        array = tensorstore.open(
            {
                "driver": "zarr3",
                "kvstore": {"driver": "file", "path": str(target)},
                "metadata": {
                    "shape": shape,
                    "data_type": "float32",
                    "chunk_grid": {
                        "name": "regular",
                        "configuration": {"chunk_shape": [SHARD, *frame]},
                    },
                    "codecs": [
                        {
                            "name": "sharding_indexed",
                            "configuration": {"chunk_shape": [1, *frame], "codecs": inner},
                        }
                    ],
                },
            },
            create=True,
        ).result()
        writing: list[Any] = []
        for start in range(0, shape[0], SHARD):
            part = ds.isel(time=slice(start, start + SHARD))
            block: npt.NDArray[np.float32] = np.stack(
                [part[name].to_numpy() for name in ds.data_vars], axis=1
            )
            writing.append(array[start : start + len(block)].write(block))
            if len(writing) > 1:
                writing.pop(0).result()
        for one in writing:
            one.result()

    return shape[0], run


def _codecs() -> Any:
    from weatherdiff.data.storing.profiles import LZ4

    return LZ4


def _measure() -> None:
    """Prepare each time that a line comes, and tell what it took."""
    import dask.distributed  # noqa: F401  (dask does on its first computation)

    import weatherdiff.data.prepare  # noqa: F401  (while nobody waits)

    source, target = (Path(sys.stdin.readline().strip()) for _ in range(2))
    print("ready", flush=True)
    runs: dict[str, tuple[int, Prepare]] = {}
    for line in sys.stdin:
        name, what = line.split()
        try:
            times, run = runs[name] = runs.get(name) or PREPARE[name](source, target)
            start = clock()
            written = run(what)
            stop = clock()
        except Exception as error:
            print(json.dumps({"error": repr(error)}), flush=True)
            continue
        written = written or stop
        # Not ru_maxrss, which a process inherits from the one that started it.
        status = Path("/proc/self/status").read_text()
        told = {
            "times": times,
            "fields": written[0] - start[0],
            "fields_cpu": written[1] - start[1],
            "all": stop[0] - start[0],
            "peak": int(status.split("VmHWM:")[1].split()[0]) / 1e6,
        }
        print(json.dumps(told), flush=True)


def clock() -> Clock:
    """Wall time and processor time, seconds."""
    return time.perf_counter(), time.process_time()


PREPARE = {"ours": _ours, "small": _small, "xarray": _xarray, "tensorstore": _tensorstore}

if __name__ == "__main__":
    _measure()
