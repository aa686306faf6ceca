from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import dask.array
import numpy as np
import pytest
import scoringrules
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from weatherdiff.errors import DimensionError
from weatherdiff.evaluation.ranks import pit, rank_histogram, rank_of_observation
from weatherdiff.evaluation.scores import (
    absolute_error_of_mean,
    crps_ensemble,
    crps_parts,
    ensemble_variance,
    error_of_mean,
    squared_error_of_mean,
    threshold_weighted_crps,
)

ESTIMATORS = ("fair", "standard")
# scoringrules calls the standard estimator the energy form.
ORACLE = {"fair": "fair", "standard": "nrg"}


def ensemble(values: object, *dims: str) -> xr.DataArray:
    return xr.DataArray(np.asarray(values), dims=("number", *dims))


def crps(members: object, observation: object, estimator: str) -> float:
    return float(crps_ensemble(ensemble(members), xr.DataArray(observation), estimator=estimator))


def crps_by_definition(x: np.ndarray, y: np.ndarray, estimator: str) -> np.ndarray:
    """All pairs, members first."""
    members = len(x)
    pairs = members * (members - 1) if estimator == "fair" else members**2
    apart = sum(np.abs(a - b) for a in x for b in x)
    return np.abs(x - y).mean(axis=0) - apart / (2 * pairs)


@pytest.mark.parametrize(
    ("members", "observation", "estimator", "expected"),
    [
        ([-1.0, 0.0, 0.0, 1.0], 0.0, "standard", 1 / 8),
        ([1.0, 2.0, 3.0], 1.5, "standard", 5 / 6 - 4 / 9),
        ([1.0, 2.0, 3.0], 1.5, "fair", 5 / 6 - 4 / 6),
        ([2.0], 5.0, "standard", 3.0),
    ],
)
def test_crps_has_its_published_conformance_values(members, observation, estimator, expected):
    assert crps(members, observation, estimator) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("observation", [-3.0, 1.0, 1.7, 2.5, 9.0])
def test_crps_of_two_members_matches_the_closed_form(observation):
    to_members = (abs(1.0 - observation) + abs(2.5 - observation)) / 2
    assert crps([2.5, 1.0], observation, "standard") == pytest.approx(to_members - 1.5 / 4)
    assert crps([2.5, 1.0], observation, "fair") == pytest.approx(to_members - 1.5 / 2)


def test_crps_of_gaussian_quantiles_tends_to_the_closed_form():
    quantiles = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    expected = (np.sqrt(2) - 1) / np.sqrt(np.pi)
    assert crps(quantiles, 0.0, "standard") == pytest.approx(expected, rel=1e-4)


def test_fair_crps_of_few_gaussian_members_is_unbiased_and_the_standard_one_is_not():
    rng = np.random.default_rng(3)
    x, y = (
        ensemble(rng.normal(size=(3, 200_000)), "case"),
        xr.DataArray(np.zeros(200_000), dims="case"),
    )
    expected = (np.sqrt(2) - 1) / np.sqrt(np.pi)
    fair = crps_ensemble(x, y, estimator="fair")
    error = float(fair.std()) / np.sqrt(fair.size)
    assert abs(float(fair.mean()) - expected) < 4 * error
    # The pair term, E|x - x'| / 2 = 1 / sqrt(pi), lacks one part in M.
    standard = crps_ensemble(x, y, estimator="standard").mean()
    assert abs(float(standard) - expected - 1 / (3 * np.sqrt(np.pi))) < 4 * error


def test_standard_crps_of_a_calibrated_ensemble_is_inflated_by_one_part_in_m():
    rng = np.random.default_rng(4)
    x, y = (
        ensemble(rng.normal(size=(5, 200_000)), "case"),
        xr.DataArray(rng.normal(size=200_000), dims="case"),
    )
    fair, standard = (float(crps_ensemble(x, y, estimator=e).mean()) for e in ESTIMATORS)
    assert standard / fair == pytest.approx(1 + 1 / 5, rel=5e-3)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("members", [2, 3, 8, 35])
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, shape: rng.normal(size=shape),
        lambda rng, shape: rng.integers(0, 3, size=shape).astype(float),
        lambda rng, shape: np.zeros(shape),
        lambda rng, shape: rng.standard_cauchy(size=shape) * 1e6,
        lambda rng, shape: 1e-30 * rng.normal(size=shape),
    ],
    ids=["normal", "tied", "constant", "heavy", "tiny"],
)
def test_crps_agrees_with_scoringrules_and_with_all_pairs(estimator, members, draw):
    rng = np.random.default_rng(5)
    x, y = draw(rng, (members, 6, 11)), draw(rng, (6, 11))
    ours = crps_ensemble(
        ensemble(x, "a", "b"), xr.DataArray(y, dims=("a", "b")), estimator=estimator
    ).values
    scale = np.abs(x).max() + np.abs(y).max()
    theirs = scoringrules.crps_ensemble(y, x, m_axis=0, estimator=ORACLE[estimator])
    np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-14 * scale)
    np.testing.assert_allclose(
        ours, crps_by_definition(x, y, estimator), rtol=1e-11, atol=1e-14 * scale
    )


def test_crps_of_float32_geopotential_loses_nothing_to_its_offset():
    rng = np.random.default_rng(6)
    x = (5e5 + rng.normal(size=(20, 300))).astype(np.float32)
    y = (5e5 + rng.normal(size=300)).astype(np.float32)
    ours = crps_ensemble(ensemble(x, "cell"), xr.DataArray(y, dims="cell")).values
    exact = crps_by_definition(x.astype(np.longdouble), y.astype(np.longdouble), "fair")
    np.testing.assert_allclose(ours, exact.astype(float), atol=1e-13)


numbers = st.floats(-1e3, 1e3, width=32)
cases = hnp.arrays(np.float64, st.tuples(st.integers(3, 9), st.integers(1, 4)), elements=numbers)


@settings(deadline=None, max_examples=60)
@given(cases, numbers, st.floats(0.01, 100), st.sampled_from(ESTIMATORS), st.randoms())
def test_crps_is_translation_invariant_homogeneous_and_symmetric_in_members(
    values, shift, scale, estimator, random
):
    def score(array: np.ndarray) -> np.ndarray:
        x, y = ensemble(array[1:], "case"), xr.DataArray(array[0], dims="case")
        return crps_ensemble(x, y, estimator=estimator).values

    reference, tolerance = score(values), 1e-11 * (1 + np.abs(values).max() + abs(shift))
    np.testing.assert_allclose(score(values + shift), reference, atol=tolerance)
    np.testing.assert_allclose(score(-values), reference, atol=tolerance)
    np.testing.assert_allclose(score(scale * values) / scale, reference, atol=tolerance)
    order = list(range(1, len(values)))
    random.shuffle(order)
    np.testing.assert_array_equal(score(values[[0, *order]]), reference)


@settings(deadline=None, max_examples=60)
@given(cases)
def test_standard_crps_lies_between_zero_and_the_mean_absolute_difference(values):
    x, y = ensemble(values[1:], "case"), xr.DataArray(values[0], dims="case")
    score = crps_ensemble(x, y, estimator="standard").values
    rounding = 1e-12 * (1 + np.abs(values).max())
    assert np.all(score >= -rounding)
    assert np.all(score <= np.abs(values[1:] - values[0]).mean(axis=0) + rounding)


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(2, 7), st.integers(1, 5)), elements=st.integers(0, 3)
    )
)
def test_rank_counts_are_spread_evenly_over_the_ranks_a_tie_allows(values):
    y, x = values[0], values[1:]
    counts = rank_of_observation(ensemble(x, "case"), xr.DataArray(y, dims="case"))
    assert counts.dims == ("case", "rank")
    for case in range(values.shape[1]):
        below, upto = np.sum(x[:, case] < y[case]), np.sum(x[:, case] <= y[case])
        expected = [
            1 / (upto - below + 1) if below <= rank <= upto else 0.0 for rank in range(len(x) + 1)
        ]
        np.testing.assert_allclose(counts.values[case], expected, rtol=1e-15)


def test_rank_of_an_observation_above_all_members_is_the_last():
    counts = rank_of_observation(ensemble([1.0, 2.0]), xr.DataArray(7.0))
    assert counts.values.tolist() == [0.0, 0.0, 1.0]
    assert counts["rank"].values.tolist() == [0, 1, 2]


def test_errors_and_variance_of_float32_fields_match_float64_arithmetic():
    rng = np.random.default_rng(7)
    x = (1e5 + rng.normal(size=(4, 6, 5))).astype(np.float32)
    y = (1e5 + rng.normal(size=(6, 5))).astype(np.float32)
    forecast, observation = ensemble(x, "a", "b"), xr.DataArray(y, dims=("a", "b"))
    error = x.astype(float).mean(axis=0) - y
    rtol = 1e-9
    np.testing.assert_allclose(error_of_mean(forecast, observation), error, rtol)
    np.testing.assert_allclose(squared_error_of_mean(forecast, observation), error**2, rtol)
    np.testing.assert_allclose(absolute_error_of_mean(forecast, observation), np.abs(error), rtol)
    variance = np.var(x.astype(float), axis=0, ddof=1)
    np.testing.assert_allclose(ensemble_variance(forecast), variance, rtol)


PAIR_SCORES = (crps_ensemble, error_of_mean, rank_of_observation)


@pytest.mark.parametrize("score", [*PAIR_SCORES, lambda x, _: ensemble_variance(x)])
def test_chunked_input_stays_lazy_and_gives_the_same_bits(score: Callable[..., xr.DataArray]):
    rng = np.random.default_rng(8)
    x = xr.DataArray(rng.normal(size=(9, 5, 70)), dims=("time", "number", "cell"))
    y = xr.DataArray(rng.normal(size=(9, 70)), dims=("time", "cell"))
    lazy = score(x.chunk(time=2, number=2, cell=33), y.chunk(time=2, cell=33))
    assert isinstance(lazy.data, dask.array.Array)
    eager = score(x, y)
    assert eager.dims == lazy.dims
    np.testing.assert_array_equal(lazy.values, eager.values)


def test_observation_without_a_dimension_of_the_forecast_is_broadcast():
    rng = np.random.default_rng(9)
    x = xr.DataArray(rng.normal(size=(4, 3, 2)), dims=("number", "lead_time", "cell"))
    y = xr.DataArray(rng.normal(size=2), dims="cell")
    whole = crps_ensemble(x, y)
    for lead in range(3):
        np.testing.assert_array_equal(whole[lead], crps_ensemble(x[:, lead], y))


@pytest.mark.parametrize("score", PAIR_SCORES)
def test_nan_and_opposite_infinities_propagate_to_their_point_only(score):
    x = ensemble([[1.0, 1.0, np.inf], [np.nan, 2.0, -np.inf], [3.0, 3.0, 0.0]], "case")
    y = xr.DataArray([2.0, np.nan, 1.0], dims="case")
    if score is rank_of_observation:  # an infinite member has a rank
        x, y = x[:, :2], y[:2]
    assert np.isnan(score(x, y).values).all()
    fine = score(x.fillna(0.0)[:, :1], y.fillna(0.0)[:1])
    assert np.isfinite(fine.values).all()


@pytest.mark.parametrize("score", PAIR_SCORES)
def test_swapped_arguments_are_refused(score):
    with pytest.raises(DimensionError, match=r"swapped.*\(forecast, observation\)"):
        score(xr.DataArray(1.0), ensemble([1.0, 2.0]))


@pytest.mark.parametrize("score", PAIR_SCORES)
def test_a_forecast_without_members_is_refused(score):
    with pytest.raises(DimensionError, match="no dimension 'number'"):
        score(xr.DataArray([1.0, 2.0], dims="cell"), xr.DataArray([1.0, 2.0], dims="cell"))
    with pytest.raises(DimensionError, match="no member"):
        score(ensemble([]), xr.DataArray(1.0))


def test_fair_crps_and_variance_of_one_member_are_refused():
    with pytest.raises(DimensionError, match="standard"):
        crps_ensemble(ensemble([1.0]), xr.DataArray(2.0), estimator="fair")
    with pytest.raises(DimensionError, match="one member"):
        ensemble_variance(ensemble([1.0]))


def test_an_unknown_estimator_is_refused():
    with pytest.raises(ValueError, match="'fair' or 'standard'"):
        crps_ensemble(ensemble([1.0, 2.0]), xr.DataArray(2.0), estimator="pwm")


def test_coordinates_that_differ_are_refused_rather_than_intersected():
    x = ensemble(np.ones((2, 3)), "latitude").assign_coords(latitude=[0.0, 1.0, 2.0])
    y = xr.DataArray(np.ones(3), {"latitude": [0.0, 1.0, 2.0 + 1e-7]}, "latitude")
    with pytest.raises(xr.AlignmentError):
        crps_ensemble(x, y)


def test_another_name_of_the_ensemble_dimension_is_taken():
    x = ensemble([1.0, 2.0, 3.0]).rename(number="realization")
    score = crps_ensemble(x, xr.DataArray(1.5), dim="realization")
    assert float(score) == pytest.approx(5 / 6 - 4 / 6)


@pytest.mark.parametrize("draw", ["normal", "tied"])
def test_every_estimator_is_a_share_of_the_same_parts(draw):
    rng = np.random.default_rng(10)
    values = rng.normal(size=(6, 40)).round(0 if draw == "tied" else 9)
    x, y = ensemble(values[:5], "case"), xr.DataArray(values[5], dims="case")
    fair, standard = (crps_ensemble(x, y, estimator=name) for name in ESTIMATORS)
    parts = crps_parts(x, y)
    xr.testing.assert_allclose(fair, parts.over + parts.under - parts.dispersion)
    almost = crps_ensemble(x, y, estimator="almost_fair", alpha=0.9)
    xr.testing.assert_allclose(almost, 0.9 * fair + 0.1 * standard)
    same_size = crps_ensemble(x, y, estimator="adjusted", members=5)
    xr.testing.assert_allclose(same_size, standard)
    many = crps_ensemble(x, y, estimator="adjusted", members=10**9)
    xr.testing.assert_allclose(many, fair)


def test_adjusted_crps_has_its_published_conformance_value():
    score = crps_ensemble(
        ensemble([1.0, 2.0, 3.0]), xr.DataArray(1.5), estimator="adjusted", members=7
    )
    assert float(score) == pytest.approx(5 / 6 - (4 / 6) * (6 / 7), rel=1e-15)


def test_estimators_without_what_they_need_are_refused():
    x, y = ensemble([1.0, 2.0]), xr.DataArray(2.0)
    with pytest.raises(ValueError, match="members are given"):
        crps_ensemble(x, y, estimator="adjusted")
    with pytest.raises(ValueError, match="members are given"):
        crps_ensemble(x, y, members=3)
    with pytest.raises(ValueError, match="alpha"):
        crps_ensemble(x, y, estimator="almost_fair", alpha=2.0)
    with pytest.raises(DimensionError, match="standard"):
        crps_ensemble(x[:1], y, estimator="almost_fair")


@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_threshold_weighted_crps_agrees_with_scoringrules(above, estimator):
    rng = np.random.default_rng(11)
    x, y, t = rng.normal(size=(12, 80)), rng.normal(size=80), rng.normal(size=80)
    bounds = {"a": t, "b": np.inf} if above else {"a": -np.inf, "b": t}
    ours = threshold_weighted_crps(
        ensemble(x, "case"),
        xr.DataArray(y, dims="case"),
        threshold=xr.DataArray(t, dims="case"),
        above=above,
        estimator=estimator,
    )
    theirs = scoringrules.twcrps_ensemble(
        y,
        x,
        m_axis=0,
        v_func=lambda z: np.clip(z, bounds["a"], bounds["b"]),
        estimator=ORACLE[estimator],
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-13)


def test_the_two_sides_of_a_threshold_add_to_the_crps():
    rng = np.random.default_rng(12)
    x, y = (
        ensemble(rng.normal(size=(7, 60)), "case"),
        xr.DataArray(rng.normal(size=60), dims="case"),
    )
    sides = [threshold_weighted_crps(x, y, threshold=0.3, above=side) for side in (True, False)]
    xr.testing.assert_allclose(sides[0] + sides[1], crps_ensemble(x, y))


@pytest.mark.parametrize("weighted", [True, False])
def test_rank_histogram_is_the_sum_of_the_ranks(weighted):
    rng = np.random.default_rng(13)
    x = xr.DataArray(rng.integers(0, 4, (3, 5, 7, 6)) / 2, dims=("time", "number", "lat", "lon"))
    y = xr.DataArray(rng.integers(0, 4, (3, 7, 6)) / 2, dims=("time", "lat", "lon"))
    weights = xr.DataArray(rng.random(7), dims="lat") if weighted else None
    ranks = rank_of_observation(x, y) * (weights if weighted else 1.0)
    xr.testing.assert_allclose(
        rank_histogram(x, y, weights=weights), ranks.sum(("time", "lat", "lon"))
    )
    kept = rank_histogram(x, y, over=("lat", "lon"), weights=weights)
    xr.testing.assert_allclose(kept, ranks.sum(("lat", "lon")))
    lazy = rank_histogram(x.chunk(time=1, lat=3), y.chunk(time=1), weights=weights)
    assert isinstance(lazy.data, dask.array.Array)
    xr.testing.assert_allclose(lazy.compute(), rank_histogram(x, y, weights=weights))


def test_pit_is_the_share_below_with_half_of_the_ties():
    x = ensemble([[1.0, np.nan], [2.0, 1.0], [2.0, 1.0], [5.0, 1.0]], "case")
    share = pit(x, xr.DataArray([2.0, 1.0], dims="case"))
    np.testing.assert_array_equal(share, [0.5, np.nan])


@pytest.mark.parametrize("dims", [("number", "a", "b"), ("a", "number", "b"), ("a", "b", "number")])
def test_the_crps_holds_little_beside_its_input(dims):
    rng = np.random.default_rng(14)
    x = xr.DataArray(
        rng.standard_normal((50, 512, 128), dtype=np.float32), dims=("number", "a", "b")
    )
    x = x.transpose(*dims).copy()
    y = xr.DataArray(np.zeros((512, 128), np.float32), dims=("a", "b"))
    crps_ensemble(x[{"a": slice(2)}], y[:2])  # compiles
    tracemalloc.start()
    score = crps_ensemble(x, y)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most <= 0.1 * x.nbytes
    np.testing.assert_array_equal(score[7], crps_ensemble(x.isel(a=7), y[7]))
