"""Training of a video denoiser as a Lightning module."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange, repeat
from torch import Tensor

from weatherdiff.data.loader import Batch
from weatherdiff.flow import NoiseStream, Objective, keyed_generator, keyed_noise
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
    """Train a denoiser, by flow matching unless asked otherwise; validate ensembles by their CRPS.

    All randomness of step ``n`` is a function of (seed, n), so a resumed run takes the same path as
    an uninterrupted one. Flow times and noise are those of the global batch, of which each rank
    takes its slice: so many ranks take the path of one. (Dropout and augmentation are each rank's
    own.)

    Parameters
    ----------
    network : VideoDenoiser
    optimization : Optimization
    score : callable
        Scores an ensemble of normalised tendencies; see :data:`Score`.
    seed : int
    objective : Objective, optional
        What is minimised and sampled; flow matching by default.
    members : int
        Size of the validation ensembles.
    sampler_steps : int, optional
        In validation; by default half of the objective's own, and at least 3.
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
        objective: Objective | None = None,
        members: int = 8,
        sampler_steps: int | None = None,
        augment: Callable[[Batch, torch.Generator], Batch] | None = None,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimization, self.score, self.seed = optimization, score, seed
        self.objective = objective or Objective()
        self.members = members
        self.sampler_steps = sampler_steps or max(3, self.objective.schedule.steps // 2)
        self.augment = augment

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the objective's loss of one batch."""
        rank, ranks = self.global_rank, _ranks()
        generator = keyed_generator(self.seed, self.global_step, rank)
        if self.augment is not None:
            batch = self.augment(batch, generator)
        share = len(batch.target)
        mine = slice(rank * share, (rank + 1) * share)
        shared = generator
        if ranks > 1:  # not the numbers that a rank has augmented with
            shared = keyed_generator(self.seed, self.global_step, -1 if self.augment else 0)
        tau = self.objective.draw_times(share * ranks, shared)[mine]
        white = torch.randn((share * ranks, *batch.target.shape[1:]), generator=shared)[mine]
        noise = self.objective.colour(white).to(self.device)
        condition = condition_of(batch)
        with _random_state(generator):  # dropout
            loss = self.objective.training_loss(
                lambda x, t: self.network(x, t, condition).float(),
                batch.target,
                noise * (batch.weights > 0),
                tau.to(self.device),
                weights=batch.weights,
            )
        if ranks > 1:
            loss = loss * relative_weight(batch.weights, ranks)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the score of small ensembles, in normalised units, and the loss."""
        members = sample_members(
            self.network,
            batch,
            members=self.members,
            seed=self.seed,
            steps=self.sampler_steps,
            objective=self.objective,
        )
        score = self.score(
            members.float().cpu().numpy(),
            batch.target.cpu().numpy(),
            batch.weights.cpu().numpy(),
        )
        size = len(batch.target)
        # fit() writes it to the log, before the checkpoint
        self.log("val_crps", score, batch_size=size, sync_dist=True, logger=False, prog_bar=True)

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


def _ranks() -> int:
    parallel = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if parallel else 1


def relative_weight(weights: Tensor, ranks: int) -> Tensor:
    """Weight of this rank's windows over the mean of all ranks'.

    The loss is a mean over cells with data, of which the ranks may have unequally many; the mean of
    their losses is that of the global batch if each counts with its share.
    """
    own = weights.sum(dtype=torch.float64)
    total = own.clone()
    torch.distributed.all_reduce(total)
    return (ranks * own / total).to(weights.dtype)


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
    objective: Objective | None = None,
) -> Tensor:
    """Draw an ensemble of normalised tendencies for each window of a batch.

    Parameters
    ----------
    network : VideoDenoiser
    batch : Batch
    members, seed, steps : int
        Size of the ensembles, seed of their noise, steps of the objective's own sampler.
    noise_scale : (frames, channel), optional
        Standard deviation of the initial noise; 1 by default.
    objective : Objective, optional
        Flow matching by default.

    Returns
    -------
    (number, batch, frames, channel, lat, lon)
    """
    objective = objective or Objective()
    shape, numbers = tuple(batch.target.shape[1:]), list(range(members))
    inits = [int(init) for init in batch.init_times]
    noise = objective.colour(
        torch.cat([keyed_noise(shape, seed=seed, init_time=t, numbers=numbers) for t in inits])
    ).to(batch.target.device)
    stream = NoiseStream(
        seed=seed,
        init_time=[t for t in inits for _ in numbers],
        numbers=numbers * len(inits),
    )
    if noise_scale is not None:
        noise = noise * noise_scale[:, :, None, None].to(noise)
    condition = Condition(
        *(repeat(x, "b ... -> (b m) ...", m=members) for x in condition_of(batch))
    )
    valid = repeat(batch.weights > 0, "b ... -> (b m) ...", m=members)
    with torch.inference_mode():
        sample = objective.sample(
            objective.predictor(lambda x, t: network(x, t, condition).float() * valid),
            noise * valid,
            schedule=replace(objective.schedule, steps=steps),
            fresh=lambda x: objective.colour(stream(x)) * valid,
        )
    return rearrange(sample, "(b m) ... -> m b ...", m=members)


@contextmanager
def _random_state(generator: torch.Generator) -> Iterator[None]:
    """Let layers without a generator of their own (dropout) draw from this one, and undo that."""
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(generator.get_state())
        yield
