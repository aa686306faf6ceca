r"""Event tables, and the Brier score, of an ensemble at each point.

An ensemble of M members forecasts an event with one of M + 1 probabilities, :math:`k/M` where k
members are in it. Two tables over ``count``, k = 0..M, therefore hold everything that can be asked
about an event: the weight of the points where exactly k members are in it, and the part of that
weight where it occurred. Both add over points and times;
:mod:`weatherdiff.evaluation.reliability` and :mod:`weatherdiff.evaluation.discrimination` derive
the scores from them.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from weatherdiff.errors import DimensionError
from weatherdiff.evaluation.pointwise import require_ensemble

__all__ = ["brier_score", "event_probability", "event_tables", "members_of"]


def event_tables(
    forecast: xr.DataArray,
    observation: xr.DataArray,
    *,
    threshold: float | xr.DataArray,
    above: bool = True,
    dim: str = "number",
) -> xr.Dataset:
    """Event tables of each point, to be summed with weights.

    ``(event_tables(...) * weights).sum(dims, skipna=False)`` gives the tables that
    :func:`~weatherdiff.evaluation.brier_from_tables` and its companions take. For arrays in memory:
    the result has M + 1 values a point, where :func:`~weatherdiff.evaluation.statistics` streams.

    Parameters
    ----------
    forecast : (number, ...)
        Ensemble of M members, any unit.
    observation : (...)
        Verifying values in the same unit, without ``dim``.
    threshold : float or (...)
        In the same unit.
    above : bool
        Whether the event is a value greater than the threshold, or one less than it.
    dim : str
        The ensemble dimension.

    Returns
    -------
    xr.Dataset, (..., count)
        ``event_count``, one where exactly ``count`` members are in the event and zero elsewhere,
        and ``event_occurred``, the same where the observation is in it too. NaN in a member, the
        observation or the threshold makes every count NaN. Lazy if the input is.

    Raises
    ------
    DimensionError
        ``dim`` missing from the forecast or present in the observation.

    Examples
    --------
    >>> forecast = xr.DataArray([[1.0, 2.0, 4.0], [0.0, 0.0, 5.0]], dims=("case", "number"))
    >>> tables = event_tables(forecast, xr.DataArray([3.0, 1.0], dims="case"), threshold=1.5)
    >>> print(tables["event_count"].values, tables["event_occurred"].sum("case").values)
    [[0. 0. 1. 0.]
     [0. 1. 0. 0.]] [0. 0. 1. 0.]
    """
    inside, occurred = _in_event(forecast, observation, threshold, above, dim)
    members = forecast.sizes[dim]
    counts = xr.DataArray(np.arange(members + 1), dims="count", name="count")
    table = (inside == counts.assign_coords(count=counts)).astype(np.float64)
    table = table.where(inside.notnull()).transpose(..., "count")
    return xr.Dataset({"event_count": table, "event_occurred": table * occurred})


def brier_score(
    forecast: xr.DataArray,
    observation: xr.DataArray,
    *,
    threshold: float | xr.DataArray,
    above: bool = True,
    estimator: str = "fair",
    dim: str = "number",
) -> xr.DataArray:
    r"""Brier score of the probability that an ensemble gives an event.

    .. math:: (k/M - o)^2 - \frac{k(M-k)}{M^2(M-1)}

    for k of M members in the event and o = 1 if it occurred, else 0. The second term belongs to
    ``estimator="fair"`` alone, which is unbiased for the distribution the members are drawn from;
    it can be negative at a point.

    Parameters
    ----------
    forecast, observation, threshold, above, dim
        As for :func:`event_tables`.
    estimator : {"fair", "standard"}
        Whether the effect of the number of members is taken out.

    Returns
    -------
    (...)
        Pointwise score, dimensionless; NaN propagates. Lazy if the input is.

    Raises
    ------
    DimensionError
        ``dim`` missing from the forecast or present in the observation, or ``"fair"`` with one
        member.
    ValueError
        Another ``estimator``.

    References
    ----------
    Ferro (2014), doi:10.1002/qj.2270.

    Examples
    --------
    >>> forecast = xr.DataArray([1.0, 2.0, 4.0], dims="number")
    >>> float(brier_score(forecast, xr.DataArray(3.0), threshold=1.5, estimator="standard"))
    0.111...
    >>> abs(round(float(brier_score(forecast, xr.DataArray(3.0), threshold=1.5)), 12))
    0.0
    """
    if estimator not in ("fair", "standard"):
        raise ValueError(f"estimator is {estimator!r}, expected 'fair' or 'standard'.")
    inside, occurred = _in_event(forecast, observation, threshold, above, dim)
    members = forecast.sizes[dim]
    if estimator == "fair" and members == 1:
        raise DimensionError("the fair Brier score is undefined for one member; use 'standard'.")
    score = (inside / members - occurred) ** 2
    if estimator == "fair":
        score = score - inside * (members - inside) / (members**2 * (members - 1))
    return score


def event_probability(
    forecast: xr.DataArray,
    observation: xr.DataArray,
    threshold: float | xr.DataArray,
    above: bool,
    dim: str,
) -> tuple[xr.DataArray, xr.DataArray]:
    """Share of the members in the event, and whether it occurred, each NaN where it is unknown.

    Parameters and errors are those of :func:`event_tables`.
    """
    threshold = _require(forecast, observation, threshold, dim)
    with xr.set_options(keep_attrs=False):
        known = forecast.notnull().all(dim) & threshold.notnull()
        inside = _beyond(forecast, threshold, above).mean(dim).where(known)
        seen = observation.notnull() & threshold.notnull()
        return inside, _beyond(observation, threshold, above).astype(np.float64).where(seen)


def members_of(event_count: xr.DataArray, event_occurred: xr.DataArray) -> int:
    """Give the number of members of a pair of event tables.

    Raises
    ------
    DimensionError
        A table lacks ``count``, or it is not 0..M with at least one member in both.
    ValueError
        Other coordinates differ.
    """
    for table in (event_count, event_occurred):
        if "count" not in table.dims:
            raise DimensionError(f"an event table has no dimension count among {table.dims}.")
        counts = np.arange(table.sizes["count"])
        if "count" in table.coords and not np.array_equal(table["count"].values, counts):
            raise DimensionError("count is not 0, 1, ..., M; an event table must be whole.")
    sizes = event_count.sizes["count"], event_occurred.sizes["count"]
    if sizes[0] != sizes[1] or sizes[0] < 2:
        raise DimensionError(f"event tables have {sizes[0]} and {sizes[1]} counts.")
    xr.align(event_count, event_occurred, join="exact", copy=False)
    return sizes[0] - 1


def _in_event(
    forecast: xr.DataArray,
    observation: xr.DataArray,
    threshold: float | xr.DataArray,
    above: bool,
    dim: str,
) -> tuple[xr.DataArray, xr.DataArray]:
    """Give the number of members in the event and whether it occurred, NaN if either is unknown."""
    probability, occurred = event_probability(forecast, observation, threshold, above, dim)
    inside = (probability * forecast.sizes[dim]).round()
    return inside.where(occurred.notnull()), occurred.where(probability.notnull())


def _beyond(values: xr.DataArray, threshold: xr.DataArray, above: bool) -> xr.DataArray:
    return values > threshold if above else values < threshold


def _require(
    forecast: xr.DataArray, observation: xr.DataArray, threshold: float | xr.DataArray, dim: str
) -> xr.DataArray:
    """Refuse arrays that are not an ensemble and an observation; give the threshold as an array."""
    require_ensemble(forecast, observation, dim)
    if not isinstance(threshold, xr.DataArray):
        threshold = xr.DataArray(np.float64(threshold))  # which numpy does not round to float32
    # where(), unlike arithmetic, would keep the intersection of coordinates that differ.
    xr.align(forecast, observation, threshold, join="exact", copy=False)
    return threshold
