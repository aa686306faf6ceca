r"""What all these losses have in common: a weight on each signal-to-noise ratio.

Whatever the network predicts, and at whatever times it is trained, its mean squared error is

.. math:: L = \frac12 \int w(\lambda)\, E\lVert \hat x_0 - x_0 \rVert^2 \, d\lambda

(Kingma & Gao 2023, arXiv:2303.00848, section 3.2): an error of the noise at each
:math:`\lambda = \log\alpha^2/\sigma^2`, with a weight that :func:`implied_weight` gives. With
:math:`w = 1` it is the variational bound (Kingma et al. 2021, arXiv:2107.00630, equation 17). Two
objectives of the same :math:`w` have the same minimum and differ in the variance of their gradient.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from weatherdiff.flow.parameterization import PARAMETERIZATIONS
from weatherdiff.flow.path import GaussianPath
from weatherdiff.flow.times import Times, normal_density

__all__ = ["WEIGHTINGS", "implied_weight", "importance"]

WEIGHTINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "bound": torch.ones_like,
    "sigmoid": lambda log_snr: torch.sigmoid(2 - log_snr),
    "flow_matching": lambda log_snr: torch.exp(-log_snr / 2),
    "noise_cosine": lambda log_snr: 1 / torch.cosh(log_snr / 2),
    "min_snr": lambda log_snr: (5 * torch.exp(-log_snr)).clamp(max=1) / torch.cosh(log_snr / 2),
    "edm": lambda log_snr: normal_density(log_snr, 2.4, 2.4) * (1 + torch.exp(-log_snr)),
}
"""Weights of the noise error as functions of the log SNR: Kingma & Gao (2023), table 1 and (for
``sigmoid``) section 5; ``min_snr`` is Hang et al. (2023), arXiv:2303.09556, with gamma = 5 on the
cosine path; ``edm`` for data of unit variance."""


def implied_weight(
    tau: Tensor, *, path: GaussianPath, parameterization: str, times: Times
) -> Tensor:
    r"""Give the weight :math:`w(\lambda)` that a plain mean squared error amounts to.

    The error of the prediction :math:`a x_1 + b x_0` is :math:`b - a\sigma/\alpha` times that of
    the noise, since both belong to the same state; and a density of times :math:`p(\tau)` is one of
    :math:`\lambda`. Hence :math:`w = 2 (b - a\sigma/\alpha)^2 p(\tau) / (d\lambda/d\tau)`.

    Parameters
    ----------
    tau : Tensor
        Times in the open unit interval.
    path : GaussianPath
    parameterization : str
        In which the error is taken.
    times : Times
        At which it is taken.

    Examples
    --------
    Flow matching at uniform times weights the noise by the square root of 1 / SNR:

    >>> from weatherdiff.flow import PATHS
    >>> tau, path = torch.tensor([0.2, 0.7]), PATHS["linear"]()
    >>> found = implied_weight(tau, path=path, parameterization="velocity", times=Times("uniform"))
    >>> torch.allclose(found, WEIGHTINGS["flow_matching"](path.log_snr(tau)))
    True
    """
    scales = path.scales(tau)
    a, b = PARAMETERIZATIONS[parameterization](scales)
    factor = b - a * scales.sigma / scales.alpha
    return 2 * factor.square() * times.density(tau, path) / path.log_snr_dot(tau)


def importance(
    tau: Tensor, *, path: GaussianPath, parameterization: str, times: Times, weighting: str
) -> Tensor:
    r"""Give the factor on a squared error that turns its implied weight into a named one.

    Parameters
    ----------
    tau, path, parameterization, times
        As for :func:`implied_weight`.
    weighting : str
        Of :data:`WEIGHTINGS`, or ``"plain"`` for a factor of 1.
    """
    if weighting == "plain":
        return torch.ones_like(tau)
    implied = implied_weight(tau, path=path, parameterization=parameterization, times=times)
    return WEIGHTINGS[weighting](path.log_snr(tau)) / implied
