"""Compiled loops, and numpy in their place, give what the formulas say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.data.loading import arithmetic
from weatherdiff.data.loading.arithmetic import to_anomalies, to_tendencies


@pytest.fixture(params=["numba", "numpy"])
def _way(request, monkeypatch):
    """Both ways; the choice is not made again for those that come after."""
    if request.param == "numpy":
        monkeypatch.setattr(arithmetic, "compiled", lambda loop, otherwise: otherwise)
    else:
        pytest.importorskip("numba")


@pytest.mark.parametrize("cells", [1, 511, 512, 1100])
@pytest.mark.usefixtures("_way")
def test_anomalies_are_differences_from_the_climatology_in_standard_deviations(cells, monkeypatch):
    monkeypatch.setattr(arithmetic, "TILE", 100)
    rng = np.random.default_rng(cells)
    values = (1e5 + rng.normal(size=(7, 3, cells))).astype(np.float32)
    values[2, 1, 0] = np.nan
    basis, std = rng.normal(size=(7, 4)), np.array([0.5, 2.0, 30.0])
    climatology = rng.normal(size=(4, 3, cells)).astype(np.float32)
    mean = np.einsum("nk,kci->nci", basis, climatology.astype(np.float64))
    expected = ((values - mean) / std[:, None]).astype(np.float32)
    to_anomalies(values, basis, climatology, std)
    np.testing.assert_allclose(values, expected, rtol=2e-7)


@pytest.mark.usefixtures("_way")
def test_anomalies_of_a_frame_are_the_same_among_others():
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(9, 2, 700)).astype(np.float32)
    basis, climatology = rng.normal(size=(9, 3)), rng.normal(size=(3, 2, 700)).astype(np.float32)
    alone = frames.copy()
    to_anomalies(frames, basis, climatology, np.array([1.0, 3.0]))
    for n in range(len(alone)):
        to_anomalies(alone[n : n + 1], basis[n : n + 1], climatology, np.array([1.0, 3.0]))
    np.testing.assert_allclose(alone, frames, rtol=1e-6, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 3), history=st.integers(1, 3), leads=st.integers(1, 3))
def test_tendencies_are_changes_from_the_last_state_bit_for_bit(batch, history, leads):
    rng = np.random.default_rng(batch)
    before = rng.normal(size=(batch, history, 2, 33)).astype(np.float32)
    target = rng.normal(size=(batch, leads, 2, 33)).astype(np.float32)
    std = rng.uniform(0.3, 3, (leads, 2))
    change = (target - before[:, -1:]).astype(np.float64)
    expected = (change * (1 / std)[..., None]).astype(np.float32)
    by_numpy = target.copy()
    arithmetic._tendencies_by_numpy(by_numpy, before, 1 / std)
    to_tendencies(target, before, std)
    np.testing.assert_array_equal(target, expected)
    np.testing.assert_array_equal(by_numpy, expected)
