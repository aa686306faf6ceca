from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from weatherdiff.errors import DimensionError, InputError
from weatherdiff.evaluation import ClimatologyEnsemble, Persistence, alignment

DAY = np.timedelta64(1, "D")


def hours(*values: int) -> np.ndarray:
    return np.array(values, dtype="timedelta64[h]").astype("timedelta64[ns]")


def dates(*values: str) -> np.ndarray:
    return np.array(values, dtype="datetime64[ns]")


def clock(start: str, end: str, step: str) -> xr.Dataset:
    """Analyses whose value is their own time, in hours since 1970."""
    time = pd.date_range(start, end, freq=step).to_numpy().astype("datetime64[ns]")
    values = (time - np.datetime64(0, "ns")) / np.timedelta64(1, "h")
    return xr.Dataset({"t": ("time", values)}, {"time": time})


def as_times(values: np.ndarray) -> np.ndarray:
    return values.astype(int).astype("timedelta64[h]") + np.datetime64(0, "ns")


def test_climatology_of_a_short_record_has_every_training_day_at_the_hour_of_the_valid_time():
    climatology = ClimatologyEnsemble(
        clock("2018-06-01", "2018-06-30 21:00", "3h"), period=("2018-06-01", "2018-06-12")
    )
    forecast = climatology.forecast(dates("2018-06-20T06", "2018-06-21T21"), hours(3, 9, 24))
    assert climatology.members == 12
    assert forecast["t"].dims == ("init_time", "lead_time", "number")
    members = as_times(forecast["t"].values)
    expected_hours = [[9, 15, 6], [0, 6, 21]]
    days = np.datetime64("2018-06-01") + np.arange(12) * DAY
    for i in range(2):
        for lead in range(3):
            np.testing.assert_array_equal(members[i, lead], days + hours(expected_hours[i][lead]))


def test_climatology_of_a_long_record_keeps_to_the_season_of_the_valid_time():
    climatology = ClimatologyEnsemble(
        clock("2001-01-01", "2007-12-31", "1D"), period=("2001", "2006"), window=4
    )
    assert climatology.members == 6 * 9
    inits = dates("2008-01-02", "2008-07-01", "2008-12-31")
    members = as_times(climatology.forecast(inits, hours(24))["t"].values[:, 0])
    assert members.max() < np.datetime64("2007")
    for init, sample in zip(inits, members, strict=True):
        assert np.unique(sample).size == climatology.members
        years = sample.astype("datetime64[Y]")
        # The nearest anniversary may lie in the year before or after.
        anniversaries = np.stack(
            [
                (years + shift).astype("datetime64[D]")
                + ((init + DAY).astype("datetime64[D]") - init.astype("datetime64[Y]"))
                for shift in (-1, 0, 1)
            ]
        )
        assert np.abs(sample - anniversaries).min(axis=0).max() <= 5 * DAY  # a leap day is one


def test_climatology_has_the_same_number_of_members_at_hours_with_more_days():
    analyses = clock("2018-06-01 12:00", "2018-06-05 12:00", "12h")  # 5 noons, 4 midnights
    climatology = ClimatologyEnsemble(analyses, period=("2018-06-01", "2018-06-05"))
    forecast = climatology.forecast(dates("2018-06-10"), hours(0, 12))
    assert climatology.members == 4
    noons = as_times(forecast["t"].values[0, 1])
    np.testing.assert_array_equal(noons, np.datetime64("2018-06-02T12") + np.arange(4) * DAY)


def test_climatology_refuses_valid_times_within_its_training_period():
    analyses = clock("2018-06-01", "2018-06-30", "6h")
    climatology = ClimatologyEnsemble(analyses, period=("2018-06-01", "2018-06-12"))
    with pytest.raises(InputError, match="own training period"):
        climatology.forecast(dates("2018-06-10"), hours(6))
    with pytest.raises(InputError, match="own training period"):
        climatology.forecast(dates("2018-05-31", "2018-06-20"), hours(6, 24))
    # From within the period to beyond it is a forecast of what was not seen.
    assert climatology.forecast(dates("2018-06-12T12"), hours(12))["t"].size == 12


def test_climatology_does_not_see_what_lies_outside_its_period():
    analyses = clock("2018-06-01", "2018-06-30", "6h")
    spoiled = analyses.where(analyses["time"] < np.datetime64("2018-06-13"), np.nan)
    arguments = (dates("2018-06-20", "2018-06-25"), hours(6, 12))
    first, second = (
        ClimatologyEnsemble(ds, period=("2018-06-01", "2018-06-12")).forecast(*arguments)
        for ds in (analyses, spoiled)
    )
    xr.testing.assert_identical(first.compute(), second.compute())


def test_climatology_refuses_an_hour_or_a_season_without_training_days():
    climatology = ClimatologyEnsemble(
        clock("2018-06-01", "2018-06-12", "6h"), period=("2018-06-01", "2018-06-12")
    )
    with pytest.raises(InputError, match="0 days 03:00:00 after midnight"):
        climatology.forecast(dates("2018-06-20"), hours(3))
    summers = clock("2001-01-01", "2003-12-31", "1D")
    summers = summers.sel(time=summers["time"].dt.month.isin([6, 7, 8]))
    climatology = ClimatologyEnsemble(summers, period=("2001", "2003"), window=5)
    assert climatology.forecast(dates("2004-06-30"), hours(24))["t"].notnull().all()
    with pytest.raises(InputError, match="season"):
        climatology.forecast(dates("2004-01-15"), hours(24))


def test_climatology_refuses_a_period_without_analyses():
    with pytest.raises(InputError, match="no analysis lies in the training period"):
        ClimatologyEnsemble(clock("2018-06-01", "2018-06-12", "6h"), period=("2019", "2020"))


def test_references_refuse_unsorted_analyses(analyses):
    turned = analyses.isel(time=[3, 1, 2])
    with pytest.raises(InputError, match="not ascending"):
        ClimatologyEnsemble(turned, period=("2020-01-01", "2020-01-10"))
    with pytest.raises(InputError, match="not ascending"):
        Persistence(turned)


def test_persistence_equals_the_last_frame_at_every_lead(analyses):
    inits = analyses["time"].values[[5, 40, 41]]
    forecast = Persistence(analyses).forecast(inits, hours(6, 240))
    assert forecast["geopotential"].dims == (
        ("init_time", "lead_time", "number", "level", "latitude", "longitude")
    )
    for i, init in enumerate(inits):
        last = analyses.sel(time=init)
        for lead in range(2):
            ours = forecast.isel(init_time=i, lead_time=lead, number=0)
            for name in analyses.data_vars:
                np.testing.assert_array_equal(ours[name].values, last[name].values)


def test_persistence_of_a_missing_analysis_is_nan(analyses):
    gap = analyses.drop_isel(time=40)
    forecast = Persistence(gap).forecast(analyses["time"].values[39:42], hours(6))
    missing = forecast["2m_temperature"].isnull().all(["latitude", "longitude"]).values.ravel()
    assert missing.tolist() == [False, True, False]
    np.testing.assert_array_equal(
        forecast["2m_temperature"].values[2, 0, 0], analyses["2m_temperature"].values[41]
    )


@pytest.mark.parametrize("chunks", [None, {"time": 7, "latitude": 3}])
def test_references_are_in_the_layout_of_a_forecast_lazy_and_independent_of_chunks(
    analyses, chunks
):
    inits, leads = analyses["time"].values[60:78], hours(6, 12)
    given = analyses if chunks is None else analyses.chunk(chunks)
    forecast = ClimatologyEnsemble(given, period=("2020-01-01", "2020-01-14")).forecast(
        inits, leads
    )
    assert all(field.chunks is not None for field in forecast.data_vars.values())
    np.testing.assert_array_equal(
        forecast["valid_time"].values, inits[:, np.newaxis] + leads[np.newaxis]
    )
    assert forecast["number"].values.tolist() == list(range(14))
    assert forecast["2m_temperature"].attrs == {"units": "K"}
    assert forecast["2m_temperature"].dtype == np.float32
    eager = ClimatologyEnsemble(analyses, period=("2020-01-01", "2020-01-14"))
    xr.testing.assert_identical(forecast.compute(), eager.forecast(inits, leads).compute())


def test_references_do_not_build_large_graphs_or_blocks(analyses):
    time = pd.date_range("2018-06-01", "2018-07-31 23:00", freq="1h").to_numpy()
    field = xr.DataArray(
        np.zeros((len(time), 22, 28), np.float32), dims=("time", "latitude", "longitude")
    )
    ds = xr.Dataset(dict.fromkeys("abcd", field), {"time": time}).chunk({"time": 24})
    climatology = ClimatologyEnsemble(ds, period=("2018-06-01", "2018-07-05"))
    inits = time[time >= np.datetime64("2018-07-06")][:336].astype("datetime64[ns]")
    forecast = climatology.forecast(inits, hours(*range(3, 25, 3)))
    assert forecast.sizes["number"] == 35
    assert len(forecast.__dask_graph__()) < 20_000
    assert max(forecast.chunksizes["init_time"]) <= 16


def test_taking_a_lead_time_and_some_rows_of_a_reference_makes_no_others(analyses, monkeypatch):
    monkeypatch.setattr(alignment, "_PART_BYTES", 2000)
    made = []
    take = alignment._take
    monkeypatch.setattr(alignment, "_take", lambda *a: made.append(take(*a).nbytes) or take(*a))
    climatology = ClimatologyEnsemble(analyses, period=("2020-01-01", "2020-01-14"))
    forecast = climatology.forecast(analyses["time"].values[60:63], hours(6, 12, 18, 24))
    field = forecast["2m_temperature"]
    taken = field.isel(init_time=[1], lead_time=[2], latitude=slice(0, 1)).compute()
    assert sum(made) <= 2000
    monkeypatch.undo()
    whole = climatology.forecast(analyses["time"].values[60:63], hours(6, 12, 18, 24))
    xr.testing.assert_identical(
        taken,
        whole["2m_temperature"].compute().isel(init_time=[1], lead_time=[2], latitude=slice(0, 1)),
    )


def test_lead_times_without_a_unit_are_refused(analyses):
    inits = analyses["time"].values[60:61]
    for reference in (
        Persistence(analyses),
        ClimatologyEnsemble(analyses, period=("2020-01-01", "2020-01-10")),
    ):
        with pytest.raises(DimensionError, match="timedelta64"):
            reference.forecast(inits, np.array([6, 12]))
