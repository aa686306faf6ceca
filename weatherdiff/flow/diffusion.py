r"""Samplers that tell data from noise: DDIM, DPM-Solver++ (2M), DDPM's ancestral one, and churn.

Each is a ``step`` for the loop of :func:`weatherdiff.flow.integrate`. With primes at the end of
the step, all start from the expected ends :math:`\hat x_1, \hat x_0` of the path at its beginning.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from weatherdiff.flow.parameterization import Velocity, fraction_of_variance, predictor, weighed
from weatherdiff.flow.path import GaussianPath, coefficients
from weatherdiff.flow.sampler import Adaptive, Euler, Heun, Midpoint, Sampler

__all__ = ["DDIM", "SAMPLERS", "STOCHASTIC_SAMPLERS", "Churn", "DPMSolver", "FreshNoise"]

FreshNoise = Callable[[Tensor], Tensor]
"""``noise(x)`` draws standard normal noise in the shape of ``x``; see :class:`NoiseStream`."""


@dataclass(frozen=True)
class DDIM:
    r"""Go on to the next time with the expected ends, part of the noise drawn afresh.

    .. math:: x' = \alpha'\hat x_1 + \sigma'(\sqrt{1-s}\,\hat x_0 + \sqrt s\,\varepsilon), \qquad
              s = \eta^2\Bigl(1 - \frac{\alpha^2\sigma'^2}{\alpha'^2\sigma^2}\Bigr)

    With :math:`\eta = 0` it is Euler's method for :math:`x/\alpha` as a function of
    :math:`\sigma/\alpha`, and on the linear path Euler's method as it stands; with
    :math:`\eta = 1` it is DDPM's ancestral sampler, whose step has the variance
    :math:`\tilde\beta = s\sigma'^2`. Another variance of it scales :math:`\varepsilon` by
    :math:`(\sigma/\sigma')^f`; no noise is added in the step that ends at the data. First order,
    one evaluation a step.

    Parameters
    ----------
    eta : float
        From 0, deterministic, to 1.
    noise : callable, optional
        Needed if ``eta`` is not 0.
    variance : float, optional
        The fraction f, see :data:`weatherdiff.flow.VARIANCES`; None for what the network predicts.

    References
    ----------
    Song et al. (2021), arXiv:2010.02502, equations 12 and 16; Ho et al. (2020), arXiv:2006.11239,
    equation 7; Nichol & Dhariwal (2021), arXiv:2102.09672, equation 15 and, for steps that skip
    some of the chain's, section 4.
    """

    eta: float = 0.0
    noise: FreshNoise | None = None
    variance: float | None = 0.0

    def step(self, velocity: Velocity, x: Tensor, tau: Tensor, tau_next: Tensor) -> Tensor:
        """Replace the scales, keep the ends."""
        model = predictor(velocity)
        value, fraction = model.outputs(x, tau)
        then = float(tau_next[0])
        fresh = self.noise if self.eta and then < 1 else None
        data, kept, drawn, ratio = _ahead(model.path, tau, x, then, self.eta if fresh else 0.0)
        mean = weighed(value, x, tau, (data, kept), path=model.path, source=model.parameterization)
        if fresh is None:
            return mean
        wider = ratio ** fraction_of_variance(self.variance, fraction)
        return torch.addcmul(mean, drawn * wider, fresh(x))


@coefficients
def _ahead(path: GaussianPath, tau: Tensor, tau_next: float, eta: float) -> tuple[Tensor, ...]:
    """Coefficients of data, noise and fresh noise at the end of a step, and the ratio of sigmas."""
    now, then = path.scales(tau), path.scales(torch.full_like(tau, tau_next))
    decay = now.alpha * then.sigma / (then.alpha * now.sigma)
    share = eta**2 * (1 - decay.square()) if eta else torch.zeros_like(tau)
    kept, drawn = (then.sigma * torch.sqrt(part) for part in (1 - share, share))
    return then.alpha, kept, drawn, now.sigma / then.sigma


@dataclass
class DPMSolver:
    r"""DPM-Solver++ (2M): the exact linear part, and the data extrapolated from two steps.

    .. math:: x' = \frac{\sigma'}{\sigma} x - \alpha'(e^{-h}-1)
        \Bigl[\bigl(1+\tfrac{h}{2h_-}\bigr)\hat x_1 - \tfrac{h}{2h_-}\hat x_1^-\Bigr], \qquad
        h = \log\frac{\alpha'\sigma}{\sigma'\alpha}

    where minus marks the step before. Second order, one evaluation a step; the first step and the
    one that ends at the data are of first order, which is DDIM.

    References
    ----------
    Lu et al. (2022), arXiv:2211.01095, algorithm 2.
    """

    _before: tuple[Tensor, Tensor, Tensor] | None = field(default=None, init=False, repr=False)

    def step(self, velocity: Velocity, x: Tensor, tau: Tensor, tau_next: Tensor) -> Tensor:
        """Extrapolate the data linearly in the logarithm of the signal-to-noise ratio."""
        model = predictor(velocity)
        data = model.to(x, tau, "data")
        now, then = model.path.scales_at(tau, x), model.path.scales_at(tau_next, x)
        decay = now.alpha * then.sigma / (then.alpha * now.sigma)  # exp(-h)
        width = -decay.log()
        ahead, before = data, self._before
        # A step that does not go on from the last one begins another integration.
        if before is not None and torch.equal(before[0], tau) and float(tau_next[0]) < 1:
            ahead = data + width / (2 * before[2]) * (data - before[1])
        self._before = tau_next, data, width
        return then.sigma / now.sigma * x + then.alpha * (1 - decay) * ahead


@dataclass(frozen=True)
class Churn:
    r"""Add a little noise before each step of another sampler, which then removes more.

    The ratio :math:`\sigma/\alpha` is raised by the factor :math:`1+\gamma`; errors of earlier
    steps fade with the noise they were made in.

    Parameters
    ----------
    noise : callable
        Source of the noise.
    sampler : Sampler
        What to do after it.
    gamma : float
        The paper's :math:`\gamma = \min(S_{churn}/N, \sqrt2-1)`.
    low, high : float
        Ratios of noise to data outside which nothing is added.

    References
    ----------
    Karras et al. (2022), arXiv:2206.00364, algorithm 2.
    """

    noise: FreshNoise
    sampler: Sampler = field(default_factory=Heun)
    gamma: float = 0.2
    low: float = 0.05
    high: float = 50.0

    def step(self, velocity: Velocity, x: Tensor, tau: Tensor, tau_next: Tensor) -> Tensor:
        """Go back a little, then on."""
        path = predictor(velocity).path
        log_ratio = -path.log_snr(tau[:1]) / 2
        if self.low <= float(log_ratio.exp()) <= self.high:
            back = path.tau_at(-2 * (log_ratio + math.log1p(self.gamma))).expand_as(tau)
            now, then = path.scales_at(tau, x), path.scales_at(back, x)
            kept = then.alpha / now.alpha
            added = torch.sqrt((then.sigma.square() - (kept * now.sigma).square()).clamp(min=0))
            x, tau = kept * x + added * self.noise(x), back
        return self.sampler.step(velocity, x, tau, tau_next)


SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "euler": Euler,
    "midpoint": Midpoint,
    "heun": Heun,
    "ddim": DDIM,
    "dpm++2m": DPMSolver,
    "adaptive": Adaptive,
}
"""Deterministic samplers by their name in a configuration."""

STOCHASTIC_SAMPLERS: dict[str, Callable[[FreshNoise, float | None], Sampler]] = {
    "ancestral": partial(DDIM, 1.0),
    "churn": lambda noise, variance: Churn(noise),
}
"""Samplers that draw noise on the way, made with its source and the variance of a step."""
