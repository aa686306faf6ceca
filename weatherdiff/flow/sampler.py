r"""From noise to data: integrate :math:`dx/d\tau = v(x, \tau)` from :math:`\tau = 0` to 1.

There is one loop, :func:`integrate`; a sampler is an object with a ``step``. Those of this module
need a velocity alone; those that tell data from noise are in :mod:`weatherdiff.flow.diffusion`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from scipy.integrate import solve_ivp
from torch import Tensor

from weatherdiff.flow.parameterization import Velocity
from weatherdiff.flow.path import GaussianPath

__all__ = ["GRIDS", "Adaptive", "Euler", "Heun", "Midpoint", "Sampler", "integrate"]

EDGE = 1e-6  # how near to the ends of time an adaptive solver goes


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


class Midpoint:
    """Second order, two evaluations a step, none of them at the data."""

    def step(self, velocity: Velocity, x: Tensor, tau: Tensor, tau_next: Tensor) -> Tensor:
        """Follow the velocity half way."""
        width = float(tau_next[0] - tau[0])
        middle = x + width / 2 * velocity(x, tau)
        return x + width * velocity(middle, (tau + tau_next) / 2)


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


@dataclass(frozen=True)
class Adaptive:
    """A reference: SciPy's Runge-Kutta solver of fifth order, with error control, in float64.

    It controls the error of the batch as a whole, and keeps a millionth away from both ends, which
    are crossed by an Euler step.

    Parameters
    ----------
    rtol, atol : float
        Of :func:`scipy.integrate.solve_ivp`.

    References
    ----------
    Dormand & Prince (1980), doi:10.1016/0771-050X(80)90013-3.
    """

    rtol: float = 1e-6
    atol: float = 1e-6

    def step(self, velocity: Velocity, x: Tensor, tau: Tensor, tau_next: Tensor) -> Tensor:
        """Solve from the one time to the other."""
        start, stop = float(tau[0]), float(tau_next[0])
        first, last = (min(max(t, EDGE), 1 - EDGE) for t in (start, stop))

        def slope(t: float, state: Tensor) -> Tensor:
            return velocity(state, state.new_full((len(state),), t))

        def flat(t: float, values: object) -> object:
            state = torch.as_tensor(values, device=x.device).to(x.dtype).reshape(x.shape)
            return slope(t, state).double().cpu().numpy().ravel()

        x = x + (first - start) * slope(first, x) if first != start else x
        y = x.double().cpu().numpy().ravel()
        solution = solve_ivp(flat, (first, last), y, rtol=self.rtol, atol=self.atol, t_eval=[last])
        if not solution.success:
            raise ValueError(f"the adaptive solver gave up at {solution.t}: {solution.message}")
        end = torch.from_numpy(solution.y[:, -1]).to(x).reshape(x.shape)
        return end + (stop - last) * slope(last, end) if last != stop else end


def integrate(
    velocity: Velocity,
    noise: Float[Tensor, "batch ..."],
    *,
    steps: int | Sequence[float],
    sampler: Sampler | None = None,
) -> Float[Tensor, "batch ..."]:
    """Transport noise to samples of the data.

    Parameters
    ----------
    velocity : callable
        ``velocity(x, tau)``, exact or learned, or a :class:`Predictor`.
    noise : (batch, ...)
        The state at ``tau = 0``: standard normal noise, on the linear path.
    steps : int or sequence of float
        Number of equal steps of flow time, or the times to visit, both ends included.
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
    if isinstance(steps, int):
        if steps < 1:
            raise ValueError(f"steps is {steps}; at least one is needed")
        steps = torch.linspace(0, 1, steps + 1, dtype=noise.dtype).tolist()
    sampler = Heun() if sampler is None else sampler
    x = noise
    times = x.new_tensor(steps)[:, None].expand(-1, len(x))
    for tau, tau_next in pairwise(times):
        x = sampler.step(velocity, x, tau, tau_next)
    return x


def uniform_grid(steps: int, path: GaussianPath | None = None) -> list[float]:
    """Give equal steps of flow time."""
    return torch.linspace(0, 1, steps + 1).tolist()


def karras_grid(
    steps: int, path: GaussianPath, *, low: float = 0.002, high: float = 80.0, rho: float = 7.0
) -> list[float]:
    r"""Give steps that are equal in :math:`(\sigma/\alpha)^{1/\rho}`, and one more to the data.

    Parameters
    ----------
    steps : int
    path : GaussianPath
    low, high : float
        Ratios of noise to data between which the steps lie; the first time is 0 all the same.
    rho : float
        The larger, the shorter the steps near the data.

    References
    ----------
    Karras et al. (2022), arXiv:2206.00364, equation 5.
    """
    share = torch.linspace(0, 1, steps, dtype=torch.float64)
    ratio = (high ** (1 / rho) + share * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return [0.0, *path.tau_at(-2 * ratio.log()).tolist()[1:], 1.0]


def shifted_grid(
    steps: int, path: GaussianPath | None = None, *, shift: float = 3.0
) -> list[float]:
    r"""Give shorter steps near the noise: :math:`t' = s t/(1+(s-1)t)` with :math:`t = 1-\tau`.

    References
    ----------
    Esser et al. (2024), arXiv:2403.03206, equation 23.
    """
    t = [1 - k / steps for k in range(steps + 1)]
    return [1 - shift * s / (1 + (shift - 1) * s) for s in t]


GRIDS: dict[str, Callable[[int, GaussianPath], list[float]]] = {
    "uniform": uniform_grid,
    "karras": karras_grid,
    "shifted": shifted_grid,
}
"""Time grids by their name in a configuration: (steps, path) -> times."""
