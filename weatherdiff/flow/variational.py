r"""The variational bound: what likelihood-based training of a diffusion minimises.

Along times :math:`0 = \tau_0 < \tau_1 < \dots < \tau_{K-1} < 1`, the data :math:`x_1` are coded in
steps from noise to data. With t the noisier and s the cleaner time of a step,

.. math:: -\log p(x_1) \le KL(q(x_{\tau_0}|x_1)\,|\,p(x_{\tau_0}))
    + \sum_{steps} E\,KL(q(x_s|x_t,x_1)\,|\,p(x_s|x_t)) - E\log p(x_1|x_{\tau_{K-1}})

(Ho et al. 2020, arXiv:2006.11239, equation 5), where with
:math:`\sigma^2_{t|s} = \sigma_t^2 - \alpha_t^2\sigma_s^2/\alpha_s^2`

.. math:: q(x_s|x_t,x_1) = N\Bigl(\frac{\alpha_t\sigma_s^2}{\alpha_s\sigma_t^2} x_t
    + \frac{\alpha_s\sigma_{t|s}^2}{\sigma_t^2} x_1,\;
    \tilde\beta = \frac{\sigma_{t|s}^2\sigma_s^2}{\sigma_t^2}\Bigr)

(Kingma et al. 2021, arXiv:2107.00630, equation 24) and the model puts its own expectation of
:math:`x_1` in its place. Everything is in bits per dimension of the continuous, normalised density,
which may be negative.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from weatherdiff.flow.loss import weighted_mean
from weatherdiff.flow.parameterization import Predictor
from weatherdiff.flow.path import Scales, expand_as

__all__ = ["Bound", "Variance", "variational_bound", "variational_loss"]

Variance = float | Callable[[Tensor, Tensor], Tensor]
r"""The fraction f of a step's log variance between two choices, :math:`\log v = f\log\beta +
(1-f)\log\tilde\beta` with :math:`\beta = \sigma_{t|s}^2` (Nichol & Dhariwal 2021, arXiv:2102.09672,
equation 15). 1 and 0 are the fixed ones of Ho et al. (2020), section 3.2: right for data that vary
as the noise does, and for data that do not vary. A callable ``(x, tau)`` is learned, in the shape
of x."""


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
    variance: Variance = 1.0,
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
    variance : float or callable
        See :data:`Variance`.
    weights : broadcastable to ``data``, optional
        0 where there is no data.

    References
    ----------
    Sohl-Dickstein et al. (2015), arXiv:1503.03585, equation 14; Ho et al. (2020), equation 8.
    """
    number = torch.ceil((1 - tau.double()) * steps).clamp(1, steps)  # steps from the data
    later, sooner = 1 - number / steps, 1 - (number - 1) / steps
    x = model.path.sample(noise, data, later.to(data)).x
    term = torch.where(
        expand_as(number, x) == 1,
        _reconstruction(model, data, x, later),
        _step(model, data, x, later, sooner.clamp(max=1 - 0.5 / steps), variance),
    )
    return weighted_mean(_prior(model, data) + steps * term, weights)


def variational_bound(
    model: Predictor,
    data: Float[Tensor, "batch ..."],
    *,
    steps: int | Sequence[float],
    noise: Callable[[Tensor], Tensor],
    variance: Variance = 1.0,
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

    def state(tau: Tensor) -> Tensor:
        return model.path.sample(noise(data), data, tau.to(data)).x

    terms = [
        weighted_mean(_step(model, data, state(t), t, s, variance), weights)
        for t, s in pairwise(times)
    ]
    last = _reconstruction(model, data, state(times[-1]), times[-1])
    return Bound(
        prior=weighted_mean(_prior(model, data), weights),
        steps=torch.stack(terms) if terms else data.new_zeros(0),
        reconstruction=weighted_mean(last, weights),
    )


def _prior(model: Predictor, data: Tensor) -> Tensor:
    """KL of the first state from the noise that sampling starts from."""
    first = _scales(model, data.new_zeros(len(data)).double(), data)
    return (first.alpha * data / first.sigma).square() / (2 * math.log(2))


def _step(
    model: Predictor, data: Tensor, x: Tensor, tau: Tensor, tau_next: Tensor, variance: Variance
) -> Tensor:
    """KL of one step, for each value."""
    t, s = _scales(model, tau, x), _scales(model, tau_next, x)
    between = t.sigma.square() - (t.alpha / s.alpha * s.sigma).square()
    least = between * (s.sigma / t.sigma).square()
    difference = s.alpha * between / t.sigma.square() * (data - _data(model, x, tau))
    fraction = variance(x, tau.to(x)) if callable(variance) else variance
    log_ratio = fraction * (between.log() - least.log())  # of the model's variance to the least
    excess = difference.square() / least
    return (log_ratio + (1 + excess) * torch.exp(-log_ratio) - 1) / (2 * math.log(2))


def _reconstruction(model: Predictor, data: Tensor, x: Tensor, tau: Tensor) -> Tensor:
    """Negative log density of the data given the last state, for each value."""
    last = _scales(model, tau, x)
    variance = (last.sigma / last.alpha).square()
    squares = (data - _data(model, x, tau)).square() / variance
    return (squares + torch.log(2 * math.pi * variance)) / (2 * math.log(2))


def _data(model: Predictor, x: Tensor, tau: Tensor) -> Tensor:
    return model.predict(x, tau.to(x)).data


def _scales(model: Predictor, tau: Tensor, x: Tensor) -> Scales:
    """In double precision, for the differences between neighbouring steps."""
    return Scales(*(expand_as(s, x).to(x) for s in model.path.scales(tau)))
