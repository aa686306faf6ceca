"""Normalised frames are those of the normalizer, however they are read."""

import numpy as np
import pytest

from weatherdiff.data.loading import arithmetic, states
from weatherdiff.data.loading.reader import FunctionReader
from weatherdiff.data.loading.states import MemoryReader, StateReader
from weatherdiff.errors import InputError


@pytest.mark.parametrize("tile", [1, 3, 2**13])
@pytest.mark.parametrize("indices", [[5], [9, 2, 2, 40], list(range(60))])
def test_states_are_those_of_the_normalizer(small_store, monkeypatch, tile, indices):
    monkeypatch.setattr(states, "TILE", tile)
    monkeypatch.setattr(arithmetic, "TILE", tile)
    store = small_store
    reader = StateReader(store.reader(), store.normalizer, store.times)
    expected = store.normalizer.state(store.read(indices), store.times[indices])
    np.testing.assert_allclose(reader.read(indices), expected, rtol=1e-6, atol=1e-7)
    out = np.empty_like(expected)
    assert reader.read(indices, out=out) is out
    np.testing.assert_array_equal(out, reader.read(indices))
    assert np.isnan(out[:, ~store.mask]).all()
    assert np.isfinite(out[:, store.mask]).all()


def test_no_frames_are_no_states(small_store):
    reader = StateReader(small_store.reader(), small_store.normalizer, small_store.times)
    assert reader.read([]).shape == (0, *small_store.shape[1:])


def test_a_value_out_of_bounds_is_refused(small_store):
    def read(indices):
        frames = small_store.read(indices)
        frames[0, small_store.channels.labels.index("surface_downwelling_shortwave_flux")] = -500
        return frames

    reader = StateReader(FunctionReader(read), small_store.normalizer, small_store.times)
    with pytest.raises(InputError, match="outside the bounds"):
        reader.read([3, 4])


def test_frames_in_memory_are_given_in_any_order():
    reader = MemoryReader(FunctionReader(lambda i: i[:, None] * 2.0), np.array([3, 4, 9]))
    assert reader.read([9, 3, 9]).ravel().tolist() == [18, 6, 18]
    out = np.empty((2, 1), np.float32)
    assert reader.read([4, 3], out=out) is out
    assert out.ravel().tolist() == [8, 6]
