"""The variance of a chain's steps, fixed or learned: on Gaussian data all of it is known."""

import json
import math
from dataclasses import replace

import pytest
import torch

from weatherdiff.flow import (
    DDIM,
    PATHS,
    RUNGS,
    SAMPLERS,
    VARIANCES,
    GaussianMixture,
    Objective,
    Observations,
    Predictor,
    Schedule,
    VariancePreserving,
    bits_per_dimension,
    denoising_loss,
    guided,
    guided_by_history,
    integrate,
    variational_bound,
    variational_loss,
)
from weatherdiff.flow.path import steps_from_data

DATA_VARIANCE = torch.tensor([0.25, 1.0, 2.0]).double()
COUNT, STEPS = 300, 8


def white(parts, seed=0):
    """So many independent fields, whose sample moments are exactly those of N(0, I)."""
    x = torch.randn(
        COUNT, parts * 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    x = x - x.mean(0)
    root = torch.linalg.cholesky(x.T @ x / COUNT)
    x = torch.linalg.solve_triangular(root, x.T, upper=False).T
    return x.reshape(COUNT, parts, 3).unbind(1)


@pytest.fixture(scope="module")
def field():
    return GaussianMixture(torch.zeros(1, 3).double(), torch.diag(DATA_VARIANCE)[None])


@pytest.fixture(scope="module")
def pair():
    data, noise = white(2)
    return DATA_VARIANCE.sqrt() * data, noise


def times(number, steps=STEPS):
    """Noisier and cleaner end of a step, counted from the data."""
    return torch.tensor([1 - number / steps, 1 - (number - 1) / steps], dtype=torch.float64)


def best_fraction(path, tau, tau_next):
    """The variance of x_s given x_t is beta V_s / V_t, with V the variance of the state."""
    (t_alpha, t_sigma, *_), (s_alpha, s_sigma, *_) = path.scales(tau), path.scales(tau_next)
    later = t_alpha**2 * DATA_VARIANCE + t_sigma**2
    sooner = s_alpha**2 * DATA_VARIANCE + s_sigma**2
    return 1 - torch.log(later / sooner) / torch.log(t_sigma**2 / s_sigma**2)


def learned(field, path, fraction, kind="noise"):
    """The perfect network, and a fraction as a function of time."""
    network = field.predictor(path, kind).network

    def both(x, tau):
        return torch.stack([network(x, tau), (2 * fraction(tau) - 1).expand_as(x)])

    return Predictor(both, path, kind)


def perfect(path, steps=STEPS):
    return lambda tau: best_fraction(path, tau[0], tau[0] + 1 / steps)


# -- the bound ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ddpm", "cosine", "linear"])
@pytest.mark.parametrize("number", [2, 5, STEPS])
def test_the_bound_teaches_the_variance_that_gaussian_data_have(name, number, field, pair):
    path = PATHS[name]()
    fraction = torch.full((3,), 0.5, dtype=torch.float64, requires_grad=True)
    model = learned(field, path, lambda tau: fraction)
    tau = times(number)[0].expand(COUNT)
    # Where the two fixed variances hardly differ, at the noise, so does the loss.
    optimizer = torch.optim.LBFGS(
        [fraction], max_iter=60, tolerance_grad=0, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss():
        optimizer.zero_grad()
        value = variational_loss(model, *pair, tau, steps=STEPS, variance=None)
        value.backward()
        return value

    optimizer.step(loss)
    expected = best_fraction(path, *times(number))
    torch.testing.assert_close(fraction.detach(), expected, atol=2e-3, rtol=0)


def test_the_fixed_variances_are_right_for_data_of_the_noises_variance_and_of_none():
    path = VariancePreserving()
    assert VARIANCES == {"fixed_small": 0.0, "fixed_large": 1.0, "learned": None}
    fraction = best_fraction(path, *times(4))
    assert float(fraction[1]) == pytest.approx(1)
    assert 0 < fraction[0] < 1 < fraction[2]


def test_the_bound_with_the_learned_variance_is_known_and_the_least(field, pair):
    path, (data, noise) = VariancePreserving(), pair
    model = learned(field, path, perfect(path))
    bounds = {
        name: variational_bound(
            model, data, steps=STEPS, noise=lambda x: noise, variance=VARIANCES[name]
        )
        for name in VARIANCES
    }
    found = bounds["learned"]
    for k, number in enumerate(range(STEPS, 1, -1)):
        tau, tau_next = times(number)
        alpha, sigma, *_ = path.scales(tau)
        gain = torch.exp(path.log_snr(tau_next)) - torch.exp(path.log_snr(tau))
        uncertain = DATA_VARIANCE * sigma**2 / (alpha**2 * DATA_VARIANCE + sigma**2)
        expected = torch.log2(1 + gain * uncertain).mean() / 2
        torch.testing.assert_close(found.steps[k], expected)
    for name in ("fixed_small", "fixed_large"):
        assert (found.steps <= bounds[name].steps + 1e-12).all()
        assert found.total < bounds[name].total - 0.01
        assert found.reconstruction == bounds[name].reconstruction
    exact = bits_per_dimension(field.log_density(data), 3).mean()
    assert exact < found.total < exact + 0.3


@pytest.mark.parametrize("number", [1, 2, 30, 500, 1000])
def test_single_precision_is_enough_for_a_chain_of_a_thousand_steps(number, field, pair):
    path = VariancePreserving()
    network = field.predictor(path, "noise").network
    tau = torch.full((COUNT,), 1 - number / 1000, dtype=torch.float64)
    values = []
    for dtype in (torch.float32, torch.float64):
        model = Predictor(
            lambda x, t, d=dtype: network(x.double(), t.double()).to(d), path, "noise"
        )
        data, noise = (x.to(dtype) for x in pair)
        values.append(float(variational_loss(model, data, noise, tau, steps=1000)))
    assert values[0] == pytest.approx(values[1], rel=2e-4, abs=2e-5)


def test_a_training_loss_calls_the_network_once(field, pair):
    calls = []
    network = field.predictor(VariancePreserving(), "noise").network
    tau = torch.rand(COUNT, generator=torch.Generator().manual_seed(0)).double()
    for name in ("variational", "noise_prediction", "flow_matching"):
        calls.clear()
        RUNGS[name].training_loss(lambda x, t: calls.append(1) or network(x, t), *pair, tau)
        assert len(calls) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [1, 10, 37, 1000, 4000])
def test_the_times_of_a_chain_are_their_own_steps_in_any_precision(steps, dtype):
    """Rounding must not move one to the next: a quarter of a thousand would never be trained."""
    numbers = torch.arange(1, steps + 1)
    tau = (1 - numbers.double() / steps).to(dtype)
    assert torch.equal(steps_from_data(tau, steps).long(), numbers)


@pytest.mark.parametrize("name", ["ddpm", "cosine"])
def test_every_step_of_the_chain_is_trained_equally_often(name):
    objective = replace(RUNGS["variational"], path=name)
    tau = objective.draw_times(3000, torch.Generator().manual_seed(0))
    count = torch.bincount(steps_from_data(tau, 1000).long(), minlength=1001)[1:]
    assert (count.min(), count.max()) == (3, 3)
    assert torch.equal(objective.gaussian_path.snap(tau), tau)


# -- sampling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [2, 5, 12])
def test_the_ancestral_sampler_reverses_a_gaussian_chain_exactly_with_the_learned_variance(
    steps, field
):
    """But for its last step, which gives the mean of the data: that much variance is missing."""
    path = PATHS["cosine"]()
    model = learned(field, path, perfect(path, steps), kind="data")
    expected = torch.diag(DATA_VARIANCE**2 / (DATA_VARIANCE + noise_to_signal(path, 1 / steps)))
    covariance = {}
    for name, fraction in VARIANCES.items():
        noise, *fresh = white(steps)
        draws = iter(fresh)
        out = integrate(
            model,
            path.initial(noise),
            steps=[k / steps for k in range(steps)] + [1.0],
            sampler=DDIM(1.0, lambda x, draws=draws: next(draws), fraction),
        )
        assert next(draws, None) is None  # no noise in the last step
        covariance[name] = out.T @ out / COUNT
    torch.testing.assert_close(covariance["learned"], expected, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(covariance["fixed_large"][1, 1], expected[1, 1])
    assert (covariance["fixed_small"].diagonal() < expected.diagonal() - 1e-3).all()
    assert covariance["fixed_large"][0, 0] > expected[0, 0] + 1e-3


def noise_to_signal(path, t):
    alpha, sigma, *_ = path.scales(torch.tensor(1 - t, dtype=torch.float64))
    return (sigma / alpha) ** 2


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_deterministic_samplers_ignore_a_learned_variance(name, field):
    path = PATHS["cosine"]()
    plain, model = field.predictor(path, "v"), learned(field, path, lambda tau: tau[0], kind="v")
    (noise,) = white(1)
    steps = [0.0, 0.4, 0.8, 1.0]
    found, expected = (
        integrate(m, noise[:5], steps=steps, sampler=SAMPLERS[name]()) for m in (model, plain)
    )
    assert torch.equal(found, expected)


def test_the_error_of_the_prediction_does_not_see_the_variance(field, pair):
    path, tau = PATHS["cosine"](), torch.linspace(0.1, 0.9, COUNT).double()
    losses = [
        denoising_loss(model, *pair, tau)
        for model in (learned(field, path, lambda tau: tau[0]), field.predictor(path, "noise"))
    ]
    assert torch.equal(*losses)


def test_diffusers_has_the_same_step_with_a_learned_range(field):
    peer = pytest.importorskip("diffusers", reason="a peer of the tests")
    path = VariancePreserving()
    model = learned(field, path, lambda tau: torch.tensor([0.2, 0.5, 1.3]).double())
    scheduler = peer.DDPMScheduler(
        num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, clip_sample=False,
        timestep_spacing="trailing", variance_type="learned_range",
    )  # fmt: skip
    scheduler.set_timesteps(1000)
    x = white(1)[0][:6]
    for number in (2, 40, 700):
        tau, after = (torch.full((6,), 1 - n / 1000).double() for n in (number, number - 1))
        source, again = (torch.Generator().manual_seed(4) for _ in range(2))
        their = scheduler.step(
            torch.cat(tuple(model.network(x, tau)), dim=1), number - 1, x, generator=source
        ).prev_sample

        def draw(x, again=again):
            return torch.randn(x.shape, generator=again, dtype=x.dtype)

        our = DDIM(1.0, draw, None).step(model, x, tau, after)
        torch.testing.assert_close(our, their, atol=1e-4, rtol=1e-4)


def test_guidance_by_the_history_keeps_the_variance_and_by_observations_loses_it(field):
    path = PATHS["cosine"]()
    model, (x, fresh) = learned(field, path, lambda tau: tau[0], kind="v"), white(2)
    tau = torch.full((COUNT,), 0.3).double()
    between = guided_by_history(model, model.network, weight=0.5)
    assert torch.equal(between.predict(x, tau).fraction, model.predict(x, tau).fraction)
    torch.testing.assert_close(between.predict(x, tau).data, model.predict(x, tau).data)
    objective = Objective(
        path="cosine", prediction="v", loss="variational", variance="learned",
        schedule=Schedule("ancestral", 3),
    )  # fmt: skip
    assert objective.sample(between, x, fresh=lambda x: fresh).isfinite().all()
    observed = Observations(lambda x: x[:, :1], torch.ones(1).double(), 0.5)
    lost = guided(model, observed)
    with pytest.raises(ValueError, match="the model predicts none"):
        objective.sample(lost, x, fresh=lambda x: fresh)
    fixed = replace(objective, variance="fixed_small")
    assert fixed.sample(lost, x, fresh=lambda x: fresh).isfinite().all()


# -- the objective --------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", sorted(VARIANCES))
def test_the_objective_trains_and_samples_with_its_variance(variance, field, pair):
    objective = replace(
        RUNGS["variational"], variance=variance, schedule=Schedule("ancestral", STEPS)
    )
    assert objective.outputs == (2 if variance == "learned" else 1)
    assert Objective.from_dict(json.loads(json.dumps(objective.to_dict()))) == objective
    path, (data, noise) = VariancePreserving(), pair
    model = learned(field, path, lambda tau: torch.full((3,), 0.7).double())
    network = model.network if objective.outputs == 2 else lambda x, tau: model.network(x, tau)[0]
    tau = torch.linspace(0.01, 0.99, COUNT).double()
    fraction = VARIANCES[variance]
    torch.testing.assert_close(
        objective.training_loss(network, data, noise, tau),
        variational_loss(model, data, noise, tau, steps=1000, variance=fraction),
    )
    found = objective.sample(objective.predictor(network), noise, fresh=lambda x: noise)
    expected = integrate(
        model,
        path.initial(noise),
        steps=torch.linspace(0, 1, STEPS + 1).tolist(),
        sampler=DDIM(1.0, lambda x: noise, fraction),
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "ddpm", "loss": "variational", "variance": "wild"}, "unknown variance"),
        ({"variance": "fixed_small"}, "linear path has no steps"),
        ({"path": "edm", "variance": "fixed_large"}, "edm path has no steps"),
        ({"path": "ddpm", "variance": "learned"}, "only the variational loss teaches"),
        ({"path": "linear", "variance": "learned"}, "no steps"),
    ],
)
def test_a_variance_without_meaning_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Objective(**options)


def test_a_learned_variance_needs_a_network_that_predicts_one(field, pair):
    objective = replace(RUNGS["variational"], variance="learned")
    network = field.predictor(VariancePreserving(), "noise").network
    with pytest.raises(ValueError, match="the model predicts none"):
        objective.training_loss(network, *pair, torch.linspace(0.1, 0.9, COUNT).double())


def test_a_record_from_before_there_was_a_choice_samples_as_it_did():
    record = RUNGS["noise_prediction"].to_dict()
    del record["variance"]
    assert Objective.from_dict(record) == RUNGS["noise_prediction"]
    assert RUNGS["noise_prediction"].fraction == 0.0
    assert math.isclose(RUNGS["variational"].fraction, 1.0)
