"""What the shuffle of pools costs beside a full permutation: correlated batches, validation loss.

On the sample that comes with the package, 35 days of training, six-hourly windows from each hour,
as if only a part of them fitted into memory. The orders are those of
:mod:`weatherdiff.data.loading.order`:

* ``exact``: a full permutation;
* ``pool_half``, ``pool_eighth``: 16 blocks in a pool, so that it holds a half, an eighth of the
  epoch;
* ``pool_eighth_fine``: the same share, of 48 blocks;
* ``one_block``: pools of one block, an eighth of the epoch, mixed within itself alone: the worst.

``inflation`` is the variance of the batches' mean state relative to that of a full permutation, the
mean over channels (1: as good); ``pair_correlation`` the correlation of two windows of a batch that
this is, ``(inflation - 1) / (batch - 1)``. ``validation_loss`` is the flow matching loss of all
validation windows, of the averaged weights as in a training, always with the same noise, after the
same number of steps of a small network from the same weights with the same noise in training: the
order is all that differs between the runs of a seed. ``difference_percent`` are its differences
from ``exact``, seed by seed.

    OMP_NUM_THREADS=1 python scripts/benchmarks/shuffling.py [--steps 400] --json FILE
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from weatherdiff import open_fields, prepare
from weatherdiff.data.loader import Batch, WindowDataset
from weatherdiff.data.loading.order import ExactOrder, Order, PoolOrder
from weatherdiff.data.store import FieldStore
from weatherdiff.data.windows import Period, WindowSpec, find_windows
from weatherdiff.flow import Objective, keyed_generator
from weatherdiff.models import VideoDenoiser
from weatherdiff.training.module import Optimization, condition_of

TRAINING, VALIDATION = ("2018-06-01", "2018-07-05"), ("2018-07-08", "2018-07-14")
SPEC = WindowSpec(history=2, frames=2, step=6 * 3600)
BATCH, SEEDS = 16, (0, 1, 2)
DECAY = 0.99
SIZE = {"width": 16, "blocks": 1, "levels": 2}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400, help="of training (default: %(default)s)")
    parser.add_argument("--json", help="file for the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ds = open_fields("sample:uk-2018", variables=["2m_temperature", "surface_pressure"])
    results: dict[str, Any] = {"steps": options.steps, "batch": BATCH}
    with tempfile.TemporaryDirectory() as name:
        store = prepare(
            ds, Path(name) / "fields.zarr", training_period=TRAINING, step="6h", frames=SPEC.frames
        )
        training, validation = windows_of(store, TRAINING), windows_of(store, VALIDATION)
        results["windows"] = len(training)
        means, many = batch_means(training), 40 * len(training) // BATCH
        losses: dict[str, list[float]] = {}
        for kind in orders(len(training), 0):
            variances = [
                spread(means, orders(len(training), seed)[kind], steps=many)
                / spread(means, orders(len(training), seed)["exact"], steps=many)
                for seed in SEEDS
            ]
            inflation = float(np.mean(variances))
            results[f"{kind}_inflation"] = inflation
            results[f"{kind}_pair_correlation"] = (inflation - 1) / (BATCH - 1)
        start = time.process_time()
        for seed in SEEDS:
            for kind, order in orders(len(training), seed).items():
                network = train(training, order, seed, options.steps)
                losses.setdefault(kind, []).append(validation_loss(network, validation))
                print(f"{time.process_time() - start:6.0f} s  {kind} seed {seed}", flush=True)
    exact = np.array(losses["exact"])
    for kind, values in losses.items():
        results[f"{kind}_validation_loss"] = values
        results[f"{kind}_difference_percent"] = (100 * (np.array(values) / exact - 1)).tolist()
    for key, value in results.items():
        print(f"{key:32} {value}")
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2) + "\n")


def orders(windows: int, seed: int) -> dict[str, Order]:
    """Give the orders that are compared."""
    return {
        "exact": ExactOrder(windows, BATCH, seed),
        "pool_half": PoolOrder(windows, BATCH, seed, block=windows // 32, blocks=16),
        "pool_eighth": PoolOrder(windows, BATCH, seed, block=windows // 128, blocks=16),
        "pool_eighth_fine": PoolOrder(windows, BATCH, seed, block=windows // 384, blocks=48),
        "one_block": PoolOrder(windows, BATCH, seed, block=windows // 8, blocks=1),
    }


def windows_of(store: FieldStore, period: tuple[str, str]) -> WindowDataset:
    """Windows of a period."""
    found = find_windows(store.times, store.valid, SPEC, Period.parse(*period))
    return WindowDataset(store, found, SPEC, ("time_of_day", "toa_solar_radiation"))


def batch_means(windows: WindowDataset) -> npt.NDArray[np.float64]:
    """Mean anomaly of each window's last frame of the history; (window, channel)."""
    rows = range(0, len(windows), 256)
    batches = [windows.__getitems__(list(range(r, min(r + 256, len(windows))))) for r in rows]
    return np.concatenate([b.history[:, -1].mean(dim=(2, 3)).numpy() for b in batches])


def spread(means: npt.NDArray[np.float64], order: Order, *, steps: int) -> float:
    """Variance of the means of batches, relative to that of the windows, over the channels."""
    batches = np.stack([means[order.rows(step)].mean(axis=0) for step in range(steps)])
    return float((batches.var(axis=0) / means.var(axis=0)).mean())


def train(windows: WindowDataset, order: Order, seed: int, steps: int) -> VideoDenoiser:
    """Train a small network in an order; give its averaged weights."""
    example = windows[0]
    torch.manual_seed(seed)
    network = VideoDenoiser(
        frames=SPEC.frames, channels=example.target.shape[2], history=SPEC.history,
        forcings=example.forcings.shape[2], static=example.static.shape[1], size=SIZE,
    )  # fmt: skip
    optimization = Optimization(steps=steps, learning_rate=2e-3, warmup=min(50, steps))
    optimizer = torch.optim.AdamW(network.parameters(), lr=optimization.learning_rate)
    average = torch.optim.swa_utils.AveragedModel(
        network, avg_fn=lambda mean, now, n: mean.lerp(now, 1 - min(DECAY, (1 + n) / (10 + n)))
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, optimization.factor)
    for step in range(steps):
        batch = windows.__getitems__(order.rows(step).tolist())
        optimizer.zero_grad()
        loss(network, batch, keyed_generator(seed, step)).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(network)
        schedule.step()
    return average.module.eval()


def loss(network: VideoDenoiser, batch: Batch, generator: torch.Generator) -> torch.Tensor:
    """Flow matching loss with given noise."""
    objective, condition = Objective(), condition_of(batch)
    tau = objective.draw_times(len(batch.target), generator)
    noise = torch.randn(batch.target.shape, generator=generator) * (batch.weights > 0)
    return objective.training_loss(
        lambda x, t: network(x, t, condition), batch.target, noise, tau, weights=batch.weights
    )


def validation_loss(network: VideoDenoiser, windows: WindowDataset) -> float:
    """Mean loss of all windows, each with the same noise whatever the network."""
    values = []
    with torch.inference_mode():
        for number, start in enumerate(range(0, len(windows) - BATCH + 1, BATCH)):
            batch = windows.__getitems__(list(range(start, start + BATCH)))
            values += [float(loss(network, batch, keyed_generator(9, number, k))) for k in range(2)]
    return float(np.mean(values))


if __name__ == "__main__":
    main()
