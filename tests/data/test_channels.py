"""A Dataset becomes an array with a channel axis and comes back identical."""

import json

import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.data.channels import Channels, channel_label
from weatherdiff.errors import DimensionError, InputError

SIZES = {"time": 3, "level": 4, "latitude": 2, "longitude": 5}
SINGLE = ("time", "latitude", "longitude")
LEVELLED = ("time", "level", "latitude", "longitude")


def field(dims, seed=0, **attrs):
    values = np.random.default_rng(seed).normal(size=[SIZES[d] for d in dims]).astype(np.float32)
    return xr.Variable(dims, values, attrs)


def coordinates(levels):
    return {
        "time": np.arange(3).astype("datetime64[D]").astype("datetime64[ns]"),
        "level": levels,
        "latitude": [10.0, 20.0],
        "longitude": np.arange(5.0),
    }


@pytest.fixture
def ds():
    fields = {
        "wind": field(LEVELLED, 1, units="m s**-1", long_name="wind"),
        "2m_temperature": field(SINGLE, 2, units="K", standard_name="air_temperature"),
        "height": field(LEVELLED, 3, units="m"),
    }
    return xr.Dataset(fields, coordinates([850, 500, 1000, 250]))


def test_a_dataset_comes_back_identical(ds):
    channels = Channels.from_dataset(ds)
    back = channels.unstack(channels.stack(ds))
    xr.testing.assert_identical(back, ds)
    assert list(back.data_vars) == list(ds.data_vars)
    assert back["level"].dtype == ds["level"].dtype


@settings(deadline=None, max_examples=30)
@given(
    st.permutations(["single", "levels", "other"]),
    st.lists(
        st.sampled_from([0.5, 1, 10, 70.5, 500, 850, 1000]), min_size=4, max_size=4, unique=True
    ),
)
def test_any_order_of_variables_and_levels_comes_back(order, levels):
    dims = {"single": SINGLE, "levels": LEVELLED, "other": LEVELLED}
    ds = xr.Dataset(
        {name: field(dims[name], i, units="1") for i, name in enumerate(order)}, coordinates(levels)
    )
    channels = Channels.from_dict(json.loads(json.dumps(Channels.from_dataset(ds).to_dict())))
    assert len(set(channels.labels)) == len(channels) == 9
    back = channels.unstack(channels.stack(ds))
    xr.testing.assert_identical(back, ds)
    assert list(back.data_vars) == order


def test_each_channel_holds_the_variable_and_level_that_its_label_says(ds):
    channels = Channels.from_dataset(ds)
    stacked = channels.stack(ds)
    assert stacked.dims == ("time", "channel", "latitude", "longitude")
    assert stacked.dtype == np.float32
    assert stacked["channel"].values.tolist() == list(channels.labels)
    for label, variable, level in zip(
        channels.labels, channels.variables, channels.levels, strict=True
    ):
        expected = ds[variable] if level is None else ds[variable].sel(level=level)
        assert label == channel_label(variable, level)
        np.testing.assert_array_equal(stacked.sel(channel=label), expected)


def test_units_and_names_are_given_back_and_other_attributes_are_not(ds):
    ds["wind"].attrs["history"] = "long"
    channels = Channels.from_dataset(ds)
    assert channels.units == ("m s**-1",) * 4 + ("K",) + ("m",) * 4
    back = channels.unstack(channels.stack(ds))
    assert back["wind"].attrs == {"units": "m s**-1", "long_name": "wind"}


def test_unknown_units_are_empty():
    assert Channels(("a",), (None,)).units == ("",)


def test_leading_dimensions_of_a_forecast_are_kept(ds):
    channels = Channels.from_dataset(ds)
    array = channels.stack(ds).rename(time="lead_time").expand_dims(init_time=2, number=3)
    back = channels.unstack(array.transpose("init_time", "lead_time", "number", ...))
    assert back["wind"].dims == (
        *("init_time", "lead_time", "number", "level", "latitude", "longitude"),
    )
    assert back["2m_temperature"].dims == (
        *("init_time", "lead_time", "number", "latitude", "longitude"),
    )
    expected = ds["height"].rename(time="lead_time")
    np.testing.assert_array_equal(back["height"].isel(init_time=1, number=2), expected)


def test_any_order_of_dimensions_is_read(ds):
    channels = Channels.from_dataset(ds)
    turned = ds.transpose("longitude", "latitude", "time", "level")
    np.testing.assert_array_equal(channels.stack(turned), channels.stack(ds))


def test_levels_are_found_by_value_in_another_order(ds):
    channels = Channels.from_dataset(ds)
    np.testing.assert_array_equal(channels.stack(ds.isel(level=[2, 0, 3, 1])), channels.stack(ds))


def test_chosen_variables_come_in_the_order_chosen(ds):
    channels = Channels.from_dataset(ds, ["height", "2m_temperature"])
    assert channels.labels == (
        *("height_850", "height_500", "height_1000", "height_250", "2m_temperature"),
    )


def test_static_fields_are_no_channels(ds):
    ds["orography"] = field(("latitude", "longitude"), 4)
    assert "orography" not in Channels.from_dataset(ds).variables
    with pytest.raises(InputError, match="No time-dependent variable orography"):
        Channels.from_dataset(ds, ["orography"])
    with pytest.raises(InputError, match="No variable of the data set depends on time"):
        Channels.from_dataset(ds[["orography"]])


def test_stacking_stays_lazy(ds):
    stacked = Channels.from_dataset(ds).stack(ds.chunk(time=1))
    assert isinstance(stacked.data, dask.array.Array)
    assert stacked.chunks[0] == (1, 1, 1)


def test_double_precision_becomes_single(ds):
    assert Channels.from_dataset(ds).stack(ds.astype("float64")).dtype == np.float32


def test_an_absent_variable_or_level_is_refused_by_name(ds):
    channels = Channels.from_dataset(ds)
    with pytest.raises(InputError, match="no height; they have wind, 2m_temperature"):
        channels.stack(ds.drop_vars("height"))
    with pytest.raises(InputError, match="no wind at level 500 hPa"):
        channels.stack(ds.sel(level=[850, 1000, 250]))


def test_levels_where_none_are_expected_are_refused(ds):
    single = Channels(("wind",), (None,))
    with pytest.raises(DimensionError, match="wind has levels"):
        single.stack(ds)
    with pytest.raises(InputError, match="level 500"):
        Channels(("2m_temperature",), (500.0,)).stack(ds)


def test_an_array_of_other_channels_is_refused(ds):
    channels = Channels.from_dataset(ds)
    stacked = channels.stack(ds)
    with pytest.raises(DimensionError, match="8 channels found, 9 expected"):
        channels.unstack(stacked.isel(channel=slice(8)))
    with pytest.raises(DimensionError, match="no channels found"):
        channels.unstack(stacked.rename(channel="band"))


def test_a_variable_that_is_named_as_a_level_of_another_is_refused(ds):
    label = channel_label("wind", float(ds["level"][0]))
    with pytest.raises(InputError, match=rf"{label} would be the name of two channels"):
        Channels.from_dataset(ds.assign({label: field(SINGLE, 4, units="m s**-1")}))
