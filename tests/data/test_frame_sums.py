"""One reading of the values gives what several did: sums as numpy adds, and exact moments."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.data.storing.frame_sums import frame_sums
from weatherdiff.data.storing.moments import Moments, change_moments

COLUMNS = [2, 7, 8, 9, 127, 128, 129, 240, 257, 400, 1440]  # about where numpy halves


@st.composite
def frames(draw):
    """Fields of a large mean, some of them with gaps, some without anything."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (3, 2, draw(st.integers(1, 7)), draw(st.sampled_from(COLUMNS)))
    values = draw(st.sampled_from([0.0, 300.0, 1e5])) + rng.normal(size=shape)
    fields = values.astype(np.float32)
    fields[rng.random(shape) < draw(st.sampled_from([0.0, 0.3]))] = np.nan
    if draw(st.booleans()):
        fields[1, 0] = np.nan
    return fields


def compiled(patch, really):
    for name in ("frame_sums", "moments"):
        patch.setattr(f"weatherdiff.data.storing.{name}.compiles", lambda _: really)


@settings(max_examples=20, deadline=None)
@given(frames())
def test_compiled_and_not_are_the_same_bit_by_bit(fields):
    found = {}
    for really in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            compiled(patch, really)
            found[really] = frame_sums(fields), change_moments(fields[1:], fields[:-1])
    for name in ("rows", "row_counts", "columns", "column_counts", "everywhere", "moments"):
        one, other = (getattr(found[really][0], name) for really in (True, False))
        np.testing.assert_array_equal(one, other, strict=True)
    np.testing.assert_array_equal(found[True][1], found[False][1], strict=True)


@pytest.mark.parametrize("offset", [0.0, 280.0, 5e5])
@pytest.mark.parametrize("gaps", [0.0, 0.3])
@pytest.mark.parametrize("really", [True, False])
def test_moments_are_exact_to_twelve_digits(monkeypatch, offset, gaps, really):
    compiled(monkeypatch, really)
    rng = np.random.default_rng(1)
    fields = (offset + rng.normal(size=(7, 2, 60, 70))).astype(np.float32)
    fields[rng.random(fields.shape) < gaps] = np.nan
    changes = np.subtract(fields[1:], fields[:-1], dtype=np.float64)
    for table, values in (
        (frame_sums(fields).moments, fields),
        (change_moments(fields[1:], fields[:-1]), changes),
    ):
        merged = Moments.merge(table)
        for channel in range(2):
            exact = values[:, channel].astype(np.longdouble)
            exact = exact[~np.isnan(exact)]
            mean = exact.mean()
            squares = ((exact - mean) ** 2).sum()
            assert merged.count[channel] == exact.size
            spread = float(np.sqrt(squares / exact.size))
            np.testing.assert_allclose(
                merged.mean[channel], float(mean), rtol=1e-12, atol=1e-12 * spread
            )
            np.testing.assert_allclose(
                merged.squared_deviations[channel], float(squares), rtol=1e-12
            )
            assert merged.minimum[channel] == exact.min()
            assert merged.maximum[channel] == exact.max()


@pytest.mark.parametrize("really", [True, False])
def test_values_that_are_all_the_same_deviate_from_nothing(monkeypatch, really):
    compiled(monkeypatch, really)
    fields = np.full((2, 1, 5, 11), 0.1, np.float32)
    assert (frame_sums(fields).moments[..., 2] == 0).all()
    assert (change_moments(fields[1:], fields[:-1])[..., 1:] == 0).all()


@pytest.mark.parametrize("really", [True, False])
def test_infinite_values_are_found_beside_missing_ones(monkeypatch, really):
    compiled(monkeypatch, really)
    fields = np.ones((2, 2, 3, 4), np.float32)
    fields[0, 0, 1, 1] = np.nan
    assert not frame_sums(fields).infinite
    fields[1] = np.nan
    assert not frame_sums(fields).infinite
    for bad in (np.inf, -np.inf):
        fields[0, 0, 2, 2] = bad
        assert frame_sums(fields).infinite


def test_little_work_loads_no_compiler():
    script = (
        "import sys, numpy as np; from weatherdiff.data.storing.moments import frame_moments\n"
        "frame_moments(np.ones((2, 1, 8, 16), np.float32)); sys.exit('numba' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
