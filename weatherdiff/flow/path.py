r"""Gaussian probability paths between noise and data.

.. math:: x_\tau = \alpha_\tau x_1 + \sigma_\tau x_0, \qquad x_0 \sim N(0, I),\; x_1 \sim p_{data}

so that :math:`x_\tau` is noise at :math:`\tau = 0` and data at :math:`\tau = 1`. Conditioned on the
pair, it moves with velocity :math:`\dot\alpha_\tau x_1 + \dot\sigma_\tau x_0`; the expectation of
that velocity given :math:`x_\tau` alone transports the noise distribution to that of the data
(Lipman et al. 2023, arXiv:2210.02747, theorem 1). A path is its two scales; the papers that count
time from data to noise have :math:`t = 1 - \tau`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property, lru_cache, wraps
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["PATHS", "CosinePath", "LinearPath", "VarianceExploding", "VariancePreserving"]


Coefficients = Callable[..., tuple[Tensor, ...]]


class PathSample(NamedTuple):
    """A point on a path and the velocity with which it moves there."""

    x: Tensor
    velocity: Tensor


class Scales(NamedTuple):
    """Scales of data and noise on a path, and their derivatives with respect to tau."""

    alpha: Tensor
    sigma: Tensor
    alpha_dot: Tensor
    sigma_dot: Tensor


def expand_as(tau: Float[Tensor, " batch"], x: Float[Tensor, "batch ..."]) -> Tensor:
    """View one value per sample as ``(batch, 1, ..., 1)``, to broadcast against ``x``."""
    return tau.reshape(-1, *[1] * (x.ndim - 1))


def coefficients(function: Coefficients) -> Coefficients:
    """Turn a function of (path, tau, key) into one of (path, tau, x, key) that fits ``x``.

    A sampler visits the same few times again and again, each with its whole batch (``expand`` of
    one value): what belongs to such a time is worked out once and kept, as scalars. It would
    otherwise cost some percent of a small network's own time.
    """

    @lru_cache(maxsize=4096)
    def kept(path: "GaussianPath", time: float, dtype: torch.dtype, *key: Hashable) -> list[Tensor]:
        with torch.inference_mode(False):  # whoever needs them next may want gradients of x
            return [c[0] for c in function(path, torch.tensor([time], dtype=dtype), *key)]

    @wraps(function)
    def fitting(path: "GaussianPath", tau: Tensor, x: Tensor, *key: Hashable) -> tuple[Tensor, ...]:
        if tau.stride() == (0,) and not tau.requires_grad:
            return tuple(kept(path, float(tau[0]), tau.dtype, *key))
        return tuple(expand_as(c, x) for c in function(path, tau, *key))

    return fitting


def steps_from_data(tau: Tensor, steps: int) -> Tensor:
    """Count the steps of a chain of equidistant times from the data to a time, rounding up."""
    # The chain's own times are not whole in floating point, and rounding up must not move them.
    slack = steps * torch.finfo(tau.dtype).eps
    return torch.ceil((1 - tau.double()) * steps - slack).clamp(1, steps)


class GaussianPath(ABC):
    """A path, defined by its :meth:`scales`; the ratio of data to noise must grow with tau."""

    #: Steps of the paper's discrete chain, at which the network is trained; None if continuous.
    steps: int | None = None

    @abstractmethod
    def scales(self, tau: Tensor) -> Scales:
        """Give the scales and their derivatives at times in [0, 1], in the shape of ``tau``."""

    def scales_at(self, tau: Float[Tensor, " batch"], x: Float[Tensor, "batch ..."]) -> Scales:
        """Give the scales in a shape that broadcasts against ``x``."""
        return Scales(*_scales(self, tau, x))

    def sample(
        self,
        noise: Float[Tensor, "batch ..."],
        data: Float[Tensor, "batch ..."],
        tau: Float[Tensor, " batch"],
    ) -> PathSample:
        r"""Interpolate between noise and data.

        Parameters
        ----------
        noise, data : (batch, ...)
            The ends of the path, :math:`x_0` and :math:`x_1`.
        tau : (batch,)
            Flow time in [0, 1].

        Returns
        -------
        PathSample
            :math:`x_\tau = \alpha x_1 + \sigma x_0` and its velocity
            :math:`\dot\alpha x_1 + \dot\sigma x_0`.
        """
        alpha, sigma, alpha_dot, sigma_dot = self.scales_at(tau, data)
        return PathSample(sigma * noise + alpha * data, alpha_dot * data + sigma_dot * noise)

    def initial(self, noise: Tensor) -> Tensor:
        """Scale standard normal noise to the state at tau = 0."""
        return noise * self.scales(noise.new_zeros(1)).sigma

    def network_input(self, x: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """Give what the network is to see of state and time: both in the range of 1."""
        return x, tau

    def snap(self, tau: Tensor) -> Tensor:
        """Move times to the next noisier one of the discrete chain, if the path has one."""
        if self.steps is None:
            return tau
        return (1 - steps_from_data(tau, self.steps) / self.steps).to(tau)

    def log_snr(self, tau: Tensor) -> Tensor:
        r"""Logarithm of the signal-to-noise ratio, :math:`\lambda = \log \alpha^2/\sigma^2`."""
        scales = self.scales(tau)
        return 2 * (scales.alpha.log() - scales.sigma.log())

    def log_snr_dot(self, tau: Tensor) -> Tensor:
        r"""Give the derivative of :math:`\lambda` with respect to tau, positive."""
        alpha, sigma, alpha_dot, sigma_dot = self.scales(tau)
        return 2 * (alpha_dot / alpha - sigma_dot / sigma)

    def tau_at(self, log_snr: Tensor) -> Tensor:
        """Invert :meth:`log_snr`, by bisection; values out of the path's range give its end."""
        low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
        for _ in range(60):
            middle = (low + high) / 2
            below = self.log_snr(middle) < log_snr
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2


_scales = coefficients(lambda path, tau: path.scales(tau))


@dataclass(frozen=True)
class LinearPath(GaussianPath):
    r"""The straight path of flow matching, :math:`\alpha_\tau = \tau, \sigma_\tau = 1 - \tau`.

    References
    ----------
    Lipman et al. (2023), Flow matching for generative modeling, arXiv:2210.02747, equation 22
    with :math:`\sigma_{min} = 0`; Liu et al. (2023), Rectified flow, arXiv:2209.03003, equation 1.
    """

    def scales(self, tau: Tensor) -> Scales:
        """Straight lines."""
        one = torch.ones_like(tau)
        return Scales(tau, 1 - tau, one, -one)

    def tau_at(self, log_snr: Tensor) -> Tensor:
        """Invert the log SNR in closed form."""
        return torch.sigmoid(log_snr / 2)


@dataclass(frozen=True)
class VariancePreserving(GaussianPath):
    r"""DDPM's chain of linear betas: :math:`\alpha_n^2 = \prod_{i\le n}(1 - \beta_i)`.

    The chain has ``steps`` times :math:`\tau_n = 1 - n/T`; between them
    :math:`-\log\alpha^2` is a polynomial that meets all of them to rounding, so that the same path
    serves discrete training and continuous sampling. At tau = 0 a little of the data is left
    (:math:`\alpha = 0.0064`).

    Parameters
    ----------
    steps : int
        :math:`T`.
    beta_min, beta_max : float
        First and last :math:`\beta`.

    References
    ----------
    Ho et al. (2020), arXiv:2006.11239, equation 4 and section 4.
    """

    steps: int = 1000
    beta_min: float = 1e-4
    beta_max: float = 0.02

    @cached_property
    def _coefficients(self) -> list[tuple[float, float]]:
        """Of -log(alpha squared) = t p(t) and of its derivative, for each power of t."""
        betas = np.linspace(self.beta_min, self.beta_max, self.steps)
        t = np.arange(1, self.steps + 1) / self.steps
        rate = -np.cumsum(np.log1p(-betas)) / t
        fitted = np.polynomial.Polynomial.fit(t, rate, min(8, self.steps - 1)).convert()
        whole = fitted * np.polynomial.Polynomial([0, 1])
        return [*zip(whole.coef.tolist(), [*whole.deriv().coef.tolist(), 0.0], strict=True)]

    def scales(self, tau: Tensor) -> Scales:
        """From the integral of beta and its derivative."""
        t = 1 - tau
        coefficients = t.new_tensor(self._coefficients)
        powers = t[..., None] ** torch.arange(len(coefficients), device=t.device)
        # Not a matrix product: the network's lower precision would reach it.
        integral, beta = (powers[..., None] * coefficients).sum(-2).unbind(-1)
        alpha, sigma = torch.exp(-integral / 2), torch.sqrt(-torch.expm1(-integral))
        return Scales(alpha, sigma, alpha * beta / 2, -alpha.square() * beta / (2 * sigma))


@dataclass(frozen=True)
class CosinePath(GaussianPath):
    r"""The variance-preserving path :math:`\alpha = \cos a(t)/\cos a(0)`, :math:`a` linear.

    :math:`a(t) = \frac\pi2\frac{t+s}{1+s}` with :math:`s = 0.008`, :math:`t = 1 - \tau`. At tau = 0
    it is pure noise.

    References
    ----------
    Nichol & Dhariwal (2021), arXiv:2102.09672, equation 17, without the cap on beta, which changes
    only the noisiest step.
    """

    steps: int = 1000
    offset: ClassVar[float] = 0.008

    def scales(self, tau: Tensor) -> Scales:
        """Cosine, and what keeps the variance."""
        rate = math.pi / 2 / (1 + self.offset)
        first = rate * self.offset
        angle = first + rate * (1 - tau)
        scale = 1 / math.cos(first)
        alpha = scale * torch.sin(rate * tau)  # the angle's cosine, and exactly 0 at the noise
        sigma = scale * torch.sqrt(torch.sin(angle - first) * torch.sin(angle + first))
        alpha_dot = scale * rate * torch.sin(angle)
        return Scales(alpha, sigma, alpha_dot, -alpha * alpha_dot / sigma)


@dataclass(frozen=True)
class VarianceExploding(GaussianPath):
    r"""EDM's path :math:`\alpha = 1`, with noise that shrinks at constant speed.

    :math:`\sigma_\tau = \sigma_{max}(1-\tau)`, so that equal steps of tau are equal steps of sigma
    and a sampler's step is the paper's; which sigmas to visit is the time grid's choice. The
    network sees the state divided by its standard deviation, and the time
    :math:`1 - (\sigma/\sigma_{max})^{1/7}`, which spreads the noise levels evenly. On this path,
    the preconditioned network of the paper (equation 7, data of unit variance) is the prediction
    ``v`` but for its sign.

    Parameters
    ----------
    sigma_max : float

    References
    ----------
    Karras et al. (2022), arXiv:2206.00364, table 1; the time is equation 5's.
    """

    sigma_max: float = 80.0

    def scales(self, tau: Tensor) -> Scales:
        """Let the noise shrink linearly."""
        one = torch.ones_like(tau)
        return Scales(one, self.sigma_max * (1 - tau), torch.zeros_like(tau), -self.sigma_max * one)

    def network_input(self, x: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """Scale to unit variance (:math:`c_{in}`), spread the levels (:math:`c_{noise}`)."""
        sigma = self.scales_at(tau, x).sigma
        return x * torch.rsqrt(1 + sigma.square()), 1 - (1 - tau) ** (1 / 7)

    def tau_at(self, log_snr: Tensor) -> Tensor:
        """Invert the log SNR in closed form."""
        return (1 - torch.exp(-log_snr / 2) / self.sigma_max).clamp(min=0)


PATHS: dict[str, type[GaussianPath]] = {
    "linear": LinearPath,
    "ddpm": VariancePreserving,
    "cosine": CosinePath,
    "edm": VarianceExploding,
}
"""Paths by their name in a configuration."""
