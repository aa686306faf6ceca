r"""Energy score: how right a forecast is jointly, over space, lead times and variables.

.. math::
    \mathrm{ES} = \frac1M\sum_i \lVert x_i-y \rVert - \frac1{2K}\sum_{i,j}\lVert x_i-x_j \rVert,
    \qquad \lVert x \rVert^2 = \frac{\sum_c w_c x_c^2}{\sum_c w_c}

with :math:`K=M(M-1)` if fair and :math:`M^2` if standard. The weights sum to one over all that is
joined, so that the score is in the unit of the variable whatever the number of cells, and is the
CRPS for one cell.

Squared distances add over tiles, variables and lead times, see
:mod:`~weatherdiff.evaluation.distances`; the root comes last.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import DimensionError, InputError
from weatherdiff.evaluation.distances import (
    check_estimator,
    energy_from_distances,
    squared_distances,
)
from weatherdiff.evaluation.pointwise import require_ensemble
from weatherdiff.grid import Grid

__all__ = [
    "check_joint",
    "energy_score",
    "joint_weights",
]

FloatArray = npt.NDArray[np.float64]

# Values worked on at a time, of which some layouts need a copy: 16 MiB of float32.
_BLOCK_VALUES = 2**22


def energy_score(
    forecast: xr.DataArray | xr.Dataset,
    observation: xr.DataArray | xr.Dataset,
    *,
    dim: str = "number",
    over: Sequence[str] = ("latitude", "longitude"),
    weights: xr.DataArray | None = None,
    scales: Mapping[str, float] | None = None,
    estimator: str = "fair",
) -> xr.DataArray | xr.Dataset:
    """Energy score of an ensemble over the dimensions that are to be right jointly.

    Cells without an observation or with zero weight are left out; a NaN in a member makes the
    score NaN. Lazy inputs are read chunk by chunk, where no dimension in ``over`` need be whole.

    Parameters
    ----------
    forecast : (number, ...)
        Ensemble, any unit; a Dataset is scored variable by variable, or jointly.
    observation : (...)
        Verifying values in the same unit, with all of ``over`` and without ``dim``.
    dim : str
        The ensemble dimension.
    over : sequence of str
        Dimensions joined in one vector; ``"variable"`` joins the variables of a Dataset, which
        need not all have the other dimensions. The rest is kept.
    weights : (...), optional
        Weights at least zero, over dimensions among ``over``; exact cell areas where ``over`` has
        latitude or longitude, else equal ones.
    scales : mapping of str to float, optional
        What each variable is divided by, such as its standard deviation; required for the
        variables that are joined, and unused else.
    estimator : {"fair", "standard"}
        Unbiased for the distribution the members are drawn from, or of the ensemble as it stands.

    Returns
    -------
    (...)
        In the unit of the forecast, or in scales; a Dataset of each variable's score if a Dataset
        is not joined. Float64, lazy if the input is.

    Raises
    ------
    DimensionError
        ``dim`` missing from the forecast or present in the observation (usually swapped
        arguments), a dimension of ``over`` missing, or ``"fair"`` with one member.
    InputError
        Variables or scales are missing, or weights are negative or NaN.
    ValueError
        Another ``estimator``.

    References
    ----------
    Gneiting and Raftery (2007), doi:10.1198/016214506000001437. Ferro (2014),
    doi:10.1002/qj.2270.

    Examples
    --------
    >>> cells = {"latitude": [0.0, 10.0], "longitude": [0.0, 10.0]}
    >>> observation = xr.DataArray(np.zeros((2, 2)), cells)
    >>> forecast = observation + xr.DataArray([-1.0, 1.0, 3.0], dims="number")
    >>> float(energy_score(forecast, observation, estimator="standard").round(2))
    0.78
    >>> float(energy_score(forecast, observation, estimator="fair").round(2))
    0.33
    """
    if not over or dim in over:
        raise DimensionError(f"over is {list(over)}, expected at least one, and not {dim!r}.")
    if isinstance(forecast, xr.DataArray) and isinstance(observation, xr.DataArray):
        check_joint(forecast, observation, dim, over, estimator)
        return _joint_score([forecast], [observation], dim, over, weights, [1.0], estimator)
    if not (isinstance(forecast, xr.Dataset) and isinstance(observation, xr.Dataset)):
        raise InputError("forecast and observation must both be DataArrays or both Datasets.")
    names = list(forecast.data_vars)
    absent = [str(name) for name in names if name not in observation.data_vars]
    if absent or not names:
        raise InputError(f"the observation lacks {', '.join(absent) or 'any variable'}.")
    if "variable" not in over:
        return xr.Dataset(
            {
                name: energy_score(
                    forecast[name],
                    observation[name],
                    dim=dim,
                    over=over,
                    weights=weights,
                    estimator=estimator,
                )
                for name in names
            }
        )
    unscaled = [str(name) for name in names if not (scales or {}).get(str(name), 0) > 0]
    if scales is None or unscaled:
        raise InputError(
            "variables are joined in units of their scales, pass scales={...} above zero for "
            f"{', '.join(unscaled)}."
        )
    rest = [name for name in over if name != "variable"]
    fields = [forecast[name] for name in names]
    for joined in rest:
        if not any(joined in field.dims for field in fields):
            raise DimensionError(f"no variable of the forecast has the dimension {joined!r}.")
    kept = {frozenset(set(field.dims) - set(rest)) for field in fields}
    if len(kept) > 1:
        raise DimensionError(
            "the variables differ in the dimensions that are not joined: "
            f"{sorted(map(str, frozenset.union(*kept) - frozenset.intersection(*kept)))}; "
            "add them to over, or select."
        )
    for name in names:
        own = [joined for joined in rest if joined in forecast[name].dims]
        check_joint(forecast[name], observation[name], dim, own, estimator)
    return _joint_score(
        fields,
        [observation[name] for name in names],
        dim,
        rest,
        weights,
        [float(scales[str(name)]) for name in names],
        estimator,
    )


def joint_weights(
    field: xr.DataArray, over: Sequence[str], weights: xr.DataArray | None
) -> xr.DataArray:
    """Weights over exactly the joined dimensions: cell areas where space is among them.

    Parameters
    ----------
    field : (...)
        With every dimension of ``over``.
    over : sequence of str
        The joined dimensions.
    weights : (...), optional
        Over some of them.

    Returns
    -------
    (...)
        Float64 over ``over``, in that order.

    Raises
    ------
    DimensionError
        The weights have another dimension.
    InputError
        The weights are negative or NaN.
    """
    if weights is None:
        weights = xr.DataArray(1.0)
        if {"latitude", "longitude"} & set(over):
            areas = Grid.from_dataset(field).area_weights().drop_vars(("latitude", "longitude"))
            weights = areas.mean([name for name in areas.dims if name not in over])
    elif extra := [str(name) for name in weights.dims if name not in over]:
        raise DimensionError(f"the weights have {extra}, which are not among {list(over)}.")
    elif not (weights.values >= 0).all():
        raise InputError("weights must be at least zero, and not NaN.")
    if set(weights.dims) == set(over) and weights.dtype == np.float64:
        return weights.transpose(*over)
    ones = xr.DataArray(np.ones([field.sizes[name] for name in over]), dims=over)
    return (ones * weights).transpose(*over)


def check_joint(
    forecast: xr.DataArray,
    observation: xr.DataArray,
    dim: str,
    over: Sequence[str],
    estimator: str,
) -> None:
    """Refuse arrays that are not an ensemble and an observation with the joined dimensions.

    Raises
    ------
    DimensionError
        A dimension is missing, or ``dim`` is in the observation, or ``"fair"`` with one member.
    ValueError
        Another ``estimator``.
    """
    members = require_ensemble(forecast, observation, dim)
    for name, array in (("forecast", forecast), ("observation", observation)):
        if absent := [wanted for wanted in over if wanted not in array.dims]:
            raise DimensionError(f"the {name} has no dimension {absent} among {array.dims}.")
    check_estimator(estimator, members)


def _joint_score(
    forecasts: Sequence[xr.DataArray],
    observations: Sequence[xr.DataArray],
    dim: str,
    over: Sequence[str],
    weights: xr.DataArray | None,
    scales: Sequence[float],
    estimator: str,
) -> xr.DataArray:
    """Score of several variables as one vector."""
    owns = [[name for name in over if name in field.dims] for field in forecasts]
    cells = [joint_weights(f, own, weights) for f, own in zip(forecasts, owns, strict=True)]
    tiles = [list(_tiles(f, own)) for f, own in zip(forecasts, owns, strict=True)]
    if all(len(each) == 1 for each in tiles):
        return _apply(forecasts, observations, cells, dim, owns, scales, estimator)
    parts = [
        _apply([f.isel(tile)], [y.isel(tile)], [w.isel(tile)], dim, [own], [scale], None)
        for f, y, w, own, scale, each in zip(
            forecasts, observations, cells, owns, scales, tiles, strict=True
        )
        for tile in each
    ]
    return xr.apply_ufunc(
        partial(_finish, estimator=estimator),
        sum(parts[1:], parts[0]),
        input_core_dims=[["_row", "_member"]],
        dask="parallelized",
        output_dtypes=[np.float64],
    )


def _tiles(field: xr.DataArray, over: Sequence[str]) -> Iterator[dict[Hashable, slice]]:
    """Chunks of a lazy array along the joined dimensions; one tile if it is in memory."""
    chunks = [field.chunksizes.get(name, (field.sizes[name],)) for name in over]
    edges = [np.cumsum([0, *sizes]) for sizes in chunks]
    for place in np.ndindex(*map(len, chunks)):
        yield {
            name: slice(int(ends[i]), int(ends[i + 1]))
            for name, ends, i in zip(over, edges, place, strict=True)
        }


def _apply(
    forecasts: Sequence[xr.DataArray],
    observations: Sequence[xr.DataArray],
    cells: Sequence[xr.DataArray],
    dim: str,
    owns: Sequence[Sequence[str]],
    scales: Sequence[float],
    estimator: str | None,
) -> xr.DataArray:
    """Scores, or without an estimator the packed sums they are made of."""
    members = forecasts[0].sizes[dim]
    sums = {} if estimator else {"_row": members + 2, "_member": members}
    return xr.apply_ufunc(
        partial(
            _scores_or_sums, ranks=[len(own) for own in owns], scales=scales, estimator=estimator
        ),
        *forecasts,
        *observations,
        *cells,
        input_core_dims=[[dim, *own] for own in owns] + [[*own] for own in owns] * 2,
        output_core_dims=[list(sums)],
        join="exact",  # coordinates that differ are an error, not an intersection
        keep_attrs=False,
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": sums, "allow_rechunk": True},
    )


def _scores_or_sums(
    *arrays: npt.NDArray[Any],
    ranks: Sequence[int],
    scales: Sequence[float],
    estimator: str | None,
) -> FloatArray:
    """Take (..., number, *cells), (..., *cells) and (*cells) of each variable, in that order."""
    count = len(ranks)
    leading = [
        *(x.shape[: x.ndim - rank - 1] for x, rank in zip(arrays, ranks, strict=False)),
        *(y.shape[: y.ndim - rank] for y, rank in zip(arrays[count:], ranks, strict=False)),
    ]
    shape = np.broadcast_shapes(*leading)
    cases, flat = math.prod(shape), []
    for index, rank in enumerate(ranks):
        x, y, w = arrays[index], arrays[count + index], arrays[2 * count + index]
        members, points = x.shape[x.ndim - rank - 1], w.size
        x = np.broadcast_to(x, shape + x.shape[x.ndim - rank - 1 :])
        y = np.broadcast_to(y, shape + w.shape)
        flat.append((x.reshape(cases, members, points), y.reshape(cases, points), w.reshape(-1)))
    largest = max(members + 1, *(w.size for _, _, w in flat))
    step = max(1, _BLOCK_VALUES // ((members + 1) * largest))
    results = []
    for start in range(0, max(1, cases), step):
        part = slice(start, start + step)
        sums: FloatArray | float = 0.0
        for (x, y, w), scale in zip(flat, scales, strict=True):
            squares, weight = squared_distances(x[part], y[part], w)
            packed = np.empty((len(squares), members + 2, members))
            np.divide(squares[:, :, :members], scale**2, out=packed[:, :-1])
            packed[:, -1] = weight[:, np.newaxis]
            sums = sums + packed
        results.append(sums if estimator is None else _finish(np.asarray(sums), estimator))
    result = np.concatenate(results)
    return result.reshape(shape + result.shape[1:])


def _finish(packed: FloatArray, estimator: str) -> FloatArray:
    """Score of packed sums: rows of members, of the observation, and of the weight."""
    with np.errstate(invalid="ignore"):  # nothing counted: 0 / 0 is NaN, which is the answer
        mean = packed[..., :-1, :] / packed[..., -1:, :]
    return energy_from_distances(mean[..., -1, :], mean[..., :-1, :], estimator)
