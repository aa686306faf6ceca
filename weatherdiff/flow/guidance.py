r"""Guidance at sampling time: towards observations, and between with and without the history.

Given observations :math:`y = A x_1 + \epsilon,\ \epsilon \sim N(0, R)` of what is being sampled,
the data expected at a state become

.. math:: \hat x_1 + \frac{\sigma^2}{\alpha} \nabla_x \log p(y|x), \qquad
          p(y|x) \approx N(y; A\hat x_1, A V A^T + R)

with an approximate covariance :math:`V` of the data given the state (Song et al. 2023,
Pseudoinverse-guided diffusion models for inverse problems, ICLR). Three choices of it:

- :class:`ExactCovariance`: :math:`V = \frac{\sigma^2}{\alpha}\frac{\partial\hat x_1}{\partial x}`,
  which is exact, Tweedie's formula of second order (Boys et al. 2024, arXiv:2310.06721). The
  correction is then the Kalman filter's update, and on a Gaussian field samples have the Kalman
  mean and covariance. One backward pass for each observation.
- :class:`IsotropicCovariance`: :math:`V = \frac{\sigma^2}{\alpha^2+\sigma^2} I`, that of unit
  white data, with the gradient through the network. One backward pass. Near the noise, where the
  gradient is multiplied by :math:`\sigma^2/\alpha`, a trained network's error in it would be too:
  the step is cut to the change of what is observed that V stands for.
- :class:`NoGradient`: the same V, and the network taken for constant but for what V says. No
  backward pass.

The observations may be of any number of values, sparse in the cells, frames and channels; the
samplers and the network are used as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from weatherdiff.flow.parameterization import Predictor, Velocity
from weatherdiff.flow.path import Scales, expand_as

__all__ = [
    "ExactCovariance",
    "IsotropicCovariance",
    "NoGradient",
    "Observations",
    "guided",
    "guided_by_history",
]


FIRST, LAST = 0.02, 1 - 1e-6  # the times between which a correction is made


@dataclass(frozen=True)
class Observations:
    """What was observed of the data.

    Parameters
    ----------
    operator : callable
        Linear, from data (batch, ...) to what is observed of them (batch, count).
    values : (count,) or (batch, count)
        Observed, in the data's normalised units.
    error : float or (count,)
        Standard deviation of the observations' errors, independent of each other.
    """

    operator: Callable[[Tensor], Tensor]
    values: Tensor
    error: float | Tensor


Denoise = Callable[[Tensor], Tensor]


@runtime_checkable
class Correction(Protocol):
    """How the expected data are corrected by observations."""

    def __call__(self, denoise: Denoise, x: Tensor, scales: Scales, given: Observations) -> Tensor:
        """Give the corrected data; ``denoise`` maps the state to the expected data."""


def guided(
    model: Predictor, observed: Observations, correction: Correction | None = None
) -> Predictor:
    """Sample from the posterior: a predictor to be integrated in the model's place.

    Where no noise or no data are left in the state, there is nothing to correct, or everything, and
    the formula is zero over zero; time is kept a millionth (of a sigma of up to 80) away from the
    data. Where there are hardly any data, the correction is that of a fiftieth inside: what the
    network knows there of the covariance is divided by the share of the data, and so are its
    errors. The first step of a sampler thus costs two evaluations more.

    Parameters
    ----------
    model : Predictor
        Trained without the observations; differentiable unless :class:`NoGradient` is used.
    observed : Observations
    correction : optional
        :class:`ExactCovariance` if absent.

    Returns
    -------
    Predictor
        On the same path, predicting data.
    """
    correct = ExactCovariance() if correction is None else correction

    def data(x: Tensor, tau: Tensor) -> Tensor:
        inside = tau.clamp(FIRST, LAST)

        def denoise(state: Tensor) -> Tensor:
            return model.predict(state, inside).data

        corrected = correct(denoise, x, model.path.scales(inside), observed)
        if float(tau.min()) >= FIRST:
            return corrected
        return model.predict(x, tau).data + (corrected - denoise(x))

    return Predictor(data, model.path, "data")


@dataclass(frozen=True)
class ExactCovariance:
    """The covariance that the network's own Jacobian tells."""

    def __call__(self, denoise: Denoise, x: Tensor, scales: Scales, given: Observations) -> Tensor:
        """Kalman update with V A^T from one backward pass an observation."""
        with torch.inference_mode(False), torch.enable_grad():
            state = x.clone().requires_grad_()
            data = denoise(state)
            seen = given.operator(data)
            columns = [
                torch.autograd.grad(seen[:, i].sum(), state, retain_graph=True)[0]
                for i in range(seen.shape[1])
            ]
        gain = torch.stack(columns, dim=1).flatten(2)  # (batch, count, values), rows of A J
        gain = expand_as(scales.sigma.square() / scales.alpha, gain) * gain
        cross = torch.stack([given.operator(row.reshape(x.shape)) for row in gain.unbind(1)], dim=2)
        moved = _update(gain, (cross + cross.mT) / 2, seen.detach(), given)
        return data.detach() + moved.view_as(x)


@dataclass(frozen=True)
class IsotropicCovariance:
    """The covariance of unit white data, and the gradient through the network."""

    def __call__(self, denoise: Denoise, x: Tensor, scales: Scales, given: Observations) -> Tensor:
        """One backward pass of the weighted innovation; the step is cut where V is exceeded."""
        with torch.inference_mode(False), torch.enable_grad():
            state = x.clone().requires_grad_()
            data = denoise(state)
            seen = given.operator(data)
            _, cross = _isotropic(x, scales, given)
            weighted = _solve(cross, seen.detach(), given)
            (gradient,) = torch.autograd.grad((seen * weighted).sum(), state)
        change = expand_as(scales.sigma.square() / scales.alpha, x) * gradient
        wanted = torch.einsum("bi,bij,bj->b", weighted, cross, weighted)
        made = (weighted * given.operator(change)).sum(1)
        share = torch.where(made > wanted, wanted / made, (made > 0).to(x))
        return data.detach() + expand_as(share, x) * change


@dataclass(frozen=True)
class NoGradient:
    """The covariance of unit white data, and nothing else."""

    def __call__(self, denoise: Denoise, x: Tensor, scales: Scales, given: Observations) -> Tensor:
        """Kalman update with that covariance."""
        data = denoise(x)
        rows, cross = _isotropic(x, scales, given)
        return data + _update(rows, cross, given.operator(data), given).view_as(x)


def guided_by_history(
    conditional: Predictor,
    unconditional: Velocity,
    *,
    weight: float,
    shift: Float[Tensor, "batch ..."] | None = None,
) -> Predictor:
    r"""Go between, or beyond, a prediction with the history and one without.

    .. math:: \hat x_1 = (1-w)\,\hat x_1^{without} + w\,\hat x_1^{with}

    With weight 1 it is the forecast, with 0 a sample of the climate, and beyond 1 the history is
    believed more than the network does (Ho & Salimans 2022, arXiv:2207.12598, equation 6, whose
    weight is ours minus 1). A variance that is learned is the one with the history.

    Parameters
    ----------
    conditional : Predictor
    unconditional : callable
        The same network without the history.
    weight : float
    shift : (batch, ...), optional
        What to add to the conditional data to have them in the unconditional network's terms, where
        the two are not the same: a change from the last frame, and one from climatology.
    """
    path, kind = conditional.path, conditional.parameterization
    without = Predictor(unconditional, path, kind)

    def data(x: Tensor, tau: Tensor) -> Tensor:
        moved = 0 if shift is None else shift
        there = x + expand_as(path.scales(tau).alpha, x) * moved
        free = without.predict(there, tau).data - moved
        forecast = conditional.predict(x, tau)
        between = free + weight * (forecast.data - free)
        if forecast.fraction is None:
            return between
        return torch.stack([between, 2 * forecast.fraction - 1])

    return Predictor(data, path, "data")


def _isotropic(x: Tensor, scales: Scales, given: Observations) -> tuple[Tensor, Tensor]:
    """Rows of A V (batch, count, values) and A V A^T, with V of unit white data."""
    noise = scales.sigma.square()
    variance = noise / (scales.alpha.square() + noise)
    with torch.inference_mode(False), torch.enable_grad():
        one = torch.zeros_like(x[:1]).clone().requires_grad_()
        seen = given.operator(one)[0]
        columns = [torch.autograd.grad(s, one, retain_graph=True)[0].flatten() for s in seen]
    rows, variance = torch.stack(columns), variance[:, None, None]
    return variance * rows, variance * (rows @ rows.T)


def _solve(cross: Tensor, seen: Tensor, given: Observations) -> Tensor:
    """Innovation over its covariance, (batch, count)."""
    error = torch.as_tensor(given.error, dtype=seen.dtype, device=seen.device)
    noise = torch.diag_embed(error.square().expand(seen.shape[1]))
    return torch.linalg.solve(cross + noise, given.values - seen)


def _update(rows: Tensor, cross: Tensor, seen: Tensor, given: Observations) -> Tensor:
    """Kalman's correction, (batch, values)."""
    return torch.einsum("bmv,bm->bv", rows, _solve(cross, seen, given))
