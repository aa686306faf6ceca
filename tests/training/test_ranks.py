"""Two processes take the path of one with the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from weatherdiff.data.store import FieldStore

PROGRAM = """
import json
import os
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
        return loss


losses = []
path, folder, ranks = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
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
result = fit(module, data, folder / "run", schedule=Schedule(
    validate_every=6, ema_decay=0.9, precision="32-true", devices=ranks))
rank = int(os.environ.get("RANK", 0))
(folder / f"{rank}.json").write_text(json.dumps([losses, result.best_score]))
if rank == 0:
    weights = {name: value.contiguous() for name, value in result.network.state_dict().items()}
    save_file(weights, folder / "network.safetensors")
"""


@pytest.mark.deep
def test_two_processes_train_as_one_with_the_doubled_batch(
    small_store: FieldStore, tmp_path: Path
) -> None:
    program = tmp_path / "train.py"
    program.write_text(PROGRAM)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    losses, weights = {}, {}
    for ranks, command in ((1, [sys.executable]), (2, torchrun)):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        done = subprocess.run(
            [*command, str(program), str(small_store.path), str(folder), str(ranks)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        written = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks)]
        assert {len(curve) for curve, _ in written} == {12}
        assert len({score for _, score in written}) == 1
        losses[ranks] = np.mean([curve for curve, _ in written], axis=0)
        weights[ranks] = load_file(folder / "network.safetensors")
    assert losses[1].std() > 1e-3
    np.testing.assert_allclose(losses[2], losses[1], rtol=1e-4)
    for name, values in weights[1].items():
        np.testing.assert_allclose(weights[2][name], values, rtol=1e-3, atol=1e-5)
