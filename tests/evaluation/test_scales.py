"""CRPS by spatial scale, against brute force."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
import scoringrules
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.errors import DimensionError
from weatherdiff.evaluation.scales import coarsen, crps_by_scale
from weatherdiff.grid import Grid

CELLS = {
    "latitude": np.array([-60.0, -20.0, 10.0, 35.0, 80.0]),
    "longitude": np.array([-9.0, -4.0, 0.0, 8.0]),
}


def case(members: int = 4, seed: int = 0) -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(seed)
    x = xr.DataArray(
        rng.normal(size=(3, members, 5, 4)),
        CELLS,
        ("lead_time", "number", "latitude", "longitude"),
    )
    return x, x.isel(number=0, drop=True).copy(data=rng.normal(size=(3, 5, 4)))


def boxes(k):
    return [(slice(i, i + k), slice(j, j + k)) for i in range(0, 5, k) for j in range(0, 4, k)]


@pytest.mark.parametrize("estimator", ["fair", "standard"])
@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_score_is_the_crps_of_the_averages_of_boxes(estimator, k):
    x, y = case()
    y[1, 0, 0] = y[1, 4, 3] = np.nan
    x[1, :, 4, 3] = np.nan  # the sea is missing everywhere
    areas = Grid.from_dataset(x).area_weights().values
    score = crps_by_scale(x, y, scales=[k], estimator=estimator)
    for lead in range(3):
        total = weight = 0.0
        for box in boxes(k):
            there = ~np.isnan(y.values[lead][box])
            w = areas[box][there]
            if w.sum() < 0.5 * areas[box].sum() or not w.size:
                continue
            members = [np.average(each[box][there], weights=w) for each in x.values[lead]]
            truth = np.average(y.values[lead][box][there], weights=w)
            oracle = {"fair": "fair", "standard": "nrg"}[estimator]
            total += w.sum() * scoringrules.crps_ensemble(truth, members, estimator=oracle)
            weight += w.sum()
        assert float(score[lead, 0]) == pytest.approx(total / weight)


def test_small_scale_noise_vanishes_at_large_scales():
    rng = np.random.default_rng(1)
    coords = {"latitude": np.arange(-8.0, 8), "longitude": np.arange(0.0, 16)}
    y = xr.DataArray(np.zeros((16, 16)), coords)
    x = xr.DataArray(rng.normal(size=(20, 16, 16)), coords, ("number", *coords))
    score = crps_by_scale(x, y, scales=(1, 2, 4)).values
    np.testing.assert_allclose(score[1:] / score[:-1], 0.5, rtol=0.2)


def test_a_huge_offset_in_single_precision_costs_no_digits():
    x, y = case()
    x, y = (field.astype(np.float32) + np.float32(5e5) for field in (x, y))
    shifted = crps_by_scale(x.astype(float) - 5e5, y.astype(float) - 5e5)
    np.testing.assert_allclose(crps_by_scale(x, y), shifted, rtol=1e-9)


def test_a_missing_member_makes_nan_and_so_does_nothing_observed():
    x, y = case()
    x[0, 1, 2, 2], y[1] = np.nan, np.nan
    score = crps_by_scale(x, y)
    assert np.isnan(score[:2]).all()
    assert not np.isnan(score[2]).any()


def test_boxes_with_too_few_cells_do_not_count():
    values = np.array([[1.0, np.nan, np.nan, np.nan], [1.0, 1.0, np.nan, 5.0]])
    averages, weights = coarsen(values, np.ones((2, 4)), 2)
    np.testing.assert_array_equal(averages, [[1.0, np.nan]])
    np.testing.assert_array_equal(weights, [[3.0, 0.0]])
    averages, weights = coarsen(values, np.ones((2, 4)), 2, minimum=0.25)
    np.testing.assert_array_equal(weights, [[3.0, 1.0]])


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 7), columns=st.integers(1, 7), k=st.integers(1, 8), seed=st.integers(0, 99)
)
def test_averages_keep_the_weighted_mean_and_the_weights_their_sum(rows, columns, k, seed):
    rng = np.random.default_rng(seed)
    values, weights = rng.normal(size=(2, rows, columns)), rng.random((rows, columns)) + 0.1
    averages, box_weights = coarsen(values, weights, k, minimum=1.0)
    assert averages.shape == (2, -(-rows // k), -(-columns // k))
    np.testing.assert_allclose(box_weights.sum(axis=(1, 2)), weights.sum())
    np.testing.assert_allclose(
        (averages * box_weights).sum(axis=(1, 2)), (values * weights).sum(axis=(1, 2)), atol=1e-12
    )


def test_lazy_fields_stay_lazy():
    x, y = case()
    lazy = crps_by_scale(x.chunk(lead_time=1, number=2, latitude=2), y.chunk())
    assert isinstance(lazy.data, dask.array.Array)
    xr.testing.assert_allclose(lazy.compute(), crps_by_scale(x, y))


def test_wrong_arguments_are_refused():
    x, y = case()
    with pytest.raises(DimensionError, match="swapped"):
        crps_by_scale(y, x)
    with pytest.raises(DimensionError, match="fair"):
        crps_by_scale(x.isel(number=[0]), y)
    with pytest.raises(ValueError, match="scales"):
        crps_by_scale(x, y, scales=[0, 1])
    with pytest.raises(ValueError, match="minimum"):
        crps_by_scale(x, y, minimum=0)
