"""Batches of several stores hold the shares asked for, in a sequence that (seed, step) fixes."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.data.loader import WindowDataset
from weatherdiff.data.loading.mixture import (
    MixtureDataset,
    MixtureOrder,
    PoolMixtureOrder,
    deviations,
    normalized_by,
)
from weatherdiff.data.loading.stream import WindowStream
from weatherdiff.data.prepare import prepare
from weatherdiff.data.windows import Period, WindowSpec, find_windows
from weatherdiff.errors import ConfigError, GridMismatchError, InputError

SPEC = WindowSpec(history=2, frames=2, step=6 * 3600)
SETTINGS = {"training_period": ("2020-03-01", "2020-03-12"), "step": "6h", "frames": 2}

mixtures = st.lists(st.tuples(st.integers(1, 40), st.floats(0.05, 20)), min_size=1, max_size=4).map(
    lambda sets: tuple(zip(*sets, strict=True))
)


def prepared(ds, folder):
    return prepare(ds, folder / "fields.zarr", **SETTINGS)


def windows_of(store, **options):
    found = find_windows(store.times, store.valid, SPEC, Period(0, 2**40))
    return WindowDataset(store, found, SPEC, ("time_of_day",), **options)


@pytest.fixture(scope="module")
def store(grown, tmp_path_factory):
    return prepared(grown, tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def other(grown, tmp_path_factory):
    """Warmer by two, with twice the anomalies, later, and with a cell more under the sea."""
    ds = grown.isel(time=slice(0, 30)).copy(deep=True)
    temperature = ds["2m_temperature"]
    mean = temperature.mean("time", skipna=False)
    ds["2m_temperature"] = (2 * (temperature - mean) + mean + 2).assign_attrs(temperature.attrs)
    ds["2m_temperature"][:, 2, 4] = np.nan
    ds = ds.assign_coords(time=ds.time + np.timedelta64(365, "D"))
    return prepare(
        ds,
        tmp_path_factory.mktemp("other") / "fields.zarr",
        **{**SETTINGS, "training_period": ("2021-03-01", "2021-03-08")},
    )


@pytest.fixture(scope="module")
def mixture(store, other):
    def mixture(**options):
        parts = [store, normalized_by(other, store.normalizer, store.mask)]
        return MixtureDataset([windows_of(part, **options) for part in parts], [1.0, 3.0])

    return mixture


@settings(max_examples=60, deadline=None)
@given(mixtures, st.integers(1, 12), st.integers(0, 3), st.integers(1, 25))
def test_each_set_has_its_share_of_any_number_of_batches(mixture, batch_size, seed, steps):
    sizes, weights = mixture
    order = MixtureOrder(sizes, weights, batch_size, seed)
    rows = np.concatenate([order.rows(step) for step in range(steps)])
    counts = np.histogram(rows, np.cumsum([0, *sizes]))[0]
    shares = np.array(weights) / sum(weights)
    assert counts.sum() == steps * batch_size
    assert (abs(counts - shares * len(rows)) < len(sizes) + 1e-3).all()


@settings(max_examples=30, deadline=None)
@given(mixtures, st.integers(1, 12), st.integers(0, 3))
def test_the_windows_of_a_set_come_permutation_after_permutation(mixture, batch_size, seed):
    sizes, weights = mixture
    order = MixtureOrder(sizes, weights, batch_size, seed)
    rows = np.concatenate([order.rows(step) for step in range(60)])
    first = 0
    for size in sizes:
        seen = np.bincount(rows[(rows >= first) & (rows < first + size)] - first, minlength=size)
        # but for those that the last batch's shuffle has put in another order
        assert seen.max() - seen.min() <= 1
        first += size


@settings(max_examples=30, deadline=None)
@given(mixtures, st.integers(0, 10**6), st.sampled_from([1, 2, 3, 4, 6]))
def test_ranks_take_slices_of_a_global_batch_that_they_do_not_change(mixture, step, ranks):
    whole = MixtureOrder(*mixture, 12, 7).rows(step)
    parts = [MixtureOrder(*mixture, 12, 7, rank, ranks).rows(step) for rank in range(ranks)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(MixtureOrder(*mixture, 12, 7).rows(step), whole)


def test_another_seed_gives_another_sequence():
    one, other = (MixtureOrder((40, 30), (1, 1), 16, seed).rows(0) for seed in (0, 1))
    assert (one != other).any()


@pytest.mark.parametrize("cache_bytes", [0, 2**30])
def test_a_window_of_a_mixture_is_that_of_its_store(mixture, cache_bytes):
    both = mixture(cache_bytes=cache_bytes)
    first, second = both.parts
    batch = both.__getitems__([3, len(first) + 5, len(first), 0])
    for place, (part, row) in enumerate([(first, 3), (second, 5), (second, 0), (first, 0)]):
        for field, expected in zip(batch, part[row], strict=True):
            assert torch.equal(field[place : place + 1], expected)
    assert both.windows.init_times[len(first) + 5] == second.windows.init_times[5]


def test_masks_travel_with_the_windows_of_their_store(mixture, store, other):
    both = mixture()
    count = len(both.parts[0])
    batch = both.__getitems__([0, count])
    assert (batch.weights[0, :, 0, 2, 4] > 0).all()
    assert (batch.weights[1, :, 0, 2, 4] == 0).all()
    assert (batch.weights[:, :, 0, 1, 2] == 0).all()
    assert batch.history.isfinite().all()
    assert batch.target.isfinite().all()
    assert (batch.static[0] != batch.static[1]).any()


def test_threads_stream_the_mixture_in_its_order(mixture):
    both = mixture(cache_bytes=0)
    order = both.order(6, 1)
    for step, batch in enumerate(both.stream(order, threads=3).steps(2, 8), 2):
        expected = both.__getitems__(order.rows(step).tolist())
        for field, wanted in zip(batch, expected, strict=True):
            assert torch.equal(field, wanted)


def test_deviations_are_those_of_the_data_from_the_statistics(store, other):
    own = deviations(store, np.arange(48), store.normalizer)
    for mean, std in own.values():
        assert abs(mean) < 0.1
        assert std == pytest.approx(1, abs=0.1)
    shared = normalized_by(other, store.normalizer, store.mask)
    found = deviations(shared, np.arange(30), store.normalizer)
    scale = float(store.normalizer.std[0])
    assert found["2m_temperature"].mean == pytest.approx(2 / scale, abs=0.3)
    assert found["2m_temperature"].std == pytest.approx(2, rel=0.25)
    assert abs(found["precipitation_flux"].mean) < 0.3


def test_stores_that_do_not_go_together_are_refused(grown, store, tmp_path):
    first = windows_of(store)
    shifted = prepared(grown.assign_coords(longitude=grown.longitude + 1), tmp_path / "grid")
    with pytest.raises(GridMismatchError):
        MixtureDataset([first, windows_of(shifted)], [1, 1])
    fewer = prepared(grown[["2m_temperature"]], tmp_path / "channels")
    with pytest.raises(InputError, match="channels 2m_temperature; expected are 2m_temperature, p"):
        MixtureDataset([first, windows_of(fewer)], [1, 1])
    height = xr.DataArray(np.eye(3, 5), dims=("latitude", "longitude"), attrs={"units": "m"})
    more = prepared(grown.assign(orography=height.astype("f4")), tmp_path / "static")
    with pytest.raises(InputError, match="static fields orography; expected are none"):
        MixtureDataset([first, windows_of(more)], [1, 1])


@pytest.mark.parametrize(
    ("sizes", "weights", "batch_size", "message"),
    [
        ((3, 4), (1.0, 0.0), 4, "positive weight"),
        ((3, 4), (1.0,), 4, "each of its 2 sets"),
        ((3, 0), (1.0, 1.0), 4, "number 1 of the mixture has no window"),
        ((3, 4), (1.0, 1.0), 5, "does not divide over 2 ranks"),
    ],
)
def test_an_impossible_mixture_is_refused(sizes, weights, batch_size, message):
    with pytest.raises(ConfigError, match=message):
        MixtureOrder(sizes, weights, batch_size, 0, 0, 2)


def pooled(mixture, batch_size=12, seed=7, rank=0, ranks=1):
    sizes, weights = mixture
    return PoolMixtureOrder(
        tuple(size + 5 for size in sizes), weights, batch_size, seed, rank, ranks,
        block=tuple(1 + size % 7 for size in sizes), blocks=tuple(1 + size % 3 for size in sizes),
    )  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(mixtures, st.integers(1, 12), st.integers(0, 2**31), st.integers(1, 40))
def test_pools_of_each_set_have_its_share_and_give_each_window_once_an_epoch(
    mixture, batch_size, seed, steps
):
    order = pooled(mixture, batch_size, seed)
    rows = np.concatenate([order.rows(step) for step in range(steps)])
    exact = np.array(order.weights) / sum(order.weights) * len(rows)
    first = 0
    for number, size in enumerate(order.sizes):
        own = rows[(rows >= first) & (rows < first + size)]
        assert abs(len(own) - exact[number]) <= 1 + number + 1e-4 * len(rows)
        seen = np.bincount(own - first, minlength=size)
        assert seen.max() - seen.min() <= 1
        first += size


@settings(max_examples=50, deadline=None)
@given(mixtures, st.sampled_from([1, 2, 3]), st.integers(0, 10**4))
def test_ranks_draw_as_many_of_each_set_from_windows_of_their_own(mixture, ranks, step):
    orders = [pooled(mixture, 6, 3, rank, ranks) for rank in range(ranks)]
    assert len({tuple(order.drawn(step)) for order in orders}) == 1
    assert all(len(order.rows(step)) == 6 // ranks for order in orders)
    for lanes in zip(*(order.lanes for order in orders), strict=True):
        epochs = [np.concatenate([pool.rows for pool in lane.pools(2)]) for lane in lanes]
        assert len({len(rows) for rows in epochs}) == 1
        together = np.concatenate(epochs)
        assert len(np.unique(together)) == len(together)


@settings(max_examples=50, deadline=None)
@given(mixtures, st.integers(0, 10**6))
def test_a_batch_of_pools_depends_on_the_seed_and_the_step_alone(mixture, step):
    rows = pooled(mixture).rows(step)
    np.testing.assert_array_equal(rows, pooled(mixture).rows(step))
    slots = pooled(mixture).slots(step)
    np.testing.assert_array_equal(np.sort(slots), np.arange(12))


def test_another_seed_draws_other_pools():
    one, other = (
        PoolMixtureOrder((400, 300), (1, 1), 16, seed, block=(9, 9), blocks=(4, 4)).rows(0)
        for seed in (0, 1)
    )
    assert (one != other).any()


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_pools_of_a_mixture_stream_its_windows_from_any_step(mixture, threads):
    both = mixture(cache_bytes=0)
    frame = both.store.nbytes // both.store.shape[0]
    order = both.pool_order(6, 1, pool_bytes=80 * frame)
    epochs = [a // lane.length for a, lane in zip(order.drawn(30), order.lanes, strict=True)]
    assert max(epochs) >= 2
    for start in (0, 13):
        batches = both.stream(order, threads=threads).steps(start, 30)
        for step, batch in enumerate(batches, start):
            expected = both.__getitems__(order.rows(step).tolist())
            for field, wanted in zip(batch, expected, strict=True):
                assert torch.equal(field, wanted)
        assert step == 29


def test_a_pool_of_each_set_reads_each_of_its_frames_once():
    reader = CountingReader(90)
    indices = np.concatenate([np.arange(50), 53 + np.arange(30)])[:, None] + np.arange(4)
    order = PoolMixtureOrder((50, 30), (5.0, 3.0), 8, 0, block=(50, 30), blocks=(2, 2))
    stream = WindowStream(reader, (1,), indices, order, lambda rows, parts: rows, threads=0)
    for _ in stream.steps(0, 10):  # an epoch of both
        pass
    assert reader.count[:86].max() <= 3  # a block is cut where the epoch begins it
    assert reader.count.sum() <= 86 + 2 * 3


class CountingReader:
    """Frames of which it is known how often each was read."""

    def __init__(self, frames):
        self.count = np.zeros(frames, int)

    def read(self, indices, out=None):
        np.add.at(self.count, indices, 1)
        out[...] = np.float32(indices)[:, None]
        return out


def test_a_set_smaller_than_the_ranks_is_refused():
    with pytest.raises(ConfigError, match="number 1 of the mixture has 2 windows for 4 ranks"):
        PoolMixtureOrder((9, 2), (1.0, 1.0), 4, 0, 0, 4, block=(2, 2), blocks=(2, 2))
