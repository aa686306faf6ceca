"""Turned frames are told from white noise, which looks the same however it is turned."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.data.quality import survey

SHAPES = [(2, 2), (2, 4), (4, 2), (2, 8), (3, 3), (4, 4), (4, 8), (5, 2), (8, 3), (12, 20)]


def record(values, name="tracer"):
    frames, rows, columns = values.shape
    time = np.datetime64("2020-01-01", "ns") + np.arange(frames) * np.timedelta64(6, "h")
    return xr.Dataset(
        {name: (("time", "latitude", "longitude"), values.astype("f4"), {"units": "1"})},
        {"time": time, "latitude": np.arange(rows) * 1.5, "longitude": np.arange(columns) * 1.5},
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_white_noise_is_not_said_to_be_turned_or_rolled(shape):
    rng = np.random.default_rng(shape)
    alarms = frames = 0
    for _ in range(2):
        found = survey(record(5 + rng.normal(size=(400, *shape)))).findings
        alarms += sum(f.times for f in found if f.check in ("flipped", "shifted"))
        frames += 400
    assert alarms <= 1e-3 * frames


@pytest.mark.deep
@given(
    st.integers(2, 6), st.integers(2, 10), st.integers(200, 700), st.integers(0, 2**32 - 1),
    st.floats(-0.3, 0.3),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_white_noise_of_any_shape_and_memory_raises_no_alarm(rows, columns, frames, seed, memory):
    noise = np.random.default_rng(seed).normal(size=(frames, rows, columns))
    for index in range(1, frames):  # in time alone
        noise[index] += memory * noise[index - 1]
    found = survey(record(noise)).findings
    assert sum(f.times for f in found if f.check in ("flipped", "shifted")) <= 1e-3 * frames


def smooth(frames, rows, columns):
    """Waves that move slowly over a mean that no turn leaves as it is."""
    y, x = np.linspace(0, 1, rows)[:, None], np.linspace(0, 1, columns)
    t = np.arange(frames)[:, None, None] / 40
    waves = np.sin(4 * (x + y) - t) + np.cos(3 * (x - y) + 1.7 * t)
    return 20 * y + 9 * x**2 + 0.5 * waves


@pytest.mark.parametrize(
    "shape",
    [(6, 8), *(pytest.param(s, marks=pytest.mark.deep) for s in ((4, 8), (12, 20), (16, 32)))],
)
@pytest.mark.parametrize("axis", [1, 2])
def test_a_smooth_field_turned_over_is_found_in_every_frame(shape, axis):
    values = smooth(60, *shape)
    assert not survey(record(values)).findings
    for frame in range(60):
        spoilt = values.copy()
        spoilt[frame] = np.flip(spoilt[frame], axis - 1)
        bad = survey(record(spoilt)).bad[:, 0]
        assert bad[frame], frame
        assert bad.sum() == 1
