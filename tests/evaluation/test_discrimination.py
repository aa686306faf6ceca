from __future__ import annotations

import numpy as np
import pytest
import scores.categorical
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scores import probability as oracle

from weatherdiff.errors import InputError
from weatherdiff.evaluation.discrimination import (
    contingency_scores,
    contingency_table,
    relative_economic_value,
    roc_area,
    roc_curve,
)
from weatherdiff.evaluation.exceedance import event_tables


def tables(count: object, occurred: object) -> tuple[xr.DataArray, xr.DataArray]:
    return (
        xr.DataArray(np.asarray(count, float), dims="count"),
        xr.DataArray(np.asarray(occurred, float), dims="count"),
    )


@st.composite
def any_tables(draw: st.DrawFn) -> tuple[xr.DataArray, xr.DataArray]:
    """Tables in which the event both occurred and did not."""
    size = draw(st.integers(2, 8))
    weight = st.one_of(st.just(0.0), st.floats(0.01, 1e3))
    parts = hnp.arrays(np.float64, size, elements=weight).filter(np.any)
    occurred, absent = draw(parts), draw(parts)
    return tables(occurred + absent, occurred)


@pytest.fixture
def cases() -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Probabilities of 6 members with some skill, occurrence, and unequal weights."""
    rng = np.random.default_rng(2)
    signal = rng.normal(size=500)
    member = (signal + rng.normal(size=(6, 500)) > 0.8).mean(axis=0)
    occurred = (signal + rng.normal(size=500) > 0.8).astype(float)
    return tuple(xr.DataArray(a, dims="case") for a in (member, occurred, rng.uniform(0.1, 2, 500)))


@pytest.fixture
def pooled(cases) -> tuple[xr.DataArray, xr.DataArray]:
    probability, occurred, weights = cases
    count = np.rint(probability.values * 6).astype(int)
    return tables(
        np.bincount(count, weights.values, 7), np.bincount(count, (weights * occurred).values, 7)
    )


def test_contingency_tables_match_those_of_each_decision_on_the_single_cases(cases, pooled):
    probability, occurred, weights = cases
    table = contingency_table(*pooled)
    for needed in range(8):
        acted, happened = probability * 6 > needed - 0.5, occurred == 1
        expected = {
            "hits": acted & happened,
            "false_alarms": acted & ~happened,
            "misses": ~acted & happened,
            "correct_rejections": ~acted & ~happened,
        }
        for name, which in expected.items():
            assert float(table[name].sel(at_least=needed)) == pytest.approx(
                float(weights.where(which, 0).sum()), abs=1e-10
            )
    np.testing.assert_allclose(table["probability"], np.arange(8) / 6)


def test_roc_curve_and_area_match_another_library(cases, pooled):
    probability, occurred, weights = cases
    curve = roc_curve(*pooled)
    # Their thresholds are those forecast and beyond; ties are acted on.
    theirs = oracle.roc_curve_data(
        probability, occurred, np.arange(7) / 6 - 1e-9, weights=weights, check_args=False
    )
    np.testing.assert_allclose(curve["hit_rate"], theirs["POD"], atol=1e-12)
    np.testing.assert_allclose(curve["false_alarm_rate"], theirs["POFD"], atol=1e-12)
    area = float(roc_area(*pooled))
    assert area == pytest.approx(float(oracle.roc_auc(probability, occurred, weights=weights)))
    assert area == pytest.approx(float(theirs["AUC"]), abs=1e-12)


def test_roc_area_is_the_mann_whitney_statistic(cases):
    probability, occurred, _ = cases
    count = np.rint(probability.values * 6).astype(int)
    table = tables(np.bincount(count, minlength=7), np.bincount(count, occurred, 7))
    events, others = count[occurred == 1], count[occurred == 0]
    u = stats.mannwhitneyu(events, others).statistic
    assert float(roc_area(*table)) == pytest.approx(u / (events.size * others.size))


@settings(max_examples=30, deadline=None)
@given(any_tables())
def test_roc_curve_falls_from_one_to_zero_and_its_area_turns_over_with_the_forecast(table):
    curve = roc_curve(*table)
    for name in ("hit_rate", "false_alarm_rate"):
        rate = curve[name].values
        assert rate[0] == pytest.approx(1)
        assert rate[-1] == 0
        assert np.all(np.diff(rate) <= 1e-12)
    turned = roc_area(*(part.isel(count=slice(None, None, -1)) for part in table))
    assert float(roc_area(*table) + turned) == pytest.approx(1)


def test_roc_area_is_one_if_perfect_and_a_half_if_constant():
    assert float(roc_area(*tables([6, 0, 2], [0, 0, 2]))) == 1
    assert float(roc_area(*tables([0, 8, 0], [0, 2, 0]))) == 0.5


def test_economic_value_matches_another_library(cases, pooled):
    probability, occurred, weights = cases
    ratios = [0.05, 0.2, 0.5, 0.7, 0.95]
    ours = relative_economic_value(*pooled, cost_loss=ratios)
    theirs = oracle.relative_economic_value(
        probability,
        occurred,
        cost_loss_ratios=ratios,
        probability_thresholds=list(np.arange(1, 7) / 6 - 1e-9),
        weights=weights,
    )
    theirs = theirs.transpose("probability_threshold", "cost_loss_ratio")
    np.testing.assert_allclose(ours.sel(at_least=slice(1, 6)), theirs, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(any_tables(), st.floats(0.01, 0.99))
def test_the_best_decision_is_never_worse_than_the_base_rate_nor_better_than_one(table, ratio):
    value = relative_economic_value(*table, cost_loss=[ratio]).max("at_least")
    assert -1e-6 <= float(value.squeeze()) <= 1 + 1e-6


def test_economic_value_peaks_at_the_base_rate_with_the_peirce_skill_score():
    table = tables([5, 3, 2], [1, 1, 2])
    value = relative_economic_value(*table, cost_loss=[0.4]).squeeze()
    for needed, chance in ((1, 0.5), (2, 1.0)):
        scores_at = contingency_scores(*table, probability=chance)
        peirce = float(scores_at["peirce_skill_score"])
        assert float(value.sel(at_least=needed)) == pytest.approx(peirce)


def test_a_perfect_forecast_is_worth_everything_and_none_where_nothing_can_be_gained():
    value = relative_economic_value(*tables([6, 0, 2], [0, 0, 2]), cost_loss=[0, 0.1, 0.6, 1])
    np.testing.assert_allclose(value.max("at_least"), [np.nan, 1, 1, np.nan])


@pytest.mark.parametrize("needed", range(1, 7))
def test_scores_of_a_decision_match_another_library(cases, needed):
    probability, occurred, _ = cases
    count = np.rint(probability.values * 6).astype(int)
    table = tables(np.bincount(count, minlength=7), np.bincount(count, occurred, 7))
    ours = contingency_scores(*table, probability=needed / 6)
    manager = scores.categorical.BinaryContingencyManager(
        (probability > (needed - 0.5) / 6).astype(float), occurred
    )
    theirs = {
        "base_rate": manager.base_rate(),
        "hit_rate": manager.probability_of_detection(),
        "false_alarm_rate": manager.probability_of_false_detection(),
        "false_alarm_ratio": manager.false_alarm_ratio(),
        "frequency_bias": manager.frequency_bias(),
        "threat_score": manager.threat_score(),
        "peirce_skill_score": manager.peirce_skill_score(),
        "sedi": manager.symmetric_extremal_dependence_index(),
    }
    for name, value in theirs.items():
        assert float(ours[name]) == pytest.approx(float(value), rel=1e-12), name


def test_extremal_indices_of_a_small_table_are_those_worked_out_by_hand():
    # One member: hits 30, false alarms 20, misses 10, correct rejections 140; H = 3/4, F = 1/8.
    table = contingency_scores(*tables([150, 50], [10, 30]), probability=1)
    assert float(table["edi"]) == pytest.approx(np.log(1 / 6) / np.log(3 / 32))
    expected = np.log((1 / 8) / (3 / 4) * (1 / 4) / (7 / 8)) / np.log(3 / 32 * (1 / 4) * (7 / 8))
    assert float(table["sedi"]) == pytest.approx(expected)


def test_extremal_indices_of_random_forecasts_are_zero():
    table = contingency_scores(*tables([90, 10], [9, 1]), probability=1)
    assert float(table["edi"]) == pytest.approx(0)
    assert float(table["sedi"]) == pytest.approx(0)


@pytest.mark.parametrize(
    ("members", "probability", "needed"),
    [(10, 0.3, 3), (10, 0.7, 7), (49, 29 / 49, 29), (50, 0.14, 7), (50, 0.141, 8), (7, 1e-4, 1)],
)
def test_a_probability_is_reached_by_as_many_members_as_it_says(members, probability, needed):
    table = tables(np.ones(members + 1), np.ones(members + 1) / 2)
    assert contingency_scores(*table, probability=probability).attrs["at_least"] == needed


def test_an_event_that_never_or_always_occurs_has_no_discrimination():
    for count, occurred in (([3, 4, 1], [0, 0, 0]), ([3, 4, 1], [3, 4, 1]), ([0] * 3, [0] * 3)):
        table = tables(count, occurred)
        assert np.isnan(roc_area(*table))
        assert np.isnan(relative_economic_value(*table)).all()
        result = contingency_scores(*table, probability=0.5)
        for name in ("peirce_skill_score", "edi", "sedi"):
            assert np.isnan(result[name])
    assert np.isnan(roc_area(*tables([np.nan] * 3, [np.nan] * 3)))


@pytest.mark.parametrize(
    ("count", "occurred", "edi", "sedi"),
    [
        ([6, 2], [0, 2], np.nan, np.nan),  # perfect: F = 0
        ([0, 8], [0, 2], np.nan, np.nan),  # H = F = 1
        ([6, 2], [2, 0], np.nan, np.nan),  # H = 0
        ([4, 4], [0, 2], 1.0, np.nan),  # H = 1
    ],
)
def test_extremal_indices_are_nan_where_a_logarithm_is_infinite(count, occurred, edi, sedi):
    result = contingency_scores(*tables(count, occurred), probability=1)
    np.testing.assert_equal([float(result["edi"]), float(result["sedi"])], [edi, sedi])


def test_other_dimensions_are_kept_and_lazy_tables_stay_lazy():
    rng = np.random.default_rng(3)
    forecast = xr.DataArray(rng.normal(size=(3, 2, 40)), dims=("number", "lead_time", "case"))
    observation = xr.DataArray(rng.normal(size=(2, 40)), dims=("lead_time", "case"))
    table = event_tables(forecast, observation, threshold=0.0).sum("case")
    functions = {
        roc_area: {},
        roc_curve: {},
        relative_economic_value: {},
        contingency_scores: {"probability": 0.5},
    }
    for function, options in functions.items():
        eager = function(table["event_count"], table["event_occurred"], **options)
        one = table.isel(lead_time=1)
        single = function(one["event_count"], one["event_occurred"], **options)
        xr.testing.assert_allclose(single, eager.isel(lead_time=1))
        chunked = table.chunk(lead_time=1)
        lazy = function(chunked["event_count"], chunked["event_occurred"], **options)
        assert lazy.chunks
        xr.testing.assert_allclose(lazy.compute(), eager)


def test_options_out_of_range_are_refused():
    table = tables([4, 2, 2], [1, 0, 2])
    for probability in (0, 1.1):
        with pytest.raises(InputError, match="probability is"):
            contingency_scores(*table, probability=probability)
    with pytest.raises(InputError, match="cost_loss is"):
        relative_economic_value(*table, cost_loss=[0.5, 2])
