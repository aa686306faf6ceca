from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scores.probability import isotonic_fit

from weatherdiff.errors import DimensionError
from weatherdiff.evaluation.exceedance import brier_score, event_tables
from weatherdiff.evaluation.reliability import (
    brier_decomposition,
    brier_from_tables,
    corp_decomposition,
    reliability_diagram,
)


def tables(count: object, occurred: object) -> tuple[xr.DataArray, xr.DataArray]:
    return (
        xr.DataArray(np.asarray(count, float), dims=(..., "count")[-np.ndim(count) :]),
        xr.DataArray(np.asarray(occurred, float), dims=(..., "count")[-np.ndim(count) :]),
    )


@st.composite
def any_tables(draw: st.DrawFn) -> tuple[xr.DataArray, xr.DataArray]:
    """Weights of 2 to 8 counts, some of them zero, and the parts that occurred."""
    size = draw(st.integers(2, 8))
    weight = st.one_of(st.just(0.0), st.floats(0.01, 1e3))
    count = draw(hnp.arrays(np.float64, size, elements=weight).filter(np.any))
    share = draw(hnp.arrays(np.float64, size, elements=st.floats(0, 1)))
    return tables(count, count * share)


def cases(members: int, points: int, seed: int = 1):
    """A forecast with some skill, its observation, and unequal weights."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=points)
    forecast = xr.DataArray(signal + rng.normal(size=(members, points)), dims=("number", "case"))
    observation = xr.DataArray(signal + rng.normal(size=points), dims="case")
    return forecast, observation, xr.DataArray(rng.uniform(0.1, 2, points), dims="case")


def summed(forecast, observation, weights, threshold=0.3):
    table = event_tables(forecast, observation, threshold=threshold)
    table = (table * weights).sum("case", skipna=False)
    return table["event_count"], table["event_occurred"]


def test_the_almost_fair_score_lies_between_the_fair_and_the_standard_one():
    table = summed(*cases(5, 300))
    fair, standard, almost = (
        float(brier_from_tables(*table, estimator=name, alpha=0.8))
        for name in ("fair", "standard", "almost_fair")
    )
    assert almost == pytest.approx(0.8 * fair + 0.2 * standard)


def test_one_member_has_the_standard_score_of_a_yes_or_no_forecast():
    assert float(brier_from_tables(*tables([6, 2], [1, 2]), estimator="standard")) == 1 / 8


@pytest.mark.parametrize("estimator", ["fair", "standard"])
def test_brier_score_of_tables_is_the_weighted_mean_of_the_pointwise_one(estimator):
    forecast, observation, weights = cases(5, 300)
    ours = brier_from_tables(*summed(forecast, observation, weights), estimator=estimator)
    pointwise = brier_score(forecast, observation, threshold=0.3, estimator=estimator)
    assert float(ours) == pytest.approx(float(pointwise.weighted(weights).mean()), rel=1e-12)


def test_adjusting_to_the_own_size_is_standard_and_to_a_huge_one_fair():
    table = summed(*cases(5, 300))
    own = brier_from_tables(*table, estimator="adjusted", members=5)
    assert float(own) == pytest.approx(float(brier_from_tables(*table, estimator="standard")))
    huge = brier_from_tables(*table, estimator="adjusted", members=10**12)
    assert float(huge) == pytest.approx(float(brier_from_tables(*table)), rel=1e-10)


def test_adjusting_predicts_the_score_of_a_larger_ensemble():
    forecast, observation, weights = cases(20, 40_000)
    few = forecast.isel(number=slice(4))
    predicted = brier_from_tables(
        *summed(few, observation, weights), estimator="adjusted", members=20
    )
    actual = brier_from_tables(*summed(forecast, observation, weights), estimator="standard")
    unadjusted = brier_from_tables(*summed(few, observation, weights), estimator="standard")
    assert float(predicted) == pytest.approx(float(actual), abs=1e-3)
    assert float(unadjusted - actual) > 10e-3


def test_the_parts_of_a_small_table_are_those_worked_out_by_hand():
    # 4 forecasts of 0 with 1 event, 2 of 1/2 with 0, 2 of 1 with 2; base rate 3/8
    table = tables([4, 2, 2], [1, 0, 2])
    murphy = brier_decomposition(*table)
    assert float(murphy["reliability"]) == pytest.approx((4 / 16 + 2 / 4) / 8)
    assert float(murphy["resolution"]) == pytest.approx((4 / 64 + 2 * 9 / 64 + 2 * 25 / 64) / 8)
    corp = corp_decomposition(*table)  # the first two pool to 1/6
    best = (6 * (1 / 6) * (5 / 6)) / 8
    assert float(corp["miscalibration"]) == pytest.approx((1 + 2 / 4) / 8 - best)
    assert float(corp["discrimination"]) == pytest.approx(15 / 64 - best)
    for parts in (murphy, corp):
        assert float(parts["uncertainty"]) == pytest.approx(15 / 64)


@settings(max_examples=30, deadline=None)
@given(any_tables())
def test_both_decompositions_add_up_to_the_brier_score_with_parts_of_at_least_zero(table):
    brier = float(brier_from_tables(*table, estimator="standard"))
    murphy, corp = brier_decomposition(*table), corp_decomposition(*table)
    assert float(murphy["reliability"] - murphy["resolution"] + murphy["uncertainty"]) == (
        pytest.approx(brier, abs=1e-12)
    )
    assert float(corp["miscalibration"] - corp["discrimination"] + corp["uncertainty"]) == (
        pytest.approx(brier, abs=1e-12)
    )
    for part in (*murphy.values(), *corp.values()):
        assert float(part) >= -1e-12
    # The best increasing recalibration cannot beat the best of all.
    assert float(corp["miscalibration"]) <= float(murphy["reliability"]) + 1e-12


@settings(max_examples=20, deadline=None)
@given(any_tables(), st.floats(0.01, 100))
def test_scores_do_not_depend_on_the_scale_of_the_weights(table, scale):
    for function in (brier_decomposition, corp_decomposition, reliability_diagram):
        xr.testing.assert_allclose(
            function(*table), function(*(part * scale for part in table)), atol=1e-9
        )


def test_a_perfect_forecast_has_no_unreliability_and_resolves_all_uncertainty():
    table = tables([6, 0, 0, 2], [0, 0, 0, 2])
    assert float(brier_from_tables(*table)) == 0
    murphy, corp = brier_decomposition(*table), corp_decomposition(*table)
    assert float(murphy["reliability"]) == float(corp["miscalibration"]) == 0
    for part in (murphy["resolution"], corp["discrimination"]):
        assert float(part) == pytest.approx(0.25 * 0.75)


def test_a_constant_forecast_has_no_resolution():
    table = tables([0, 8, 0, 0], [0, 2, 0, 0])
    murphy, corp = brier_decomposition(*table), corp_decomposition(*table)
    assert float(murphy["resolution"]) == float(corp["discrimination"]) == 0
    assert float(murphy["reliability"]) == pytest.approx((1 / 3 - 1 / 4) ** 2)


def test_splitting_a_forecast_into_finer_ones_adds_resolution_only_if_outcomes_differ():
    coarse = tables([0, 8, 0], [0, 4, 0])
    alike, different = tables([4, 0, 4], [2, 0, 2]), tables([4, 0, 4], [0, 0, 4])
    resolution = [float(brier_decomposition(*t)["resolution"]) for t in (coarse, alike, different)]
    assert resolution == [0, 0, 0.25]


def test_recalibration_matches_another_library_on_the_single_cases():
    forecast, observation, weights = cases(7, 400)
    diagram = reliability_diagram(*summed(forecast, observation, weights))
    probability = (forecast > 0.3).mean("number")
    occurred = (observation > 0.3).astype(float)
    theirs = isotonic_fit(probability, occurred, weight=weights)
    ours = diagram["recalibrated_probability"].values[
        np.rint(theirs["fcst_sorted"] * 7).astype(int)
    ]
    np.testing.assert_allclose(ours, theirs["regression_values"], atol=1e-12)


def test_the_diagram_has_frequencies_of_what_was_forecast_and_none_of_what_was_not():
    diagram = reliability_diagram(*tables([4, 0, 2, 2], [1, 0, 0, 2]))
    np.testing.assert_array_equal(diagram["forecast_probability"], np.array([0, 1, 2, 3]) / 3)
    np.testing.assert_array_equal(diagram["observed_frequency"], [0.25, np.nan, 0, 1])
    np.testing.assert_allclose(diagram["recalibrated_probability"], [1 / 6, np.nan, 1 / 6, 1])
    np.testing.assert_array_equal(diagram["share"], [0.5, 0, 0.25, 0.25])
    assert float(diagram["base_rate"]) == 3 / 8


def test_reliable_forecasts_are_reliable_within_the_bias_of_the_sample():
    rng = np.random.default_rng(5)
    probability = rng.beta(0.7, 1.2, size=50_000)
    member = xr.DataArray(rng.uniform(size=(4, 50_000)) < probability, dims=("number", "case"))
    occurred = xr.DataArray(rng.uniform(size=50_000) < probability, dims="case")
    ones = xr.ones_like(occurred, dtype=float)
    table = summed(member.astype(float), occurred.astype(float), ones, threshold=0.5)
    # The probabilities of few members are overconfident; the CORP curve finds E[p | k].
    expected = [(0.7 + k) / (0.7 + 1.2 + 4) for k in range(5)]
    curve = reliability_diagram(*table)["recalibrated_probability"]
    np.testing.assert_allclose(curve, expected, atol=0.02)


def test_what_has_no_weight_or_is_missing_is_nan():
    for value in (0.0, np.nan):
        table = tables([value] * 3, [value] * 3)
        assert np.isnan(brier_from_tables(*table))
        for function in (brier_decomposition, corp_decomposition, reliability_diagram):
            assert all(np.isnan(part).all() for part in function(*table).values())


def test_other_dimensions_are_kept_and_lazy_tables_stay_lazy():
    forecast, observation, weights = cases(3, 60)
    whole = event_tables(forecast, observation, threshold=0.3) * weights
    table = whole.coarsen(case=20).construct(case=("lead_time", "case")).sum("case")
    for function in (brier_from_tables, brier_decomposition, corp_decomposition):
        eager = function(table["event_count"], table["event_occurred"])
        assert dict(eager.sizes) == {"lead_time": 3}
        for lead in range(3):
            one = table.isel(lead_time=lead)
            xr.testing.assert_allclose(
                function(one["event_count"], one["event_occurred"]), eager.isel(lead_time=lead)
            )
        chunked = table.chunk(lead_time=1)
        lazy = function(chunked["event_count"], chunked["event_occurred"])
        assert lazy.chunks
        xr.testing.assert_allclose(lazy.compute(), eager)


def test_tables_that_are_no_pair_and_unknown_estimators_are_refused():
    count, occurred = tables([4, 2, 2], [1, 0, 2])
    with pytest.raises(DimensionError, match="no dimension count"):
        brier_from_tables(count.rename(count="rank"), occurred)
    with pytest.raises(DimensionError, match="3 and 2 counts"):
        brier_from_tables(count, occurred[:2])
    with pytest.raises(DimensionError, match="must be whole"):
        brier_decomposition(count.assign_coords(count=[1, 2, 3]), occurred)
    with pytest.raises(DimensionError, match="undefined for one member"):
        brier_from_tables(*tables([1, 1], [0, 1]))
    with pytest.raises(ValueError, match="estimator is 'unfair'"):
        brier_from_tables(count, occurred, estimator="unfair")
    for options in ({"estimator": "adjusted"}, {"members": 3}):
        with pytest.raises(ValueError, match="members"):
            brier_from_tables(count, occurred, **options)
    leads = [part.expand_dims(lead_time=[day]) for part, day in ((count, 1), (occurred, 2))]
    with pytest.raises(ValueError, match="align"):
        brier_from_tables(*leads)
