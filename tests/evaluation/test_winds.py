"""Winds as vectors, against brute force, scoringrules and their laws."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
import scoringrules
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.errors import DimensionError, InputError, UnitsError
from weatherdiff.evaluation.winds import (
    vector_energy_score,
    vector_scores,
    wind_pairs,
    with_wind_speed,
)

NAMES = ["10m_v_component_of_wind", "2m_temperature", "10m_u_component_of_wind"]


def winds(seed: int = 0, members: int = 5) -> tuple[xr.DataArray, ...]:
    rng = np.random.default_rng(seed)
    dims = ("lead_time", "number", "cell")
    u, v = (xr.DataArray(rng.normal(size=(3, members, 7)), dims=dims) for _ in range(2))
    a, b = (xr.DataArray(rng.normal(size=(3, 7)), dims=("lead_time", "cell")) for _ in range(2))
    return u, v, a, b


def test_pairs_are_found_at_any_height_and_level_and_not_across_them():
    levels = ["u_component_of_wind_500", "v_component_of_wind_850", "u_component_of_wind_850"]
    plain = ["v_component_of_wind", "u_component_of_wind"]
    pairs = wind_pairs([*NAMES, "100m_u_component_of_wind", *levels, *plain])
    assert [pair.vector for pair in pairs] == ["10m_wind", "wind_850", "wind"]
    assert pairs[1].speed == "wind_speed_850"


def test_speed_is_added_lazily_with_the_unit_and_the_precision_of_the_components():
    values = np.array([[3.0, 5.0], [0.0, np.nan]], np.float32)
    ds = xr.Dataset(
        {
            "u_component_of_wind": (("number", "cell"), values, {"units": "m s**-1"}),
            "v_component_of_wind": (("number", "cell"), values[:, ::-1] + 1, {"units": "m s**-1"}),
        }
    )
    speed = with_wind_speed(ds.chunk(number=1))["wind_speed"]
    assert isinstance(speed.data, dask.array.Array)
    assert speed.attrs["units"] == "m s**-1"
    assert speed.dtype == np.float32
    np.testing.assert_allclose(speed, np.sqrt(values**2 + (values[:, ::-1] + 1) ** 2), rtol=1e-6)


def test_a_speed_that_is_there_is_kept_and_unequal_units_are_refused():
    ds = xr.Dataset({NAMES[0]: 3.0, NAMES[2]: 4.0, "10m_wind_speed": 6.0})
    assert float(with_wind_speed(ds)["10m_wind_speed"]) == 6
    ds[NAMES[0]].attrs["units"] = "knots"
    with pytest.raises(UnitsError, match="knots"):
        with_wind_speed(ds)


def make_statistics(members: int = 4) -> xr.Dataset:
    rng = np.random.default_rng(3)
    dims = ("variable", "region", "init_time", "lead_time")
    sums = {
        name: (dims, rng.random((3, 2, 4, 5)) + 0.5)
        for name in ("sum_weight", "sum_squared_error", "sum_variance")
    }
    return xr.Dataset(sums, {"variable": NAMES, "region": ["a", "b"]}, {"members": members})


def test_vector_scores_average_components_before_the_root():
    statistics = make_statistics()
    scores = vector_scores(statistics)
    assert scores["vector_rmse"].dims == ("variable", "region", "lead_time")
    assert list(scores["variable"].values) == ["10m_wind"]
    v, _, u = (statistics.isel(variable=i).sum("init_time") for i in range(3))
    mean = {
        name: (u[name] / u["sum_weight"] + v[name] / v["sum_weight"]).values
        for name in ("sum_squared_error", "sum_variance")
    }
    np.testing.assert_allclose(scores["vector_rmse"][0], np.sqrt(mean["sum_squared_error"]))
    ratio = np.sqrt(5 / 4 * mean["sum_variance"] / mean["sum_squared_error"])
    np.testing.assert_allclose(scores["vector_spread_skill_ratio"][0], ratio)


def test_vector_scores_without_weight_or_spread_are_nan():
    statistics = make_statistics(members=1)
    statistics["sum_weight"][0, 0] = 0
    scores = vector_scores(statistics)
    assert np.isnan(scores["vector_rmse"][0, 0]).all()
    assert not np.isnan(scores["vector_rmse"][0, 1]).any()
    assert np.isnan(scores["vector_spread"]).all()


def test_statistics_without_both_components_are_refused():
    with pytest.raises(InputError, match="both components"):
        vector_scores(make_statistics().isel(variable=[0, 1]))


@pytest.mark.parametrize("estimator", ["fair", "standard"])
@pytest.mark.parametrize("members", [2, 5])
def test_vector_energy_score_is_that_of_scoringrules(estimator, members):
    u, v, a, b = winds(members=members)
    score = vector_energy_score(u, v, a, b, estimator=estimator)
    peer = scoringrules.es_ensemble(
        np.stack([a, b], axis=-1),
        np.stack([u.transpose("lead_time", "cell", "number"), v.transpose(..., "number")], axis=-1),
        estimator={"fair": "fair", "standard": "nrg"}[estimator],
    )
    np.testing.assert_allclose(score, peer, atol=1e-14)


def test_a_wind_along_one_axis_has_the_crps_of_that_component():
    u, v, a, b = winds()
    score = vector_energy_score(u, 0 * v, a, 0 * b)
    peer = scoringrules.crps_ensemble(
        a.values, u.transpose("lead_time", "cell", "number").values, estimator="fair"
    )
    np.testing.assert_allclose(score, peer, atol=1e-14)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), angle=st.floats(0, 7), shift=st.floats(-100, 100))
def test_vector_energy_score_ignores_rotation_and_shift(seed, angle, shift):
    u, v, a, b = winds(seed)
    c, s = np.cos(angle), np.sin(angle)
    turned = vector_energy_score(
        c * u - s * v + shift, s * u + c * v, c * a - s * b + shift, s * a + c * b
    )
    np.testing.assert_allclose(turned, vector_energy_score(u, v, a, b), atol=1e-11)


def test_nan_propagates_and_lazy_winds_stay_lazy():
    u, v, a, b = winds()
    v[1, 2, 3], a[0, 4] = np.nan, np.nan
    score = vector_energy_score(u, v, a, b)
    assert np.isnan(score[1, 3])
    assert np.isnan(score[0, 4])
    assert int(score.isnull().sum()) == 2
    lazy = vector_energy_score(u.chunk(number=2, cell=3), v.chunk(), a.chunk(), b.chunk())
    assert isinstance(lazy.data, dask.array.Array)
    xr.testing.assert_allclose(lazy.compute(), score)


def test_wrong_arguments_are_refused():
    u, v, a, b = winds(members=1)
    np.testing.assert_allclose(
        vector_energy_score(u, v, a, b, estimator="standard"),
        np.hypot(u - a, v - b).isel(number=0),
    )
    with pytest.raises(DimensionError, match="fair"):
        vector_energy_score(u, v, a, b)
    with pytest.raises(DimensionError, match="swapped"):
        vector_energy_score(a, b, u, v)
