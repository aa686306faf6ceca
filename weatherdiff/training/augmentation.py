r"""More training windows than there are: what little data needs.

**Rotation.** Two windows of the same time of day, :math:`a` and :math:`b`, anomalies of everything
from the first frame of the history to the last target, make a new one:

.. math:: \cos\theta\, a + \sin\theta\, b, \qquad \theta \sim U(0, 2\pi)

If the anomalies are a Gaussian process, independent copies of it rotated like this are copies of it
again, for any linear dynamics; the network sees initial states between, and opposite to, those that
happened. That weather is not Gaussian is the reason to rotate some samples and not all.

**Amplitude.** A window times :math:`e^{a g}`, :math:`g \sim N(0, 1)`: the same flow, calmer or
stormier. Linear dynamics allow any factor; a training period of some weeks holds few storms, and
without this an ensemble is too sure of itself in the first one that it meets.

**Blurred history.** Smooth noise on the history (not on the target, whose reference stays the true
last frame) keeps the network from knowing a date by its details.

**Dropped history.** Not for little data, but here for being a change of windows: with a history of
zeros and the change counted from climatology, the network learns the climate beside the forecast
(classifier-free guidance; Ho & Salimans 2022, arXiv:2207.12598, algorithm 1).
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional as F

from weatherdiff.data.forcings import DAY
from weatherdiff.data.loader import Batch, WindowDataset

__all__ = ["Augmentation"]

CELLS = 5  # grid points across which the noise on the history is smooth


class Augmentation:
    """Rotate some windows of a batch into others, scale them, and blur their history.

    Parameters
    ----------
    windows : WindowDataset
        Where partners come from.
    rotation : float
        Probability that a window is rotated with a partner.
    amplitude : float
        Standard deviation of the logarithm of the factor.
    history_noise : float
        Standard deviation of the noise on the history, in standard deviations of the anomalies.
    history_dropout : float
        Probability that a window loses its history.

    Raises
    ------
    ValueError
        A probability outside [0, 1] or a negative deviation.
    """

    def __init__(
        self,
        windows: WindowDataset,
        *,
        rotation: float = 0.0,
        amplitude: float = 0.0,
        history_noise: float = 0.0,
        history_dropout: float = 0.0,
    ) -> None:
        if not 0 <= rotation <= 1 or min(amplitude, history_noise) < 0:
            raise ValueError(
                f"rotation {rotation}, amplitude {amplitude} or history_noise {history_noise} "
                "is impossible: expected a probability and two standard deviations"
            )
        if not 0 <= history_dropout < 1:
            raise ValueError(f"history_dropout {history_dropout} is no probability below 1")
        self.windows, self.rotation, self.history_dropout = windows, rotation, history_dropout
        self.amplitude, self.history_noise = amplitude, history_noise
        self._by_time_of_day: dict[int, list[int]] = {}
        for row, time in enumerate(np.asarray(windows.windows.init_times) % DAY):
            self._by_time_of_day.setdefault(int(time), []).append(row)

    def __deepcopy__(self, memo: object) -> "Augmentation":
        """Give the same: the averaged copy of a module needs no second copy of the data."""
        return self

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """Augment a batch with randomness from ``generator``."""
        if self.rotation > 0:
            batch = self._rotate(batch, generator)
        if self.amplitude > 0:
            normal = torch.randn((len(batch.target), 1, 1, 1, 1), generator=generator)
            factor = (self.amplitude * normal).exp().to(batch.target)
            batch = batch._replace(history=batch.history * factor, target=batch.target * factor)
        last = batch.history[:, -1]
        if self.history_noise > 0:
            noise = smooth_noise(tuple(batch.history.shape), generator).to(batch.history)
            valid = batch.weights[:, :1] > 0
            batch = batch._replace(history=batch.history + self.history_noise * noise * valid)
        if self.history_dropout > 0:
            kept = torch.rand(len(last), generator=generator) >= self.history_dropout
            kept = kept.to(last.device)[:, None, None, None, None]
            std = torch.from_numpy(self.windows.store.normalizer.tendency_std).to(last)
            from_climate = batch.target + last[:, None] / std[..., None, None]
            batch = batch._replace(
                history=batch.history * kept,
                target=torch.where(kept | (batch.weights == 0), batch.target, from_climate),
            )
        return batch

    def _rotate(self, batch: Batch, generator: Generator) -> Batch:
        count = len(batch.init_times)
        chosen = torch.rand(count, generator=generator) < self.rotation
        angle = 2 * math.pi * torch.rand(count, generator=generator) * chosen
        draw = torch.rand(count, generator=generator).tolist()
        candidates = [self._by_time_of_day[int(t) % DAY] for t in batch.init_times]
        rows = [same[int(u * len(same))] for u, same in zip(draw, candidates, strict=True)]
        partner = self.windows.__getitems__(rows)
        angle = angle[:, None, None, None, None].to(batch.target)
        cos, sin = angle.cos(), angle.sin()

        def mix(ours: Tensor, theirs: Tensor) -> Tensor:
            return cos * ours + sin * theirs.to(ours)

        return batch._replace(
            history=mix(batch.history, partner.history),
            target=mix(batch.target, partner.target),
            # a cell counts where all that went into it has data
            weights=torch.where(sin == 0, batch.weights, torch.minimum(
                batch.weights, partner.weights.to(batch.weights))),
        )  # fmt: skip


def smooth_noise(
    shape: tuple[int, ...], generator: Generator
) -> Float[Tensor, "batch time channel lat lon"]:
    """Noise that is smooth over some grid points, independent over all other axes.

    Standard normal on a grid :data:`CELLS` times coarser, bilinear between.
    """
    *leading, lat, lon = shape
    coarse = (max(2, lat // CELLS), max(2, lon // CELLS))
    noise = torch.randn((math.prod(leading), 1, *coarse), generator=generator)
    fine = F.interpolate(noise, size=(lat, lon), mode="bilinear", align_corners=True)
    return fine.reshape(shape)
