"""Groups of times by season, month or hour of the day, for scores of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from weatherdiff.data.calendars import Calendar
from weatherdiff.errors import DimensionError, InputError

__all__ = ["GROUPS", "HOURS", "MONTHS", "SEASONS", "hour_of", "month_of", "season_of"]

#: Labels in the order in which scores are given.
SEASONS = ("DJF", "MAM", "JJA", "SON")
MONTHS = tuple(range(1, 13))
HOURS = tuple(range(24))


def season_of(times: npt.ArrayLike) -> npt.NDArray[np.str_]:
    """Meteorological season, one of :data:`SEASONS`; December counts for the coming winter.

    Parameters
    ----------
    times : (...)
        Dates as datetime64, UTC, or those of cftime.

    Returns
    -------
    (...)
        Labels.

    Raises
    ------
    DimensionError
        They are no dates, or some are missing.

    Examples
    --------
    >>> print(season_of(np.array(["2019-12-31", "2020-06-01"], "datetime64[D]")))
    ['DJF' 'JJA']
    """
    return np.array(SEASONS)[month_of(times) % 12 // 3]


def month_of(times: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Month of the year from 1 to 12; parameters and errors as for :func:`season_of`.

    Examples
    --------
    >>> month_of(np.array(["1969-12-31", "2020-02-29"], "datetime64[D]"))
    array([12,  2])
    """
    return _field(times, "month") if _are_objects(times) else _since(times, "M", "Y") + 1


def hour_of(times: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Hour of the day in UTC from 0 to 23; parameters and errors as for :func:`season_of`.

    Examples
    --------
    >>> hour_of(np.array(["1969-12-31T18:59", "2020-02-29T00:00"], "datetime64[m]"))
    array([18,  0])
    """
    return _field(times, "hour") if _are_objects(times) else _since(times, "h", "D")


#: By name, the function that labels times and all of its labels in order.
GROUPS: Mapping[
    str, tuple[Callable[[npt.ArrayLike], npt.NDArray[np.generic]], tuple[str | int, ...]]
] = {
    "season": (season_of, SEASONS),
    "month": (month_of, MONTHS),
    "hour": (hour_of, HOURS),
}


def _are_objects(times: npt.ArrayLike) -> bool:
    return np.asarray(times).dtype == object


def _field(times: npt.ArrayLike, name: str) -> npt.NDArray[np.int64]:
    """Month or hour of dates of cftime."""
    values = np.asarray(times)
    try:
        Calendar.of(values)
    except InputError as error:
        raise DimensionError(str(error)) from None
    found = [getattr(date, name) for date in values.flat]
    return np.array(found, np.int64).reshape(values.shape)


def _since(times: npt.ArrayLike, unit: str, start: str) -> npt.NDArray[np.int64]:
    """Whole units since the start of the longer unit that a time is in."""
    values = np.asarray(times)
    if values.dtype.kind != "M" or np.isnat(values).any():
        raise DimensionError(
            f"times are of type {values.dtype}, or some are missing; expected dates (datetime64)."
        )
    floor = values.astype(f"datetime64[{unit}]")
    return (floor - values.astype(f"datetime64[{start}]")).astype(np.int64)
