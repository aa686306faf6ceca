"""A sorting network of exchanges, cut into blocks of eight rows that fit the registers.

Batcher's bitonic sorter (1968, doi:10.1145/1468075.1468121), in the form where each exchange leaves
the smaller value in the lower row: runs of eight are sorted, then runs are merged, first by
exchanges of row i with row i XOR (2p - 1), then with i XOR p/2, p/4, ..., 1. Any three of these
layers in turn connect rows in closed blocks of eight, so that a block's values are loaded once for
12 exchanges. The odd-even merge has fewer exchanges, but twice the loads and stores.

numba's cache of what is made of this does not see that this file has changed: after an edit, delete
``__pycache__`` beside it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["COLUMNS", "EXCHANGES", "network"]

# The exchanges within a block, by kind: eight values sorted (the least number of exchanges there
# is), and the layers of three masks, in bits of the position within the block.
_SORT = (
    *((0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7)),
    *((0, 1), (2, 3), (4, 5), (6, 7), (2, 4), (3, 5), (1, 4), (3, 6), (1, 2), (3, 4), (5, 6)),
)
_SORT4 = ((0, 2), (1, 3), (0, 1), (2, 3), (1, 2))  # where there are no more than four rows
_LAYERS = ((4, 2, 1), (7, 2, 1), (1, 7, 2), (1,))
EXCHANGES = (
    _SORT,
    _SORT4,
    *(
        tuple((i, i ^ mask) for mask in layers for i in range(8) if i < i ^ mask)
        for layers in _LAYERS
    ),
)


def _odd_even(size: int) -> tuple[tuple[int, int], ...]:
    """List the exchanges of Batcher's odd-even merge sort, for up to sixteen rows."""
    return tuple(
        (i, i + step)
        for run in (1, 2, 4, 8)
        for step in (run >> shift for shift in range(run.bit_length()))
        for first in range(step % run, 16 - step, 2 * step)
        for i in range(first, first + step)
        if i + step < size and i // (2 * run) == (i + step) // (2 * run)
    )


COLUMNS = {size: _odd_even(size) for size in (10, 12, 14, 16)}
"""Exchanges that sort so many rows, all at once in the registers: faster than blocks."""


@lru_cache(maxsize=64)
def network(members: int) -> npt.NDArray[np.intp]:
    """List the blocks that sort some rows.

    Parameters
    ----------
    members : int
        Number of rows, at least 1.

    Returns
    -------
    (block, 9)
        Kind, an index into :data:`EXCHANGES`, and the block's rows. Rows beyond the members are
        ``members``, one row that holds infinity.

    Examples
    --------
    >>> rows = np.append(np.random.default_rng(1).permutation(13), 99)
    >>> for kind, *block in network(13):
    ...     for low, high in EXCHANGES[kind]:
    ...         low, high = block[low], block[high]
    ...         rows[low], rows[high] = min(rows[low], rows[high]), max(rows[low], rows[high])
    >>> rows.tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 99]
    """
    size = 1 << max(3, (members - 1).bit_length())
    blocks = [
        (0 if first + 4 < members else 1, *range(first, first + 8)) for first in range(0, size, 8)
    ]
    masks = []
    run = 8
    while run < size:
        masks.append(2 * run - 1)
        step = run // 2
        while step:
            masks.append(step)
            step //= 2
        run *= 2
    for start in range(0, len(masks), 3):
        blocks += _blocks(masks[start : start + 3], size)
    kept = [block for block in blocks if sum(row < members for row in block[1:]) > 1]
    blocks_of = np.array(kept, np.intp).reshape(-1, 9)
    blocks_of[:, 1:] = np.minimum(blocks_of[:, 1:], members)
    return blocks_of


def _blocks(masks: list[int], size: int) -> list[tuple[int, ...]]:
    """Find the closed blocks of up to three layers."""
    if masks == [1]:
        return [(2 + _LAYERS.index((1,)), *range(first, first + 8)) for first in range(0, size, 8)]
    # Reduce the masks to a basis; its leading bits number the rows of a block in rising order.
    basis: list[int] = []
    for mask in masks:
        for vector in basis:
            mask = min(mask, mask ^ vector)
        basis.append(mask)
    pivots = sorted((1 << (vector.bit_length() - 1) for vector in basis), reverse=True)
    span = [0]
    for mask in masks:
        span += [mask ^ vector for vector in span]
    local = tuple(
        sum(bit for bit, pivot in zip((4, 2, 1), pivots, strict=True) if mask & pivot)
        for mask in masks
    )
    kind = 2 + _LAYERS.index(local)
    firsts = [row for row in range(size) if not any(row & pivot for pivot in pivots)]
    return [(kind, *sorted(first ^ vector for vector in span)) for first in firsts]
