r"""At which flow times the network is trained.

A distribution is its quantile function; randomness enters as quantiles that are spread evenly over
the batch, which leaves each time's distribution as it is and lowers the variance of the loss.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from weatherdiff.flow.path import GaussianPath

__all__ = ["TIMES", "Times", "lattice", "logit_normal_tau", "normal_density", "stratified"]

TINY = 1e-9  # quantiles keep so far from 0 and 1
TIP = 1e-7  # and times, in single precision

TIMES = ("uniform", "low_discrepancy", "logit_normal", "log_normal")
"""Names of the distributions; see :class:`Times`."""


def stratified(batch: int, generator: Generator | None = None) -> Float[Tensor, " batch"]:
    """Draw one quantile in each of ``batch`` equal slices, in random order."""
    slices = torch.randperm(batch, generator=generator)
    return (slices + torch.rand(batch, generator=generator)) / batch


def lattice(batch: int, generator: Generator | None = None) -> Float[Tensor, " batch"]:
    """Draw equidistant quantiles with one random offset, in random order.

    References
    ----------
    Kingma et al. (2021), arXiv:2107.00630, appendix I.1.
    """
    slices = torch.randperm(batch, generator=generator)
    return (slices + torch.rand(1, generator=generator)) / batch


def logit_normal_tau(
    batch: int, *, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Float[Tensor, " batch"]:
    r"""Flow times whose logit is normal: :math:`\tau = 1/(1+e^{-u}),\; u \sim N(m, s^2)`.

    The velocity is hardest to predict in the middle of the path, so that is where it is trained
    most. The normal quantiles are stratified over the batch.

    Parameters
    ----------
    batch : int
        How many times to draw.
    mean, std : float
        Of the logit.
    generator : torch.Generator, optional
        Source of randomness; PyTorch's default one if absent.

    References
    ----------
    Esser et al. (2024), arXiv:2403.03206, section 3.1. The strata have an offset each, where the
    sampler of Kingma et al. (2021), arXiv:2107.00630, appendix I.1, has one: :func:`lattice`.
    """
    return torch.sigmoid(mean + std * _normal(stratified(batch, generator)))


@dataclass(frozen=True)
class Times:
    r"""A distribution of flow times.

    Parameters
    ----------
    name : {"uniform", "low_discrepancy", "logit_normal", "log_normal"}
        Uniform in tau, with stratified quantiles or on a lattice; or with a normal logit of tau
        (Esser et al. 2024, arXiv:2403.03206, equation 19); or with a normal logarithm of
        :math:`\sigma/\alpha` (Karras et al. 2022, arXiv:2206.00364, table 1).
    mean, std : float
        Of the normal, if there is one.
    """

    name: str = "logit_normal"
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in TIMES:
            raise ValueError(f"times {self.name!r} are none of {', '.join(TIMES)}")
        if not self.std > 0:
            raise ValueError(f"the standard deviation of the times is {self.std}, not positive")

    def sample(
        self, batch: int, path: GaussianPath, generator: Generator | None = None
    ) -> Float[Tensor, " batch"]:
        """Draw times in the open unit interval."""
        if self.name == "logit_normal":
            tau = logit_normal_tau(batch, mean=self.mean, std=self.std, generator=generator)
            return tau.clamp(TIP, 1 - TIP)
        draw = lattice if self.name == "low_discrepancy" else stratified
        quantile = draw(batch, generator)
        if self.name == "log_normal":
            # In double precision: a path of large sigma has its data in the last digits of tau.
            log_ratio = self.mean - self.std * _normal(quantile).double()
            return path.tau_at(-2 * log_ratio).float().clamp(TIP, 1 - TIP)
        return quantile.clamp(1e-5, 1 - 1e-5)

    def density(self, tau: Tensor, path: GaussianPath) -> Tensor:
        """Give the probability density at times in the open unit interval."""
        if self.name == "logit_normal":
            return normal_density(torch.logit(tau), self.mean, self.std) / (tau * (1 - tau))
        if self.name == "log_normal":
            log_ratio = -path.log_snr(tau) / 2
            return normal_density(log_ratio, self.mean, self.std) * path.log_snr_dot(tau) / 2
        return torch.ones_like(tau)


def _normal(quantile: Tensor) -> Tensor:
    return torch.special.ndtri(quantile.double().clamp(TINY, 1 - TINY)).float()


def normal_density(x: Tensor, mean: float, std: float) -> Tensor:
    """Probability density of a normal distribution."""
    return torch.exp(-(((x - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))
