"""A batch holds what a computation by hand gives, however it is fetched."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch.utils.data import DataLoader

from weatherdiff.data.forcings import forcing_fields
from weatherdiff.data.loader import WindowDataset, static_channels
from weatherdiff.data.prepare import prepare
from weatherdiff.data.windows import Period, WindowSpec, find_windows, to_datetime

STEP = 6 * 3600
SPEC = WindowSpec(history=3, frames=2, step=2 * STEP)
FORCINGS = ("toa_solar_radiation", "time_of_day")
DIMS = ("time", "latitude", "longitude")


def make_store(path, fill=None):
    """Temperature over land and pressure everywhere; two absent frames and one with a gap."""
    rng = np.random.default_rng(0)
    temperature = 280 + rng.normal(size=(80, 3, 4)).cumsum(axis=0)
    temperature[:, 0, :2] = np.nan  # sea
    temperature[50, 2, 3] = np.nan  # a gap
    pressure = 1e5 + 100 * rng.normal(size=(80, 3, 4))
    ds = xr.Dataset(
        {
            "2m_temperature": (DIMS, temperature, {"units": "K"}),
            "surface_pressure": (DIMS, pressure, {"units": "Pa"}),
            "orography": (DIMS[1:], rng.normal(size=(3, 4)), {"units": "m"}),
        },
        {
            "time": np.datetime64("2020-03-01", "ns") + np.arange(80) * np.timedelta64(6, "h"),
            "latitude": [10.0, 40.0, 60.0],
            "longitude": [0.0, 5.0, 10.0, 15.0],
        },
    ).astype(np.float32)
    return prepare(
        ds.isel(time=np.delete(np.arange(80), [30, 31])),
        path,
        training_period=("2020-03-01", "2020-03-20"),
        step="12h",
        frames=2,
        fill=fill,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "fields.zarr")


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("filled") / "fields.zarr", fill="climatology")


def windows_of(store, **options):
    found = find_windows(store.times, store.valid, SPEC, Period(0, 2**40))
    return WindowDataset(store, found, SPEC, FORCINGS, **options)


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_window_is_what_a_computation_by_hand_gives(store):
    windows = windows_of(store)
    row = 17
    batch = windows[row]
    init = int(batch.init_times[0])
    ds, normalizer = store.to_dataset(), store.normalizer

    def state(time):
        """Normalised anomaly, from the physical fields and the stored statistics."""
        fields = ds.sel(time=to_datetime(time))
        values = np.stack([fields[name].values for name in store.channels.variables])
        mean = np.einsum(
            "b,bcyx->cyx",
            normalizer.harmonics.evaluate(np.array([time]))[0],
            normalizer.climatology,
        )
        return (values - mean) / normalizer.std[:, None, None]

    area = store.grid.area_weights().values
    for k, time in enumerate(init + np.array([-2, -1, 0]) * 2 * STEP):
        np.testing.assert_allclose(batch.history[0, k], np.nan_to_num(state(time)), atol=1e-4)
    for lead, time in enumerate(init + np.array([1, 2]) * 2 * STEP):
        change = state(time) - state(init)
        change /= normalizer.tendency_std[lead][:, None, None]
        np.testing.assert_allclose(batch.target[0, lead], np.nan_to_num(change), atol=1e-4)
        expected = np.where(np.isnan(change), 0, area)
        found = batch.weights[0, lead].numpy()
        np.testing.assert_allclose(found / found.sum(), expected / expected.sum(), rtol=1e-5)
    times = init + np.arange(-2, 3) * 2 * STEP
    np.testing.assert_array_equal(batch.forcings[0], forcing_fields(FORCINGS, times, store.grid))
    np.testing.assert_array_equal(batch.static[0], static_channels(store))


def test_shapes_and_types_are_those_documented(store):
    batch = windows_of(store).__getitems__([4, 0, 9])
    assert batch.history.shape == (3, 3, 2, 3, 4)
    assert batch.forcings.shape == (3, 5, 3, 3, 4)
    assert batch.static.shape == (3, 4, 3, 4)
    assert batch.target.shape == batch.weights.shape == (3, 2, 2, 3, 4)
    assert batch.init_times.dtype == torch.int64
    assert all(field.dtype == torch.float32 for field in batch[:5])
    assert all(field.isfinite().all() for field in batch[:5])


@pytest.mark.parametrize("name", ["store", "filled"])
def test_cached_and_uncached_windows_are_identical(name, request):
    store = request.getfixturevalue(name)
    cached, uncached = windows_of(store), windows_of(store, cache_bytes=0)
    assert len(cached) == len(uncached) > 20
    rows = [5, 0, len(cached) - 1, 6, 5]
    assert equal(cached.__getitems__(rows), uncached.__getitems__(rows))


def test_a_batch_is_its_windows_one_by_one(store):
    windows = windows_of(store)
    rows = [12, 3, 13, 3]
    batch = windows.__getitems__(rows)
    for place, row in enumerate(rows):
        assert equal([field[place : place + 1] for field in batch], windows[row])


def test_masked_cells_carry_no_loss_and_no_input(store):
    batch = windows_of(store).__getitems__([0, 20])
    sea = ~store.mask[0]
    assert sea.sum() == 2
    assert (batch.weights[:, :, 0, sea] == 0).all()
    assert (batch.target[:, :, 0, sea] == 0).all()
    assert (batch.history[:, :, 0, sea] == 0).all()
    assert (batch.weights[:, :, 0, ~sea] > 0).all()
    assert (batch.weights[:, :, 1] > 0).all()


def test_frames_that_are_absent_or_have_gaps_are_in_no_window(store):
    windows = windows_of(store)
    used = store.times[np.unique(windows.windows.indices)]
    gap = store.times[~store.valid]
    assert len(gap) == 1
    assert not np.isin(gap, used).any()
    inits = windows.windows.init_times
    absent = np.datetime64("2020-03-01", "s").astype(int) + np.array([30, 31]) * STEP
    frames = inits[:, None] + SPEC.offsets
    assert not np.isin(frames, np.concatenate([absent, gap])).any()
    assert np.isin(frames, store.times).all()


def test_a_filled_gap_is_the_climatology_on_input_and_no_target(filled):
    windows = windows_of(filled)
    gap = int(np.datetime64("2020-03-01", "s").astype(int)) + 50 * STEP
    rows = {
        k: int(np.flatnonzero(windows.windows.init_times == gap - k * 2 * STEP)[0])
        for k in (-1, 0, 1)
    }
    input_only, last, target = (windows[rows[k]] for k in (-1, 0, 1))
    assert float(input_only.history[0, 1, 0, 2, 3]) == 0  # the anomaly of the climatology
    assert (input_only.weights[0, :, 0, 2, 3] > 0).all()
    assert (last.weights[0, :, 0, 2, 3] == 0).all()  # no change from an unknown frame is known
    assert target.weights[0, :, 0, 2, 3].tolist()[0] == 0
    assert target.weights[0, 1, 0, 2, 3] > 0
    for batch in (input_only, last, target):
        others = batch.weights.clone()
        others[0, :, 0, 2, 3] = 1
        assert (others[:, :, torch.from_numpy(filled.mask)] > 0).all()


def test_a_data_loader_fetches_batches_as_they_are(store):
    windows = windows_of(store)
    batches = [[3, 1], [0, 7]]
    loader = DataLoader(windows, batch_sampler=batches, collate_fn=lambda batch: batch)
    for rows, batch in zip(batches, loader, strict=True):
        assert equal(batch, windows.__getitems__(rows))


def test_a_period_without_windows_is_empty(store):
    found = find_windows(store.times, store.valid, SPEC, Period(0, 1))
    assert len(WindowDataset(store, found, SPEC, FORCINGS)) == 0


def test_static_channels_are_position_mask_and_own_fields(store):
    static = static_channels(store)
    assert static.shape == (4, 3, 4)
    assert static[0, :, 0].tolist() == pytest.approx([-1, 0.2, 1])
    np.testing.assert_array_equal(static[2], store.mask.mean(axis=0))
    np.testing.assert_array_equal(static[3], store.static[0])
