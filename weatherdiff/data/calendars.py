"""Dates of a calendar as seconds since its 1970-01-01, and back: all else is arithmetic on these.

Climate models count years of 365, 366 or 360 days. Their days have 86400 seconds like any other, so
that windows, steps and periods are found in them as in the standard calendar, if only dates are
read and written in the calendar of the data: 30 February is a day of ``360_day``, and from 28
February to 1 March it is one day in ``noleap``.

Arrays of dates are datetime64 in the standard calendar and objects of cftime in the others, so that
dates know their calendar. numpy adds no timedelta64 to objects: :func:`after` does, for either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import cftime
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from weatherdiff.errors import ConfigError, InputError

__all__ = [
    "CALENDARS",
    "STANDARD",
    "Calendar",
    "after",
    "is_cftime",
    "on_axis",
    "require_same_calendar",
    "whole_seconds",
    "written",
]

Int = npt.NDArray[np.int64]

#: What xarray calls the calendar of numpy's dates.
STANDARD = "proleptic_gregorian"

DAY = 86_400

#: The calendars that are kept, and the mean length of their years in days.
CALENDARS = {
    STANDARD: 365.2425,
    "julian": 365.25,
    "noleap": 365.0,
    "all_leap": 366.0,
    "360_day": 360.0,
}
_ALIASES = {"365_day": "noleap", "366_day": "all_leap", "standard": STANDARD, "gregorian": STANDARD}
ROUNDING = np.timedelta64(1, "ms")
_EPOCH = "seconds since 1970-01-01 00:00:00"
#: What pandas need not guess: "12:00", "06" and "Jan 5" have no year, and 1/2/2020 is a day in
#: January to some and one in February to others.
_YEAR = re.compile(r"(?<!\d)(\d{4}|\d{8})(?!\d)")
_DAY_OR_MONTH = re.compile(r"\d{1,2}[-/.]")

_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d)(?::(\d\d)(?::(\d\d)(?:\.0*)?)?)?)?)?)?"
    r"\s*(?:Z|[+-]00:?00)?"
)


@dataclass(frozen=True)
class Calendar:
    """A calendar by its CF name.

    Parameters
    ----------
    name : str
        One of :data:`CALENDARS`, or another name for one.

    Raises
    ------
    InputError
        An unknown calendar.

    Examples
    --------
    >>> calendar = Calendar("360_day")
    >>> calendar.iso(calendar.parse("2001-02-30T06"))
    '2001-02-30T06:00Z'
    >>> (calendar.parse("2001-03-01") - calendar.parse("2001-02-01")) // 86400
    30
    """

    name: str = STANDARD

    def __post_init__(self) -> None:
        name = _ALIASES.get(self.name, self.name)
        if name not in CALENDARS:
            raise InputError(f"Unknown calendar {name!r}; known are {', '.join(CALENDARS)}.")
        object.__setattr__(self, "name", name)

    @classmethod
    def of(cls, times: xr.DataArray | npt.NDArray[Any]) -> Calendar:
        """Give the calendar of dates.

        Raises
        ------
        InputError
            They are no dates, or standard ones that numpy's nanoseconds cannot hold.
        """
        values = times.values if isinstance(times, xr.DataArray) else np.asarray(times)
        if values.dtype.kind == "M":
            return cls()
        first = values.flat[0] if values.dtype == object and values.size else None
        if not isinstance(first, cftime.datetime):
            raise InputError(f"These are no dates but of type {values.dtype}; use open_fields.")
        name = _ALIASES.get(first.calendar, first.calendar)
        if name == STANDARD:
            raise InputError(
                f"The dates, {first} and so on, are of the {first.calendar} calendar but not "
                "between the years 1678 and 2262, which is all that is supported in it."
            )
        return cls(name)

    @property
    def standard(self) -> bool:
        """Whether dates are numpy's."""
        return self.name == STANDARD

    @property
    def year(self) -> float:
        """Mean length of a year in seconds."""
        return CALENDARS[self.name] * DAY

    def seconds(self, times: npt.ArrayLike) -> Int:
        """Turn dates of this calendar into seconds.

        Raises
        ------
        InputError
            They are of another calendar.
        """
        values = np.asarray(times)
        if values.dtype != object or not values.size:
            if not self.standard and values.size:
                raise InputError(f"Dates of the calendar {self.name} were expected, found {values}")
            if values.dtype.kind == "M":  # to the nearest: a cast would cut 05:59:59.999999 down
                values = _nearest_second(values)
            return np.asarray(values, dtype="datetime64[s]").astype(np.int64)
        found = {_ALIASES.get(t.calendar, t.calendar) for t in values.flat}
        if found != {self.name}:
            raise InputError(
                f"The dates are of the calendar {' and '.join(sorted(found))}, expected "
                f"{self.name}."
            )
        epoch = cftime.datetime(1970, 1, 1, calendar=self.name).toordinal()
        # A quarter of the time of cftime.date2num, and exact.
        parts = [
            ((t.toordinal() - epoch) * 24 + t.hour, t.minute, t.second, t.microsecond)
            for t in values.flat
        ]
        hours, minutes, seconds, micros = np.array(parts, np.int64).T
        whole = hours * 3600 + minutes * 60 + seconds + (micros >= 500_000)
        return np.asarray(whole.reshape(values.shape))

    def dates(self, seconds: npt.ArrayLike) -> npt.NDArray[Any]:
        """Undo :meth:`seconds`: datetime64[ns], or dates of cftime."""
        numbers = np.asarray(seconds, np.int64)
        if self.standard:
            return numbers.astype("datetime64[s]").astype("datetime64[ns]")
        out = np.empty(numbers.shape, object)
        out[...] = cftime.num2date(
            numbers, _EPOCH, calendar=self.name, only_use_cftime_datetimes=True
        )
        return out

    @property
    def days(self) -> int:
        """Days of the year that are told apart: those of a year that has no leap day."""
        return int(CALENDARS[self.name])

    def day_of_year(self, times: npt.ArrayLike) -> Int:
        """Count the days since the year began; the last of a leap year counts as the one before.

        Examples
        --------
        >>> Calendar("noleap").day_of_year([cftime.DatetimeNoLeap(2000, 3, 1)])
        array([59])
        """
        values = np.asarray(times)
        if self.standard:
            days = values.astype("datetime64[D]") - values.astype("datetime64[Y]")
            return np.minimum(days.astype(np.int64), self.days - 1)
        found = [t.dayofyr - 1 for t in values.flat]
        return np.minimum(np.array(found, np.int64).reshape(values.shape), self.days - 1)

    def text(self, second: int | np.integer[Any]) -> str:
        """Write a time as ``2001-02-30T06:00:00``."""
        if self.standard:
            return str(np.datetime64(int(second), "s"))
        date = self.dates([int(second)])[0]
        return str(date.strftime("%Y-%m-%dT%H:%M:%S")).strip().rjust(19, "0")

    def iso(self, second: int | np.integer[Any]) -> str:
        """Write a time as ``2001-02-30T06:00Z``."""
        return f"{self.text(second)[:-3]}Z"

    def parse(self, time: Any) -> int:
        """Read a time, UTC unless it says otherwise, as seconds.

        Raises
        ------
        ConfigError
            Not a time of this calendar.
        """
        if isinstance(time, cftime.datetime):
            return int(self.seconds(np.array([time], object))[0])
        if not self.standard:
            return self._span(str(time))[0]
        try:
            if isinstance(time, str):
                _require_dated(time)
            stamp = pd.Timestamp(time)
        except ValueError:
            stamp = pd.NaT
        if stamp is pd.NaT:
            raise ConfigError(f'Not a time: {str(time)!r}; write for example "2018-07-20T06".')
        if stamp.tzinfo is not None:
            stamp = stamp.tz_convert("UTC").tz_localize(None)
        return int(np.datetime64(stamp.to_datetime64(), "s").astype(np.int64))

    def span(self, text: str) -> tuple[int, int]:
        """First and last second of a date; twice the same one if it has an hour.

        Raises
        ------
        ConfigError
            Not a date of this calendar, or not in UTC.
        """
        if not self.standard:
            return self._span(text)
        try:
            _require_dated(text)
            span = pd.Period(text)
            instant = span is not pd.NaT and span.end_time - span.start_time < pd.Timedelta("23h")
            # pd.Period reads 00:00+02:00 as 00:00
            offset = pd.Timestamp(text).utcoffset() if instant else None
        except ValueError as error:
            raise ConfigError(f"Not a date: {text!r} ({error}).") from None
        if span is pd.NaT or offset:
            raise ConfigError(f'Not a date in UTC: {text!r}; write for example "2018-06-01T06".')
        ends = (span.start_time, span.start_time if instant else span.end_time)
        first, last = (int(end.floor("s").timestamp()) for end in ends)
        return first, last

    def since_new_year(self, seconds: Int) -> Int:
        """Seconds since the year began."""
        if self.standard:
            start = seconds.astype("datetime64[s]").astype("datetime64[Y]")
            return np.asarray(seconds - start.astype("datetime64[s]").astype(np.int64))
        years = np.array([date.year for date in self.dates(seconds).flat], np.int64)
        known, place = np.unique(years, return_inverse=True)
        starts = [cftime.datetime(int(year), 1, 1, calendar=self.name) for year in known]
        if not starts:
            return np.zeros(0, np.int64)
        begin = self.seconds(np.array(starts, object))
        return np.asarray(seconds - begin[place].reshape(seconds.shape))

    def _span(self, text: str) -> tuple[int, int]:
        found = _DATE.fullmatch(text.strip())
        try:
            if not found:
                raise ValueError("it should read like 2018-06-01T06")
            given = [int(part) for part in found.groups() if part is not None]
            start = cftime.datetime(*given, *[1] * (3 - len(given)), calendar=self.name)
            if len(given) == 1:
                end = cftime.datetime(given[0] + 1, 1, 1, calendar=self.name)
            elif len(given) == 2:
                year, month = divmod(given[0] * 12 + given[1], 12)
                end = cftime.datetime(year, month + 1, 1, calendar=self.name)
            else:
                end = start
            first, last = self.seconds(np.array([start, end], object)).tolist()
        except ValueError as error:
            raise ConfigError(
                f"Not a date of the calendar {self.name} in UTC: {text!r} ({error})."
            ) from None
        if len(given) < 3:
            return first, last - 1
        return first, first if len(given) > 3 else first + DAY - 1


def after(times: npt.ArrayLike, spans: npt.ArrayLike) -> npt.NDArray[Any]:
    """Add spans of time to dates of any calendar.

    Parameters
    ----------
    times : (...)
        datetime64, dates of cftime, or what :func:`on_axis` gives.
    spans : (...)
        timedelta64; in other calendars than the standard one, of whole seconds.

    Returns
    -------
    (...)
        Of the kind of ``times``, both broadcast.

    Examples
    --------
    >>> print(after(cftime.DatetimeNoLeap(2000, 2, 28), np.timedelta64(1, "D")))
    2000-03-01 00:00:00
    """
    dates, spans = np.asarray(times), np.asarray(spans)
    if dates.dtype.kind == "M":
        return np.asarray(dates + spans)[()]
    if dates.dtype.kind == "m":
        return np.asarray(dates + spans.astype(dates.dtype))[()]
    if not dates.size:
        return np.empty(np.broadcast_shapes(dates.shape, spans.shape), object)
    own = Calendar.of(dates)
    later = own.seconds(dates) + spans.astype("timedelta64[s]").astype(np.int64)
    return own.dates(later)[()]


def is_cftime(times: npt.NDArray[Any]) -> bool:
    """Tell whether an array holds dates of cftime; it must not be empty."""
    return times.dtype == object and isinstance(next(iter(times.flat), None), cftime.datetime)


def on_axis(times: npt.ArrayLike) -> npt.NDArray[Any]:
    """Give dates as numbers with a unit, which numpy subtracts, compares and searches.

    Returns
    -------
    (...)
        datetime64 as it is; of other calendars timedelta64[s] since their 1970-01-01, which holds
        any year.
    """
    dates = np.asarray(times)
    if dates.dtype.kind in "mM":
        return dates
    if not dates.size:
        return np.empty(dates.shape, "timedelta64[s]")
    return Calendar.of(dates).seconds(dates).astype("timedelta64[s]")


def written(time: Any, unit: Literal["h", "m", "s"]) -> str:
    """Write a date to the hour, the minute or the second.

    Examples
    --------
    >>> written(cftime.Datetime360Day(2001, 2, 30, 6), "h")
    '2001-02-30T06'
    """
    value = np.asarray(time)
    if value.dtype.kind == "M":
        return str(np.datetime_as_string(value, unit))
    own = Calendar.of(value)
    return own.text(int(own.seconds(value)))[: {"h": -6, "m": -3, "s": None}[unit]]


def require_same_calendar(
    times: npt.NDArray[Any], others: npt.NDArray[Any], owners: tuple[str, str]
) -> None:
    """Refuse to compare dates of two calendars: their days do not correspond.

    Parameters
    ----------
    times, others : (...)
    owners : (str, str)
        Whose they are, for the message.

    Raises
    ------
    InputError
        The calendars differ.
    """
    if (times.dtype.kind == others.dtype.kind == "M") or not (times.size and others.size):
        return
    first, second = Calendar.of(times).name, Calendar.of(others).name
    if first != second:
        raise InputError(
            f"{owners[0]} are in the calendar {first}, {owners[1]} in the calendar {second}: their "
            "days do not correspond; bring both into one with xarray's convert_calendar."
        )


def _require_dated(text: str) -> None:
    """Refuse a date without a year, or one whose day may be its month."""
    if not _YEAR.search(text) or _DAY_OR_MONTH.match(text.strip()):
        raise ValueError("it needs a year, which comes first or after the name of a month")


def _nearest_second(times: npt.NDArray[np.datetime64]) -> npt.NDArray[np.datetime64]:
    return (times + np.timedelta64(500, "ms")).astype("datetime64[s]")


def whole_seconds(times: npt.NDArray[np.datetime64]) -> npt.NDArray[np.datetime64]:
    """Give times that are a second but for rounding as that second.

    Fractions of days, as many files count time, hold no hour exactly: in days since the year 1,
    06:00 may read as 05:59:59.999997.

    Parameters
    ----------
    times : (time,)
        Of any unit; others than these stay as they are.

    Examples
    --------
    >>> whole_seconds(np.array(["2001-01-01T05:59:59.999997", "2001-01-01T12:00:00.036"], "M8[us]"))
    array(['2001-01-01T06:00:00.000000', '2001-01-01T12:00:00.036000'],
          dtype='datetime64[us]')
    """
    nearest = _nearest_second(times).astype(times.dtype)
    return np.where(np.abs(times - nearest) < ROUNDING, nearest, times)
