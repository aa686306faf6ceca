"""Which initial times are due, which wait for input, which have been kept long enough.

Pure arithmetic on int64 seconds since 1970-01-01 UTC: no clock, no files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from weatherdiff.errors import ConfigError

__all__ = ["Cycle", "Plan", "expired", "parse_span", "plan"]

DAY = 86400
UNITS = {"min": 60, "h": 3600, "d": DAY}


@dataclass(frozen=True)
class Cycle:
    """The times of day at which forecasts start.

    Parameters
    ----------
    starts : tuple of int
        Seconds after midnight UTC, ascending.

    Examples
    --------
    >>> cycle = Cycle.parse(["00", "06:00", "12Z", "18"])
    >>> [t // 3600 for t in cycle.between(5 * 3600, 13 * 3600)]
    [6, 12]
    """

    starts: tuple[int, ...]

    @classmethod
    def parse(cls, times: Iterable[str]) -> Cycle:
        """Read times of day such as "06", "06Z" or "06:30".

        Raises
        ------
        ConfigError
            Not a time of day, none at all, or one twice.
        """
        starts = []
        for text in times:
            found = re.fullmatch(r"([01]?\d|2[0-3])(?::([0-5]\d))?Z?", text)
            if not found:
                raise ConfigError(f'Not a time of day: {text!r}; write for example "06:00".')
            starts.append(3600 * int(found[1]) + 60 * int(found[2] or 0))
        if not starts or len(set(starts)) < len(starts):
            raise ConfigError(f"A cycle has each time of day once, found {', '.join(times)}.")
        return cls(tuple(sorted(starts)))

    def between(self, start: int, stop: int) -> list[int]:
        """Give the initial times of a span, both ends included, ascending."""
        days = range(start // DAY * DAY, stop + 1, DAY)
        return [day + s for day in days for s in self.starts if start <= day + s <= stop]

    def ordinal(self, time: int) -> int:
        """Count the initial times from 1970 up to this one, which need not be in the cycle."""
        day, rest = divmod(time, DAY)
        return day * len(self.starts) + sum(s <= rest for s in self.starts) - 1


def parse_span(text: str) -> int:
    """Read a span of time such as "3d", "36h" or "90min"; seconds.

    Raises
    ------
    ConfigError
        Not a span of time.

    Examples
    --------
    >>> parse_span("3d") == parse_span("72h") == 259200
    True
    """
    found = re.fullmatch(r"(\d+) ?(min|h|d)", text.lower())
    if not found:
        raise ConfigError(f'Not a span of time: {text!r}; write for example "36h" or "3d".')
    return int(found[1]) * UNITS[found[2]]


class Plan(NamedTuple):
    """What there is to do; initial times, the newest first."""

    due: list[int]
    """To be made: all input is there."""
    waiting: list[int]
    """To be made once their input is there."""
    published: list[int]
    """Made already."""


def plan(
    candidates: Iterable[int],
    *,
    published: Callable[[int], bool],
    available: Callable[[int], bool],
) -> Plan:
    """Sort initial times into those to make now, those to make later and those made.

    Parameters
    ----------
    candidates : iterable of int
    published : callable
        Whether the forecast from an initial time is there.
    available : callable
        Whether all its input is there; asked only of those that are not published.
    """
    found = Plan([], [], [])
    for time in sorted(set(candidates), reverse=True):
        if published(time):
            found.published.append(time)
        elif available(time):
            found.due.append(time)
        else:
            found.waiting.append(time)
    return found


def expired(
    published: Collection[int], *, keep: int, at_least: int, newest_good: int | None
) -> list[int]:
    """Tell which forecasts have been kept long enough.

    Age is counted from the newest of them, not from the clock: a wrong clock removes nothing, nor
    does a long interruption.

    Parameters
    ----------
    published : collection of int
    keep : int
        Seconds.
    at_least : int
        So many of the newest are kept, however old.
    newest_good : int, optional
        The newest one that is sound, which is never among them; without one, nothing is.

    Examples
    --------
    >>> expired([0, 3600, 7200, 10800], keep=3600, at_least=1, newest_good=0)
    [3600]
    """
    if newest_good is None:
        return []
    ordered = sorted(published)
    old = [t for t in ordered[: max(0, len(ordered) - at_least)] if ordered[-1] - t > keep]
    return [t for t in old if t != newest_good]
