r"""Gaussian probability paths between noise and data.

.. math:: x_\tau = \alpha_\tau x_1 + \sigma_\tau x_0, \qquad x_0 \sim N(0, I),\; x_1 \sim p_{data}

so that :math:`x_\tau` is noise at :math:`\tau = 0` and data at :math:`\tau = 1`. Conditioned on the
pair, it moves with velocity :math:`\dot\alpha_\tau x_1 + \dot\sigma_\tau x_0`; the expectation of
that velocity given :math:`x_\tau` alone transports the noise distribution to that of the data
(Lipman et al. 2023, theorem 2).
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

__all__ = ["LinearPath", "PathSample", "expand_as"]


class PathSample(NamedTuple):
    """A point on a path and the velocity with which it moves there."""

    x: Tensor
    velocity: Tensor


def expand_as(tau: Float[Tensor, " batch"], x: Float[Tensor, "batch ..."]) -> Tensor:
    """View one value per sample as ``(batch, 1, ..., 1)``, to broadcast against ``x``."""
    return tau.reshape(-1, *[1] * (x.ndim - 1))


class LinearPath:
    r"""The straight path of flow matching, :math:`\alpha_\tau = \tau, \sigma_\tau = 1 - \tau`.

    References
    ----------
    Lipman et al. (2023), Flow matching for generative modeling, arXiv:2210.02747, equation 22
    with :math:`\sigma_{min} = 0`; Liu et al. (2023), Rectified flow, arXiv:2209.03003, equation 1.
    """

    def sample(
        self,
        noise: Float[Tensor, "batch ..."],
        data: Float[Tensor, "batch ..."],
        tau: Float[Tensor, " batch"],
    ) -> PathSample:
        r"""Interpolate between noise and data.

        Parameters
        ----------
        noise, data : (batch, ...)
            The ends of the path, :math:`x_0` and :math:`x_1`.
        tau : (batch,)
            Flow time in [0, 1].

        Returns
        -------
        PathSample
            :math:`x_\tau = (1-\tau) x_0 + \tau x_1` and its velocity :math:`x_1 - x_0`.
        """
        t = expand_as(tau, data)
        return PathSample(x=(1 - t) * noise + t * data, velocity=data - noise)
