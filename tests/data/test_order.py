"""The order of batches is a pure function of the seed, the epoch and the place in it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.data.loading.order import ExactOrder, PoolOrder
from weatherdiff.errors import ConfigError
from weatherdiff.flow import keyed_generator


def exact(windows, batch_size, steps, *, first=0, seed=4, **options):
    order = ExactOrder(windows, batch_size, seed, **options)
    return [order.rows(step).tolist() for step in range(first, steps)]


@pytest.mark.parametrize(("windows", "batch_size"), [(10, 4), (12, 4), (3, 8), (7, 1)])
def test_every_window_comes_once_an_epoch(windows, batch_size):
    epochs = 4
    steps = -(-epochs * windows // batch_size)
    stream = [row for batch in exact(windows, batch_size, steps) for row in batch]
    for epoch in range(epochs):
        assert sorted(stream[epoch * windows : (epoch + 1) * windows]) == list(range(windows))


def test_epochs_have_different_orders_and_so_have_seeds():
    stream = [row for batch in exact(20, 5, 8) for row in batch]
    other = [row for batch in exact(20, 5, 8, seed=5) for row in batch]
    assert stream[:20] != stream[20:]
    assert stream[:20] != other[:20]


def test_an_epoch_is_drawn_from_the_generator_of_its_key():
    drawn = torch.randperm(30, generator=keyed_generator(-4, 1)).tolist()
    assert exact(30, 30, 2, seed=-4)[1] == drawn


@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
def test_the_ranks_share_the_global_batch_of_an_exact_order(ranks):
    whole = exact(10, 6, 9)
    shares = [exact(10, 6, 9, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert [[row for share in step for row in share] for step in zip(*shares, strict=True)] == whole


def test_a_batch_that_does_not_divide_over_the_ranks_is_refused():
    for order in (ExactOrder, PoolOrder):
        with pytest.raises(ConfigError, match="batch of 6 does not divide over 4 ranks"):
            order(10, 6, 0, ranks=4)


def test_ordering_draws_nothing_from_the_global_generator():
    before = torch.random.get_rng_state()
    exact(11, 6, 9)
    assert torch.equal(torch.random.get_rng_state(), before)


orders = st.builds(
    lambda windows, share, ranks, seed, block, blocks: [
        PoolOrder(
            windows + share * ranks, share * ranks, seed, r, ranks, block=block, blocks=blocks
        )
        for r in range(ranks)
    ],
    windows=st.integers(0, 90),
    share=st.integers(1, 7),
    ranks=st.integers(1, 4),
    seed=st.integers(-5, 5),
    block=st.integers(1, 20),
    blocks=st.integers(1, 5),
)


@settings(deadline=None)
@given(orders, st.integers(0, 3))
def test_ranks_of_a_pool_order_have_disjoint_windows_and_equal_steps(ranks, epoch):
    steps = {order.steps for order in ranks}
    assert len(steps) == 1
    first = epoch * steps.pop()
    drawn = np.concatenate(
        [order.rows(first + step) for order in ranks for step in range(order.steps)]
    )
    assert len(drawn) == len(np.unique(drawn)) == ranks[0].steps * ranks[0].batch_size
    assert ranks[0].windows - len(drawn) < ranks[0].batch_size


@settings(deadline=None)
@given(orders, st.integers(0, 3))
def test_the_blocks_of_a_pool_are_neighbouring_windows_in_bounded_number(ranks, epoch):
    for order in ranks:
        for pool in order.pools(epoch):
            assert len(pool.blocks) <= order.blocks
            for block in pool.blocks:
                assert len(block) <= order.block
                assert (np.diff(block) == 1).all()
            assert sorted(pool.rows) == sorted(np.concatenate(pool.blocks))


def test_a_pool_order_asked_for_any_step_gives_what_the_whole_sequence_has():
    order = PoolOrder(101, 8, 3, block=7, blocks=3)
    whole = [order.rows(step).tolist() for step in range(40)]
    for step in (39, 0, 12, 11, 25):
        again = PoolOrder(101, 8, 3, block=7, blocks=3)
        assert again.rows(step).tolist() == whole[step]


def test_epochs_of_a_pool_order_cut_blocks_elsewhere_and_drop_other_windows():
    order = PoolOrder(100, 9, 0, block=10, blocks=4)
    epochs = [
        np.concatenate([order.rows(epoch * order.steps + step) for step in range(order.steps)])
        for epoch in range(6)
    ]
    dropped = {tuple(np.setdiff1d(np.arange(100), rows)) for rows in epochs}
    assert len(dropped) > 1
    firsts = {min(b[0] for p in order.pools(e) for b in p.blocks if len(b) == 10) for e in range(6)}
    assert len(firsts) > 2


def test_one_pool_of_all_blocks_is_a_permutation_without_structure():
    """The mean distance in time of two windows of a batch is that of two random windows."""
    order = PoolOrder(400, 20, 1, block=10, blocks=41)
    steps = [order.rows(step) for step in range(20 * order.steps)]
    distance = np.mean([np.abs(np.subtract.outer(rows, rows)).sum() / (20 * 19) for rows in steps])
    assert distance == pytest.approx(401 / 3, rel=0.02)


def test_fewer_windows_than_a_batch_has_are_left_to_the_exact_order():
    with pytest.raises(ConfigError, match="Use the exact order"):
        PoolOrder(7, 8, 0)


@pytest.mark.parametrize("reach", [1, 3, 24])
@pytest.mark.parametrize("frame_bytes", [10_000, 400_000, 8_000_000])
@pytest.mark.parametrize("pool_bytes", [2 * 10**7, 10**9])
def test_two_pools_fit_in_the_memory_that_they_are_given(reach, frame_bytes, pool_bytes):
    indices = np.arange(5000)[:, None] + np.linspace(0, reach, 4).astype(np.int64)
    order = PoolOrder.sized(indices, 32, 0, frame_bytes=frame_bytes, pool_bytes=pool_bytes)
    frames = order.blocks * (order.block + reach)
    assert 2 * frames * frame_bytes <= pool_bytes or (order.blocks, order.block) == (1, 1)
    if 2 * 16 * 4 * reach * frame_bytes < pool_bytes:
        assert order.blocks == 16
        assert order.block >= 3 * reach


def test_the_state_says_what_the_order_depends_on():
    assert ExactOrder(9, 4, 1, 1, 2).state() == ExactOrder(9, 4, 1).state()
    one, two = PoolOrder(9, 4, 1), PoolOrder(9, 4, 1, 1, 2)
    assert one.state() | {"ranks": 2} == two.state()
