r"""The flow matching loss: regress the network on the velocity of the path.

.. math:: L = E_{\tau, x_0, x_1} \lVert v_\theta(x_\tau, \tau) - (x_1 - x_0) \rVert^2_w

Its minimiser is the conditional expectation of the velocity, which is all that sampling needs
(Lipman et al. 2023, arXiv:2210.02747, equation 9 and theorem 2).
"""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from weatherdiff.flow.path import LinearPath
from weatherdiff.flow.sampler import Velocity

__all__ = ["flow_matching_loss", "logit_normal_tau"]


def flow_matching_loss(
    network: Velocity,
    data: Float[Tensor, "batch ..."],
    noise: Float[Tensor, "batch ..."],
    tau: Float[Tensor, " batch"],
    *,
    weights: Tensor | None = None,
) -> Float[Tensor, ""]:
    r"""Weighted mean squared error of the predicted velocity on the linear path.

    Parameters
    ----------
    network : callable
        ``network(x, tau)`` predicts the velocity at ``x``, in the shape of ``x``.
    data : (batch, ...)
        Samples of the distribution to learn, normalised.
    noise : (batch, ...)
        Standard normal noise.
    tau : (batch,)
        Flow times in [0, 1].
    weights : broadcastable to ``data``, optional
        Cell areas, or 0 where there is no data. Normalised here, so that only ratios matter.

    Returns
    -------
    ()
        The loss; 2 for a network that predicts zero on normalised data.

    Examples
    --------
    >>> noise, data = torch.zeros(4, 3), torch.ones(4, 3)
    >>> float(flow_matching_loss(lambda x, tau: torch.ones_like(x), data, noise, torch.rand(4)))
    0.0
    """
    x, velocity = LinearPath().sample(noise, data, tau)
    error = (network(x, tau) - velocity).square()
    if weights is None:
        return error.mean()
    weights = weights.expand_as(error)
    return (error * weights).sum() / weights.sum()


def logit_normal_tau(
    batch: int, *, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Float[Tensor, " batch"]:
    r"""Flow times whose logit is normal: :math:`\tau = 1/(1+e^{-u}),\; u \sim N(m, s^2)`.

    The velocity is hardest to predict in the middle of the path, so that is where it is trained
    most. The normal quantiles are stratified over the batch (one in each of ``batch`` equal
    slices), which leaves each time's distribution as it is and lowers the variance of the loss.

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
    Esser et al. (2024), arXiv:2403.03206, section 3.1; stratification: Kingma et al. (2021),
    arXiv:2107.00630, appendix I.1.
    """
    slices = torch.randperm(batch, generator=generator)
    quantile = (slices + torch.rand(batch, generator=generator)) / batch
    normal = torch.special.ndtri(quantile.double().clamp(1e-9, 1 - 1e-9)).float()
    return torch.sigmoid(mean + std * normal)
