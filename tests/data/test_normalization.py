"""Statistics: of the training period only, and what they claim to be."""

import json

import numpy as np
import pytest

from weatherdiff.data.normalization import Harmonics, Normalizer, fit_normalizer
from weatherdiff.data.storing.transforms import BoundedTransform
from weatherdiff.data.windows import Period, WindowSpec
from weatherdiff.errors import InputError

HOUR, DAY, YEAR = 3600, 86_400, 365.2425 * 86_400
TRANSFORMS = (BoundedTransform(), BoundedTransform(lower=0.0, scale=0.3))
WEIGHTS = np.random.default_rng(1).uniform(0.2, 2, (2, 3, 4))
WEIGHTS[0, 1, 2] = WEIGHTS[1, 0, :2] = 0
STEP = 6 * HOUR
LEADS = 3


def record(days=40, start=0, gaps=()):
    """Six-hourly fields with memory, a daily cycle, a masked cell, and absent frames."""
    rng = np.random.default_rng(2)
    times = start + np.arange(days * 4) * STEP
    fields = 0.3 * rng.normal(size=(len(times), 2, 3, 4))
    for t in range(1, len(times)):
        fields[t] += 0.8 * fields[t - 1]
    cycle = np.cos(2 * np.pi * times / DAY)[:, None, None]
    fields[:, 0] = 280 + 5 * fields[:, 0] + 3 * cycle
    fields[:, 1] = np.maximum(fields[:, 1] + cycle, 0)
    fields[:, WEIGHTS == 0] = np.nan
    kept = np.delete(np.arange(len(times)), list(gaps))
    return times[kept], fields[kept].astype(np.float32)


def fit(
    times,
    fields,
    period=None,
    *,
    valid=None,
    block=256,
    transforms=TRANSFORMS,
    step=STEP,
    threads=1,
):
    period = Period(int(times[0]), int(times[-1])) if period is None else period

    def read(indices, out):
        assert period.contains(times[indices]).all(), "a frame outside the training period is read"
        out[...] = fields[indices]

    return fit_normalizer(
        read,
        times,
        np.ones(len(times), bool) if valid is None else valid,
        transforms=transforms,
        weights=WEIGHTS,
        spec=WindowSpec(history=1, frames=LEADS, step=step),
        period=period,
        block=block,
        threads=threads,
    )


def same(one, other):
    assert one.to_dict() == other.to_dict()
    for name, values in one.arrays().items():
        assert values.tobytes() == other.arrays()[name].tobytes(), name


def mean(values, axis=None):
    """Over the cells with data, by area; channel by channel."""
    values = np.where(WEIGHTS > 0, values, 0)
    return (values * WEIGHTS).sum(axis=(-2, -1)) / WEIGHTS.sum(axis=(-2, -1))


def test_statistics_are_of_the_training_period_only():
    times, fields = record()
    period = Period(int(times[8]), int(times[100]))
    before = fit(times, fields, period)
    outside = ~period.contains(times)
    fields[outside] = np.where(np.isnan(fields[outside]), np.nan, 1e6)
    same(fit(times, fields, period), before)
    inside = ~outside
    same(fit(times[inside], fields[inside], period), before)


def test_frames_with_missing_data_do_not_count():
    times, fields = record()
    valid = np.ones(len(times), bool)
    valid[[3, 50, 51]] = False
    fields[~valid, 0, 2, 2] = np.nan
    by_mark = fit(times, fields, valid=valid)
    by_absence = fit(times[valid], fields[valid])
    for name, values in by_mark.arrays().items():
        np.testing.assert_allclose(values, by_absence.arrays()[name], rtol=1e-6)


def test_threads_change_nothing():
    times, fields = record(days=20, gaps=(3, 30, 31))
    same(fit(times, fields, block=7), fit(times, fields, block=7, threads=3))


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_the_size_of_a_block_changes_nothing(block):
    times, fields = record(gaps=(5, 77))
    one, other = fit(times, fields).arrays(), fit(times, fields, block=block).arrays()
    for name, values in one.items():
        np.testing.assert_allclose(values, other[name], rtol=1e-6, atol=1e-12)


def test_harmonics_of_day_and_year_are_recovered():
    times = np.arange(0, 3 * YEAR, STEP).astype(np.int64)
    rng = np.random.default_rng(3)
    truth = rng.normal(size=(8, 2, 3, 4))  # mean, day 1 (cos, sin), day 2 (cos), year 1, 2
    waves = [np.ones(len(times))]
    waves += [np.cos(2 * np.pi * times / DAY), np.sin(2 * np.pi * times / DAY)]
    waves += [np.cos(4 * np.pi * times / DAY)]
    waves += [f(2 * np.pi * k * times / YEAR) for k in (1, 2) for f in (np.cos, np.sin)]
    signal = np.tensordot(np.stack(waves, axis=1), truth, axes=1)
    fields = (signal + 0.1 * rng.normal(size=signal.shape)).astype(np.float32)
    identity = (BoundedTransform(), BoundedTransform())
    normalizer = fit(times, fields, transforms=identity)
    assert normalizer.harmonics == Harmonics(daily=2, yearly=2)
    # six-hourly data see the second sine of the day only where it is zero
    found = np.delete(normalizer.climatology, 4, axis=0)
    np.testing.assert_allclose(found, truth, atol=0.02)
    assert np.abs(normalizer.climatology[4]).max() < 1e-3
    np.testing.assert_allclose(normalizer.std, 0.1, rtol=0.01)


@pytest.mark.parametrize(
    ("step", "span", "daily", "yearly"),
    [
        (HOUR // 2, 30 * DAY, 12, 0),
        (HOUR, 30 * DAY, 12, 0),
        (3 * HOUR, 30 * DAY, 4, 0),
        (6 * HOUR, 400 * DAY, 2, 2),
        (12 * HOUR, 100 * DAY, 1, 0),
        (DAY, 359 * DAY, 0, 0),
        (DAY, 365 * DAY, 0, 2),
        (30 * DAY, 720 * DAY, 0, 2),
    ],
)
def test_a_record_gets_the_harmonics_it_supports(step, span, daily, yearly):
    times = np.arange(0, span + 1, step)
    assert Harmonics.resolved_by(times) == Harmonics(daily, yearly)


def test_the_basis_repeats_every_day_and_year_from_any_time():
    basis = Harmonics(daily=3, yearly=2)
    times = np.array([-5 * DAY - 7, 3, 10**9])
    np.testing.assert_allclose(
        Harmonics(3, 0).evaluate(times), Harmonics(3, 0).evaluate(times + 9 * DAY), atol=1e-9
    )
    np.testing.assert_allclose(
        Harmonics(0, 2).evaluate(times), Harmonics(0, 2).evaluate(times + 4 * int(YEAR)), atol=1e-6
    )
    assert basis.evaluate(times).shape == (3, 11)


def test_normalised_anomalies_have_mean_zero_and_variance_one():
    times, fields = record(days=100)
    state = fit(times, fields).state(fields, times).astype(np.float64)
    assert np.nanmax(np.abs(state.mean(axis=0))) < 1e-3  # in each cell
    np.testing.assert_allclose(mean(np.square(state).mean(axis=0)), 1, rtol=1e-5)


def test_the_std_is_that_of_brute_force():
    times, fields = record(gaps=(9,))
    normalizer = fit(times, fields)
    z = np.stack([t.forward(fields[:, c].astype(float)) for c, t in enumerate(TRANSFORMS)], axis=1)
    angle = 2 * np.pi * times / DAY
    basis = np.stack([np.ones(len(times)), np.cos(angle), np.sin(angle), np.cos(2 * angle)], axis=1)
    residual = np.full(z.shape, np.nan)
    for c, i, j in np.argwhere(WEIGHTS > 0):
        coefficients = np.linalg.lstsq(basis, z[:, c, i, j], rcond=None)[0]
        residual[:, c, i, j] = z[:, c, i, j] - basis @ coefficients
    expected = np.sqrt(mean(np.square(residual).mean(axis=0)))
    np.testing.assert_allclose(normalizer.std, expected, rtol=1e-5)
    np.testing.assert_allclose(
        normalizer.state(fields, times), residual / expected[:, None, None], atol=1e-4
    )


def test_the_tendency_std_is_that_of_brute_force_for_each_lead():
    times, fields = record(gaps=(9, 60, 61))
    normalizer = fit(times, fields)
    state = normalizer.state(fields, times).astype(np.float64)
    where = {t: i for i, t in enumerate(times.tolist())}
    for lead in range(LEADS):
        later = [(i, where.get(t + (lead + 1) * STEP)) for t, i in where.items()]
        changes = [state[j] - state[i] for i, j in later if j is not None]
        assert len(changes) < len(times) - lead - 1
        expected = np.sqrt(mean(np.square(changes).mean(axis=0)))
        np.testing.assert_allclose(normalizer.tendency_std[lead], expected, rtol=1e-5)


def test_tendencies_have_unit_variance_and_not_that_of_second_differences():
    # A random walk: the change over k steps has variance k.
    rng = np.random.default_rng(4)
    times = np.arange(4000) * STEP
    walk = rng.normal(size=(4000, 2, 3, 4)).cumsum(axis=0).astype(np.float32)
    walk[:, WEIGHTS == 0] = np.nan
    normalizer = fit(times, walk, transforms=(BoundedTransform(), BoundedTransform()))
    ratio = normalizer.tendency_std / normalizer.tendency_std[0]
    np.testing.assert_allclose(ratio, np.sqrt([1, 2, 3])[:, None] * [1, 1], rtol=0.02)
    np.testing.assert_allclose(normalizer.tendency_std[0] * normalizer.std, 1, rtol=0.02)
    state = normalizer.state(walk, times)
    targets = np.stack([state[k : 3997 + k] for k in (1, 2, 3)], axis=1)
    tendency = normalizer.tendency(targets, state[:3997]).astype(np.float64)
    np.testing.assert_allclose(mean(np.square(tendency).mean(axis=0)), 1, rtol=0.01)


def test_state_and_fields_undo_each_other():
    times, fields = record()
    normalizer = fit(times, fields)
    back = normalizer.fields(normalizer.state(fields, times), times)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(back), np.isnan(fields))
    np.testing.assert_allclose(back[:, 0], fields[:, 0], rtol=1e-6)
    night = fields[:, 1] == 0
    assert night.any()
    assert (back[:, 1][night] == 0).all()
    assert np.nanmax(np.abs(back[:, 1] - fields[:, 1])) <= 0.0031  # a hundredth of the scale


def test_an_ensemble_comes_back_as_its_members_do():
    times, fields = record(days=2)
    normalizer = fit(*record())
    state = normalizer.state(fields, times)
    ensemble = np.stack([state, state + 1, state - 2])
    out = normalizer.fields(ensemble, times)
    for member, expected in zip(out, ensemble, strict=True):
        np.testing.assert_array_equal(member, normalizer.fields(expected, times))
    assert np.nanmin(out[:, :, 1]) == 0


def test_tendencies_undo_each_other_in_any_batch():
    times, fields = record()
    normalizer = fit(times, fields)
    state = normalizer.state(fields, times)
    target = np.stack([state[2:5], state[7:10]])  # (batch, lead, ...)
    last = state[[1, 6]]
    tendency = normalizer.tendency(target, last)
    np.testing.assert_allclose(normalizer.add_tendency(tendency, last), target, atol=1e-5)
    np.testing.assert_array_equal(tendency[1], normalizer.tendency(target[1], last[1]))
    expected = (target[1, 2, 0] - last[1, 0]) / normalizer.tendency_std[2, 0]
    np.testing.assert_allclose(tendency[1, 2, 0], expected, rtol=1e-5)


def test_a_normalizer_comes_back_from_plain_types():
    times, fields = record()
    normalizer = fit(times, fields)
    document = json.loads(json.dumps(normalizer.to_dict()))
    same(Normalizer.from_dict(document, normalizer.arrays()), normalizer)


def test_values_out_of_bounds_are_refused():
    times, fields = record()
    normalizer = fit(times, fields)
    fields[3, 1, 2, 2] = -1
    with pytest.raises(InputError, match="1 values are outside the bounds"):
        normalizer.state(fields, times)


def test_too_few_frames_are_refused_with_their_number():
    times, fields = record()
    with pytest.raises(InputError, match=r"Only 6 frames .* need at least 7"):
        fit(times, fields, Period(int(times[0]), int(times[5])))


def test_a_lead_that_no_two_frames_are_apart_is_refused():
    times, fields = record()
    with pytest.raises(InputError, match="No pair of frames 1 hours apart"):
        fit(times, fields, step=HOUR)


@pytest.mark.parametrize("size", [1e-5, 1.0, 280.1, 101_325.3])
def test_a_channel_that_does_not_change_is_refused(size):
    times, fields = record()
    pattern = size * np.random.default_rng(0).uniform(0.9, 1.1, (3, 4))
    fields[:, 1] = pattern
    with pytest.raises(InputError, match="Channel number 1 does not change"):
        fit(times, fields, transforms=(BoundedTransform(), BoundedTransform()))
