"""The rows of ``loader.py`` that are about training that waits for data."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from weatherdiff.data.loader import WindowDataset
from weatherdiff.data.loading.order import ExactOrder, Order, PoolOrder
from weatherdiff.data.store import FieldStore
from weatherdiff.data.windows import Period, WindowSpec, find_windows

__all__ = ["stalls"]

FRAMES, BATCH, THREADS = 4, 8, 2
STEP_SECONDS = 0.02
PARTS = 3


def stalls(path: Path, *, quick: bool) -> dict[str, float]:
    """Share of the time for which a step of 20 ms waits for its batch.

    Batches are those of training: normalised, with forcings and weights, from a prepared store that
    is not kept in memory. The program sleeps while a device is at its step. That means little where
    others use the processors, who slow the loader and not the sleep; so beside it, as
    ``stall_percent_computing``, the step is 20 ms of the time of the thread's own processor, in
    products of matrices, which a crowd slows as it does the loader. The start is not counted: the
    first batch, for which a pool is filled, is told as ``first_batch_seconds``. A share is the
    median of three parts of 150 steps, in each of which a pool is used up (``quick``: of 50, and
    without the other two rows).
    """
    store = FieldStore.open(path)
    spec = WindowSpec(history=1, frames=FRAMES - 1, step=6 * 3600)
    period = Period(int(store.times[0]), int(store.times[-1]))
    found = find_windows(store.times, store.valid, spec, period)
    data = WindowDataset(store, found, spec, ("toa_solar_radiation",), cache_bytes=0)
    size = store.nbytes // store.shape[0]
    pool = PoolOrder.sized(found.indices, BATCH, 0, frame_bytes=size, pool_bytes=2**31)
    exact = ExactOrder(len(found), BATCH, 0)
    steps, results = 50 if quick else 150, {}
    rows: list[tuple[str, Order, Callable[[], None]]] = [("", pool, _sleep)]
    if not quick:
        rows += [("_computing", pool, _compute()), ("_exact", exact, _sleep)]
    for name, order, step in rows:
        batches = data.stream(order, threads=THREADS).steps(0, PARTS * steps + 1)
        start = time.perf_counter()
        batch = next(batches)
        first = time.perf_counter() - start
        shares, cpu = [], time.process_time()
        for _ in range(PARTS):
            waited, start = 0.0, time.perf_counter()
            for _ in range(steps):
                step()
                asked = time.perf_counter()
                batch = next(batches)  # held during the step, as in training
                waited += time.perf_counter() - asked
            shares.append(100 * waited / (time.perf_counter() - start))
        results[f"stall_percent{name}"] = statistics.median(shares)
        if step is _sleep:
            results[f"first_batch{name}_seconds"] = first
            spent = time.process_time() - cpu
            results[f"batch{name}_cpu_ms"] = 1e3 * spent / (PARTS * steps)
        del batch
        batches.close()
    return results


def _sleep() -> None:
    time.sleep(STEP_SECONDS)


def _compute() -> Callable[[], None]:
    one = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    out = np.empty_like(one)

    def step() -> None:
        stop = time.thread_time() + STEP_SECONDS
        while time.thread_time() < stop:
            np.matmul(one, one, out=out)

    return step
