"""A training run learns, resumes as if it had never stopped, and keeps its best weights."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from weatherdiff.errors import InputError, exit_code_of
from weatherdiff.training.checkpoint import SafeCheckpointIO
from weatherdiff.training.fit import FitResult
from weatherdiff.training.module import sample_members
from weatherdiff.workflow import fair_crps

Fit = Callable[..., FitResult]


def _state(path: Path) -> dict[str, Any]:
    return SafeCheckpointIO().load_checkpoint(path)


def _tensors(value: Any, name: str = "") -> dict[str, Tensor]:
    """All tensors of a nested state, by their place in it."""
    match value:
        case Tensor():
            return {name: value}
        case dict():
            return {k: t for n, v in value.items() for k, t in _tensors(v, f"{name}/{n}").items()}
        case list() | tuple():
            return _tensors(dict(enumerate(value)), name)
        case _:
            return {}


def _assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def _stop_after(step: int, how: Callable[[], None]) -> Callable[[int, int, str], None]:
    def progress(done: int, total: int, note: str) -> None:
        if done == step:
            how()

    return progress


def _ctrl_c() -> None:
    raise KeyboardInterrupt


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def whole(
    fit_small: Fit, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FitResult, dict[str, Tensor]]:
    """An uninterrupted run of 10 steps, validated at 4, 8 and 10, and its last state."""
    folder = tmp_path_factory.mktemp("whole")
    result = fit_small(folder, steps=10)
    state = _state(folder / "last.ckpt")
    assert state["global_step"] == 10
    return result, _tensors({k: state[k] for k in PATH})


# What the next step depends on: averaged and own weights, optimiser and learning rate.
PATH = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers")


def test_training_improves_the_validation_score_of_a_random_network(
    fit_small: Fit, small_data: Callable, make_network: Callable, tmp_path: Path
) -> None:
    def score(network: torch.nn.Module) -> float:
        (batch,) = small_data(1, batch_size=32).val_dataloader()
        members = sample_members(network, batch, members=8, seed=1, steps=3)
        return fair_crps(members.numpy(), batch.target.numpy(), batch.weights.numpy())

    untrained = score(make_network())
    result = fit_small(tmp_path, steps=120, learning_rate=1e-2, validate_every=60)
    assert score(result.network) < 0.9 * untrained
    assert not result.network.training
    assert result.steps == 120


# Step 2 comes before any checkpoint, 4 and 8 are steps of validation, 9 comes after the last one.
@pytest.mark.parametrize("step", [2, 4, 5, 8, 9])
def test_a_run_resumed_after_ctrl_c_takes_the_path_of_an_uninterrupted_one(
    fit_small: Fit, whole: tuple[FitResult, dict[str, Tensor]], tmp_path: Path, step: int
) -> None:
    folder = tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        fit_small(folder, steps=10, progress=_stop_after(step, _ctrl_c))
    steps: list[int] = []
    result = fit_small(folder, steps=10, progress=lambda done, total, note: steps.append(done))

    assert steps == list(range(4 * ((step - 1) // 4) + 1, 11))
    _assert_same(result.network.state_dict(), whole[0].network.state_dict())
    state = _state(folder / "last.ckpt")
    _assert_same(_tensors({k: state[k] for k in PATH}), whole[1])
    assert (result.best_score, result.best_step) == (whole[0].best_score, whole[0].best_step)


@pytest.mark.parametrize("step", [2, 4, 7])
def test_a_terminated_run_exits_with_143_and_resumes_at_the_very_step(
    fit_small: Fit, whole: tuple[FitResult, dict[str, Tensor]], tmp_path: Path, step: int
) -> None:
    folder = tmp_path / "terminated"
    with pytest.raises(SystemExit) as stop:
        fit_small(folder, steps=10, progress=_stop_after(step, _terminate))
    assert stop.value.code == 143
    steps: list[int] = []
    result = fit_small(folder, steps=10, progress=lambda done, total, note: steps.append(done))

    assert steps == list(range(step + 1, 11))
    _assert_same(result.network.state_dict(), whole[0].network.state_dict())
    state = _state(folder / "last.ckpt")
    _assert_same(_tensors({k: state[k] for k in PATH}), whole[1])


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_amid_a_validation_waits_for_its_end(
    fit_small: Fit,
    whole: tuple[FitResult, dict[str, Tensor]],
    tmp_path: Path,
    how: signal.Signals,
    code: int,
) -> None:
    scored: list[float] = []

    def score(*fields: np.ndarray) -> float:
        if not scored:
            os.kill(os.getpid(), how)
        scored.append(fair_crps(*fields))
        return scored[-1]

    steps: list[int] = []
    with pytest.raises(KeyboardInterrupt if code == 130 else SystemExit) as stop:
        fit_small(
            tmp_path / "x", steps=10, score=score, progress=lambda done, *_: steps.append(done)
        )
    assert exit_code_of(stop.value) == code
    assert steps == [1, 2, 3, 4]
    result = fit_small(tmp_path / "x", steps=10, progress=lambda done, *_: steps.append(done))
    assert steps == list(range(1, 11))
    _assert_same(result.network.state_dict(), whole[0].network.state_dict())
    assert (result.best_score, result.best_step) == (whole[0].best_score, whole[0].best_step)


def test_ctrl_c_saves_at_the_very_step_and_a_signal_that_comes_early_is_not_lost(
    fit_small: Fit, whole: tuple[FitResult, dict[str, Tensor]], tmp_path: Path
) -> None:
    steps: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        fit_small(
            tmp_path / "x", steps=10,
            progress=_stop_after(2, lambda: os.kill(os.getpid(), signal.SIGINT)),
        )  # fmt: skip
    assert _state(tmp_path / "x" / "last.ckpt")["global_step"] == 2
    result = fit_small(tmp_path / "x", steps=10, progress=lambda done, *_: steps.append(done))
    assert steps == list(range(3, 11))
    _assert_same(result.network.state_dict(), whole[0].network.state_dict())


def test_without_resume_a_run_starts_from_the_beginning(fit_small: Fit, tmp_path: Path) -> None:
    first = fit_small(tmp_path, steps=6)
    steps: list[int] = []
    again = fit_small(
        tmp_path, steps=6, resume=False, progress=lambda done, total, note: steps.append(done)
    )
    assert steps == [1, 2, 3, 4, 5, 6]
    _assert_same(again.network.state_dict(), first.network.state_dict())


def test_a_finished_run_is_not_continued_and_gives_the_same_network(
    fit_small: Fit, tmp_path: Path
) -> None:
    first = fit_small(tmp_path, steps=6)
    steps: list[int] = []
    again = fit_small(tmp_path, steps=6, progress=lambda done, total, note: steps.append(done))
    assert steps == []
    _assert_same(again.network.state_dict(), first.network.state_dict())


def test_the_best_validation_is_kept_and_patience_stops_the_run(
    fit_small: Fit, scripted_score: Callable, tmp_path: Path
) -> None:
    result = fit_small(
        tmp_path, steps=40, validate_every=2, patience=3, score=scripted_score([5, 3, 4, 6, 3.5])
    )
    assert (result.best_score, result.best_step, result.steps) == (3.0, 4, 10)
    best = {
        name.removeprefix("network."): value
        for name, value in _state(tmp_path / "best.ckpt")["state_dict"].items()
    }
    _assert_same(result.network.state_dict(), best)
    assert _state(tmp_path / "last.ckpt")["global_step"] == 10


def test_a_run_that_had_stopped_early_stays_stopped_when_resumed(
    fit_small: Fit, scripted_score: Callable, tmp_path: Path
) -> None:
    options = {"steps": 40, "validate_every": 2, "patience": 2}
    first = fit_small(tmp_path, score=scripted_score([3, 4, 5]), **options)
    steps: list[int] = []
    again = fit_small(
        tmp_path,
        score=scripted_score([1]),
        progress=lambda done, total, note: steps.append(done),
        **options,
    )
    assert steps == []
    assert (again.best_score, again.best_step) == (first.best_score, first.best_step) == (3.0, 2)


def test_the_last_step_is_validated_though_the_interval_does_not_meet_it(
    fit_small: Fit, scripted_score: Callable, tmp_path: Path
) -> None:
    result = fit_small(tmp_path, steps=7, validate_every=3, score=scripted_score([3, 2, 1]))
    assert (result.best_score, result.best_step, result.steps) == (1.0, 7, 7)


def test_an_interval_longer_than_the_run_validates_once(
    fit_small: Fit, scripted_score: Callable, tmp_path: Path
) -> None:
    result = fit_small(tmp_path, steps=3, validate_every=100, score=scripted_score([2]))
    assert (result.best_score, result.best_step) == (2.0, 3)


def test_a_diverged_run_is_refused_with_advice(fit_small: Fit, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"diverged.*learning rate") as error:
        fit_small(tmp_path, steps=8, learning_rate=1e18)
    assert error.value.exit_code == 65


def test_nothing_in_the_training_folder_is_a_pickle(fit_small: Fit, tmp_path: Path) -> None:
    fit_small(tmp_path, steps=4)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"best.ckpt", "last.ckpt", "metrics.csv"} <= {file.name for file in files}
    for file in files:
        # A pickle of protocol 2 or later, and PyTorch's zip of pickles.
        assert not file.read_bytes().startswith((b"\x80", b"PK")), file


def test_metrics_before_an_interruption_are_kept(fit_small: Fit, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit_small(tmp_path, steps=10, progress=_stop_after(6, _ctrl_c))
    fit_small(tmp_path, steps=10)
    scored = []
    for file in sorted(tmp_path.glob("logs/*/metrics.csv")):
        with file.open(newline="") as lines:
            scored += [int(row["step"]) + 1 for row in csv.DictReader(lines) if row["val_crps"]]
    assert scored == [4, 8, 10]


def test_no_window_in_a_split_is_refused(
    fit_small: Fit, small_windows: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(small_windows["validation"]), "__len__", lambda self: 0)
    with pytest.raises(InputError, match="no training window"):
        fit_small(tmp_path, steps=4)
