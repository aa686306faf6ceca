"""The climatology as an ensemble of training days."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from weatherdiff.data.calendars import after
from weatherdiff.errors import InputError
from weatherdiff.evaluation.alignment import Leads, Times, analysis_times
from weatherdiff.evaluation.baselines.reference import Index, frames_at, in_nanoseconds
from weatherdiff.evaluation.baselines.training import (
    day_of_year,
    days_of_year,
    hour_of_day,
    refuse_seen,
    season_distance,
    spans_a_year,
    within,
)

__all__ = ["ClimatologyEnsemble"]


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
        analyses = within(analyses, period)
        self._times = analysis_times(analyses)
        self._analyses = analyses
        self._window = window
        self._hours = hour_of_day(self._times)
        self._seasonal, self._year = spans_a_year(self._times), days_of_year(self._times)
        self._days = day_of_year(self._times) if self._seasonal else np.zeros_like(self._hours)
        self.members = self._fewest_days()

    def forecast(self, init_times: Times, lead_times: Leads) -> xr.Dataset:
        """Climatological ensemble for the valid times.

        Parameters
        ----------
        init_times : (init_time,)
            Initial times, ``datetime64`` or dates of cftime.
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
        init_times, lead_times = in_nanoseconds(init_times, lead_times)
        valid = after(init_times[:, np.newaxis], lead_times)
        refuse_seen(self._times, valid, "climatology")
        days = day_of_year(valid) if self._seasonal else np.zeros(valid.shape, dtype=np.int64)
        moments, inverse = np.unique(
            np.stack([hour_of_day(valid).ravel(), days.ravel()]), axis=1, return_inverse=True
        )
        rows = np.stack([self._training_days(hour, day) for hour, day in moments.T])
        index = rows[inverse.ravel()].reshape(*valid.shape, self.members)
        return frames_at(self._analyses, index, init_times, lead_times)

    def _fewest_days(self) -> int:
        """Count the training days of the hour and day of year that has the fewest."""
        counts = []
        for hour in np.unique(self._hours):
            days, repeats = np.unique(self._days[self._hours == hour], return_counts=True)
            near = season_distance(days[:, np.newaxis], days, self._year) <= self._window
            counts.append((near * repeats).sum(axis=1).min())
        return int(min(counts))

    def _training_days(self, hour: int, day: int) -> Index:
        """Positions of the training days for an hour of day and a day of year, ascending."""
        candidates = np.flatnonzero(self._hours == hour)
        distance = season_distance(self._days[candidates], day, self._year)
        near = candidates[distance <= self._window]
        if near.size < self.members:
            raise InputError(
                f"the climatology has {near.size} training days, fewer than {self.members}, at "
                f"{pd.Timedelta(hour)} after midnight within {self._window} days of day of year "
                f"{day + 1}; forecasts lie outside the hours or season of the training period."
            )
        nearest = np.lexsort((-near, distance[distance <= self._window]))
        return np.sort(near[nearest[: self.members]])
