"""Two processes take the path of one with the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from weatherdiff.data.loader import Batch, WindowDataset
from weatherdiff.data.store import FieldStore
from weatherdiff.models import VideoDenoiser
from weatherdiff.training import FlowMatchingModule, Optimization, module
from weatherdiff.workflow import fair_crps

PROGRAM = """
import json
import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from weatherdiff.data.loader import WindowDataset
from weatherdiff.data.store import FieldStore
from weatherdiff.data.windows import Period, WindowSpec, find_windows
from weatherdiff.models import VideoDenoiser
from weatherdiff.training import FlowMatchingModule, Optimization, WindowDataModule
from weatherdiff.training.fit import Schedule, fit
from weatherdiff.workflow import fair_crps

PERIODS = {"training": ("2019-12-20", "2020-01-18"), "validation": ("2020-01-20", "2020-01-27")}


class Recorded(FlowMatchingModule):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        losses.append(float(loss.detach()))
        if self.global_step + 1 == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss


losses = []
path, folder, ranks = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
stop = int(sys.argv[4])
torch.set_num_threads(1)
store, spec = FieldStore.open(path), WindowSpec(history=2, frames=3, step=6 * 3600)
training, validation = (
    WindowDataset(store, find_windows(store.times, store.valid, spec, Period.parse(*period)), spec,
                  ("time_of_day",), cache_bytes=0)
    for period in PERIODS.values()
)
torch.manual_seed(1)
network = VideoDenoiser(
    frames=3, channels=len(store.channels), history=2, forcings=2,
    static=3 + len(store.static), size={"width": 8, "blocks": 1, "levels": 1},
)
module = Recorded(network, Optimization(steps=12, learning_rate=3e-3, warmup=2), fair_crps,
                  seed=7, members=2, sampler_steps=2)
data = WindowDataModule(training, validation, batch_size=8, steps=12, seed=5, validation_every=5)
rank = int(os.environ.get("RANK", 0))
try:
    result = fit(module, data, folder / "run", schedule=Schedule(
        validate_every=6, ema_decay=0.9, precision="32-true", devices=ranks))
except SystemExit:
    (folder / f"{rank}.stopped.json").write_text(json.dumps(losses))
    sys.exit(0)
(folder / f"{rank}.json").write_text(json.dumps([losses, result.best_score]))
if rank == 0:
    weights = {name: value.contiguous() for name, value in result.network.state_dict().items()}
    save_file(weights, folder / "network.safetensors")
"""


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


@pytest.fixture
def train(small_store: FieldStore, tmp_path: Path) -> Callable[..., None]:
    """Train in a folder, on one process or two; stop at a step."""
    program = tmp_path / "train.py"
    program.write_text(PROGRAM)

    def train(folder: Path, ranks: int, stop: int = 0) -> None:
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            [
                sys.executable, *(TORCHRUN if ranks == 2 else []), str(program),
                str(small_store.path), str(folder), str(ranks), str(stop),
            ],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]

    return train


@pytest.mark.deep
def test_two_processes_train_as_one_with_the_doubled_batch(
    train: Callable[..., None], tmp_path: Path
) -> None:
    """Also two that go on from where one was stopped, amid an epoch."""
    for name, ranks in (("one", 1), ("two", 2)):
        train(tmp_path / name, ranks)
    train(tmp_path / "changed", 1, stop=7)
    train(tmp_path / "changed", 2)
    losses = {}
    for name, ranks, steps in (("one", 1, 12), ("two", 2, 12), ("changed", 2, 5)):
        folder = tmp_path / name
        written = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks)]
        assert {len(curve) for curve, _ in written} == {steps}
        assert len({score for _, score in written}) == 1
        losses[name] = np.mean([curve for curve, _ in written], axis=0)
    stopped = json.loads((tmp_path / "changed" / "0.stopped.json").read_text())
    losses["changed"] = np.concatenate([stopped, losses["changed"]])
    assert losses["one"].std() > 1e-3
    expected = load_file(tmp_path / "one" / "network.safetensors")
    for name in ("two", "changed"):
        np.testing.assert_allclose(losses[name], losses["one"], rtol=1e-4)
        found = load_file(tmp_path / name / "network.safetensors")
        for key, values in expected.items():
            np.testing.assert_allclose(found[key], values, rtol=1e-3, atol=1e-5)


def test_gradients_of_two_ranks_average_to_those_of_the_doubled_batch(
    small_windows: dict[str, WindowDataset],
    make_network: Callable[..., VideoDenoiser],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where one has fewer cells with data than the other."""
    network = make_network()
    own = FlowMatchingModule(network, Optimization(steps=5), fair_crps, seed=2)
    monkeypatch.setattr(own, "log", lambda *args, **kwargs: None)
    monkeypatch.setattr(type(own), "global_step", 3)
    whole = small_windows["training"].__getitems__([3, 50, 8, 21])
    weights = whole.weights.clone()
    weights[:2, :, 1, 1:] = 0
    whole = whole._replace(weights=weights)
    halves = [Batch(*(field[part] for field in whole)) for part in (slice(0, 2), slice(2, 4))]

    def gradients(batch: Batch, rank: int, ranks: int) -> tuple[float, list[torch.Tensor]]:
        monkeypatch.setattr(type(own), "global_rank", rank)
        monkeypatch.setattr(module, "_ranks", lambda: ranks)
        network.zero_grad()
        loss = own.training_step(batch, 0)
        loss.backward()
        return float(loss.detach()), [p.grad.clone() for p in network.parameters()]

    def all_reduce(total: torch.Tensor) -> None:
        total.copy_(weights.sum(dtype=torch.float64))

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    loss, expected = gradients(whole, 0, 1)
    parts = [gradients(half, rank, 2) for rank, half in enumerate(halves)]
    assert np.mean([part for part, _ in parts]) == pytest.approx(loss, rel=1e-5)
    for one, other, both in zip(parts[0][1], parts[1][1], expected, strict=True):
        torch.testing.assert_close((one + other) / 2, both, rtol=1e-4, atol=1e-6)
