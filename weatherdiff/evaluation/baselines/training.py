"""The training period of a reference: which analyses it may see, by hour and season."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.evaluation.alignment import Times, analysis_times
from weatherdiff.evaluation.baselines.reference import Index

__all__ = [
    "DAY",
    "day_of_year",
    "hour_of_day",
    "refuse_seen",
    "refuse_unknown_season",
    "season_distance",
    "spans_a_year",
    "within",
]

DAY = np.timedelta64(1, "D")
_DAYS_OF_YEAR = 365


def within(analyses: xr.Dataset, period: tuple[object, object]) -> xr.Dataset:
    """Select the analyses of a training period, both ends included.

    Raises
    ------
    DimensionError
        ``time`` is missing or is not made of dates.
    InputError
        No analysis lies in the period, or times are not ascending.
    """
    analysis_times(analyses)  # a slice of unsorted times would fail with less to say
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
    seen = (valid >= times[0]) & (valid <= times[-1])
    if seen.any():
        raise InputError(
            f"{seen.sum()} valid times, the first {pd.Timestamp(valid[seen].min())}, lie in "
            f"the {owner}'s own training period, {pd.Timestamp(times[0])} to "
            f"{pd.Timestamp(times[-1])}."
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
            f"{pd.Timestamp(valid[strange].min())} is valid at an hour without training data; "
            f"they are at {[str(pd.Timedelta(hour)) for hour in hours[:4]]} ... after midnight."
        )
    if not spans_a_year(times):
        return
    trained = np.unique(day_of_year(times))
    days = np.unique(day_of_year(valid))
    far = season_distance(days[:, np.newaxis], trained).min(axis=1) > window
    if far.any():
        raise InputError(
            f"the training period has no data within {window} days of the season of day of year "
            f"{days[far][0] + 1}."
        )


def spans_a_year(times: Times) -> bool:
    """Tell whether there is a whole calendar year, ends included, and so a season."""
    return bool(times[-1] - times[0] >= (_DAYS_OF_YEAR - 1) * DAY)


def hour_of_day(times: Times | np.datetime64) -> Index:
    """Nanoseconds since midnight."""
    return (times - times.astype("datetime64[D]")).astype("timedelta64[ns]").astype(np.int64)


def day_of_year(times: Times | np.datetime64) -> Index:
    """0..364; the last day of a leap year counts with the one before."""
    days = (times.astype("datetime64[D]") - times.astype("datetime64[Y]")).astype(np.int64)
    return np.minimum(days, _DAYS_OF_YEAR - 1)


def season_distance(days: Index, day: Index | int) -> Index:
    """Days between days of the year, the shorter way round."""
    apart = np.abs(days - day)
    return np.minimum(apart, _DAYS_OF_YEAR - apart)
