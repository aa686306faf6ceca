from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.errors import InputError
from weatherdiff.evaluation.baselines import SmoothClimatology, record
from weatherdiff.evaluation.baselines.harmonics import Harmonics, least_squares

CELLS = {"latitude": [-60.0, 10.0, 50.0], "longitude": [0.0, 7.0]}
YEARS = ("2001", "2002")


def every(start: str, end: str, step: str) -> np.ndarray:
    return pd.date_range(start, end, freq=step).to_numpy().astype("datetime64[ns]")


def leads(*hours: int) -> np.ndarray:
    return np.array(hours, dtype="timedelta64[h]").astype("timedelta64[ns]")


def cycle(times: np.ndarray) -> np.ndarray:
    """A daily cycle that changes with the season, by hand, about a large mean (time, 3, 2)."""
    days = (times - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
    year, day = 2 * np.pi * days / 365.2425, 2 * np.pi * days
    wave = 30 * np.cos(year - 0.4) + 5 * np.sin(2 * year) + (4 + 3 * np.sin(year)) * np.cos(day - 1)
    return 5e5 + wave[:, np.newaxis, np.newaxis] * np.array([[1.0, 2.0], [-1.0, 0.5], [0.0, 3.0]])


def dataset(times: np.ndarray, values: np.ndarray, dtype: type = np.float64) -> xr.Dataset:
    dims = ("time", "latitude", "longitude")
    return xr.Dataset(
        {"z": (dims, values.astype(dtype), {"units": "m**2 s**-2"})}, {"time": times, **CELLS}
    )


def noisy(start: str, end: str, step: str = "6h", seed: int = 0) -> xr.Dataset:
    times = every(start, end, step)
    return dataset(
        times, cycle(times) + np.random.default_rng(seed).normal(size=(times.size, 3, 2))
    )


def test_a_signal_made_of_its_harmonics_is_recovered_and_extrapolated_exactly():
    times = every("2001-01-01", "2002-12-31 21:00", "3h")
    climatology = SmoothClimatology(dataset(times, cycle(times)), period=YEARS)
    later = every("2009-02-27", "2009-03-03", "3h")
    mean = climatology.mean(later)["z"]
    np.testing.assert_allclose(mean.values, cycle(later), rtol=0, atol=1e-6)
    assert mean.attrs == {"units": "m**2 s**-2"}
    # What is left over is rounding.
    assert climatology.standard_deviation(later)["z"].max() < 1e-6


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3), st.sampled_from([3, 6, 12, 24]), st.integers(0, 5), st.integers(0, 99))
def test_any_resolved_harmonics_are_found_from_any_partition_of_the_times(
    annual, hours, diurnal, seed
):
    rng = np.random.default_rng(seed)
    times = every("2001-01-01 02:00", "2002-12-31", f"{hours}h")
    harmonics = Harmonics.resolved_by(times, annual, diurnal)
    design = harmonics.design(times)
    truth = rng.normal(size=(design.shape[1], 4))
    cuts = np.sort(rng.integers(0, times.size, 3))
    parts = zip(np.split(design, cuts), np.split(design @ truth, cuts), strict=True)
    np.testing.assert_allclose(least_squares(parts), truth, atol=1e-8)


def test_a_record_of_less_than_a_year_has_the_mean_of_each_hour():
    ds = noisy("2001-06-01", "2001-06-20 18:00", "6h")
    climatology = SmoothClimatology(ds, period=("2001-06-01", "2001-06-15"))
    training = ds.sel(time=slice("2001-06-01", "2001-06-15"))
    expected = training["z"].groupby("time.hour").mean()
    mean = climatology.mean(every("2001-09-01", "2001-09-01 18:00", "6h"))["z"]
    np.testing.assert_allclose(mean.values, expected.values, rtol=1e-12)


def test_the_standard_deviation_follows_the_season():
    times = every("2001-01-01", "2010-12-31", "1D")
    days = (times - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
    spread = np.sqrt(10 + 6 * np.cos(2 * np.pi * days / 365.2425))[:, np.newaxis, np.newaxis]
    noise = spread * np.random.default_rng(3).normal(size=(times.size, 3, 2))
    climatology = SmoothClimatology(dataset(times, 280 + noise), period=("2001", "2010"))
    found = climatology.standard_deviation(times[:366:30])["z"].mean(["latitude", "longitude"])
    np.testing.assert_allclose(found, spread[:366:30, 0, 0], rtol=0.04)


@pytest.mark.parametrize("members", [1, 5])
def test_only_the_training_period_is_seen(members):
    ds = noisy("2001-01-01", "2003-03-01")
    spoiled = ds.where(ds["time"] < np.datetime64("2003"), np.nan)
    inits = np.array(["2003-01-05", "2003-02-01T06"], "datetime64[ns]")
    first, second = (
        SmoothClimatology(x, period=YEARS, members=members).forecast(inits, leads(6, 48))
        for x in (ds, spoiled)
    )
    xr.testing.assert_identical(first.compute(), second.compute())
    assert dict(first.sizes) == {
        "init_time": 2, "lead_time": 2, "number": members, "latitude": 3, "longitude": 2,
    }  # fmt: skip


@pytest.mark.parametrize("members", [1, 4])
def test_chunks_and_blocks_change_nothing(members, monkeypatch):
    ds = noisy("2001-01-01", "2002-12-31 18:00")
    inits = every("2003-01-01", "2003-01-20", "1D")
    climatology = SmoothClimatology(ds, period=YEARS, members=members)
    whole = climatology.forecast(inits, leads(6, 12)).compute()
    monkeypatch.setattr(record, "_BLOCK_VALUES", 700)
    chunked = ds.chunk({"time": 101, "latitude": 2})
    parts = SmoothClimatology(chunked, period=YEARS, members=members)
    assert parts.forecast(inits, leads(6, 12))["z"].chunks is not None
    xr.testing.assert_allclose(parts.forecast(inits, leads(6, 12)), whole, rtol=1e-13)
    xr.testing.assert_allclose(
        climatology.forecast(inits[7:9], leads(6, 12)),
        whole.isel(init_time=slice(7, 9)),
        rtol=1e-13,
    )


def test_members_are_stretches_of_training_residuals_rescaled_to_the_season():
    ds = noisy("2001-01-01", "2003-12-31 18:00")
    climatology = SmoothClimatology(ds, period=("2001", "2003"), members=7, window=10)
    init = np.array(["2004-06-15T06"], "datetime64[ns]")
    ours = climatology.forecast(init, leads(6, 30))["z"].values[0]
    starts = [
        t
        for t in ds["time"].values
        if pd.Timestamp(t).hour == 6 and abs(pd.Timestamp(t).day_of_year - 167) <= 10
    ]
    picked = [starts[(2 * i + 1) * len(starts) // 14] for i in range(7)]
    for j, lead in enumerate(leads(6, 30)):
        mean = climatology.mean(init + lead)["z"].values[0]
        spread = climatology.standard_deviation(init + lead)["z"].values[0]
        for i, start in enumerate(picked):
            then = np.array([start]) + lead
            residual = ds["z"].sel(time=then).values[0] - climatology.mean(then)["z"].values[0]
            scale = spread / climatology.standard_deviation(then)["z"].values[0]
            np.testing.assert_allclose(ours[j, i], mean + residual * scale, rtol=1e-12)


def test_times_in_training_at_a_strange_hour_or_out_of_season_are_refused():
    ds = noisy("2001-01-01", "2002-12-31 18:00")
    climatology = SmoothClimatology(ds, period=YEARS)
    init = np.array(["2002-12-31"], "datetime64[ns]")
    with pytest.raises(InputError, match="own training period"):
        climatology.forecast(init, leads(6, 24))
    with pytest.raises(InputError, match="hour without training data"):
        climatology.forecast(init, leads(27))
    summers = ds.sel(time=ds["time"].dt.month.isin([6, 7, 8]))
    summers = xr.concat([summers, summers.assign_coords(time=summers["time"] + 366 * 2 * DAY)],
                        "time")  # fmt: skip
    climatology = SmoothClimatology(summers, period=("2001", "2004"))
    assert climatology.forecast(init + 366 * 3 * DAY - 190 * DAY, leads(6))["z"].notnull().all()
    with pytest.raises(InputError, match="season"):
        climatology.forecast(init + 366 * 3 * DAY, leads(6))


DAY = np.timedelta64(1, "D")


def test_more_members_than_training_stretches_are_refused():
    ds = noisy("2001-06-01", "2001-06-10")
    climatology = SmoothClimatology(ds, period=("2001-06-01", "2001-06-08"), members=9)
    with pytest.raises(InputError, match="fewer than 9 members"):
        climatology.forecast(np.array(["2001-06-12"], "datetime64[ns]"), leads(6))


def test_cells_never_observed_are_nan_and_incomplete_analyses_are_left_out():
    ds = noisy("2001-01-01", "2002-12-31 18:00")
    holes = ds.copy(deep=True)
    holes["z"][:, 1, 0] = np.nan
    holes["z"][50:60, 2, 1] = np.nan
    kept = holes.isel(time=np.r_[0:50, 60 : holes.sizes["time"]])
    init = np.array(["2003-01-05"], "datetime64[ns]")
    ours, theirs = (
        SmoothClimatology(x, period=YEARS, members=3).forecast(init, leads(6)).compute()
        for x in (holes, kept)
    )
    xr.testing.assert_allclose(ours, theirs, rtol=1e-12)
    missing = ours["z"].isnull()
    assert missing[..., 1, 0].all()
    assert int(missing.sum()) == 3
    nowhere = holes.where(np.arange(2 * holes.sizes["time"]).reshape(-1, 2)[:, :1, None] < 0)
    with pytest.raises(InputError, match="no training analysis of z"):
        SmoothClimatology(nowhere, period=YEARS)


def test_the_mean_takes_times_with_or_without_names():
    climatology = SmoothClimatology(noisy("2001-01-01", "2002-12-31 18:00"), period=YEARS)
    valid = np.array([["2003-01-01", "2003-01-02"], ["2004-02-01", "2004-02-02"]], "datetime64[ns]")
    named = xr.DataArray(valid, {"init_time": valid[:, 0]}, ("init_time", "lead_time"))
    table = climatology.mean(valid)["z"]
    assert table.dims == ("init_time", "lead_time", "latitude", "longitude")
    np.testing.assert_array_equal(table.values, climatology.mean(named)["z"].values)
    np.testing.assert_allclose(table.values[1], climatology.mean(valid[1])["z"].values, rtol=1e-14)
    assert "init_time" in climatology.mean(named)["z"].coords
