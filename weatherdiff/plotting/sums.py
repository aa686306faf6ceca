"""What can be drawn from the sums that are kept beside the scores."""

from __future__ import annotations

import xarray as xr

__all__ = ["with_pooled_sums"]


def with_pooled_sums(scores: xr.Dataset) -> xr.Dataset:
    """Add the event tables and the calibration part of the CRPS where their sums are kept.

    Parameters
    ----------
    scores : xr.Dataset
        Scores, with ``sum_event_count`` and ``sum_event_occurred`` or with ``sum_alpha`` and
        ``sum_beta`` beside them.

    Returns
    -------
    xr.Dataset
        With ``event_count`` and ``event_occurred``, over all initial times, and with
        ``crps_reliability`` and ``crps_potential``, unless they were there already.

    Examples
    --------
    >>> table = xr.DataArray([[[1.0, 2.0]], [[3.0, 4.0]]], dims=("init_time", "event", "count"))
    >>> sums = xr.Dataset({"sum_event_count": table, "sum_event_occurred": table / 2})
    >>> with_pooled_sums(sums)["event_count"].values
    array([[4., 6.]])
    """
    added = {}
    if {"sum_event_count", "sum_event_occurred"} <= set(scores) and "event_count" not in scores:
        added = {name: _pooled(scores, name) for name in ("event_count", "event_occurred")}
    if {"sum_alpha", "sum_beta", "sum_rank", "sum_weight"} <= set(scores):
        added |= _calibration(scores)
    return scores.assign({name: array for name, array in added.items() if name not in scores})


def _calibration(scores: xr.Dataset) -> dict[str, xr.DataArray]:
    from weatherdiff.evaluation.decomposition import hersbach_decomposition

    weight = _pooled(scores, "weight")
    weight = weight.where(weight > 0)
    alpha, beta, rank = (_pooled(scores, name) / weight for name in ("alpha", "beta", "rank"))
    parts = hersbach_decomposition(alpha, beta, rank)
    return {f"crps_{name}": parts[name] for name in ("reliability", "potential")}


def _pooled(scores: xr.Dataset, name: str) -> xr.DataArray:
    """Sum over the initial times; NaN propagates. Without the region where there is one alone."""
    total = scores[f"sum_{name}"].sum("init_time", skipna=False)
    if total.sizes.get("region") == 1:
        return total.isel(region=0, drop=True)
    return total
