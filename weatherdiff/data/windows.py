"""Which (history, target) windows are valid: pure index arithmetic on times.

Windows are found by time, never by position: a window whose frames are not all there, at exactly
the right times, does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from weatherdiff.errors import ConfigError

__all__ = ["Period", "WindowSpec", "Windows", "find_windows", "seconds", "to_datetime"]

Int = npt.NDArray[np.int64]


def seconds(times: npt.ArrayLike) -> Int:
    """Times as int64 seconds since 1970-01-01 UTC.

    Examples
    --------
    >>> seconds(np.array(["1970-01-02T00:00:01"], dtype="datetime64[ns]"))
    array([86401])
    """
    return np.asarray(times, dtype="datetime64[s]").astype(np.int64)


def to_datetime(times: npt.ArrayLike) -> npt.NDArray[np.datetime64]:
    """Undo :func:`seconds`; datetime64[ns]."""
    return np.asarray(times, dtype=np.int64).astype("datetime64[s]").astype("datetime64[ns]")


@dataclass(frozen=True)
class Period:
    """A span of time, both ends included, in seconds since 1970-01-01 UTC.

    Examples
    --------
    A date without an hour means the whole day:

    >>> period = Period.parse("2018-06-01", "2018-06-02")
    >>> str(period)
    '2018-06-01T00:00:00 to 2018-06-02T23:59:59'
    """

    start: int
    stop: int

    @classmethod
    def parse(cls, start: str, stop: str) -> Period:
        """Read ISO 8601 dates or date-times (UTC).

        Raises
        ------
        ConfigError
            Not a date, or the stop before the start.
        """
        try:
            first, last = pd.Period(start), pd.Period(stop)
        except ValueError as error:
            raise ConfigError(f"Not a period of dates: {start!r} to {stop!r} ({error}).") from None
        begin = int(first.start_time.timestamp())
        end = int(last.end_time.timestamp())
        # pandas gives a date-time with minutes the span of that minute; it means an instant here
        end = int(last.start_time.timestamp()) if "T" in stop or " " in stop.strip() else end
        if end < begin:
            raise ConfigError(f"The period ends before it starts: {start} to {stop}.")
        return cls(begin, end)

    def contains(self, times: Int) -> npt.NDArray[np.bool_]:
        """Which of the times (seconds) lie inside."""
        return (times >= self.start) & (times <= self.stop)

    def __str__(self) -> str:
        first, last = np.array([self.start, self.stop]).astype("datetime64[s]")
        return f"{first} to {last}"


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
        Windows left out because a frame is absent.
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
    # Candidates before the record's own beginning are its edge, not a gap.
    absent = int((~present & (wanted[:, 0] >= times[0])).sum())
    whole = valid[indices].all(axis=1)
    keep = present & whole
    return Windows(candidates[keep], indices[keep], absent, int((present & ~whole).sum()))
