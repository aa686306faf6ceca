"""How fast windows of a field store are loaded, beside a memory map and plain xarray."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.loading.order import ExactOrder, PoolOrder
from weatherdiff.data.loading.stream import WindowStream
from weatherdiff.data.store import FieldStore
from weatherdiff.errors import ConfigError, InputError
from weatherdiff.staging import disk_errors

__all__ = ["loading_table", "measure_loading"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]
Run = Callable[[int], Iterator[Float]]

SAMPLE_BYTES = 2**27  # of frames that are copied to a raw file, and that all windows are drawn from
MOST_BYTES = 2**31
TURNS = 5
MODES = ("memmap", "pool", "exact", "xarray")


def measure_loading(
    store: FieldStore, *, frames: int, batch: int = 8, seconds: float = 15.0, threads: int = 2
) -> dict[str, Any]:
    """Load random windows of frames that follow each other, in turns and for a bounded time.

    A sample of frames from the middle of the store is copied to a raw file in the system's
    temporary folder, which is gone afterwards; all read windows of this sample, from the page
    cache: with ``memmap`` they are copied from the raw file, in one thread, which is what one can
    hope for; ``pool`` and ``exact`` are our orders, in physical units; ``xarray`` slices the store
    opened with ``xr.open_zarr``.

    Parameters
    ----------
    store : FieldStore
    frames : int
        Of a window.
    batch : int
        Windows of a batch.
    seconds : float
        Stop after so long, when each has had a turn.
    threads : int
        Of our loader.

    Returns
    -------
    dict
        Flat: for each of the four ``*_windows_per_second`` and ``*_MBps`` (of float32), for all but
        memmap the ratio to memmap as ``pool``, ``exact`` and ``xarray`` (medians over the turns)
        and that of processor time as ``*_cpu``; and what was measured.

    Raises
    ------
    ConfigError
        A number is not positive.
    InputError
        The store has too few frames for a batch of windows, or they are larger than 2 GB.
    StorageError
        A frame is damaged, or there is no room for the sample.
    """
    if min(frames, batch, threads) < 1 or seconds <= 0:
        raise ConfigError("Frames, batch, threads and seconds must be positive.")
    size = store.nbytes // store.shape[0]
    count = min(store.shape[0], max(SAMPLE_BYTES // size, frames + batch - 1))
    if count - frames + 1 < batch or count * size > MOST_BYTES:
        raise InputError(
            f"{store.path} has {store.shape[0]} frames of {size / 1e6:.3g} MB; {batch} windows of "
            f"{frames} frames take {frames + batch - 1}, and at most {MOST_BYTES / 1e9:.3g} GB. "
            "Give a smaller batch."
        )
    first = (store.shape[0] - count) // 2
    with disk_errors(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:
        sample: Float = np.memmap(file, np.float32, "w+", shape=(count, *store.shape[1:]))
        reader = store.reader()
        step = max(1, 2**24 // size)
        for start in range(0, count, step):
            part = sample[start : start + step]
            part[...] = reader.read(np.arange(first + start, first + start + len(part)))
        turns = _take_turns(
            _runs(store, sample, first, frames, batch, threads), count - frames + 1, batch, seconds
        )
        del sample
    window = frames * size / 1e6
    told: dict[str, Any] = {}
    for name in MODES:
        wall = statistics.median(turn[name][0] for turn in turns)
        told[f"{name}_windows_per_second"] = batch / wall
        told[f"{name}_MBps"] = batch * window / wall
    for name in MODES[1:]:
        for key, kind in ((name, 0), (f"{name}_cpu", 1)):
            told[key] = statistics.median(turn["memmap"][kind] / turn[name][kind] for turn in turns)
    array = store.path / "fields"
    stored = sum(file.stat().st_size for file in array.glob("c/**/*") if file.is_file())
    return told | {
        "profile": store.profile.name,
        "frame_MB": size / 1e6,
        "stored_share": stored / store.nbytes,
        "window_frames": frames,
        "batch": batch,
        "threads": threads,
        "processors": os.cpu_count(),
        "sample_frames": count,
        "turns": len(turns),
    }


def loading_table(told: dict[str, Any]) -> str:
    """Lines for people, of what :func:`measure_loading` gives."""
    names = {
        "memmap": "memory map + copy",
        "pool": "pool of blocks",
        "exact": "exact order",
        "xarray": "plain xarray",
    }
    lines = [
        f"{told['batch']} windows of {told['window_frames']} frames a batch, "
        f"{told['frame_MB']:.3g} MB a frame, profile {told['profile']} "
        f"({told['stored_share']:.0%} of float32 on disk), {told['threads']} threads of ours",
        f"{'':18} {'MB/s':>8} {'windows/s':>10} {'of memmap':>10} {'by CPU':>8}",
    ]
    for key, name in names.items():
        ratios = f"{told[key]:10.2f} {told[f'{key}_cpu']:8.2f}" if key in told else ""
        windows = told[f"{key}_windows_per_second"]
        lines.append(f"{name:18} {told[f'{key}_MBps']:8.0f} {windows:10.1f} {ratios}".rstrip())
    return "\n".join(lines)


def _runs(
    store: FieldStore, sample: Float, first: int, frames: int, batch: int, threads: int
) -> dict[str, Run]:
    """Name -> what gives so many batches, another part of the sequence each time."""
    count = len(sample) - frames + 1
    indices = first + np.arange(count)[:, None] + np.arange(frames)
    rng = np.random.default_rng(0)
    ring = np.empty((4, batch, frames, *store.shape[1:]), np.float32)
    opened = xr.open_zarr(store.path, consolidated=False, chunks=None)["fields"].variable

    def memmap(steps: int) -> Iterator[Float]:
        for step in range(steps):
            out = ring[step % len(ring)]
            for window, start in zip(out, rng.integers(count, size=batch).tolist(), strict=True):
                window[...] = sample[start : start + frames]
            yield out

    def plain(steps: int) -> Iterator[Float]:
        for _ in range(steps):
            starts = (first + rng.integers(count, size=batch)).tolist()
            yield np.stack([opened[start : start + frames].to_numpy() for start in starts])

    def ours(stream: WindowStream[Float], aligned: bool, steps: int) -> Iterator[Float]:
        # whole epochs of a pool, so that its filling is counted
        start = 0 if aligned else int(rng.integers(1000))
        yield from stream.steps(start, start + steps)

    size = sample[0].nbytes
    runs: dict[str, Run] = {"memmap": memmap, "xarray": plain}
    for name, order in (
        ("pool", PoolOrder.sized(indices, batch, 0, frame_bytes=size, pool_bytes=2 * SAMPLE_BYTES)),
        ("exact", ExactOrder(count, batch, 0)),
    ):
        stream: WindowStream[Float] = WindowStream(
            store.reader(), store.shape[1:], indices, order, _first_part, threads=threads
        )
        runs[name] = partial(ours, stream, name == "pool")
    return runs


def _first_part(rows: Int, parts: tuple[Float, ...]) -> Float:
    return parts[0]


def _take_turns(
    runs: dict[str, Run], windows: int, batch: int, seconds: float
) -> list[dict[str, tuple[float, float]]]:
    """Wall and processor seconds of a batch, for each contender in each turn."""
    whole = max(1, windows // batch)
    steps = {"pool": whole, "memmap": max(1, whole // 3), "exact": max(1, whole // 3), "xarray": 1}
    turns: list[dict[str, tuple[float, float]]] = []
    begun = time.perf_counter()
    for name in ("memmap", "pool", "exact"):  # memory that is used again, compiled loops
        for _ in runs[name](min(2, steps[name])):
            pass
    while len(turns) < TURNS and (not turns or time.perf_counter() - begun < seconds):
        turns.append({name: _timed(runs[name](steps[name])) for name in MODES})
    return turns


def _timed(batches: Iterator[Float]) -> tuple[float, float]:
    start = time.perf_counter(), time.process_time()
    done = sum(1 for _ in batches)
    wall, processor = time.perf_counter() - start[0], time.process_time() - start[1]
    return wall / done, max(processor, 1e-9) / done
