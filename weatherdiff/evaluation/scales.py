"""CRPS by spatial scale: the score of averages over boxes of cells.

Errors of place and of small scales average out within a box, so that the score of large boxes tells
what a forecast knows of the large scales; noise that a pointwise score does not see shows as a
difference between scales.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.evaluation.multivariate import check_joint, joint_weights
from weatherdiff.evaluation.scores import crps_ensemble

__all__ = ["coarsen", "crps_by_scale"]

FloatArray = npt.NDArray[np.float64]

_SPACE = ("latitude", "longitude")


def crps_by_scale(
    forecast: xr.DataArray,
    observation: xr.DataArray,
    *,
    dim: str = "number",
    scales: Sequence[int] = (1, 2, 4, 8),
    weights: xr.DataArray | None = None,
    estimator: str = "fair",
    minimum: float = 0.5,
) -> xr.DataArray:
    """Area-weighted mean CRPS of averages over boxes of ``k`` by ``k`` cells, for each scale ``k``.

    Cells without an observation or with zero weight are left out of the averages of members and
    observation alike. A NaN of a member in another cell makes the score NaN.

    Parameters
    ----------
    forecast : (number, ..., latitude, longitude)
        Ensemble, any unit.
    observation : (..., latitude, longitude)
        Verifying values in the same unit, without ``dim``.
    dim : str
        The ensemble dimension.
    scales : sequence of int
        Sides of the boxes in cells; 1 is the CRPS of the cells. Boxes start at the first latitude
        and longitude, and those at the other ends may be smaller.
    weights : (latitude, longitude), optional
        Weights at least zero; exact cell areas unless given.
    estimator : {"fair", "standard"}
        See :func:`~weatherdiff.evaluation.crps_ensemble`.
    minimum : float
        Share of a box's weight that must be observed for the box to count, above 0 and at most 1.

    Returns
    -------
    (..., scale)
        In the forecast's unit, NaN where no box counts; float64, lazy if the input is.

    Raises
    ------
    DimensionError
        ``dim`` missing from the forecast or present in the observation (usually swapped
        arguments), no latitude or longitude, or ``"fair"`` with one member.
    InputError
        Weights are negative or NaN.
    ValueError
        Another ``estimator``, a scale below one, or ``minimum`` out of its range.

    Examples
    --------
    >>> cells = {"latitude": [-5.0, 5.0], "longitude": [0.0, 10.0, 20.0, 30.0]}
    >>> observation = xr.DataArray(np.zeros((2, 4)), cells)
    >>> ripple = observation + np.array([1.0, -1.0, 1.0, -1.0])
    >>> forecast = xr.concat([ripple, ripple], dim="number")
    >>> print(crps_by_scale(forecast, observation, scales=(1, 2)).values)
    [1. 0.]
    """
    check_joint(forecast, observation, dim, _SPACE, estimator)
    if not scales or min(scales) < 1:
        raise ValueError(f"scales are {list(scales)}, expected whole numbers from one.")
    if not 0 < minimum <= 1:
        raise ValueError(f"minimum is {minimum}, expected above 0 and at most 1.")
    score = xr.apply_ufunc(
        partial(_mean_scores, scales=scales, estimator=estimator, minimum=minimum),
        forecast,
        observation,
        joint_weights(forecast, _SPACE, weights),
        input_core_dims=[[dim, *_SPACE], [*_SPACE], [*_SPACE]],
        output_core_dims=[["scale"]],
        join="exact",  # coordinates that differ are an error, not an intersection
        keep_attrs=False,
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"scale": len(scales)}, "allow_rechunk": True},
    )
    attrs = {"long_name": "side of the boxes in cells", "units": "1"}
    return score.assign_coords(scale=("scale", list(scales), attrs))


def coarsen(
    values: npt.NDArray[Any],
    weights: npt.NDArray[Any],
    k: int,
    *,
    counted: npt.NDArray[np.bool_] | None = None,
    minimum: float = 0.5,
) -> tuple[FloatArray, FloatArray]:
    """Weighted averages over boxes of ``k`` by ``k`` cells.

    Parameters
    ----------
    values : (..., latitude, longitude)
        Fields.
    weights : (latitude, longitude)
        Weights of the cells, at least zero.
    k : int
        Side of the boxes, from one. Boxes at the upper ends may be smaller.
    counted : (..., latitude, longitude), optional
        Cells that enter the averages, broadcast to the values; those that are not NaN unless
        given. A NaN in a cell that counts makes its box NaN.
    minimum : float
        Share of a box's weight that must count; less makes the box NaN and its weight zero.

    Returns
    -------
    averages : (..., box latitude, box longitude)
        Float64.
    box_weights : (..., box latitude, box longitude)
        Weights that counted, with the leading dimensions of ``counted``.

    Examples
    --------
    >>> values = np.array([[1.0, 3.0, np.nan], [1.0, np.nan, np.nan]])
    >>> averages, box_weights = coarsen(values, np.array([[1.0] * 3, [2.0] * 3]), 2)
    >>> print(averages, box_weights)
    [[1.5 nan]] [[4. 0.]]
    """
    values = np.asarray(values)
    if counted is None:
        counted = ~np.isnan(values)
    weights = np.asarray(weights, np.float64)
    kept = np.where(counted, weights, 0.0)
    box_weights = _box_sums(kept, k)
    # A whole box has its exact sum in both, so that a minimum of 1 is met.
    enough = (box_weights > 0) & (box_weights >= minimum * _box_sums(weights, k) * (1 - 1e-12))
    products = np.where(kept > 0, values, 0.0) * kept
    with np.errstate(invalid="ignore", divide="ignore"):
        averages = np.where(enough, _box_sums(products, k) / box_weights, np.nan)
    return averages, np.where(enough, box_weights, 0.0)


def _box_sums(fields: FloatArray, k: int) -> FloatArray:
    for axis in (-1, -2):
        if k > 1:
            fields = np.add.reduceat(fields, np.arange(0, fields.shape[axis], k), axis=axis)
    return fields


def _mean_scores(
    forecast: npt.NDArray[Any],
    observation: npt.NDArray[Any],
    weights: FloatArray,
    *,
    scales: Sequence[int],
    estimator: str,
    minimum: float,
) -> FloatArray:
    """Mean CRPS (..., scale) over boxes, of (..., number, latitude, longitude)."""
    shape = np.broadcast_shapes(forecast.shape[:-3], observation.shape[:-2])
    x = np.broadcast_to(forecast, shape + forecast.shape[-3:])
    y = np.broadcast_to(observation, shape + weights.shape)
    result = np.full((*shape, len(scales)), np.nan)
    for case in np.ndindex(shape):
        counted = ~np.isnan(y[case]) & (weights > 0)
        for place, k in enumerate(scales):
            # Averages of differences: an offset common to both costs no digits.
            apart = np.subtract(x[case], y[case], dtype=np.float64)
            boxes, box_weights = coarsen(apart, weights, k, counted=counted, minimum=minimum)
            there = box_weights > 0
            if there.any():
                members = xr.DataArray(boxes[:, there], dims=("number", "box"))
                scores = crps_ensemble(members, xr.DataArray(0.0), estimator=estimator).values
                result[(*case, place)] = np.average(scores, weights=box_weights[there])
    return result
