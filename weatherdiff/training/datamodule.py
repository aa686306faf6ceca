"""Batches for Lightning, in an order that is a pure function of (seed, step)."""

import logging
from collections.abc import Callable, Iterator
from typing import Any, Generic, Literal, TypeVar

import lightning as L
import torch

from weatherdiff.data.loader import Batch, WindowDataset
from weatherdiff.data.loading.device import Transfer
from weatherdiff.data.loading.mixture import MixtureDataset, MixtureOrder, PoolMixtureOrder
from weatherdiff.data.loading.order import ExactOrder, ListedOrder, PoolOrder
from weatherdiff.data.loading.packed import PackedBatch, PackedWindows
from weatherdiff.data.loading.stream import WindowStream
from weatherdiff.data.storing.stored_array import UnknownLayoutError

__all__ = ["WindowDataModule"]

logger = logging.getLogger(__name__)

POOL_BYTES = 2**31  # of two pools: one is drawn from while the next is read


class WindowDataModule(L.LightningDataModule):
    """Training and validation windows, made ahead by threads.

    Its state, which Lightning puts into each checkpoint, is what the order of the batches depends
    on. A run that is resumed goes on at its step; in exact order on any number of ranks.

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
    order : {"exact", "pool"}
        Permutations of all windows, or pools of blocks
        (:mod:`weatherdiff.data.loading.order`), which decode each frame once. A
        training set that is in memory anyway is always in exact order; the sets of a
        :class:`~weatherdiff.data.loading.mixture.MixtureDataset` have pools of their own.
    threads : int
        That make batches ahead; 0 makes them when they are asked for. The batches are the same.
    dtype : torch.dtype, optional
        Of training batches on the device; see :class:`weatherdiff.data.loading.device.Transfer`.
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
        order: Literal["exact", "pool"] = "exact",
        threads: int = 2,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._transfer, self._transfer_validation = Transfer(dtype), Transfer()
        self.training, self.validation = training, validation
        self.batch_size, self.steps, self.seed = batch_size, steps, seed
        self.validation_every = validation_every
        self.kind, self.threads = order, threads

    def order(self) -> ExactOrder | MixtureOrder | PoolMixtureOrder | PoolOrder:
        """Give the order of the training windows on this rank.

        Raises
        ------
        ConfigError
            The batch does not divide over the ranks, or a mixture that is drawn from pools has a
            set of fewer windows than there are ranks.
        """
        rank = self.trainer.global_rank if self.trainer else 0
        ranks = self.trainer.world_size if self.trainer else 1
        if isinstance(self.training, MixtureDataset):
            options: dict[str, int] = {"rank": rank, "ranks": ranks}
            if self.kind == "pool" and not self.training.in_memory:
                options["pool_bytes"] = POOL_BYTES
                return self.training.pool_order(self.batch_size, self.seed, **options)
            return self.training.order(self.batch_size, self.seed, **options)
        if self.kind == "pool" and not self.training.in_memory:
            return PoolOrder.sized(
                self.training.windows.indices,
                self.batch_size,
                self.seed,
                frame_bytes=self.training.store.nbytes // self.training.store.shape[0],
                pool_bytes=POOL_BYTES,
                rank=rank,
                ranks=ranks,
            )
        return ExactOrder(len(self.training), self.batch_size, self.seed, rank, ranks)

    def train_dataloader(self) -> "_Batches[Batch] | _Batches[PackedBatch]":
        """Batches from the trainer's current step on."""
        order, packed = self.order(), self._packed()
        if packed is not None:
            unpacked_there = packed.stream(order, threads=self.threads, pinned=True)
            return _Batches(unpacked_there, self.steps, lambda: self._step)
        stream = self.training.stream(order, threads=self.threads, pinned=self._on_cuda)
        return _Batches(stream, self.steps, lambda: self._step)

    def _packed(self) -> PackedWindows | None:
        """Give windows that the device unpacks, where there is one and they are packed."""
        if not self._on_cuda or self.training.in_memory or type(self.training) is not WindowDataset:
            return None
        try:
            return PackedWindows(self.training)
        except UnknownLayoutError:
            return None

    def val_dataloader(self) -> "_Batches[Batch]":
        """Every n-th validation window in order, shared among the ranks.

        All ranks have as many, as they wait for each other: some may be there twice.
        """
        rows = list(range(0, len(self.validation), self.validation_every))
        if self.trainer is not None:
            rank, ranks = self.trainer.global_rank, self.trainer.world_size
            rows = [rows[i % len(rows)] for i in range(rank, -(-len(rows) // ranks) * ranks, ranks)]
        size = self.batch_size
        batches = tuple(tuple(rows[i : i + size]) for i in range(0, len(rows), size))
        stream = self.validation.stream(ListedOrder(batches), threads=self.threads)
        return _Batches(stream, len(batches))

    def state_dict(self) -> dict[str, Any]:
        """Give what the sequence of batches depends on, and how far it was followed."""
        return {"order": self.order().state(), "step": self._step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare the order with that of the run so far; the step is the trainer's own."""
        before, now = state_dict["order"], self.order().state()
        changed = [k for k in sorted({*before, *now}) if before.get(k) != now.get(k)]
        if changed:
            logger.warning(
                "From step %d on the windows come in another order than before: %s. Some may be "
                "seen twice, and others not, in this epoch.",
                state_dict["step"],
                ", ".join(f"{k} was {before.get(k)} and is {now.get(k)}" for k in changed),
            )

    def transfer_batch_to_device(
        self, batch: Batch | PackedBatch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Copy a batch to the device, unpack it there, and give that of training its type."""
        training = self.trainer is not None and self.trainer.training
        transfer = self._transfer if training else self._transfer_validation
        return transfer(batch, device)

    @property
    def _on_cuda(self) -> bool:
        strategy = getattr(self.trainer, "strategy", None)  # there is none outside of a run
        return strategy is not None and strategy.root_device.type == "cuda"

    @property
    def _step(self) -> int:
        return int(self.trainer.global_step) if self.trainer else 0


T = TypeVar("T", bound=Batch | PackedBatch)


class _Batches(Generic[T]):
    """What Lightning iterates over."""

    def __init__(
        self,
        stream: WindowStream[T],
        steps: int,
        first: Callable[[], int] = lambda: 0,
    ) -> None:
        self.stream, self.steps, self.first = stream, steps, first

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[T]:
        return self.stream.steps(self.first(), self.steps)
