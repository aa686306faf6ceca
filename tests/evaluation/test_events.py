from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from weatherdiff.errors import DimensionError, GridMismatchError, InputError, UnitsError
from weatherdiff.evaluation.events import Event, check_events
from weatherdiff.grid import Grid

LATITUDE, LONGITUDE = np.array([-10.0, 20.0]), np.array([0.0, 5.0, 10.0])
GRID = Grid(LATITUDE, LONGITUDE)


def field(values: np.ndarray, **leading: object) -> xr.DataArray:
    coords = {**leading, "latitude": LATITUDE, "longitude": LONGITUDE}
    return xr.DataArray(values, coords, tuple(coords), attrs={"units": "K"})


def times(*values: str) -> np.ndarray:
    return np.array(values, dtype="datetime64[ns]")


@pytest.fixture
def seasonal() -> xr.DataArray:
    """Thresholds that tell their own day, hour and cell."""
    day, hour = np.arange(1, 366.0), np.array([0.0, 6.5])
    cell = np.arange(6.0).reshape(2, 3) / 1000
    return field(
        day[:, None, None, None] + hour[:, None, None] / 100 + cell, dayofyear=day, hour=hour
    )


def test_a_fixed_threshold_is_the_same_everywhere_and_takes_no_memory():
    thresholds = Event("t", 300.0).thresholds(times("2020-01-01", "2020-07-01"), GRID)
    np.testing.assert_array_equal(thresholds, np.full((2, 2, 3), 300.0))
    assert thresholds.strides == (0, 0, 0)


def test_a_field_without_season_is_the_same_at_all_times():
    values = np.arange(6.0).reshape(2, 3)
    thresholds = Event("t", field(values), label="hot").thresholds(times("2020-01-01T03"), GRID)
    np.testing.assert_array_equal(thresholds, values[np.newaxis])


def test_seasonal_thresholds_are_those_of_the_day_of_year_and_hour_of_each_valid_time(seasonal):
    event = Event("t", seasonal, label="hot")
    valid = np.array([times("2021-01-02", "2020-12-31T06:30"), times("2021-03-01", "2021-01-02")])
    thresholds = event.thresholds(valid, GRID)
    assert thresholds.shape == (2, 2, 2, 3)
    cell = np.arange(6.0).reshape(2, 3) / 1000
    for place, expected in {(0, 0): 2, (0, 1): 365.065, (1, 0): 60, (1, 1): 2}.items():
        np.testing.assert_allclose(thresholds[place], expected + cell, rtol=1e-12)


def test_thresholds_do_not_depend_on_the_order_of_days_nor_on_laziness(seasonal):
    valid = times("2021-05-05", "2020-02-29T06:30", "2021-05-05")
    expected = Event("t", seasonal, label="hot").thresholds(valid, GRID)
    shuffled = seasonal.isel(dayofyear=np.random.default_rng(1).permutation(365), hour=[1, 0])
    for other in (shuffled, seasonal.chunk(dayofyear=50, latitude=1), seasonal.transpose()):
        np.testing.assert_array_equal(
            Event("t", other, label="hot").thresholds(valid, GRID), expected
        )


def test_thresholds_follow_the_latitude_order_of_the_forecasts(seasonal):
    event = Event("t", seasonal, label="hot")
    north_first = Grid(LATITUDE[::-1], LONGITUDE)
    valid = times("2021-05-05")
    np.testing.assert_array_equal(
        event.thresholds(valid, north_first), event.thresholds(valid, GRID)[:, ::-1]
    )


@pytest.mark.parametrize(
    "grid",
    [
        Grid(LATITUDE + 0.5, LONGITUDE),
        Grid(LATITUDE, LONGITUDE[:2]),
        Grid(LATITUDE, LONGITUDE + 360),
    ],
)
def test_thresholds_on_another_grid_are_refused(seasonal, grid):
    with pytest.raises(GridMismatchError, match="hot is on another grid"):
        Event("t", seasonal, label="hot").thresholds(times("2021-05-05"), grid)


def test_an_hour_or_a_season_without_thresholds_is_refused(seasonal):
    event = Event("t", seasonal, label="hot")
    with pytest.raises(InputError, match="no hour 3"):
        event.thresholds(times("2021-05-05T03"), GRID)
    summer = Event("t", seasonal.sel(dayofyear=slice(150, 240)), label="hot")
    with pytest.raises(InputError, match="no dayofyear 1, 300"):
        summer.thresholds(times("2021-06-30", "2021-01-01", "2021-10-27"), GRID)


def test_the_label_tells_the_event_unless_one_is_given():
    assert Event("t", 303.15).label == "t>303.15"
    assert Event("t", 303.15, above=False).label == "t<303.15"
    assert Event("t", 303.15, label="hot").label == "hot"
    with pytest.raises(InputError, match="needs a label"):
        Event("t", field(np.zeros((2, 3))))


def test_fields_that_cannot_be_thresholds_are_refused(seasonal):
    with pytest.raises(DimensionError, match="time"):
        Event("t", seasonal.rename(hour="time"), label="hot")
    with pytest.raises(DimensionError, match="no coordinate hour"):
        Event("t", seasonal.drop_vars("hour"), label="hot")
    with pytest.raises(DimensionError, match="latitude"):
        Event("t", seasonal.isel(latitude=0), label="hot")
    with pytest.raises(InputError, match="dayofyear of a threshold field is not within"):
        Event("t", seasonal.assign_coords(dayofyear=np.arange(365)), label="hot")
    with pytest.raises(InputError, match="holds a value twice"):
        Event("t", seasonal.isel(hour=[0, 0]), label="hot")
    with pytest.raises(InputError, match="nan"):
        Event("t", np.nan)


def test_events_must_be_about_what_is_scored_in_its_unit_and_differ(seasonal):
    hot = Event("t", seasonal, label="hot")
    check_events([hot, Event("u", 3.0, label="hot")], {"t": "K", "u": ""})
    check_events([hot], {"t": ""})
    with pytest.raises(InputError, match="not among what is scored: u, v"):
        check_events([hot], {"u": "K", "v": "K"})
    with pytest.raises(UnitsError, match=r"'K', t in 'degC'"):
        check_events([hot], {"t": "degC"})
    with pytest.raises(InputError, match="asked for twice"):
        check_events([hot, Event("t", 3.0, label="hot")], {"t": "K"})


def test_the_last_day_of_a_leap_year_has_the_thresholds_of_the_one_before(seasonal):
    event = Event("t", seasonal, label="hot")
    last, before = event.thresholds(times("2020-12-31", "2020-12-30"), GRID)
    np.testing.assert_array_equal(last, before)
    leap = pd.date_range("2020-02-28", "2020-03-01", freq="1D").to_numpy()
    np.testing.assert_array_equal(event.thresholds(leap, GRID)[:, 0, 0], [59, 60, 61])
