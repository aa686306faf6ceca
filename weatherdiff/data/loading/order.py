"""The sequence of batches: a pure function of (seed, epoch, index).

Nothing here reads data or keeps state: any batch of any epoch can be asked for, so that a run that
is resumed, or that prefetches with other threads, sees what it would have seen.

**Exact**: each epoch is one permutation of all windows. Batches are cut from permutation after
permutation; each rank takes its slice of a batch, so that the global batch, and what a run can be
resumed as, do not depend on the number of ranks.

**Pool**: neighbouring windows share frames, which an exact order decodes again and again. Here an
epoch is cut into blocks of neighbouring windows, the blocks are shuffled, so many of them are a
pool, and the pool's windows are shuffled: each frame is decoded once a pool, and a batch holds
windows of many blocks. Each rank has blocks of its own and all have the same number of steps; the
order depends on the number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from weatherdiff.errors import ConfigError

__all__ = [
    "ExactOrder",
    "Lane",
    "ListedOrder",
    "Order",
    "Pool",
    "PoolOrder",
    "Pooled",
    "keyed_permutation",
    "require_shares",
]

Int = npt.NDArray[np.int64]

BLOCKS = 16
LONGEST = 64  # windows of a block; longer ones save little and mix less


class Order(Protocol):
    """Which windows this rank is given at each step."""

    def rows(self, step: int) -> Int:
        """Give the windows of this rank at a step; (share,)."""

    def state(self) -> dict[str, Any]:
        """Give what the sequence depends on, in plain types."""


@dataclass(frozen=True)
class ExactOrder:
    """Permutation after permutation of all windows.

    Parameters
    ----------
    windows : int
        How many there are.
    batch_size : int
        Windows of the global batch, over all ranks.
    seed : int
    rank, ranks : int
        This process and how many there are.

    Raises
    ------
    ConfigError
        The batch does not divide over the ranks.

    Examples
    --------
    >>> order = ExactOrder(windows=6, batch_size=4, seed=0)
    >>> np.sort(np.concatenate([order.rows(0), order.rows(1)[:2]]))
    array([0, 1, 2, 3, 4, 5])
    >>> halves = [ExactOrder(6, 4, 0, rank=r, ranks=2).rows(7) for r in (0, 1)]
    >>> bool((np.concatenate(halves) == order.rows(7)).all())
    True
    """

    windows: int
    batch_size: int
    seed: int
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        require_shares(self.batch_size, self.ranks)

    def rows(self, step: int) -> Int:
        """Give the windows of this rank at a step; (share,)."""
        share = self.batch_size // self.ranks
        begin = step * self.batch_size + self.rank * share
        return self.windows_at(np.arange(begin, begin + share))

    def windows_at(self, positions: Int) -> Int:
        """Give the windows at places of the whole sequence, over all ranks; (n,)."""
        epochs, places = np.divmod(positions, self.windows)
        rows = np.empty(len(positions), np.int64)
        for epoch in np.unique(epochs):
            inside = epochs == epoch
            rows[inside] = _permutation(self.windows, self.seed, int(epoch))[places[inside]]
        return rows

    def state(self) -> dict[str, Any]:
        """Give what the sequence depends on: not the ranks."""
        return {
            "order": "exact",
            "windows": self.windows,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class ListedOrder:
    """Batches as they are listed, for validation."""

    batches: tuple[tuple[int, ...], ...]

    def rows(self, step: int) -> Int:
        """Give the windows at a step; (batch,)."""
        return np.array(self.batches[step], np.int64)

    def state(self) -> dict[str, Any]:
        """Give what the sequence depends on, in plain types."""
        return {"order": "listed", "batches": [list(batch) for batch in self.batches]}


class Pool(NamedTuple):
    """Windows that are drawn from the same blocks.

    Attributes
    ----------
    blocks : list of (n,)
        Neighbouring windows, block by block.
    rows : (window,)
        The windows of all blocks in the order in which they are drawn.
    """

    blocks: list[Int]
    rows: Int


class Lane(NamedTuple):
    """A sequence of windows that are drawn from pools.

    Attributes
    ----------
    pools : callable
        From an epoch to its pools, in the order in which they are drawn from.
    length : int
        Windows of an epoch.
    """

    pools: Callable[[int], Sequence[Pool]]
    length: int


@runtime_checkable
class Pooled(Order, Protocol):
    """An order whose windows are drawn from pools, in one lane or several."""

    @property
    def lanes(self) -> Sequence[Lane]:
        """Sequences of windows, of this rank."""

    def drawn(self, step: int) -> Sequence[int]:
        """Give how many windows of each lane were drawn before a step."""

    def slots(self, step: int) -> Int:
        """Give the place in the batch of each window drawn at a step, lane by lane; (share,)."""


@dataclass(frozen=True)
class PoolOrder:
    """Shuffled blocks of neighbouring windows, so many in a pool, and a shuffle within it.

    Each epoch cuts its blocks at other places. Each window comes once an epoch, but for the last
    ones of the shuffle that fill no batch.

    Parameters
    ----------
    windows, batch_size, seed, rank, ranks
        As for :class:`ExactOrder`.
    block : int
        Windows of a block.
    blocks : int
        Of a pool.

    Raises
    ------
    ConfigError
        The batch does not divide over the ranks, or there are fewer windows than a batch has.

    Examples
    --------
    >>> order = PoolOrder(windows=100, batch_size=10, seed=0, block=8, blocks=4)
    >>> epoch = np.concatenate([order.rows(step) for step in range(order.steps)])
    >>> order.steps, bool((np.sort(epoch) == np.arange(100)).all())
    (10, True)
    """

    windows: int
    batch_size: int
    seed: int
    rank: int = 0
    ranks: int = 1
    block: int = field(default=LONGEST, kw_only=True)
    blocks: int = field(default=BLOCKS, kw_only=True)

    def __post_init__(self) -> None:
        require_shares(self.batch_size, self.ranks)
        if self.windows < self.batch_size:
            raise ConfigError(
                f"A pool order needs at least one batch of windows an epoch; there are "
                f"{self.windows} for batches of {self.batch_size}. Use the exact order."
            )
        if min(self.block, self.blocks) < 1:
            raise ConfigError(f"block {self.block} and blocks {self.blocks} must be at least 1.")

    @classmethod
    def sized(
        cls,
        indices: Int,
        batch_size: int,
        seed: int,
        *,
        frame_bytes: int,
        pool_bytes: int,
        rank: int = 0,
        ranks: int = 1,
    ) -> PoolOrder:
        """Choose blocks for a pool of so many bytes.

        Parameters
        ----------
        indices : (window, frames)
            Positions of the frames on the time axis, windows ascending in time.
        frame_bytes : int
            Of one decoded frame.
        pool_bytes : int
            Of two pools: while one is drawn from, the next is decoded.
        """
        reach = int(np.median(indices[:, -1] - indices[:, 0])) if len(indices) else 0
        frames = max(2, pool_bytes // (2 * frame_bytes))
        # A block of w windows decodes w + reach frames; shorter ones than this waste too much.
        longest = max(LONGEST, 3 * reach) + reach
        length = int(np.clip(frames // BLOCKS, min(frames, 4 * reach + 1), longest))
        return cls(
            len(indices),
            batch_size,
            seed,
            rank,
            ranks,
            block=max(1, length - reach),
            blocks=max(1, min(BLOCKS, frames // length)),
        )

    @property
    def steps(self) -> int:
        """Of an epoch, on every rank."""
        return self.windows // self.batch_size

    def rows(self, step: int) -> Int:
        """Give the windows of this rank at a step; (share,)."""
        epoch, index = divmod(step, self.steps)
        return _drawn(self, epoch)[index * self.share : (index + 1) * self.share]

    def windows_at(self, positions: Int) -> Int:
        """Give the windows at places of this rank's sequence; (n,)."""
        epochs, places = np.divmod(positions, self.steps * self.share)
        rows = np.empty(len(positions), np.int64)
        for epoch in np.unique(epochs):
            inside = epochs == epoch
            rows[inside] = _drawn(self, int(epoch))[places[inside]]
        return rows

    def pools(self, epoch: int) -> Sequence[Pool]:
        """Give this rank's pools of an epoch, in the order in which they are drawn from."""
        return _pools(self, epoch)

    @property
    def share(self) -> int:
        """Windows of a batch on each rank."""
        return self.batch_size // self.ranks

    @property
    def lanes(self) -> Sequence[Lane]:
        """The one lane of this rank."""
        return (Lane(self.pools, self.steps * self.share),)

    def drawn(self, step: int) -> Sequence[int]:
        """Give how many windows were drawn before a step."""
        return (step * self.share,)

    def slots(self, step: int) -> Int:
        """Give the place in the batch of each window drawn at a step: as they come."""
        return np.arange(self.share)

    def state(self) -> dict[str, Any]:
        """Give what the sequence depends on, the ranks among it."""
        return {
            "order": "pool",
            "windows": self.windows,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "block": self.block,
            "blocks": self.blocks,
            "ranks": self.ranks,
        }


@lru_cache(maxsize=8)  # two epochs of each of a few lanes
def _pools(order: PoolOrder, epoch: int) -> Sequence[Pool]:
    rng = np.random.default_rng(_sequence(order.seed, epoch, order.ranks))
    first = int(rng.integers(1, order.block + 1))
    cuts = np.arange(first, order.windows, order.block)
    blocks = np.split(np.arange(order.windows), cuts)
    blocks = [blocks[i] for i in rng.permutation(len(blocks))]
    # Ranks cut the shuffled windows where their share ends, through a block if need be.
    length = order.steps * order.share
    mine = list(_between(blocks, order.rank * length, (order.rank + 1) * length))
    count = -(-len(mine) // order.blocks)
    pools: list[Pool] = []
    for part in np.array_split(np.arange(len(mine)), count):
        members = [mine[i] for i in part]
        # of this rank alone, so that no rank's draw depends on another's pools
        draw = np.random.default_rng(_sequence(order.seed, epoch, order.rank, len(pools)))
        pools.append(Pool(members, draw.permutation(np.concatenate(members))))
    return tuple(pools)


@lru_cache(maxsize=8)  # two epochs of each of a few lanes
def _drawn(order: PoolOrder, epoch: int) -> Int:
    return np.concatenate([pool.rows for pool in _pools(order, epoch)])


def _between(blocks: list[Int], start: int, stop: int) -> list[Int]:
    """Cut the blocks to the windows number ``start`` to ``stop`` of them all."""
    found, begin = [], 0
    for block in blocks:
        part = block[max(0, start - begin) : max(0, stop - begin)]
        if len(part):
            found.append(part)
        begin += len(block)
    return found


def keyed_permutation(count: int, *key: int) -> Int:
    """Shuffle ``count`` numbers by a key, the seed and the epoch say."""
    generator = torch.Generator().manual_seed(int(_sequence(*key).generate_state(1)[0]))
    order: Int = torch.randperm(count, generator=generator).numpy()
    return order


_permutation = lru_cache(maxsize=16)(keyed_permutation)  # of epochs: asked for at each step


def _sequence(*key: int) -> np.random.SeedSequence:
    """Hash of a key, as :func:`weatherdiff.flow.keyed_generator` makes it."""
    words = [word for k in key for word in (k % 2**32, (k >> 32) % 2**32)]
    return np.random.SeedSequence([len(key), *words])


def require_shares(batch_size: int, ranks: int) -> None:
    """Refuse a batch that does not divide over the ranks.

    Raises
    ------
    ConfigError
    """
    if batch_size % ranks:
        raise ConfigError(
            f"A batch of {batch_size} does not divide over {ranks} ranks; choose a multiple."
        )
