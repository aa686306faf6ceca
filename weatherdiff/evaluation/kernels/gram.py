"""Products of the members of an ensemble and its observation, summed over cells; compiled by numba.

Nine vectors of sums stay in registers while a tile of cells goes by. BLAS takes half as long again:
it is slow for so few rows, which would have to be made in a pass of their own.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from weatherdiff.evaluation.kernels.lanes import LANES, splat, store, wide
from weatherdiff.evaluation.kernels.tiles import constant

__all__ = ["gram"]

# Cells worked on at a time, and values: they stay in the second cache.
_TILE = 256
_VALUES = 2**15
_PAD = 8  # between rows, that they do not crowd into few sets of the cache

_compiled = numba.njit(nogil=True, cache=True, error_model="numpy")


def gram(
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    root: npt.NDArray[np.float64],
    counted: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    """Gram matrices (case, M, M) of all members but the first and, last, the observation.

    Their differences to the first member are what is multiplied; the other arguments are those of
    :func:`weatherdiff.evaluation.distances.squared_distances`.
    """
    products = np.zeros((len(x), x.shape[1], x.shape[1]))
    if x.dtype != np.float32 or not x.dtype.isnative:
        x = x.astype(np.float64, copy=False)
    y = y.astype(np.float64, copy=False)
    x, y, root, counted = (np.ascontiguousarray(array) for array in (x, y, root, counted))
    _add(constant(x), constant(y), constant(root), constant(counted), products)
    return products


@_compiled
def _add(x, y, root, counted, products):  # type: ignore[no-untyped-def]
    cases, members, cells = x.shape
    size = -(-members // 3) * 3
    tile = max(1, min(_TILE, _VALUES // members) // LANES) * LANES
    rows = np.empty((size, tile + _PAD))
    for case in range(cases):
        sums = np.zeros((size, size, LANES))
        rows[:] = 0.0
        whole = counted[case].all()
        for start in range(0, cells, tile):
            here = case * members * cells + start
            if whole and start + tile <= cells:
                for member in range(1, members):
                    _fill(rows, member - 1, (x, here + member * cells), (x, here), (root, start))
                _fill(rows, members - 1, (y, case * cells + start), (x, here), (root, start))
            else:
                rows[:] = 0.0
                part = slice(start, start + tile)
                first, there = x[case, 0, part], counted[case, part]
                for member in range(1, members):
                    _fill_some(rows[member - 1], x[case, member, part], first, root[part], there)
                _fill_some(rows[members - 1], y[case, part], first, root[part], there)
            for i in range(0, size, 3):
                for j in range(0, i + 3, 3):
                    _add_nine(rows, i, j, sums)
        for i in range(members):
            for j in range(i + 1):
                products[case, i, j] = products[case, j, i] = sums[i, j].sum()


@_compiled
def _fill(rows, row, values, first, root):  # type: ignore[no-untyped-def]
    """Arrays come with the index that their tile begins at."""
    stride = rows.shape[1]
    for t in range(0, stride - _PAD, LANES):
        apart = wide(values[0], values[1] + t) - wide(first[0], first[1] + t)
        store(rows, row * stride + t, apart * wide(root[0], root[1] + t))


@_compiled
def _fill_some(row, values, first, root, counted):  # type: ignore[no-untyped-def]
    for c in range(values.size):
        if counted[c]:
            row[c] = (np.float64(values[c]) - np.float64(first[c])) * root[c]


@_compiled
def _add_nine(rows, i, j, sums):  # type: ignore[no-untyped-def]
    zero = splat(0.0, rows)
    a0 = a1 = a2 = b0 = b1 = b2 = c0 = c1 = c2 = zero
    stride = rows.shape[1]
    for t in range(0, stride - _PAD, LANES):
        left, right = i * stride + t, j * stride + t
        a = wide(rows, left)
        b = wide(rows, left + stride)
        c = wide(rows, left + 2 * stride)
        other = wide(rows, right)
        a0, b0, c0 = a0 + a * other, b0 + b * other, c0 + c * other
        other = wide(rows, right + stride)
        a1, b1, c1 = a1 + a * other, b1 + b * other, c1 + c * other
        other = wide(rows, right + 2 * stride)
        a2, b2, c2 = a2 + a * other, b2 + b * other, c2 + c * other
    down = len(sums) * LANES
    at = i * down + j * LANES
    _add_three(sums, at, a0, a1, a2)
    _add_three(sums, at + down, b0, b1, b2)
    _add_three(sums, at + 2 * down, c0, c1, c2)


@_compiled
def _add_three(sums, at, a, b, c):  # type: ignore[no-untyped-def]
    store(sums, at, wide(sums, at) + a)
    store(sums, at + LANES, wide(sums, at + LANES) + b)
    store(sums, at + 2 * LANES, wide(sums, at + 2 * LANES) + c)
