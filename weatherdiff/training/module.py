"""Flow matching of a video denoiser as a Lightning module."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange, repeat
from torch import Tensor

from weatherdiff.data.loader import Batch
from weatherdiff.flow import (
    Heun,
    flow_matching_loss,
    integrate,
    keyed_generator,
    keyed_noise,
    logit_normal_tau,
)
from weatherdiff.models import Condition, VideoDenoiser

__all__ = ["FlowMatchingModule", "Optimization", "Score", "condition_of", "sample_members"]

Array = npt.NDArray[np.floating]
Score = Callable[[Array, Array, Array], float]
"""(forecast (number, ...), observation (...), weights (...)) -> a mean score, less is better."""


@dataclass(frozen=True)
class Optimization:
    """AdamW, linear warm-up and cosine decay.

    Parameters
    ----------
    steps : int
        Training steps in all.
    learning_rate : float
        Its peak.
    weight_decay : float
    warmup : int
        Steps of linear increase; then a cosine falls to zero at the last step.
    """

    steps: int
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 100

    def factor(self, step: int) -> float:
        """Learning rate at a step, relative to its peak."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class FlowMatchingModule(L.LightningModule):
    """Train a denoiser by flow matching; validate by the CRPS of small ensembles.

    All randomness of step ``n`` on rank ``r`` is a function of (seed, n, r), so a resumed run takes
    the same path as an uninterrupted one.

    Parameters
    ----------
    network : VideoDenoiser
    optimization : Optimization
    score : callable
        Scores an ensemble of normalised tendencies; see :data:`Score`.
    seed : int
    tau : (mean, std)
        Of the logit-normal distribution of flow times.
    members : int
        Size of the validation ensembles.
    sampler_steps : int
        Heun steps in validation.
    augment : callable, optional
        ``augment(batch, generator)`` changes training batches.
    """

    def __init__(
        self,
        network: VideoDenoiser,
        optimization: Optimization,
        score: Score,
        *,
        seed: int,
        tau: tuple[float, float] = (0.0, 1.0),
        members: int = 8,
        sampler_steps: int = 3,
        augment: Callable[[Batch, torch.Generator], Batch] | None = None,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimization, self.score, self.seed = optimization, score, seed
        self.tau, self.members, self.sampler_steps = tau, members, sampler_steps
        self.augment = augment

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the flow matching loss of one batch."""
        generator = keyed_generator(self.seed, self.global_step, self.global_rank)
        if self.augment is not None:
            batch = self.augment(batch, generator)
        tau = logit_normal_tau(
            len(batch.target), mean=self.tau[0], std=self.tau[1], generator=generator
        )
        noise = torch.randn(batch.target.shape, generator=generator).to(self.device)
        condition = condition_of(batch)
        with _random_state(generator):  # dropout
            loss = flow_matching_loss(
                lambda x, t: self.network(x, t, condition).float(),
                batch.target,
                noise * (batch.weights > 0),
                tau.to(self.device),
                weights=batch.weights,
            )
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the score of small ensembles, in normalised units, and the loss."""
        members = sample_members(
            self.network, batch, members=self.members, seed=self.seed, steps=self.sampler_steps
        )
        score = self.score(
            members.float().cpu().numpy(),
            batch.target.cpu().numpy(),
            batch.weights.cpu().numpy(),
        )
        self.log("val_crps", score, prog_bar=True, batch_size=len(batch.target), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW; no weight decay on biases and gains."""
        o = self.optimization
        matrices = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": o.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=o.learning_rate,
            betas=(0.9, 0.99),
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, o.factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def condition_of(batch: Batch) -> Condition:
    """Select what the network is given of a batch."""
    return Condition(batch.history, batch.forcings, batch.static)


def sample_members(
    network: VideoDenoiser,
    batch: Batch,
    *,
    members: int,
    seed: int,
    steps: int,
    noise_scale: Tensor | None = None,
) -> Tensor:
    """Draw an ensemble of normalised tendencies for each window of a batch.

    Parameters
    ----------
    network : VideoDenoiser
    batch : Batch
    members, seed, steps : int
        Size of the ensembles, seed of their noise, Heun steps.
    noise_scale : (frames, channel), optional
        Standard deviation of the initial noise; 1 by default.

    Returns
    -------
    (number, batch, frames, channel, lat, lon)
    """
    shape = tuple(batch.target.shape[1:])
    noise = torch.cat(
        [
            keyed_noise(shape, seed=seed, init_time=int(init), numbers=list(range(members)))
            for init in batch.init_times
        ]
    ).to(batch.target.device)
    if noise_scale is not None:
        noise = noise * noise_scale[:, :, None, None].to(noise)
    condition = Condition(
        *(repeat(x, "b ... -> (b m) ...", m=members) for x in condition_of(batch))
    )
    valid = repeat(batch.weights > 0, "b ... -> (b m) ...", m=members)
    with torch.inference_mode():
        sample = integrate(
            lambda x, t: network(x, t, condition).float() * valid,
            noise * valid,
            steps=steps,
            sampler=Heun(),
        )
    return rearrange(sample, "(b m) ... -> m b ...", m=members)


@contextmanager
def _random_state(generator: torch.Generator) -> Iterator[None]:
    """Let layers without a generator of their own (dropout) draw from this one, and undo that."""
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(generator.get_state())
        yield
