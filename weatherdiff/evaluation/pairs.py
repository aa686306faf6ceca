"""The compiled sum of squared differences between pairs: eight pairs at a time, a tile of cells.

Imported only where numba is.
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["add_squares"]

# Cells worked on at a time: the differences of 50 members are 100 kB.
_TILE = 256

_compiled = numba.njit(nogil=True, cache=True)
# Sums may be reordered, so that they vectorise; NaN and infinity keep their meaning.
_reordered = numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})


@_reordered
def _eight(rows, size, i, j, sums):  # type: ignore[no-untyped-def]
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = 0.0
    for c in range(size):
        a, b = rows[i, c], rows[i + 1, c]
        d, e = a - rows[j, c], b - rows[j, c]
        a0 += d * d
        b0 += e * e
        d, e = a - rows[j + 1, c], b - rows[j + 1, c]
        a1 += d * d
        b1 += e * e
        d, e = a - rows[j + 2, c], b - rows[j + 2, c]
        a2 += d * d
        b2 += e * e
        d, e = a - rows[j + 3, c], b - rows[j + 3, c]
        a3 += d * d
        b3 += e * e
    for k, (a, b) in enumerate(((a0, b0), (a1, b1), (a2, b2), (a3, b3))):
        sums[i, j + k] += a
        sums[i + 1, j + k] += b


@_reordered
def _one(rows, size, i, j, sums):  # type: ignore[no-untyped-def]
    total = 0.0
    for c in range(size):
        d = rows[i, c] - rows[j, c]
        total += d * d
    sums[i, j] += total


@_compiled
def _fill(row, values, first, root, counted):  # type: ignore[no-untyped-def]
    for c in range(values.size):
        apart = (np.float64(values[c]) - np.float64(first[c])) * root[c]
        row[c] = apart if counted[c] else 0.0


@_compiled
def add_squares(x, y, root, counted, total):  # type: ignore[no-untyped-def]
    """Add to ``total`` the squared distances; see :mod:`weatherdiff.evaluation.distances`."""
    cases, members, cells = x.shape
    rows = np.zeros((members + 2, _TILE))  # of the members, the observation, and a spare one
    sums = np.empty((members + 2, members + 2))
    for case in range(cases):
        sums[:] = 0.0
        for start in range(0, cells, _TILE):
            size = min(_TILE, cells - start)
            part = slice(start, start + size)
            first, there = x[case, 0, part], counted[case, part]
            for i in range(members):
                _fill(rows[i], x[case, i, part], first, root[part], there)
            _fill(rows[members], y[case, part], first, root[part], there)
            for i in range(0, members + 1, 2):
                for j in range(0, i // 4 * 4, 4):
                    _eight(rows, size, i, j, sums)
                for j in range(i // 4 * 4, i):
                    _one(rows, size, i, j, sums)
                    _one(rows, size, i + 1, j, sums)
                _one(rows, size, i + 1, i, sums)
        for i in range(members + 1):
            for j in range(i):
                total[case, i, j] += sums[i, j]
                total[case, j, i] += sums[i, j]
