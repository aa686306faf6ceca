from __future__ import annotations

import dask.array
import numpy as np
import pytest
import scoringrules
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from weatherdiff.errors import DimensionError
from weatherdiff.evaluation.distributions import (
    crps_normal,
    log_score_normal,
    quantile_score,
    wasserstein_distance,
)
from weatherdiff.evaluation.scores import crps_ensemble

samples = st.lists(st.integers(-4, 4).map(lambda i: i / 2), min_size=1, max_size=9)


def along(dim: str, values: object) -> xr.DataArray:
    return xr.DataArray(np.asarray(values, float), dims=dim)


@settings(deadline=None, max_examples=100)
@given(samples, samples)
def test_wasserstein_distance_agrees_with_scipy_for_any_two_sizes(first, second):
    ours = float(wasserstein_distance(along("number", first), along("number", second)))
    assert ours == pytest.approx(stats.wasserstein_distance(first, second), rel=1e-12, abs=1e-12)


def test_wasserstein_distance_is_pointwise_lazy_and_propagates_nan():
    rng = np.random.default_rng(1)
    first = xr.DataArray(rng.normal(size=(6, 11)), dims=("cell", "time"))
    second = xr.DataArray(rng.normal(size=(7, 6)), dims=("time", "cell"))
    first[2, 3] = np.nan
    lazy = wasserstein_distance(first.chunk(cell=2), second.chunk(time=3), dim="time")
    assert isinstance(lazy.data, dask.array.Array)
    for cell in range(6):
        expected = stats.wasserstein_distance(first[cell].dropna("time"), second[:, cell])
        assert np.isnan(lazy[cell]) if cell == 2 else float(lazy[cell]) == pytest.approx(expected)


def test_a_sample_of_nothing_is_refused():
    with pytest.raises(DimensionError, match="'number'"):
        wasserstein_distance(along("number", []), along("number", [1.0]))
    with pytest.raises(DimensionError, match="'number'"):
        wasserstein_distance(along("time", [1.0]), along("number", [1.0]))


def test_normal_scores_agree_with_scoringrules():
    rng = np.random.default_rng(2)
    mean, y = along("case", rng.normal(size=50)), along("case", rng.normal(size=50))
    deviation = along("case", rng.random(50) + 0.1)
    np.testing.assert_allclose(
        crps_normal(mean, deviation, y), scoringrules.crps_normal(y, mean, deviation), rtol=1e-11
    )
    np.testing.assert_allclose(
        log_score_normal(mean, deviation, y), -stats.norm.logpdf(y, mean, deviation), rtol=1e-12
    )


def test_normal_crps_without_spread_is_the_absolute_error_and_a_negative_one_is_nan():
    deviation = along("case", [0.0, -1.0])
    score = crps_normal(along("case", [1.0, 1.0]), deviation, along("case", [3.0, 3.0]))
    np.testing.assert_array_equal(score, [2.0, np.nan])
    assert np.isnan(log_score_normal(along("case", [1.0, 1.0]), deviation, score)).all()


def test_twice_the_mean_quantile_score_is_the_crps():
    rng = np.random.default_rng(3)
    members, y = np.sort(rng.normal(size=2000)), xr.DataArray(0.4)
    levels = (np.arange(2000) + 0.5) / 2000
    scores = [
        float(quantile_score(xr.DataArray(member), y, quantile=level))
        for member, level in zip(members, levels, strict=True)
    ]
    crps = float(crps_ensemble(along("number", members), y, estimator="standard"))
    assert 2 * np.mean(scores) == pytest.approx(crps, rel=1e-9)


def test_quantile_score_of_an_ensemble_is_that_of_its_quantile():
    rng = np.random.default_rng(4)
    x = xr.DataArray(rng.normal(size=(9, 20)).astype(np.float32), dims=("number", "case"))
    y = along("case", rng.normal(size=20))
    q = np.quantile(x.values.astype(float), 0.3, axis=0)
    expected = np.where(y > q, 0.3 * (y - q), 0.7 * (q - y))
    np.testing.assert_allclose(quantile_score(x, y, quantile=0.3, dim="number"), expected)
    lazy = quantile_score(x.chunk(number=3), y.chunk(), quantile=0.3, dim="number")
    assert isinstance(lazy.data, dask.array.Array)
    np.testing.assert_allclose(lazy, expected)


def test_an_impossible_quantile_and_swapped_arguments_are_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile_score(xr.DataArray(1.0), xr.DataArray(1.0), quantile=1.0)
    with pytest.raises(DimensionError, match="swapped"):
        quantile_score(xr.DataArray(1.0), along("number", [1.0]), quantile=0.5, dim="number")
