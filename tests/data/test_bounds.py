"""The range of valid values of packed data, against netCDF4-python's own mask."""

import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from weatherdiff import open_fields
from weatherdiff.data.ensembles import open_ensembles
from weatherdiff.data.prepare import prepare
from weatherdiff.errors import InputError

CODES = np.arange(-100, 100, dtype="i2")
DIMS = ("time", "latitude", "longitude")


def write(path, codes, *, dims=DIMS, **attributes):
    """A NetCDF of codes as they are, (time, 10 latitudes, 10 longitudes)."""
    with netCDF4.Dataset(path, "w") as file:
        for dim, size in zip(dims, (codes.size // 100, 10, 10), strict=True):
            file.createDimension(dim, size)
            coordinate = file.createVariable(dim, "f8", (dim,))
            coordinate[:] = np.arange(size) + (40 if dim == "latitude" else 0)
        file["time"].units = "hours since 2020-01-01"
        fill = attributes.pop("_FillValue", False)
        variable = file.createVariable("tracer", codes.dtype, dims, fill_value=fill)
        variable.set_auto_maskandscale(False)
        variable.setncatts({"units": "1", **attributes})
        variable[:] = codes.reshape(variable.shape)
    return path


def masked(path):
    with netCDF4.Dataset(path) as file:
        return np.ma.getmaskarray(file["tracer"][:])


def outside(ds):
    """Which values are missing, or out of the bounds."""
    bounds = ds["tracer"].attrs
    assert "valid_range" not in bounds
    values = ds["tracer"].values
    low, high = bounds.get("valid_min", -np.inf), bounds.get("valid_max", np.inf)
    return ~((values >= low) & (values <= high))


def as_zarr(path, zarr_format):
    """The same, stored in a Zarr, whose attributes are JSON."""
    with xr.open_dataset(path, mask_and_scale=False, decode_times=False) as raw:
        folder = path.with_suffix(f".zarr{zarr_format}")
        raw.to_zarr(folder, zarr_format=zarr_format, consolidated=False, mode="w")
    return folder


RANGES = {
    "a range": {"valid_range": np.array([-20, 30], "i2")},
    "a lower bound": {"valid_min": np.int16(-7)},
    "an upper bound": {"valid_max": np.int16(41)},
    "all three, of which the range counts": {
        "valid_range": np.array([-20, 30], "i2"), "valid_min": np.int16(-99),
    },
}  # fmt: skip
PACKINGS = {
    "float32": {"scale_factor": np.float32(0.1), "add_offset": np.float32(273.15)},
    "float64": {"scale_factor": 0.01, "add_offset": -3.3},
    "only a scale": {"scale_factor": np.float32(1e-5)},
    "only an offset": {"add_offset": 1000.1},
    "a scale below zero, and a fill value": {
        "scale_factor": -0.3, "add_offset": 5.0, "_FillValue": np.int16(-99),
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("bounds", "packing"), [(list(RANGES)[n % len(RANGES)], p) for n, p in enumerate(PACKINGS)]
)
def test_packed_bounds_are_those_netcdf4_masks_by(tmp_path, bounds, packing):
    path = write(tmp_path / "a.nc", CODES, **RANGES[bounds], **PACKINGS[packing])
    expected = masked(path)
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(outside(open_fields(path)), expected)
    with xr.open_dataset(path) as ds:  # decoded by somebody else
        np.testing.assert_array_equal(outside(open_fields(ds)), expected)
    opened = open_fields(as_zarr(path, 2 + len(packing) % 2))
    np.testing.assert_array_equal(outside(opened), expected)


def test_bounds_are_packed_where_the_values_are(tmp_path):
    path = write(tmp_path / "a.nc", CODES, **RANGES["a range"], **PACKINGS["float64"])
    raw = {"mask_and_scale": False}
    with xr.open_dataset(path, **raw) as ds:
        np.testing.assert_array_equal(outside(open_fields(ds)), masked(path))
    with xr.open_zarr(as_zarr(path, 3), consolidated=False, **raw) as ds:
        np.testing.assert_array_equal(outside(open_fields(ds)), masked(path))


@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # each writes a file: as it is found will do
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    dtype=st.sampled_from(["i1", "u1", "i2", "u2", "i4"]),
    unsigned=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([np.float32(0.01), 0.01, -0.01, np.float32(-2.5), 3.0]),
    offset=st.sampled_from([None, np.float32(0.5), 0.5, -17.3]),
    fill=st.booleans(),
)
def test_any_integer_is_bounded_as_by_netcdf4(tmp_path, dtype, unsigned, seed, scale, offset, fill):
    rng = np.random.default_rng(seed)
    limits = np.iinfo(dtype)
    lowest = 0 if dtype == "i4" else max(limits.min, -30_000)  # float32 tells no more apart
    near = rng.integers(lowest, min(limits.max, 30_000), 3, endpoint=True)
    codes = np.clip(near[:, None] + np.arange(-17, 17), limits.min, limits.max)[:, :100]
    codes = np.resize(codes, 200).astype(dtype)
    attributes = {"scale_factor": scale}
    if offset is not None:
        attributes["add_offset"] = offset
    order = near.astype(dtype)
    unsigned &= np.dtype(dtype).kind == "i"
    if fill or unsigned:  # netCDF4-python's own default for these is an error of its
        attributes["_FillValue"] = codes[codes >= 0][0] if (codes >= 0).any() else codes[7]
    if unsigned:
        attributes["_Unsigned"] = "true"
        order = order.view(f"u{dtype[1]}")
    attributes["valid_range"] = np.sort(order)[[0, 2]].astype(order.dtype).view(dtype)
    path = write(tmp_path / "a.nc", codes, **attributes)
    np.testing.assert_array_equal(outside(open_fields(path)), masked(path))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_bounds_of_floats_are_those_of_the_values(tmp_path, dtype):
    own = {"valid_min": np.array(-5, dtype), "valid_max": np.array(7.5, dtype)}
    for packing in ({}, {"scale_factor": np.float32(0.1)}):
        codes = CODES if packing else CODES.astype(dtype)
        found = open_fields(write(tmp_path / "a.nc", codes, **own, **packing))["tracer"].attrs
        assert (found["valid_min"], found["valid_max"]) == (-5, 7.5)


def test_a_bound_that_cannot_be_stored_is_none(tmp_path):
    path = write(tmp_path / "a.nc", CODES, valid_max=np.int32(40_000), scale_factor=0.5)
    with pytest.warns(UserWarning, match="valid_max not used"):
        assert not masked(path).any()
    assert open_fields(path)["tracer"].attrs == {"units": "1"}


def test_files_that_are_packed_differently_have_the_widest_bounds_of_them(tmp_path):
    for number, scale in enumerate((0.1, 0.5, 0.2, 0.3)):
        bounds = {} if number == 3 else {"valid_range": np.array([-50, 60], "i2")}
        path = write(tmp_path / f"{number}.nc", CODES, **bounds, scale_factor=scale)
        with netCDF4.Dataset(path, "a") as file:
            file["time"][:] = number * 10 + np.arange(2)
    files = [tmp_path / f"{number}.nc" for number in range(4)]
    found = open_fields(files[:3])["tracer"].attrs
    assert (found["valid_min"], found["valid_max"]) == (-25, 30)
    assert open_fields(files)["tracer"].attrs == {"units": "1"}  # the last knows none


def test_a_store_of_packed_data_within_their_own_bounds_is_prepared(tmp_path):
    times = 40
    codes = np.random.default_rng(0).integers(-100, 100, times * 100).astype("i2")
    codes[:2] = -100, 100
    bounds = {"valid_range": np.array([-100, 100], "i2")}
    packing = {"scale_factor": np.float32(0.1), "add_offset": np.float32(273.15)}
    path = write(tmp_path / "a.nc", codes, **bounds, **packing)
    period = ("2020-01-01", "2020-01-02T15")
    chosen = {"training_period": period, "step": "1h", "frames": 2}
    store = prepare(open_fields(path), tmp_path / "a.zarr", **chosen)
    transform = store.normalizer.transforms[0]
    with xr.open_dataset(path) as ds:
        lowest, highest = float(ds["tracer"].min()), float(ds["tracer"].max())
    assert (transform.lower, transform.upper) == (lowest, highest)
    codes[1234] = 105
    path = write(tmp_path / "b.nc", codes, **bounds, **packing)
    with pytest.raises(InputError, match=r"tracer: .*outside the bounds"):
        prepare(open_fields(path), tmp_path / "b.zarr", **chosen)


def test_bounds_of_forecasts_are_unpacked_too(tmp_path):
    path = write(tmp_path / "a.nc", CODES, valid_max=np.int16(50), scale_factor=0.5)
    with xr.open_dataset(path) as ds:
        ds = ds.expand_dims(lead_time=np.array([6], "timedelta64[h]").astype("m8[ns]"))
        ds = ds.rename(time="init_time").load()
        ds["tracer"].encoding = {"dtype": np.dtype("i2"), "scale_factor": 0.5}
        assert open_ensembles(ds)["tracer"].attrs["valid_max"] == 25
