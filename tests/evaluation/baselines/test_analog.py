from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.evaluation.baselines import AnalogEnsemble
from weatherdiff.grid import Grid

PERIOD = ("2020-01-01", "2020-01-14")


def hours(*values: int) -> np.ndarray:
    return np.array(values, dtype="timedelta64[h]").astype("timedelta64[ns]")


def by_brute_force(
    analyses: xr.Dataset, names: list[str], init: np.datetime64, lead: np.timedelta64, separation
) -> list[np.datetime64]:
    """Start times of all analogs of a short record, nearest first."""
    training = analyses.sel(time=slice(*PERIOD))
    weights = Grid.from_dataset(analyses).area_weights().values
    distance = pd.Series(0.0, training["time"].values)
    for name in names:
        hour = training[name].astype(float).groupby("time.hour")
        mean = hour.mean()
        count = training.sizes["time"]
        residual = hour - mean
        spread = np.sqrt((residual**2).groupby("time.hour").mean() * count / (count - 4))
        now = (
            analyses[name].sel(time=init).astype(float) - mean.sel(hour=pd.Timestamp(init).hour)
        ) / spread.sel(hour=pd.Timestamp(init).hour)
        then = residual.groupby("time.hour") / spread
        square = ((then - now.drop_vars("time")) ** 2 * weights).sum(
            [d for d in now.dims if d != "time"]
        )
        distance += square.values
    hour, last = pd.Timestamp(init).hour, training["time"].values[-1]
    nearest = distance.sort_values().index.values
    possible = [t for t in nearest if pd.Timestamp(t).hour == hour and t + lead <= last]
    chosen: list[np.datetime64] = []
    for t in possible:
        if all(abs(t - c) >= separation for c in chosen):
            chosen.append(t)
    return chosen


@pytest.mark.parametrize("variables", [None, ["geopotential"]])
@pytest.mark.parametrize("separation", [0, 2])
def test_analogs_are_those_of_brute_force_and_members_what_followed(
    analyses, variables, separation
):
    reference = AnalogEnsemble(
        analyses, period=PERIOD, members=3, variables=variables, separation=separation,
        truncation=1000,
    )  # fmt: skip
    inits = analyses["time"].values[[60, 66, 71]]
    leads = hours(6, 30)
    forecast = reference.forecast(inits, leads)
    names = variables or list(analyses.data_vars)
    for i, init in enumerate(inits):
        starts = by_brute_force(
            analyses, names, init, leads[-1], np.timedelta64(max(separation, 1), "D")
        )
        for j, lead in enumerate(leads):
            for name in analyses.data_vars:  # all are forecast, whatever was compared
                np.testing.assert_array_equal(
                    forecast[name].values[i, j],
                    analyses[name].sel(time=np.array(starts[:3]) + lead).values,
                )


def test_a_state_that_came_back_is_found_through_few_patterns(analyses):
    again = analyses.copy(deep=True)
    for field in again.data_vars.values():
        field[64] = field[24].values  # both at 00 UTC
    reference = AnalogEnsemble(again, period=PERIOD, members=2, truncation=5)
    forecast = reference.forecast(again["time"].values[64:65], hours(12))
    np.testing.assert_array_equal(
        forecast["geopotential"].values[0, 0, 0], again["geopotential"].values[26]
    )


def test_blocks_of_initial_times_and_chunks_change_nothing(analyses):
    inits = analyses["time"].values[58:78]
    whole = AnalogEnsemble(analyses, period=PERIOD, members=2).forecast(inits, hours(6))
    assert whole["geopotential"].chunks is not None
    lazy = AnalogEnsemble(analyses.chunk({"time": 9, "level": 1}), period=PERIOD, members=2)
    parts = [lazy.forecast(inits[at], hours(6)) for at in (slice(0, 3), slice(3, None))]
    xr.testing.assert_identical(xr.concat(parts, "init_time").compute(), whole.compute())


def test_a_missing_or_incomplete_initial_state_gives_a_nan_forecast(analyses):
    holes = analyses.drop_isel(time=61).copy(deep=True)
    holes["geopotential"][62, 1, 2, 3] = np.nan
    reference = AnalogEnsemble(holes, period=PERIOD, members=2)
    forecast = reference.forecast(analyses["time"].values[60:64], hours(6))
    missing = forecast["2m_temperature"].isnull().any(["number", "latitude", "longitude"])
    assert missing.values.ravel().tolist() == [False, True, False, True]


def test_valid_times_in_the_training_period_and_too_many_members_are_refused(analyses):
    reference = AnalogEnsemble(analyses, period=PERIOD, members=4)
    with pytest.raises(InputError, match="analog ensemble's own training period"):
        reference.forecast(analyses["time"].values[50:51], hours(6))
    with pytest.raises(InputError, match=r"[23] analogs 5 days apart.*fewer than 4"):
        reference.forecast(analyses["time"].values[60:61], hours(6))
