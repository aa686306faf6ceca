"""Moments: exact, whatever the parts, and those of any period without a frame."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.data import prepare as module
from weatherdiff.data.prepare import prepare
from weatherdiff.data.storing import moments as sums
from weatherdiff.data.storing.moments import (
    Moments,
    change_moments,
    frame_moments,
    weighted_squares,
)
from weatherdiff.data.storing.statistics import field_statistics
from weatherdiff.errors import InputError


def exact(values):
    """Moments of numbers in the widest type there is."""
    values = np.asarray(values, np.longdouble)
    values = values[~np.isnan(values)]
    mean = values.mean()
    return len(values), mean, ((values - mean) ** 2).sum(), values.min(), values.max()


@pytest.mark.parametrize("offset", [0.0, 280.0, 5e5])
@pytest.mark.parametrize("gaps", [0.0, 0.3])
def test_moments_are_exact_to_twelve_digits(offset, gaps):
    rng = np.random.default_rng(1)
    fields = (offset + rng.normal(size=(7, 2, 60, 70))).astype(np.float32)
    fields[rng.random(fields.shape) < gaps] = np.nan
    merged = Moments.merge(frame_moments(fields)).table
    for channel in range(2):
        np.testing.assert_allclose(
            merged[channel], np.array(exact(fields[:, channel]), float), rtol=1e-12
        )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=4), st.integers(0, 2**32 - 1))
def test_any_partition_gives_the_same_moments(cuts, seed):
    rng = np.random.default_rng(seed)
    fields = (300 + rng.normal(size=(9, 2, 3, 4))).astype(np.float32)
    fields[rng.random(fields.shape) < 0.5] = np.nan
    fields[4] = np.nan
    table = frame_moments(fields)
    parts = [p for p in np.split(table, sorted(cuts)) if len(p)]
    whole = Moments.merge(table)
    added = Moments.merge(parts[0])
    for part in parts[1:]:
        added = added + Moments.merge(part)
    np.testing.assert_allclose(added.table, whole.table, rtol=1e-12)


def test_nothing_has_the_moments_of_nothing():
    table = frame_moments(np.full((3, 1, 2, 2), np.nan, np.float32))
    empty = Moments.merge(table)
    assert empty.count == 0
    assert np.isnan(empty.mean)
    assert np.isnan(empty.std)
    assert (empty.minimum, empty.maximum) == (np.inf, -np.inf)


def test_changes_are_those_of_float64():
    now, before = (np.float32([[[[a, 16777216.0]]]]) for a in (1.0, 3.0))
    before[..., 1] = 1.5
    found = change_moments(now, before)[0, 0]
    np.testing.assert_array_equal(found[[0, 1, 3, 4]], [2, (16777214.5 - 2) / 2, -2, 16777214.5])


@pytest.mark.parametrize("shape", [(7, 2, 5, 3), (9, 3, 17, 40), (5, 1, 200, 300)])
@pytest.mark.parametrize("changes", [False, True])
def test_weighted_squares_are_exact_and_the_same_compiled(shape, changes, monkeypatch):
    rng = np.random.default_rng(0)
    now, before = rng.normal(size=(2, *shape)).astype(np.float32)
    area = rng.random(shape[2:])
    rows, places = np.array([4, 0, 3, 3]), np.array([1, 4, 0, 2])
    c = shape[1] - 1
    others = before if changes else None
    found = []
    for compiled in (True, False):
        monkeypatch.setattr(sums, "compiles", lambda fields, compiled=compiled: compiled)
        found.append(weighted_squares(now, rows, others, places, c, area))
    values = now[rows, c] - before[places, c] if changes else now[rows, c]
    exact = (values.astype(np.longdouble) ** 2 * area).sum()
    assert found[0] == found[1]
    assert found[0] == pytest.approx(float(exact), rel=1e-13)


@pytest.fixture(scope="module")
def store(grown, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", 7 * 4 * 2 * 3 * 5)
        return prepare(
            grown,
            tmp_path_factory.mktemp("store") / "fields.zarr",
            training_period=("2020-03-01", "2020-03-08"),
            step="12h",
            frames=4,
        )


@pytest.mark.parametrize(
    "period",
    [
        ("2020-03-01", "2020-03-16"),
        ("2020-03-02T18", "2020-03-09T06"),
        ("2020-03-05", "2020-03-08"),
    ],
)
def test_a_store_has_the_statistics_of_any_period(store, grown, period):
    found = field_statistics(store, *period)
    inside = store.channels.stack(grown.sel(time=slice(*period)))
    for name, function in (
        ("mean", "mean"),
        ("std", "std"),
        ("minimum", "min"),
        ("maximum", "max"),
    ):
        expected = getattr(inside.astype(float), function)(("time", "latitude", "longitude"))
        np.testing.assert_allclose(found[name], expected, rtol=1e-12, err_msg=name)
    for lead in range(4):
        later = inside.assign_coords(time=inside.time - np.timedelta64(12 * (lead + 1), "h"))
        change = later.astype(float) - inside.astype(float)  # at times that both have
        expected = change.std(("time", "latitude", "longitude"))
        np.testing.assert_allclose(found["change_std"][lead], expected, rtol=1e-12)
        count = change.count(("time", "latitude", "longitude"))
        np.testing.assert_array_equal(found["change_count"][lead], count)
    assert found["lead_time"].values.astype("timedelta64[h]").astype(int).tolist() == [
        12,
        24,
        36,
        48,
    ]


def test_a_period_without_data_is_refused(store):
    with pytest.raises(InputError, match="no frame in the period"):
        field_statistics(store, "2021-01-01", "2021-02-01")
