"""Reference forecasts made from analyses, in the layout of any other ensemble forecast.

A reference is a table of positions in time, one for each initial time, lead time and member; its
frames are gathered lazily, a block of initial times at a time.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from weatherdiff.errors import DimensionError, InputError
from weatherdiff.evaluation.alignment import (
    Leads,
    Times,
    analysis_times,
    gather,
    positions,
)

__all__ = ["ClimatologyEnsemble", "Persistence", "Reference"]

Index = npt.NDArray[np.int64]

# Initial times per dask block: what is in memory at once, beside the frames they draw on.
_BLOCK_INITS = 16
_DAY = np.timedelta64(1, "D")
_DAYS_OF_YEAR = 365


class Reference(Protocol):
    """What a reference gives: forecasts of ``members`` members for any times asked."""

    members: int

    def forecast(self, init_times: Times, lead_times: Leads) -> xr.Dataset:
        """Forecasts over ``(init_time, lead_time, number, ...)``."""
        ...


class ClimatologyEnsemble:
    """Ensemble of the days of a training period, each at the hour of day of the valid time.

    A record of less than a year gives every day of it as a member. A longer one gives the days
    within a window around the valid time's day of the year, all years together. The number of
    members is the same for every valid time: that of the hour and day of year with the fewest;
    where there are more, those nearest in the season, then the latest, are taken.

    Parameters
    ----------
    analyses : xr.Dataset
        Variables over ``(time, ...)``, ascending in time.
    period : (start, end)
        Training period, both ends included, as anything ``analyses.sel(time=slice(...))`` takes.
    window : int
        Half-width in days of the window of a longer record.

    Attributes
    ----------
    members : int
        Number of members.

    Raises
    ------
    DimensionError
        ``time`` is missing or is not made of dates.
    InputError
        No analysis lies in the period, or times are not ascending.

    Examples
    --------
    >>> time = np.arange("2020-01-01", "2020-01-05", 12, dtype="datetime64[h]")
    >>> ds = xr.Dataset({"t": ("time", np.arange(8.0))}, {"time": time.astype("datetime64[ns]")})
    >>> climatology = ClimatologyEnsemble(ds, period=("2020-01-01", "2020-01-03"))
    >>> inits = np.array(["2020-01-04T00"], dtype="datetime64[ns]")
    >>> climatology.forecast(inits, np.array([12], dtype="timedelta64[h]"))["t"].values
    array([[[1., 3., 5.]]])
    """

    def __init__(
        self, analyses: xr.Dataset, *, period: tuple[object, object], window: int = 15
    ) -> None:
        analysis_times(analyses)  # a slice of unsorted times would fail with less to say
        analyses = analyses.sel(time=slice(*period))
        self._times = analysis_times(analyses)
        if self._times.size == 0:
            raise InputError(f"no analysis lies in the training period {period[0]} to {period[1]}.")
        self._analyses = analyses
        self._window = window
        self._hours = _hour_of_day(self._times)
        # A whole calendar year, ends included, has a season to tell apart.
        self._seasonal = self._times[-1] - self._times[0] >= (_DAYS_OF_YEAR - 1) * _DAY
        self._days = _day_of_year(self._times) if self._seasonal else np.zeros_like(self._hours)
        self.members = self._fewest_days()

    def forecast(self, init_times: Times, lead_times: Leads) -> xr.Dataset:
        """Climatological ensemble for the valid times.

        Parameters
        ----------
        init_times : (init_time,)
            Initial times, ``datetime64``.
        lead_times : (lead_time,)
            Lead times, ``timedelta64``.

        Returns
        -------
        xr.Dataset
            Lazy forecasts over ``(init_time, lead_time, number, ...)``, in the analyses' units.

        Raises
        ------
        DimensionError
            The times have no unit.
        InputError
            A valid time lies within the training period, whose climatology has seen the outcome,
            or at an hour or season that has no training days.
        """
        init_times, lead_times = _in_nanoseconds(init_times, lead_times)
        valid = init_times[:, np.newaxis] + lead_times
        seen = (valid >= self._times[0]) & (valid <= self._times[-1])
        if seen.any():
            raise InputError(
                f"{seen.sum()} valid times, the first {pd.Timestamp(valid[seen].min())}, lie in "
                f"the climatology's own training period, {pd.Timestamp(self._times[0])} to "
                f"{pd.Timestamp(self._times[-1])}."
            )
        days = _day_of_year(valid) if self._seasonal else np.zeros(valid.shape, dtype=np.int64)
        moments, inverse = np.unique(
            np.stack([_hour_of_day(valid).ravel(), days.ravel()]), axis=1, return_inverse=True
        )
        rows = np.stack([self._training_days(hour, day) for hour, day in moments.T])
        index = rows[inverse.ravel()].reshape(*valid.shape, self.members)
        return _forecasts(self._analyses, index, init_times, lead_times)

    def _fewest_days(self) -> int:
        """Count the training days of the hour and day of year that has the fewest."""
        counts = []
        for hour in np.unique(self._hours):
            days, repeats = np.unique(self._days[self._hours == hour], return_counts=True)
            near = _season_distance(days[:, np.newaxis], days) <= self._window
            counts.append((near * repeats).sum(axis=1).min())
        return int(min(counts))

    def _training_days(self, hour: int, day: int) -> Index:
        """Positions of the training days for an hour of day and a day of year, ascending."""
        candidates = np.flatnonzero(self._hours == hour)
        distance = _season_distance(self._days[candidates], day)
        near = candidates[distance <= self._window]
        if near.size < self.members:
            raise InputError(
                f"the climatology has {near.size} training days, fewer than {self.members}, at "
                f"{pd.Timedelta(hour)} after midnight within {self._window} days of day of year "
                f"{day + 1}; forecasts lie outside the hours or season of the training period."
            )
        nearest = np.lexsort((-near, distance[distance <= self._window]))
        return np.sort(near[nearest[: self.members]])


class Persistence:
    """The analysis at the initial time, for every lead time: an ensemble of one member.

    Its CRPS is the absolute error (the fair CRPS is undefined for one member). Where the analysis
    at an initial time is missing the forecast is NaN.

    Parameters
    ----------
    analyses : xr.Dataset
        Variables over ``(time, ...)``, ascending in time, covering the initial times.

    Attributes
    ----------
    members : int
        One.

    Raises
    ------
    DimensionError
        ``time`` is missing or is not made of dates.
    InputError
        Times are not ascending.

    Examples
    --------
    >>> time = np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[ns]")
    >>> persistence = Persistence(xr.Dataset({"t": ("time", [1.0, 2.0])}, {"time": time}))
    >>> persistence.forecast(time[1:], np.array([6, 12], dtype="timedelta64[h]"))["t"].values
    array([[[2.],
            [2.]]])
    """

    members = 1

    def __init__(self, analyses: xr.Dataset) -> None:
        self._analyses = analyses
        self._times = analysis_times(analyses)

    def forecast(self, init_times: Times, lead_times: Leads) -> xr.Dataset:
        """Persist the analyses at the initial times.

        Parameters
        ----------
        init_times : (init_time,)
            Initial times, ``datetime64``.
        lead_times : (lead_time,)
            Lead times, ``timedelta64``.

        Returns
        -------
        xr.Dataset
            Lazy forecasts over ``(init_time, lead_time, number, ...)``, in the analyses' units.

        Raises
        ------
        DimensionError
            The times have no unit.
        """
        init_times, lead_times = _in_nanoseconds(init_times, lead_times)
        index = positions(self._times, init_times)[:, np.newaxis, np.newaxis]
        index = np.broadcast_to(index, (len(init_times), len(lead_times), 1))
        return _forecasts(self._analyses, index, init_times, lead_times)


def _forecasts(analyses: xr.Dataset, index: Index, inits: Times, leads: Leads) -> xr.Dataset:
    """Forecasts whose frames are the analyses at positions (init_time, lead_time, number)."""
    dims = ("init_time", "lead_time", "number")
    blocks = [index[i : i + _BLOCK_INITS] for i in range(0, len(index), _BLOCK_INITS)]
    variables = {
        name: xr.concat(
            [gather(field, block, dims) for block in blocks],
            "init_time",
            coords="minimal",
            compat="override",
            join="exact",
        )
        for name, field in analyses.data_vars.items()
        if "time" in field.dims
    }
    return xr.Dataset(variables).assign_coords(
        init_time=inits,
        lead_time=leads,
        number=np.arange(index.shape[-1]),
        valid_time=(dims[:2], inits[:, np.newaxis] + leads),
    )


def _in_nanoseconds(inits: Times, leads: Leads) -> tuple[Times, Leads]:
    inits, leads = np.asarray(inits), np.asarray(leads)
    if inits.dtype.kind != "M" or leads.dtype.kind != "m":
        raise DimensionError(
            f"init_time is {inits.dtype} and lead_time is {leads.dtype}, expected datetime64 and "
            "timedelta64."
        )
    return inits.astype("datetime64[ns]"), leads.astype("timedelta64[ns]")


def _hour_of_day(times: Times) -> Index:
    """Nanoseconds since midnight."""
    return (times - times.astype("datetime64[D]")).astype("timedelta64[ns]").astype(np.int64)


def _day_of_year(times: Times) -> Index:
    """0..364; the last day of a leap year counts with the one before."""
    days = (times.astype("datetime64[D]") - times.astype("datetime64[Y]")).astype(np.int64)
    return np.minimum(days, _DAYS_OF_YEAR - 1)


def _season_distance(days: Index, day: Index | int) -> Index:
    """Days between days of the year, the shorter way round."""
    apart = np.abs(days - day)
    return np.minimum(apart, _DAYS_OF_YEAR - apart)
