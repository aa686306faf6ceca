"""Batches come in an order that depends on the seed and the step alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from weatherdiff.data.loader import Batch, WindowDataset
from weatherdiff.data.loading.mixture import MixtureDataset, PoolMixtureOrder
from weatherdiff.data.loading.order import ExactOrder, PoolOrder
from weatherdiff.data.loading.packed import PackedWindows
from weatherdiff.training import WindowDataModule


def _same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _as_rank(data: WindowDataModule, rank: int, ranks: int, step: int = 0) -> WindowDataModule:
    data.trainer = SimpleNamespace(global_rank=rank, world_size=ranks, global_step=step)
    return data


@pytest.fixture
def pooled(small_windows: dict[str, WindowDataset]) -> Callable[..., WindowDataModule]:
    """Build the data of a run of 30 steps whose training set counts as too large for memory."""
    windows = small_windows["training"]
    large = WindowDataset(
        windows.store, windows.windows, windows.spec, windows.forcings, cache_bytes=0
    )

    def make(**options: object) -> WindowDataModule:
        return WindowDataModule(
            large, small_windows["validation"], batch_size=8, steps=30, seed=5, **options
        )

    return make


def test_training_batches_hold_the_windows_of_the_order(
    small_data: Callable[..., WindowDataModule],
) -> None:
    data = small_data(3)
    order = ExactOrder(len(data.training), 8, 5)
    init_times = data.training.windows.init_times
    batches = list(data.train_dataloader())
    assert [batch.init_times.tolist() for batch in batches] == [
        init_times[order.rows(step)].tolist() for step in range(3)
    ]
    for step, batch in enumerate(batches):
        assert _same(batch, data.training.__getitems__(order.rows(step).tolist()))


def test_validation_takes_each_nth_window_in_order(
    small_data: Callable[..., WindowDataModule],
) -> None:
    data = small_data(3, batch_size=3)
    batches = list(data.val_dataloader())
    assert len(batches) == len(data.val_dataloader())
    found = [time for batch in batches for time in batch.init_times.tolist()]
    assert found == data.validation.windows.init_times[::4].tolist()
    assert {len(batch.init_times) for batch in batches[:-1]} == {3}


@pytest.mark.parametrize("order", ["exact", "pool"])
def test_a_run_that_is_resumed_gets_the_batches_that_it_would_have_got(
    pooled: Callable[..., WindowDataModule], order: str
) -> None:
    whole = list(pooled(order=order, threads=2).train_dataloader())
    assert len(whole) == 30
    for step, threads in ((0, 0), (13, 3), (29, 1)):
        data = _as_rank(pooled(order=order, threads=threads), 0, 1, step)
        rest = list(data.train_dataloader())
        assert len(rest) == 30 - step
        assert all(_same(a, b) for a, b in zip(rest, whole[step:], strict=True))


def test_exact_batches_are_shared_among_any_number_of_ranks(
    pooled: Callable[..., WindowDataModule],
) -> None:
    whole = list(pooled().train_dataloader())
    for ranks in (2, 4):
        shares = [list(_as_rank(pooled(), r, ranks).train_dataloader()) for r in range(ranks)]
        for batch, *parts in zip(whole, *shares, strict=True):
            joined = Batch(*map(torch.cat, zip(*parts, strict=True)))
            assert torch.equal(joined.init_times, batch.init_times)
            for one, other in zip(joined, batch, strict=True):
                torch.testing.assert_close(one, other)


def test_ranks_of_a_pool_order_have_windows_of_their_own(
    pooled: Callable[..., WindowDataModule],
) -> None:
    data = [_as_rank(pooled(order="pool"), rank, 2) for rank in (0, 1)]
    order = data[0].order()
    assert isinstance(order, PoolOrder)
    times = [
        torch.cat([b.init_times for b in list(d.train_dataloader())[: order.steps]]) for d in data
    ]
    assert len(np.intersect1d(*times)) == 0
    assert len(times[0]) == len(times[1]) == 4 * order.steps


def test_a_training_set_in_memory_needs_no_pool(small_windows: dict[str, WindowDataset]) -> None:
    windows = small_windows["training"]
    data = WindowDataModule(windows, windows, batch_size=8, steps=3, seed=5, order="pool")
    assert isinstance(data.order(), ExactOrder)


def test_the_state_warns_of_another_order_only_where_it_is_another(
    pooled: Callable[..., WindowDataModule], caplog: pytest.LogCaptureFixture
) -> None:
    state = _as_rank(pooled(), 0, 2, step=7).state_dict()
    assert state["step"] == 7
    _as_rank(pooled(), 0, 4).load_state_dict(state)
    assert not caplog.records
    state = _as_rank(pooled(order="pool"), 0, 2, step=7).state_dict()
    _as_rank(pooled(order="pool"), 1, 2).load_state_dict(state)
    assert not caplog.records
    _as_rank(pooled(order="pool"), 0, 4).load_state_dict(state)
    assert "From step 7 on" in caplog.text
    assert "ranks was 2 and is 4" in caplog.text


def test_a_loop_that_is_left_leaves_no_thread(pooled: Callable[..., WindowDataModule]) -> None:
    before = threading.active_count()
    for _ in pooled(order="pool").train_dataloader():
        assert threading.active_count() > before
        break
    assert threading.active_count() == before


def test_training_batches_alone_are_moved_in_the_type_that_was_asked_for(
    pooled: Callable[..., WindowDataModule],
) -> None:
    data = pooled(dtype=torch.bfloat16)
    batch = next(iter(data.val_dataloader()))
    for training, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        data.trainer = SimpleNamespace(training=training)
        moved = data.transfer_batch_to_device(batch, torch.device("cpu"), 0)
        assert moved.history.dtype == moved.target.dtype == dtype
        assert moved.weights.dtype == torch.float32


def test_a_mixture_is_drawn_from_pools_by_each_rank_and_from_any_step(
    small_windows: dict[str, WindowDataset],
) -> None:
    windows = small_windows["training"]
    parts = [
        WindowDataset(windows.store, windows.windows, windows.spec, windows.forcings, cache_bytes=0)
        for _ in range(2)
    ]

    def make(rank: int, ranks: int, step: int = 0, threads: int = 2) -> WindowDataModule:
        data = WindowDataModule(
            MixtureDataset(parts, [1.0, 3.0]), small_windows["validation"],
            batch_size=8, steps=30, seed=5, order="pool", threads=threads,
        )  # fmt: skip
        return _as_rank(data, rank, ranks, step)

    order = make(0, 2).order()
    assert isinstance(order, PoolMixtureOrder)
    assert order.state()["ranks"] == 2
    for rank in (0, 1):
        whole = list(make(rank, 2).train_dataloader())
        assert {len(batch.init_times) for batch in whole} == {4}
        rest = list(make(rank, 2, step=17, threads=1).train_dataloader())
        assert all(_same(a, b) for a, b in zip(rest, whole[17:], strict=True))
    first = [set(order.rows(0)) for order in (make(r, 2).order() for r in (0, 1))]
    assert not first[0] & first[1]


def test_what_a_device_unpacks_is_given_to_it_packed(
    pooled: Callable[..., WindowDataModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That there is a device is pretended: there is none here."""
    monkeypatch.setattr(WindowDataModule, "_on_cuda", True)
    asked: list[object] = []
    monkeypatch.setattr(WindowDataset, "stream", lambda self, *_, **options: asked.append(options))
    pooled().train_dataloader()  # of a store that is not packed
    assert asked == [{"threads": 2, "pinned": True}]
    monkeypatch.setattr(PackedWindows, "__init__", lambda self, data: asked.append(data))
    monkeypatch.setattr(PackedWindows, "stream", lambda self, *_, **options: asked.append(options))
    data = pooled()
    data.train_dataloader()
    assert asked[1:] == [data.training, {"threads": 2, "pinned": True}]
