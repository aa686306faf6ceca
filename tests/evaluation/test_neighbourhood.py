from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scores.spatial import fss_2d_binary

from weatherdiff.errors import DimensionError, GridMismatchError, InputError
from weatherdiff.evaluation.neighbourhood import fractions_skill_score, fractions_sums
from weatherdiff.grid import Grid

SHAPE = (5, 8)
GLOBAL = {"latitude": [-60.0, -30.0, 0.0, 30.0, 60.0], "longitude": np.arange(0.0, 360, 45)}
REGIONAL = {"latitude": [40.0, 42.0, 44.0, 46.0, 48.0], "longitude": np.arange(-8.0, 8, 2)}


def by_brute_force(p, o, weights, window, periodic):
    """Every cell's window, cell by cell, for two-dimensional fields."""
    half, (rows, columns) = window // 2, p.shape
    error = largest = 0.0
    for i in range(rows):
        for j in range(columns):
            if weights[i, j] == 0 or np.isnan(o[i, j]):
                continue
            cells = set()
            for a in range(i - half, i + half + 1):
                for b in range(j - half, j + half + 1):
                    if periodic:
                        b %= columns
                    inside = 0 <= a < rows and 0 <= b < columns
                    if inside and weights[a, b] > 0 and not np.isnan(o[a, b]):
                        cells.add((a, b))
            w = sum(weights[c] for c in cells)
            pf, of = (sum(weights[c] * field[c] for c in cells) / w for field in (p, o))
            error += weights[i, j] * (pf - of) ** 2
            largest += weights[i, j] * (pf**2 + of**2)
    return error, largest


def fields(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, 5, SHAPE) / 4,
        rng.integers(0, 2, SHAPE).astype(float),
        rng.uniform(0.2, 2, SHAPE),
    )


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("window", [1, 3, 7, 9, 21])
def test_sums_match_every_window_taken_cell_by_cell(window, periodic):
    p, o, weights = fields()
    o[1, 2], o[4, 7], p[1, 2] = np.nan, np.nan, np.nan
    weights[0, 0] = weights[3, 3] = 0
    sums = fractions_sums(p, o, weights, windows=[window], periodic=periodic)
    expected = by_brute_force(p, o, weights, window, periodic)
    np.testing.assert_allclose(sums[:, 0], expected, rtol=1e-10)


@pytest.mark.parametrize("window", [3, 5])
def test_the_score_matches_another_library_on_a_field_with_an_empty_margin(window):
    # Their windows keep within the domain, ours are cut at its edge, where there is nothing.
    rng = np.random.default_rng(2)
    p, o = np.zeros((2, 24, 30))
    p[6:18, 6:24] = rng.integers(0, 2, (12, 18))
    o[6:18, 6:24] = rng.integers(0, 2, (12, 18))
    error, largest = fractions_sums(p, o, np.ones(p.shape), windows=[window], periodic=False)
    theirs = fss_2d_binary(
        *(xr.DataArray(a.astype(bool), dims=("y", "x")) for a in (p, o)),
        window_size=(window, window),
        spatial_dims=("y", "x"),
        check_boolean=False,
    )
    assert 1 - error[0] / largest[0] == pytest.approx(float(theirs), rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(np.float64, (2, *SHAPE), elements=st.integers(0, 3).map(lambda k: k / 3)),
    hnp.arrays(np.float64, (2, *SHAPE), elements=st.sampled_from([0.0, 1.0])),
    st.integers(0, 7),
)
def test_scores_are_within_bounds_symmetric_and_turn_with_the_globe(p, o, turn):
    weights = np.broadcast_to(np.array([1, 2, 3, 2, 1.0])[:, np.newaxis], SHAPE)
    options = {"windows": [1, 3, 5], "periodic": True}
    sums = fractions_sums(p, o, weights, **options)
    assert sums.shape == (2, 2, 3)
    assert np.all(sums[:, 0] <= sums[:, 1] + 1e-12)
    np.testing.assert_allclose(fractions_sums(o, p, weights, **options), sums, atol=1e-12)
    turned = (np.roll(field, turn, axis=-1) for field in (p, o))
    np.testing.assert_allclose(fractions_sums(*turned, weights, **options), sums, atol=1e-12)


def test_a_displaced_event_is_found_once_the_window_reaches_it():
    o, p = np.zeros((2, 9, 20))
    o[4, 5] = p[4, 9] = 1
    windows = [1, 3, 5, 9, 17]
    error, largest = fractions_sums(p, o, np.ones(o.shape), windows=windows, periodic=False)
    fss = 1 - error / largest
    np.testing.assert_allclose(fss[:2], 0, atol=1e-12)
    assert np.all(np.diff(fss[1:]) > 0.1)


def test_an_event_across_the_date_line_is_near_on_the_globe_and_far_in_a_region():
    o, p = np.zeros((2, *SHAPE))
    o[2, 0] = p[2, 7] = 1
    for periodic, expected in ((True, 0.5), (False, 0)):
        error, largest = fractions_sums(p, o, np.ones(SHAPE), windows=[3], periodic=periodic)
        assert (1 - error[0] / largest[0] > expected) == periodic


def ensemble(grid: dict[str, object], members: int = 4, inits: int = 3):
    rng = np.random.default_rng(4)
    dims = ("init_time", "latitude", "longitude")
    forecast = xr.DataArray(rng.normal(size=(inits, members, *SHAPE)), grid,
                            ("init_time", "number", "latitude", "longitude"))  # fmt: skip
    return forecast, xr.DataArray(rng.normal(size=(inits, *SHAPE)), grid, dims)


@pytest.mark.parametrize("grid", [GLOBAL, REGIONAL])
def test_the_score_uses_cell_areas_and_closes_global_grids(grid):
    forecast, observation = ensemble(grid)
    ours = fractions_skill_score(forecast, observation, threshold=0.4, windows=[1, 3])
    weights = Grid(*map(np.asarray, grid.values())).area_weights().values
    for i in range(3):
        for window in (1, 3):
            error, largest = by_brute_force(
                (forecast[i] > 0.4).mean("number").values,
                (observation[i] > 0.4).values.astype(float),
                weights,
                window,
                grid is GLOBAL,
            )
            expected = 1 - error / largest
            assert float(ours[i].sel(window=window)) == pytest.approx(expected, rel=1e-10)
    assert ours.dims == ("init_time", "window")


def test_pooling_divides_the_sums_and_does_not_average_scores():
    forecast, observation = ensemble(REGIONAL)
    options = {"threshold": 1.0, "windows": [3]}
    single = fractions_skill_score(forecast, observation, **options)
    pooled = fractions_skill_score(forecast, observation, **options, pool="init_time")
    weights = Grid.from_dataset(observation).area_weights().values
    sums = fractions_sums(
        (forecast > 1).mean("number").values,
        (observation > 1).values.astype(float),
        weights,
        windows=[3],
        periodic=False,
    ).sum(axis=0)
    assert float(pooled.squeeze()) == pytest.approx(1 - sums[0, 0] / sums[1, 0])
    assert float(pooled.squeeze()) != pytest.approx(float(single.mean()), rel=1e-3)


def test_a_perfect_forecast_scores_one_and_an_event_that_never_is_has_no_score():
    _, observation = ensemble(REGIONAL)
    perfect = observation.expand_dims("number")
    options = {"windows": [1, 3]}
    score = fractions_skill_score(perfect, observation, threshold=0.5, **options)
    np.testing.assert_array_equal(score, np.ones((3, 2)))
    never = fractions_skill_score(perfect, observation, threshold=99.0, **options)
    assert np.isnan(never).all()


def test_missing_observations_leave_cells_out_and_missing_forecasts_make_the_score_nan():
    forecast, observation = ensemble(REGIONAL)
    options = {"threshold": 0.2, "windows": [1, 3]}
    sea = xr.DataArray(np.arange(40).reshape(SHAPE) % 3 == 0, REGIONAL, ("latitude", "longitude"))
    masked = fractions_skill_score(forecast.where(~sea), observation.where(~sea), **options)
    areas = Grid.from_dataset(observation).area_weights()
    weighted = fractions_skill_score(
        forecast, observation, weights=areas * ~sea.drop_vars(sea.coords), **options
    )
    np.testing.assert_allclose(masked, weighted, rtol=1e-12)
    limit = xr.where(sea, np.nan, 0.2)
    limited = fractions_skill_score(forecast, observation, threshold=limit, windows=[1, 3])
    np.testing.assert_allclose(limited, masked, rtol=1e-12)
    forecast[1, 2, 3, 3] = np.nan
    spoiled = fractions_skill_score(forecast, observation, **options)
    np.testing.assert_array_equal(np.isnan(spoiled), [[0, 0], [1, 1], [0, 0]])


def test_lazy_input_gives_the_same_lazily():
    forecast, observation = ensemble(GLOBAL)
    options = {"threshold": 0.2, "windows": [1, 3], "above": False}
    eager = fractions_skill_score(forecast, observation, **options)
    lazy = fractions_skill_score(
        forecast.chunk(init_time=1, number=2), observation.chunk(init_time=1), **options
    )
    assert lazy.chunks
    xr.testing.assert_allclose(lazy.compute(), eager)


def test_windows_weights_and_arrays_that_do_not_fit_are_refused():
    forecast, observation = ensemble(REGIONAL)
    for windows in ([2], [0], []):
        with pytest.raises(InputError, match="odd numbers"):
            fractions_skill_score(forecast, observation, threshold=0.0, windows=windows)
    options = {"threshold": 0.0, "windows": [3]}
    areas = Grid.from_dataset(observation).area_weights()
    with pytest.raises(InputError, match="negative or NaN"):
        fractions_skill_score(forecast, observation, weights=-areas, **options)
    with pytest.raises(GridMismatchError):
        fractions_skill_score(forecast, observation, weights=areas[::-1], **options)
    with pytest.raises(DimensionError, match="swapped"):
        fractions_skill_score(observation, forecast, **options)
    with pytest.raises(DimensionError, match="no dimension latitude"):
        fractions_skill_score(forecast.isel(latitude=0), observation, **options)
