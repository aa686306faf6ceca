"""Preparing: what is missing is told apart, what is wrong is refused, and nothing half is left."""

import errno
import json
import logging

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from weatherdiff import open_fields
from weatherdiff.data import prepare as module
from weatherdiff.data.prepare import parse_step, prepare
from weatherdiff.data.store import FieldStore
from weatherdiff.data.storing import judging
from weatherdiff.errors import (
    ConfigError,
    InputError,
    MissingInputError,
    StorageError,
    UnitsError,
)

FRAMES = 60  # six-hourly from 1 March 2020: fifteen days
TRAINING = ("2020-03-01", "2020-03-08")
DIMS = ("time", "latitude", "longitude")


@pytest.fixture
def ds():
    """Temperature without data at one cell, rain that is often none, and two static fields."""
    rng = np.random.default_rng(0)
    temperature = 280 + rng.normal(size=(FRAMES, 3, 5))
    temperature[:, 1, 2] = np.nan
    rain = np.maximum(rng.normal(size=(FRAMES, 3, 5)), 0) * 1e-4
    orography = rng.uniform(0, 900, (3, 5))
    orography[2, 2] = np.nan
    return xr.Dataset(
        {
            "2m_temperature": (DIMS, temperature, {"units": "K", "long_name": "temperature"}),
            "precipitation_flux": (DIMS, rain, {"units": "kg m**-2 s**-1"}),
            "orography": (DIMS[1:], orography, {"units": "m"}),
            "depth": (DIMS[1:], np.full((3, 5), 7.0), {"units": "m"}),
        },
        {
            "time": np.datetime64("2020-03-01", "ns") + np.arange(FRAMES) * np.timedelta64(6, "h"),
            "latitude": [40.0, 42.0, 45.0],
            "longitude": np.arange(-2.0, 3.0),
        },
        {"title": "a title", "count": np.int64(3), "list": np.arange(2)},
    ).astype(np.float32)


@pytest.fixture
def run(tmp_path):
    def run(ds, **changes):
        arguments = {"training_period": TRAINING, "step": "6h", "frames": 2, **changes}
        return prepare(ds, tmp_path / "fields.zarr", **arguments)

    return run


def same_statistics(one, other):
    assert one.normalizer.to_dict() == other.normalizer.to_dict()
    for name, values in one.normalizer.arrays().items():
        assert values.tobytes() == other.normalizer.arrays()[name].tobytes(), name


def test_the_store_holds_the_data_and_where_they_come_from(run, ds):
    store = run(ds)
    np.testing.assert_array_equal(store.read(np.arange(FRAMES)), store.channels.stack(ds))
    assert store.channels.labels == ("2m_temperature", "precipitation_flux")
    assert store.channels.attributes["2m_temperature"]["long_name"] == "temperature"
    assert store.metadata["source"] == {"title": "a title", "count": 3, "list": [0, 1]}
    assert json.dumps(store.metadata)
    assert str(store.normalizer.period) == "2020-03-01T00:00:00 to 2020-03-08T23:59:59"


def test_cells_that_never_have_data_are_the_mask_and_no_gap(run, ds, caplog):
    store = run(ds)
    expected = np.ones((2, 3, 5), bool)
    expected[0, 1, 2] = False
    np.testing.assert_array_equal(store.mask, expected)
    assert store.valid.all()
    assert store.metadata["frames_with_gaps"] == 0
    assert not caplog.records


def test_frames_in_which_other_data_are_missing_are_marked_counted_and_reported(run, ds, caplog):
    ds["2m_temperature"][[4, 50], 0, 0] = np.nan
    ds["precipitation_flux"][[50, 51]] = np.nan
    with caplog.at_level(logging.WARNING):
        store = run(ds)
    assert np.flatnonzero(~store.valid).tolist() == [4, 50, 51]
    assert store.metadata["frames_with_gaps"] == 3
    assert store.mask[0, 0, 0]
    assert store.mask[1].all()
    assert "2m_temperature: 2 of 60 frames have missing data; left out" in caplog.text
    assert "precipitation_flux: 2 of 60 frames" in caplog.text
    assert np.isnan(store.read([50])).sum() == 15 + 2  # missing stays missing


def test_data_that_begin_after_the_training_period_are_a_gap_and_not_the_mask(run, ds):
    ds["2m_temperature"][:40, 2, 3] = np.nan
    with pytest.raises(InputError, match="Only 0 frames without missing data"):
        run(ds)


def test_filling_keeps_all_frames_and_the_same_statistics(run, ds, tmp_path):
    ds["2m_temperature"][[4, 50], 0, 0] = np.nan
    left_out = run(ds)
    filled = prepare(
        ds,
        tmp_path / "filled.zarr",
        training_period=TRAINING,
        step="6h",
        frames=2,
        fill="climatology",
    )
    assert filled.valid.all()
    assert filled.metadata["fill"] == "climatology"
    assert filled.metadata["frames_with_gaps"] == 2
    same_statistics(left_out, filled)
    np.testing.assert_array_equal(filled.mask, left_out.mask)


def test_statistics_are_of_the_training_period_only(run, ds):
    before = run(ds)
    later = slice("2020-03-09", None)
    ds["2m_temperature"].loc[{"time": later}] += 40
    ds["precipitation_flux"].loc[{"time": later}] *= 1000
    same_statistics(before, run(ds, overwrite=True))


@pytest.mark.parametrize("frames", [1, 7, 59])
def test_the_size_of_a_block_changes_nothing(run, ds, monkeypatch, frames):
    ds["2m_temperature"][[4, 50], 0, 0] = np.nan
    whole = run(ds)
    fields = whole.read(np.arange(FRAMES))
    monkeypatch.setattr(module, "BLOCK_BYTES", frames * 4 * 2 * 3 * 5)
    blocks = run(ds, overwrite=True)
    assert (blocks.path / "fields/c").is_dir()
    assert len(list((blocks.path / "fields/c").iterdir())) == -(-FRAMES // frames)
    np.testing.assert_array_equal(blocks.read(np.arange(FRAMES)), fields)
    np.testing.assert_array_equal(blocks.valid, whole.valid)
    np.testing.assert_array_equal(blocks.mask, whole.mask)
    for name, values in blocks.normalizer.arrays().items():
        np.testing.assert_allclose(
            values, whole.normalizer.arrays()[name], rtol=1e-6, atol=1e-10, err_msg=name
        )


def test_each_time_is_read_once_and_progress_is_reported(run, ds, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", 10 * 4 * 2 * 3 * 5)
    reads = []

    def read(block, block_info=None):
        if block_info:
            reads.append(block_info[0]["array-location"][0][0])
        return block

    chunked = dask.array.from_array(ds["precipitation_flux"].values, chunks=(10, 3, 5))
    chunked = chunked.map_blocks(read, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    ds["precipitation_flux"] = (DIMS, chunked, ds["precipitation_flux"].attrs)
    reports = []
    run(ds, progress=lambda done, total: reports.append((done, total)))
    assert reports == [(n, 60) for n in (10, 20, 30, 40, 50, 60)]
    assert sorted(reads[1:]) == [0, 10, 20, 30, 40, 50]  # the first, to see if it is plausible


def test_static_fields_are_standardised_and_missing_values_are_their_mean(run, ds):
    store = run(ds)
    assert store.metadata["static"] == ["orography", "depth"]
    field = ds["orography"].values.astype(float)
    expected = (field - np.nanmean(field)) / np.nanstd(field)
    np.testing.assert_allclose(store.static[0], np.nan_to_num(expected), rtol=1e-5)
    assert (store.static[1] == 0).all()  # constant
    assert store.static.dtype == np.float32
    assert run(ds.drop_vars(["orography", "depth"]), overwrite=True).static.shape == (0, 3, 5)


@pytest.mark.parametrize(("value", "words"), [(np.nan, "no data"), (np.inf, "infinite values")])
def test_a_static_field_that_says_nothing_is_refused_by_name(run, ds, value, words):
    ds["depth"][...] = np.where(np.isinf(value), ds["depth"], value)
    ds["depth"][1, 1] = value
    with pytest.raises(InputError, match=f"depth has {words}"):
        run(ds)


def test_levelled_variables_have_a_channel_for_each_level(run, ds):
    rng = np.random.default_rng(1)
    values = 5e4 + rng.normal(size=(FRAMES, 2, 3, 5)) * np.array([100.0, 10.0])[:, None, None]
    dims = ("time", "level", *DIMS[1:])
    ds = ds.assign_coords(level=[500, 1000])
    ds["geopotential"] = (dims, values.astype("f4"), {"units": "m**2 s**-2"})
    store = run(ds)
    assert store.channels.labels[-2:] == ("geopotential_500", "geopotential_1000")
    np.testing.assert_allclose(store.normalizer.std[-2:], [100, 10], rtol=0.1)
    np.testing.assert_array_equal(store.to_dataset()["geopotential"], ds["geopotential"])


def test_variables_near_a_bound_are_transformed_and_others_are_not(run, ds):
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(FRAMES, 3, 5)).astype("f4")
    training = slice(0, 32)
    ds["surface_pressure"] = (DIMS, 1e5 + 500 * noise, {"units": "Pa"})
    cloud = np.clip(0.5 + noise, 0, 1)
    ds["total_cloud_cover"] = (DIMS, cloud, {"units": "1"})
    own = {"units": "1", "valid_min": np.float32(-2), "valid_max": 9e9}
    ds["tracer"] = (DIMS, np.maximum(noise, -2), own)
    store = run(ds)
    found = dict(zip(store.channels.labels, store.normalizer.transforms, strict=True))
    assert found["2m_temperature"].is_identity
    assert found["surface_pressure"].is_identity
    rain = found["precipitation_flux"]
    assert (rain.lower, rain.upper) == (0, None)
    deviation = float(ds["precipitation_flux"][training].values.std())
    assert rain.scale == pytest.approx(judging.BEND * deviation, rel=1e-4)
    assert (found["total_cloud_cover"].lower, found["total_cloud_cover"].upper) == (0, 1)
    assert found["total_cloud_cover"].scale == pytest.approx(cloud[training].std(), rel=1e-4)
    assert (found["tracer"].lower, found["tracer"].upper) == (-2, None)


def test_no_forecast_state_leaves_the_bounds(run, ds):
    store = run(ds)
    state = 30 * np.random.default_rng(3).normal(size=(4, 6, 2, 3, 5)).astype(np.float32)
    fields = store.normalizer.fields(state, store.times[:6])
    assert fields[:, :, 1].min() == 0


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values_are_refused_by_name_and_time(run, ds, tmp_path, value):
    ds["precipitation_flux"][57, 1, 1] = value
    with pytest.raises(InputError, match=r"precipitation_flux has infinite values.* index 57"):
        run(ds)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("frame", [5, 55])
def test_values_out_of_bounds_are_refused_by_name_in_all_periods(run, ds, frame):
    ds["precipitation_flux"][frame, 1, 1] = -0.01
    with pytest.raises(InputError, match=r"precipitation_flux: .*outside the bounds \[0"):
        run(ds)


def test_a_variable_that_is_constant_or_empty_is_refused_by_name(run, ds):
    ds["2m_temperature"][:] = 280.1
    with pytest.raises(InputError, match="2m_temperature is constant in the training period"):
        run(ds)
    ds["2m_temperature"][:] = np.nan
    with pytest.raises(InputError, match="2m_temperature has no data at all"):
        run(ds)


def test_dates_beyond_those_of_numpy_are_refused(run, ds):
    time = xr.date_range("3000-03-01", periods=FRAMES, freq="6h", use_cftime=True)
    with pytest.raises(InputError, match="between the years 1678 and 2262"):
        run(ds.assign_coords(time=time))


@pytest.mark.parametrize("step", ["1h", "9h", "3h", "10h"])
def test_a_step_that_is_no_multiple_of_that_of_the_data_is_refused(run, ds, step):
    with pytest.raises(ConfigError, match="not a multiple of the data's own step 6 h"):
        run(ds, step=step)


def test_a_multiple_of_the_step_is_that_of_the_statistics(run, ds):
    store = run(ds.isel(time=np.delete(np.arange(FRAMES), [7, 8, 30])), step="12h", frames=3)
    assert store.normalizer.step == 12 * 3600
    assert store.normalizer.tendency_std.shape == (3, 2)


@pytest.mark.parametrize(
    ("period", "error"),
    [
        (("2021-01-01", "2021-02-01"), InputError),
        (("2020-03-01", "2020-03-01"), InputError),
        (("2020-03-05", "2020-03-01"), ConfigError),
        (("yesterday", "2020-03-01"), ConfigError),
    ],
)
def test_a_training_period_without_enough_data_is_refused(run, ds, tmp_path, period, error):
    with pytest.raises(error):
        run(ds, training_period=period)
    assert not list(tmp_path.iterdir())


def test_a_training_period_beside_the_data_is_refused_before_anything_is_read(run, ds, monkeypatch):
    monkeypatch.setattr(module, "working_folder", None)
    words = r"holds none of the data's \d+ times, 2020-03-01T00:00:00 to 2020-"
    with pytest.raises(InputError, match=words):
        run(ds, training_period=("2021-01-01", "2021-02-01"))


def test_of_months_it_is_said_why_no_step_fits_and_what_makes_them_equal(run, ds):
    monthly = ds.isel(time=slice(24)).assign_coords(
        time=pd.date_range("2001-01-01", periods=24, freq="MS")
    )
    period = {"training_period": ("2001-01-01", "2002-12-30"), "step": "30D"}
    with pytest.raises(ConfigError, match=r"720 h .* own step 744 h; 10 of their 23 .*360_day"):
        run(monthly, **period)
    equal = monthly.convert_calendar("360_day", align_on="date")
    assert module.make_plan(equal, **period, frames=1).irregular == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"held_ou": [("2020-03-09", "2020-03-10")]}, "no setting held_ou; there are training_"),
        ({"fill": "zero"}, "fill is 'zero'; choose climatology"),
    ],
)
def test_settings_that_mean_nothing_are_refused(run, ds, tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        run(ds, **changes)
    assert not list(tmp_path.iterdir())


def test_a_variable_that_begins_after_the_training_period_is_named(run, ds):
    ds["precipitation_flux"][:40] = np.nan
    with pytest.raises(InputError, match=r"holds no data of precipitation_flux; choose"):
        run(ds)


def test_a_prepared_store_is_no_source(run, ds):
    store = run(ds)
    with pytest.raises(InputError, match=r"a field store that prepare has written, no source"):
        open_fields(store.path)


def test_what_is_not_canonical_is_refused(run, ds, tmp_path):
    with pytest.raises(InputError, match="latitude"):
        run(ds.isel(latitude=slice(None, None, -1)))
    with pytest.raises(UnitsError):
        run(ds.assign({"2m_temperature": ds["2m_temperature"].drop_attrs()}))
    with pytest.raises(InputError, match="time"):
        run(ds.isel(time=[0, 1, 1, 2]))
    with pytest.raises(InputError, match="depends on time"):
        run(ds[["orography"]])
    with pytest.raises(InputError, match="1 times"):
        run(ds.isel(time=[0]))
    assert not list(tmp_path.iterdir())


def test_an_existing_store_is_kept_unless_it_is_to_be_replaced(run, ds, tmp_path):
    run(ds)
    with pytest.raises(StorageError, match="exists already"):
        run(ds.isel(time=slice(40)))
    again = FieldStore.open(tmp_path / "fields.zarr")
    np.testing.assert_array_equal(again.read([3])[0, 0], ds["2m_temperature"][3])
    ds["2m_temperature"] += 1
    np.testing.assert_array_equal(run(ds, overwrite=True).read([3])[0, 0], ds["2m_temperature"][3])
    assert [p.name for p in tmp_path.iterdir()] == ["fields.zarr"]


@pytest.mark.parametrize("existing", [False, True])
def test_a_store_is_written_where_a_link_leads(run, ds, tmp_path, existing):
    (tmp_path / "larger").mkdir()
    (tmp_path / "fields.zarr").symlink_to(tmp_path / "larger" / "own.zarr")
    for _ in range(1 + existing):
        store = run(ds, overwrite=True)
    assert (tmp_path / "fields.zarr").is_symlink()
    assert [p.name for p in (tmp_path / "larger").iterdir()] == ["own.zarr"]
    np.testing.assert_array_equal(store.read([3])[0, 0], ds["2m_temperature"][3])


def test_a_file_that_is_replaced_while_it_is_read_is_refused(run, ds, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", 10 * 4 * 2 * 3 * 5)
    ds.to_netcdf(tmp_path / "own.nc")
    warmer = ds.assign({"2m_temperature": ds["2m_temperature"].copy(data=ds["2m_temperature"] + 1)})
    warmer.to_netcdf(tmp_path / "new.nc")

    def replaced(done, total):
        if done == 30:
            (tmp_path / "new.nc").replace(tmp_path / "own.nc")

    with pytest.raises(InputError, match=r"own\.nc was changed while it was read"):
        run(open_fields(tmp_path / "own.nc"), progress=replaced)
    assert not (tmp_path / "fields.zarr").exists()
    store = run(open_fields(tmp_path / "own.nc"))
    np.testing.assert_array_equal(store.read([3])[0, 0], warmer["2m_temperature"][3])


class BrokenError(Exception):
    """What only a broken source raises."""


def breaking(ds, at, reads):
    """Ten times a chunk; the chunk of number ``at[0]`` cannot be read."""

    def read(block, block_info=None):
        if block_info:
            number = block_info[0]["chunk-location"][0]
            if number == at[0]:
                raise BrokenError
            reads.append(number)
        return block

    chunked = dask.array.from_array(ds["2m_temperature"].values, chunks=(10, 3, 5), name="values")
    chunked = chunked.map_blocks(
        read, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32), name="broken"
    )
    return ds.assign({"2m_temperature": (DIMS, chunked, {"units": "K"})})


@pytest.mark.parametrize("existing", [False, True])
def test_a_source_that_breaks_half_way_leaves_what_was_there_and_is_gone_on_with(
    run, ds, tmp_path, monkeypatch, existing
):
    if existing:
        run(ds)
    monkeypatch.setattr(module, "BLOCK_BYTES", 10 * 4 * 2 * 3 * 5)
    at, reads, done = [4], [], []
    broken = breaking(ds, at, reads)
    with pytest.raises(BrokenError):
        run(broken, overwrite=True, progress=lambda n, _: done.append(n))
    assert done == [10, 20, 30, 40]
    names = {"fields.zarr"} if existing else set()
    assert {p.name for p in tmp_path.iterdir()} == {".fields.zarr.prepared.working"} | names
    if existing:
        assert FieldStore.open(tmp_path / "fields.zarr").read([59]).shape == (1, 2, 3, 5)
    else:
        with pytest.raises(MissingInputError, match="run prepare first"):
            FieldStore.open(tmp_path / "fields.zarr")
    at[0] = None
    reads.clear()
    store = run(broken, overwrite=existing)
    assert reads[1:] == [4, 5]  # the first, to see if it is plausible
    assert [p.name for p in tmp_path.iterdir()] == ["fields.zarr"]
    np.testing.assert_array_equal(store.read(np.arange(FRAMES)), store.channels.stack(ds))


def test_a_source_that_breaks_at_once_leaves_nothing(run, ds, tmp_path):
    with pytest.raises(BrokenError):
        run(breaking(ds, [3], []))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_a_storage_error_and_the_next_run_goes_on(run, ds, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "finish_store", full)
        with pytest.raises(StorageError, match="No space left") as caught:
            run(ds)
    assert caught.value.exit_code == 74
    assert not (tmp_path / "fields.zarr").exists()
    assert run(ds).shape == (FRAMES, 2, 3, 5)
    assert [p.name for p in tmp_path.iterdir()] == ["fields.zarr"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("3h", 10_800), ("30min", 1800), ("1D", 86_400), ("90s", 90)]
)
def test_time_steps_are_read(text, seconds):
    assert parse_step(text) == seconds


@pytest.mark.parametrize("text", ["", "3", "h", "0h", "-3h", "NaT", "1.5s", "three hours"])
def test_what_is_no_time_step_is_refused(text):
    with pytest.raises(ConfigError, match="Not a time step"):
        parse_step(text)
