from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from weatherdiff.errors import DimensionError, InputError
from weatherdiff.evaluation.baselines import StoredForecast


def test_stored_forecasts_are_selected_by_time_whatever_their_order(forecasts):
    shuffled = forecasts.isel(init_time=[4, 0, 6, 2, 1, 5, 3], lead_time=[2, 0, 1]).transpose(
        "number", "latitude", ...
    )
    inits, leads = forecasts["init_time"].values[[5, 1]], forecasts["lead_time"].values[[2, 0]]
    ours = StoredForecast(shuffled).forecast(inits, leads)
    expected = forecasts.sel(init_time=inits, lead_time=leads)
    assert StoredForecast(shuffled).members == 3
    for name in forecasts.data_vars:
        assert ours[name].dims[:3] == ("init_time", "lead_time", "number")
        xr.testing.assert_equal(
            ours[name].drop_vars("valid_time").transpose(*expected[name].dims), expected[name]
        )
    np.testing.assert_array_equal(ours["valid_time"].values, inits[:, np.newaxis] + leads)


def test_a_time_the_stored_forecasts_do_not_have_is_nan_and_no_other(forecasts):
    inits, leads = forecasts["init_time"].values, forecasts["lead_time"].values
    some = StoredForecast(forecasts.isel(init_time=[0, 2], lead_time=[0, 2]))
    ours = some.forecast(inits[:3], leads)
    missing = ours["2m_temperature"].isnull().all(["number", "latitude", "longitude"])
    assert missing.values.tolist() == [
        [False, True, False],
        [True, True, True],
        [False, True, False],
    ]
    np.testing.assert_array_equal(
        ours["geopotential"].values[2, 2], forecasts["geopotential"].values[2, 2]
    )
    shifted = some.forecast(inits[:1] + np.timedelta64(1, "s"), leads)
    assert shifted["2m_temperature"].isnull().all()


def test_lazy_stored_forecasts_stay_lazy(forecasts):
    lazy = StoredForecast(forecasts.chunk({"init_time": 2}))
    arguments = (forecasts["init_time"].values[[6, 0, 3]], forecasts["lead_time"].values)
    ours = lazy.forecast(*arguments)
    assert all(field.chunks is not None for field in ours.data_vars.values())
    xr.testing.assert_identical(ours.compute(), StoredForecast(forecasts).forecast(*arguments))


def test_stored_forecasts_without_members_or_with_repeated_times_are_refused(forecasts):
    with pytest.raises(DimensionError, match="number"):
        StoredForecast(forecasts.isel(number=0))
    for name in ("init_time", "lead_time"):
        with pytest.raises(InputError, match=f"{name}.* holds a value twice"):
            StoredForecast(forecasts.isel({name: [0, 1, 1]}))
