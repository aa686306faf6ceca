"""The loss is minimised by the velocity that sampling needs; its times are logit-normal."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from weatherdiff.flow import flow_matching_loss, logit_normal_tau


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_least_squares_velocity_of_gaussian_data_is_the_analytic_one(gaussian):
    # Among velocities linear in x, which the true one is, the loss at one time is minimised by
    # least squares; the gradient of the loss gives the normal equations of exactly that problem.
    many = 100_000
    noise = torch.randn(many, 3, generator=generator(1), dtype=torch.float64)
    root = torch.linalg.cholesky(gaussian.covariance)
    data = (
        gaussian.mean + torch.randn(many, 3, generator=generator(2), dtype=torch.float64) @ root.T
    )
    probe = torch.randn(7, 3, generator=generator(3), dtype=torch.float64)
    for tau in (0.05, 0.4, 0.9):
        times = torch.full((many,), tau, dtype=torch.float64)

        def loss(parameters, times=times):
            return flow_matching_loss(
                lambda x, _: parameters[0] + x @ parameters[1:], data, noise, times
            )

        zero = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
        gradient = torch.autograd.grad(loss(zero), zero)[0].flatten()
        hessian = torch.autograd.functional.hessian(loss, zero.detach()).reshape(12, 12)
        best = -torch.linalg.solve(hessian, gradient).reshape(4, 3)
        found = best[0] + probe @ best[1:]
        exact = gaussian.velocity(probe, torch.full((7,), tau, dtype=torch.float64))
        torch.testing.assert_close(found, exact, atol=0.05, rtol=0)


def test_no_velocity_beats_the_analytic_one(gaussian):
    noise = torch.randn(50_000, 3, generator=generator(1), dtype=torch.float64)
    data = gaussian.transport(torch.randn(50_000, 3, generator=generator(2), dtype=torch.float64))
    tau = torch.rand(50_000, generator=generator(3), dtype=torch.float64)
    best = flow_matching_loss(gaussian.velocity, data, noise, tau)
    for scale, shift in ((1.1, 0.0), (0.9, 0.0), (1.0, 0.1)):
        worse = flow_matching_loss(
            lambda x, t, a=scale, b=shift: a * gaussian.velocity(x, t) + b, data, noise, tau
        )
        assert worse > best


def test_a_network_of_zeros_has_a_loss_of_two_on_normalised_data():
    data, noise = torch.randn(2, 4000, 7, 5, generator=generator())
    loss = flow_matching_loss(lambda x, t: torch.zeros_like(x), data, noise, torch.rand(4000))
    assert float(loss) == pytest.approx(2, rel=0.02)


def test_weights_give_the_weighted_mean_whatever_their_scale():
    rng = np.random.default_rng(4)
    data, noise = rng.normal(size=(2, 3, 2, 4, 5))
    weights = rng.uniform(0.1, 3, size=(4, 5))
    by_hand = np.average((data - noise) ** 2, weights=np.broadcast_to(weights, data.shape))
    arguments = torch.from_numpy(data), torch.from_numpy(noise), torch.rand(3).double()
    for factor in (1, 250):
        loss = flow_matching_loss(
            lambda x, t: torch.zeros_like(x),
            *arguments,
            weights=torch.from_numpy(factor * weights),
        )
        assert float(loss) == pytest.approx(by_hand)


def test_cells_of_no_weight_do_not_count():
    data, noise = torch.randn(2, 3, 2, 4, 5, generator=generator())
    weights = torch.ones(4, 5)
    weights[1:3, 2] = 0
    tau = torch.rand(3, generator=generator())

    def loss():
        return flow_matching_loss(lambda x, t: 0.5 * x, data, noise, tau, weights=weights)

    before = loss()
    data[..., 1:3, 2] = 1e6
    assert torch.equal(loss(), before)


def test_the_loss_reaches_the_parameters_of_the_network():
    gain = torch.tensor(0.0, requires_grad=True)
    data, noise = torch.randn(2, 50, 3, generator=generator())
    flow_matching_loss(lambda x, t: gain * x, data, noise, torch.full((50,), 0.9)).backward()
    assert float(gain.grad) < 0  # the velocity points along x near the data


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.4, 1.5), (1.0, 0.5)])
def test_the_logit_of_tau_is_normal(mean, std):
    # The strata make the sample more regular than independent draws, so the test is one-sided.
    draws = [logit_normal_tau(7, mean=mean, std=std, generator=generator(k)) for k in range(700)]
    tau = torch.cat(draws).double().numpy()
    logit = np.log(tau / (1 - tau))
    assert scipy.stats.kstest(logit, scipy.stats.norm(mean, std).cdf).pvalue > 0.01


def test_every_place_in_the_batch_has_the_same_distribution():
    # Stratified in order, the first sample of a batch would always be the noisiest.
    draws = torch.stack([logit_normal_tau(5, generator=generator(k)) for k in range(1500)]).numpy()
    for column in draws.T:
        logit = np.log(column / (1 - column))
        assert scipy.stats.kstest(logit, scipy.stats.norm.cdf).pvalue > 0.001


@pytest.mark.parametrize("batch", [1, 2, 13])
def test_each_slice_of_the_quantiles_holds_one_time(batch):
    tau = logit_normal_tau(batch, mean=0.3, std=0.8, generator=generator(9)).double().numpy()
    quantile = scipy.stats.norm(0.3, 0.8).cdf(np.log(tau / (1 - tau)))
    assert sorted((quantile * batch).astype(int)) == list(range(batch))


def test_times_stay_in_the_open_unit_interval_and_follow_the_generator():
    tau = logit_normal_tau(100_000, generator=generator(1))
    assert 0 < float(tau.min()) < float(tau.max()) < 1
    assert tau.dtype == torch.float32
    assert torch.equal(tau, logit_normal_tau(100_000, generator=generator(1)))
    assert not torch.equal(tau, logit_normal_tau(100_000, generator=generator(2)))


def test_stratification_lowers_the_variance_of_the_mean_time():
    means = [float(logit_normal_tau(16, generator=generator(k)).mean()) for k in range(200)]
    independent = float(scipy.stats.norm.expect(lambda u: (scipy.special.expit(u) - 0.5) ** 2)) / 16
    assert np.var(means) < independent / 10
