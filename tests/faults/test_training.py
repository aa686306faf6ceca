"""Training that is interrupted and resumed anywhere ends as if it had never stopped.

With all that draws random numbers: the order of the windows, dropout, rotated, blurred and dropped
histories, flow times, noise, its coupling to data; and in the order of pools.
"""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from weatherdiff.data.loader import WindowDataset
from weatherdiff.flow import RUNGS
from weatherdiff.models import VideoDenoiser
from weatherdiff.training import datamodule
from weatherdiff.training.augmentation import Augmentation
from weatherdiff.training.checkpoint import SafeCheckpointIO
from weatherdiff.training.fit import FitResult, Schedule, fit
from weatherdiff.training.module import FlowMatchingModule, Optimization
from weatherdiff.workflow import fair_crps

STEPS, EVERY = 22, 6
OBJECTIVES = {"exact": "flow_matching_ot", "pool": "variational"}
DEEP = pytest.mark.deep


class Killed(BaseException):
    """What ends a run at once, as kill -9 would: nothing more is saved."""


def run(
    windows: dict[str, WindowDataset], folder: Path, order: Any, at: int = -1, how: str = ""
) -> FitResult:
    """Train; stop after a step."""

    def progress(done: int, total: int, note: str) -> None:
        if done == at:
            if how == "killed":
                raise Killed
            os.kill(os.getpid(), signal.SIGTERM)

    training = windows["training"]
    large = WindowDataset(  # too large for the memory
        training.store, training.windows, training.spec, training.forcings, cache_bytes=0
    )
    objective = RUNGS[OBJECTIVES[order]]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = VideoDenoiser(
            frames=3,
            channels=len(training.store.channels),
            history=2,
            forcings=2,
            static=3 + len(training.store.static),
            size={"width": 8, "blocks": 1, "levels": 1},
            dropout=0.2,
            outputs=objective.outputs,
        )
    module = FlowMatchingModule(
        network,
        Optimization(steps=STEPS, warmup=3),
        fair_crps,
        seed=11,
        objective=objective,
        members=2,
        sampler_steps=2,
        augment=Augmentation(
            training, rotation=0.5, amplitude=0.1, history_noise=0.1, history_dropout=0.3
        ),
    )
    data = datamodule.WindowDataModule(
        large,
        windows["validation"],
        batch_size=8,
        steps=STEPS,
        seed=5,
        validation_every=8,
        order=order,
    )
    schedule = Schedule(validate_every=EVERY, ema_decay=0.9, precision="32-true", devices=1)
    return fit(module, data, folder, schedule=schedule, progress=progress)


def place(name: object) -> str:
    return Path(str(name)).name


def tensors(value: Any, name: str = "") -> dict[str, Tensor]:
    """All tensors of a nested state, by their place in it, whatever the folder."""
    match value:
        case Tensor():
            return {name: value}
        case dict():
            parts = [tensors(v, f"{name}/{place(n)}") for n, v in value.items()]
            return {k: t for part in parts for k, t in part.items()}
        case list() | tuple():
            return tensors(dict(enumerate(value)), name)
        case _:
            return {}


def log_of(folder: Path) -> dict[int, dict[str, str]]:
    """What was logged of each step; of steps that were done twice, both say the same."""
    found: dict[int, dict[str, str]] = {}
    for file in sorted(folder.glob("logs/*/metrics.csv")):
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                known = found.setdefault(int(row["step"]), {})
                for name in ("loss", "val_crps"):
                    if row.get(name):
                        assert known.setdefault(name, row[name]) == row[name]
    return {step: facts for step, facts in sorted(found.items()) if facts}


@pytest.fixture(scope="module")
def wholes() -> dict[str, Path]:
    """Folders of the uninterrupted runs."""
    return {}


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch, small_windows: dict[str, WindowDataset]) -> None:
    """Many pools in an epoch."""
    store = small_windows["training"].store
    monkeypatch.setattr(datamodule, "POOL_BYTES", 80 * store.nbytes // len(store.times))


# Before any checkpoint; between two; at the very step of one; after the last; at the end.
@pytest.mark.usefixtures("pools")
@pytest.mark.parametrize(
    ("order", "at", "how"),
    [
        ("pool", 14, "killed"),
        *(
            pytest.param(order, at, how, marks=DEEP)
            for order in ("exact", "pool")
            for at in (3, 9, 12, 19, 22)
            for how in ("killed", "terminated")
        ),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one_to_the_last_bit(
    small_windows: dict[str, WindowDataset],
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    wholes: dict[str, Path],
    order: str,
    at: int,
    how: str,
) -> None:
    if order not in wholes:
        wholes[order] = tmp_path_factory.mktemp(order)
        run(small_windows, wholes[order], order)
    with pytest.raises(Killed if how == "killed" else SystemExit) as stop:
        run(small_windows, tmp_path, order, at, how)
    assert how == "killed" or stop.value.code == 143
    run(small_windows, tmp_path, order)
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = (
            SafeCheckpointIO().load_checkpoint(folder / name)
            for folder in (tmp_path, wholes[order])
        )
        assert ours["global_step"] == theirs["global_step"]
        first, second = tensors(ours), tensors(theirs)
        assert first.keys() == second.keys()
        assert len(first) > 80
        assert [name for name in first if not torch.equal(first[name], second[name])] == []
    log = log_of(wholes[order])
    assert [n + 1 for n, facts in log.items() if "val_crps" in facts] == [6, 12, 18, 22]
    assert [n + 1 for n, facts in log.items() if "loss" in facts] == [10, 20, 22]
    assert log_of(tmp_path) == log
