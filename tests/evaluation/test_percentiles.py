from __future__ import annotations

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from weatherdiff.errors import DimensionError, InputError
from weatherdiff.evaluation import percentiles
from weatherdiff.evaluation.percentiles import (
    climatological_percentile,
    percentile_events,
    percentiles_of,
)
from weatherdiff.grid import Grid

CELLS = {"latitude": [-5.0, 10.0, 40.0], "longitude": [0.0, 7.0]}


def record(start: str, end: str, step: str, seed: int = 0) -> xr.Dataset:
    time = pd.date_range(start, end, freq=step).to_numpy().astype("datetime64[ns]")
    values = np.random.default_rng(seed).normal(size=(time.size, 3, 2)).astype(np.float32)
    dims = ("time", "latitude", "longitude")
    return xr.Dataset({"t": (dims, values, {"units": "K"})}, {"time": time, **CELLS})


def by_brute_force(field: xr.DataArray, percentile: float, day: int, hour: int, window: int):
    """Every training value whose date, in a year of 365 days, lies within the window."""
    chosen = []
    for time in pd.DatetimeIndex(field["time"].values):
        apart = abs(min(time.day_of_year, 365) - day)
        if time.hour == hour and min(apart, 365 - apart) <= window:
            chosen.append(field.sel(time=time).values)
    return np.percentile(np.array(chosen, np.float64), percentile, axis=0)


@pytest.mark.parametrize(("day", "hour"), [(1, 0), (60, 12), (200, 12), (365, 0)])
def test_percentiles_are_those_of_the_season_and_hour_of_all_training_years(day, hour):
    analyses = record("2001-01-01", "2004-12-31 12:00", "12h")
    thresholds = climatological_percentile(analyses, 80, period=("2001", "2003"), window=9)
    assert thresholds["t"].dims == ("dayofyear", "hour", "latitude", "longitude")
    assert thresholds["t"].attrs == {"units": "K"}
    assert thresholds["t"].dtype == np.float32
    expected = by_brute_force(analyses["t"].sel(time=slice("2001", "2003")), 80, day, hour, 9)
    ours = thresholds["t"].sel(dayofyear=day, hour=hour)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_percentiles_do_not_see_what_lies_outside_the_training_period():
    analyses = record("2001-01-01", "2002-12-31", "1D")
    spoiled = analyses.where(analyses["time"] < np.datetime64("2002"), 1e9)
    first, second = (
        climatological_percentile(ds, 90, period=("2001", "2001")).compute()
        for ds in (analyses, spoiled)
    )
    xr.testing.assert_identical(first, second)


def test_a_record_shorter_than_a_year_has_no_season():
    analyses = record("2018-06-01", "2018-07-15", "6h")
    thresholds = climatological_percentile(analyses, [10, 90], period=("2018-06-01", "2018-06-30"))
    assert thresholds["t"].dims == ("percentile", "hour", "latitude", "longitude")
    june = analyses["t"].sel(time=slice("2018-06-01", "2018-06-30"))
    for hour in (0, 6, 12, 18):
        expected = np.percentile(june[june["time"].dt.hour == hour], [10, 90], axis=0)
        np.testing.assert_allclose(thresholds["t"].sel(hour=hour), expected, rtol=1e-5)


def test_missing_values_are_left_out_and_cells_without_any_are_nan():
    analyses = record("2018-06-01", "2018-06-20", "1D")
    analyses["t"][:, 0, 1] = np.nan
    analyses["t"][:7, 2, 0] = np.nan
    thresholds = climatological_percentile(analyses, 30, period=("2018", "2018"))["t"].isel(hour=0)
    assert np.isnan(thresholds[0, 1])
    assert float(thresholds[2, 0]) == pytest.approx(np.percentile(analyses["t"][7:, 2, 0], 30))
    assert thresholds.isnull().sum() == 1


def test_days_of_the_year_without_training_days_nearby_are_absent_and_refused_as_events():
    analyses = record("2001-01-01", "2003-12-31", "1D")
    summers = analyses.sel(time=analyses["time"].dt.month.isin([6, 7, 8]))
    thresholds = climatological_percentile(summers, 50, period=("2001", "2003"), window=5).compute()
    np.testing.assert_array_equal(thresholds["dayofyear"], np.arange(152 - 5, 243 + 5 + 1))
    (event,) = percentile_events(thresholds)
    grid = Grid(np.array(CELLS["latitude"]), np.array(CELLS["longitude"]))
    assert event.thresholds(np.array(["2004-07-01"], "datetime64[ns]"), grid).shape == (1, 3, 2)
    with pytest.raises(InputError, match="dayofyear 1"):
        event.thresholds(np.array(["2004-01-01"], "datetime64[ns]"), grid)


def test_the_result_does_not_depend_on_tiles_nor_on_the_chunks_of_the_record(monkeypatch):
    analyses = record("2001-01-01", "2002-12-31", "1D")
    expected = climatological_percentile(analyses, [25, 95], period=("2001", "2002"))
    assert expected["t"].data.npartitions == 1
    expected = expected.compute()
    for values in (1, 1500, 3000):  # one cell, two, a row and a bit
        monkeypatch.setattr(percentiles, "_TILE_VALUES", values)
        tiled = climatological_percentile(
            analyses.chunk(time=100, latitude=2), [25, 95], period=("2001", "2002")
        )
        assert tiled["t"].data.npartitions > 1
        xr.testing.assert_identical(tiled.compute(), expected)


def test_nothing_is_read_before_it_is_needed_and_then_a_tile_at_a_time(monkeypatch):
    analyses = record("2001-01-01", "2001-12-31", "1D")
    read = []

    def reading(block):
        read.append(block.shape)
        return block

    lazy = analyses.copy(data={"t": analyses["t"].chunk(longitude=1).data.map_blocks(
        reading, meta=np.empty((0, 0, 0), np.float32))})  # fmt: skip
    monkeypatch.setattr(percentiles, "_TILE_VALUES", 365)
    thresholds = climatological_percentile(lazy, 50, period=("2001", "2001"))
    assert not read
    with dask.config.set(scheduler="synchronous"):
        thresholds["t"].isel(latitude=0, longitude=1).compute()
    assert read == [(365, 3, 1)]


def test_percentile_events_share_a_label_over_variables_and_levels():
    analyses = record("2018-06-01", "2018-06-20", "1D")
    analyses["z"] = analyses["t"].expand_dims(level=[500, 850], axis=1) * [[[[1.0]], [[2.0]]]]
    thresholds = climatological_percentile(analyses, [5, 90.5], period=("2018", "2018")).compute()
    events = percentile_events(thresholds, above=False)
    assert [(event.variable, event.label) for event in events] == [
        (variable, label)
        for label in ("below_p5", "below_p90.5")
        for variable in ("t", "z_500", "z_850")
    ]
    assert not any(event.above for event in events)
    grid = Grid.from_dataset(analyses)
    when = np.array(["2019-01-01"], "datetime64[ns]")
    t, _, z = (event.thresholds(when, grid) for event in events[:3])
    np.testing.assert_allclose(z, 2 * t, rtol=1e-6)


def test_integers_keep_the_fractions_of_their_percentiles():
    analyses = record("2018-06-01", "2018-06-02", "1D")
    analyses["t"] = (analyses["t"] * 0 + [[[1]], [[2]]]).astype(np.int16)
    thresholds = climatological_percentile(analyses, 50, period=("2018", "2018"))
    np.testing.assert_array_equal(thresholds["t"], np.full((1, 3, 2), 1.5))


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
        elements=st.one_of(st.floats(-1e4, 1e4, width=16), st.just(np.nan), st.just(0.0)),
    ),
    st.lists(st.floats(0, 100), min_size=1, max_size=3),
)
def test_percentiles_of_rows_agree_with_numpy_and_leave_ties_exact(values, wanted):
    ours = percentiles_of(values, np.array(wanted))
    for row, cell in zip(ours, values.astype(np.float64), strict=True):
        known = cell[~np.isnan(cell)]
        if known.size == 0:
            assert np.isnan(row).all()
            continue
        np.testing.assert_allclose(row, np.percentile(known, wanted), rtol=1e-9, atol=1e-9)
        if known.min() == known.max():
            np.testing.assert_array_equal(row, known[0])


def test_what_cannot_be_a_climatology_is_refused():
    analyses = record("2018-06-01", "2018-06-20", "1D")
    with pytest.raises(InputError, match="no analysis lies in the training period"):
        climatological_percentile(analyses, 50, period=("2019", "2020"))
    with pytest.raises(InputError, match="not ascending"):
        climatological_percentile(analyses.isel(time=[2, 1]), 50, period=("2018", "2018"))
    with pytest.raises(InputError, match="between 0 and 100"):
        climatological_percentile(analyses, 101, period=("2018", "2018"))
    with pytest.raises(ValueError, match="window is -1"):
        climatological_percentile(analyses, 50, period=("2018", "2018"), window=-1)
    with pytest.raises(DimensionError, match="no coordinate time"):
        climatological_percentile(analyses.drop_vars("time"), 50, period=("2018", "2018"))
    with pytest.raises(DimensionError, match="number"):
        climatological_percentile(analyses.expand_dims(number=2), 50, period=("2018", "2018"))
    with pytest.raises(DimensionError, match="no coordinate percentile"):
        percentile_events(analyses)
