from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import scoringrules
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from weatherdiff.errors import DimensionError, InputError
from weatherdiff.evaluation.kernels import (
    TILE,
    EnsembleSums,
    Events,
    Wanted,
    compiles,
    ensemble_crps,
    ensemble_sums,
)
from weatherdiff.evaluation.kernels.network import COLUMNS, EXCHANGES, network

EVERYTHING = Wanted(decompose=True, pointwise=True)
EVENTS = Events(np.array([[0.3], [-0.2]]), np.array([True, False]))
DRAWS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "tied": lambda rng, shape: rng.integers(-1, 2, size=shape) * 0.5,
    "constant": lambda rng, shape: np.full(shape, 0.1),
    "dry": lambda rng, shape: np.maximum(rng.normal(size=shape), 0.0),
    "offset": lambda rng, shape: 5e5 + rng.normal(size=shape),
    "heavy": lambda rng, shape: rng.standard_cauchy(size=shape) * 1e6,
}
IMPLEMENTATIONS = ("numba", "numpy")


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request, monkeypatch):
    if request.param == "numba":
        pytest.importorskip("numba")
    monkeypatch.setenv("WEATHERDIFF_NUMBA", "1" if request.param == "numba" else "0")
    return request.param


def by_definition(x, y, w, events=None, climatology=None):
    """Sums over the points, in float64, one formula at a time; x is (member, point)."""
    members = len(x)
    x, y = x.astype(np.float64), y.astype(np.float64)
    pairs = max(1, members * (members - 1))

    def parts(a, b):
        apart = sum(np.abs(p - q) for p, q in itertools.product(a, a))
        return [
            np.maximum(a - b, 0).mean(axis=0),
            np.maximum(b - a, 0).mean(axis=0),
            apart / (2 * pairs),
        ]

    error = (x - y).mean(axis=0)
    variance = (x - x.mean(axis=0)).var(axis=0, ddof=1) if members > 1 else np.zeros(len(y))
    fields = [*parts(x, y), error, error**2, np.abs(error), variance]
    if climatology is not None:
        a, b = x.mean(axis=0) - climatology, y - climatology
        fields += [a * b, a * a, b * b]
    result = {"totals": w @ np.array(fields).T, "pointwise": np.array(fields)}
    ranks = np.zeros((len(y), members + 1))
    for point, value in enumerate(y):
        low, high = (x[:, point] < value).sum(), (x[:, point] <= value).sum()
        ranks[point, low : high + 1] = 1 / (high - low + 1)
    result["rank"] = w @ ranks
    if events is not None:
        joint = np.zeros((len(w), len(events.above), 2, members + 1))
        clipped = np.zeros((len(w), len(events.above), 3))
        for e, above in enumerate(events.above):
            t = np.broadcast_to(events.thresholds[e], y.shape).astype(np.float64)
            inside = x > t if above else x < t
            occurred = y > t if above else y < t
            for point in range(len(y)):
                joint[:, e, int(occurred[point]), inside[:, point].sum()] += w[:, point]
            clip = np.maximum if above else np.minimum
            clipped[:, e] = w @ np.array(parts(clip(x, t), clip(y, t))).T
        result |= {"joint": joint, "clipped": clipped}
    edges = np.sort(x, axis=0)
    alpha, beta = np.zeros((2, len(y), members + 1))
    alpha[:, -1], beta[:, 0] = np.maximum(y - edges[-1], 0), np.maximum(edges[0] - y, 0)
    for i in range(1, members):
        low, high = edges[i - 1], edges[i]
        alpha[:, i] = np.clip(y, low, high) - low
        beta[:, i] = high - np.clip(y, low, high)
    return result | {"alpha": w @ alpha, "beta": w @ beta}


def assert_sums(sums: EnsembleSums, expected: dict[str, np.ndarray], scale: float, rtol=1e-10):
    for name, values in expected.items():
        np.testing.assert_allclose(
            getattr(sums, name), values, rtol=rtol, atol=1e-13 * scale, err_msg=name
        )


def assert_same_bits(a: EnsembleSums, b: EnsembleSums) -> None:
    for field in dataclasses.fields(EnsembleSums):
        if field.name not in ("fields", "pointwise"):
            np.testing.assert_array_equal(
                getattr(a, field.name), getattr(b, field.name), err_msg=field.name
            )


@pytest.mark.parametrize("members", [1, 2, 3, 8, 17, 50])
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_every_sum_is_that_of_its_definition(implementation, draw, members):
    rng = np.random.default_rng(members)
    x, y = draw(rng, (members, 150)), draw(rng, 150)
    w = rng.random((3, 150)) * (rng.random((3, 150)) > 0.2)
    climatology = y + rng.normal(size=150)
    thresholds = np.stack([y + 0.1 * rng.normal(size=150), np.full(150, np.median(x))])
    events = Events(thresholds, np.array([True, False]))
    sums = ensemble_sums(x, y, w, events=events, climatology=climatology, wanted=EVERYTHING)
    size = np.abs(x).max() + np.abs(y).max()
    expected = by_definition(x, y, w, events, climatology)
    assert_sums(sums, expected, 150 * (1 + size) ** (2 if size > 1e3 else 1))
    np.testing.assert_allclose(sums.weight, w.sum(axis=1), rtol=1e-14)
    np.testing.assert_array_equal(sums.weight, sums.complete)


@pytest.mark.parametrize("members", [31, 65, 200])
def test_float32_is_as_exact_as_its_differences(implementation, members):
    rng = np.random.default_rng(members)
    x = (5e5 + rng.normal(size=(members, 40))).astype(np.float32)
    y = (5e5 + rng.normal(size=40)).astype(np.float32)
    w = rng.random((2, 40))
    events = Events(np.array([[5e5 + 0.5], [5e5]]), np.array([True, False]))
    sums = ensemble_sums(x, y, w, events=events, wanted=EVERYTHING)
    assert_sums(sums, by_definition(x, y, w, events), 40.0)


@pytest.mark.parametrize("members", [*range(1, 10), 12, 17, 33, 50, 129, 260])
def test_the_network_sorts_any_zeros_and_ones(members):
    # By the zero-one principle it then sorts anything.
    rng = np.random.default_rng(members)
    every = members <= 12
    cases = (
        np.array(list(itertools.product((0.0, 1.0), repeat=members))).T
        if every
        else np.sort(rng.random((members, 4000)), axis=0)
        .round()
        .take(rng.permutation(members), axis=0)
    )
    rows = np.vstack([cases, np.full(cases.shape[1], np.inf)])
    for kind, *block in network(members):
        for low, high in EXCHANGES[kind]:
            a, b = rows[block[low]].copy(), rows[block[high]].copy()
            rows[block[low]], rows[block[high]] = np.minimum(a, b), np.maximum(a, b)
    np.testing.assert_array_equal(rows[:-1], np.sort(cases, axis=0))


@pytest.mark.parametrize("size", COLUMNS)
def test_the_columns_sort_all_zeros_and_ones(size):
    rows = np.array(list(itertools.product((0, 1), repeat=size)), np.int8).T.copy()
    expected = np.sort(rows, axis=0)
    for low, high in COLUMNS[size]:
        a, b = rows[low].copy(), rows[high].copy()
        rows[low], rows[high] = np.minimum(a, b), np.maximum(a, b)
    np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("omit", [True, False])
def test_any_split_at_tiles_gives_the_same_bits(implementation, dtype, omit):
    rng = np.random.default_rng(1)
    points = 7 * TILE + 13
    x = rng.normal(size=(9, points)).round(1).astype(dtype)
    y = rng.normal(size=points).round(1).astype(dtype)
    w = rng.random((2, points))
    y[[5, 300]], x[3, 400] = np.nan, np.nan
    wanted = dataclasses.replace(EVERYTHING, omit=omit)
    whole = ensemble_sums(x, y, w, events=EVENTS, wanted=wanted)
    for cuts in ([TILE], [3 * TILE, 4 * TILE], [2 * TILE, 7 * TILE]):
        into = EnsembleSums.zero(9, 2, 2)
        pieces = []
        for start, stop in itertools.pairwise([0, *cuts, points]):
            part = slice(start, stop)
            parts = ensemble_sums(
                x[:, part], y[part], w[:, part], events=EVENTS, wanted=wanted, into=into
            )
            pieces.append(parts.pointwise)
        assert_same_bits(into, whole)
        np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole.pointwise)


def test_layout_and_precision_of_the_arrays_change_nothing(implementation):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(5, 300)).astype(np.float32), rng.normal(size=300).astype(np.float32)
    w = rng.random((1, 300))
    whole = ensemble_sums(x, y, w, events=EVENTS)
    members_last = np.ascontiguousarray(x.T).T
    wider = np.zeros((5, 2, 300), np.float32)
    wider[:, 1] = x
    reversed_twice = x[::-1].copy()[::-1]
    for same in (members_last, wider[:, 1], reversed_twice):
        assert_same_bits(ensemble_sums(same, y, w, events=EVENTS), whole)
    x.flags.writeable = y.flags.writeable = w.flags.writeable = False
    assert_same_bits(ensemble_sums(x, y, w, events=EVENTS), whole)
    double = ensemble_sums(x.astype(np.float64), y.astype(np.float64), w, events=EVENTS)
    assert_same_bits(ensemble_sums(x, y.astype(np.float64), w, events=EVENTS), double)
    assert_same_bits(ensemble_sums(x.astype(np.float64), y, w, events=EVENTS), double)


def test_constant_members_have_no_variance_and_no_dispersion(implementation):
    for value in (0.1, 1e16 / 3, 5e5 + 0.1, -7e-30):
        sums = ensemble_sums(np.full((7, 40), value), np.full(40, 0.3), np.ones((1, 40)))
        assert sums["variance"] == 0
        assert sums["dispersion"] == 0


def test_one_sided_ensembles_have_exactly_one_of_over_and_under(implementation):
    rng = np.random.default_rng(3)
    x = rng.random((9, 200)).astype(np.float32)
    above = ensemble_sums(x, np.zeros(200, np.float32), np.ones((1, 200)))
    below = ensemble_sums(-x, np.zeros(200, np.float32), np.ones((1, 200)))
    assert above["under"] == 0
    assert below["over"] == 0
    assert above["over"] == below["under"] > 0


def test_events_compare_float32_values_with_the_threshold_as_it_is(implementation):
    # The float32 next to 303.15 is below it, that next to 0.1 is above.
    for threshold in (303.15, 0.1):
        nearest = np.float32(threshold)
        x = np.array([np.nextafter(nearest, 0), nearest, np.nextafter(nearest, 999)], np.float32)
        for above in (True, False):
            events = Events(np.array([[threshold]]), np.array([above]))
            sums = ensemble_sums(x[:, np.newaxis], x[1:2], np.ones((1, 1)), events=events)
            exact = x.astype(np.float64)
            inside = exact > threshold if above else exact < threshold
            assert sums.event_count[0, 0, inside.sum()] == 1
            assert sums.event_occurred.sum() == inside[1]


def test_an_unobserved_point_counts_nowhere(implementation):
    rng = np.random.default_rng(4)
    x, y, w = rng.normal(size=(4, 200)), rng.normal(size=200), rng.random((2, 200))
    kept = np.arange(200) % 3 > 0
    y[~kept] = np.nan
    x[2, ~kept] = np.nan
    sums = ensemble_sums(x, y, w, events=EVENTS, wanted=EVERYTHING)
    expected = by_definition(x[:, kept], y[kept], w[:, kept], EVENTS)
    expected["pointwise"] = np.full((7, 200), np.nan)
    expected["pointwise"][:, kept] = by_definition(x[:, kept], y[kept], w[:, kept])["pointwise"]
    assert_sums(sums, expected, 200.0)
    np.testing.assert_allclose(sums.weight, w[:, kept].sum(axis=1), rtol=1e-14)


def test_a_missing_member_spoils_the_regions_that_see_it_and_no_other(implementation):
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(4, 200)), rng.normal(size=200)
    w = np.stack([np.ones(200), np.arange(200) >= 100.0])
    x[1, 7] = np.nan
    usable = np.arange(200) != 9
    sums = ensemble_sums(x, y, w, usable=usable, events=EVENTS, wanted=EVERYTHING)
    for name in ("totals", "rank", "joint", "clipped", "alpha", "beta"):
        assert np.isnan(getattr(sums, name)[0]).all(), name
        assert np.isfinite(getattr(sums, name)[1]).all(), name
    assert sums.weight.tolist() == [200, 100]
    assert sums.complete.tolist() == [198, 100]
    assert np.isnan(sums.pointwise[:, [7, 9]]).all()
    assert np.isfinite(np.delete(sums.pointwise, [7, 9], axis=1)).all()

    wanted = dataclasses.replace(EVERYTHING, omit=True)
    omitted = ensemble_sums(x, y, w, usable=usable, events=EVENTS, wanted=wanted)
    kept = np.delete(np.arange(200), [7, 9])
    expected = by_definition(x[:, kept], y[kept], w[:, kept], EVENTS)
    del expected["pointwise"]
    assert_sums(omitted, expected, 200.0)
    assert omitted.weight.tolist() == omitted.complete.tolist() == [198, 100]


def test_a_member_that_is_missing_everywhere_is_named(implementation):
    x, y = np.ones((3, 200)), np.ones(200)
    y[50:60] = np.nan
    x[1, np.r_[0:50, 60:200]] = np.nan
    sums = ensemble_sums(x, y, np.ones((1, 200)))
    assert sums.member_missing.tolist() == [False, True, False]
    x[1, 3] = 1.0
    assert not ensemble_sums(x, y, np.ones((1, 200))).member_missing.any()
    x[:] = np.nan
    assert not ensemble_sums(x, y, np.ones((1, 200))).member_missing.any()


def test_a_missing_threshold_spoils_its_event_only(implementation):
    x, y, w = np.ones((3, 200)), np.ones(200), np.ones((1, 200))
    thresholds = np.zeros((2, 200))
    thresholds[0, 150] = np.nan
    sums = ensemble_sums(x, y, w, events=Events(thresholds, np.array([True, True])))
    assert np.isnan(sums.joint[0, 0]).all()
    assert np.isnan(sums.clipped[0, 0]).all()
    assert np.isfinite(sums.joint[0, 1]).all()
    assert np.isfinite(sums.totals).all()
    w[0, 150] = 0
    away = ensemble_sums(x, y, w, events=Events(thresholds, np.array([True, True])))
    assert np.isfinite(away.joint).all()
    assert np.isfinite(away.clipped).all()


def test_infinities_give_no_number_and_no_error(implementation):
    x = np.array([[np.inf, np.inf, 1.0, np.inf], [-np.inf, 0.0, 2.0, np.inf]]).repeat(40, axis=1)
    y = np.array([0.0, 0.0, np.inf, np.inf]).repeat(40)
    sums = ensemble_sums(x, y, np.ones((1, 160)), events=EVENTS, wanted=EVERYTHING)
    over, under, dispersion = sums.pointwise[:3]
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(over + under - dispersion).any()
    assert not np.isfinite(sums.totals).any()
    assert sums.complete == 160
    w = np.zeros((1, 161))
    w[0, -1] = 1
    x, y = np.pad(x, ((0, 0), (0, 1))), np.pad(y, (0, 1))
    assert ensemble_sums(x, y, w)["over"] == 0  # what has no weight does not count


@settings(deadline=None, max_examples=50)
@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(2, 9), st.integers(1, 5)),
        elements=st.integers(-3, 3).map(lambda i: i / 2) | st.just(np.nan),
    ),
    st.booleans(),
)
def test_the_implementations_agree_on_ties_and_missing_values(values, omit):
    pytest.importorskip("numba")
    x, y = np.ascontiguousarray(values[1:]), values[0]
    w = np.stack([np.arange(len(y)) + 1.0, np.arange(len(y)) % 2 * 0.5])
    wanted = dataclasses.replace(EVERYTHING, omit=omit)
    results = []
    for setting in ("1", "0"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WEATHERDIFF_NUMBA", setting)
            results.append(ensemble_sums(x, y, w, events=EVENTS, wanted=wanted))
    a, b = results
    for field in dataclasses.fields(EnsembleSums):
        if field.name != "fields":
            np.testing.assert_allclose(
                getattr(a, field.name), getattr(b, field.name), rtol=1e-13, atol=1e-13
            )


def test_crps_agrees_with_scoringrules(implementation):
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(20, 300)), rng.normal(size=300)
    over, under, dispersion = ensemble_sums(x, y, np.empty((0, 300)), wanted=EVERYTHING).pointwise[
        :3
    ]
    for estimator, factor in (("fair", 1.0), ("nrg", 1 - 1 / 20)):
        theirs = scoringrules.crps_ensemble(y, x, m_axis=0, estimator=estimator)
        np.testing.assert_allclose(over + under - factor * dispersion, theirs, rtol=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("members", [1, 2, 5, 9, 10, 11, 12, 13, 14, 15, 16, 51])
def test_the_crps_alone_is_that_of_the_parts(implementation, members, dtype):
    rng = np.random.default_rng(members)
    x, y = rng.normal(size=(members, 300)).astype(dtype), rng.normal(size=300).astype(dtype)
    x[0, 3], y[200] = np.nan, np.nan
    over, under, dispersion = ensemble_sums(x, y, np.empty((0, 300)), wanted=EVERYTHING).pointwise[
        :3
    ]
    for factor in (0.0, 0.9, 1.0):
        expected = over + under - factor * dispersion
        for array in (x, np.ascontiguousarray(x.T).T):
            crps = ensemble_crps(array, y, factor=factor)
            np.testing.assert_allclose(crps, expected, rtol=1e-12, atol=1e-14)
        into = np.zeros(300)
        assert ensemble_crps(x, y, factor=factor, out=into) is into
        np.testing.assert_array_equal(into, ensemble_crps(x, y, factor=factor))


def test_hersbachs_parts_make_the_standard_crps(implementation):
    rng = np.random.default_rng(9)
    members = 10
    x, y = rng.normal(size=(members, 300)), 2 * rng.normal(size=300)
    sums = ensemble_sums(x, y, np.ones((1, 300)), wanted=EVERYTHING)
    share = np.arange(members + 1) / members
    parts = sums.alpha @ share**2 + sums.beta @ (1 - share) ** 2
    crps = sums["over"] + sums["under"] - (1 - 1 / members) * sums["dispersion"]
    np.testing.assert_allclose(parts, crps, rtol=1e-12)


def test_what_does_not_fit_is_refused():
    x, y, w = np.ones((3, 10)), np.ones(10), np.ones((1, 10))
    for bad in ((x[0], y, w), (x, y[:9], w), (x, y, w[0]), (x[:0], y, w)):
        with pytest.raises(DimensionError):
            ensemble_sums(*bad)
    with pytest.raises(DimensionError, match="other members"):
        ensemble_sums(x, y, w, into=EnsembleSums.zero(4, 1))
    with pytest.raises(DimensionError, match="thresholds"):
        ensemble_sums(x, y, w, events=Events(np.ones((1, 9)), np.array([True])))
    with pytest.raises(InputError, match="weight"):
        ensemble_sums(x, y, -w)
    with pytest.raises(InputError, match="float32 or float64"):
        ensemble_sums(x.astype(int), y, w)


def test_the_environment_can_turn_numba_off(monkeypatch):
    monkeypatch.setenv("WEATHERDIFF_NUMBA", "0")
    assert not compiles()
