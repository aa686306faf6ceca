r"""The flow matching loss: regress the network on the velocity of the path.

.. math:: L = E_{\tau, x_0, x_1} \lVert v_\theta(x_\tau, \tau) - (x_1 - x_0) \rVert^2_w

Its minimiser is the conditional expectation of the velocity, which is all that sampling needs
(Lipman et al. 2023, arXiv:2210.02747, equation 9 and theorem 2). :func:`denoising_loss` is the same
for any path and prediction; its minimiser is the expectation of what is predicted.
"""

from jaxtyping import Float
from torch import Tensor

from weatherdiff.flow.parameterization import Prediction, Predictor, Velocity, combine
from weatherdiff.flow.path import LinearPath, expand_as

__all__ = ["denoising_loss", "flow_matching_loss", "weighted_mean"]


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
    >>> import torch
    >>> noise, data = torch.zeros(4, 3), torch.ones(4, 3)
    >>> float(flow_matching_loss(lambda x, tau: torch.ones_like(x), data, noise, torch.rand(4)))
    0.0
    """
    x, velocity = LinearPath().sample(noise, data, tau)
    return weighted_mean((network(x, tau) - velocity).square(), weights)


def denoising_loss(
    model: Predictor,
    data: Float[Tensor, "batch ..."],
    noise: Float[Tensor, "batch ..."],
    tau: Float[Tensor, " batch"],
    *,
    importance: Float[Tensor, " batch"] | None = None,
    weights: Tensor | None = None,
) -> Float[Tensor, ""]:
    r"""Weighted mean squared error of what the network predicts, whatever that is.

    Noise prediction is Ho et al. (2020), arXiv:2006.11239, equation 14; v is Salimans & Ho (2022),
    arXiv:2202.00512, section 4 ("SNR+1 weighting"); v on EDM's path is Karras et al. (2022),
    arXiv:2206.00364, equation 8.

    Parameters
    ----------
    model : Predictor
        The network, its path and what it predicts.
    data, noise, tau, weights
        As for :func:`flow_matching_loss`.
    importance : (batch,), optional
        A factor on the squared error of each sample; see :func:`weatherdiff.flow.importance`.

    Examples
    --------
    A network that gives its input predicts the noise where there is nothing else:

    >>> import torch
    >>> model = Predictor(lambda x, tau: x, parameterization="noise")
    >>> float(denoising_loss(model, torch.ones(4, 3), torch.randn(4, 3), torch.zeros(4)))
    0.0
    """
    x = model.path.sample(noise, data, tau).x
    wanted = combine(Prediction(data, noise), tau, path=model.path, target=model.parameterization)
    error = (model.outputs(x, tau)[0] - wanted).square()
    if importance is not None:
        error = error * expand_as(importance, error)
    return weighted_mean(error, weights)


def weighted_mean(error: Tensor, weights: Tensor | None) -> Float[Tensor, ""]:
    """Mean, weighted with what is broadcast to it."""
    if weights is None:
        return error.mean()
    weights = weights.expand_as(error)
    return (error * weights).sum() / weights.sum()
