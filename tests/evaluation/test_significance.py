from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.linalg import toeplitz
from scipy.signal import lfilter

from weatherdiff.errors import GridMismatchError, InputError, UnitsError
from weatherdiff.evaluation import Persistence, evaluate, scores_from
from weatherdiff.evaluation.significance import (
    PooledScore,
    block_bootstrap,
    block_length,
    bootstrap,
    compare,
    mean_distribution,
    pooled,
    series,
)

DIMS = ("variable", "region", "init_time", "lead_time")
TESTED = ("lower", "upper", "p_value", "q_value", "effective_sample_size")


def autoregression(rng, reps: int, n: int, rho: float) -> np.ndarray:
    """Unit-variance, stationary from the first value."""
    noise = rng.standard_normal((reps, n))
    noise[:, 0] /= np.sqrt(1 - rho**2)
    return lfilter([1], [1, -rho], noise, axis=1) * np.sqrt(1 - rho**2)


def make(
    seed: int = 0, *, inits: int = 40, members: int = 5, regions=("all",), bias: float = 0.0
) -> xr.Dataset:
    """Statistics made by hand: 2 variables, 3 leads, two events, a reference; uneven weights."""
    rng = np.random.default_rng(seed)
    weights = np.random.default_rng(99).uniform(1, 3, size=(2, len(regions), inits, 3))

    def total(low: float, high: float) -> np.ndarray:
        return weights * rng.uniform(low, high, size=weights.shape)

    names = {
        "over": total(1 + bias, 2 + bias),
        "under": total(1, 2),
        "dispersion": total(0.5, 1),
        "squared_error": total(2 + bias, 5 + bias),
        "absolute_error": total(1 + bias, 2 + bias),
        "variance": total(1, 3),
        "anomaly_product": total(0.5, 1),
        "anomaly_forecast": total(1, 2),
        "anomaly_observation": total(1, 2),
        "over_climatology": total(1, 3),
        "under_climatology": total(1, 3),
        "dispersion_climatology": total(0.5, 1),
    }
    counts = rng.dirichlet(np.ones(members + 1), size=(*weights.shape, 2))
    share = np.random.default_rng(98).uniform(size=(*weights.shape, 2))  # observed: same for all
    occurred = counts / counts.sum(-1, keepdims=True) * share[..., None]
    occurred = np.minimum(occurred, 1.0)
    counts = occurred + rng.dirichlet(np.ones(members + 1), size=(*weights.shape, 2)) * (
        1 - occurred.sum(-1, keepdims=True)
    )
    scale = weights[..., None, None]
    return xr.Dataset(
        {
            "sum_weight": (DIMS, weights),
            **{f"sum_{name}": (DIMS, values) for name, values in names.items()},
            "sum_event_count": ((*DIMS, "event", "count"), counts * scale),
            "sum_event_occurred": ((*DIMS, "event", "count"), occurred * scale),
        },
        {
            "variable": ["t", "z_500"],
            "units": ("variable", ["K", "m**2 s**-2"]),
            "region": list(regions),
            "init_time": np.datetime64("2020-01-01", "ns")
            + np.arange(inits) * np.timedelta64(1, "D"),
            "lead_time": np.array([6, 12, 24], dtype="timedelta64[h]").astype("timedelta64[ns]"),
            "event": ["a", "b"],
            "count": np.arange(members + 1),
        },
        {"members": members, "references": ["climatology"], "nan": "propagate"},
    )


@pytest.fixture(scope="module")
def ours() -> xr.Dataset:
    return make(1)


@pytest.fixture(scope="module")
def theirs() -> xr.Dataset:
    return make(2, bias=0.3)


# The test of a mean


@pytest.mark.parametrize("n", [8, 23])
def test_expected_power_is_that_of_the_covariance_matrix(n):
    t = np.arange(n)
    cosine = np.sqrt(2 / n) * np.cos(np.pi * np.outer(np.arange(1, n), t + 0.5) / n)
    correlations = np.array([(-0.7) ** t, 0.0**t, 0.95**t, np.maximum(1 - t / 5, 0)])
    power, of_mean = series._expected_power(correlations)
    for i, correlation in enumerate(correlations):
        matrix = toeplitz(correlation)
        np.testing.assert_allclose(power[i], np.diag(cosine @ matrix @ cosine.T), atol=1e-12)
        np.testing.assert_allclose(of_mean[i], matrix.sum() / n)


def test_prior_of_the_models_is_a_probability():
    ratio, log_weight = series._models(40)
    prior = np.exp(log_weight + np.log(ratio).sum(axis=-1) / 2)
    np.testing.assert_allclose(prior.sum(), 1)
    assert (ratio > 0).all()


def test_plain_test_is_the_t_test_of_scipy():
    x = np.random.default_rng(1).normal(0.2, 1, size=(4, 17))
    mean = x.mean(axis=1)
    found = mean_distribution(x - mean[:, None], test="independent")
    expected = stats.ttest_1samp(x, 0, axis=1)
    np.testing.assert_allclose(found.p_value(mean), expected.pvalue)
    interval = expected.confidence_interval(0.9)
    np.testing.assert_allclose(mean - found.half_width(0.9), interval.low)


def test_plain_test_is_near_the_exact_sign_permutation():
    x = np.random.default_rng(3).normal(0.4, 1, size=12)
    signs = np.array(list(product((-1, 1), repeat=12)))
    exact = np.mean(np.abs(signs @ x) >= np.abs(x.sum()) * (1 - 1e-12))
    found = mean_distribution((x - x.mean())[None], test="independent").p_value([x.mean()])
    np.testing.assert_allclose(found, exact, atol=0.02)


def test_ewc_is_its_formula():
    x = np.random.default_rng(1).normal(0.2, 1, size=60)
    t = np.arange(60)
    power = [2 / 60 * (x @ np.cos(np.pi * j * (t + 0.5) / 60)) ** 2 for j in range(1, 7)]
    expected = 2 * stats.t.sf(abs(x.mean()) / np.sqrt(np.mean(power) / 60), 6)
    found = mean_distribution((x - x.mean())[None], test="ewc")
    np.testing.assert_allclose(found.p_value([x.mean()]), expected)


@given(
    n=st.integers(8, 60),
    seed=st.integers(0, 99),
    level=st.floats(0.5, 0.999),
    test=st.sampled_from(series.TESTS),
)
@settings(max_examples=60, deadline=None)
def test_interval_and_p_value_are_one_statistic(n, seed, level, test):
    x = autoregression(np.random.default_rng(seed), 3, n, 0.8)
    found = mean_distribution(x - x.mean(axis=1, keepdims=True), test=test)
    np.testing.assert_allclose(found.p_value(found.half_width(level)), 1 - level, rtol=1e-7)
    np.testing.assert_allclose(found.weight.sum(axis=-1), 1)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8, -0.4])
def test_effective_size_is_that_of_the_long_run_variance(rho):
    n = 3000
    x = autoregression(np.random.default_rng(3), 40, n, rho)
    found = mean_distribution(x - x.mean(axis=1, keepdims=True))
    np.testing.assert_allclose(np.mean(found.effective_size), n * (1 - rho) / (1 + rho), rtol=0.08)


@pytest.mark.parametrize(
    ("n", "rho"), [(8, 0.0), (12, 0.3), (30, 0.7), (30, 0.9), (60, 0.7), (200, 0.5), (730, 0.9)]
)
def test_false_positives_are_as_few_as_promised(n, rho):
    x = autoregression(np.random.default_rng(n), 2000, n, rho)
    mean = x.mean(axis=1)
    rejected = mean_distribution(x - mean[:, None]).p_value(mean) < 0.05
    # 0.06 and three standard errors of 2000 trials at 0.05.
    assert rejected.mean() < 0.06 + 3 * np.sqrt(0.05 * 0.95 / 2000)


def test_persistence_hidden_under_noise_is_found():
    rng = np.random.default_rng(4)
    n = 200
    x = np.sqrt(0.3) * autoregression(rng, 2000, n, 0.9) + np.sqrt(0.7) * rng.normal(size=(2000, n))
    mean = x.mean(axis=1)
    rate = {
        test: np.mean(mean_distribution(x - mean[:, None], test=test).p_value(mean) < 0.05)
        for test in series.TESTS
    }
    assert rate["adaptive"] < 0.075
    assert rate["ewc"] > 0.1
    assert rate["independent"] > 0.3


def test_smooth_series_lose_neither_size_nor_power():
    rng = np.random.default_rng(6)
    noise = rng.standard_normal((1000, 600))
    x = lfilter([1], [1, -1.2, 0.4], noise, axis=1)[:, 400:]
    shift = 3 / (1 - 1.2 + 0.4) / np.sqrt(200)
    for added, low, high in ((0, 0.02, 0.075), (shift, 0.65, 0.9)):
        mean = x.mean(axis=1) + added
        found = mean_distribution(x - x.mean(axis=1, keepdims=True)).p_value(mean)
        assert low < np.mean(found < 0.05) < high


def test_a_shift_is_found_with_fair_power():
    rng = np.random.default_rng(5)
    for n, rho in ((60, 0.0), (200, 0.5)):
        shift = 4 * np.sqrt(toeplitz(rho ** np.arange(n)).sum()) / n
        x = autoregression(rng, 500, n, rho) + shift
        mean = x.mean(axis=1)
        assert np.mean(mean_distribution(x - mean[:, None]).p_value(mean) < 0.05) > 0.8


def test_series_too_short_or_a_test_unknown_are_refused():
    with pytest.raises(ValueError, match="at least 8"):
        mean_distribution(np.ones((1, 7)))
    with pytest.raises(ValueError, match="expected one of adaptive"):
        mean_distribution(np.ones((1, 9)), test="t")


# Comparisons


def test_linear_score_is_tested_by_the_paired_differences(ours, theirs):
    ours, theirs = (ds.assign(sum_weight=ds["sum_weight"] * 0 + 2.5) for ds in (ours, theirs))
    found = compare(ours, theirs, score="mse", test="independent", level=0.9)
    pairs = (ours["sum_squared_error"] - theirs["sum_squared_error"]).isel(region=0) / 2.5
    expected = stats.ttest_1samp(pairs.values, 0, axis=1)
    np.testing.assert_allclose(found["p_value"], expected.pvalue)
    np.testing.assert_allclose(found["difference"], pairs.mean("init_time"))
    interval = expected.confidence_interval(0.9)
    np.testing.assert_allclose(found["lower"], interval.low)
    np.testing.assert_allclose(found["upper"], interval.high)
    np.testing.assert_allclose(found["effective_sample_size"], 40)
    assert found["p_value"].dims == ("variable", "lead_time")
    assert found["units"].values.tolist() == ["K", "m**2 s**-2"]


def test_scores_are_pooled_with_their_weights(ours, theirs):
    found = compare(ours, theirs)
    crps = (ours["sum_over"] + ours["sum_under"] - ours["sum_dispersion"]).sum("init_time")
    expected = (crps / ours["sum_weight"].sum("init_time")).isel(region=0)
    np.testing.assert_allclose(found["first"], expected)
    np.testing.assert_allclose(found["difference"], found["first"] - found["second"])
    np.testing.assert_allclose(found["skill"], 1 - found["first"] / found["second"])
    np.testing.assert_allclose(found["relative_difference"], -found["skill"])


def test_brier_score_is_that_of_every_point():
    # Points with 0..4 of 4 members in the event, and whether it came.
    rng = np.random.default_rng(1)
    hits, came, weight = rng.integers(0, 5, 300), rng.integers(0, 2, 300), rng.uniform(1, 2, 300)
    count = np.bincount(hits, weight, 5)
    occurred = np.bincount(hits, weight * came, 5)
    dims = ("variable", "event", "count")
    statistics = xr.Dataset(
        {
            "sum_event_count": (dims, count[None, None]),
            "sum_event_occurred": (dims, occurred[None, None]),
            "sum_weight": ("variable", [weight.sum()]),
        },
        {"count": np.arange(5)},
        {"members": 4},
    )
    p = hits / 4
    standard = (p - came) ** 2
    fair = standard - p * (1 - p) / 3
    for estimator, expected in (("standard", standard), ("fair", fair)):
        found = PooledScore("brier", estimator)(statistics)
        np.testing.assert_allclose(found, np.average(expected, weights=weight))


@pytest.mark.parametrize("score", sorted(set(pooled.SCORES) - {"threshold_weighted_crps"}))
def test_influence_is_the_effect_of_leaving_an_initial_time_out(ours, score):
    scored = PooledScore(score)
    parts = [part.isel(variable=0, region=0, lead_time=1) for part in scored.parts(ours)]
    parts = [part.isel(event=0) if "event" in part.dims else part for part in parts]
    values = [part.values for part in parts]
    weight = ours["sum_weight"].isel(variable=0, region=0, lead_time=1).values
    n = len(weight)
    effects = pooled.influence(scored, values, weight)
    whole = scored.of_means(*pooled.pool(values, weight))
    keep = ~np.eye(n, dtype=bool)
    without = np.array(
        [scored.of_means(*pooled.pool([v[k] for v in values], weight[k])) for k in keep]
    )
    np.testing.assert_allclose(effects.sum(), 0, atol=1e-10)
    scale = np.abs(effects).max()
    np.testing.assert_allclose((whole - without) * n, effects, atol=0.15 * scale)


@pytest.mark.parametrize("score", ["rmse", "spread_skill_ratio", "acc"])
def test_nonlinear_scores_agree_with_the_bootstrap(score):
    a, b = make(3, inits=400), make(4, inits=400, bias=0.4)
    found = compare(a, b, score=score, test="independent")
    both = xr.merge(
        [
            a.rename({name: f"{name}_a" for name in a.data_vars}),
            b.rename({name: f"{name}_b" for name in b.data_vars}),
        ],
        combine_attrs="override",
        compat="override",
        join="exact",
    ).rename({f"sum_{n}_{s}": f"sum_{s}_{n}" for n in _sums(a) for s in "ab"})

    def difference(sums: xr.Dataset) -> xr.DataArray:
        scores = [
            PooledScore(score)(sums.rename({f"sum_{s}_{n}": f"sum_{n}" for n in _sums(a)}))
            for s in "ab"
        ]
        return scores[0] - scores[1]

    drawn = block_bootstrap(both, difference, seed=1, replicates=2000, block=1)
    np.testing.assert_allclose(drawn["estimate"].isel(region=0), found["difference"], rtol=1e-10)
    half = (found["upper"] - found["lower"]) / 2 / stats.t.ppf(0.975, 399)
    np.testing.assert_allclose(drawn["standard_error"].isel(region=0), half, rtol=0.1)


def _sums(ds: xr.Dataset) -> list[str]:
    return [str(name).removeprefix("sum_") for name in ds.data_vars]


@given(seed=st.integers(0, 50), score=st.sampled_from(["crps", "rmse", "spread_skill_ratio"]))
@settings(max_examples=6, deadline=None)
def test_comparison_is_antisymmetric(seed, score):
    a, b = make(seed, inits=12), make(seed + 100, inits=12, bias=0.5)
    one, other = compare(a, b, score=score), compare(b, a, score=score)
    np.testing.assert_allclose(one["difference"], -other["difference"])
    np.testing.assert_allclose(one["lower"], -other["upper"], rtol=1e-9)
    for name in ("p_value", "q_value", "effective_sample_size"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-9)


@given(factor=st.floats(1e-12, 1e12), seed=st.integers(0, 50))
@settings(max_examples=6, deadline=None)
def test_comparison_scales_with_the_unit(factor, seed):
    a, b = make(seed, inits=12), make(seed + 100, inits=12)
    plain = compare(a, b)
    for ds in (a, b):
        for name in ("over", "under", "dispersion"):
            ds[f"sum_{name}"] = ds[f"sum_{name}"] * factor
    scaled = compare(a, b)
    for name in ("difference", "lower", "upper", "first"):
        np.testing.assert_allclose(scaled[name], plain[name] * factor, rtol=1e-7)
    for name in ("p_value", "q_value", "effective_sample_size", "skill"):
        np.testing.assert_allclose(scaled[name], plain[name], rtol=1e-7)


@pytest.mark.parametrize("score", ["crps", "rmse", "spread_skill_ratio", "brier", "acc"])
def test_identical_models_do_not_differ(ours, score):
    found = compare(ours, ours.copy(deep=True), score=score)
    np.testing.assert_array_equal(found["difference"], 0)
    np.testing.assert_array_equal(found["p_value"], 1)
    np.testing.assert_array_equal(found["lower"], 0)
    assert not found["significant"].any()


def test_sums_that_differ_by_rounding_do_not_differ(ours):
    shaken = ours.assign(sum_over=ours["sum_over"] * (1 + 1e-15))
    np.testing.assert_array_equal(compare(shaken, ours)["p_value"], 1)


def test_two_perfect_models_do_not_differ(ours):
    perfect = ours.assign(sum_squared_error=ours["sum_squared_error"] * 0)
    np.testing.assert_array_equal(compare(perfect, perfect, score="rmse")["p_value"], 1)
    assert compare(perfect, perfect, score="spread_skill_ratio")["difference"].isnull().all()


def test_interval_leaves_out_zero_where_the_p_value_is_small(ours, theirs):
    found = compare(ours, theirs.isel(init_time=slice(25)), level=0.8)
    apart = (found["lower"] > 0) | (found["upper"] < 0)
    xr.testing.assert_equal(apart, found["p_value"] < 0.2)


@pytest.mark.parametrize(("dependence", "method"), [("positive", "bh"), ("any", "by")])
def test_q_values_are_those_of_the_whole_scorecard(dependence, method):
    a, b = make(1, regions=("north", "south")), make(2, regions=("north", "south"), bias=0.1)
    found = compare(a, b, dependence=dependence)
    expected = stats.false_discovery_control(found["p_value"].values.ravel(), method=method)
    np.testing.assert_allclose(found["q_value"].values.ravel(), expected)
    assert found["q_value"].dims == ("variable", "region", "lead_time")
    np.testing.assert_array_equal(found["significant"], found["q_value"] <= 1 - 0.95)


def test_models_are_compared_on_what_both_have(ours, theirs):
    a = ours.isel(init_time=slice(0, 30), lead_time=[0, 1])
    b = theirs.isel(init_time=np.arange(39, 5, -1), lead_time=[2, 1], variable=[1, 0])
    found = compare(a, b)
    assert found["variable"].values.tolist() == ["t", "z_500"]
    assert found["lead_time"].values.tolist() == ours["lead_time"].values[[1]].tolist()
    assert (found["pairs"] == 24).all()
    assert found.attrs["init_times_of_first_only"] == 6
    assert found.attrs["init_times_of_second_only"] == 10
    part = slice(6, 30)
    same = compare(ours.isel(init_time=part), theirs.isel(init_time=part)).isel(lead_time=[1])
    for name in ("first", "difference", "p_value", "lower"):
        np.testing.assert_allclose(found[name], same[name])


def test_order_of_initial_times_in_the_store_does_not_matter(ours, theirs):
    shuffled = ours.isel(init_time=np.random.default_rng(1).permutation(40))
    for second in (theirs, "climatology"):
        one, other = compare(ours, second), compare(shuffled, second)
        np.testing.assert_allclose(one["p_value"], other["p_value"])


def test_initial_times_scored_on_other_cells_are_left_out_and_counted(ours, theirs):
    theirs = theirs.copy(deep=True)
    theirs["sum_weight"].values[1, 0, 5:8, 2] *= 0.9
    found = compare(ours, theirs)
    assert found["left_out"].values.tolist() == [[0, 0, 0], [0, 0, 3]]
    assert found["pairs"].values.tolist() == [[40, 40, 40], [40, 40, 37]]
    keep = [i for i in range(40) if not 5 <= i < 8]
    alone = compare(ours.isel(init_time=keep), theirs.isel(init_time=keep))
    for name in ("first", "second", "p_value", "upper"):
        np.testing.assert_allclose(found[name][1, 2], alone[name][1, 2])


def test_initial_times_without_observation_are_no_pairs(ours, theirs):
    ours, theirs = ours.copy(deep=True), theirs.copy(deep=True)
    for ds in (ours, theirs):
        for name in ds.data_vars:
            ds[name].values[:, :, :4] = 0
    found = compare(ours, theirs)
    assert (found["pairs"] == 36).all()
    assert (found["left_out"] == 0).all()
    rest = slice(4, None)
    expected = compare(ours.isel(init_time=rest), theirs.isel(init_time=rest))
    np.testing.assert_allclose(found["p_value"], expected["p_value"])


def test_too_few_pairs_have_no_p_value_but_a_reason(ours, theirs):
    found = compare(ours.isel(init_time=slice(7)), theirs)
    assert found[list(TESTED)].isnull().all().to_array().all()
    assert found["difference"].notnull().all()
    assert not found["significant"].any()
    assert found["p_value"].attrs["untested"] == "6 of 6 have fewer than 8 pairs"


def test_nan_propagates_to_its_cell_alone(ours, theirs):
    ours = ours.copy(deep=True)
    ours["sum_over"].values[0, 0, 3, 1] = np.nan
    found = compare(ours, theirs)
    for name in ("first", "difference", *TESTED):
        assert found[name].isnull().sum() == 1, name
        assert found[name].isnull()[0, 1]
    assert "NaN" in found["p_value"].attrs["untested"]
    others = stats.false_discovery_control(found["p_value"].values[found["p_value"].notnull()])
    np.testing.assert_allclose(found["q_value"].values[found["q_value"].notnull()], others)


def test_a_difference_that_never_varies_is_not_judged(ours):
    other = ours.assign(sum_absolute_error=ours["sum_absolute_error"] + 0.5 * ours["sum_weight"])
    found = compare(other, ours, score="mae")
    np.testing.assert_allclose(found["difference"], 0.5)
    assert found["p_value"].isnull().all()
    assert "never varies" in found["p_value"].attrs["untested"]


def test_ensemble_is_compared_with_its_reference(ours):
    found = compare(ours, "climatology")
    reference = ours.assign(
        {f"sum_{n}": ours[f"sum_{n}_climatology"] for n in ("over", "under", "dispersion")}
    )
    expected = compare(ours, reference)
    for name in expected.data_vars:
        xr.testing.assert_equal(found[name], expected[name])
    assert found.attrs["second"] == "climatology"


def test_standard_estimator_of_a_reference_needs_its_members(ours):
    with pytest.raises(InputError, match="members of climatology"):
        compare(ours, "climatology", estimator="standard")
    ours = ours.copy()
    ours["sum_over_climatology"] = ours["sum_over_climatology"].assign_attrs(members=20)
    second = compare(ours, "climatology", estimator="standard")["second"]
    total = ours.sum("init_time")
    crps = (
        total["sum_over_climatology"]
        + total["sum_under_climatology"]
        - 0.95 * total["sum_dispersion_climatology"]
    )
    np.testing.assert_allclose(second, (crps / total["sum_weight"]).isel(region=0))


def test_events_are_a_dimension(ours, theirs):
    found = compare(ours, theirs, score="brier")
    assert found["p_value"].dims == ("variable", "lead_time", "event")
    assert (found["pairs"] == 40).all()
    other = theirs.copy(deep=True)
    other["sum_event_occurred"].values[0, 0, 3, 1] *= 0.5
    with pytest.raises(InputError, match="observed events"):
        compare(ours, other, score="brier")


def test_threshold_weighted_crps_is_the_crps_of_clipped_values(ours, theirs):
    clipped = [
        ds.assign(
            {
                f"sum_event_{name}": ds[f"sum_{name}"].expand_dims(event=ds["event"], axis=-1)
                for name in ("over", "under", "dispersion")
            }
        )
        for ds in (ours, theirs)
    ]
    found, plain = compare(*clipped, score="threshold_weighted_crps"), compare(ours, theirs)
    for name in ("difference", "p_value", "lower"):
        np.testing.assert_allclose(found[name].isel(event=1), plain[name])


def test_ensembles_of_other_size_compare_with_the_fair_estimator_only(ours):
    larger = make(2, members=9)
    assert compare(ours, larger)["p_value"].notnull().all()
    assert compare(ours, larger, score="brier")["p_value"].notnull().all()
    with pytest.raises(InputError, match="5 and 9 members"):
        compare(ours, larger, estimator="standard")


def test_what_does_not_compare_is_refused(ours, theirs):
    with pytest.raises(InputError, match="none of the references"):
        compare(ours, "persistence")
    with pytest.raises(InputError, match="no variable is in both"):
        compare(ours.isel(variable=[0]), theirs.isel(variable=[1]))
    with pytest.raises(InputError, match="no init_time is in both"):
        compare(ours.isel(init_time=slice(9)), theirs.isel(init_time=slice(9, None)))
    with pytest.raises(InputError, match="init_time holds a value twice"):
        compare(ours.isel(init_time=[0, 0, 1]), theirs)
    kelvin = theirs.assign_coords(units=("variable", ["degC", "m**2 s**-2"]))
    with pytest.raises(UnitsError, match="t is in 'K' and in 'degC'"):
        compare(ours, kelvin)
    grids = [ds.assign_coords(latitude=[0.0, shift]) for ds, shift in ((ours, 1), (theirs, 2))]
    with pytest.raises(GridMismatchError, match="latitude"):
        compare(*grids)
    with pytest.raises(InputError, match="sum_anomaly_product"):
        compare(ours.drop_vars("sum_anomaly_product"), theirs, score="acc")


@pytest.mark.parametrize(
    "options",
    [{"score": "bss"}, {"estimator": "x"}, {"test": "x"}, {"level": 95}, {"dependence": "x"}],
)
def test_unknown_options_are_refused(ours, theirs, options):
    with pytest.raises(ValueError, match="expected"):
        compare(ours, theirs, **options)


def test_false_positives_of_a_nonlinear_score_are_few():
    rng = np.random.default_rng(7)
    reps, n = 1000, 60
    shared = autoregression(rng, reps, n, 0.7)
    models = []
    for _ in range(2):
        squares = np.exp(0.4 * shared + 0.4 * autoregression(rng, reps, n, 0.7))
        dims = ("variable", "init_time")
        models.append(
            xr.Dataset(
                {"sum_squared_error": (dims, squares), "sum_weight": (dims, np.ones((reps, n)))},
                {
                    "variable": np.arange(reps).astype(str),
                    "init_time": make(0, inits=n)["init_time"],
                },
            )
        )
    assert (compare(*models, score="rmse")["p_value"] < 0.05).mean() < 0.08


# Bootstrap


def test_bootstrap_draws_whole_blocks_and_every_initial_time_alike():
    counts = bootstrap._counts(11, 4, 4000, seed=3)
    np.testing.assert_array_equal(counts.sum(axis=1), 11)
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.06)
    np.testing.assert_array_equal(bootstrap._counts(11, 4, 10, seed=3), counts[:10])
    whole = bootstrap._counts(12, 12, 5, seed=1)
    np.testing.assert_array_equal(whole, 1)


def test_bootstrap_replicates_are_those_of_resampled_statistics(ours, monkeypatch):
    monkeypatch.setattr(bootstrap, "_VALUES_AT_ONCE", 5000)  # several batches
    found = block_bootstrap(ours, PooledScore("rmse"), seed=5, replicates=50, block=3)
    counts = bootstrap._counts(40, 3, 50, seed=5).astype(int)
    expected = [
        PooledScore("rmse")(ours.isel(init_time=np.repeat(np.arange(40), row))) for row in counts
    ]
    values = xr.concat(expected, "replicate")
    np.testing.assert_allclose(found["estimate"], PooledScore("rmse")(ours))
    np.testing.assert_allclose(
        found["lower"], values.quantile(0.025, "replicate", skipna=False), rtol=1e-10
    )
    np.testing.assert_allclose(found["standard_error"], values.std("replicate"), rtol=1e-10)


def test_bootstrap_takes_any_function_of_pooled_sums(ours):
    def ratio(sums: xr.Dataset) -> xr.DataArray:
        assert sums["sum_over"].dims == ("replicate", *DIMS)
        assert sums.sizes["init_time"] == 1
        return sums["sum_over"] / sums["sum_under"]

    found = block_bootstrap(ours, ratio, seed=1, replicates=100)
    assert found["lower"].dims == ("variable", "region", "lead_time")
    assert (found["lower"] < found["upper"]).all()
    assert 1 <= found.attrs["block"] <= 14


def test_bootstrap_and_comparison_take_what_evaluate_gives(make_forecasts, analyses):
    scores = evaluate(
        make_forecasts(inits=12), analyses, reference={"persistence": Persistence(analyses)}
    )
    found = compare(scores, "persistence")
    np.testing.assert_allclose(found["first"], scores["crps"])
    np.testing.assert_allclose(found["second"], scores["crps_persistence"])
    np.testing.assert_allclose(found["skill"], scores["crpss_persistence"])
    for name in ("rmse", "mae", "spread_skill_ratio", "mse_unbiased"):
        pooled_score = PooledScore(name)(scores).isel(region=0)
        np.testing.assert_allclose(pooled_score, scores[name])
        drawn = block_bootstrap(scores, lambda s, n=name: scores_from(s)[n], seed=1, replicates=9)
        same = block_bootstrap(scores, PooledScore(name), seed=1, replicates=9)
        np.testing.assert_allclose(drawn["upper"], same["upper"].isel(region=0))


def test_bootstrap_widens_with_the_autocorrelation():
    x = autoregression(np.random.default_rng(2), 1, 1000, 0.8)[0] + 10
    statistics = xr.Dataset(
        {"sum_over": ("init_time", x), "sum_weight": ("init_time", np.ones(1000))},
        {"init_time": np.arange(1000).astype("datetime64[D]").astype("datetime64[ns]")},
    )

    def mean(sums: xr.Dataset) -> xr.DataArray:
        return sums["sum_over"] / sums["sum_weight"]

    found = block_bootstrap(statistics, mean, seed=1)
    assert found.attrs["block"] > 10
    expected = np.sqrt(1.8 / 0.2 / 1000)
    np.testing.assert_allclose(found["standard_error"], expected, rtol=0.3)


@pytest.mark.parametrize("rho", [0.3, 0.6])
def test_block_length_is_that_of_the_autoregression(rho):
    n = 50_000
    x = autoregression(np.random.default_rng(1), 5, n, rho)
    expected = (1.5 * (2 * rho / (1 - rho**2)) ** 2 * n) ** (1 / 3)
    found = np.mean([block_length(one) for one in x])
    np.testing.assert_allclose(found, expected, rtol=0.1)


def test_block_length_of_extremes():
    assert block_length(np.ones(20)) == 1
    assert np.isnan(block_length(np.array([1.0, np.nan, 2.0])))
    assert 10 < block_length(np.arange(90.0)) <= 3 * np.sqrt(90)
    assert block_length(np.array([1.0, 2.0])) == 1


def test_bootstrap_propagates_nan(ours):
    ours = ours.copy(deep=True)
    ours["sum_squared_error"].values[0, 0, 3, 1] = np.nan
    found = block_bootstrap(ours, PooledScore("rmse"), seed=1, replicates=20)
    for name in ("estimate", "lower", "upper", "standard_error"):
        assert found[name].isnull().sum() == 1, name


def test_bootstrap_refuses_what_it_cannot_do(ours):
    score = PooledScore("rmse")
    with pytest.raises(InputError, match="at least two"):
        block_bootstrap(ours.isel(init_time=[0]), score, seed=1)
    with pytest.raises(ValueError, match="1 to 40"):
        block_bootstrap(ours, score, seed=1, block=41)
    with pytest.raises(ValueError, match="at least one"):
        block_bootstrap(ours, score, seed=1, replicates=0)
    with pytest.raises(ValueError, match="lost the dimension replicate"):
        block_bootstrap(ours, lambda sums: score(sums).mean("replicate"), seed=1)
