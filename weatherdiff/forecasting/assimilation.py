r"""Observations in physical units, as what the sampler of a block is guided by.

A cell's value is an affine function of the normalised change :math:`y` that is sampled,

.. math:: T(x) = c(t) + s\,(a_0 + d_k\,y)

with the climatology :math:`c`, the standard deviations :math:`s` and :math:`d_k`, and the last
frame's anomaly :math:`a_0` (:mod:`weatherdiff.data.normalization`), which from the second block of
a forecast on is each member's own. So an observation that is linear in the fields is linear in
:math:`y`, with a member's own value to compare with.

The transform :math:`T` of a bounded variable (precipitation, humidity, radiation) is not linear.
Of these a point, or a mean, is observed in transformed space: the value is transformed, its error
propagated by the mean slope of the transform within one error of it
(:meth:`weatherdiff.data.storing.transforms.BoundedTransform.deviation`), and neighbouring cells are
averaged after the transform. That is exact for a point at the centre of a cell as far as the error
is small, and never out of bounds. Sums and differences of bounded variables have no such reading
and are refused.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from weatherdiff.data.normalization import Normalizer
from weatherdiff.errors import ConfigError, InputError
from weatherdiff.flow import Objective, Observations
from weatherdiff.flow.guidance import (
    Correction,
    ExactCovariance,
    IsotropicCovariance,
    NoGradient,
)
from weatherdiff.forecasting.footprints import Footprints
from weatherdiff.forecasting.sampling import Sampling

__all__ = ["CORRECTIONS", "Assimilation", "correction", "require_posterior"]

CORRECTIONS: dict[str, Callable[[], Correction]] = {
    "exact": ExactCovariance,
    "isotropic": IsotropicCovariance,
    "no_gradient": NoGradient,
}
"""Corrections by their name in a configuration."""

MOST_EXACT = 16
"""Observations of a block up to which ``auto`` takes the exact covariance, whose every evaluation
costs a backward pass for each of them."""
MOST_NUMBERS = 2**24
"""Numbers of a member's Jacobian up to which it does so (64 MB)."""


def correction(method: str, *, observations: int, size: int) -> Correction:
    """Choose how the network's expectation is corrected.

    Parameters
    ----------
    method : str
        Of :data:`CORRECTIONS`, or ``"auto"``: the exact covariance for few observations, else the
        isotropic one.
    observations : int
        In the block.
    size : int
        Numbers in a member's block of frames.
    """
    if method == "auto":
        few = observations <= MOST_EXACT and observations * size <= MOST_NUMBERS
        method = "exact" if few else "isotropic"
    return CORRECTIONS[method]()


def require_posterior(objective: Objective, sampling: Sampling) -> None:
    """Refuse what observations cannot be combined with.

    Raises
    ------
    ConfigError
        The model's noise is not white, which the corrections take it for; or the history is
        believed in part, for which there is no distribution whose posterior could be sampled.
    """
    if objective.noise is not None:
        raise ConfigError(
            "Guidance towards observations needs a model with white noise; this one was trained "
            "with isotropic noise (objective.noise)."
        )
    if sampling.guidance not in (0, 1):
        raise ConfigError(
            f"guidance is {sampling.guidance:g}: with observations it can be 1 (the forecast's "
            "posterior) or 0 (the climate's); between and beyond there is no distribution to "
            "condition."
        )


class Assimilation:
    """Observations of one block of frames, on the normalised changes that are sampled.

    Parameters
    ----------
    seen : Footprints
        All at times of the block.
    times : (frames,)
        Of the block, seconds.
    normalizer : Normalizer

    Raises
    ------
    InputError
        A sum or difference of a bounded variable, or values out of its bounds.
    """

    def __init__(
        self, seen: Footprints, times: npt.NDArray[np.int64], normalizer: Normalizer
    ) -> None:
        channels, cells = normalizer.climatology.shape[1], normalizer.climatology[0, 0].size
        frame = np.searchsorted(times, seen.time)
        self._seen, self._std = seen, normalizer.std[seen.channel]
        self._climate = np.einsum(
            "eb,be->e",
            normalizer.harmonics.evaluate(times)[frame],
            normalizer.climatology.reshape(-1, channels, cells)[:, seen.channel, seen.cell],
        )
        value, error = _transformed(seen, normalizer)
        gain = seen.weight * self._std * normalizer.tendency_std[frame, seen.channel]
        # Each observation in units of its own sensitivity, as pascals and kilograms are solved for
        # together.
        self._unit = np.sqrt(np.bincount(seen.row, gain**2, len(seen)))
        self._value, self.error = value, error / self._unit
        # (observation, width): the entries of each, filled up with cells of no weight.
        order = np.argsort(seen.row, kind="stable")
        counts = np.bincount(seen.row, minlength=len(seen))
        column = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (len(seen), counts.max())
        self._index, self._weight = np.zeros(shape, np.int64), np.zeros(shape)
        place = seen.row[order], column
        self._index[place] = ((frame * channels + seen.channel) * cells + seen.cell)[order]
        self._weight[place] = (gain / self._unit[seen.row])[order]

    def __len__(self) -> int:
        return len(self._value)

    def observed(self, last: npt.NDArray[np.float32], device: torch.device) -> Observations:
        """Give what the flow is guided by.

        Parameters
        ----------
        last : (number, channel, latitude, longitude)
            Normalised anomaly of each member's last frame.
        device : torch.device
        """
        index = torch.from_numpy(self._index).to(device)
        weight = torch.from_numpy(self._weight.astype(np.float32)).to(device)

        def operator(change: torch.Tensor) -> torch.Tensor:
            return (change.flatten(1)[:, index] * weight).sum(-1)

        return Observations(
            operator=operator,
            values=torch.from_numpy(self._departure(last)).to(device),
            error=torch.from_numpy(self.error.astype(np.float32)).to(device),
        )

    def _departure(self, last: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Observed minus what no change would give, (number, observation)."""
        seen = self._seen
        anomaly = last.reshape(*last.shape[:2], -1)[:, seen.channel, seen.cell]
        terms = seen.weight * (self._climate + self._std * anomaly)
        unchanged = np.stack([np.bincount(seen.row, row, len(seen)) for row in terms])
        return ((self._value - unchanged) / self._unit).astype(np.float32)


def _transformed(
    seen: Footprints, normalizer: Normalizer
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Values and errors as the transforms of their variables make them."""
    value, error = seen.value.copy(), seen.error.copy()
    bounded = np.array([not t.is_identity for t in normalizer.transforms])
    total = np.bincount(seen.row, seen.weight, len(seen))
    for row in np.unique(seen.row[bounded[seen.channel]]):
        channels = np.unique(seen.channel[seen.row == row])
        if len(channels) > 1 or not np.isclose(total[row], 1, rtol=1e-6):
            raise InputError(
                f"Observation {row} is a sum or difference of a bounded variable, of which only "
                "points and means (weights of one variable that add up to 1) can be observed."
            )
        transform = normalizer.transforms[channels[0]]
        error[row] = transform.deviation(value[row], error[row])
        value[row] = transform.forward(value[row : row + 1])[0]
    return value, error
