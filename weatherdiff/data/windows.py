"""Which (history, target) windows are valid: pure index arithmetic on times.

Windows are found by time, never by position: a window whose frames are not all there, at exactly
the right times, does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from weatherdiff.data.calendars import STANDARD, Calendar
from weatherdiff.errors import ConfigError

__all__ = [
    "Period",
    "WindowSpec",
    "Windows",
    "find_windows",
    "parse_time",
    "seconds",
    "to_datetime",
]

Int = npt.NDArray[np.int64]


def seconds(times: npt.ArrayLike) -> Int:
    """Turn times into int64 seconds since 1970-01-01 UTC of their own calendar.

    Examples
    --------
    >>> seconds(np.array(["1970-01-02T00:00:01"], dtype="datetime64[ns]"))
    array([86401])
    """
    values = np.asarray(times)
    calendar = Calendar.of(values) if values.dtype == object and values.size else Calendar()
    return calendar.seconds(values)


def to_datetime(times: npt.ArrayLike) -> npt.NDArray[np.datetime64]:
    """Undo :func:`seconds` in the standard calendar; datetime64[ns]."""
    return Calendar().dates(times)


def parse_time(time: str | np.datetime64, calendar: str = STANDARD) -> int:
    """Read a time, UTC unless it says otherwise, as seconds since 1970-01-01 UTC.

    Raises
    ------
    ConfigError
        Not a time.

    Examples
    --------
    >>> parse_time("1970-01-02T00") == parse_time("1970-01-02T02:00+02:00") == 86400
    True
    """
    return Calendar(calendar).parse(time)


@dataclass(frozen=True)
class Period:
    """A span of time, both ends included, in seconds since 1970-01-01 UTC of a calendar.

    Examples
    --------
    A date without an hour means the whole day:

    >>> period = Period.parse("2018-06-01", "2018-06-02")
    >>> str(period)
    '2018-06-01T00:00:00 to 2018-06-02T23:59:59'
    """

    start: int
    stop: int
    calendar: str = STANDARD

    @classmethod
    def parse(cls, start: str, stop: str, calendar: str = STANDARD) -> Period:
        """Read ISO 8601 dates or date-times (UTC).

        Raises
        ------
        ConfigError
            Not a date, not in UTC, or the stop before the start.
        """
        own = Calendar(calendar)
        begin, end = own.span(start)[0], own.span(stop)[1]
        if end < begin:
            raise ConfigError(f"The period ends before it starts: {start} to {stop}.")
        return cls(begin, end, own.name)

    def contains(self, times: Int) -> npt.NDArray[np.bool_]:
        """Which of the times (seconds) lie inside."""
        return (times >= self.start) & (times <= self.stop)

    def __str__(self) -> str:
        own = Calendar(self.calendar)
        return f"{own.text(self.start)} to {own.text(self.stop)}"


@dataclass(frozen=True)
class WindowSpec:
    """The shape of a window in time.

    Parameters
    ----------
    history : int
        Past frames, the last one at the initial time.
    frames : int
        Target frames after it.
    step : int
        Seconds from frame to frame; any multiple of the data's own step.
    """

    history: int
    frames: int
    step: int

    def __post_init__(self) -> None:
        if min(self.history, self.frames, self.step) < 1:
            raise ConfigError(f"history, frames and step must be at least 1, found {self}.")

    @property
    def offsets(self) -> Int:
        """Seconds from the initial time to each frame."""
        return np.arange(1 - self.history, self.frames + 1, dtype=np.int64) * self.step

    @property
    def lead_times(self) -> Int:
        """Seconds from the initial time to each target frame."""
        return self.offsets[self.history :]


class Windows(NamedTuple):
    """Windows found, and why others were not.

    Attributes
    ----------
    init_times : (window,)
        Seconds since 1970-01-01 UTC.
    indices : (window, history + frames)
        Positions of the frames on the time axis.
    absent : int
        Windows inside the record left out because a frame is absent.
    invalid : int
        Windows left out because a frame has missing data.
    """

    init_times: Int
    indices: Int
    absent: int
    invalid: int

    def __len__(self) -> int:
        return len(self.init_times)


def find_windows(
    times: Int,
    valid: npt.NDArray[np.bool_],
    spec: WindowSpec,
    period: Period,
    *,
    targets: bool = True,
) -> Windows:
    """Windows whose initial time and targets lie in a period.

    The history may reach back before the period: it is input, known when the forecast starts.

    Parameters
    ----------
    times : (time,)
        Ascending and unique, in seconds.
    valid : (time,)
        Which frames have no missing data.
    spec : WindowSpec
        Shape of a window.
    period : Period
        Where initial times and targets must lie.
    targets : bool
        False looks for the history only, as a forecast of the future must.

    Returns
    -------
    Windows

    Examples
    --------
    >>> times = np.array([0, 1, 2, 4, 5, 6, 7])                   # 3 is absent
    >>> windows = find_windows(times, np.ones(7, bool), WindowSpec(1, 2, 1), Period(0, 7))
    >>> windows.init_times, windows.absent
    (array([0, 4, 5]), 2)
    """
    offsets = spec.offsets if targets else spec.offsets[: spec.history]
    candidates = times[period.contains(times)]
    candidates = candidates[period.contains(candidates + offsets[-1])]
    wanted = candidates[:, None] + offsets
    indices = np.searchsorted(times, wanted).clip(max=len(times) - 1)
    present = (times[indices] == wanted).all(axis=1)
    # Windows that reach beyond the ends of the record are its edges, not gaps.
    within = (wanted[:, 0] >= times[0]) & (wanted[:, -1] <= times[-1])
    absent = int((~present & within).sum())
    whole = valid[indices].all(axis=1)
    keep = present & whole
    return Windows(candidates[keep], indices[keep], absent, int((present & ~whole).sum()))
