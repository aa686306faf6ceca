"""The embedded sample is what its source was, to the stated precision."""

import hashlib
import runpy
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

from weatherdiff.data.samples import PRECISION, SAMPLES, open_sample, sample_path
from weatherdiff.errors import ConfigError

SHA256 = "f5efdbb4d5b6d93355f7a6b3fd439662f3e7064137d9e08718f324dc8bdbc84c"
# Minimum, maximum and mean of the source's float32 values over land, in float64.
SOURCE = {
    "Tair": (275.25579833984375, 310.11273193359375, 289.33351152877697),
    "Qair": (0.004089166410267353, 0.01691279374063015, 0.008629598846207745),
    "PSurf": (92628.546875, 103124.6015625, 100240.32510150816),
    "SWdown": (0.0, 923.1461181640625, 230.65045156094024),
}
UNITS = {"Tair": "K", "Qair": "kg kg-1", "PSurf": "Pa", "SWdown": "W m-2"}
PACK = Path(__file__).parents[2] / "scripts" / "pack_sample.py"


@pytest.fixture(scope="module")
def uk():
    with open_sample("uk-2018") as ds:
        yield ds


@pytest.fixture(scope="module")
def pack():
    return runpy.run_path(str(PACK))["pack"]


def synthetic(rng, shape=(5, 3, 4)):
    low_high = {"Tair": (275, 310), "Qair": (0, 0.02), "PSurf": (92e3, 103e3), "SWdown": (0, 950)}
    fields = {
        name: (("time", "lat", "lon"), rng.uniform(*ends, shape).astype("float32"), {"units": "1"})
        for name, ends in low_high.items()
    }
    ds = xr.Dataset(fields, attrs={"licence": "someone's", "history": "cut"})
    ds["SWdown"][0] = 0.0
    return ds.where(xr.DataArray(rng.random(shape[1:]) < 0.7, dims=("lat", "lon")))


def test_the_file_is_the_one_that_was_packed():
    assert hashlib.sha256(sample_path("uk-2018").read_bytes()).hexdigest() == SHA256


def test_the_sample_is_small_enough_to_ship():
    assert sample_path("uk-2018").stat().st_size < 2 * 2**20


@pytest.mark.parametrize("name", list(SOURCE))
def test_the_range_and_mean_are_those_of_the_source(uk, name):
    low, high, mean = SOURCE[name]
    values = uk[name].values.astype("float64")
    bound = PRECISION[name] + np.spacing(np.float32(high))
    assert abs(np.nanmin(values) - low) <= bound
    assert abs(np.nanmax(values) - high) <= bound
    # Independent rounding errors: the mean of n is off by about quantum / sqrt(12 n).
    assert abs(np.nanmean(values) - mean) < 5 * PRECISION[name] / np.sqrt(3 * 402_600)


@pytest.mark.parametrize("name", list(SOURCE))
def test_the_packing_step_is_twice_the_stated_precision(uk, name):
    assert uk[name].encoding["scale_factor"] == np.float32(2 * PRECISION[name])
    assert uk[name].encoding["dtype"] == np.int16


def test_the_raw_names_units_grid_and_times_are_the_users(uk):
    assert {name: uk[name].attrs["units"] for name in uk} == UNITS
    assert all(uk[name].attrs["standard_name"] for name in uk)
    assert all(uk[name].dims == ("time", "lat", "lon") for name in uk)
    assert all(uk[name].dtype == np.float32 for name in uk)
    np.testing.assert_array_equal(uk["lat"], np.arange(49.25, 60, 0.5))
    np.testing.assert_array_equal(uk["lon"], np.arange(-9.75, 4, 0.5))
    hours = np.arange("2018-06-01", "2018-08-01", dtype="datetime64[h]")
    np.testing.assert_array_equal(uk["time"], hours)


def test_sea_is_missing_at_every_time_and_in_every_variable(uk):
    land = uk["Tair"].isel(time=0).notnull()
    assert int(land.sum()) == 275
    for name in uk:
        assert bool((uk[name].notnull() == land).all())


def test_the_night_has_exactly_no_sun(uk):
    midnight = uk["SWdown"].isel(time=uk["time"].dt.hour == 0)
    assert float(midnight.max()) == 0.0
    assert int((uk["SWdown"] == 0).sum()) >= 109_293  # as many zeros as in the source


def test_opening_reads_no_field(uk):
    assert all(uk[name].chunks is not None for name in uk)


def test_licence_credit_and_origin_travel_with_the_file(uk):
    assert "Licence to Use Copernicus Products" in uk.attrs["licence"]
    assert "Cucchi" in uk.attrs["reference"]
    assert "B-Open" in uk.attrs["comment"]
    assert "pyrealm==1.0.0" in uk.attrs["history"]
    credit = (sample_path("uk-2018").parent / "LICENSE.md").read_text()
    assert "Contains modified Copernicus Climate Change Service information 2018" in credit
    assert sample_path("uk-2018").name in credit


def test_every_sample_is_there():
    assert all(sample_path(name).is_file() for name in SAMPLES)


def test_an_unknown_sample_is_refused_with_the_known_names():
    with pytest.raises(ConfigError, match=r"'uk-2019'.*uk-2018") as caught:
        sample_path("uk-2019")
    assert caught.value.exit_code == 78
    with pytest.raises(ConfigError):
        open_sample("uk")


def test_packing_loses_no_more_than_the_precision(pack, tmp_path):
    ds = synthetic(np.random.default_rng(3))
    pack(ds, tmp_path / "packed.nc")
    with xr.open_dataset(tmp_path / "packed.nc", engine="netcdf4") as packed:
        for name in PRECISION:
            error = np.abs(packed[name].astype("float64") - ds[name].astype("float64"))
            bound = PRECISION[name] + np.spacing(np.float32(np.nanmax(ds[name])))
            assert float(error.max()) <= bound
            assert float(error.max()) > 0.5 * PRECISION[name]  # and no less: nothing wasted
            np.testing.assert_array_equal(packed[name].isnull(), ds[name].isnull())
            assert packed[name].attrs["units"] == "1"
        assert float(np.abs(packed["SWdown"][0]).max()) == 0.0
        assert packed.attrs["licence"] == "someone's"
        assert packed.attrs["history"].startswith("cut\n")


def test_packing_twice_gives_the_same_bytes(pack, tmp_path):
    ds = synthetic(np.random.default_rng(4))
    pack(ds, tmp_path / "one.nc")
    pack(ds, tmp_path / "two.nc")
    assert (tmp_path / "one.nc").read_bytes() == (tmp_path / "two.nc").read_bytes()


def test_packing_refuses_what_does_not_fit_in_16_bits(pack, tmp_path):
    ds = synthetic(np.random.default_rng(5))
    ds["Tair"] = ds["Tair"] * 10
    with pytest.raises(SystemExit, match="Tair reaches"):
        pack(ds, tmp_path / "packed.nc")


def test_missing_values_are_stored_as_the_fill_value():
    with netCDF4.Dataset(sample_path("uk-2018")) as raw:
        raw.set_auto_maskandscale(False)
        assert (raw["Tair"][0] == raw["Tair"]._FillValue).sum() == 341
