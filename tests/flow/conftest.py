"""A correlated Gaussian field, for which the velocity of the flow is known."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from weatherdiff.flow import GaussianMixture


class Gaussian(NamedTuple):
    """N(mean, covariance) of three variables."""

    mean: Tensor
    covariance: Tensor

    def velocity(self, x: Tensor, tau: Tensor) -> Tensor:
        """E[x1 - x0 | x_tau = x]: linear regression of one Gaussian on another.

        cov(x1 - x0, x_tau) = tau S - (1 - tau) I and var(x_tau) = tau^2 S + (1 - tau)^2 I.
        """
        t, eye = tau[:, None, None], torch.eye(3, dtype=x.dtype)
        cross = t * self.covariance - (1 - t) * eye
        variance = t**2 * self.covariance + (1 - t) ** 2 * eye
        deviation = (x - tau[:, None] * self.mean)[..., None]
        return self.mean + (cross @ torch.linalg.solve(variance, deviation))[..., 0]

    def transport(self, noise: Tensor) -> Tensor:
        """Where the exact flow takes the noise: along the eigenvectors, by the root of S."""
        values, vectors = torch.linalg.eigh(self.covariance)
        return self.mean + noise @ (vectors * values.sqrt()) @ vectors.T


@pytest.fixture(scope="module")
def field():
    """Give the same field as a mixture of one."""
    factor = torch.tensor([[1.1, 0.0, 0.0], [-0.5, 0.6, 0.0], [0.2, 0.4, 0.8]]).double()
    return GaussianMixture(torch.tensor([[0.7, -1.2, 0.1]]).double(), (factor @ factor.T)[None])


@pytest.fixture
def gaussian():
    factor = torch.tensor([[1.1, 0.0, 0.0], [-0.5, 0.6, 0.0], [0.2, 0.4, 0.8]]).double()
    return Gaussian(torch.tensor([0.7, -1.2, 0.1]).double(), factor @ factor.T)


@pytest.fixture
def noise():
    return torch.randn(60, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
