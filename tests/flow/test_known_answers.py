"""On Gaussian fields and mixtures everything is known: every piece must reproduce it."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.flow import (
    DDIM,
    PARAMETERIZATIONS,
    PATHS,
    SAMPLERS,
    Adaptive,
    Churn,
    DPMSolver,
    Euler,
    GaussianMixture,
    Heun,
    LinearPath,
    Predictor,
    VarianceExploding,
    VariancePreserving,
    convert,
    integrate,
)
from weatherdiff.flow.parameterization import Prediction, combine, separate
from weatherdiff.flow.sampler import karras_grid, shifted_grid, uniform_grid

KINDS = sorted(PARAMETERIZATIONS)
NAMES = sorted(PATHS)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def white(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def mixture():
    means = torch.tensor([[1.0, 0.5], [-0.8, 0.3], [0.0, -1.2]]).double()
    factors = white(3, 2, 2, seed=3) * 0.3
    covariances = factors @ factors.mT + 0.05 * torch.eye(2)
    return GaussianMixture(means, covariances, torch.tensor([0.5, 0.3, 0.2]).double())


def full(x, tau):
    return torch.full((len(x),), tau, dtype=x.dtype)


# -- paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_scales_of_a_path_have_the_derivatives_they_claim(name):
    tau = torch.linspace(0.001, 0.999, 200, dtype=torch.float64)
    path = PATHS[name]()
    *_, alpha_dot, sigma_dot = path.scales(tau)
    for which, dot in ((0, alpha_dot), (1, sigma_dot)):
        _, slope = torch.autograd.functional.jvp(
            lambda t, i=which: path.scales(t)[i], tau, torch.ones_like(tau)
        )
        torch.testing.assert_close(dot, slope)
    assert (path.log_snr_dot(tau) > 0).all()
    torch.testing.assert_close(path.tau_at(path.log_snr(tau)), tau, atol=1e-9, rtol=0)
    assert float(path.scales(torch.ones(1)).alpha) == 1
    assert float(path.scales(torch.ones(1)).sigma) == 0


def test_the_ddpm_path_meets_the_product_of_its_betas_at_every_step():
    path = VariancePreserving()
    product = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    tau = 1 - torch.arange(1, 1001, dtype=torch.float64) / 1000
    alpha, sigma, *_ = path.scales(tau)
    np.testing.assert_allclose(alpha.square().numpy(), product, rtol=1e-10)
    np.testing.assert_allclose(sigma.square().numpy(), 1 - product, rtol=1e-9)


@pytest.mark.parametrize("name", ["ddpm", "cosine"])
def test_variance_is_preserved_and_times_snap_to_the_next_noisier_step(name):
    path = PATHS[name]()
    tau = torch.rand(1000, generator=generator(), dtype=torch.float64)
    alpha, sigma, *_ = path.scales(tau)
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones_like(tau))
    snapped = path.snap(tau)
    steps = (1 - snapped) * path.steps
    torch.testing.assert_close(steps, steps.round(), atol=1e-9, rtol=0)
    assert ((tau - snapped) >= -1e-12).all()
    assert ((tau - snapped) < 1 / path.steps).all()
    assert float(path.snap(torch.ones(1, dtype=torch.float64))) == 1 - 1 / path.steps


@pytest.mark.parametrize("name", NAMES)
def test_the_network_sees_inputs_in_the_range_of_one(name):
    path = PATHS[name]()
    tau = torch.linspace(0, 1, 101, dtype=torch.float64)
    x = path.sample(white(101, 4000), white(101, 4000, seed=1), tau).x
    seen, time = path.network_input(x, tau)
    assert 0.65 < float(seen.std(1).min()) <= float(seen.std(1).max()) < 1.05
    assert (time.diff() > 0).all()
    assert (float(time[0]), float(time[-1])) == (0, 1)


# -- parameterisations ----------------------------------------------------------------------------


@given(
    st.sampled_from(NAMES),
    st.sampled_from(KINDS),
    st.sampled_from(KINDS),
    st.floats(0.02, 0.98),
    st.integers(0, 1000),
)
@settings(deadline=None)
def test_conversions_round_trip_to_rounding(name, source, target, tau, seed):
    path = PATHS[name]()
    data, noise = white(2, 3, 4, seed=seed)
    tau = full(data, tau)
    x = path.sample(noise, data, tau).x
    value = combine(Prediction(data, noise), tau, path=path, target=source)
    there = convert(value, x, tau, path=path, source=source, target=target)
    exact = combine(Prediction(data, noise), tau, path=path, target=target)
    scale = 1 + float(exact.abs().max())
    torch.testing.assert_close(there, exact, atol=1e-10 * scale, rtol=0)
    back = convert(there, x, tau, path=path, source=target, target=source)
    torch.testing.assert_close(back, value, atol=1e-9 * (1 + float(value.abs().max())), rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("end", [0.0, 1.0])
def test_at_the_ends_what_is_determined_is_exact_and_the_rest_is_zero(name, source, end):
    path = PATHS[name]()
    data, noise = white(2, 3, 4)
    tau = full(data, end)
    alpha, sigma, *_ = path.scales(tau[:1])
    x = path.sample(noise, data, tau).x if path.scales(tau).sigma_dot.isfinite().all() else data
    value = combine(Prediction(data, noise), tau, path=path, target=source)
    found = separate(value, x, tau, path=path, source=source)
    for target in KINDS:
        assert combine(found, tau, path=path, target=target).isfinite().all()
    if float(alpha) > 1e-9 and float(sigma) == 0:  # the data are there
        torch.testing.assert_close(found.data, data)
        if source == "data":
            assert (found.noise == 0).all()
    if float(alpha) < 1e-9:  # nothing but noise
        torch.testing.assert_close(found.noise, noise)
        if source in ("noise", "score"):
            torch.testing.assert_close(found.data, 0 * data, atol=1e-12, rtol=0)


def test_a_velocity_on_the_linear_path_determines_both_ends_everywhere():
    data, noise = white(2, 3, 4)
    for tau in (0.0, 0.5, 1.0):
        t = full(data, tau)
        x, velocity = LinearPath().sample(noise, data, t)
        found = separate(velocity, x, t, path=LinearPath(), source="velocity")
        torch.testing.assert_close(found.data, data)
        torch.testing.assert_close(found.noise, noise)


@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_the_expectations_over_the_ends(name, mixture):
    """Against importance sampling of the definition, which knows nothing of the closed forms."""
    path = PATHS[name]()
    tau = path.tau_at(torch.tensor([0.5], dtype=torch.float64))
    alpha, sigma, *_ = path.scales(tau)
    data = mixture.sample(400_000, generator=generator(5))
    x = torch.tensor([[0.6, 0.1]]).double() * alpha
    log_weight = -((x - alpha * data) / sigma).square().sum(1) / 2
    mean = (log_weight.softmax(0)[:, None] * data).sum(0, keepdim=True)
    found = mixture.predict(x, tau, path)
    torch.testing.assert_close(found.data, mean, atol=0.01, rtol=0)
    torch.testing.assert_close(alpha * found.data + sigma * found.noise, x)


@pytest.mark.parametrize("name", NAMES)
def test_the_analytic_score_is_the_gradient_of_the_log_density_of_the_state(name, mixture):
    path = PATHS[name]()
    tau = full(white(5, 2), 0.7)
    alpha, sigma, *_ = path.scales(tau[:1])
    x = (alpha * white(5, 2)).requires_grad_()
    state = GaussianMixture(
        alpha * mixture.means,
        alpha**2 * (mixture.vectors * mixture.values[:, None]) @ mixture.vectors.mT
        + sigma**2 * torch.eye(2),
        mixture.log_weights.exp(),
    )
    (gradient,) = torch.autograd.grad(state.log_density(x).sum(), x)
    score = mixture.predictor(path, "noise").to(x.detach(), tau, "score")
    torch.testing.assert_close(score, gradient)


# -- samplers -------------------------------------------------------------------------------------


def grid(path, steps):
    return karras_grid(steps, path) if isinstance(path, VarianceExploding) else uniform_grid(steps)


STEPS = {"euler": 150, "ddim": 150, "midpoint": 40, "heun": 40, "dpm++2m": 60, "adaptive": 1}
TOLERANCE = {"euler": 0.06, "ddim": 0.06}  # first order
QUICK = [
    (name, kind, sampler)
    for i, name in enumerate(NAMES)
    for j, sampler in enumerate(sorted(SAMPLERS))
    for kind in [KINDS[(i + j) % len(KINDS)]]
    if (i + j) % 2 == 0  # each sampler on two paths, each path with three samplers, all kinds
]
EVERY = list(itertools.product(NAMES, KINDS, sorted(SAMPLERS)))


def gives_the_gaussian(name, kind, sampler, field):
    path = PATHS[name]()
    # The noise and the unit vectors: the map is affine, so that they tell all of it.
    corners = torch.cat([torch.zeros(1, 3), torch.eye(3)]).double()
    times = uniform_grid(1) if sampler == "adaptive" else grid(path, STEPS[sampler])
    model = field.predictor(path, kind)
    out = integrate(model, path.initial(corners), steps=times, sampler=SAMPLERS[sampler]())
    mean, root = out[0], out[1:] - out[0]
    tolerance = TOLERANCE.get(sampler, 0.02)
    if kind in ("noise", "score") and name in ("linear", "cosine"):
        tolerance = 0.06  # the first evaluation knows nothing of the data
    # On DDPM's path, a little of the mean is missing in the noise that it starts from.
    torch.testing.assert_close(mean, field.means[0], atol=tolerance, rtol=0)
    covariance = (field.vectors[0] * field.values[0]) @ field.vectors[0].T
    torch.testing.assert_close(root.T @ root, covariance, atol=2 * tolerance, rtol=0)


@pytest.mark.parametrize(("name", "kind", "sampler"), QUICK)
def test_any_sampler_with_any_prediction_on_any_path_gives_the_gaussian(name, kind, sampler, field):
    gives_the_gaussian(name, kind, sampler, field)


@pytest.mark.deep
@pytest.mark.parametrize(("name", "kind", "sampler"), EVERY)
def test_every_sampler_with_every_prediction_on_every_path(name, kind, sampler, field):
    gives_the_gaussian(name, kind, sampler, field)


def crps(members, observation):
    first = (members - observation).abs().mean(0)
    ordered = members.sort(0).values
    rank = 2 * torch.arange(1, len(members) + 1, dtype=torch.float64) - len(members) - 1
    return first - (rank[:, None] * ordered).sum(0) / (len(members) * (len(members) - 1))


STOCHASTIC = {
    "ancestral": ("v", lambda draw: DDIM(1.0, draw), 200),
    "half": ("noise", lambda draw: DDIM(0.5, draw), 120),
    "churn": ("data", lambda draw: Churn(draw, Heun(), gamma=0.3), 40),
}


@pytest.mark.parametrize(
    ("sampler", "name"),
    [("ancestral", "ddpm"), ("half", "linear"), ("half", "cosine"), ("churn", "edm")],
)
def test_stochastic_samplers_give_the_gaussian_on_any_path(sampler, name, field):
    gives_the_gaussian_and_its_crps(sampler, name, field)


@pytest.mark.deep
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sampler", sorted(STOCHASTIC))
def test_every_stochastic_sampler_on_every_path(sampler, name, field):
    gives_the_gaussian_and_its_crps(sampler, name, field)


def gives_the_gaussian_and_its_crps(sampler, name, field):
    (kind, make, steps), path, source = STOCHASTIC[sampler], PATHS[name](), generator(9)

    def draw(x):
        return torch.randn(x.shape, generator=source, dtype=x.dtype)

    noise = path.initial(white(4000, 3, seed=2))
    out = integrate(field.predictor(path, kind), noise, steps=grid(path, steps), sampler=make(draw))
    torch.testing.assert_close(out.mean(0), field.means[0], atol=0.05, rtol=0)
    covariance = (field.vectors[0] * field.values[0]) @ field.vectors[0].T
    torch.testing.assert_close(out.T.cov(), covariance, atol=0.1, rtol=0)
    std = covariance.diagonal().sqrt()
    expected = std * (math.sqrt(2) - 1) / math.sqrt(math.pi)  # of a normal, at its mean
    torch.testing.assert_close(crps(out, field.means[0]), expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_samples_of_a_mixture_have_its_distribution(name, mixture):
    path = PATHS[name]()
    noise = path.initial(white(1500, 2, seed=4))
    out = integrate(mixture.predictor(path, "v"), noise, steps=grid(path, 60), sampler=DPMSolver())
    true, other = (mixture.sample(1500, generator=generator(k)) for k in (10, 11))
    assert energy_distance(out, true) < 2 * energy_distance(other, true) + 1e-3


def energy_distance(a, b):
    return float(2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean())


def problem(name, mixture):
    """A model, states inside the path with their times, and where the exact flow takes them."""
    path = PATHS[name]()
    start, stop = (float(path.tau_at(torch.tensor(s).double())) for s in (-3.0, 1.5))
    data = mixture.sample(50, generator=generator(1))
    x = path.sample(white(50, 2), data, full(data, start)).x
    model = mixture.predictor(path, "v")
    exact = integrate(model, x, steps=[start, stop], sampler=Adaptive(1e-9, 1e-9))
    return model, x, (start, stop), exact


ORDERS = {"euler": 1, "ddim": 1, "midpoint": 2, "heun": 2, "dpm++2m": 2}


@pytest.mark.parametrize(
    ("sampler", "name"),
    [
        ("euler", "linear"),
        ("ddim", "edm"),
        ("midpoint", "edm"),
        ("heun", "linear"),
        ("dpm++2m", "cosine"),
    ],
)
def test_the_measured_order_of_a_solver_is_its_nominal_one(sampler, name, mixture):
    has_its_nominal_order(sampler, name, mixture)


@pytest.mark.deep
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sampler", sorted(ORDERS))
def test_the_order_of_every_solver_is_its_nominal_one_on_every_path(sampler, name, mixture):
    has_its_nominal_order(sampler, name, mixture)


def has_its_nominal_order(sampler, name, mixture):
    """Not of a Gaussian, whose velocity the midpoint rule follows to third order."""
    model, x, ends, exact = problem(name, mixture)
    errors = []
    for steps in (32, 128):
        times = torch.linspace(*ends, steps + 1, dtype=torch.float64).tolist()
        out = integrate(model, x, steps=times, sampler=SAMPLERS[sampler]())
        errors.append(float((out - exact).norm()))
    # The slope of log error against log steps.
    assert math.log2(errors[0] / errors[1]) / 2 == pytest.approx(ORDERS[sampler], abs=0.15)


@pytest.mark.parametrize("name", NAMES)
def test_ddim_is_eulers_method_for_x_over_alpha_in_sigma_over_alpha(name, field):
    path = PATHS[name]()
    times = [0.2, 0.35, 0.6, 0.9]
    x = white(20, 3)
    out = integrate(field.predictor(path, "noise"), x, steps=times, sampler=DDIM())
    for tau, tau_next in itertools.pairwise(times):
        now, then = (path.scales(full(x, t)[:1]) for t in (tau, tau_next))
        noise = field.predict(x, full(x, tau), path).noise
        y = x / now.alpha + (then.sigma / then.alpha - now.sigma / now.alpha) * noise
        x = then.alpha * y
    torch.testing.assert_close(out, x)


@pytest.mark.parametrize("path", [LinearPath(), VarianceExploding()])
def test_ddim_is_eulers_method_as_it_stands_on_straight_paths(path, field):
    x = path.initial(white(20, 3))
    model = field.predictor(path, "v")
    torch.testing.assert_close(
        integrate(model, x, steps=7, sampler=DDIM()), integrate(model, x, steps=7, sampler=Euler())
    )


def test_the_first_and_last_steps_of_the_multistep_solver_are_ddim(field):
    model = field.predictor(VariancePreserving(), "noise")
    for steps in ([0.0, 0.4], [0.7, 1.0]):
        one = integrate(model, white(9, 3), steps=steps, sampler=DPMSolver())
        torch.testing.assert_close(one, integrate(model, white(9, 3), steps=steps, sampler=DDIM()))


def test_a_multistep_solver_may_be_used_again(field):
    model, sampler = field.predictor(LinearPath(), "velocity"), DPMSolver()
    first = integrate(model, white(9, 3), steps=5, sampler=sampler)
    assert torch.equal(integrate(model, white(9, 3), steps=5, sampler=sampler), first)
    few = integrate(model, white(9, 3)[:2], steps=5, sampler=sampler)
    torch.testing.assert_close(few, first[:2])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", [uniform_grid, karras_grid, shifted_grid])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_time_grids_lead_from_noise_to_data(name, make, steps):
    times = make(steps, PATHS[name]())
    assert (len(times), times[0], times[-1]) == (steps + 1, 0, 1)
    assert (np.diff(times) > 0).all()


def test_the_karras_grid_has_the_sigmas_of_the_paper():
    path = VarianceExploding()
    tau = torch.tensor(karras_grid(18, path), dtype=torch.float64)
    i = np.arange(18)
    expected = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(path.scales(tau).sigma[:-1].numpy(), expected, rtol=1e-8)
    assert float(path.scales(tau).sigma[-1]) == 0


def test_the_adaptive_reference_is_as_accurate_as_asked(field):
    model, noise = field.predictor(LinearPath(), "velocity"), white(20, 3)
    roots = (field.vectors[0] * field.values[0].sqrt()) @ field.vectors[0].T
    exact = field.means[0] + noise @ roots
    for tolerance in (1e-4, 1e-8):
        found = integrate(model, noise, steps=1, sampler=Adaptive(tolerance, tolerance))
        assert float((found - exact).abs().max()) < 30 * tolerance


def test_a_plain_callable_is_a_velocity_on_the_linear_path(field):
    noise = white(5, 3)
    plain = integrate(field.velocity, noise, steps=3, sampler=DDIM())
    named = integrate(Predictor(field.velocity), noise, steps=3, sampler=Euler())
    torch.testing.assert_close(plain, named)


@pytest.mark.parametrize("name", NAMES)
def test_a_time_shared_by_the_batch_is_treated_as_any_other(name):
    """Its coefficients are kept, as scalars: also when first met where no gradients are."""
    path, tau = PATHS[name](), torch.tensor([0.37])
    x, value = white(4, 3).float(), white(4, 3, seed=1).float().requires_grad_()
    for target in PARAMETERIZATIONS:
        options = {"path": path, "source": "v", "target": target}
        with torch.inference_mode():
            convert(value.detach(), x, tau.expand(4), **options)
        shared = convert(value, x, tau.expand(4), **options)
        each = convert(value, x, tau.expand(4).clone(), **options)
        torch.testing.assert_close(shared, each)
        torch.testing.assert_close(
            torch.autograd.grad(shared.sum(), value), torch.autograd.grad(each.sum(), value)
        )
    for shared, each in zip(path.scales_at(tau.expand(4), x), path.scales(tau), strict=True):
        torch.testing.assert_close(shared, each[0])
