"""Transforms of bounded variables: there and back, and never out of bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from weatherdiff.data.storing.transforms import RESOLUTION, BoundedTransform
from weatherdiff.errors import InputError

NUMBERS = st.floats(-1e3, 1e3, allow_subnormal=False)


@st.composite
def transforms(draw):
    """Any bounds, a scale between a thousandth and ten times the span or 1."""
    lower = draw(NUMBERS | st.none())
    span = draw(st.floats(0.5, 500))
    upper = draw(NUMBERS) if lower is None else draw(st.none() | st.just(lower + span))
    return BoundedTransform(lower, upper, draw(st.floats(1e-3, 10)) * span)


def resolution(transform):
    if transform.lower is not None and transform.upper is not None:
        return RESOLUTION * (transform.upper - transform.lower)
    return RESOLUTION * transform.scale


def inside(transform, fraction):
    """Values in the bounds, from far away down to the bound itself."""
    if transform.lower is not None and transform.upper is not None:
        return transform.lower + (transform.upper - transform.lower) * fraction
    distance = transform.scale * fraction / (1.001 - fraction)
    return transform.upper - distance if transform.lower is None else transform.lower + distance


@given(transforms(), arrays(np.float64, 9, elements=st.floats(0, 1)))
def test_there_and_back_is_the_same_within_the_resolution(transform, fraction):
    x = inside(transform, fraction)
    back = transform.inverse(transform.forward(x))
    step = resolution(transform)
    assert np.abs(back - x).max() <= 1.002 * step
    far = np.ones_like(x, bool)
    for bound in (transform.lower, transform.upper):
        far &= True if bound is None else np.abs(x - bound) > 1.01 * step
    np.testing.assert_allclose(back[far], x[far], rtol=1e-9, atol=1e-9 * np.abs(x).max())


@given(
    transforms(),
    arrays(np.float64, 9, elements=st.floats(-1e30, 1e30) | NUMBERS | st.just(np.inf)),
    st.sampled_from([np.float32, np.float64]),
)
def test_no_point_of_the_line_comes_out_of_bounds(transform, z, dtype):
    x = transform.inverse(z.astype(dtype))
    assert x.dtype == dtype
    assert not np.isnan(x).any()
    if transform.lower is not None:
        assert (x >= dtype(transform.lower)).all()
    if transform.upper is not None:
        assert (x <= dtype(transform.upper)).all()


@given(transforms(), st.floats(0, 1), st.floats(-8, 8), st.floats(0.01, 2))
def test_the_bound_is_a_point_mass_that_survives_single_precision(transform, below, mean, std):
    # As a network sees it: (z - mean) / std in float32, with both of the order of the scale.
    mean, std = mean * transform.scale, 10 * std * transform.scale
    for bound, sign in ((transform.lower, 1), (transform.upper, -1)):
        if bound is None:
            continue
        near = np.array([bound, bound + sign * below * 0.99 * resolution(transform)])
        z = transform.forward(near)
        normal = ((z - mean) / std).astype(np.float32)
        again = normal.astype(np.float64) * std + mean
        assert (transform.inverse(again) == bound).all()
        assert (transform.inverse(z - sign * np.array([1e-9, 50.0])) == bound).all()


@given(transforms())
def test_order_is_kept(transform):
    z = np.linspace(-20, 20, 401) * transform.scale
    x = transform.inverse(z)
    assert (np.diff(x) >= 0).all()
    assert (np.diff(transform.forward(x)) >= 0).all()


@pytest.mark.parametrize("bounds", [(None, None), (2.0, None), (None, 5.0), (2.0, 5.0)])
def test_missing_values_stay_missing(bounds):
    transform = BoundedTransform(*bounds)
    x = np.array([np.nan, 3.0])
    assert np.isnan(transform.forward(x)).tolist() == [True, False]
    assert np.isnan(transform.inverse(x)).tolist() == [True, False]
    assert np.isnan(transform.forward(np.full(3, np.nan))).all()


@pytest.mark.parametrize(("bounds", "sign"), [((4.0, None), 1), ((None, 4.0), -1)])
def test_far_from_one_bound_the_transform_is_the_distance(bounds, sign):
    transform = BoundedTransform(*bounds, scale=2.0)
    distance = np.array([40.0, 1e3, 1e6, 1e30])
    z = transform.forward(4.0 + sign * distance)
    np.testing.assert_allclose(z, sign * distance, rtol=1e-8)
    np.testing.assert_allclose(transform.inverse(z), 4.0 + sign * distance, rtol=1e-8)


def test_the_middle_between_two_bounds_is_zero_and_the_curve_is_logistic():
    transform = BoundedTransform(10.0, 30.0, scale=3.0)
    x = np.array([15.0, 20.0, 25.0])
    np.testing.assert_allclose(transform.forward(x), 3 * np.log([1 / 3, 1, 3]), atol=1e-12)


def test_without_bounds_nothing_is_changed():
    transform = BoundedTransform()
    x = np.array([-1e30, 0.0, 5.0], np.float32)
    assert transform.is_identity
    assert transform.forward(x) is x
    assert transform.inverse(x) is x


@pytest.mark.parametrize(
    ("transform", "outside"),
    [
        (BoundedTransform(0.0, None, 10.0), -0.2),
        (BoundedTransform(None, 5.0, 10.0), 5.2),
        (BoundedTransform(0.0, 1.0), -0.02),
        (BoundedTransform(0.0, 1.0), 1.02),
        (BoundedTransform(0.0, 1.0), np.inf),
    ],
)
def test_values_out_of_bounds_are_refused_and_counted(transform, outside):
    with pytest.raises(InputError, match=r"2 values are outside the bounds \["):
        transform.forward(np.array([0.5, outside, np.nan, outside]))


def test_rounding_beyond_a_bound_is_the_bound():
    rain = BoundedTransform(0.0, None, 10.0)
    assert rain.inverse(rain.forward(np.array([-0.09]))) == [0.0]
    cloud = BoundedTransform(0.0, 1.0)
    assert cloud.inverse(cloud.forward(np.array([-0.009, 1.009]))).tolist() == [0.0, 1.0]
