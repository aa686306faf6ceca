from __future__ import annotations

import numpy as np
import pytest
import scoringrules
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from weatherdiff.errors import DimensionError, InputError
from weatherdiff.evaluation import rank_of_observation
from weatherdiff.evaluation.decomposition import (
    hersbach_decomposition,
    hersbach_distances,
    sample_climatology_crps,
)


def arrays(x: np.ndarray, y: np.ndarray) -> tuple[xr.DataArray, xr.DataArray]:
    return xr.DataArray(x, dims=("number", "case")), xr.DataArray(y, dims="case")


def decompose(forecast: xr.DataArray, observation: xr.DataArray, weights=None, **options: object):
    if weights is None:
        weights = xr.ones_like(observation, dtype=float)
    mean = hersbach_distances(forecast, observation).weighted(weights).mean("case")
    ranks = rank_of_observation(forecast, observation).weighted(weights).mean("case")
    return hersbach_decomposition(mean["alpha"], mean["beta"], ranks, **options)


def standard_crps(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return scoringrules.crps_ensemble(y, x, m_axis=0, estimator="nrg")


def hersbach(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Reliability and potential as in the paper's text, interval by interval, without ties."""
    members = len(x)
    ordered = np.sort(x, axis=0)
    reliability = potential = 0.0
    for i in range(members + 1):
        p = i / members
        if i == 0:
            outside = y < ordered[0]
            o = outside.mean()
            g = (ordered[0] - y)[outside].mean() if outside.any() else 0.0
        elif i == members:
            outside = y > ordered[-1]
            o = 1 - outside.mean()
            g = (y - ordered[-1])[outside].mean() if outside.any() else 0.0
        else:
            left, right = ordered[i - 1], ordered[i]
            g = (right - left).mean()
            o = (right - np.clip(y, left, right)).mean() / g
        reliability += g * (o - p) ** 2
        potential += g * o * (1 - o)
    return reliability, potential


# Half integers: ties between members and with the observation; huge offsets.
values = st.integers(-6, 6).map(lambda i: i / 2)
ensembles = st.integers(1, 5).flatmap(
    lambda members: st.tuples(
        hnp.arrays(np.float64, (members, 4), elements=values),
        hnp.arrays(np.float64, 4, elements=values),
        hnp.arrays(np.float64, 4, elements=st.floats(0.1, 3)),
        st.sampled_from([0.0, 5e5]),
    )
)


@settings(max_examples=30, deadline=None)
@given(ensembles)
def test_reliability_and_potential_add_up_to_the_standard_crps_whatever_ties(case):
    x, y, weights, offset = case
    forecast, observation = arrays(x + offset, y + offset)
    weights = xr.DataArray(weights, dims="case")
    parts = decompose(forecast, observation, weights)
    crps = np.average(standard_crps(x, y), weights=weights)
    assert float(parts["reliability"] + parts["potential"]) == pytest.approx(crps, abs=1e-12)
    assert float(parts["reliability"]) >= 0
    assert float(parts["potential"]) >= -1e-12


@settings(max_examples=30, deadline=None)
@given(ensembles)
def test_intervals_give_the_standard_crps_of_each_point(case):
    x, y, _, offset = case
    forecast, observation = arrays((x + offset).astype(np.float32), (y + offset).astype(np.float32))
    intervals = hersbach_distances(forecast, observation)
    p = intervals["rank"] / len(x)
    crps = (intervals["alpha"] * p**2 + intervals["beta"] * (1 - p) ** 2).sum("rank")
    np.testing.assert_allclose(crps, standard_crps(x, y), atol=1e-12)
    assert float(min(intervals["alpha"].min(), intervals["beta"].min())) >= 0


def test_parts_match_the_papers_formulas_interval_by_interval():
    rng = np.random.default_rng(1)
    x, y = rng.normal(0.3, 0.8, size=(6, 200)), rng.normal(size=200)
    parts = decompose(*arrays(x, y))
    reliability, potential = hersbach(x, y)
    assert float(parts["reliability"]) == pytest.approx(reliability, rel=1e-12)
    assert float(parts["potential"]) == pytest.approx(potential, rel=1e-12)


def test_intervals_of_one_ensemble_are_those_drawn_by_hand():
    forecast = xr.DataArray([4.0, 1.0, 2.0], dims="number")
    expected = {
        0.5: ([0, 0, 0, 0], [0.5, 1, 2, 0]),
        2.0: ([0, 1, 0, 0], [0, 0, 2, 0]),
        3.5: ([0, 1, 1.5, 0], [0, 0, 0.5, 0]),
        6.0: ([0, 1, 2, 2], [0, 0, 0, 0]),
    }
    for observation, (alpha, beta) in expected.items():
        intervals = hersbach_distances(forecast, xr.DataArray(observation))
        np.testing.assert_array_equal(intervals["alpha"], alpha)
        np.testing.assert_array_equal(intervals["beta"], beta)


def test_a_perfect_ensemble_is_reliable_but_for_its_size_and_a_biased_one_is_not():
    rng = np.random.default_rng(2)
    centre = rng.normal(size=20_000)
    y = centre + rng.normal(size=20_000)
    share = {}
    for members in (10, 30):
        x = centre + rng.normal(size=(members, 20_000))
        perfect, biased = decompose(*arrays(x, y)), decompose(*arrays(x + 1, y))
        ends = perfect["observed_frequency"].values[[0, -1]]
        np.testing.assert_allclose(ends, [1 / (members + 1), members / (members + 1)], atol=0.006)
        share[members] = float(
            perfect["reliability"] / (perfect["reliability"] + perfect["potential"])
        )
        assert float(biased["reliability"]) > 20 * float(perfect["reliability"])
    assert share[10] * 10**2 == pytest.approx(1.4, abs=0.15)
    assert share[30] * 30**2 == pytest.approx(1.6, abs=0.35)


def test_a_climatological_ensemble_has_hardly_any_resolution():
    rng = np.random.default_rng(3)
    y = rng.normal(size=5_000)
    x = rng.choice(y, size=(100, 5_000))
    observation = arrays(x, y)[1]
    parts = decompose(*arrays(x, y), uncertainty=sample_climatology_crps(observation))
    uncertainty = float(parts["uncertainty"])
    assert uncertainty == pytest.approx(1 / np.sqrt(np.pi), rel=0.03)
    assert float(parts["resolution"]) == pytest.approx(0, abs=0.02 * uncertainty)
    total = float(parts["reliability"] - parts["resolution"] + parts["uncertainty"])
    assert total == pytest.approx(standard_crps(x, y).mean())


def test_a_perfect_forecast_resolves_everything():
    y = np.random.default_rng(4).normal(size=50)
    parts = decompose(*arrays(np.stack([y, y]), y), uncertainty=0.6)
    assert float(parts["reliability"]) == float(parts["potential"]) == 0
    assert float(parts["resolution"]) == 0.6
    assert np.isnan(parts["observed_frequency"]).all()


def test_an_outlier_that_the_rank_histogram_denies_is_nan_rather_than_lost():
    alpha, beta = (xr.DataArray(a, dims="rank") for a in ([0.0, 1.0, 0.0], [0.5, 1.0, 0.0]))
    parts = hersbach_decomposition(alpha, beta, xr.DataArray([0.0, 1.0, 0.0], dims="rank"))
    assert np.isnan(parts["reliability"])
    assert np.isnan(parts["potential"])


def test_missing_values_make_every_rank_nan():
    forecast, observation = arrays(np.arange(6.0).reshape(2, 3), np.zeros(3))
    forecast[1, 0], observation[2] = np.nan, np.nan
    intervals = hersbach_distances(forecast, observation)
    for name in ("alpha", "beta"):
        np.testing.assert_array_equal(np.isnan(intervals[name]).all("rank"), [1, 0, 1])
        np.testing.assert_array_equal(np.isnan(intervals[name]).any("rank"), [1, 0, 1])
    assert np.isnan(hersbach_decomposition(intervals["alpha"], intervals["beta"], intervals["beta"])
                    ["potential"]).values.tolist() == [True, False, True]  # fmt: skip


def test_lazy_input_gives_the_same_lazily_and_other_dimensions_stay():
    rng = np.random.default_rng(5)
    forecast = xr.DataArray(rng.normal(size=(3, 2, 9)), dims=("number", "lead_time", "case"))
    observation = xr.DataArray(rng.normal(size=(2, 9)), dims=("lead_time", "case"))
    eager = decompose(forecast, observation, uncertainty=1.0)
    lazy = decompose(forecast.chunk(case=4), observation.chunk(case=4), uncertainty=1.0)
    assert lazy.chunks
    xr.testing.assert_allclose(lazy.compute(), eager)
    for lead in range(2):
        xr.testing.assert_allclose(
            decompose(forecast.isel(lead_time=lead), observation.isel(lead_time=lead)),
            eager.isel(lead_time=lead).drop_vars(["uncertainty", "resolution"]),
        )


def test_arrays_that_do_not_fit_are_refused():
    forecast, observation = arrays(np.zeros((2, 3)), np.zeros(3))
    with pytest.raises(DimensionError, match="swapped"):
        hersbach_distances(observation, forecast)
    with pytest.raises(DimensionError, match="has no dimension"):
        hersbach_distances(observation, observation)
    table = xr.DataArray(np.ones(3), dims="rank")
    with pytest.raises(DimensionError, match=r"\[2, 3\] ranks"):
        hersbach_decomposition(table, table, table[:2])
    with pytest.raises(DimensionError, match=r"\[0, 3\] ranks"):
        hersbach_decomposition(table, table, observation)


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(np.float64, (3, 5), elements=values),
    hnp.arrays(np.float64, (3, 5), elements=st.one_of(st.just(0.0), st.floats(0.1, 2))),
)
def test_sample_climatology_is_half_the_mean_difference_of_all_pairs(y, weights):
    observations, w = (xr.DataArray(a, dims=("time", "latitude")) for a in (y, weights))
    pairs = np.abs(y.ravel()[:, None] - y.ravel()) * weights.ravel()[:, None] * weights.ravel()
    total = weights.sum() ** 2
    expected = pairs.sum() / (2 * total) if total else np.nan
    ours = sample_climatology_crps(observations + 5e5, weights=w)
    assert float(ours) == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_sample_climatology_is_the_crps_of_the_sample_as_an_ensemble_for_itself():
    y = np.random.default_rng(6).normal(size=40)
    expected = standard_crps(np.repeat(y[:, np.newaxis], 40, axis=1), y).mean()
    assert float(sample_climatology_crps(xr.DataArray(y, dims="case"))) == pytest.approx(expected)


def test_sample_climatology_keeps_other_dimensions_and_ignores_what_has_no_weight():
    y = xr.DataArray(np.random.default_rng(7).normal(size=(4, 30)), dims=("level", "time"))
    whole = sample_climatology_crps(y, dim="time")
    assert whole.dims == ("level",)
    gap = y.copy()
    gap[2, 5] = np.nan
    assert np.isnan(sample_climatology_crps(gap, dim="time")).values.tolist() == [0, 0, 1, 0]
    left_out = sample_climatology_crps(gap, weights=gap.notnull().astype(float), dim="time")
    np.testing.assert_allclose(left_out[[0, 1, 3]], whole[[0, 1, 3]])
    expected = sample_climatology_crps(y[2].drop_isel(time=5))
    assert float(left_out[2]) == pytest.approx(float(expected))


def test_sample_climatology_refuses_negative_weights_and_unknown_dimensions():
    y = xr.DataArray([1.0, 2.0], dims="time")
    with pytest.raises(InputError, match="negative or NaN"):
        sample_climatology_crps(y, weights=-y)
    with pytest.raises(DimensionError, match="no dimension"):
        sample_climatology_crps(y, dim="latitude")
