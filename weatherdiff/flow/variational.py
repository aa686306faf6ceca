r"""The variational bound: what likelihood-based training of a diffusion minimises.

Along times :math:`0 = \tau_0 < \tau_1 < \dots < \tau_{K-1} < 1`, the data :math:`x_1` are coded in
steps from noise to data. With t the noisier and s the cleaner time of a step,

.. math:: -\log p(x_1) \le KL(q(x_{\tau_0}|x_1)\,|\,p(x_{\tau_0}))
    + \sum_{steps} E\,KL(q(x_s|x_t,x_1)\,|\,p(x_s|x_t)) - E\log p(x_1|x_{\tau_{K-1}})

(Ho et al. 2020, arXiv:2006.11239, equation 5), where with
:math:`\beta = \sigma_t^2 - \alpha_t^2\sigma_s^2/\alpha_s^2`

.. math:: q(x_s|x_t,x_1) = N\Bigl(\frac{\alpha_t\sigma_s^2}{\alpha_s\sigma_t^2} x_t
    + \frac{\alpha_s\beta}{\sigma_t^2} x_1,\;
    \tilde\beta = \frac{\sigma_s^2}{\sigma_t^2}\beta\Bigr)

(Kingma et al. 2021, arXiv:2107.00630, equations 23 to 25). The model puts its own expectation of
:math:`x_1` in its place, and a variance :math:`\tilde\beta\,(\sigma_t^2/\sigma_s^2)^f`, which goes
from :math:`\tilde\beta` at f = 0 to :math:`\beta` at f = 1. A step's KL is then, for each value,

.. math:: \tfrac12\bigl[\ell + e^{-\ell} - 1 + e^{-\ell}
    (\mathrm{SNR}_s - \mathrm{SNR}_t)(x_1 - \hat x_1)^2\bigr], \qquad
    \ell = f\log\frac{\sigma_t^2}{\sigma_s^2}, \quad \mathrm{SNR} = \alpha^2/\sigma^2

(the same, equation 13, if f = 0). The last state is told from the data by a variance of
:math:`\sigma^2/\alpha^2`. Everything is in bits per dimension of the continuous, normalised
density, which may be negative.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from weatherdiff.flow.loss import weighted_mean
from weatherdiff.flow.parameterization import Prediction, Predictor, fraction_of_variance
from weatherdiff.flow.path import GaussianPath, expand_as, steps_from_data

__all__ = ["VARIANCES", "Bound", "variational_bound", "variational_loss"]

VARIANCES: dict[str, float | None] = {"fixed_small": 0.0, "fixed_large": 1.0, "learned": None}
r"""Variances of the model's steps by their name in a configuration: the fraction f between the
logarithms of :math:`\tilde\beta` and :math:`\beta`. The fixed ones are those of Ho et al. (2020),
section 3.2: right for data that do not vary, and for data that vary as the noise does. With None
the network predicts f for each value (Nichol & Dhariwal 2021, arXiv:2102.09672, equation 15)."""


class Bound(NamedTuple):
    """Terms of the variational bound, in bits per dimension, mean over the batch.

    Attributes
    ----------
    prior : ()
        What noise knows of the data.
    steps : (steps,)
        Each step, from the noise to the last one before the data.
    reconstruction : ()
        The data, given the last state.
    """

    prior: Tensor
    steps: Tensor
    reconstruction: Tensor

    @property
    def total(self) -> Tensor:
        """The bound itself."""
        return self.prior + self.steps.sum() + self.reconstruction


def variational_loss(
    model: Predictor,
    data: Float[Tensor, "batch ..."],
    noise: Float[Tensor, "batch ..."],
    tau: Float[Tensor, " batch"],
    *,
    steps: int,
    variance: float | None = 1.0,
    weights: Tensor | None = None,
) -> Float[Tensor, ""]:
    """One step of the bound for each sample, so that its expectation over uniform tau is the bound.

    Parameters
    ----------
    model : Predictor
    data, noise
        As for :func:`weatherdiff.flow.flow_matching_loss`.
    tau : (batch,)
        Each is moved to the next noisier of ``steps`` equidistant times.
    steps : int
        Of the chain; the term is multiplied by it.
    variance : float, optional
        A fraction, see :data:`VARIANCES`; None for what the network predicts.
    weights : broadcastable to ``data``, optional
        0 where there is no data.

    References
    ----------
    Sohl-Dickstein et al. (2015), arXiv:1503.03585, section 2.4; Ho et al. (2020), equation 8.
    """
    number = steps_from_data(tau, steps)
    later, sooner = 1 - number / steps, 1 - (number - 1) / steps
    predicted = _predict(model, data, noise, later)
    term = torch.where(
        expand_as(number, data) == 1,
        _reconstruction(model.path, data, predicted, later),
        _step(model.path, data, predicted, later, sooner.clamp(max=1 - 0.5 / steps), variance),
    )
    return weighted_mean(_prior(model.path, data) + steps * term, weights)


def variational_bound(
    model: Predictor,
    data: Float[Tensor, "batch ..."],
    *,
    steps: int | Sequence[float],
    noise: Callable[[Tensor], Tensor],
    variance: float | None = 1.0,
    weights: Tensor | None = None,
) -> Bound:
    """Every term of the bound, each with noise of its own.

    Parameters
    ----------
    model, data, variance, weights
        As for :func:`variational_loss`.
    steps : int or sequence of float
        Number of equidistant steps, the last of which ends at the data; or the times at which they
        start, from 0.
    noise : callable
        ``noise(data)`` draws standard normal noise in the shape of ``data``.

    Returns
    -------
    Bound
    """
    grid = [k / steps for k in range(steps)] if isinstance(steps, int) else list(steps)
    times = [torch.full((len(data),), t, dtype=torch.float64, device=data.device) for t in grid]

    def drawn(tau: Tensor) -> Prediction:
        return _predict(model, data, noise(data), tau)

    terms = [
        weighted_mean(_step(model.path, data, drawn(t), t, s, variance), weights)
        for t, s in pairwise(times)
    ]
    last = _reconstruction(model.path, data, drawn(times[-1]), times[-1])
    return Bound(
        prior=weighted_mean(_prior(model.path, data), weights),
        steps=torch.stack(terms) if terms else data.new_zeros(0),
        reconstruction=weighted_mean(last, weights),
    )


# Times are in double precision, for the differences between neighbouring steps.


def _predict(model: Predictor, data: Tensor, noise: Tensor, tau: Tensor) -> Prediction:
    """Draw a state between data and noise, and predict both from it."""
    tau = tau.to(data)
    return model.predict(model.path.sample(noise, data, tau).x, tau)


def _prior(path: GaussianPath, data: Tensor) -> Tensor:
    """KL of the first state from the noise that sampling starts from."""
    first = path.scales(data.new_zeros(1).double())
    return ((first.alpha / first.sigma).to(data) * data).square() / (2 * math.log(2))


def _step(
    path: GaussianPath, data: Tensor, predicted: Prediction, tau: Tensor, tau_next: Tensor,
    variance: float | None,
) -> Tensor:  # fmt: skip
    """KL of one step, for each value."""
    t, s = path.scales(tau), path.scales(tau_next)
    gain = (s.alpha / s.sigma).square() - (t.alpha / t.sigma).square()  # of the SNR
    widest = 2 * torch.log(t.sigma / s.sigma)  # log ratio of beta to the least variance
    gain, widest = (expand_as(c, data).to(data) for c in (gain, widest))
    log_ratio = fraction_of_variance(variance, predicted.fraction) * widest
    excess = gain * (data - predicted.data).square()
    kl = log_ratio + torch.expm1(-log_ratio) + excess * torch.exp(-log_ratio)
    return kl / (2 * math.log(2))


def _reconstruction(path: GaussianPath, data: Tensor, predicted: Prediction, tau: Tensor) -> Tensor:
    """Negative log density of the data given the last state, for each value."""
    last = path.scales(tau)
    variance = expand_as((last.sigma / last.alpha).square(), data).to(data)
    squares = (data - predicted.data).square() / variance
    return (squares + torch.log(2 * math.pi * variance)) / (2 * math.log(2))
