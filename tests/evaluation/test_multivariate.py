"""Energy and variogram scores against brute force, scoringrules and their laws."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
import scoringrules
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.errors import DimensionError, InputError
from weatherdiff.evaluation import distances as distances_module
from weatherdiff.evaluation.distances import (
    Distances,
    add_distances,
    energy_from_distances,
    energy_parts,
    squared_distances,
)
from weatherdiff.evaluation.multivariate import energy_score
from weatherdiff.evaluation.variogram import neighbour_lags, variogram_score, variogram_sums

ESTIMATORS = ("fair", "standard")
ORACLE = {"fair": "fair", "standard": "nrg"}
LATITUDE = np.array([-60.0, -20.0, 10.0, 35.0, 80.0])
LONGITUDE = np.array([-9.0, -4.0, 0.0, 8.0])


@pytest.fixture(params=["1", "0"], ids=["numba", "numpy"])
def both_ways(request, monkeypatch):
    monkeypatch.setenv("WEATHERDIFF_NUMBA", request.param)


def fields(*sizes: int, seed: int = 0, offset: float = 0.0) -> xr.DataArray:
    """Named dims: (number,) (init_time, lead_time) latitude longitude as many as there are."""
    names = ("init_time", "lead_time", "number")[3 - len(sizes) :] if sizes else ()
    values = np.random.default_rng(seed).normal(size=(*sizes, 5, 4)) + offset
    return xr.DataArray(
        values,
        {"latitude": LATITUDE, "longitude": LONGITUDE},
        (*names, "latitude", "longitude"),
    )


def observed(like: xr.DataArray, seed: int = 1) -> xr.DataArray:
    one = like.isel(number=0, drop=True)
    return one.copy(data=np.random.default_rng(seed).normal(size=one.shape) + float(one.mean()))


def by_definition(x, y, w, estimator):
    """Members first, one vector; all pairs."""
    w = w / w.sum()
    members = len(x)
    pairs = members * (members - 1) if estimator == "fair" else members**2
    length = lambda d: np.sqrt((w * d**2).sum())  # noqa: E731
    apart = sum(length(a - b) for a in x for b in x)
    return np.mean([length(a - y) for a in x]) - apart / (2 * pairs)


def area_weights() -> np.ndarray:
    edges = np.array([-90.0, -40.0, -5.0, 22.5, 57.5, 90.0])
    widths = np.array([5.0, 4.5, 6.0, 8.0])
    return np.outer(np.diff(np.sin(np.deg2rad(edges))), widths).ravel()


# Distances


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("members", [1, 2, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("cells", [1, 3, 700])
def test_squared_distances_are_those_of_all_pairs(members, cells):
    rng = np.random.default_rng(members)
    x, y = rng.normal(size=(3, members, cells)), rng.normal(size=(3, cells))
    w = rng.random(cells) + 0.1
    squares, weight = squared_distances(x, y, w)
    points = np.concatenate([x, y[:, None]], axis=1)
    expected = ((points[:, :, None] - points[:, None]) ** 2 * w).sum(axis=-1)
    np.testing.assert_allclose(squares, expected, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(weight, w.sum())


@pytest.mark.usefixtures("both_ways")
def test_squared_distances_of_many_members_are_those_of_all_pairs():
    rng = np.random.default_rng(11)
    x, y, w = rng.normal(size=(1, 140, 300)), rng.normal(size=(1, 300)), rng.random(300)
    points = np.concatenate([x[0], y])
    expected = [((points - point) ** 2 * w).sum(axis=-1) for point in points]
    np.testing.assert_allclose(squared_distances(x, y, w)[0][0], expected, rtol=1e-11)


@pytest.mark.usefixtures("both_ways")
def test_a_huge_offset_in_single_precision_costs_no_digits():
    rng = np.random.default_rng(2)
    x = (5e5 + rng.normal(size=(1, 6, 900))).astype(np.float32)
    y = (5e5 + rng.normal(size=(1, 900))).astype(np.float32)
    w = rng.random(900)
    squares, _ = squared_distances(x, y, w)
    points = np.concatenate([x, y[:, None]], axis=1).astype(np.float64)
    expected = ((points[:, :, None] - points[:, None]) ** 2 * w).sum(axis=-1)
    np.testing.assert_allclose(squares, expected, rtol=1e-11)


@pytest.mark.usefixtures("both_ways")
def test_equal_members_are_at_distance_zero_and_close_ones_lose_no_digits():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1, 7, 300))
    x[0, 0] += 1e6  # the first member is far off
    x[0, 5] = x[0, 2]
    x[0, 6] = x[0, 3] + 1e-7 * rng.normal(size=300)
    y = x[:, 2].copy()
    squares = squared_distances(x, y, np.ones(300))[0][0]
    assert squares[5, 2] == squares[2, 5] == squares[7, 2] == squares[7, 5] == 0
    assert squares.min() == 0
    # Differences to the outlier are rounded to 1e-10, against 1e-7.
    np.testing.assert_allclose(squares[6, 3], ((x[0, 6] - x[0, 3]) ** 2).sum(), rtol=1e-3)


@pytest.mark.usefixtures("both_ways")
def test_missing_observations_are_left_out_and_missing_members_are_not():
    rng = np.random.default_rng(4)
    x, y, w = rng.normal(size=(4, 9)), rng.normal(size=9), rng.random(9)
    y[2], w[5], x[:, 2], x[1, 5] = np.nan, 0, np.nan, np.nan
    sums, kept = Distances.zeros(4), np.delete(np.arange(9), [2, 5])
    weight = add_distances(x, y, w, sums)
    expected = Distances.zeros(4)
    assert weight == pytest.approx(add_distances(x[:, kept], y[kept], w[kept], expected))
    np.testing.assert_allclose(sums.between, expected.between)
    np.testing.assert_allclose(sums.to_observation, expected.to_observation)
    x[3, 0] = np.nan
    sums = Distances.zeros(4)
    weight = add_distances(x, y, w, sums)
    assert np.isnan(energy_from_distances(sums.to_observation / weight, sums.between / weight))


@pytest.mark.usefixtures("both_ways")
@settings(max_examples=25, deadline=None)
@given(cut=st.integers(0, 40), seed=st.integers(0, 99))
def test_distances_over_any_split_of_the_cells_add(cut, seed):
    rng = np.random.default_rng(seed)
    x, y, w = rng.normal(size=(5, 40)), rng.normal(size=40), rng.random(40)
    whole, parts = Distances.zeros(5), Distances.zeros(5)
    total = add_distances(x, y, w, whole, scale=3.0)
    weight = sum(
        add_distances(x[:, part], y[part], w[part], parts, scale=3.0)
        for part in (slice(0, cut), slice(cut, 40))
    )
    assert weight == pytest.approx(total)
    np.testing.assert_allclose(parts.between, whole.between, atol=1e-13)
    np.testing.assert_allclose(parts.to_observation, whole.to_observation, atol=1e-13)


def test_compiled_and_plain_distances_agree(monkeypatch):
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 11, 600)).astype("f4"), rng.normal(size=(2, 600)).astype("f4")
    y[0, ::7] = np.nan
    w = rng.random(600)
    results = []
    for value in "10":
        monkeypatch.setenv("WEATHERDIFF_NUMBA", value)
        results.append(squared_distances(x, y, w)[0])
    np.testing.assert_allclose(*results, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("types", [("f4", "f8"), ("f8", "f4"), (">f4", ">f8"), ("i4", "f2")])
def test_any_pair_of_types_read_only_or_not_is_worked_on_in_double_precision(types):
    rng = np.random.default_rng(10)
    x = (10 * rng.normal(size=(1, 9, 3))).astype(types[0]).swapaxes(1, 2)
    y = (10 * rng.normal(size=(1, 9))).astype(types[1])
    x.flags.writeable = False
    squares, _ = squared_distances(x, y, np.ones(9))
    expected = squared_distances(x.astype(np.float64), y.astype(np.float64), np.ones(9))[0]
    np.testing.assert_allclose(squares, expected, rtol=1e-12, atol=1e-12)


def test_tile_and_block_sizes_do_not_matter(monkeypatch):
    rng = np.random.default_rng(6)
    x, y, w = rng.normal(size=(2, 6, 500)), rng.normal(size=(2, 500)), rng.random(500)
    monkeypatch.setenv("WEATHERDIFF_NUMBA", "0")
    whole, _ = squared_distances(x, y, w)
    monkeypatch.setattr(distances_module, "_BLOCK_VALUES", 200)
    np.testing.assert_allclose(squared_distances(x, y, w)[0], whole, rtol=1e-12, atol=1e-12)


def test_both_estimators_follow_from_the_parts():
    rng = np.random.default_rng(7)
    sums = Distances.zeros(4)
    weight = add_distances(rng.normal(size=(4, 9)), rng.normal(size=9), np.ones(9), sums)
    mean = sums.to_observation / weight, sums.between / weight
    distance, dispersion = energy_parts(*mean)
    assert energy_from_distances(*mean, "fair") == pytest.approx(distance - dispersion)
    standard = energy_from_distances(*mean, "standard")
    assert standard == pytest.approx(distance - (1 - 1 / 4) * dispersion)


# Energy score


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_energy_score_is_that_of_brute_force_and_scoringrules(estimator):
    x = fields(2, 3, 6)
    y = observed(x)
    score = energy_score(x, y, estimator=estimator)
    assert score.dims == ("init_time", "lead_time")
    w = area_weights()
    w /= w.sum()
    for case in np.ndindex(2, 3):
        members, truth = x.values[case].reshape(6, -1), y.values[case].ravel()
        assert float(score[case]) == pytest.approx(by_definition(members, truth, w, estimator))
        peer = scoringrules.es_ensemble(
            truth * np.sqrt(w), members * np.sqrt(w), estimator=ORACLE[estimator]
        )
        assert float(score[case]) == pytest.approx(peer)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_energy_score_of_one_cell_is_the_crps(estimator):
    x = xr.DataArray([[1.0, 2.0, 5.0, 5.0]], dims=("station", "number"))
    y = xr.DataArray([2.5], dims="station")
    score = float(energy_score(x, y, over=["station"], estimator=estimator))
    peer = scoringrules.crps_ensemble(2.5, x.values[0], estimator=ORACLE[estimator])
    assert score == pytest.approx(peer)


def test_energy_score_of_a_gaussian_forecast_is_its_expectation():
    rng = np.random.default_rng(8)
    cases, members, cells = 4000, 4, 3
    x = xr.DataArray(rng.normal(size=(cases, members, cells)), dims=("case", "number", "cell"))
    y = xr.DataArray(rng.normal(size=(cases, cells)), dims=("case", "cell"))
    score = energy_score(x, y, over=["cell"])
    # E|X - Y| of two normal vectors is sqrt(2) times the mean of a chi of 3, 4 / sqrt(2 pi).
    expected = np.sqrt(2) * 4 / np.sqrt(2 * np.pi) / np.sqrt(cells) / 2
    assert float(score.mean()) == pytest.approx(expected, abs=4 * float(score.std()) / cases**0.5)


def test_joined_variables_and_leads_are_one_vector_in_units_of_their_scales():
    x = xr.Dataset({"a": fields(3, 5), "b": 100 * fields(3, 5, seed=3)})
    x["c"] = x["b"].expand_dims(level=[500, 850]) + xr.DataArray([0.0, 7.0], dims="level")
    y = x.map(lambda field: field.isel(number=0, drop=True) * 0.5 + 1)
    scales = {"a": 2.0, "b": 50.0, "c": 30.0}
    over = ["latitude", "longitude", "level", "lead_time", "variable"]
    score = energy_score(x, y, over=over, scales=scales)
    w = area_weights()
    vectors, truths, weights = [], [], []
    for name, scale in scales.items():
        members = (x[name] / scale).transpose("number", ..., "latitude", "longitude").values
        vectors.append(members.reshape(5, -1))
        truth = (y[name] / scale).transpose(..., "latitude", "longitude").values
        truths.append(truth.ravel())
        weights.append(np.tile(w, truth.size // w.size))
    expected = by_definition(
        np.concatenate(vectors, axis=1), np.concatenate(truths), np.concatenate(weights), "fair"
    )
    assert score.dims == ()
    assert float(score) == pytest.approx(expected)


def test_a_dataset_that_is_not_joined_is_scored_variable_by_variable():
    x = xr.Dataset({"a": fields(5), "b": fields(5, seed=3)})
    y = x.map(observed)
    scores = energy_score(x, y)
    assert float(scores["b"]) == float(energy_score(x["b"], y["b"]))


def test_pointwise_joined_variables_keep_space():
    x = xr.Dataset({"a": fields(5), "b": fields(5, seed=3)})
    y = x.map(observed)
    score = energy_score(x, y, over=["variable"], scales={"a": 1.0, "b": 2.0})
    assert score.dims == ("latitude", "longitude")
    vector = np.array([x["a"].values[:, 1, 2], x["b"].values[:, 1, 2] / 2]).T
    truth = np.array([y["a"].values[1, 2], y["b"].values[1, 2] / 2])
    assert float(score[1, 2]) == pytest.approx(by_definition(vector, truth, np.ones(2), "fair"))


@pytest.mark.parametrize("chunks", [{"latitude": 2, "lead_time": 1}, {"number": 2, "init_time": 1}])
def test_lazy_forecasts_stay_lazy_and_give_the_same(chunks):
    x = fields(2, 3, 6)
    y = observed(x)
    y[0, 1, 2, 3] = np.nan
    for over in (("latitude", "longitude"), ("lead_time", "longitude", "latitude")):
        lazy = energy_score(x.chunk(chunks), y.chunk(), over=over)
        assert isinstance(lazy.data, dask.array.Array)
        xr.testing.assert_allclose(lazy.compute(), energy_score(x, y, over=over))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), scale=st.floats(0.01, 100), shift=st.floats(-1e3, 1e3))
def test_energy_score_ignores_shifts_and_order_and_scales_with_the_values(seed, scale, shift):
    x = fields(5, seed=seed)
    y = observed(x)
    score = float(energy_score(x, y))
    assert float(energy_score(x + shift, y + shift)) == pytest.approx(score, rel=1e-9, abs=1e-9)
    assert float(energy_score(x * scale, y * scale)) == pytest.approx(score * scale, abs=1e-12)
    assert float(energy_score(x.isel(number=[3, 1, 4, 0, 2]), y)) == pytest.approx(score)


def test_energy_score_ignores_rotations():
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(5, 6)), rng.normal(size=6)
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    scores = [
        float(
            energy_score(xr.DataArray(a, dims=("number", "v")), xr.DataArray(b, dims="v"), over="v")
        )
        for a, b in ((x, y), (x @ turn, y @ turn))
    ]
    assert scores[0] == pytest.approx(scores[1])


def test_one_member_has_a_standard_score_and_no_fair_one():
    x = fields(1)
    y = observed(x)
    expected = np.sqrt(np.average((x[0] - y).values.ravel() ** 2, weights=area_weights()))
    assert float(energy_score(x, y, estimator="standard")) == pytest.approx(expected)
    with pytest.raises(DimensionError, match="fair"):
        energy_score(x, y)


def test_wrong_arguments_are_refused_in_a_sentence():
    x = fields(4)
    y = observed(x)
    with pytest.raises(DimensionError, match="swapped"):
        energy_score(y, x)
    with pytest.raises(DimensionError, match="lead_time"):
        energy_score(x, y, over=["lead_time"])
    with pytest.raises(ValueError, match="estimator"):
        energy_score(x, y, estimator="biased")
    with pytest.raises(InputError, match="at least zero"):
        energy_score(x, y, weights=xr.full_like(y, -1.0))
    with pytest.raises(InputError, match="scales"):
        energy_score(
            x.to_dataset(name="a"), y.to_dataset(name="a"), over=["variable"], scales={"b": 1.0}
        )
    with pytest.raises(DimensionError, match="not joined"):
        energy_score(
            xr.Dataset({"a": x, "b": x.expand_dims(level=2)}),
            xr.Dataset({"a": y, "b": y.expand_dims(level=2)}),
            over=["latitude", "longitude", "variable"],
            scales={"a": 1.0, "b": 1.0},
        )


def test_nothing_observed_is_nan():
    x = fields(4)
    assert np.isnan(energy_score(x, xr.full_like(x[0], np.nan)))


# Variogram score


def all_pairs(x, y, w, order, estimator):
    total = weight = 0.0
    for a in range(len(y)):
        for b in range(a):
            each = np.abs(x[:, a] - x[:, b]) ** order
            pair = (np.abs(y[a] - y[b]) ** order - each.mean()) ** 2
            if estimator == "fair":
                pair -= each.var(ddof=1) / len(x)
            total += w[a] * w[b] * pair
            weight += w[a] * w[b]
    return total / weight


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("order", [0.5, 1, 1.7])
@pytest.mark.parametrize("longitudes", [[-9.0, -4.0, 0.0, 8.0], [0.0, 90.0, 180.0, 270.0]])
def test_variogram_score_of_all_pairs_is_that_of_brute_force(estimator, order, longitudes):
    x = fields(6).assign_coords(longitude=longitudes)
    y = observed(x)
    w = xr.DataArray(np.random.default_rng(3).random((5, 4)), dims=("latitude", "longitude"))
    score = variogram_score(x, y, order=order, lags=9, weights=w, estimator=estimator)
    flat = x.values.reshape(6, -1), y.values.ravel(), w.values.ravel()
    assert float(score) == pytest.approx(all_pairs(*flat, order, estimator))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_variogram_score_is_that_of_scoringrules(estimator):
    rng = np.random.default_rng(4)
    x = xr.DataArray(rng.normal(size=(4, 7)), dims=("number", "lead_time"))
    y = xr.DataArray(rng.normal(size=7), dims="lead_time")
    score = variogram_score(x, y, over=["lead_time"], lags=6, estimator=estimator)
    peer = scoringrules.vs_ensemble(y.values, x.values, p=0.5, estimator=ORACLE[estimator])
    assert float(score) == pytest.approx(peer / (7 * 6))


def test_pairs_of_variables_are_in_units_of_their_scales():
    x = xr.Dataset({"a": fields(5), "b": 10 * fields(5, seed=3), "c": fields(5, seed=4)})
    y = x.map(observed)
    scales = {"a": 1.0, "b": 10.0, "c": 2.0}
    score = variogram_score(x, y, over=["variable"], lags=0, scales=scales)
    point = [x[n].values[:, 2, 1] / s for n, s in scales.items()]
    truth = [y[n].values[2, 1] / s for n, s in scales.items()]
    expected = all_pairs(np.array(point).T, np.array(truth), np.ones(3), 0.5, "fair")
    assert float(score[2, 1]) == pytest.approx(expected)


def test_named_lags_take_only_their_pairs_and_go_round_the_globe():
    longitude = np.arange(0, 360, 60.0)
    rng = np.random.default_rng(5)
    coords = {"latitude": [0.0, 10.0], "longitude": longitude}
    x = xr.DataArray(rng.normal(size=(4, 2, 6)), coords, ("number", "latitude", "longitude"))
    y = xr.DataArray(rng.normal(size=(2, 6)), coords)
    lags = [{"longitude": 2}]
    score = variogram_score(x, y, lags=lags, order=1, estimator="standard")
    apart = np.abs(np.roll(x, -2, axis=-1) - x).mean("number") - np.abs(np.roll(y, -2, axis=-1) - y)
    heights = np.diff(np.sin(np.deg2rad([-5.0, 5.0, 15.0]))) ** 2
    assert float(score) == pytest.approx(np.average((apart**2).mean("longitude"), weights=heights))
    rolled = variogram_score(
        x.roll(longitude=1), y.roll(longitude=1), lags=lags, order=1, estimator="standard"
    )
    assert float(rolled) == pytest.approx(float(score))


def test_fair_variogram_score_of_the_true_distribution_is_unbiased_in_the_ensemble():
    rng = np.random.default_rng(6)
    y = xr.DataArray(rng.normal(size=(800, 3)), dims=("case", "cell"))
    scores = []
    for members in (2, 8):
        x = xr.DataArray(rng.normal(size=(800, members, 3)), dims=("case", "number", "cell"))
        scores.append(variogram_score(x, y, over=["cell"]))
    error = np.hypot(*(float(score.std()) / 800**0.5 for score in scores))
    assert abs(float(scores[0].mean() - scores[1].mean())) < 4 * error


def test_missing_observations_leave_pairs_out_and_missing_members_make_nan():
    x = fields(4)
    y = observed(x)
    y[1, 1] = np.nan
    x[:, 1, 1] = np.nan
    score = variogram_score(x, y, lags=9)
    kept = np.delete(np.arange(20), 5)
    flat = x.values.reshape(4, -1)[:, kept], y.values.ravel()[kept], area_weights()[kept]
    assert float(score) == pytest.approx(all_pairs(*flat, 0.5, "fair"))
    x[2, 0, 0] = np.nan
    assert np.isnan(variogram_score(x, y))


def test_variogram_sums_add_over_lags_and_keep_single_precision_digits():
    rng = np.random.default_rng(7)
    x = (5e5 + rng.normal(size=(4, 6, 7))).astype(np.float32)
    y, w = (5e5 + rng.normal(size=(6, 7))).astype(np.float32), rng.random((6, 7))
    lags = neighbour_lags((6, 7), 2)
    whole = variogram_sums(x, y, w, lags)
    parts = np.sum([variogram_sums(x, y, w, [lag]) for lag in lags], axis=0)
    np.testing.assert_allclose(parts, whole)
    shifted = variogram_sums(x.astype(float) - 5e5, y.astype(float) - 5e5, w, lags)
    np.testing.assert_allclose(shifted, whole, rtol=1e-12)


def test_lazy_variogram_scores_are_the_same():
    x = fields(2, 3, 4)
    y = observed(x)
    lazy = variogram_score(x.chunk(init_time=1, latitude=2), y.chunk(lead_time=1))
    assert isinstance(lazy.data, dask.array.Array)
    xr.testing.assert_allclose(lazy.compute(), variogram_score(x, y))


def test_lags_without_pairs_and_orders_that_are_none_are_refused():
    x = fields(4)
    y = observed(x)
    with pytest.raises(InputError, match="no pair"):
        variogram_score(x, y, lags=0)
    with pytest.raises(DimensionError, match="level"):
        variogram_score(x, y, lags=[{"level": 1}])
    with pytest.raises(ValueError, match="order"):
        variogram_score(x, y, order=0)
