"""Totals of statistics over the initial times, all of them or by season, month or hour."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from weatherdiff.data.calendars import after
from weatherdiff.evaluation.groups import GROUPS

__all__ = ["Total"]

_BY = (*GROUPS, *(f"valid_{name}" for name in GROUPS))


class Total:
    """Sums over the initial times, all or those of each group.

    Parameters
    ----------
    statistics : xr.Dataset
        With ``init_time``.
    by : str, optional
        ``"season"``, ``"month"`` or ``"hour"`` of the initial times, or ``"valid_season"`` and so
        on.

    Raises
    ------
    ValueError
        An unknown group.
    """

    def __init__(self, statistics: xr.Dataset, by: str | None = None) -> None:
        if by is not None and by not in _BY:
            raise ValueError(f"by is {by!r}, expected one of {', '.join(_BY)}.")
        self.statistics, self.by = statistics, by
        self._members: dict[str | int, xr.DataArray] = {}
        if by is not None:
            times = statistics["init_time"]
            if by.startswith("valid_"):
                times = xr.DataArray(
                    after(times.values[:, np.newaxis], statistics["lead_time"].values),
                    dims=("init_time", "lead_time"),
                )
            label_of, order = GROUPS[by.removeprefix("valid_")]
            labels = label_of(times.values)
            for label in order:
                if (labels == label).any():
                    self._members[label] = xr.DataArray(labels == label, dims=times.dims)

    def __call__(self, sums: str | xr.DataArray) -> xr.DataArray:
        """Add up a statistic, by name or any array with ``init_time``."""
        array = self.statistics[sums] if isinstance(sums, str) else sums
        if self.by is None:
            return _sum(array)
        groups = [_sum(array.where(member, 0)) for member in self._members.values()]
        total = xr.concat(groups, pd.Index(list(self._members), name=self.by))
        lead = ("lead_time",) if "lead_time" in array.dims else ()
        others = [d for d in array.dims if d not in ("init_time", "lead_time")]
        own = [d for d in others if d in ("variable", "region")]
        return total.transpose(*own, self.by, *lead, *(d for d in others if d not in own))


def _sum(sums: xr.DataArray) -> xr.DataArray:
    # In C order whatever the input's, so that any partition gives the same bits.
    return sums.reduce(lambda a, axis: np.ascontiguousarray(a).sum(axis=axis), "init_time")
