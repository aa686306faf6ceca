"""Batches for Lightning, in an order that is a pure function of (seed, step)."""

from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Sampler

from weatherdiff.data.loader import Batch, WindowDataset
from weatherdiff.flow.noise import keyed_generator

__all__ = ["StepBatchSampler", "WindowDataModule"]


class StepBatchSampler(Sampler[list[int]]):
    """The batches of steps ``first .. steps``: permutation after permutation of all windows.

    Batch ``n`` of a run is the same whether the run started at 0 or was resumed, and each rank
    takes its slice of it, so the global batch does not depend on the number of ranks.

    Parameters
    ----------
    windows : int
        Number of windows.
    batch_size : int
        Windows of the global batch, over all ranks.
    steps : int
        Steps in all.
    seed : int
        Of the order.
    first : callable
        Gives the step to start from when iteration starts.
    rank, ranks : int
        This process and how many there are.
    """

    def __init__(
        self,
        windows: int,
        batch_size: int,
        steps: int,
        *,
        seed: int,
        first: Callable[[], int] = lambda: 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if batch_size % ranks:
            raise ValueError(f"a batch of {batch_size} does not divide over {ranks} ranks")
        self.windows, self.batch_size, self.steps = windows, batch_size, steps
        self.seed, self.first, self.rank, self.ranks = seed, first, rank, ranks

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        order: tuple[int, list[int]] | None = None
        share = self.batch_size // self.ranks
        for step in range(self.first(), self.steps):
            begin = step * self.batch_size + self.rank * share
            batch = []
            for position in range(begin, begin + share):
                epoch, row = divmod(position, self.windows)
                if order is None or order[0] != epoch:
                    generator = keyed_generator(self.seed, epoch)
                    order = epoch, torch.randperm(self.windows, generator=generator).tolist()
                batch.append(order[1][row])
            yield batch


class WindowDataModule(L.LightningDataModule):
    """Training and validation windows.

    Parameters
    ----------
    training, validation : WindowDataset
    batch_size : int
        Windows of the global batch.
    steps : int
        Training steps in all.
    seed : int
        Of the order of the training windows.
    validation_every : int
        Use each n-th validation window: neighbours in time tell almost the same.
    """

    def __init__(
        self,
        training: WindowDataset,
        validation: WindowDataset,
        *,
        batch_size: int,
        steps: int,
        seed: int,
        validation_every: int = 1,
    ) -> None:
        super().__init__()
        self.training, self.validation = training, validation
        self.batch_size, self.steps, self.seed = batch_size, steps, seed
        self.validation_every = validation_every

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches from the trainer's current step on."""
        trainer = self.trainer
        sampler = StepBatchSampler(
            len(self.training),
            self.batch_size,
            self.steps,
            seed=self.seed,
            first=lambda: trainer.global_step if trainer else 0,
            rank=trainer.global_rank if trainer else 0,
            ranks=trainer.world_size if trainer else 1,
        )
        return DataLoader(self.training, batch_sampler=sampler, collate_fn=_as_is)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Every n-th validation window in order, shared among the ranks."""
        trainer = self.trainer
        rows = list(range(0, len(self.validation), self.validation_every))
        if trainer is not None:
            rows = rows[trainer.global_rank :: trainer.world_size]
        batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        return DataLoader(self.validation, batch_sampler=batches, collate_fn=_as_is)


def _as_is(batch: Any) -> Any:
    return batch
