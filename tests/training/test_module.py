"""The Lightning module: its schedule, its randomness and its validation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from weatherdiff.models import VideoDenoiser
from weatherdiff.training import FlowMatchingModule, Optimization, WindowDataModule
from weatherdiff.training.module import sample_members
from weatherdiff.workflow import fair_crps


def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine_to_zero() -> None:
    factor = Optimization(steps=110, warmup=10).factor
    np.testing.assert_allclose([factor(n) for n in range(10)], np.arange(1, 11) / 10)
    np.testing.assert_allclose([factor(10), factor(35), factor(60), factor(110)],
                               [1, (1 + np.sqrt(0.5)) / 2, 0.5, 0], atol=1e-15)  # fmt: skip
    assert all(factor(n) >= factor(n + 1) for n in range(10, 130))
    assert factor(500) == 0


def test_a_run_of_warm_up_alone_has_a_learning_rate() -> None:
    factor = Optimization(steps=4, warmup=4).factor
    assert [factor(n) for n in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_biases_and_gains_do_not_decay(make_network: Callable[..., VideoDenoiser]) -> None:
    network = make_network()
    module = FlowMatchingModule(
        network, Optimization(steps=5, weight_decay=0.3, warmup=1), fair_crps, seed=0
    )
    optimizer = module.configure_optimizers()["optimizer"]
    decay = {
        parameter: group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert decay.keys() == set(network.parameters())
    assert {p.ndim > 1 for p, value in decay.items() if value == 0.3} == {True}
    assert {p.ndim for p, value in decay.items() if value == 0} == {1}


def test_a_member_is_the_same_in_any_ensemble_size_and_batch(
    make_network: Callable[..., VideoDenoiser], small_data: Callable[..., WindowDataModule]
) -> None:
    network = make_network()
    (batch,) = small_data(1, batch_size=32).val_dataloader()
    few = type(batch)(*(x[2:3] for x in batch))
    whole = sample_members(network, batch, members=4, seed=9, steps=2)
    one = sample_members(network, few, members=2, seed=9, steps=2)
    assert whole.shape == (4, *batch.target.shape)
    torch.testing.assert_close(whole[:2, 2:3], one)
    other = sample_members(network, few, members=2, seed=10, steps=2)
    assert (one - other).abs()[:, few.weights > 0].min() > 0


def test_masked_cells_of_a_sample_stay_zero(
    make_network: Callable[..., VideoDenoiser], small_data: Callable[..., WindowDataModule]
) -> None:
    (batch,) = small_data(1, batch_size=32).val_dataloader()
    sample = sample_members(make_network(), batch, members=3, seed=9, steps=2)
    masked = (batch.weights == 0).expand(sample.shape)
    assert masked.any()
    assert (sample[masked] == 0).all()
    assert (sample[~masked] != 0).all()


def test_a_noise_scale_of_one_changes_nothing_and_zero_leaves_no_spread(
    make_network: Callable[..., VideoDenoiser], small_data: Callable[..., WindowDataModule]
) -> None:
    (batch,) = small_data(1, batch_size=32).val_dataloader()
    ones = torch.ones(batch.target.shape[1:3])
    plain, one, zero = (
        sample_members(make_network(), batch, members=3, seed=9, steps=2, noise_scale=scale)
        for scale in (None, ones, 0 * ones)
    )
    assert torch.equal(plain, one)
    torch.testing.assert_close(zero[0], zero[2])


def test_the_loss_of_a_step_depends_on_the_step_alone(
    make_network: Callable[..., VideoDenoiser],
    small_data: Callable[..., WindowDataModule],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = FlowMatchingModule(
        make_network(dropout=0.5).train(), Optimization(steps=5), fair_crps, seed=2
    )
    monkeypatch.setattr(module, "log", lambda *args, **kwargs: None)
    batch = next(iter(small_data(1).train_dataloader()))

    def loss(step: int) -> float:
        monkeypatch.setattr(type(module), "global_step", step)
        monkeypatch.setattr(type(module), "global_rank", 0)
        return float(module.training_step(batch, 0).detach())

    first = loss(3)
    torch.manual_seed(99)
    assert loss(3) == first
    assert loss(4) != first


def test_fair_crps_weights_cells_and_is_zero_for_a_perfect_ensemble() -> None:
    observation = np.array([1.0, 2.0, 5.0])
    weights = np.array([1.0, 0.0, 3.0])
    assert fair_crps(np.stack([observation] * 3), observation, weights) == 0
    # Of two members a, b the fair CRPS is (|a - y| + |b - y| - |a - b|) / 2.
    forecast = np.array([[1.0, 9.0, 6.0], [3.0, 9.0, 9.0]])
    expected = (1 * (0 + 2 - 2) / 2 + 3 * (1 + 4 - 3) / 2) / 4
    assert fair_crps(forecast, observation, weights) == pytest.approx(expected)
