r"""Sums of all scores of an ensemble in one pass over its values: numpy arrays in and out.

For the members :math:`x_1 \ldots x_M` and the observation :math:`y` of a point, the fields are

.. math::
    \mathrm{over} = \tfrac1M\sum_i(x_i-y)^+, \quad
    \mathrm{under} = \tfrac1M\sum_i(y-x_i)^+, \quad
    \mathrm{dispersion} = \tfrac1{2M(M-1)}\sum_{i,j}|x_i-x_j|,

the error, squared error and absolute error of the mean, and the unbiased variance of the members.
Dispersion and variance of one member are 0. Every CRPS follows from the first three: fair is
``over + under - dispersion``, standard ``over + under - (1 - 1/M) dispersion``.

Points are taken in tiles that stay in the cache: the observation is subtracted, the members are
sorted by a network of exchanges (minimum and maximum of whole vectors of points), and all else is
sums over the sorted members. The work is done by :mod:`~weatherdiff.evaluation.kernels.compiled`,
or without numba (or with ``WEATHERDIFF_NUMBA=0`` in the environment) by
:mod:`~weatherdiff.evaluation.kernels.plain`, which agrees to rounding.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from weatherdiff.compiling import compiles
from weatherdiff.errors import DimensionError, InputError
from weatherdiff.evaluation.kernels.sums import (
    ANOMALIES,
    CLIPPED,
    FIELDS,
    TILE,
    EnsembleSums,
    Events,
    Points,
    Wanted,
)

__all__ = [
    "ANOMALIES",
    "CLIPPED",
    "FIELDS",
    "TILE",
    "EnsembleSums",
    "Events",
    "Wanted",
    "compiles",
    "ensemble_crps",
    "ensemble_sums",
]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

# Points copied at a time where a copy must be: a few hundred kB.
_COPIED = 16 * TILE


def ensemble_sums(
    forecast: Array,
    observation: Array,
    weights: Array,
    *,
    usable: npt.NDArray[np.bool_] | None = None,
    events: Events | None = None,
    climatology: Array | None = None,
    wanted: Wanted | None = None,
    into: EnsembleSums | None = None,
) -> EnsembleSums:
    """Sum the scores of an ensemble over regions, in one pass over its values.

    A point is observed in a region if its observation is not NaN and its weight there is above 0.
    It is complete if moreover it is usable and no member is NaN. Observed points count, and the
    totals are NaN unless all of them are complete; with ``omit``, only complete points count.

    Parameters
    ----------
    forecast : (member, point) float32 or float64
        Ensemble; fastest if the points of a member are contiguous.
    observation : (point,)
        Verifying values. Differences are taken in the arrays' precision, in float64 if they differ
        in it; all else is float64.
    weights : (region, point) float64
        Weights, at least 0. Without regions only ``pointwise`` holds anything.
    usable : (point,) bool, optional
        Points that may be complete (where references are there too, say).
    events : Events, optional
        Thresholds and their sides; a NaN threshold makes the event's sums NaN.
    climatology : (point,), optional
        Adds the fields of anomalies of mean and observation: product, and both squares.
    wanted : Wanted, optional
        Which statistics; all but the decomposition and the pointwise fields unless given.
    into : EnsembleSums, optional
        Sums to add to, in place, instead of new ones.

    Returns
    -------
    EnsembleSums
        The sums. Points given in several calls, cut at multiples of :data:`TILE`, give the same
        bits as in one.

    Raises
    ------
    DimensionError
        Shapes do not fit, or there is no member.
    InputError
        A value is not a float, or a weight is negative or NaN.

    References
    ----------
    Ferro (2014), doi:10.1002/qj.2270. Hersbach (2000),
    doi:10.1175/1520-0434(2000)015<0559:DOTCRP>2.0.CO;2. Batcher (1968),
    doi:10.1145/1468075.1468121.

    Examples
    --------
    >>> forecast = np.array([[1.0], [2.0], [3.0]])
    >>> sums = ensemble_sums(forecast, np.array([1.5]), np.ones((1, 1)))
    >>> fair = sums["over"] + sums["under"] - sums["dispersion"]
    >>> fair.round(4), sums.rank
    (array([0.1667]), array([[0., 1., 0., 0.]]))
    """
    wanted = wanted or Wanted()
    _require_shapes(forecast, observation, weights, usable, climatology)
    members, points = forecast.shape
    tile_type = np.result_type(forecast, observation)
    thresholds, above = _comparable(events, tile_type, points)
    sums = into or EnsembleSums.zero(members, len(weights), len(above), climatology is not None)
    _require_room(sums, members, len(weights), len(above), climatology is not None)
    pointwise = np.empty((len(sums.fields) if wanted.pointwise else 0, points))
    if compiles():
        from weatherdiff.evaluation.kernels.compiled import accumulate
    else:
        from weatherdiff.evaluation.kernels.plain import accumulate
    whole = Points(
        forecast,
        observation,
        weights.astype(np.float64, copy=False),
        np.ones(points, np.bool_) if usable is None else usable,
        thresholds,
        above,
        np.empty(0) if climatology is None else climatology.astype(np.float64, copy=False),
    )
    step = max(points, 1) if whole.fits else _COPIED
    for start in range(0, points, step):
        part = slice(start, min(start + step, points))
        accumulate(whole.part(part), wanted, sums, pointwise[:, part])
    return replace(sums, pointwise=pointwise)


def ensemble_crps(
    forecast: Array, observation: Array, *, factor: float, out: FloatArray | None = None
) -> FloatArray:
    """CRPS of each point, in less time than all fields take.

    Parameters
    ----------
    forecast : (member, point) float32 or float64
        Ensemble; fastest if the points of a member are contiguous.
    observation : (point,)
        Verifying values.
    factor : float
        Of the fair dispersion in the estimator, at least 0.
    out : (point,) float64, optional
        Where to write the result; contiguous.

    Returns
    -------
    (point,)
        ``over + under - factor * dispersion``; NaN where a value is.

    Raises
    ------
    DimensionError
        Shapes do not fit, or there is no member.
    InputError
        A value is not a float.

    Examples
    --------
    >>> ensemble_crps(np.array([[1.0], [2.0], [3.0]]), np.array([1.5]), factor=1.0).round(4)
    array([0.1667])
    """
    _require_shapes(forecast, observation, np.empty((0, len(observation))), None, None)
    if compiles():
        from weatherdiff.evaluation.kernels.crps import crps
    else:
        from weatherdiff.evaluation.kernels.plain import crps
    kind = np.result_type(forecast, observation)
    between, within = forecast.strides
    contiguous = within == forecast.itemsize and between >= 0 and between % within == 0
    in_place = contiguous and forecast.dtype == kind
    truth = np.ascontiguousarray(observation, kind)
    points = len(observation)
    result = np.empty(points) if out is None else out
    step = max(points, 1) if in_place else _COPIED
    for start in range(0, points, step):
        part = slice(start, start + step)
        values = forecast[:, part]
        if not in_place:
            values = np.ascontiguousarray(values, kind)
        crps(values, truth[part], factor, result[part])
    return result


def _require_shapes(
    forecast: Array,
    observation: Array,
    weights: Array,
    usable: Array | None,
    climatology: Array | None,
) -> None:
    """Refuse arrays that do not fit together."""
    if forecast.ndim != 2 or len(forecast) == 0:
        raise DimensionError(f"the forecast is {forecast.shape}, expected (member, point).")
    points = forecast.shape[1]
    for name, array, ndim in (
        ("observation", observation, 1),
        ("weights", weights, 2),
        ("usable", usable, 1),
        ("climatology", climatology, 1),
    ):
        if array is not None and (array.ndim != ndim or array.shape[-1] != points):
            raise DimensionError(f"{name} is {array.shape}, which does not fit {points} points.")
    for name, array in (("forecast", forecast), ("observation", observation)):
        if array.dtype not in (np.float32, np.float64) or not array.dtype.isnative:
            raise InputError(f"the {name} is {array.dtype}, expected native float32 or float64.")
    if not (weights >= 0).all():
        raise InputError("a weight is negative or NaN.")


def _require_room(
    sums: EnsembleSums, members: int, regions: int, events: int, climatology: bool
) -> None:
    """Refuse to add to sums of other things."""
    expected = EnsembleSums.zero(members, regions, events, climatology)
    if sums.fields != expected.fields or sums.joint.shape != expected.joint.shape:
        raise DimensionError(
            "the sums to add to are of other members, regions, events or fields: "
            f"{sums.joint.shape}, expected {expected.joint.shape}."
        )


def _comparable(
    events: Events | None, dtype: np.dtype[Any], points: int
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Thresholds in the precision of the values, rounded so that no comparison changes."""
    if events is None:
        return np.empty((0, 1), dtype), np.empty(0, np.bool_)
    exact = np.asarray(events.thresholds)
    above = np.asarray(events.above, np.bool_)
    if exact.ndim != 2 or exact.shape[1] not in (1, points) or above.shape != exact.shape[:1]:
        raise DimensionError(
            f"thresholds {exact.shape} and above {above.shape} do not fit {points} points."
        )
    rounded = exact.astype(dtype)
    if exact.dtype != dtype:
        # x > t is x > (the largest float32 up to t), and x < t is x < (the smallest from t).
        beyond = np.where(above[:, np.newaxis], rounded > exact, rounded < exact)
        toward = np.where(above, -np.inf, np.inf).astype(dtype)[:, np.newaxis]
        np.nextafter(rounded, toward, out=rounded, where=beyond)
    return rounded, above
