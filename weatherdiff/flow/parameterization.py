r"""What a network predicts: noise, data, v, velocity or score; the same thing on a known path.

Every prediction is linear in the pair that the path joins, :math:`p = a\,x_1 + b\,x_0`, and so is
the state, :math:`x = \alpha x_1 + \sigma x_0`. Two equations give both unknowns,

.. math:: x_1 = \frac{b x - \sigma p}{\alpha b - \sigma a}, \qquad
          x_0 = \frac{\alpha p - a x}{\alpha b - \sigma a},

and with them any other prediction. The same holds for their expectations given :math:`x`.

========  =====================================  ===================================================
name      prediction                             reference
========  =====================================  ===================================================
noise     :math:`x_0`                            Ho et al. (2020), arXiv:2006.11239, equation 14
data      :math:`x_1`                            the same, section 3.2
v         :math:`(\alpha x_0-\sigma x_1)/r`      Salimans & Ho (2022), arXiv:2202.00512, appendix D
velocity  :math:`\dot\alpha x_1+\dot\sigma x_0`  Lipman et al. (2023), arXiv:2210.02747, equation 9
score     :math:`-x_0/\sigma`                    Song et al. (2021), arXiv:2011.13456, equation 7
========  =====================================  ===================================================

where :math:`r^2 = \alpha^2 + \sigma^2`, which is 1 on variance-preserving paths; on EDM's it makes
v the negative of that paper's preconditioned network.

At the ends the state is one of the two, and a prediction may leave the other undetermined: noise
and score, where there is no data in the state, say nothing of the data, and data, where there is no
noise in it, nothing of the noise. It is then taken as zero, the mean of normalised data and of the
noise. A coefficient that is infinite there (of the score at the data) counts as zero, too. So all
conversions are finite.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from weatherdiff.flow.path import GaussianPath, LinearPath, Scales, coefficients

__all__ = ["PARAMETERIZATIONS", "Prediction", "Predictor", "Velocity", "convert", "predictor"]

Velocity = Callable[[Tensor, Tensor], Tensor]
"""``velocity(x, tau)`` with ``x`` (batch, ...) and ``tau`` (batch,), returning the shape of x."""


class Prediction(NamedTuple):
    """Expectation of both ends of the path, given the state between them.

    Where the network learns it, also the ``fraction`` of the variance of a step, in the shape of
    the state; see :data:`weatherdiff.flow.VARIANCES`.
    """

    data: Tensor
    noise: Tensor
    fraction: Tensor | None = None


def _v(s: Scales) -> tuple[Tensor, Tensor]:
    norm = torch.rsqrt(s.alpha.square() + s.sigma.square())
    return -s.sigma * norm, s.alpha * norm


PARAMETERIZATIONS: dict[str, Callable[[Scales], tuple[Tensor, Tensor]]] = {
    "noise": lambda s: (torch.zeros_like(s.alpha), torch.ones_like(s.alpha)),
    "data": lambda s: (torch.ones_like(s.alpha), torch.zeros_like(s.alpha)),
    "v": _v,
    "velocity": lambda s: (s.alpha_dot, s.sigma_dot),
    "score": lambda s: (torch.zeros_like(s.alpha), -1 / s.sigma),
}
"""Name -> the coefficients (a, b) of data and noise."""


def fraction_of_variance(fixed: float | None, learned: Tensor | None) -> Tensor | float:
    """Give the fixed fraction of the variance of a step, or the one learned if there is none."""
    chosen = learned if fixed is None else fixed
    if chosen is None:
        raise ValueError("a learned variance is asked for, but the model predicts none")
    return chosen


def combine(
    ends: Prediction, tau: Float[Tensor, " batch"], *, path: GaussianPath, target: str
) -> Tensor:
    """Give a prediction from both ends of the path."""
    a, b = _joined(path, tau, ends.data, target)
    return a * ends.data + b * ends.noise


def separate(
    value: Tensor, x: Tensor, tau: Float[Tensor, " batch"], *, path: GaussianPath, source: str
) -> Prediction:
    """Give both ends of the path from a prediction; see the module for what the ends of time do."""
    bx, bp, ax, ap = _solved(path, tau, x, source)
    # A prediction of one end is that end.
    return Prediction(
        value if source == "data" else bx * x + bp * value,
        value if source == "noise" else ax * x + ap * value,
    )


@coefficients
def _joined(path: GaussianPath, tau: Tensor, target: str) -> tuple[Tensor, ...]:
    """Coefficients of data and noise in a prediction."""
    return tuple(_finite(c) for c in PARAMETERIZATIONS[target](path.scales(tau)))


@coefficients
def _solved(path: GaussianPath, tau: Tensor, source: str) -> tuple[Tensor, ...]:
    """Coefficients of state and prediction in the data, and of both in the noise."""
    scales = path.scales(tau)
    alpha, sigma, *_ = scales
    unit = -sigma if source == "score" else torch.ones_like(sigma)  # of noise, in a score
    a, b = PARAMETERIZATIONS["noise" if source == "score" else source](scales)
    determinant = alpha * b - sigma * a
    bx, bp, ax, ap = (_finite(c / determinant) for c in (b, -sigma, -a, alpha))
    bx, bp = torch.where(sigma == 0, 1 / alpha, bx), torch.where(sigma == 0, 0, bp)
    ax, ap = torch.where(alpha == 0, 1 / sigma, ax), torch.where(alpha == 0, 0, ap)
    if source == "data":
        bx, bp = torch.zeros_like(bx), unit
    elif source in ("noise", "score"):
        ax, ap = torch.zeros_like(ax), torch.ones_like(ap)
    return bx, unit * bp, ax, unit * ap


def convert(
    value: Float[Tensor, "batch ..."],
    x: Float[Tensor, "batch ..."],
    tau: Float[Tensor, " batch"],
    *,
    path: GaussianPath,
    source: str,
    target: str,
) -> Float[Tensor, "batch ..."]:
    """Convert one prediction to another.

    Parameters
    ----------
    value : (batch, ...)
        What ``source`` names.
    x : (batch, ...)
        The state where it was predicted.
    tau : (batch,)
    path : GaussianPath
    source, target : str
        Of :data:`PARAMETERIZATIONS`.

    Returns
    -------
    (batch, ...)
        What ``target`` names.

    Examples
    --------
    On the linear path, with velocity 2 at x = 1 half way, the data are expected at 1 + 2 / 2:

    >>> half, two = torch.tensor([0.5]), torch.tensor([2.0])
    >>> convert(two, two / 2, half, path=LinearPath(), source="velocity", target="data")
    tensor([2.])
    """
    if source == target:
        return value
    parts = _joined(path, tau, x, target)
    return weighed(value, x, tau, parts, path=path, source=source)


def weighed(
    value: Tensor, x: Tensor, tau: Tensor, parts: Sequence[Tensor], *, path: GaussianPath,
    source: str,
) -> Tensor:  # fmt: skip
    """Give so much of the data and so much of the noise, without forming either."""
    (a, b), (bx, bp, ax, ap) = parts, _solved(path, tau, x, source)
    return torch.addcmul((a * bx + b * ax) * x, a * bp + b * ap, value)


@dataclass(frozen=True)
class Predictor:
    """A network on a path: called, it gives the velocity; its methods give the rest.

    Parameters
    ----------
    network : callable
        ``network(x, tau)`` predicts what ``parameterization`` names, in the shape of x; or, stacked
        with it along a new first axis, also where the variance of a step is between its fixed
        choices, from -1, ``"fixed_small"``, to 1, ``"fixed_large"``.
    path : GaussianPath
    parameterization : str
        Of :data:`PARAMETERIZATIONS`.
    """

    network: Velocity
    path: GaussianPath = field(default_factory=LinearPath)
    parameterization: str = "velocity"

    def __call__(self, x: Tensor, tau: Tensor) -> Tensor:
        """Velocity at a state."""
        return self.to(x, tau, "velocity")

    def to(self, x: Tensor, tau: Tensor, target: str) -> Tensor:
        """Any prediction at a state."""
        value, _ = self.outputs(x, tau)
        return convert(value, x, tau, path=self.path, source=self.parameterization, target=target)

    def predict(self, x: Tensor, tau: Tensor) -> Prediction:
        """Both ends of the path, as expected at a state."""
        value, fraction = self.outputs(x, tau)
        ends = separate(value, x, tau, path=self.path, source=self.parameterization)
        return ends._replace(fraction=fraction)

    def outputs(self, x: Tensor, tau: Tensor) -> tuple[Tensor, Tensor | None]:
        """Give what the network predicts and, if it learns that, the fraction of the variance."""
        out = self.network(x, tau)
        return (out, None) if out.ndim == x.ndim else (out[0], (1 + out[1]) / 2)


def predictor(model: Velocity) -> Predictor:
    """Take a plain callable for the velocity on the linear path."""
    return model if isinstance(model, Predictor) else Predictor(model)


def _finite(coefficient: Tensor) -> Tensor:
    return torch.where(torch.isfinite(coefficient), coefficient, 0)
