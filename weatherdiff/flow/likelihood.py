r"""The exact log density of a flow, by the instantaneous change of variables.

.. math:: \log p(x_1) = \log N(x(0); 0, \sigma_0^2) - \int_0^1 \nabla\cdot v(x(\tau), \tau)\, d\tau

along the trajectory that ends at the data (Chen et al. 2018, arXiv:1806.07366, theorem 1; Song et
al. 2021, arXiv:2011.13456, appendix D.2). The divergence is the exact trace of the Jacobian, one
backward pass a dimension, or Hutchinson's estimate of it, one backward pass a probe (Grathwohl et
al. 2019, arXiv:1810.01367, section 3.1).
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from weatherdiff.flow.parameterization import Velocity, predictor
from weatherdiff.flow.sampler import Adaptive, Sampler, integrate

__all__ = ["bits_per_dimension", "log_density"]


def log_density(
    velocity: Velocity,
    data: Float[Tensor, "batch ..."],
    *,
    probes: int | None = None,
    generator: Generator | None = None,
    valid: Tensor | None = None,
    times: Sequence[float] = (1.0, 0.0),
    sampler: Sampler | None = None,
) -> Float[Tensor, " batch"]:
    """Give the logarithm of the density that a model has at some data.

    Parameters
    ----------
    velocity : callable
        A velocity on the linear path, or a :class:`Predictor`. It must be differentiable, and each
        sample independent of the others.
    data : (batch, ...)
        Normalised.
    probes : int, optional
        Rademacher vectors to estimate the trace with; the exact trace by default.
    generator : torch.Generator, optional
        Of the probes, on the CPU.
    valid : broadcastable to ``data``, optional
        True at the values that count; the others stay as they are.
    times : sequence of float
        To visit, from the data to the noise.
    sampler : Sampler, optional
        :class:`Adaptive` if absent.

    Returns
    -------
    (batch,)
        In nats.

    Examples
    --------
    A velocity of zero leaves the noise as it is:

    >>> density = log_density(lambda x, tau: 0 * x, torch.zeros(1, 2)).exp()
    >>> math.isclose(density * 2 * math.pi, 1, rel_tol=1e-6)
    True
    """
    shape, size = data.shape, data[0].numel()
    mask = torch.ones_like(data[:1]) if valid is None else valid.expand_as(data[:1]).to(data)
    if probes is None:
        directions = torch.diag(mask.flatten())[mask.flatten() > 0]
        share = 1.0
    else:
        signs = 2 * torch.randint(2, (probes, size), generator=generator) - 1
        directions, share = signs.to(data) * mask.flatten(), 1 / probes

    def augmented(state: Tensor, tau: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            x = state[:, :-1].clone().requires_grad_()
            v = velocity(x.reshape(shape), tau.clone()).flatten(1) * mask.flatten()
            divergence = torch.zeros_like(tau)
            for direction in directions:
                (gradient,) = torch.autograd.grad((v * direction).sum(), x, retain_graph=True)
                divergence = divergence + share * (gradient * direction).sum(1)
        return torch.cat([v, divergence[:, None]], dim=1).detach()

    start = torch.cat([data.flatten(1), data.new_zeros(len(data), 1)], dim=1)
    state = integrate(augmented, start, steps=list(times), sampler=sampler or Adaptive())
    sigma = predictor(velocity).path.scales(data.new_zeros(1)).sigma
    noise = state[:, :-1] / sigma
    normal = -(noise.square() + math.log(2 * math.pi)) / 2 - sigma.log()
    return (normal * mask.flatten()).sum(1) + state[:, -1]


def bits_per_dimension(log_density: Tensor, dimensions: int) -> Tensor:
    """Negative log density in bits for each value; it may be negative."""
    return -log_density / (dimensions * math.log(2))
