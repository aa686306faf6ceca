"""Integrating the exact velocity gives the exact distribution, at each sampler's order."""

import itertools

import numpy as np
import pytest
import torch

from weatherdiff.flow import SAMPLERS, Euler, Heun, integrate


def slope(gaussian, noise, sampler, steps):
    """Order of convergence: minus the slope of log error against log steps."""
    exact = gaussian.transport(noise)
    errors = [
        float((integrate(gaussian.velocity, noise, steps=n, sampler=sampler) - exact).norm())
        for n in steps
    ]
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


def test_euler_is_of_first_order(gaussian, noise):
    assert slope(gaussian, noise, Euler(), [64, 128, 256]) == pytest.approx(1, abs=0.05)


def test_heun_is_of_second_order_although_its_last_step_is_plain(gaussian, noise):
    # One Euler step of width h costs O(h^2) once, which is the order of all the others together.
    assert slope(gaussian, noise, Heun(), [64, 128, 256]) == pytest.approx(2, abs=0.05)


def test_heun_is_of_third_order_in_one_step(gaussian, noise):
    # Inside the path, where both velocities are taken; the end is followed in very small steps.
    start = torch.full((len(noise),), 0.3, dtype=noise.dtype)

    def fine(x, stop, steps=400):
        times = torch.linspace(0.3, stop, steps + 1).tolist()
        for tau, tau_next in itertools.pairwise(times):
            x = Heun().step(gaussian.velocity, x, 0 * start + tau, 0 * start + tau_next)
        return x

    widths = [0.05, 0.1, 0.2]
    errors = [
        float(
            (Heun().step(gaussian.velocity, noise, start, start + h) - fine(noise, 0.3 + h)).norm()
        )
        for h in widths
    ]
    assert np.polyfit(np.log(widths), np.log(errors), 1)[0] == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize(("sampler", "steps"), [(Euler(), 400), (Heun(), 40)])
def test_samples_have_the_mean_and_covariance_of_the_data(gaussian, sampler, steps):
    # Noise whose sample moments are exactly those of N(0, I): the map is linear, so that what
    # is left is the error of the integration.
    noise = torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = noise - noise.mean(0)
    noise = torch.linalg.solve_triangular(
        torch.linalg.cholesky(noise.T.cov()), noise.T, upper=False
    ).T
    sample = integrate(gaussian.velocity, noise, steps=steps, sampler=sampler)
    torch.testing.assert_close(sample.mean(0), gaussian.mean, atol=0.01, rtol=0)
    torch.testing.assert_close(sample.T.cov(), gaussian.covariance, atol=0.02, rtol=0)


@pytest.mark.parametrize(("sampler", "evaluations"), [(Euler(), 5), (Heun(), 9), (None, 9)])
def test_the_cost_is_that_documented(sampler, evaluations):
    times = []

    def velocity(x, tau):
        assert tau.shape == (4,)
        assert len(tau.unique()) == 1
        times.append(float(tau[0]))
        return -x

    integrate(velocity, torch.ones(4, 2), steps=5, sampler=sampler)
    assert len(times) == evaluations
    assert times[0] == 0
    assert max(times) == pytest.approx(0.8)  # never at the data, where nothing was trained


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@pytest.mark.parametrize("steps", [1, 3])
def test_a_constant_velocity_is_followed_exactly(name, steps):
    noise = torch.randn(4, 3, 2, 5, generator=torch.Generator().manual_seed(1))
    drift = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(2))
    out = integrate(lambda x, tau: drift.expand_as(x), noise, steps=steps, sampler=SAMPLERS[name]())
    torch.testing.assert_close(out, noise + drift)
    assert out.dtype == noise.dtype


def test_one_heun_step_is_one_euler_step(gaussian, noise):
    assert torch.equal(
        integrate(gaussian.velocity, noise, steps=1, sampler=Heun()),
        integrate(gaussian.velocity, noise, steps=1, sampler=Euler()),
    )


def test_samples_do_not_depend_on_the_rest_of_the_batch(gaussian, noise):
    together = integrate(gaussian.velocity, noise, steps=3)
    alone = integrate(gaussian.velocity, noise[7:8], steps=3)
    torch.testing.assert_close(together[7:8], alone)


def test_the_noise_is_left_as_it_was(gaussian, noise):
    before = noise.clone()
    integrate(gaussian.velocity, noise, steps=2)
    assert torch.equal(noise, before)


@pytest.mark.parametrize("steps", [0, -1])
def test_less_than_one_step_is_refused(steps):
    with pytest.raises(ValueError, match=f"steps is {steps}"):
        integrate(lambda x, tau: x, torch.zeros(1, 1), steps=steps)
