"""An ensemble of what followed the training states nearest to the present one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.calendars import after, on_axis, written
from weatherdiff.errors import InputError
from weatherdiff.evaluation.alignment import Leads, Times, positions
from weatherdiff.evaluation.baselines.reference import Index, frames_at, in_nanoseconds
from weatherdiff.evaluation.baselines.smooth_climatology import SmoothClimatology
from weatherdiff.evaluation.baselines.state_space import StateSpace
from weatherdiff.evaluation.baselines.training import (
    DAY,
    day_of_year,
    days_of_year,
    hour_of_day,
    refuse_seen,
    season_distance,
    spans_a_year,
    within,
)

__all__ = ["AnalogEnsemble"]


class AnalogEnsemble:
    """Ensemble of analogs: a member is what followed a training state like the one at init time.

    States are compared as anomalies from a :class:`SmoothClimatology` in local standard
    deviations, weighted by area, all variables and levels together, projected on their leading
    EOFs: the distance is Euclidean. Candidates are the training times at the hour of day of the
    initial time and within ``window`` days of its season (a record of less than a year has none),
    followed by an analysis at every lead time. The nearest is taken, then the nearest at least
    ``separation`` days from those taken before, and so on; members are ordered by distance.

    Parameters
    ----------
    analyses : xr.Dataset
        Variables over ``(time, ...)``, ascending in time, covering the initial times; lazy ones
        are read by blocks of time, seven times over for the fit.
    period : (start, end)
        Training period, both ends included, as anything ``analyses.sel(time=slice(...))`` takes.
    members : int
        Number of members.
    window : int
        Half-width in days of the season.
    variables : sequence of str, optional
        Variables that states are compared in; all unless given. All are forecast.
    separation : float
        Days between two analogs, at least.
    truncation : int
        EOFs the comparison keeps, at most the rank of the record (which makes it exact).

    Attributes
    ----------
    members : int
        Number of members.

    Raises
    ------
    DimensionError
        ``time`` is missing or is not made of dates.
    InputError
        No analysis lies in the period, times are not ascending, or a variable is missing.
    ValueError
        Members or truncation below one.

    References
    ----------
    Lorenz (1969), doi:10.1175/1520-0469(1969)26<636:APARBN>2.0.CO;2.
    Delle Monache et al. (2013), doi:10.1175/MWR-D-12-00281.1.

    Examples
    --------
    >>> time = np.arange("2020-01-01", "2020-01-13", dtype="datetime64[D]")
    >>> saw = np.arange(12.0) % 6
    >>> ds = xr.Dataset({"t": ("time", saw)}, {"time": time.astype("datetime64[ns]")})
    >>> analogs = AnalogEnsemble(ds, period=("2020-01-01", "2020-01-09"), members=1)
    >>> analogs.forecast(ds["time"].values[-2:-1], np.array([1], "timedelta64[D]"))["t"].values
    array([[[5.]]])
    """

    def __init__(
        self,
        analyses: xr.Dataset,
        *,
        period: tuple[object, object],
        members: int,
        window: int = 30,
        variables: Sequence[str] | None = None,
        separation: float = 5.0,
        truncation: int = 20,
    ) -> None:
        if members < 1 or truncation < 1:
            raise ValueError(
                f"members is {members} and truncation {truncation}, expected at least one."
            )
        compared = list(analyses.data_vars if variables is None else variables)
        missing = [name for name in compared if name not in analyses.data_vars]
        if missing:
            raise InputError(f"the analyses hold no {', '.join(map(str, missing))}.")
        self.members = members
        self._analyses = analyses[compared]
        self._window, self._separation = window, separation * DAY.astype("timedelta64[ns]")
        self._space = StateSpace.fit(SmoothClimatology(self._analyses, period=period), truncation)
        self._times = self._space.climatology.record.times
        self._training = within(analyses, period)

    def forecast(self, init_times: Times, lead_times: Leads) -> xr.Dataset:
        """Analogs of the analyses at the initial times.

        Parameters
        ----------
        init_times : (init_time,)
            Initial times, ``datetime64`` or dates of cftime.
        lead_times : (lead_time,)
            Lead times, ``timedelta64``. The choice of analogs depends on the longest one.

        Returns
        -------
        xr.Dataset
            Forecasts over ``(init_time, lead_time, number, ...)``, in the analyses' units, NaN
            where the analysis at the initial time is missing or lacks values. The initial states
            are read at once, by blocks; the members are lazy.

        Raises
        ------
        DimensionError
            The times have no unit.
        InputError
            A valid time lies within the training period, or there are fewer analogs than members.
        """
        init_times, lead_times = in_nanoseconds(init_times, lead_times)
        valid = after(init_times[:, np.newaxis], lead_times)
        refuse_seen(self._times, valid, "analog ensemble")
        axis = on_axis(self._times)
        followed = np.stack([positions(axis, after(axis, lead)) for lead in lead_times], axis=1)
        usable = self._space.climatology.record.all_complete & np.all(followed >= 0, axis=1)
        states = self._space.project(self._analyses, init_times)
        index = np.full((len(init_times), len(lead_times), self.members), -1)
        for i, (init, state) in enumerate(zip(init_times, states, strict=True)):
            if not np.isnan(state).any():
                index[i] = followed[self._nearest(init, state, usable)].T
        return frames_at(self._training, index, init_times, lead_times)

    def _nearest(
        self, init: np.datetime64, state: npt.NDArray[np.float64], usable: npt.NDArray[np.bool_]
    ) -> Index:
        """Training positions of the analogs of a state, nearest first."""
        candidates = usable & (hour_of_day(self._times) == hour_of_day(init))
        if spans_a_year(self._times):
            year = days_of_year(self._times)
            apart = season_distance(day_of_year(self._times), day_of_year(init), year)
            candidates &= apart <= self._window
        left = np.flatnonzero(candidates)
        distance = ((self._space.components[left] - state) ** 2).sum(axis=1)
        left = left[np.argsort(distance, kind="stable")]
        axis = on_axis(self._times)
        chosen: list[int] = []
        while left.size and len(chosen) < self.members:
            chosen.append(left[0])
            apart = np.abs(axis[left] - axis[left[0]])
            left = left[(apart >= self._separation) & (left != left[0])]
        if len(chosen) < self.members:
            raise InputError(
                f"{written(init, 'h')} has {len(chosen)} analogs "
                f"{self._separation / DAY:g} days apart at its hour and season, fewer than "
                f"{self.members} members; widen the window or lower the separation."
            )
        return np.array(chosen)
