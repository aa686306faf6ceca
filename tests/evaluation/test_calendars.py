"""Scores in the calendars of climate models: what is matched, and by what season."""

from datetime import timedelta

import cftime
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from weatherdiff.data.calendars import CALENDARS, STANDARD, Calendar, after, on_axis
from weatherdiff.data.ensembles import open_ensembles
from weatherdiff.errors import DimensionError, InputError
from weatherdiff.evaluation import (
    AnalogEnsemble,
    ClimatologyEnsemble,
    Event,
    LinearInverseModel,
    Persistence,
    Settings,
    SmoothClimatology,
    StoredForecast,
    climatological_percentile,
    compare,
    evaluate,
    open_scores,
    percentile_events,
    scores_from,
    statistics,
)
from weatherdiff.evaluation.baselines.training import day_of_year, hour_of_day, spans_a_year
from weatherdiff.evaluation.groups import hour_of, month_of, season_of
from weatherdiff.evaluation.parts import read_part, write_part

OTHERS = [name for name in CALENDARS if name != STANDARD]
GRID = {"latitude": [-30.0, 10.0, 50.0], "longitude": [0.0, 10.0, 20.0, 30.0]}
LEADS = np.array([12, 24], "timedelta64[h]").astype("timedelta64[ns]")
DAYS = st.integers(-250_000, 250_000)


def dates(calendar, start, count, step="12h"):
    return xr.date_range(
        start, periods=count, freq=step, calendar=calendar, use_cftime=calendar != "standard"
    )


def record(calendar, start="2001-02-01", count=80, step="12h"):
    values = np.random.default_rng(0).normal(280, 5, (count, 3, 4)).astype("f4")
    field = ("time", "latitude", "longitude"), values, {"units": "K"}
    return xr.Dataset({"t": field}, {"time": dates(calendar, start, count, step), **GRID})


def ensemble(analyses, inits):
    """Two members about what comes true, from some times of the analyses."""
    noise = np.random.default_rng(1).normal(size=(len(inits), 2, 3, 3, 4)).astype("f4")
    init = analyses["time"].values[inits]
    dims = ("init_time", "lead_time", "number", "latitude", "longitude")
    return xr.Dataset(
        {"t": (dims, 280 + noise, {"units": "K"})},
        {"init_time": init, "lead_time": LEADS, **GRID},
    )


@given(st.sampled_from(OTHERS), DAYS, st.integers(0, 23), st.integers(-(10**8), 10**8))
def test_a_valid_time_is_what_cftime_adds(name, day, hour, span):
    start = Calendar(name).dates([day * 86400 + hour * 3600])
    later = after(start, np.timedelta64(span, "s"))
    expected = start[0] + timedelta(seconds=span)
    assert later.tolist() == [expected]
    assert (on_axis(later) - on_axis(start)).tolist() == [expected - start[0]]


@given(st.sampled_from(OTHERS), st.lists(DAYS, min_size=1, max_size=4), st.integers(0, 23))
def test_labels_of_times_are_those_of_their_calendar(name, days, hour):
    times = Calendar(name).dates(np.array(days) * 86400 + hour * 3600)
    last = {"julian": 365}.get(name, 366)
    assert (day_of_year(times) + 1).tolist() == [min(t.dayofyr, last) for t in times]
    assert hour_of_day(times).tolist() == [hour * 3600 * 10**9] * len(times)
    assert month_of(times).tolist() == [t.month for t in times]
    assert hour_of(times).tolist() == [hour] * len(times)
    assert set(season_of(times)) <= {"DJF", "MAM", "JJA", "SON"}


def test_what_is_no_date_has_no_month():
    with pytest.raises(DimensionError, match="no dates"):
        month_of(np.array(["January"], object))


@pytest.mark.parametrize(("calendar", "days"), [("noleap", 365), ("360_day", 360)])
def test_a_record_has_a_season_from_a_year_of_its_calendar_on(calendar, days):
    times = dates(calendar, "2001-03-01", days, "D").values
    assert spans_a_year(times)
    assert not spans_a_year(times[:-1])


def test_scores_of_a_calendar_are_those_of_the_same_days_in_the_standard_one():
    found = []
    for calendar in ("standard", "noleap"):
        analyses = record(calendar)
        period = ("2001-02-01", "2001-02-20")
        forecasts = ensemble(analyses, np.arange(44, 70, 3))  # over the end of February
        percentiles = climatological_percentile(analyses, [80], period=period)
        climatology = SmoothClimatology(analyses, period=period)
        sums = statistics(
            forecasts,
            analyses,
            reference={
                "climatology": ClimatologyEnsemble(analyses, period=period),
                "persistence": Persistence(analyses),
                "smooth": SmoothClimatology(analyses, period=period, members=3),
                "analogs": AnalogEnsemble(analyses, period=period, members=2),
                "stored": StoredForecast(forecasts),
            },
            settings=Settings(
                climatology=climatology, maps=True,
                events=[*percentile_events(percentiles.compute()), Event("t", 283.0)],
            ),
        )  # fmt: skip
        found.append((scores_from(sums), scores_from(sums, by="valid_month")))
    for standard, noleap in zip(*found, strict=True):
        assert standard.attrs == noleap.attrs
        assert noleap["init_time"].dt.calendar == "noleap"
        renamed = noleap.assign_coords(init_time=standard["init_time"])
        xr.testing.assert_identical(renamed, standard)
        assert np.isfinite(standard["crps_climatology"]).all()


def test_the_seasons_of_years_without_a_leap_day_are_those_of_noleap():
    made = []
    for calendar in ("standard", "noleap"):
        analyses = record(calendar, "2001-01-01", 3 * 365 + 40, "D")
        period = ("2001", "2003")
        inits = analyses["time"].values[3 * 365 + 5 :: 10]
        made.append(
            [
                ClimatologyEnsemble(analyses, period=period, window=3).forecast(inits, LEADS[1:]),
                climatological_percentile(analyses, 90, period=period, window=3).compute(),
            ]
        )
    for standard, noleap in zip(*made, strict=True):
        np.testing.assert_array_equal(noleap["t"], standard["t"])
    assert made[0][1]["dayofyear"].size == made[1][1]["dayofyear"].size == 365


@pytest.mark.parametrize("calendar", OTHERS)
def test_a_cycle_of_the_calendars_own_year_is_the_smooth_climatology(calendar):
    analyses = record(calendar, "2000-01-01", 1480, "D")
    own = Calendar(calendar)
    phase = 2 * np.pi * own.seconds(analyses["time"].values) / own.year
    analyses["t"] = analyses["t"] * 0 + 280 + xr.DataArray(10 * np.cos(phase), dims="time")
    climatology = SmoothClimatology(analyses, period=("2000-01-01", "2002-12-30"))
    inits = analyses["time"].values[1110::30]
    forecasts = climatology.forecast(inits, LEADS[1:])
    truth = analyses["t"].sel(time=forecasts["valid_time"].values.ravel())
    np.testing.assert_allclose(forecasts["t"].values.ravel(), truth.values.ravel(), rtol=1e-6)


@pytest.mark.parametrize(
    ("calendar", "start", "valid"), [("360_day", 30, 1), ("noleap", 28, 1), ("all_leap", 29, 1)]
)
def test_a_day_after_the_last_of_february_is_the_first_of_march(calendar, start, valid):
    analyses = record(calendar)
    init = cftime.datetime(2001, 2, start, calendar=calendar)
    last = analyses["t"].sel(time=cftime.datetime(2001, 3, valid, calendar=calendar))
    forecasts = ensemble(analyses, [0]).assign_coords(init_time=[init]).isel(lead_time=[1])
    scores = evaluate(forecasts * 0 + last.values, analyses)
    assert float(scores["rmse"].squeeze()) == 0


@pytest.mark.parametrize("start", ["0004-02-01", "3004-02-01"])
def test_no_year_is_too_far_away(start, tmp_path):
    analyses = record("noleap", start)
    forecasts = ensemble(analyses, [45, 50, 52])
    references = {
        "inverse": LinearInverseModel(
            analyses, period=(start, f"{start[:4]}-02-20"), members=2, truncation=2
        )
    }
    scores = evaluate(forecasts, analyses, reference=references)
    assert np.isfinite(scores["crpss_inverse"]).all()
    assert scores["valid_time_found"].all()


def test_stored_scores_keep_their_calendar_and_are_added_to(tmp_path):
    analyses = record("360_day")
    forecasts = ensemble(analyses, np.arange(50, 70, 2))
    path = tmp_path / "scores.zarr"
    evaluate(forecasts.isel(init_time=slice(4)), analyses, store=path)
    evaluate(forecasts, analyses, store=path, settings=Settings(block=3))
    stored, whole = open_scores(path), evaluate(forecasts, analyses)
    assert stored["init_time"].values.tolist() == forecasts["init_time"].values.tolist()
    np.testing.assert_array_equal(stored["crps"], whole["crps"])
    plain = xr.open_zarr(path, decode_timedelta=True)
    assert plain["init_time"].dt.calendar == "360_day"
    found = compare(stored, whole, score="mse")
    assert (found["difference"] == 0).all()


def test_a_part_on_disk_keeps_dates_of_a_calendar(tmp_path):
    part = xr.Dataset({"a": ("init_time", [1.0, 2.0])}, {"init_time": dates("360_day", "2001", 2)})
    write_part(part, tmp_path / "a.npz")
    xr.testing.assert_identical(read_part(tmp_path / "a.npz"), part)


def test_two_calendars_are_refused_and_both_are_named():
    noleap, days = record("noleap"), record("360_day")
    forecasts = ensemble(noleap, [44, 48])
    with pytest.raises(InputError, match=r"forecasts are in the calendar noleap, .* 360_day"):
        evaluate(forecasts, days)
    period = ("2001-02-01", "2001-02-20")
    for reference in (
        Persistence(days),
        StoredForecast(ensemble(days, [44])),
        ClimatologyEnsemble(days, period=period),
        SmoothClimatology(days, period=period),
    ):
        with pytest.raises(InputError, match=r"in the calendar noleap, .* calendar 360_day"):
            evaluate(forecasts, noleap, reference={"other": reference})
    with pytest.raises(InputError, match="calendar noleap, the climatology has years of 360 days"):
        evaluate(
            forecasts, noleap,
            settings=Settings(climatology=SmoothClimatology(days, period=period)),
        )  # fmt: skip
    with pytest.raises(InputError, match="first statistics are in the calendar noleap"):
        compare(evaluate(forecasts, noleap), evaluate(ensemble(days, [44]), days))


def test_thresholds_of_days_of_another_calendar_are_refused(tmp_path):
    days = record("360_day", "2001-01-01", 365, "D")
    made = climatological_percentile(days, [90], period=("2001", "2002"), window=3)
    made.to_zarr(tmp_path / "thresholds.zarr", zarr_format=3, consolidated=False)
    stored = xr.open_zarr(tmp_path / "thresholds.zarr", consolidated=False)
    assert stored["dayofyear"].values.tolist() == list(range(1, 361))
    events = percentile_events(stored)
    noleap = record("noleap", "2003-01-01", 40, "D")
    forecasts = ensemble(noleap, [3, 5]).isel(lead_time=[1])
    with pytest.raises(InputError, match=r"calendar 360_day, the forecasts are in the .* noleap"):
        evaluate(forecasts, noleap, settings=Settings(events=events))


def test_anybodys_forecasts_may_be_in_a_calendar(tmp_path):
    forecasts = ensemble(record("360_day"), [56, 58, 60])
    own = forecasts.rename(init_time="time", lead_time="prediction_timedelta", t="2m_temperature")
    own.to_netcdf(tmp_path / "theirs.nc")
    opened = open_ensembles(tmp_path / "theirs.nc")
    inits = forecasts["init_time"].values
    assert opened["init_time"].values.tolist() == inits.tolist()
    assert opened["valid_time"].values.tolist() == after(inits[:, np.newaxis], LEADS).tolist()
    shifted = own.assign_coords(valid_time=(("time", "prediction_timedelta"), after(
        inits[:, np.newaxis], LEADS + np.timedelta64(1, "h"))))  # fmt: skip
    shifted.to_netcdf(tmp_path / "shifted.nc")
    with pytest.raises(InputError, match="valid_time is 2001-02-29T13:00:00 where init_time is"):
        open_ensembles(tmp_path / "shifted.nc")
