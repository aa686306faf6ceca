"""Row 12 of the faults: grids are normalised exactly, or refused, and never cut to what agrees."""

import numpy as np
import pytest
import xarray as xr

from weatherdiff import open_fields
from weatherdiff.errors import GridMismatchError, InputError, WeatherdiffError


def fields():
    values = 280 + np.arange(4 * 5 * 8, dtype="f4").reshape(4, 5, 8) / 8
    return xr.Dataset(
        {"2m_temperature": (("time", "latitude", "longitude"), values, {"units": "K"})},
        {
            "time": np.datetime64("2001-01-01", "ns") + np.arange(4) * np.timedelta64(6, "h"),
            "latitude": np.linspace(-60, 60, 5),
            "longitude": np.arange(8) * 45.0,
        },
    )


def moved(dim, by):
    return lambda ds: ds.assign_coords({dim: ds[dim] + by})


SAME = {
    "flipped": lambda ds: ds.isel(latitude=slice(None, None, -1)),
    "rolled": lambda ds: ds.roll(longitude=3, roll_coords=True),
    "from -180": lambda ds: ds.assign_coords(longitude=(ds.longitude + 180) % 360 - 180).sortby(
        "longitude"
    ),
    "flipped and rolled": lambda ds: ds.isel(latitude=slice(None, None, -1)).roll(
        longitude=5, roll_coords=True
    ),
    "eastward turned westward": lambda ds: ds.isel(longitude=slice(None, None, -1)),
    "transposed": lambda ds: ds.transpose("longitude", "latitude", "time"),
    "a turn further": moved("longitude", 360.0),
    "jitter of latitude": moved("latitude", 1e-7),
    "jitter of longitude": moved("longitude", 1e-7),
    "float32": lambda ds: ds.assign_coords(latitude=ds.latitude.astype("f4")),
}
OTHER = {
    "half a cell north": moved("latitude", 15.0),
    "half a cell east": moved("longitude", 22.5),
    "a thousandth of a degree": moved("longitude", 1e-3),
    "a row less": lambda ds: ds.isel(latitude=slice(1, None)),
    "a column less": lambda ds: ds.isel(longitude=slice(0, 7)),
    "every other column": lambda ds: ds.isel(longitude=slice(0, None, 2)),
    "one latitude wrong": lambda ds: ds.assign_coords(latitude=[-60, -30, 1, 30, 60]),
    "shuffled rows": lambda ds: ds.assign_coords(latitude=[-60.0, 0.0, -30.0, 30.0, 61.0]),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
@pytest.mark.parametrize("first", [True, False])
def test_the_same_cells_in_another_form_give_exactly_the_same_fields(tmp_path, change, first):
    ds = fields()
    early, late = ds.isel(time=slice(0, 2)), ds.isel(time=slice(2, 4))
    parts = (change(early), late) if first else (early, change(late))
    for name, part in zip("ab", parts, strict=True):
        part.to_netcdf(tmp_path / f"{name}.nc")
    result = open_fields(f"{tmp_path}/*.nc").load()
    assert result.sizes == ds.sizes
    np.testing.assert_array_equal(result["2m_temperature"], ds["2m_temperature"])
    for dim in ("latitude", "longitude"):
        np.testing.assert_allclose(result[dim], ds[dim], rtol=0, atol=2e-7)


def test_jitter_across_the_seam_loses_no_column(tmp_path):
    """The column at -1e-7 is the last of one file and the first of the other."""
    ds = fields()
    moved("longitude", -1e-7)(ds.isel(time=slice(0, 2))).to_netcdf(tmp_path / "a.nc")
    assert open_fields(tmp_path / "a.nc").sizes["longitude"] == 8
    ds.isel(time=slice(2, 4)).to_netcdf(tmp_path / "b.nc")
    with pytest.raises(GridMismatchError, match=r"a\.nc and .*b\.nc: longitude differs"):
        open_fields(f"{tmp_path}/*.nc")


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
@pytest.mark.parametrize("along", ["time", "variable"])
def test_other_cells_are_refused_and_both_files_named(tmp_path, change, along):
    ds = fields()
    other = ds.rename({"2m_temperature": "skin_temperature"})
    if along == "time":
        ds, other = ds.isel(time=slice(0, 2)), ds.isel(time=slice(2, 4))
    ds.to_netcdf(tmp_path / "a.nc")
    change(other).to_netcdf(tmp_path / "b.nc")
    with pytest.raises(GridMismatchError, match=r"a\.nc and .*b\.nc: (latitude|longitude) differ"):
        open_fields(f"{tmp_path}/*.nc")


@pytest.mark.parametrize(
    "change",
    [
        moved("level", 1e-7),
        moved("level", -1e-4),
        lambda ds: ds.isel(level=slice(0, 1)),
    ],
)
def test_levels_that_differ_a_little_lose_no_field(tmp_path, change):
    ds = fields().expand_dims(level=[850.0, 500.0]).rename({"2m_temperature": "temperature"})
    ds["level"].attrs["units"] = "hPa"
    ds.isel(time=slice(0, 2)).to_netcdf(tmp_path / "a.nc")
    other = ds.isel(time=slice(2, 4))
    other = change(other)
    other["level"].attrs["units"] = "hPa"
    other.to_netcdf(tmp_path / "b.nc")
    with pytest.raises(InputError, match="cannot be joined along level"):
        open_fields(f"{tmp_path}/*.nc")


def test_two_levels_that_are_almost_one_are_refused(tmp_path):
    ds = fields().expand_dims(level=[850.0]).rename({"2m_temperature": "temperature"})
    for name, level in (("a", 850.0), ("b", 850.0 + 1e-7)):
        part = ds.assign_coords(level=("level", [level], {"units": "hPa"}))
        part.to_netcdf(tmp_path / f"{name}.nc")
    with pytest.raises(InputError, match="850 and 850 hPa are almost the same level"):
        open_fields(f"{tmp_path}/*.nc")


@pytest.mark.parametrize(
    ("dim", "values"),
    [
        ("latitude", [-60, -30, np.nan, 30, 60]),
        ("latitude", [-60, -30, -30, 30, 60]),
        ("latitude", [-60, -30, 0, 30, 95]),
        ("longitude", [0, 45, 90, 135, 180, 225, 270, 360]),
        ("longitude", [0, 45, 90, 135, 180, np.inf, 270, 315]),
    ],
)
def test_coordinates_of_no_grid_are_refused(tmp_path, dim, values):
    fields().assign_coords({dim: np.array(values, float)}).to_netcdf(tmp_path / "a.nc")
    with pytest.raises(WeatherdiffError, match=r"a\.nc") as caught:
        open_fields(tmp_path / "a.nc")
    assert caught.value.exit_code == 65
