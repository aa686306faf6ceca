"""Tiles of an ensemble that stay in the cache: the rows of their members, and how they are sorted.

Member ``m`` of a tile begins at ``m * STRIDE`` of a flat array. The stride is a tile and some, an
odd number of cache lines, so that the rows of many members do not crowd into few sets of the cache.
The row after the last member holds infinity: it stands for the rows that the sorting network has
and the ensemble does not.

numba's cache of what calls these functions does not see that this file has changed: after an edit,
delete ``__pycache__`` beside it.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from weatherdiff.evaluation.kernels.lanes import column, exchange
from weatherdiff.evaluation.kernels.sums import TILE

__all__ = ["BYTES", "STRIDE", "constant", "flat", "sort", "width_of"]

Array = npt.NDArray[Any]

STRIDE = TILE + 16
"""From one member to the next."""

BYTES = 32
"""Of a vector."""

_CACHE_BYTES = 24 * 1024  # of the tile, sorted at a time

_column10, _column12, _column14, _column16 = column
_sort8, _sort4, _merge421, _merge721, _merge172, _merge1 = exchange

_compiled = numba.njit(nogil=True, error_model="numpy")


def flat(forecast: Array) -> tuple[Array, int, int]:
    """Give the values in one contiguous array, its distance of two members, and their number."""
    members, size = forecast.shape
    stride = forecast.strides[0] // forecast.itemsize if members > 1 else size
    # Contiguous from the first value to the last, whatever lies between two members.
    values = np.lib.stride_tricks.as_strided(
        forecast[0], ((members - 1) * stride + size,), writeable=False
    )
    return values, stride, members


def constant(array: Array) -> Array:
    """View of an array that cannot be written: numba would compile twice for the two kinds."""
    view = array.view()
    view.flags.writeable = False
    return view


@_compiled
def width_of(tile, members):  # type: ignore[no-untyped-def]
    """Points sorted at a time: what the cache holds."""
    width = TILE
    while width > 16 and members * width * tile.itemsize > _CACHE_BYTES:
        width //= 2
    return width


@_compiled
def sort(tile, members, blocks, width):  # type: ignore[no-untyped-def]
    """Sort the rows of a tile, so many points at a time, by the blocks of a network."""
    lanes = BYTES // tile.itemsize
    if 8 < members <= 10:  # one member less: the row of infinity is the last
        for t in range(0, TILE, lanes):
            _column10(tile, t, STRIDE)
        return
    if 10 < members <= 12:
        for t in range(0, TILE, lanes):
            _column12(tile, t, STRIDE)
        return
    if 12 < members <= 14:
        for t in range(0, TILE, lanes):
            _column14(tile, t, STRIDE)
        return
    if 14 < members <= 16:
        for t in range(0, TILE, lanes):
            _column16(tile, t, STRIDE)
        return
    for left in range(0, TILE, width):
        for block in blocks:
            kind = block[0]
            a, b = block[1] * STRIDE + left, block[2] * STRIDE + left
            c, d = block[3] * STRIDE + left, block[4] * STRIDE + left
            e, f = block[5] * STRIDE + left, block[6] * STRIDE + left
            g, h = block[7] * STRIDE + left, block[8] * STRIDE + left
            if kind == 0:
                for t in range(0, width, lanes):
                    _sort8(tile, (a + t, b + t, c + t, d + t, e + t, f + t, g + t, h + t))
            elif kind == 1:
                for t in range(0, width, lanes):
                    _sort4(tile, (a + t, b + t, c + t, d + t, e + t, f + t, g + t, h + t))
            elif kind == 2:
                for t in range(0, width, lanes):
                    _merge421(tile, (a + t, b + t, c + t, d + t, e + t, f + t, g + t, h + t))
            elif kind == 3:
                for t in range(0, width, lanes):
                    _merge721(tile, (a + t, b + t, c + t, d + t, e + t, f + t, g + t, h + t))
            elif kind == 4:
                for t in range(0, width, lanes):
                    _merge172(tile, (a + t, b + t, c + t, d + t, e + t, f + t, g + t, h + t))
            else:
                for t in range(0, width, lanes):
                    _merge1(tile, (a + t, b + t, c + t, d + t, e + t, f + t, g + t, h + t))
