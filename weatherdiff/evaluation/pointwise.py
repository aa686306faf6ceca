"""Functions of arrays ``(member, point)`` applied to data arrays, block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import DimensionError

__all__ = ["as_points", "block_size", "blocks", "pointwise", "require_ensemble"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

# Points worked on at a time: enough for the work to outweigh the calls, few beside the input.
_LEAST, _MOST = 2**12, 2**16


def require_ensemble(forecast: xr.DataArray, observation: xr.DataArray, dim: str) -> int:
    """Refuse arrays that are not an ensemble and an observation; give the number of members."""
    if dim in observation.dims:
        raise DimensionError(
            f"the observation has the ensemble dimension {dim!r}; are the arguments swapped? "
            "The order is (forecast, observation)."
        )
    if dim not in forecast.dims:
        raise DimensionError(
            f"the forecast has no dimension {dim!r} among {forecast.dims}; "
            f"a single forecast needs expand_dims({dim!r})."
        )
    if forecast.sizes[dim] == 0:
        raise DimensionError(f"the forecast has no member along {dim!r}.")
    return forecast.sizes[dim]


def pointwise(
    kernel: Callable[..., None],
    arrays: tuple[xr.DataArray, ...],
    dim: str,
    *,
    new: Mapping[str, int] | None = None,
    most: int | None = None,
    **options: Any,
) -> xr.DataArray:
    """Apply a function of an ensemble and of arrays without members, lazily if they are lazy.

    Parameters
    ----------
    kernel : callable
        Takes ``(member, point)``, then ``(point,)`` for each further array, and writes its result
        to ``(point, ...)``, with the new dimensions last, which is the keyword ``out``.
    arrays : tuple of xr.DataArray
        The forecast, with ``dim``, and the others, without.
    dim : str
        The ensemble dimension.
    new : mapping of str to int, optional
        Dimensions that the result has besides, and their sizes.
    most : int, optional
        Points given at a time where none need be copied; a few in proportion to all unless given.
    **options
        Further keywords of ``kernel``.

    Returns
    -------
    xr.DataArray
        Float64, without attributes: the unit of a variance is not that of its members.
    """
    sizes = dict(new or {})
    return xr.apply_ufunc(
        partial(_in_blocks, partial(kernel, **options), tuple(sizes.values()), most),
        *arrays,
        input_core_dims=[[dim], *([] for _ in arrays[1:])],
        output_core_dims=[list(sizes)],
        join="exact",  # coordinates that differ are an error, not an intersection
        keep_attrs=False,
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": sizes, "allow_rechunk": True},
    )


def blocks(shape: tuple[int, ...], limit: int) -> Iterator[tuple[slice, ...]]:
    """Cut an array into blocks of so many points at most, contiguous as far as it goes.

    Examples
    --------
    >>> list(blocks((2, 3), 100))
    [(slice(0, 33, None), slice(None, None, None))]
    >>> len(list(blocks((5, 3, 10000), 8192)))
    30
    """
    if not shape:
        yield ()
        return
    inner = math.prod(shape[1:])
    step = max(1, limit // max(1, inner))
    for start in range(0, shape[0], step):
        here = slice(start, start + step)
        if inner > limit:
            yield from ((here, *rest) for rest in blocks(shape[1:], limit))
        else:
            yield (here, *(slice(None) for _ in shape[1:]))


def block_size(points: int, copied: bool) -> int:
    """Points of a block, a copy of which is a small part of the input."""
    return max(_LEAST, min(_MOST, points // (32 if copied else 4)))


def as_points(array: Array, leading: tuple[int, ...] = ()) -> Array:
    """Flatten to float32 or float64 points, behind the leading sizes; a copy only if it must be."""
    kept = array.dtype in (np.float32, np.float64) and array.dtype.isnative
    points = array.reshape(*leading, -1) if array.size else array.reshape(*leading, 0)
    return points if kept else points.astype(np.float64)


def _in_blocks(
    kernel: Callable[..., None],
    new: tuple[int, ...],
    most: int | None,
    forecast: Array,
    *others: Array,
) -> FloatArray:
    members = forecast.shape[-1]
    shape = np.broadcast_shapes(forecast.shape[:-1], *(other.shape for other in others))
    forecast = np.broadcast_to(forecast, (*shape, members))
    others = tuple(np.broadcast_to(other, shape) for other in others)
    result = np.empty(shape + new)
    # Members first, and then the points as they lie: nothing is copied.
    in_place = np.moveaxis(forecast, -1, 0)[0].flags.c_contiguous
    limit = most if most and in_place else block_size(math.prod(shape), copied=not in_place)
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which is the answer
        for block in blocks(shape, limit):
            x = as_points(np.moveaxis(forecast[block], -1, 0), (members,))
            place: Any = (*block, ...)  # a view, even of one point
            here = result[place].reshape(-1, *new)
            kernel(x, *(as_points(other[block]) for other in others), out=here)
    return result
