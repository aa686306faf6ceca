"""The training period of a reference: which analyses it may see, by hour and season."""

from __future__ import annotations

from typing import Any

import cftime
import numpy as np
import pandas as pd
import xarray as xr

from weatherdiff.data.calendars import Calendar, on_axis, require_same_calendar
from weatherdiff.errors import InputError
from weatherdiff.evaluation.alignment import Times, analysis_times
from weatherdiff.evaluation.baselines.reference import Index

__all__ = [
    "DAY",
    "calendar_of",
    "day_of_year",
    "days_of_year",
    "hour_of_day",
    "refuse_seen",
    "refuse_unknown_season",
    "season_distance",
    "spans_a_year",
    "within",
]

DAY = np.timedelta64(1, "D")
_SECONDS_OF_DAY = 86_400


def within(analyses: xr.Dataset, period: tuple[object, object]) -> xr.Dataset:
    """Select the analyses of a training period, both ends included.

    Raises
    ------
    DimensionError
        ``time`` is missing or is not made of dates.
    InputError
        No analysis lies in the period, or times are not ascending.
    """
    times = analysis_times(analyses)  # a slice of unsorted times would fail with less to say
    if times.dtype == object:  # read as everywhere else: xarray reads fewer ways of writing
        ends = [_end(Calendar.of(times), end, last) for last, end in enumerate(period)]
        place = on_axis(times).astype(np.int64)
        selected = analyses.isel(time=slice(*np.searchsorted(place, [ends[0], ends[1] + 1])))
    else:
        selected = analyses.sel(time=slice(*period))
    if selected.sizes["time"] == 0:
        raise InputError(f"no analysis lies in the training period {period[0]} to {period[1]}.")
    return selected


def refuse_seen(times: Times, valid: Times, owner: str) -> None:
    """Refuse valid times within the training times, whose outcome has been seen.

    Raises
    ------
    InputError
        A valid time lies between the first training time and the last.
    """
    require_same_calendar(valid, times, ("the valid times", f"the training times of the {owner}"))
    axis, ends = on_axis(valid), on_axis(times[[0, -1]])
    seen = (axis >= ends[0]) & (axis <= ends[1])
    if seen.any():
        raise InputError(
            f"{seen.sum()} valid times, the first {_shown(valid[seen].min())}, lie in "
            f"the {owner}'s own training period, {_shown(times[0])} to "
            f"{_shown(times[-1])}."
        )


def refuse_unknown_season(times: Times, valid: Times, window: int) -> None:
    """Refuse valid times at an hour, or further than ``window`` days from a season, not trained on.

    Raises
    ------
    InputError
        There is such a valid time.
    """
    hours = np.unique(hour_of_day(times))
    strange = ~np.isin(hour_of_day(valid), hours)
    if strange.any():
        raise InputError(
            f"{_shown(valid[strange].min())} is valid at an hour without training data; "
            f"they are at {[str(pd.Timedelta(hour)) for hour in hours[:4]]} ... after midnight."
        )
    if not spans_a_year(times):
        return
    trained = np.unique(day_of_year(times))
    days = np.unique(day_of_year(valid))
    length = days_of_year(times)
    far = season_distance(days[:, np.newaxis], trained, length).min(axis=1) > window
    if far.any():
        raise InputError(
            f"the training period has no data within {window} days of the season of day of year "
            f"{days[far][0] + 1}."
        )


def spans_a_year(times: Times) -> bool:
    """Tell whether there is a whole calendar year, ends included, and so a season."""
    first, last = on_axis(times[[0, -1]])
    return bool(last - first >= (days_of_year(times) - 1) * DAY)


def hour_of_day(times: Times | np.datetime64) -> Index:
    """Nanoseconds since midnight."""
    if not isinstance(times, np.datetime64) and np.asarray(times).dtype == object:
        return on_axis(times).astype(np.int64) % _SECONDS_OF_DAY * 10**9
    return (times - times.astype("datetime64[D]")).astype("timedelta64[ns]").astype(np.int64)


def day_of_year(times: Times | np.datetime64) -> Index:
    """0..364; the last day of a leap year counts with the one before; of 360 days 0..359."""
    return calendar_of(times).day_of_year(times)


def days_of_year(times: Times) -> int:
    """Give the length of the year in days, of years that have no leap day."""
    return calendar_of(times).days


def season_distance(days: Index, day: Index | int, length: int) -> Index:
    """Days between days of the year of so many days, the shorter way round."""
    apart = np.abs(days - day)
    return np.minimum(apart, length - apart)


def calendar_of(times: Times | np.datetime64) -> Calendar:
    """Give the calendar of dates; the standard one if there are none."""
    values = np.asarray(times)
    return Calendar.of(values) if values.dtype == object and values.size else Calendar()


def _end(calendar: Calendar, date: object, last: int) -> int:
    """First or last second of one end of a period."""
    return calendar.span(date)[last] if isinstance(date, str) else calendar.parse(date)


def _shown(time: Any) -> str:
    return str(time if isinstance(time, cftime.datetime) else pd.Timestamp(time))
