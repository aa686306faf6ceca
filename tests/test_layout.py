import json

import numpy as np
import pytest
import xarray as xr

from weatherdiff.errors import DimensionError, GridMismatchError, UnitsError
from weatherdiff.layout import Layout, canonical_layout


def canonical(longitude=(0.0, 90.0, 180.0, 270.0)):
    """Temperature at the surface and on levels, each value its own."""
    shape = (2, 3, 3, len(longitude))
    values = np.random.default_rng(0).uniform(250, 300, shape).round(2)
    coords = {
        "time": np.array(["2001-01-01", "2001-01-02"], "datetime64[ns]"),
        "level": ("level", [850.0, 500.0, 300.0], {"units": "hPa"}),
        "latitude": [-45.0, 0.0, 45.0],
        "longitude": list(longitude),
    }
    ds = xr.Dataset(
        {
            "temperature": (("time", "level", "latitude", "longitude"), values),
            "2m_temperature": (("time", "latitude", "longitude"), values[:, 0]),
        },
        coords,
    )
    ds = ds.astype("float32")
    for name in ds.data_vars:
        ds[name].attrs["units"] = "K"
    return ds


def western(ds):
    return ds.assign_coords(longitude=(ds.longitude + 180) % 360 - 180).sortby("longitude")


CONVENTIONS = {
    "canonical": lambda ds: ds,
    "north to south": lambda ds: ds.isel(latitude=slice(None, None, -1)),
    "east to west": lambda ds: ds.isel(longitude=slice(None, None, -1)),
    "-180 to 180": western,
    "starting elsewhere": lambda ds: ds.roll(longitude=1, roll_coords=True),
    "longitude first": lambda ds: ds.transpose("longitude", "latitude", "level", "time"),
    "other names": lambda ds: ds.rename(
        latitude="lat", longitude="lon", temperature="t", level="plev"
    ),
    "float32 coordinates": lambda ds: ds.assign_coords(
        latitude=ds.latitude.astype("f4"), longitude=ds.longitude.astype("f4")
    ),
    "all at once": lambda ds: (
        western(ds)
        .rename({"latitude": "lat", "longitude": "lon", "2m_temperature": "Tair"})
        .isel(lat=slice(None, None, -1))
        .transpose("lon", "time", ...)
    ),
}


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS)
def test_every_convention_gives_the_same_canonical_dataset_and_can_be_given_back(convention):
    expected = canonical()
    theirs = convention(expected)
    result, layout = canonical_layout(theirs)
    xr.testing.assert_equal(result, expected)
    assert [v.dims for v in result.values()] == [v.dims for v in expected.values()]

    given_back = layout.restore(result)
    xr.testing.assert_equal(given_back, theirs)
    for name, field in theirs.variables.items():
        assert given_back[name].dims == field.dims
        assert given_back[name].dtype == field.dtype


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ((350.0, 355.0, 0.0, 5.0), (-10.0, -5.0, 0.0, 5.0)),
        ((0.0, 5.0, 350.0, 355.0), (-10.0, -5.0, 0.0, 5.0)),
        ((-9.75, -9.25, -8.75, -8.25), (-9.75, -9.25, -8.75, -8.25)),
    ],
)
def test_a_region_across_greenwich_is_made_contiguous_and_given_back_as_it_was(theirs, ours):
    ds = canonical(theirs)
    result, layout = canonical_layout(ds)
    np.testing.assert_array_equal(result.longitude, ours)
    turned = result.assign_coords(longitude=np.mod(result.longitude, 360))
    xr.testing.assert_equal(
        turned, ds.assign_coords(longitude=np.mod(theirs, 360)).sel(turned.coords)
    )
    xr.testing.assert_equal(layout.restore(result), ds)


def test_coordinates_that_decimals_cannot_write_come_back_bit_for_bit():
    longitude = np.arange(-180, 180, 360 / 7) + 1 / 3
    ds = canonical(tuple(longitude))
    result, layout = canonical_layout(ds)
    eastern, _ = canonical_layout(
        ds.assign_coords(longitude=ds.longitude % 360).sortby("longitude")
    )
    xr.testing.assert_equal(result, eastern)
    again = Layout.from_dict(json.loads(json.dumps(layout.to_dict())))
    assert again == layout
    np.testing.assert_array_equal(again.restore(result).longitude, longitude)


def test_units_are_converted_and_given_back():
    ds = canonical()
    ds["2m_temperature"] = (ds["2m_temperature"] - 273.15).assign_attrs(units="degC")
    ds["level"] = ("level", [85000.0, 50000.0, 30000.0], {"units": "Pa"})
    result, layout = canonical_layout(ds)
    np.testing.assert_allclose(result["2m_temperature"], canonical()["2m_temperature"], rtol=2e-7)
    np.testing.assert_array_equal(result["level"], [850, 500, 300])
    given_back = layout.restore(result)
    np.testing.assert_allclose(given_back["2m_temperature"], ds["2m_temperature"], atol=5e-5)
    np.testing.assert_array_equal(given_back["level"], [85000, 50000, 30000])
    assert given_back["2m_temperature"].attrs["units"] == "degC"
    assert given_back["level"].attrs["units"] == "Pa"


def test_a_forecast_is_given_back_in_the_users_names_and_order():
    theirs = CONVENTIONS["all at once"](canonical())[["Tair"]]
    ours, layout = canonical_layout(theirs)
    forecast = ours.rename(time="init_time").expand_dims(lead_time=3, number=5)
    forecast = forecast.transpose("init_time", "lead_time", "number", ...)
    given_back = layout.restore(forecast)
    assert given_back["Tair"].dims == ("init_time", "lead_time", "number", "lon", "lat")
    xr.testing.assert_equal(
        given_back["Tair"].isel(lead_time=1, number=2).rename(init_time="time"),
        theirs["Tair"].transpose("time", ...),
    )


def test_names_and_units_given_by_the_user_are_taken():
    ds = canonical()[["2m_temperature"]].rename({"2m_temperature": "hut"}).drop_attrs()
    ds = ds - 273.15
    result, layout = canonical_layout(ds, rename={"hut": "2m_temperature"}, units={"hut": "degC"})
    np.testing.assert_allclose(result["2m_temperature"], canonical()["2m_temperature"], rtol=2e-7)
    assert layout.names == {"2m_temperature": "hut"}


def test_work_stays_lazy():
    ds = CONVENTIONS["all at once"](canonical()).chunk()
    result, layout = canonical_layout(ds)
    assert all(field.chunks for field in result.values())
    assert all(field.chunks for field in layout.restore(result).values())


def test_output_on_another_grid_or_without_units_is_not_given_back():
    result, layout = canonical_layout(canonical())
    with pytest.raises(GridMismatchError, match="longitude differs") as caught:
        layout.restore(result.isel(longitude=slice(0, 3)))
    assert caught.value.exit_code == 65
    with pytest.raises(UnitsError, match="has no units"):
        layout.restore(result.drop_attrs())


def test_a_dataset_without_latitude_is_refused():
    with pytest.raises(DimensionError, match="no coordinate latitude"):
        canonical_layout(canonical().rename(latitude="row"))
