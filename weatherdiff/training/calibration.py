"""Calibration of the spread on the validation period.

A network trained on little data is surer of itself on the training period than it may be on any
other. The cure that keeps members independent of each other, and so each member the same whatever
the ensemble's size, is to start it from wider (or narrower) noise: the flow carries a change of
the initial spread on to the forecast's.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from weatherdiff.data.loader import Batch
from weatherdiff.flow import Objective
from weatherdiff.models import VideoDenoiser
from weatherdiff.training.module import sample_members

__all__ = ["calibrate_noise"]

LIMITS = (0.5, 2.0)


def calibrate_noise(
    network: VideoDenoiser,
    batches: Iterable[Batch],
    *,
    members: int,
    seed: int,
    steps: int,
    rounds: int = 3,
    objective: Objective | None = None,
) -> npt.NDArray[np.float32]:
    """Find the noise scale with which spread matches error, for each lead and channel.

    Each round divides the scale by the spread-skill ratio that the last one left.

    Parameters
    ----------
    network : VideoDenoiser
    batches : iterable of Batch
        Of the validation period.
    members : int
        Size of the ensembles.
    seed : int
    steps : int
        Of the sampler.
    rounds : int
        Corrections.
    objective : Objective, optional
        Flow matching by default.

    Returns
    -------
    (frames, channel)
        Standard deviation of the initial noise, between 0.5 and 2.
    """
    batches = list(batches)
    scale = torch.ones(batches[0].target.shape[1:3])
    for round_ in range(rounds):
        variance, error = np.zeros(scale.shape), np.zeros(scale.shape)
        for batch in batches:
            ensemble = sample_members(
                network,
                batch,
                members=members,
                seed=seed + round_,
                steps=steps,
                noise_scale=scale,
                objective=objective,
            )
            target, weights = batch.target.numpy(), batch.weights.numpy()
            sample = ensemble.double().numpy()
            squares = (sample.mean(axis=0) - target) ** 2
            variance += (sample.var(axis=0, ddof=1) * weights).sum(axis=(0, 3, 4))
            error += (squares * weights).sum(axis=(0, 3, 4))
        ratio = np.sqrt((members + 1) / members * variance / error)
        scale = (scale / torch.from_numpy(ratio).float()).clamp(*LIMITS)
    return scale.numpy()
