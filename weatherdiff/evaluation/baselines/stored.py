"""Somebody else's forecasts as a reference."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from weatherdiff.data.calendars import on_axis, require_same_calendar
from weatherdiff.errors import DimensionError, InputError
from weatherdiff.evaluation.alignment import Leads, Times
from weatherdiff.evaluation.alignment import init_times as known_init_times
from weatherdiff.evaluation.alignment import lead_times as known_lead_times
from weatherdiff.evaluation.baselines.reference import (
    FORECAST_DIMS,
    in_nanoseconds,
    with_coordinates,
)

__all__ = ["StoredForecast"]


class StoredForecast:
    """Forecasts that exist already, selected exactly by initial time and lead time.

    A time they do not have gives NaN, so that ``evaluate(..., nan="omit")`` compares two models on
    what both have.

    Parameters
    ----------
    forecasts : (init_time, lead_time, number, ...)
        Forecasts, in memory or lazy, in any order of the dimensions and times.

    Attributes
    ----------
    members : int
        Number of members.

    Raises
    ------
    DimensionError
        A dimension is missing, or lead times have no unit.
    InputError
        An initial or lead time occurs twice.

    Examples
    --------
    >>> inits = np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[ns]")
    >>> leads = np.array([12, 24], dtype="timedelta64[h]").astype("timedelta64[ns]")
    >>> ds = xr.Dataset(
    ...     {"t": (("init_time", "lead_time", "number"), [[[1.0], [2.0]], [[3.0], [4.0]]])},
    ...     {"init_time": inits, "lead_time": leads},
    ... )
    >>> wanted = inits + np.timedelta64(1, "D")
    >>> StoredForecast(ds).forecast(wanted, leads[1:])["t"].values.ravel()
    array([ 4., nan])
    """

    def __init__(self, forecasts: xr.Dataset) -> None:
        missing = [name for name in FORECAST_DIMS if name not in forecasts.dims]
        if missing:
            raise DimensionError(
                f"the stored forecasts have no dimension {', '.join(missing)}; a single forecast "
                "needs expand_dims of init_time, lead_time or number."
            )
        self._forecasts = forecasts
        self._inits = known_init_times(forecasts)
        self._leads = pd.Index(known_lead_times(forecasts))
        if not self._leads.is_unique:
            raise InputError("lead_time of the stored forecasts holds a value twice.")
        self.members = forecasts.sizes["number"]

    def forecast(self, init_times: Times, lead_times: Leads) -> xr.Dataset:
        """Select the forecasts of these times.

        Parameters
        ----------
        init_times : (init_time,)
            Initial times, ``datetime64`` or dates of cftime.
        lead_times : (lead_time,)
            Lead times, ``timedelta64``.

        Returns
        -------
        xr.Dataset
            Forecasts over ``(init_time, lead_time, number, ...)``, NaN where there is none; lazy
            if those given are.

        Raises
        ------
        DimensionError
            The times have no unit.
        """
        init_times, lead_times = in_nanoseconds(init_times, lead_times)
        require_same_calendar(init_times, self._inits, ("the forecasts", "the stored forecasts"))
        rows = pd.Index(on_axis(self._inits)).get_indexer(pd.Index(on_axis(init_times)))
        columns = self._leads.get_indexer(pd.Index(lead_times))
        found = xr.DataArray(
            (rows >= 0)[:, np.newaxis] & (columns >= 0), dims=("init_time", "lead_time")
        )
        variables = {}
        for name, field in self._forecasts.data_vars.items():
            if not set(FORECAST_DIMS) <= set(field.dims):
                continue
            taken = field.isel(init_time=rows.clip(min=0), lead_time=columns.clip(min=0))
            taken = taken.drop_vars(
                [c for c, values in taken.coords.items() if {*FORECAST_DIMS} & {*values.dims}]
            )
            if not found.all():
                taken = taken.where(found)
            variables[str(name)] = taken.transpose(*FORECAST_DIMS, ...)
        return with_coordinates(variables, init_times, lead_times, self.members)
