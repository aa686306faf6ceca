"""Batches come in an order that depends on the seed and the step alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from weatherdiff.training import WindowDataModule
from weatherdiff.training.datamodule import StepBatchSampler


def _batches(windows: int, batch_size: int, steps: int, **options: object) -> list[list[int]]:
    return list(StepBatchSampler(windows, batch_size, steps, **{"seed": 4, **options}))


@pytest.mark.parametrize(("windows", "batch_size"), [(10, 4), (12, 4), (3, 8), (7, 1)])
def test_every_window_comes_once_an_epoch(windows: int, batch_size: int) -> None:
    epochs = 4
    steps = -(-epochs * windows // batch_size)
    stream = [row for batch in _batches(windows, batch_size, steps) for row in batch]
    for epoch in range(epochs):
        assert sorted(stream[epoch * windows : (epoch + 1) * windows]) == list(range(windows))


def test_epochs_have_different_orders_and_so_have_seeds() -> None:
    stream = [row for batch in _batches(20, 5, 8) for row in batch]
    other = [row for batch in _batches(20, 5, 8, seed=5) for row in batch]
    assert stream[:20] != stream[20:]
    assert stream[:20] != other[:20]


@pytest.mark.parametrize("first", [0, 1, 2, 5, 9, 10])
def test_a_batch_does_not_depend_on_where_the_run_was_resumed(first: int) -> None:
    whole = _batches(7, 3, 10)
    assert _batches(7, 3, 10, first=lambda: first) == whole[first:]


def test_the_step_is_asked_for_when_iteration_starts_and_not_before() -> None:
    step = 0
    sampler = StepBatchSampler(7, 3, 10, seed=4, first=lambda: step)
    whole = list(sampler)
    step = 6
    assert list(sampler) == whole[6:]
    assert len(sampler) == 10


def test_a_longer_run_begins_as_a_shorter_one() -> None:
    assert _batches(7, 3, 20)[:10] == _batches(7, 3, 10)


@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
def test_the_ranks_share_the_global_batch(ranks: int) -> None:
    whole = _batches(10, 6, 9)
    shares = [_batches(10, 6, 9, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert [[row for share in step for row in share] for step in zip(*shares, strict=True)] == whole


def test_a_batch_that_does_not_divide_over_the_ranks_is_refused() -> None:
    with pytest.raises(ValueError, match="batch of 6 does not divide over 4 ranks"):
        StepBatchSampler(10, 6, 9, seed=4, ranks=4)


def test_iterating_draws_nothing_from_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    _batches(10, 6, 9)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_training_batches_hold_the_windows_of_the_sampler(
    small_data: Callable[..., WindowDataModule],
) -> None:
    data = small_data(3)
    expected = list(StepBatchSampler(len(data.training), 8, 3, seed=5))
    init_times = data.training.windows.init_times
    batches = list(data.train_dataloader())
    assert [batch.init_times.tolist() for batch in batches] == [
        init_times[rows].tolist() for rows in expected
    ]


def test_validation_takes_each_nth_window_in_order(
    small_data: Callable[..., WindowDataModule],
) -> None:
    data = small_data(3, batch_size=3)
    batches = list(data.val_dataloader())
    found = [time for batch in batches for time in batch.init_times.tolist()]
    assert found == data.validation.windows.init_times[::4].tolist()
    assert {len(batch.init_times) for batch in batches[:-1]} == {3}
