"""The last analysis as a forecast."""

from __future__ import annotations

import numpy as np
import xarray as xr

from weatherdiff.evaluation.alignment import Leads, Times, analysis_times, positions
from weatherdiff.evaluation.baselines.reference import frames_at, in_nanoseconds

__all__ = ["Persistence"]


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
        """
        init_times, lead_times = in_nanoseconds(init_times, lead_times)
        index = positions(self._times, init_times)[:, np.newaxis, np.newaxis]
        index = np.broadcast_to(index, (len(init_times), len(lead_times), 1))
        return frames_at(self._analyses, index, init_times, lead_times)
