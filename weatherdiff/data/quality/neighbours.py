r"""What happened between a frame and the one before it, found from their looks alone.

The profile of a frame (its means along latitude circles and meridians) is expected to be that of
the frame before plus what the hour of the day commonly changes. The root mean square of what is
left is the frame's *step*. Most steps of a record are small; the few that are not are tried: would
the frame be what is expected if it had been turned over, rolled in longitude, or written in other
units? It is said to be so if

- the step is then hardly larger than steps commonly are, and a small part of what it was;
- white noise would hardly ever leave so small a part (:mod:`weatherdiff.data.quality.chance`),
  which of a small grid it often leaves otherwise;
- the means over a few frames before and after do not speak against it.

What no such change explains is a jump if it is far beyond the tail of the steps: with
:math:`q_{90}` and :math:`q_{98}` quantiles of :math:`n` steps, a Pareto tail through both has its
greatest of :math:`n` near :math:`q_{98}\,(q_{98}/q_{90})^{\ln(0.02n)/\ln 5}`; a jump is twice that,
and four times :math:`q_{98}`, at least. Rain, whose steps have a heavy tail, is so not taken for an
error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weatherdiff.data.quality.chance import part_by_chance
from weatherdiff.units import spellings

__all__ = ["Change", "Layout", "Place", "changes", "unit_changes"]

Array = npt.NDArray[Any]

DAY = 86_400
DAYS = 31  # from which the common course of a day is known, at most
FEWEST_DAYS = 5
FEWEST_FRAMES = 12  # below, it is not known which steps are common

LEFT_OUT = 0.02  # of the steps, as they may be errors themselves
UNUSUAL = 1.5  # steps, in common ones, that are tried
LEAST = 1.0  # those that a turn would make smaller, too
PART = 0.35  # of a step that may be left after a turn ...
PART_HALF = 0.25  # ... after a roll by half the width, as from -180 to 0 degrees ...
PART_ROLLED = 0.15  # ... after another roll, of which there are many to choose from ...
PART_SCALED = 0.2  # ... and after a change of units
AGREED = 0.9  # of the difference of means that may be left
AROUND = 3  # frames before and after, whose means are compared
NEAR = 8  # frames after which what was before may come back
JUMP = 4.0
TAIL = 2.0


# Beside the units that are known: powers of ten, weight for geopotential, and sums over some hours
# for a rate.
_FACTORS = (
    *((10.0**k, f"{10**k}") for k in (1, 2, 3, 6)),
    (9.80665, "9.80665"),
    *((3600.0 * h, f"{3600 * h}") for h in (1, 3, 6, 12, 24)),
)


@dataclass(frozen=True)
class Change:
    """How a profile differs from what is expected: turned, rolled, or scaled.

    Attributes
    ----------
    south_north, east_west : bool
        Turned over.
    roll : int
        Bins of longitude eastward.
    factor, offset : float
        Of the values.
    name : str
        For people, e.g. ``"hPa for Pa"``.
    """

    south_north: bool = False
    east_west: bool = False
    roll: int = 0
    factor: float = 1.0
    offset: float = 0.0
    name: str = ""

    @property
    def kind(self) -> str:
        """The check that finds it."""
        if self.factor != 1 or self.offset:
            return "units"
        return "shifted" if self.roll else "flipped" if self.south_north or self.east_west else ""


SAME = Change()


@dataclass(frozen=True)
class Layout:
    """How a profile is laid out: means of ``rows`` circles, then of two times ``meridians``."""

    rows: int
    meridians: int

    def turn(self, profile: Array, change: Change) -> Array:
        """Do to profiles (..., number) what was done to the fields."""
        rows = profile[..., : self.rows]
        halves = profile[..., self.rows :].reshape(*profile.shape[:-1], 2, self.meridians)
        if change.south_north:
            rows, halves = rows[..., ::-1], halves[..., ::-1, :]
        if change.east_west:
            halves = halves[..., ::-1]
        if change.roll:
            halves = np.roll(halves, change.roll, axis=-1)
        flat = halves.reshape(*profile.shape[:-1], 2 * self.meridians)
        return np.concatenate([rows, flat], axis=-1) * change.factor + change.offset

    def back(self, profile: Array, change: Change) -> Array:
        """Undo :meth:`turn`."""
        plain = (profile - change.offset) / change.factor
        if change.roll:  # first rolled back, as turning comes first
            plain = self.turn(plain, Change(roll=-change.roll))
        return self.turn(plain, Change(change.south_north, change.east_west))

    def geometric(self) -> list[Change]:
        """All turns and rolls."""
        count = self.meridians
        turns = [
            Change(True, False, name="south and north are swapped"),
            Change(False, True, name="east and west are swapped"),
            Change(True, True, name="south and north, and east and west, are swapped"),
        ]
        return turns + [
            Change(roll=k, name=f"rolled by {min(k / count, 1 - k / count):.3g} of the width")
            for k in range(1, count)
        ]


@dataclass
class Place:
    """Where the reading of one channel has got to.

    Attributes
    ----------
    profile : (number,) or None
        The last one, as it should be.
    state : Change
        What was done to the frames that are being read.
    time : int
        Of the last frame.
    """

    profile: Array | None = None
    state: Change = SAME
    time: int = 0


#: A frame, what was done to it, and its step in common ones.
Found = tuple[int, Change | None, float]


def unit_changes(units: str) -> list[Change]:
    """Give the ways in which fields in these units may have been written in others.

    Examples
    --------
    >>> [c.name for c in unit_changes("K") if c.offset][:2]
    ['the units are those of degC', 'the units are those of K, of the others those of degC']
    """
    found: dict[tuple[float, float], Change] = {}

    def add(factor: float, offset: float, name: str) -> None:
        key = float(f"{factor:.6g}"), float(f"{offset:.6g}")
        if key != (1, 0):
            found.setdefault(key, Change(factor=factor, offset=offset, name=name))

    for name, factor, offset in spellings(units):
        add(1 / factor, -offset / factor, f"the units are those of {name}")
        add(factor, offset, f"the units are those of {units}, of the others those of {name}")
    for factor, name in _FACTORS:
        add(factor, 0, f"{name} times the others")
        add(1 / factor, 0, f"1 / {name} of the others")
    return list(found.values())


def changes(
    profiles: Array,
    times: Array,
    layout: Layout,
    others: Sequence[Change],
    place: Place,
) -> Iterator[Found]:
    """Find what happened to the frames of one channel.

    Parameters
    ----------
    profiles : (time, number)
        NaN where there are no data.
    times : (time,)
        Seconds, ascending.
    layout : Layout
    others : sequence of Change
        Changes of units to try.
    place : Place
        Where the frames before have ended; brought up to date.

    Yields
    ------
    index, change, size
        A frame, what was done to it (None for a jump that nothing explains, to be told apart from
        the frames after it), and its step in common ones. Frames that are as they should be, by
        what the first ones were, are left out.
    """
    profiles = profiles.astype(np.float64)
    course = _course_of_day(profiles, times)
    steps = np.full(len(times), np.nan)
    if len(times) > 1:
        steps[1:] = _size(np.diff(profiles - course, axis=0))
    known = np.sort(steps[np.isfinite(steps)])
    if len(known) < FEWEST_FRAMES:
        return
    trimmed = known[: len(known) - max(4, int(np.ceil(LEFT_OUT * len(known))))]
    common, usual = trimmed[-1], trimmed[int(0.9 * len(trimmed))]
    if common <= 0:
        return
    spread = max(common / usual, 1.0) if usual > 0 else np.inf
    tail = spread ** (np.log(max(LEFT_OUT * len(known), 1)) / np.log(5))
    yield from _Reader(
        profiles,
        course,
        layout,
        [*layout.geometric(), *others],
        common,
        far=common * max(JUMP, TAIL * tail),
        gap=2 * float(np.median(np.diff(times))),
    ).read(times, steps, place)


@dataclass
class _Reader:
    """Goes through the frames, from one unusual step to the next."""

    profiles: Array
    course: Array
    layout: Layout
    tried: list[Change]
    common: float
    far: float
    gap: float

    def read(self, times: Array, steps: Array, place: Place) -> Iterator[Found]:
        there = np.flatnonzero(np.isfinite(self.profiles).any(axis=1))
        # also those of which it is not known, after a missing one
        events = np.flatnonzero(~(steps[there] <= UNUSUAL * self.common) | self._turned(there))
        state, since, number = place.state, 0, 0  # frames are numbered among those there
        held = None if place.profile is None else (place.profile, place.time)
        while number < len(there):
            if held is None and not state.kind:
                following = np.searchsorted(events, max(number, 1))
                number = int(events[following]) if following < len(events) else len(there)
                if number == len(there):
                    break
            index = int(there[number])
            if held is not None:
                before, time = held
            else:
                last = int(there[number - 1])
                before, time = self._plain(last, state), int(times[last])
            waited, held = held is not None and number > 0, None
            size = self._step(index, state, before)
            if size > LEAST * self.common:
                recent = there[max(since, number - AROUND) : number]
                earlier = [self._plain(int(i), state) for i in recent] or [before]
                found = self._explain(index, state, before, earlier)
                if found is not None:
                    state, since = found, number
                elif size > self.far and times[index] - time <= self.gap * (NEAR if waited else 1):
                    yield index, None, size / self.common
                    if self._comes_back(there[number + 1 : number + NEAR], state, before):
                        held = before, time
                    else:
                        since = number
            if state.kind:
                yield index, state, self._step(index, SAME, before) / self.common
            number += 1
        if len(there):
            last = int(there[-1])
            place.profile, place.time = held or (self._plain(last, state), int(times[last]))
        place.state = state

    def _turned(self, there: Array) -> Array:
        """Which frames would follow the one before them better if they were turned over."""
        found = np.zeros(len(there), bool)
        if len(there) < 2:
            return found
        plain = self.profiles[there] - self.course[there]
        steps = _size(np.diff(plain, axis=0))
        for change in self.tried:
            # of rolls only that from one convention of longitude to the other
            if change.kind == "flipped" or change.roll * 2 == self.layout.meridians:
                turned = self.layout.back(self.profiles[there[1:]], change) - self.course[there[1:]]
                part = self._part(change)
                with np.errstate(invalid="ignore"):
                    found[1:] |= _size(turned - plain[:-1]) <= part * steps
        found[1:] &= steps > LEAST * self.common
        return found

    def _plain(self, index: int, state: Change) -> Array:
        """Give the profile of a frame as it should be, without the course of the day."""
        profile = self.profiles[index]
        if state.kind:
            profile = self.layout.back(profile, state)
        return np.asarray(profile - self.course[index])

    def _step(self, index: int, state: Change, before: Array) -> float:
        return float(_size(self._plain(index, state) - before))

    def _comes_back(self, following: Array, state: Change, before: Array) -> bool:
        return any(self._step(int(i), state, before) <= 3 * self.common for i in following)

    def _explain(
        self, index: int, state: Change, before: Array, earlier: list[Array]
    ) -> Change | None:
        """Find the change, other than the one we are in, that makes the frame what is expected."""
        size = self._step(index, state, before)
        left, change = min(
            ((self._step(index, c, before), c) for c in (SAME, *self.tried) if c != state),
            key=lambda found: found[0],
        )
        trials = len(self.profiles) * (len(self.layout.geometric()) + 1)
        numbers = int(np.isfinite(before).sum())
        chance = part_by_chance(self.layout.rows, self.layout.meridians, numbers, trials)
        part = min(self._part(change), self._part(state), chance)
        if "units" in (change.kind, state.kind):  # nothing may be scaled to next to nothing
            size = min(size, float(_size(before + self.course[index])))
        if not left <= min(UNUSUAL * self.common, part * size):
            return None
        return change if self._agreed(index, state, change, earlier) else None

    def _part(self, change: Change) -> float:
        """Tell how much of a step may be left after a change is undone."""
        if change.kind == "units":
            return PART_SCALED
        if change.roll:
            return PART_HALF if change.roll * 2 == self.layout.meridians else PART_ROLLED
        return PART

    def _agreed(self, index: int, state: Change, change: Change, earlier: list[Array]) -> bool:
        """Ask the means of some frames before and after."""
        stop = index + 1
        while stop < min(index + AROUND, len(self.profiles)):
            step = self._step(stop, change, self._plain(stop - 1, change))
            if not step <= UNUSUAL * self.common:
                break
            stop += 1
        stop = min(stop, index + len(earlier))
        old = np.mean(earlier, axis=0)
        as_is, changed = (
            np.mean([self._plain(i, s) for i in range(index, stop)], axis=0)
            for s in (state, change)
        )
        return bool(_size(changed - old) <= AGREED * _size(as_is - old))


def _course_of_day(profiles: Array, times: Array) -> Array:
    """Tell what the hour of the day commonly adds to a profile: sums of medians of the changes.

    Changes, as half of the frames may lie otherwise than the others.
    """
    nothing = np.zeros_like(profiles)
    hours, place = np.unique(times % DAY, return_inverse=True)
    if len(hours) < 2 or len(times) < FEWEST_DAYS * len(hours):
        return nothing
    changes_of = np.diff(profiles, axis=0)
    follows = np.diff(times) == (hours[place[1:]] - hours[place[:-1]]) % DAY
    follows &= place[1:] == (place[:-1] + 1) % len(hours)
    follows &= np.isfinite(changes_of).any(axis=1)
    # the same days for all hours: the weather of days must not look like a course
    days = np.unique(times // DAY)
    chosen = days[np.linspace(0, len(days) - 1, min(DAYS, len(days))).astype(int)]
    follows &= np.isin(times[1:] // DAY, chosen)
    usual = np.empty((len(hours), profiles.shape[1]))
    for hour in range(len(hours)):
        part = changes_of[follows & (place[1:] == hour)]
        if len(part) < FEWEST_DAYS:
            return nothing
        usual[hour] = np.median(part, axis=0)
    course = np.cumsum(usual - usual.mean(axis=0), axis=0)
    return np.where(np.isfinite(course), course, 0)[place]


def _size(difference: Array) -> Array:
    """Root mean square over the numbers that there are, on the last axis; NaN if there is none."""
    there = np.isfinite(difference)
    count = there.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        squares = np.where(there, difference, 0) ** 2
        return np.asarray(np.sqrt(squares.sum(axis=-1) / count))
