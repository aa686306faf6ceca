"""The CRPS alone, compiled by numba; see :func:`weatherdiff.evaluation.kernels.ensemble_crps`."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from weatherdiff.evaluation.kernels.lanes import (
    LANES,
    column_of_differences,
    load,
    magnitude,
    splat,
    store,
    wide,
)
from weatherdiff.evaluation.kernels.network import network
from weatherdiff.evaluation.kernels.sums import TILE
from weatherdiff.evaluation.kernels.tiles import BYTES, STRIDE, constant, flat, sort, width_of

__all__ = ["crps"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

_compiled = numba.njit(nogil=True, cache=True, error_model="numpy")
_inlined = numba.njit(nogil=True, error_model="numpy")

_column10, _column12, _column14, _column16 = column_of_differences


def crps(forecast: Array, observation: Array, factor: float, out: FloatArray) -> None:
    """Write the CRPS of each point; see :func:`ensemble_crps` for the arguments."""
    members, size = forecast.shape
    tile = np.empty((members + 1) * STRIDE, forecast.dtype)
    blocks = network(members)
    whole = size - size % TILE
    if whole:
        truth = constant(observation[:whole])
        _crps_tiles(*flat(forecast), truth, blocks, factor, tile, out[:whole])
    if whole < size:
        lacking = (0, TILE - size % TILE)
        rest, result = np.pad(forecast[:, whole:], ((0, 0), lacking)), np.empty(TILE)
        truth = constant(np.pad(observation[whole:], lacking))
        _crps_tiles(*flat(rest), truth, blocks, factor, tile, result)
        out[whole:] = result[: size - whole]


@_compiled
def _crps_tiles(x, stride, members, y, blocks, factor, tile, result):  # type: ignore[no-untyped-def]
    lanes = BYTES // tile.itemsize
    half = members // 2
    width = width_of(tile, members)
    zero, two = splat(0.0, result), splat(2.0, result)
    others = splat(float(max(1, members - 1)), result)
    pairs = splat(float(max(1, members * (members - 1))), result)
    share = splat(factor, result)
    for t in range(TILE):
        tile[members * STRIDE + t] = np.inf
    for first in range(0, len(y), TILE):
        if 8 < members <= 16:
            _sorted_columns(x, first, stride, members, y, tile)
        else:
            for member in range(members):
                start, row = first + member * stride, member * STRIDE
                for t in range(0, TILE, lanes):
                    store(tile, row + t, load(x, start + t, tile) - load(y, first + t, tile))
            sort(tile, members, blocks, width)
        for t in range(0, TILE, 2 * LANES):
            low, high = t, (members - 1) * STRIDE + t
            distance, apart = zero, zero
            other_distance, other_apart = zero, zero
            lift = splat(float(members - 1), result)
            for _ in range(half):
                a, b = wide(tile, low), wide(tile, high)
                distance = distance + (magnitude(a) + magnitude(b))
                apart = apart + lift * (b - a)
                a, b = wide(tile, low + LANES), wide(tile, high + LANES)
                other_distance = other_distance + (magnitude(a) + magnitude(b))
                other_apart = other_apart + lift * (b - a)
                lift = lift - two
                low, high = low + STRIDE, high - STRIDE
            if members % 2:
                distance = distance + magnitude(wide(tile, low))
                other_distance = other_distance + magnitude(wide(tile, low + LANES))
            store(result, first + t, (others * distance - share * apart) / pairs)
            there = first + t + LANES
            store(result, there, (others * other_distance - share * other_apart) / pairs)


@_inlined
def _sorted_columns(x, first, stride, members, y, tile):  # type: ignore[no-untyped-def]
    for t in range(0, TILE, BYTES // tile.itemsize):
        place = (first + t, stride, members, first + t)
        if members <= 10:
            _column10(tile, t, STRIDE, x, place, y)
        elif members <= 12:
            _column12(tile, t, STRIDE, x, place, y)
        elif members <= 14:
            _column14(tile, t, STRIDE, x, place, y)
        else:
            _column16(tile, t, STRIDE, x, place, y)
