"""What can be drawn from the sums that are kept beside the scores."""

from __future__ import annotations

import xarray as xr

__all__ = ["with_pooled_sums"]


def with_pooled_sums(scores: xr.Dataset) -> xr.Dataset:
    """Add the event tables where their sums are kept.

    Parameters
    ----------
    scores : xr.Dataset
        Scores, with ``sum_event_count`` and ``sum_event_occurred`` beside them.

    Returns
    -------
    xr.Dataset
        With ``event_count`` and ``event_occurred``, over all initial times, unless they were there
        already.

    Examples
    --------
    >>> table = xr.DataArray([[[1.0, 2.0]], [[3.0, 4.0]]], dims=("init_time", "event", "count"))
    >>> sums = xr.Dataset({"sum_event_count": table, "sum_event_occurred": table / 2})
    >>> with_pooled_sums(sums)["event_count"].values
    array([[4., 6.]])
    """
    names = ("event_count", "event_occurred")
    if "event_count" in scores or not {f"sum_{name}" for name in names} <= set(scores):
        return scores
    return scores.assign({name: _pooled(scores, name) for name in names})


def _pooled(scores: xr.Dataset, name: str) -> xr.DataArray:
    """Sum over the initial times; NaN propagates. Without the region where there is one alone."""
    total = scores[f"sum_{name}"].sum("init_time", skipna=False)
    if total.sizes.get("region") == 1:
        return total.isel(region=0, drop=True)
    return total
