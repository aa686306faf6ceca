"""The sequence of batches of a mixture of data sets, as a pure function of (seed, index).

In exact order the windows of each set come permutation after permutation; in pool order they are
drawn from pools of blocks, each set from its own. Either way each set has its share of every
batch, up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache, partial
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from weatherdiff.data.loading.order import (
    ExactOrder,
    Lane,
    Pool,
    PoolOrder,
    keyed_permutation,
    require_shares,
)
from weatherdiff.errors import ConfigError

__all__ = ["MixtureOrder", "PoolMixtureOrder"]

Int = npt.NDArray[np.int64]

LARGEST = 10**6  # denominator of a share


@dataclass(frozen=True)
class _Mixture:
    """Several sets in given shares."""

    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    batch_size: int
    seed: int
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.weights) or min(self.weights, default=0) <= 0:
            raise ConfigError(
                f"A mixture needs a positive weight for each of its {len(self.sizes)} sets; found "
                f"{', '.join(map(str, self.weights)) or 'none'}."
            )
        if not all(self.sizes):
            raise ConfigError(
                f"Set number {self.sizes.index(0)} of the mixture has no window; check its period."
            )

    def state(self) -> dict[str, Any]:
        """Give what the sequence depends on in any order."""
        return {
            "windows": list(self.sizes),
            "weights": list(self.weights),
            "batch_size": self.batch_size,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class MixtureOrder(_Mixture):
    """Windows of several sets in given shares; a pure function of (seed, index).

    Of any number of windows from the first on, each set has its share, rounded up or down at most
    once for each set before it; each set's own windows come permutation after permutation. Within a
    batch their order is shuffled. As in :class:`~weatherdiff.data.loading.order.ExactOrder` the
    global batch does not depend on the number of ranks, of which each takes its slice.

    Parameters
    ----------
    sizes : tuple of int
        Windows of each set. Windows are numbered through all of them.
    weights : tuple of float
        Share of each set, up to a factor, whatever its size.
    batch_size, seed, rank, ranks
        As for :class:`~weatherdiff.data.loading.order.ExactOrder`.

    Raises
    ------
    ConfigError
        A weight is not positive, a set is empty, or the batch does not divide over the ranks.

    Examples
    --------
    >>> order = MixtureOrder(sizes=(100, 5), weights=(1.0, 3.0), batch_size=8, seed=0)
    >>> [int((order.rows(step) < 100).sum()) for step in range(4)]
    [2, 2, 2, 2]
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._orders  # which refuse a batch that does not divide

    def rows(self, step: int) -> Int:
        """Give the windows of this rank at a step; (share,)."""
        begin, size = step * self.batch_size, self.batch_size
        rows = np.empty(size, np.int64)
        rest = np.arange(begin, begin + size)  # numbers of the windows among those not yet given
        places = np.arange(size)
        offset = 0
        for order, share in zip(self._orders, _shares(self.weights), strict=True):
            mine, before = _taken(rest, share)
            rows[places[mine]] = offset + order.windows_at(before[mine])
            rest, places = (rest - before)[~mine], places[~mine]
            offset += order.windows
        slots = keyed_permutation(size, self.seed, step, 1)
        count = size // self.ranks
        return rows[slots][self.rank * count : (self.rank + 1) * count]

    def state(self) -> dict[str, Any]:
        """Give what the sequence depends on: not the ranks."""
        return {"order": "mixture", **super().state()}

    @cached_property
    def _orders(self) -> tuple[ExactOrder, ...]:
        return tuple(
            ExactOrder(size, self.batch_size, self.seed + number, self.rank, self.ranks)
            for number, size in enumerate(self.sizes)
        )


@dataclass(frozen=True)
class PoolMixtureOrder(_Mixture):
    """Windows of several sets in given shares, those of each set from pools of its own blocks.

    Each rank has its share of each set's blocks, as in
    :class:`~weatherdiff.data.loading.order.PoolOrder`, and draws as many windows of each set at
    each step as every other rank. Of any number of windows of a rank from the first on, each set
    has its share, as in :class:`MixtureOrder`. The order depends on the number of ranks.

    Parameters
    ----------
    sizes, weights, batch_size, seed, rank, ranks
        As for :class:`MixtureOrder`.
    block, blocks : tuple of int
        Windows of a block, and blocks of a pool, of each set.

    Raises
    ------
    ConfigError
        A weight is not positive, a set has fewer windows than there are ranks, or the batch does
        not divide over the ranks.

    Examples
    --------
    >>> order = PoolMixtureOrder((100, 5), (1.0, 3.0), 8, seed=0, block=(8, 2), blocks=(4, 4))
    >>> [int((order.rows(step) < 100).sum()) for step in range(4)]
    [2, 2, 2, 2]
    """

    block: tuple[int, ...] = field(kw_only=True)
    blocks: tuple[int, ...] = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.sizes) < self.ranks:
            raise ConfigError(
                f"Set number {self.sizes.index(min(self.sizes))} of the mixture has "
                f"{min(self.sizes)} windows for {self.ranks} ranks, which in pool order have "
                "windows of their own. Use the exact order."
            )
        require_shares(self.batch_size, self.ranks)

    @property
    def share(self) -> int:
        """Windows of a batch on each rank."""
        return self.batch_size // self.ranks

    @property
    def lanes(self) -> Sequence[Lane]:
        """Windows of each set, of this rank, numbered through all sets."""
        return [
            Lane(partial(_numbered_from, first, order), order.steps)
            for first, order in zip(self._first, self._orders, strict=True)
        ]

    def drawn(self, step: int) -> Sequence[int]:
        """Give how many windows of each set this rank has drawn before a step."""
        rest, found = step * self.share, []
        for share in _shares(self.weights):
            found.append(rest * share.numerator // share.denominator)
            rest -= found[-1]
        return found

    def slots(self, step: int) -> Int:
        """Give the place in the batch of each window drawn at a step, set by set; (share,)."""
        return keyed_permutation(self.share, self.seed, step, self.rank, 2)

    def rows(self, step: int) -> Int:
        """Give the windows of this rank at a step; (share,)."""
        drawn = [
            first + order.windows_at(np.arange(before, after))
            for first, order, before, after in zip(
                self._first, self._orders, self.drawn(step), self.drawn(step + 1), strict=True
            )
        ]
        rows = np.empty(self.share, np.int64)
        rows[self.slots(step)] = np.concatenate(drawn)
        return rows

    def state(self) -> dict[str, Any]:
        """Give what the sequence depends on, the ranks among it."""
        return {
            "order": "pool mixture",
            **super().state(),
            "block": list(self.block),
            "blocks": list(self.blocks),
            "ranks": self.ranks,
        }

    @cached_property
    def _first(self) -> tuple[int, ...]:
        return (0, *accumulate(self.sizes[:-1]))

    @cached_property
    def _orders(self) -> tuple[PoolOrder, ...]:
        """Of each set, one window of each rank at a time: how many a batch has may change."""
        return tuple(
            PoolOrder(size, self.ranks, self.seed + number, self.rank, self.ranks,
                      block=block, blocks=blocks)
            for number, (size, block, blocks) in enumerate(
                zip(self.sizes, self.block, self.blocks, strict=True)
            )
        )  # fmt: skip


def _numbered_from(first: int, order: PoolOrder, epoch: int) -> Sequence[Pool]:
    return [
        Pool([first + block for block in pool.blocks], first + pool.rows)
        for pool in order.pools(epoch)
    ]


@lru_cache(maxsize=8)
def _shares(weights: tuple[float, ...]) -> tuple[Fraction, ...]:
    """Of each set among it and those after it."""
    exact = [Fraction(w) for w in weights]
    shares = [w / sum(exact[i:]) for i, w in enumerate(exact)]
    return tuple(max(s.limit_denominator(LARGEST), Fraction(1, LARGEST)) for s in shares)


def _taken(numbers: Int, share: Fraction) -> tuple[npt.NDArray[np.bool_], Int]:
    """Which of the numbers are taken, and how many of those before each; evenly, in integers."""
    a, b = share.numerator, share.denominator
    before = (numbers // b) * a + (numbers % b) * a // b
    after = ((numbers + 1) // b) * a + ((numbers + 1) % b) * a // b
    return after > before, before
