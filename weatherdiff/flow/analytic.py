r"""Distributions whose every prediction is known, to prove networks and samplers against.

For a Gaussian :math:`x_1 \sim N(\mu, S)` and a state :math:`x = \alpha x_1 + \sigma x_0`, linear
regression of one Gaussian on another gives, with :math:`M = \alpha^2 S + \sigma^2 I`,

.. math:: E[x_1|x] = \mu + \alpha S M^{-1}(x - \alpha\mu), \qquad
          E[x_0|x] = \sigma M^{-1}(x - \alpha\mu);

for a mixture of them, the mean over the components, weighted with how likely each is given x. All
else follows from these two (:mod:`weatherdiff.flow.parameterization`).
"""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from weatherdiff.flow.parameterization import Prediction, Predictor, combine
from weatherdiff.flow.path import GaussianPath, LinearPath

__all__ = ["GaussianMixture"]


class GaussianMixture:
    """A mixture of Gaussians; with one component, a Gaussian field of any covariance.

    Parameters
    ----------
    means : (component, dimension)
    covariances : (component, dimension, dimension)
        Positive definite.
    weights : (component,), optional
        Probabilities; equal by default.

    Examples
    --------
    >>> standard = GaussianMixture(torch.zeros(1, 2), torch.eye(2)[None])
    >>> model = standard.predictor(LinearPath(), "noise")
    >>> model.to(torch.tensor([[0.0, 0.5]]), torch.tensor([0.5]), "data")
    tensor([[0.0000, 0.5000]])
    """

    def __init__(
        self,
        means: Float[Tensor, "component dimension"],
        covariances: Float[Tensor, "component dimension dimension"],
        weights: Float[Tensor, " component"] | None = None,
    ) -> None:
        self.means = means
        self.values, self.vectors = torch.linalg.eigh(covariances)
        weights = torch.ones_like(means[:, 0]) if weights is None else weights
        self.log_weights = torch.log(weights / weights.sum())

    def predict(
        self, x: Float[Tensor, "batch dimension"], tau: Float[Tensor, " batch"], path: GaussianPath
    ) -> Prediction:
        """Give the expectations of data and noise at a state."""
        alpha, sigma, *_ = (s[:, None, None] for s in path.scales(tau))
        share, rotated, variance = self._components(x, alpha, sigma)
        data = self.means + self._back(alpha * self.values / variance * rotated)
        noise = self._back(sigma / variance * rotated)
        return Prediction(*((share[..., None] * part).sum(1) for part in (data, noise)))

    def predictor(self, path: GaussianPath, parameterization: str) -> Predictor:
        """Give the perfect network of one kind on one path."""

        def network(x: Tensor, tau: Tensor) -> Tensor:
            return combine(self.predict(x, tau, path), tau, path=path, target=parameterization)

        return Predictor(network, path, parameterization)

    def velocity(self, x: Tensor, tau: Tensor) -> Tensor:
        """Velocity on the linear path."""
        return self.predictor(LinearPath(), "velocity")(x, tau)

    def log_density(self, x: Float[Tensor, "batch dimension"]) -> Float[Tensor, " batch"]:
        """Logarithm of the density of the data, in nats."""
        one = torch.ones(1, 1, 1, dtype=x.dtype)
        return self._log_joint(*self._rotated(x, one, 0 * one)).logsumexp(1)

    def sample(self, count: int, *, generator: Generator) -> Float[Tensor, "batch dimension"]:
        """Draw data."""
        which = torch.multinomial(self.log_weights.exp(), count, True, generator=generator)
        white = torch.randn(count, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        roots = self.vectors * self.values.sqrt()[:, None]
        return self.means[which] + torch.einsum("bij,bj->bi", roots[which], white)

    def _components(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give each one's probability, deviation on its axes, and variance there."""
        rotated, variance = self._rotated(x, alpha, sigma)
        return self._log_joint(rotated, variance).softmax(1), rotated, variance

    def _rotated(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        deviation = x[:, None] - alpha * self.means
        rotated = torch.einsum("bci,cij->bcj", deviation, self.vectors)
        return rotated, alpha.square() * self.values + sigma.square()

    def _log_joint(self, rotated: Tensor, variance: Tensor) -> Tensor:
        squares = rotated.square() / variance + torch.log(2 * math.pi * variance)
        return self.log_weights - squares.sum(2) / 2

    def _back(self, rotated: Tensor) -> Tensor:
        return torch.einsum("bcj,cij->bci", rotated, self.vectors)
