from __future__ import annotations

import operator

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scores.probability import brier_score_for_ensemble

from weatherdiff.errors import DimensionError
from weatherdiff.evaluation.exceedance import brier_score, event_tables


def arrays(members: int, cases: int, seed: int = 0) -> tuple[xr.DataArray, xr.DataArray]:
    """Rounded, so that members, observations and thresholds tie."""
    rng = np.random.default_rng(seed)
    return (
        xr.DataArray(rng.normal(size=(members, cases)).round(1), dims=("number", "case")),
        xr.DataArray(rng.normal(size=cases).round(1), dims="case"),
    )


@pytest.mark.parametrize("above", [True, False])
def test_tables_count_the_members_strictly_beyond_the_threshold(above):
    forecast, observation = arrays(4, 50)
    beyond = operator.gt if above else operator.lt
    tables = event_tables(forecast, observation, threshold=0.3, above=above)
    for case in range(50):
        inside = sum(beyond(value, 0.3) for value in forecast.values[:, case])
        expected = np.zeros(5)
        expected[inside] = 1
        np.testing.assert_array_equal(tables["event_count"][case], expected)
        occurred = expected * beyond(observation.values[case], 0.3)
        np.testing.assert_array_equal(tables["event_occurred"][case], occurred)
    assert tables["event_count"].dims == ("case", "count")
    assert (forecast == 0.3).any()


@pytest.mark.parametrize("estimator", ["fair", "standard"])
@pytest.mark.parametrize("above", [True, False])
def test_brier_score_matches_another_library(estimator, above):
    forecast, observation = arrays(5, 200)
    ours = brier_score(forecast, observation, threshold=0.4, above=above, estimator=estimator)
    theirs = brier_score_for_ensemble(
        forecast,
        observation,
        "number",
        0.4,
        preserve_dims="all",
        fair_correction=estimator == "fair",
        event_threshold_operator=operator.gt if above else operator.lt,
    )
    np.testing.assert_allclose(ours, theirs.squeeze(), atol=1e-14)


def test_fair_brier_score_is_unbiased_for_the_distribution_and_the_standard_one_is_not():
    rng = np.random.default_rng(4)
    forecast = xr.DataArray(rng.uniform(size=(3, 200_000)), dims=("number", "case"))
    observation = xr.DataArray(rng.uniform(size=200_000), dims="case")
    arguments = {"threshold": 0.3, "above": False}
    fair = brier_score(forecast, observation, **arguments)
    error = float(fair.std()) / np.sqrt(fair.size)
    assert float(fair.mean()) == pytest.approx(0.21, abs=4 * error)
    standard = brier_score(forecast, observation, **arguments, estimator="standard")
    assert float(standard.mean()) == pytest.approx(0.21 * (1 + 1 / 3), abs=4 * error)


def test_a_plain_threshold_is_not_rounded_to_the_precision_of_the_data():
    forecast = xr.DataArray(np.float32([[303.15]]), dims=("number", "case"))  # is 303.14999
    observation = forecast.isel(number=0)
    for threshold in (303.15, xr.DataArray(303.15)):
        below = event_tables(forecast, observation, threshold=threshold, above=False)
        np.testing.assert_array_equal(below["event_count"], [[0, 1]])


def test_thresholds_may_vary_and_what_is_missing_makes_every_count_nan():
    forecast, observation = arrays(3, 5)
    forecast = forecast.where((forecast["case"] != 1) | (forecast["number"] != 2))
    observation = observation.where(observation["case"] != 2)
    threshold = xr.DataArray([-9.0, -9.0, -9.0, np.nan, 9.0], dims="case")
    tables = event_tables(forecast, observation, threshold=threshold)
    for name in tables:
        np.testing.assert_array_equal(np.isnan(tables[name]).any("count"), [0, 1, 1, 1, 0])
        np.testing.assert_array_equal(np.isnan(tables[name]).all("count"), [0, 1, 1, 1, 0])
    np.testing.assert_array_equal(tables["event_count"][[0, 4]], [[0, 0, 0, 1], [1, 0, 0, 0]])
    score = brier_score(forecast, observation, threshold=threshold)
    np.testing.assert_array_equal(np.isnan(score), [0, 1, 1, 1, 0])


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float64, (3, 7), elements=st.floats(-1e6, 1e6)), st.floats(-1e6, 1e6))
def test_above_and_below_are_complements_where_nothing_ties(values, threshold):
    values = np.where(values == threshold, values + 1, values)
    forecast = xr.DataArray(values, dims=("number", "case"))
    observation = xr.DataArray(values[0], dims="case")
    above, below = (
        event_tables(forecast, observation, threshold=threshold, above=side)["event_count"]
        for side in (True, False)
    )
    np.testing.assert_array_equal(above.values, below.values[:, ::-1])


def test_lazy_input_gives_the_same_lazily():
    forecast, observation = arrays(4, 30)
    lazy = event_tables(forecast.chunk(case=7), observation.chunk(case=7), threshold=0.0)
    assert lazy["event_count"].chunks is not None
    xr.testing.assert_identical(lazy.compute(), event_tables(forecast, observation, threshold=0.0))


def test_swapped_arguments_one_member_and_unknown_estimators_are_refused():
    forecast, observation = arrays(1, 5)
    with pytest.raises(DimensionError, match="swapped"):
        event_tables(observation, forecast, threshold=0.0)
    with pytest.raises(DimensionError, match="has no dimension"):
        event_tables(observation, observation, threshold=0.0)
    with pytest.raises(DimensionError, match="undefined for one member"):
        brier_score(forecast, observation, threshold=0.0)
    with pytest.raises(ValueError, match="estimator is 'nrg'"):
        brier_score(forecast, observation, threshold=0.0, estimator="nrg")
    with pytest.raises(ValueError, match="align"):
        brier_score(
            forecast.assign_coords(case=np.arange(5)),
            observation.assign_coords(case=np.arange(1, 6)),
            threshold=0.0,
            estimator="standard",
        )
