"""Losses, times, weightings, the bound, couplings, likelihoods, guidance and coloured noise."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.flow import (
    DDIM,
    PATHS,
    RUNGS,
    WEIGHTINGS,
    DPMSolver,
    Euler,
    GaussianMixture,
    Heun,
    LinearPath,
    Midpoint,
    NoiseStream,
    Objective,
    Observations,
    Predictor,
    Schedule,
    SpectralNoise,
    Times,
    VarianceExploding,
    VariancePreserving,
    bits_per_dimension,
    convert,
    denoising_loss,
    flow_matching_loss,
    guided,
    guided_by_history,
    importance,
    integrate,
    isotropic,
    keyed_noise,
    log_density,
    optimal_transport,
    variational_bound,
    variational_loss,
)
from weatherdiff.flow.guidance import IsotropicCovariance, NoGradient
from weatherdiff.flow.sampler import karras_grid
from weatherdiff.flow.spectrum import correlate_frames, power_law
from weatherdiff.flow.times import TIMES
from weatherdiff.flow.weighting import implied_weight


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def white(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def covariance_of(field):
    return (field.vectors[0] * field.values[0]) @ field.vectors[0].T


# -- losses ---------------------------------------------------------------------------------------


def test_flow_matching_is_the_denoising_loss_of_its_path_and_prediction():
    data, noise = torch.randn(2, 8, 3, 4, generator=generator())
    tau, weights = torch.rand(8, generator=generator(1)), torch.rand(3, 4)
    network = lambda x, t: 0.3 * x + t[:, None, None]  # noqa: E731
    plain = flow_matching_loss(network, data, noise, tau, weights=weights)
    general = denoising_loss(Predictor(network), data, noise, tau, weights=weights)
    assert torch.equal(plain, general)
    assert torch.equal(Objective().training_loss(network, data, noise, tau, weights=weights), plain)


@pytest.mark.parametrize("rung", sorted(RUNGS))
def test_no_network_beats_the_analytic_one(rung, field):
    objective = RUNGS[rung]
    count = 300 if objective.coupling == "optimal_transport" else 4000
    data, noise = field.sample(count, generator=generator(1)), white(count, 3, seed=2)
    tau = objective.draw_times(count, generator(3)).double()
    path = objective.gaussian_path

    def loss(scale, shift):
        best = field.predictor(path, objective.prediction).network

        def network(x, t):  # undoes what the objective makes of the network's input
            plain = tau if t.shape == tau.shape else t
            state = path.sample(paired, data, plain).x
            return scale * best(state, plain) + shift

        paired = optimal_transport(noise, data) if "ot" in rung else noise
        if rung == "variational":
            model = Predictor(lambda x, t: scale * best(x, t) + shift, path, objective.prediction)
            return variational_loss(model, data, noise, tau, steps=1000)
        return objective.training_loss(network, data, noise, tau)

    if rung == "flow_matching_ot":  # other pairs, another best network
        assert loss(1, 0) < RUNGS["flow_matching"].training_loss(
            lambda x, t: field.velocity(x, t), data, noise, tau
        )
        return
    assert all(loss(1, 0) < loss(*worse) for worse in ((1.1, 0), (0.9, 0), (1, 0.1)))


def test_edm_is_v_prediction_on_its_path_with_the_papers_preconditioning():
    """Karras et al. (2022), table 1 and equation 8, with data of unit variance."""
    path, sigma = VarianceExploding(), torch.tensor([0.1, 1.0, 7.0]).double()
    tau = path.tau_at(-2 * sigma.log())
    data, noise = white(3, 5), white(3, 5, seed=1)
    noisy = data + sigma[:, None] * noise
    raw = lambda x, t: torch.sin(3 * x) + t[:, None]  # noqa: E731
    s = sigma[:, None]
    c_skip, c_out, c_in = 1 / (s**2 + 1), s / (s**2 + 1).sqrt(), 1 / (s**2 + 1).sqrt()
    seen, time = path.network_input(noisy, tau)
    torch.testing.assert_close(seen, c_in * noisy)
    denoised = c_skip * noisy + c_out * -raw(seen, time)
    weight = (s**2 + 1) / s**2
    theirs = (weight * (denoised - data) ** 2).mean()
    ours = RUNGS["edm"].training_loss(raw, data, noise, tau)
    torch.testing.assert_close(ours, theirs)
    mine = RUNGS["edm"].predictor(raw).predict(noisy, tau).data
    torch.testing.assert_close(mine, denoised)


# -- times and weightings -------------------------------------------------------------------------


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("path", sorted(PATHS))
def test_times_have_the_density_they_claim(name, path):
    times, path = Times(name, *((-0.3, 0.9) if "normal" in name else ())), PATHS[path]()
    tau = torch.cat([times.sample(64, path, generator(k)) for k in range(40)])
    assert 0 < float(tau.min()) <= float(tau.max()) < 1
    nodes = torch.linspace(1e-6, 1 - 1e-6, 200_001, dtype=torch.float64)
    density = times.density(nodes, path)
    cdf = scipy.integrate.cumulative_trapezoid(density.numpy(), nodes.numpy(), initial=0)
    assert cdf[-1] == pytest.approx(1, abs=0.02)
    found = scipy.stats.kstest(
        tau.double().numpy(), lambda t: np.interp(t, nodes.numpy(), cdf / cdf[-1])
    )
    assert found.pvalue > 0.01 or isinstance(path, VarianceExploding)  # all of it near tau = 1


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("path", sorted(PATHS))
def test_however_wide_times_are_inside_and_can_be_weighted(name, path):
    """In single precision a logit of 17 is a time of 1, and a path has its own ends."""
    times, path = Times(name, 0.0, 20.0), PATHS[path]()
    tau = times.sample(512, path, generator())
    assert 0 < float(tau.min()) < float(tau.max()) < 1
    factor = importance(tau, path=path, parameterization="v", times=times, weighting="sigmoid")
    assert factor.isfinite().all()


@pytest.mark.parametrize("name", TIMES)
def test_low_discrepancy_lowers_the_variance_of_the_mean_time(name):
    means = [float(Times(name).sample(16, LinearPath(), generator(k)).mean()) for k in range(200)]
    independent = float(Times(name).sample(4096, LinearPath(), generator()).var()) / 16
    assert np.var(means) < independent / 8


@pytest.mark.parametrize(
    ("path", "prediction", "times", "name"),
    [
        ("linear", "velocity", Times("uniform"), "flow_matching"),
        ("cosine", "v", Times("uniform"), "flow_matching"),
        ("cosine", "noise", Times("uniform"), "noise_cosine"),
        ("edm", "v", Times("log_normal", -1.2, 1.2), "edm"),
    ],
)
def test_the_papers_losses_have_the_weights_of_kingma_and_gao(path, prediction, times, name):
    """Their table 1, up to a constant; the offset of the cosine path is a percent of it."""
    path = PATHS[path]()
    tau = path.tau_at(torch.linspace(-5, 5, 41, dtype=torch.float64))
    found = implied_weight(tau, path=path, parameterization=prediction, times=times)
    ratio = found / WEIGHTINGS[name](path.log_snr(tau))
    torch.testing.assert_close(ratio / ratio[20], torch.ones(41).double(), atol=0.02, rtol=0)


@pytest.mark.parametrize("prediction", ["noise", "data", "v", "velocity"])
@pytest.mark.parametrize("weighting", ["bound", "sigmoid", "min_snr"])
def test_a_weighting_means_the_same_for_any_prediction_path_and_times(prediction, weighting):
    """L = 1/2 integral of w E|noise error|^2 over the log SNR, here by quadrature."""

    def loss(path, prediction, times):
        tau = path.tau_at(torch.linspace(-8, 8, 4001, dtype=torch.float64))
        data, noise = white(4001, 1), white(4001, 1, seed=1)
        x = path.sample(noise, data, tau).x
        log_snr = path.log_snr(tau)
        wrong = noise + torch.sin(log_snr)[:, None]  # the noise of a bad network
        value = convert(wrong, x, tau, path=path, source="noise", target=prediction)
        exact = convert(noise, x, tau, path=path, source="noise", target=prediction)
        factor = importance(
            tau, path=path, parameterization=prediction, times=times, weighting=weighting
        )
        density = times.density(tau, path) / path.log_snr_dot(tau)
        error = factor * (value - exact)[:, 0].square() * density
        return torch.trapezoid(error, log_snr), torch.trapezoid(
            WEIGHTINGS[weighting](log_snr) * torch.sin(log_snr).square() / 2, log_snr
        )

    for path, times in (
        (PATHS["linear"](), Times("logit_normal", 0.0, 1.5)),
        (PATHS["cosine"](), Times("uniform")),
        (PATHS["edm"](), Times("log_normal", 0.0, 2.0)),
    ):
        found, expected = loss(path, prediction, times)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


# -- the variational bound ------------------------------------------------------------------------


def bound(field, path, steps, variance=1.0, count=20_000):
    source = generator(7)
    data = field.sample(count, generator=generator(6))
    terms = variational_bound(
        field.predictor(path, "noise"),
        data,
        steps=steps,
        noise=lambda x: torch.randn(x.shape, generator=source, dtype=x.dtype),
        variance=variance,
    )
    exact = bits_per_dimension(field.log_density(data), 3).mean()
    return terms, float(exact)


def test_the_bound_is_above_the_exact_likelihood_and_closes_as_steps_grow(field):
    gaps = []
    for steps in (5, 10, 20):
        terms, exact = bound(field, VariancePreserving(), steps)
        gaps.append(float(terms.total) - exact)
        assert len(terms.steps) == steps - 1
        assert (terms.steps > 0).all()
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[2] < 0.05


@pytest.mark.deep
@pytest.mark.parametrize("path", ["linear", "cosine", "ddpm"])
def test_the_bound_of_a_thousand_steps_is_tight(field, path):
    terms, exact = bound(field, PATHS[path](), 1000)
    assert float(terms.total) == pytest.approx(exact, abs=0.03)


def test_either_fixed_variance_bounds(field):
    for variance in (0.0, 1.0):
        terms, exact = bound(field, VariancePreserving(), 5, variance)
        assert float(terms.total) > exact


def test_one_term_a_sample_has_the_bound_for_its_expectation(field):
    """Every step once, each with the same share: then it is the sum."""
    path, steps = VariancePreserving(), 8
    data = field.sample(3000, generator=generator(6))
    model = field.predictor(path, "noise")
    source = generator(8)

    def draw(x):
        return torch.randn(x.shape, generator=source, dtype=x.dtype)

    parts = [
        variational_loss(
            model, data, draw(data), torch.full((3000,), 1 - (n - 0.5) / steps).double(),
            steps=steps,
        )
        for n in range(1, steps + 1)
    ]  # fmt: skip
    whole = variational_bound(model, data, steps=steps, noise=draw)
    assert float(sum(parts) / steps) == pytest.approx(float(whole.total), abs=0.03)


def test_the_bound_counts_valid_values_alone(field):
    model = field.predictor(VariancePreserving(), "noise")
    data = field.sample(50, generator=generator(6))
    mask = torch.tensor([1.0, 0.0, 1.0]).double()
    terms = variational_bound(
        model, data, steps=5, noise=lambda x: torch.zeros_like(x), weights=mask
    )
    worse = variational_bound(
        Predictor(lambda x, t: model.network(x, t) + 5 * (1 - mask), model.path, "noise"),
        data, steps=5, noise=lambda x: torch.zeros_like(x), weights=mask,
    )  # fmt: skip
    assert float(terms.total) == pytest.approx(float(worse.total))


# -- couplings ------------------------------------------------------------------------------------


@given(st.integers(1, 6), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_the_coupling_is_the_best_of_all_permutations(count, seed):
    import itertools

    noise, data = white(2, count, 3, seed=seed)
    paired = optimal_transport(noise, data)
    costs = [
        float((noise[list(p)] - data).square().sum()) for p in itertools.permutations(range(count))
    ]
    assert float((paired - data).square().sum()) == pytest.approx(min(costs))
    assert torch.equal(paired.sort(0).values, noise.sort(0).values)


def test_unlike_conditions_keep_pairs_apart():
    noise, data = white(2, 6, 3)
    condition = 1e3 * torch.arange(6.0)[:, None].double()
    assert torch.equal(optimal_transport(noise, data, condition=condition), noise)


def test_a_large_batch_is_coupled_group_by_group():
    noise, data = white(2, 11, 3)
    condition = white(11, 2, seed=1)
    groups = [slice(0, 4), slice(4, 8), slice(8, 11)]
    alone = [optimal_transport(noise[part], data[part]) for part in groups]
    assert torch.equal(optimal_transport(noise, data, group=4), torch.cat(alone))
    alike = [
        optimal_transport(noise[part], data[part], condition=condition[part]) for part in groups
    ]
    paired = optimal_transport(noise, data, condition=condition, group=4)
    assert torch.equal(paired, torch.cat(alike))
    assert not torch.equal(torch.cat(alike), torch.cat(alone))


# -- likelihood -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"), [("linear", "velocity"), ("ddpm", "noise"), ("cosine", "v"), ("edm", "v")]
)
def test_the_likelihood_of_a_gaussian_is_exact(path, kind, field):
    path = PATHS[path]()
    data = field.sample(6, generator=generator(1))
    found = log_density(field.predictor(path, kind), data)
    exact = field.log_density(data)
    # Paths that keep a little of the data in their noise take it for noise all the same.
    tolerance = {"ddpm": 0.05, "edm": 0.05}.get(
        {VariancePreserving: "ddpm", VarianceExploding: "edm"}.get(type(path), ""), 2e-4
    )
    torch.testing.assert_close(found, exact, atol=tolerance, rtol=0)


def test_hutchinsons_estimate_has_the_exact_trace_for_its_mean(field):
    data = field.sample(3, generator=generator(1))
    times = torch.linspace(1, 0, 9).tolist()
    model = Predictor(field.velocity)
    exact = log_density(model, data, times=times, sampler=Heun())
    probed = [
        log_density(model, data, probes=4, generator=generator(k), times=times, sampler=Heun())
        for k in range(10)
    ]
    mean, error = torch.stack(probed).mean(0), torch.stack(probed).std(0) / math.sqrt(10)
    assert ((mean - exact).abs() < 4 * error + 1e-9).all()


def test_values_without_data_do_not_enter_the_likelihood():
    one = GaussianMixture(torch.zeros(1, 1).double(), torch.eye(1)[None].double() / 4)
    mask = torch.tensor([True, False])
    data = torch.tensor([[0.3, 0.0]]).double()

    def velocity(x, tau):
        return torch.cat([one.velocity(x[:, :1], tau), 0 * x[:, 1:]], dim=1)

    found = log_density(velocity, data, valid=mask)
    torch.testing.assert_close(found, one.log_density(data[:, :1]), atol=1e-4, rtol=0)


def test_bits_may_be_negative():
    narrow = GaussianMixture(torch.zeros(1, 2).double(), 1e-4 * torch.eye(2)[None].double())
    assert float(bits_per_dimension(narrow.log_density(torch.zeros(1, 2).double()), 2)) < -4


# -- guidance -------------------------------------------------------------------------------------


def kalman(field, operator, values, error):
    mean, covariance = field.means[0], covariance_of(field)
    gain = (
        covariance
        @ operator.T
        @ torch.linalg.inv(operator @ covariance @ operator.T + error**2 * torch.eye(len(operator)))
    )
    return mean + gain @ (values - operator @ mean), covariance - gain @ operator @ covariance


OPERATOR = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]).double()
VALUES = torch.tensor([2.0, 0.3]).double()


def observed():
    return Observations(lambda x: x @ OPERATOR.T, VALUES, 0.3)


def sampled(model, steps=60):
    """Mean and covariance of the affine map that sampling is."""
    corners = torch.cat([torch.zeros(1, 3), torch.eye(3)]).double()
    path = model.path
    times = karras_grid(steps, path) if isinstance(path, VarianceExploding) else steps
    out = integrate(model, path.initial(corners), steps=times, sampler=Heun())
    root = out[1:] - out[0]
    return out[0], root.T @ root


@pytest.mark.parametrize(
    "path",
    [
        "linear",
        "edm",
        pytest.param("cosine", marks=pytest.mark.deep),
        pytest.param("ddpm", marks=pytest.mark.deep),
    ],
)
def test_exact_covariance_guidance_gives_the_kalman_mean_and_covariance(path, field):
    model = guided(field.predictor(PATHS[path](), "v"), observed())
    mean, covariance = sampled(model)
    exact_mean, exact_covariance = kalman(field, OPERATOR, VALUES, 0.3)
    torch.testing.assert_close(mean, exact_mean, atol=0.03, rtol=0)
    torch.testing.assert_close(covariance, exact_covariance, atol=0.03, rtol=0)


def test_cheaper_guidance_is_nearer_to_the_posterior_than_none_but_not_exact(field):
    prior = field.predictor(LinearPath(), "v")
    exact_mean, exact_covariance = kalman(field, OPERATOR, VALUES, 0.3)
    error = {}
    for name, model in {
        "none": prior,
        "no gradient": guided(prior, observed(), NoGradient()),
        "isotropic": guided(prior, observed(), IsotropicCovariance()),
        "exact": guided(prior, observed()),
    }.items():
        mean, covariance = sampled(model, steps=30)
        error[name] = (
            float((mean - exact_mean).norm()), float((covariance - exact_covariance).norm())
        )  # fmt: skip
    print(error)
    for k in range(2):
        assert error["exact"][k] < error["isotropic"][k] < error["none"][k]
        assert error["exact"][k] < error["no gradient"][k]
    assert error["no gradient"][0] < error["none"][0]


def test_guidance_works_under_inference_mode_and_without_grad(field):
    model = guided(field.predictor(LinearPath(), "velocity"), observed())
    noise = white(4, 3)
    plain = integrate(model, noise, steps=3)
    for context in (torch.inference_mode, torch.no_grad):
        with context():
            torch.testing.assert_close(integrate(model, noise.clone(), steps=3), plain)


def test_history_guidance_goes_from_the_climate_to_the_forecast(field):
    """Weight 1 is the forecast, 0 the climate; in terms shifted against each other."""
    climate = GaussianMixture(torch.zeros(1, 3).double(), 4 * torch.eye(3)[None].double())
    path, shift = LinearPath(), torch.tensor([[0.5, -1.0, 2.0]]).double()
    conditional = field.predictor(path, "v")
    free = climate.predictor(path, "v").network
    for weight, target in ((1.0, field), (0.0, climate)):
        model = guided_by_history(conditional, free, weight=weight, shift=shift)
        mean, covariance = sampled(model)
        moved = 0 if weight else shift[0]
        torch.testing.assert_close(mean, target.means[0] - moved, atol=0.02, rtol=0)
        torch.testing.assert_close(covariance, covariance_of(target), atol=0.06, rtol=0)


# -- noise ----------------------------------------------------------------------------------------


@given(st.permutations(range(5)), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_later_noise_belongs_to_its_member_and_differs_from_the_first(numbers, count):
    x = torch.zeros(5, 2, 3)
    every = NoiseStream(seed=3, init_time=-7, numbers=list(range(5)), block=1)
    some = NoiseStream(seed=3, init_time=-7, numbers=numbers[:count], block=1)
    first, second = every(x), every(x)
    assert torch.equal(some(x[:count]), first[numbers[:count]])
    assert torch.equal(some(x[:count]), second[numbers[:count]])
    keyed = keyed_noise((2, 3), seed=3, init_time=-7, numbers=list(range(5)), block=1)
    assert not torch.equal(first, second)
    assert (keyed - first).abs().min() > 0


def theory(latitude, longitude, power):
    lat, lon = (
        torch.deg2rad(a.flatten()) for a in torch.meshgrid(latitude, longitude, indexing="ij")
    )
    cosine = torch.sin(lat[:, None]) * torch.sin(lat) + torch.cos(lat[:, None]) * torch.cos(
        lat
    ) * torch.cos(lon[:, None] - lon)
    degree = torch.arange(len(power))
    weights = (2 * degree + 1) * power
    series = (weights / weights.sum()).numpy()
    return np.polynomial.legendre.legval(cosine.clamp(-1, 1).numpy(), series)


@pytest.mark.parametrize("world", [True, False])
def test_isotropic_noise_has_the_covariance_of_its_spectrum_at_every_distance(world):
    if world:
        latitude = torch.linspace(-84, 84, 15, dtype=torch.float64)
        longitude = torch.arange(0, 360, 12.0, dtype=torch.float64)
        degrees = 14
    else:
        latitude = torch.linspace(48, 60, 7, dtype=torch.float64)
        longitude = torch.arange(-6, 4, 2.0, dtype=torch.float64)
        degrees = 90
    colour = isotropic(latitude, longitude, lambda n: power_law(n, wavenumber=4.0))
    cells = len(latitude) * len(longitude)
    response = colour(torch.eye(cells).double().reshape(cells, len(latitude), len(longitude)))
    covariance = response.flatten(1).T @ response.flatten(1)
    expected = theory(latitude, longitude, power_law(degrees, wavenumber=4.0))
    np.testing.assert_allclose(covariance.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(covariance.diagonal().numpy(), 1, atol=1e-6)


def test_frames_are_correlated_as_asked_and_keep_their_variance():
    noise = correlate_frames(white(20_000, 4, 1, 1, 1), 0.6)[:, :, 0, 0, 0]
    lag = torch.arange(4)
    expected = 0.6 ** (lag[:, None] - lag).abs().double()
    torch.testing.assert_close(noise.T.cov(), expected, atol=0.03, rtol=0)


def test_too_large_a_region_is_refused():
    with pytest.raises(ValueError, match="6000 cells"):
        isotropic(torch.linspace(0, 50, 100), torch.linspace(0, 50, 100), power_law)


# -- objectives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rung", sorted(RUNGS))
def test_an_objective_comes_back_from_its_record(rung):
    import json
    from dataclasses import replace

    objective = replace(RUNGS[rung], noise=SpectralNoise((1.0, 2.0), (0.0, 1.0, 2.0), 3.0, 0.5))
    for each in (objective, RUNGS[rung]):
        assert Objective.from_dict(json.loads(json.dumps(each.to_dict()))) == each


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "curved"}, "unknown path 'curved'"),
        ({"prediction": "future"}, "unknown prediction"),
        ({"schedule": {"sampler": "ancestral"}}, "chain of noising steps, which the linear path"),
        ({"loss": "variational"}, "needs a path of steps"),
        ({"loss": "variational", "path": "ddpm", "weighting": "bound"}, "of its own"),
        ({"path": "ddpm", "schedule": {"sampler": "ancestral", "steps": 1001}}, "has 1000 steps"),
        ({"schedule": {"steps": 0}}, "at least one"),
        ({"schedule": {"grid": "wild"}}, "unknown grid"),
    ],
)
def test_what_has_no_meaning_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Objective(**{k: Schedule(**v) if k == "schedule" else v for k, v in options.items()})


def test_a_stochastic_sampler_needs_noise(field):
    with pytest.raises(ValueError, match="source of noise"):
        Objective().sample(Predictor(field.velocity), white(2, 3), schedule=Schedule("churn"))


@pytest.mark.parametrize("rung", sorted(RUNGS))
def test_the_evaluations_of_a_schedule_are_counted(rung, field):
    objective, calls = RUNGS[rung], []
    network = field.predictor(objective.gaussian_path, objective.prediction).network
    model = Predictor(
        lambda x, t: calls.append(1) or network(x, t), objective.gaussian_path, objective.prediction
    )
    objective.sample(model, white(3, 3))
    assert len(calls) == objective.schedule.evaluations


def test_the_default_samples_as_a_plain_integration_does(field):
    noise = white(4, 3).float()
    network = lambda x, tau: field.velocity(x.double(), tau.double()).float()  # noqa: E731
    default = Objective().sample(Objective().predictor(network), noise)
    assert torch.equal(default, integrate(network, noise, steps=4, sampler=Heun()))


# -- two-dimensional toys -------------------------------------------------------------------------


def toy(name, count, source):
    u = torch.rand(count, 3, generator=source)
    if name == "moons":
        angle, upper = math.pi * u[:, 0], u[:, 1] < 0.5
        x = torch.stack([torch.cos(angle), torch.sin(angle)], 1)
        x = torch.where(upper[:, None], x, torch.tensor([1.0, 0.5]) - x)
        x = (x - torch.tensor([0.5, 0.25])) * 1.3
    elif name == "spirals":
        radius = u[:, 0].sqrt()
        angle = 3 * math.pi * radius + math.pi * (u[:, 1] < 0.5)
        x = 1.8 * radius[:, None] * torch.stack([torch.cos(angle), torch.sin(angle)], 1)
    else:
        column = torch.floor(4 * u[:, 0])
        row = 2 * torch.floor(2 * u[:, 1]) + column % 2
        x = torch.stack([4 * u[:, 0], row + u[:, 2]], 1) - 2
    return x + 0.05 * torch.randn(count, 2, generator=source)


class Net(torch.nn.Module):
    def __init__(self, width=128):
        super().__init__()
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(4))
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(2 + 8 + 16, width), torch.nn.SiLU(),
            torch.nn.Linear(width, width), torch.nn.SiLU(),
            torch.nn.Linear(width, width), torch.nn.SiLU(), torch.nn.Linear(width, 2),
        )  # fmt: skip

    def forward(self, x, tau):
        angle = tau[:, None] * self.frequencies
        place = (x[:, :, None] * self.frequencies / 2).flatten(1)
        return self.layers(torch.cat([x, angle.sin(), angle.cos(), place.sin(), place.cos()], 1))


def train(objective, name, steps, batch=1024, width=128):
    source = generator(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Net(width)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        data, noise = toy(name, batch, source), torch.randn(batch, 2, generator=source)
        tau = objective.draw_times(batch, source)
        loss = objective.training_loss(network, data, noise, tau)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return network.eval()


def energy_distance(a, b):
    return float(
        2 * torch.cdist(a, b).double().mean()
        - torch.cdist(a, a).double().mean()
        - torch.cdist(b, b).double().mean()
    )


def reproduces(rung, name, steps, count, factor, **options):
    from dataclasses import replace

    objective = RUNGS[rung]
    network = train(objective, name, steps, **options)
    # Enough steps, of second order, that the error is the network's.
    sampler = "dpm++2m" if objective.gaussian_path.steps else "heun"
    schedule = replace(objective.schedule, sampler=sampler, steps=64)
    with torch.inference_mode():
        sample = objective.sample(
            objective.predictor(network), torch.randn(count, 2, generator=generator(5)),
            schedule=schedule,
        )  # fmt: skip
    true = toy(name, count, generator(2))
    found = energy_distance(sample, true)
    # Of one pair it is a random number, half or twice its mean.
    others = [toy(name, count, generator(k)) for k in range(3, 11)]
    between = sum(energy_distance(other, true) for other in others) / len(others)
    print(f"{rung} {name}: energy distance {found:.5f}, between true sets {between:.5f}")
    assert found < factor * between
    return objective, network


def test_a_short_training_by_flow_matching_finds_the_moons():
    reproduces("flow_matching", "moons", 150, 1000, 12, batch=256, width=64)


@pytest.mark.deep
@pytest.mark.parametrize("name", ["moons", "spirals", "checkerboard"])
@pytest.mark.parametrize("rung", sorted(RUNGS))
def test_every_rung_reproduces_density_and_samples(rung, name):
    steps = 18_000 if name == "spirals" else 12_000  # they are the thinnest
    objective, network = reproduces(rung, name, steps, 10_000, 2)
    # The density: it integrates to one, over a square that holds nearly all of it.
    points = torch.linspace(-3, 3, 61)
    square = torch.cartesian_prod(points, points)
    model = objective.predictor(network)
    times = karras_grid(40, model.path, low=0.02)[-2::-1]
    alpha = model.path.scales(torch.tensor(times[:1])).alpha
    density = alpha**2 * log_density(model, alpha * square, times=times, sampler=Heun()).exp()
    assert float(density.sum()) * 0.1**2 == pytest.approx(1, abs=0.1)


# -- peers as oracles -----------------------------------------------------------------------------


def test_torchcfm_draws_the_same_states_and_couples_the_same_pairs():
    peer = pytest.importorskip("torchcfm")
    noise, data = torch.randn(2, 12, 5, generator=generator())
    tau = torch.rand(12, generator=generator(1))
    matcher = peer.ConditionalFlowMatcher(sigma=0.0)
    _, x, velocity = matcher.sample_location_and_conditional_flow(noise, data, t=tau)
    ours = LinearPath().sample(noise, data, tau)
    torch.testing.assert_close(ours.x, x)
    torch.testing.assert_close(ours.velocity, velocity)
    plan = peer.optimal_transport.OTPlanSampler(method="exact").get_map(noise, data)
    cost = torch.cdist(noise, data).square()
    best = (torch.from_numpy(plan) * cost).sum() * 12
    paired = optimal_transport(noise, data)
    torch.testing.assert_close((paired - data).square().sum(), best.to(data))


def test_flow_matching_has_the_same_path_solver_and_likelihood(field):
    pytest.importorskip("flow_matching")
    from flow_matching.path import CondOTProbPath
    from flow_matching.solver import ODESolver

    noise, data = torch.randn(2, 12, 3, generator=generator()).double()
    tau = torch.rand(12, generator=generator(1)).double()
    theirs = CondOTProbPath().sample(x_0=noise, x_1=data, t=tau)
    ours = LinearPath().sample(noise, data, tau)
    torch.testing.assert_close(ours.x, theirs.x_t)
    torch.testing.assert_close(ours.velocity, theirs.dx_t)

    def velocity(x, t, **_):
        return field.velocity(x, t.expand(len(x)).to(x))

    solver = ODESolver(velocity_model=velocity)
    for method, sampler in (
        ("euler", Euler()),
        ("midpoint", Midpoint()),
    ):
        their = solver.sample(
            noise, step_size=None, method=method, time_grid=torch.linspace(0, 1, 9).double()
        )
        torch.testing.assert_close(
            integrate(field.velocity, noise, steps=8, sampler=sampler), their, atol=1e-6, rtol=1e-6
        )


@pytest.fixture
def schedulers():
    return pytest.importorskip("diffusers", reason="a peer of the tests")


def test_diffusers_ddim_and_ancestral_steps_are_the_same(schedulers, field):
    path = VariancePreserving()
    model = field.predictor(path, "noise")
    times = list(range(1000, 0, -100))  # steps of the chain from the data
    scheduler = schedulers.DDIMScheduler(
        num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear",
        clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing",
    )  # fmt: skip
    scheduler.set_timesteps(10)
    assert (scheduler.timesteps + 1).tolist() == times
    x = white(6, 3)
    theirs = x
    for n in scheduler.timesteps:
        tau = torch.full((6,), 1 - (int(n) + 1) / 1000, dtype=torch.float64)
        theirs = scheduler.step(model.network(theirs, tau), int(n), theirs).prev_sample
    grid = [1 - n / 1000 for n in times] + [1.0]
    ours = integrate(model, x, steps=grid, sampler=DDIM())
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)  # they round betas to float32
    # DDPM's ancestral step has the variance of eta = 1, apart from the noise itself.
    ancestral = schedulers.DDPMScheduler(
        num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, clip_sample=False,
        timestep_spacing="trailing",
    )  # fmt: skip
    ancestral.set_timesteps(1000)
    tau, after = (torch.full((6,), 1 - n / 1000, dtype=torch.float64) for n in (500, 499))
    source = generator(4)
    their = ancestral.step(model.network(x, tau), 499, x, generator=source).prev_sample
    again = generator(4)
    our = DDIM(
        1.0, lambda x: torch.randn(x.shape, generator=again, dtype=x.dtype)
    ).step(model, x, tau, after)  # fmt: skip
    torch.testing.assert_close(our, their, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_diffusers_multistep_solver_is_the_same(schedulers, field):
    path = VariancePreserving()
    model = field.predictor(path, "noise")
    scheduler = schedulers.DPMSolverMultistepScheduler(
        num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, solver_order=2,
        algorithm_type="dpmsolver++", final_sigmas_type="zero", timestep_spacing="trailing",
    )  # fmt: skip
    scheduler.set_timesteps(20)
    x = theirs = white(6, 3)
    for n in scheduler.timesteps:
        tau = torch.full((6,), 1 - (int(n) + 1) / 1000, dtype=torch.float64)
        theirs = scheduler.step(model.network(theirs, tau), n, theirs).prev_sample
    grid = [1 - (int(n) + 1) / 1000 for n in scheduler.timesteps] + [1.0]
    ours = integrate(model, x, steps=grid, sampler=DPMSolver())
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=2e-4)


def test_diffusers_heun_on_edm_sigmas_is_the_same(schedulers, field):
    path = VarianceExploding()
    model = field.predictor(path, "v")
    scheduler = schedulers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=1.0)
    scheduler.set_timesteps(12)
    x = theirs = path.initial(white(6, 3))
    for sigma, n in zip(scheduler.sigmas[:-1].double(), scheduler.timesteps, strict=True):
        tau = path.tau_at(-2 * sigma.log()).expand(6)
        raw = -model.network(theirs, tau)  # the network before the preconditioning
        theirs = scheduler.step(raw, n, theirs).prev_sample
    ours = integrate(model, x, steps=karras_grid(12, path), sampler=Euler())
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=1e-3)


def test_azula_has_the_same_analytic_denoiser_and_steps(field):
    pytest.importorskip("azula")
    from azula.denoise import KarrasDenoiser
    from azula.noise import RectifiedSchedule
    from azula.sample import DDIMSampler

    path, schedule = LinearPath(), RectifiedSchedule(alpha_min=0.0, sigma_min=0.0)
    raw = torch.nn.Linear(3, 3).double()

    class Backbone(torch.nn.Module):
        def forward(self, x, t, **_):
            return raw(x)

    denoiser = KarrasDenoiser(Backbone(), schedule).double()

    def data(x, tau):
        return denoiser(x, 1 - tau[:1]).mean

    model, x = Predictor(data, path, "data"), white(5, 3)
    with torch.no_grad():
        their = DDIMSampler(
            denoiser, start=0.9, stop=0.1, steps=6, silent=True, dtype=torch.float64
        )(x)
        times = torch.linspace(0.1, 0.9, 7, dtype=torch.float64).tolist()
        torch.testing.assert_close(integrate(model, x, steps=times, sampler=DDIM()), their)
