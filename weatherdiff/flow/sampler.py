r"""From noise to data: integrate :math:`dx/d\tau = v(x, \tau)` from :math:`\tau = 0` to 1.

There is one loop, :func:`integrate`; a sampler is an object with a ``step``.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["SAMPLERS", "Euler", "Heun", "Sampler", "Velocity", "integrate"]

Velocity = Callable[[Tensor, Tensor], Tensor]
"""``velocity(x, tau)`` with ``x`` (batch, ...) and ``tau`` (batch,), returning the shape of x."""


@runtime_checkable
class Sampler(Protocol):
    """One step of an integrator."""

    def step(self, velocity: Velocity, x: Tensor, tau: Tensor, tau_next: Tensor) -> Tensor:
        """Advance ``x`` from ``tau`` to ``tau_next``, both of shape (batch,)."""


class Euler:
    """First order, one evaluation a step."""

    def step(self, velocity: Velocity, x: Tensor, tau: Tensor, tau_next: Tensor) -> Tensor:
        """Follow the velocity at the start of the step."""
        return x + float(tau_next[0] - tau[0]) * velocity(x, tau)


class Heun:
    """Second order, two evaluations a step, and one in the last step, which ends at the data.

    At ``tau = 1`` the network has hardly been trained (its times are logit-normal) and the
    correction there is lost in that error, so ``n`` steps cost ``2 n - 1`` evaluations.

    References
    ----------
    Karras et al. (2022), arXiv:2206.00364, algorithm 1.
    """

    def step(self, velocity: Velocity, x: Tensor, tau: Tensor, tau_next: Tensor) -> Tensor:
        """Follow the mean of the velocities at both ends of the step."""
        width = float(tau_next[0] - tau[0])
        start = velocity(x, tau)
        predicted = x + width * start
        if float(tau_next[0]) >= 1:
            return predicted
        return x + width / 2 * (start + velocity(predicted, tau_next))


SAMPLERS: dict[str, type[Euler] | type[Heun]] = {"euler": Euler, "heun": Heun}


def integrate(
    velocity: Velocity,
    noise: Float[Tensor, "batch ..."],
    *,
    steps: int,
    sampler: Sampler | None = None,
) -> Float[Tensor, "batch ..."]:
    """Transport noise to samples of the data in equal steps of flow time.

    Parameters
    ----------
    velocity : callable
        ``velocity(x, tau)``, exact or learned.
    noise : (batch, ...)
        Standard normal noise, the state at ``tau = 0``.
    steps : int
        Number of steps.
    sampler : Sampler, optional
        :class:`Heun` if absent.

    Returns
    -------
    (batch, ...)
        The state at ``tau = 1``.

    Raises
    ------
    ValueError
        Fewer than one step.

    Examples
    --------
    The velocity that carries N(0, 1) to the single point 3 is (3 - x) / (1 - tau):

    >>> velocity = lambda x, tau: (3 - x) / (1 - tau)[:, None]
    >>> integrate(velocity, torch.randn(2, 1), steps=2, sampler=Euler()).round(decimals=4)
    tensor([[3.],
            [3.]])
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; at least one is needed")
    sampler = Heun() if sampler is None else sampler
    grid = torch.linspace(0, 1, steps + 1, dtype=noise.dtype).tolist()
    x = noise
    for tau, tau_next in pairwise(grid):
        x = sampler.step(velocity, x, x.new_full((len(x),), tau), x.new_full((len(x),), tau_next))
    return x
