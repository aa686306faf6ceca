from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from weatherdiff.errors import DimensionError, InputError
from weatherdiff.evaluation import rank_of_observation
from weatherdiff.evaluation.calibration import flatness_test, pit_histogram, reliability_index


def histogram(values: object) -> xr.DataArray:
    return xr.DataArray(np.asarray(values, float), dims=("lead_time", "rank")[-np.ndim(values) :])


histograms = hnp.arrays(
    np.float64, st.integers(2, 12), elements=st.one_of(st.just(0.0), st.floats(0.01, 1e4))
).filter(np.any)


@settings(max_examples=40, deadline=None)
@given(histograms)
def test_a_flat_histogram_is_the_only_one_with_index_zero_and_one_rank_the_worst(values):
    ranks = values.size
    index = float(reliability_index(histogram(values)))
    assert 0 <= index <= 2 * (ranks - 1) / ranks + 1e-12
    if np.ptp(values) > 1e-3 * values.max():
        assert index > 0
    assert float(reliability_index(histogram(np.full(ranks, 7.3)))) == pytest.approx(0, abs=1e-15)
    assert float(reliability_index(histogram(np.eye(ranks)[0]))) == pytest.approx(
        2 * (ranks - 1) / ranks
    )


def test_the_index_of_a_perfect_ensemble_is_what_is_told_for_as_many_cases():
    rng = np.random.default_rng(1)
    counts = rng.multinomial(400, np.full(11, 1 / 11), size=2000)
    mean = float(reliability_index(histogram(counts)).mean())
    assert mean == pytest.approx(np.sqrt(2 * 10 / (np.pi * 400)), rel=0.03)


@settings(max_examples=40, deadline=None)
@given(histograms)
def test_chi_square_is_pearsons_and_the_parts_add_up_to_it(values):
    test = flatness_test(histogram(values), cases=values.sum())
    expected = stats.chisquare(values)
    assert float(test["chi_square"]) == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
    assert float(test["p_value_chi_square"]) == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    if values.size > 2:
        parts = test["slope"] + test["convexity"] + test["residual"]
        assert float(parts) == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
        assert float(test["residual"]) >= -1e-8 * max(1, expected.statistic)


def test_of_independent_cases_of_a_perfect_ensemble_every_test_rejects_as_often_as_it_says():
    counts = np.random.default_rng(2).multinomial(300, np.full(8, 1 / 8), size=4000)
    test = flatness_test(histogram(counts), cases=300)
    for name in ("chi_square", "slope", "convexity"):
        rejected = float((test[f"p_value_{name}"] < 0.05).mean())
        assert rejected == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 4000))


def test_a_straight_line_is_all_slope_and_a_parabola_all_convexity():
    rank = np.arange(6) - 2.5
    rising = flatness_test(histogram(10 + rank), cases=60)
    assert float(rising["slope"]) == pytest.approx(float(rising["chi_square"]))
    assert float(rising["slope_sign"]) == 1
    hollow = flatness_test(histogram(10 + rank**2 - (rank**2).mean()), cases=60)
    assert float(hollow["convexity"]) == pytest.approx(float(hollow["chi_square"]))
    assert float(hollow["convexity_sign"]) == 1


@pytest.mark.parametrize(
    ("shift", "spread", "name", "sign"),
    [
        (-0.5, 1, "slope", 1),
        (0.5, 1, "slope", -1),
        (0, 0.5, "convexity", 1),
        (0, 2, "convexity", -1),
    ],
)
def test_signs_tell_low_and_high_forecasts_and_too_little_and_too_much_spread(
    shift, spread, name, sign
):
    rng = np.random.default_rng(3)
    forecast = xr.DataArray(rng.normal(shift, spread, size=(9, 2000)), dims=("number", "case"))
    ranks = rank_of_observation(forecast, xr.DataArray(rng.normal(size=2000), dims="case"))
    test = flatness_test(ranks.sum("case"), cases=2000)
    assert float(test[f"{name}_sign"]) == sign
    assert float(test[f"p_value_{name}"]) < 1e-6


def test_fewer_independent_cases_make_the_same_histogram_less_surprising():
    values = histogram([[9, 4, 3, 8], [9, 4, 3, 8]])
    cases = xr.DataArray([24.0, 12.0], dims="lead_time")
    test = flatness_test(values, cases=cases)
    many, few = test["chi_square"].values
    assert few == pytest.approx(many / 2)


def test_one_member_has_a_slope_and_no_convexity():
    test = flatness_test(histogram([3, 7]), cases=10)
    assert float(test["slope"]) == pytest.approx(float(test["chi_square"]))
    assert np.isnan(test["convexity"])
    assert np.isnan(test["p_value_convexity"])


@settings(max_examples=40, deadline=None)
@given(histograms, st.integers(1, 30))
def test_rebinning_keeps_the_sum_and_the_mean_and_agrees_with_integration(values, bins):
    pit = pit_histogram(histogram(values), bins=bins)
    edges = np.arange(values.size + 1) / values.size
    cumulated = np.interp(np.arange(bins + 1) / bins, edges, np.r_[0, values.cumsum()])
    np.testing.assert_allclose(pit, np.diff(cumulated) / values.sum(), atol=1e-12)
    np.testing.assert_allclose(pit["pit"], (np.arange(bins) + 0.5) / bins)


def test_rebinning_to_as_many_bins_as_ranks_changes_nothing_and_flat_stays_flat():
    values = np.array([1.0, 4.0, 2.0, 3.0, 0.0])
    np.testing.assert_array_equal(pit_histogram(histogram(values), bins=5), values / 10)
    np.testing.assert_allclose(pit_histogram(histogram(np.ones(51)), bins=10), 0.1, rtol=1e-14)


def test_no_weight_is_nan_nan_propagates_and_lazy_stays_lazy():
    values = histogram([[1, 2, 3], [0, 0, 0], [1, np.nan, 2]])
    for function in (
        reliability_index,
        pit_histogram,
        lambda h: flatness_test(h, cases=10)["p_value_chi_square"],
    ):
        result = function(values)
        missing = np.isnan(result).any([d for d in result.dims if d != "lead_time"])
        np.testing.assert_array_equal(missing, [False, True, True])
        lazy = function(values.chunk(lead_time=1))
        assert lazy.chunks
        xr.testing.assert_allclose(lazy.compute(), result)


def test_what_is_no_rank_histogram_is_refused():
    with pytest.raises(DimensionError, match="expected rank"):
        reliability_index(xr.DataArray([1.0, 2.0], dims="count"))
    with pytest.raises(DimensionError, match="two ranks"):
        pit_histogram(histogram([1.0]))
    with pytest.raises(InputError, match="cases"):
        flatness_test(histogram([1.0, 2.0]), cases=0)
    with pytest.raises(ValueError, match="bins is 0"):
        pit_histogram(histogram([1.0, 2.0]), bins=0)
