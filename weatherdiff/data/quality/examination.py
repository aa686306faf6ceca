"""Examine a record from the looks at its frames, a part after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from weatherdiff.data.channels import Channels
from weatherdiff.data.quality.findings import CHECKS, Finding
from weatherdiff.data.quality.looks import NUMBERS, Looker
from weatherdiff.data.quality.neighbours import Change, Layout, Place, changes, unit_changes
from weatherdiff.data.quality.rules import FEW, levels_out_of_order

__all__ = ["Examination", "examine"]

Array = npt.NDArray[Any]

PART_BYTES = 2**21  # of looks at once
FEWEST, MOST = 512, 2**15  # frames at once
OFTEN = 0.05  # of the frames repeat the one before: this is how the data are
LONG = 24  # frames whose mean says how the fields lie ...
DOUBTFUL = 1.5  # ... unless it says little
_PATTERN = NUMBERS.index("pattern")
VARIED = 0.5  # of the numbers of a look that must differ, for its being repeated to mean something


@dataclass
class _Tally:
    """Frames of one channel in which one thing was found."""

    frames: list[Array] = field(default_factory=list)
    fraction: float = 0.0
    worst: tuple[float, str] = (-np.inf, "")

    def add(self, frames: Array, fractions: Array, badness: Array, words: list[str]) -> None:
        self.frames.append(frames)
        self.fraction += float(np.sum(fractions))
        place = int(np.argmax(badness))
        if badness[place] > self.worst[0]:
            self.worst = float(badness[place]), words[place]


@dataclass
class _Means:
    """Means of the profiles in each state, to ask whether a long one is what it is taken for."""

    layout: Layout
    sums: dict[Change | None, tuple[Array, int]] = field(default_factory=dict)

    def add(self, change: Change | None, profiles: Array) -> None:
        """Add profiles of a state; those of all are of none."""
        there = profiles[np.isfinite(profiles).any(axis=1)]
        total, count = self.sums.get(change, (np.zeros(profiles.shape[1]), 0))
        self.sums[change] = total + there.sum(axis=0, dtype=np.float64), count + len(there)

    def agree(self, change: Change) -> bool:
        """Tell whether undoing the change brings the mean of its frames near that of the others."""
        total, count = self.sums[change]
        others, number = self.sums[None]
        for state, (part, frames) in self.sums.items():
            if state is not None:
                others, number = others - part, number - frames
        if min(count, number) < LONG:
            return True
        mean, usual = total / count, others / number
        left = np.nanmean((self.layout.back(mean, change) - usual) ** 2)
        return bool(left < DOUBTFUL * np.nanmean((mean - usual) ** 2))


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes
    ----------
    findings : list of Finding
    bad : (time, channel)
        Frames of channels that are not what they should be; missing values are not meant.
    """

    findings: list[Finding]
    bad: npt.NDArray[np.bool_]


def examine(
    read: Callable[[int, int], Array],
    times: Array,
    channels: Channels,
    looker: Looker,
    *,
    name_time: Callable[[int], str],
    since: int = 0,
) -> Examination:
    """Look for all that :data:`~weatherdiff.data.quality.CHECKS` names.

    Parameters
    ----------
    read : callable
        First position, and the one after the last -> looks (time, channel, number).
    times : (time,)
        Seconds, ascending.
    channels : Channels
    looker : Looker
        That has looked.
    name_time : callable
        Seconds -> a time that people read.
    since : int
        Frames before this one are known, and only compared with.
    """
    tallies: dict[tuple[int, str, str], _Tally] = {}
    layout = Layout(looker.rows, looker.meridians)
    places = [Place() for _ in channels.labels]
    states: list[dict[Change, list[int]]] = [{} for _ in channels.labels]
    means = [_Means(layout) for _ in channels.labels]
    tried = [unit_changes(units) for units in channels.units]
    hashes = np.zeros((len(times), len(channels)), np.uint64)
    wrong = np.zeros((len(times), len(channels)), bool)  # as such, whatever the neighbours are
    bad = np.zeros((len(times), len(channels)), bool)
    missing = np.zeros((len(times), len(channels)), np.float32)
    patterns = np.zeros((len(times), len(channels), 5), np.float32)

    def tally(channel: int, check: str, detail: str = "") -> _Tally:
        return tallies.setdefault((channel, check, detail), _Tally())

    size = int(np.clip(PART_BYTES // (4 * looker.size * len(channels)), FEWEST, MOST))
    for start in range(0, len(times), size):
        stop = min(start + size, len(times))
        looks = read(start, stop)
        numbers = {n: looks[..., i].astype(np.float64) for i, n in enumerate(NUMBERS)}
        _by_rules(numbers, start, looker, tally, wrong)
        missing[start:stop] = numbers["missing"] - numbers["infinite"]
        _levels(numbers["mean"], start, channels, tally, bad)
        hashes[start:stop] = _hashes(looks)
        patterns[start:stop] = looks[..., _PATTERN : _PATTERN + 5]
        for channel in range(len(channels)):
            profiles = looks[:, channel, len(NUMBERS) :].copy()
            # what is known to be wrong must not hide what is not
            profiles[(numbers["outside"][:, channel] > 0) & ~wrong[start:stop, channel]] = np.nan
            means[channel].add(None, profiles)
            for index, change, step in changes(
                profiles, times[start:stop], layout, tried[channel], places[channel]
            ):
                if change is not None:
                    states[channel].setdefault(change, []).append(start + index)
                    means[channel].add(change, profiles[index : index + 1])
                    continue
                if wrong[start + index, channel] or bad[start + index, channel]:  # for this
                    continue
                bad[start + index, channel] = True
                frames = np.array([start + index])
                words = [f"{step:.3g} times the usual change"]
                tally(channel, "jump").add(frames, np.ones(1), np.array([step]), words)
    for channel in range(len(channels)):
        _missing(channel, missing[:, channel], tally)
        agreed = {c: f for c, f in states[channel].items() if means[channel].agree(c)}
        if _moved(channel, patterns[:, channel], bad, tally):  # and there is no doubt
            agreed = {c: f for c, f in agreed.items() if c.kind == "units"}
        _orientations(channel, agreed, len(times), wrong, bad, tally)
        _repeated(channel, hashes[:, channel], times, name_time, bad, tally)
    for (channel, check, _), found in tallies.items():
        if check in ("infinite", "range", "units"):
            bad[np.concatenate(found.frames), channel] = True
    return Examination(_findings(tallies, channels, times, name_time, since), bad)


def _findings(
    tallies: dict[tuple[int, str, str], _Tally],
    channels: Channels,
    times: Array,
    name_time: Callable[[int], str],
    since: int,
) -> list[Finding]:
    found = []
    order = list(CHECKS)
    for (channel, check, _), part in sorted(
        tallies.items(), key=lambda item: (item[0][0], order.index(item[0][1]), item[0][2])
    ):
        every = np.concatenate(part.frames)
        frames = every[every >= since]
        if len(frames):
            found.append(
                Finding(
                    channels.labels[channel],
                    check,
                    len(frames),
                    name_time(int(times[frames.min()])),
                    name_time(int(times[frames.max()])),
                    round(part.fraction / len(every), 6),
                    part.worst[1],
                )
            )
    return found


def _by_rules(
    numbers: dict[str, Array],
    start: int,
    looker: Looker,
    tally: Callable[..., _Tally],
    wrong: Array,
) -> None:
    """Find what shows in a frame by itself."""
    for channel, known in enumerate(looker.ranges):
        number = {name: values[:, channel] for name, values in numbers.items()}
        rows = np.flatnonzero(number["infinite"] > 0)
        if len(rows):
            share = number["infinite"][rows]
            words = ["infinite"] * len(rows)
            tally(channel, "infinite").add(start + rows, share, share, words)
        with np.errstate(invalid="ignore"):
            off = np.maximum(known.mean_low - number["mean"], number["mean"] - known.mean_high)
            # a few values far out are no other units
            share = number["outside"] / (1 - number["missing"])
            few = (share > 0) & (share < FEW)
            implausible = (off > 0) & ~few
        wrong[start : start + len(off), channel] = implausible
        rows = np.flatnonzero(implausible)
        if len(rows):
            means = number["mean"][rows]
            words = [f"mean {m:.6g} {known.units}{known.guess(m)}" for m in means.tolist()]
            tally(channel, "units").add(start + rows, np.ones(len(rows)), off[rows], words)
        rows = np.flatnonzero((number["outside"] > 0) & ~implausible)
        if len(rows):
            worst = number["worst"][rows]
            words = [f"{w:.6g} {known.units}" for w in worst.tolist()]
            beyond = np.maximum(known.low - worst, worst - known.high)
            tally(channel, "range").add(start + rows, number["outside"][rows], beyond, words)


def _missing(channel: int, missing: Array, tally: Callable[..., _Tally]) -> None:
    """Find frames that have fewer data than most have: the sea may never have any."""
    shares, counts = np.unique(missing[missing < 1], return_counts=True)
    absent = shares[counts.argmax()] if len(shares) else 0.0
    rows = np.flatnonzero(missing > absent + 1e-6)
    if len(rows):
        share = (missing[rows] - absent) / (1 - absent)
        words = [f"{s:.1%} of the cells that have data" for s in share]
        tally(channel, "missing").add(rows, share, share, words)


def _levels(
    means: Array, start: int, channels: Channels, tally: Callable[..., _Tally], bad: Array
) -> None:
    """Find levels that were exchanged."""
    for variable in dict.fromkeys(channels.variables):
        own = [c for c, v in enumerate(channels.variables) if v == variable]
        levels = [channels.levels[c] for c in own]
        if None in levels or len(levels) < 2:
            continue
        wrong = levels_out_of_order(variable, np.array(levels, float), means[:, own])
        rows = np.flatnonzero(wrong.any(axis=1))
        for channel in own if len(rows) else ():
            share = wrong[rows].mean(axis=1)
            words = [f"mean {m:.6g}" for m in means[rows, channel].tolist()]
            tally(channel, "levels").add(start + rows, share, share, words)
            bad[start + rows, channel] = True


def _moved(channel: int, patterns: Array, bad: Array, tally: Callable[..., _Tally]) -> bool:
    """Find frames whose missing cells, the sea say, have moved."""
    names, counts = np.unique(patterns[:, 0], return_counts=True)
    usual = patterns[patterns[:, 0] == names[counts.argmax()]][0]
    other = patterns[:, 0] != usual[0]
    turns = Layout(1, 1).geometric()
    found = False
    for number, (check, name) in enumerate(
        [*((t.kind, t.name) for t in turns), ("shifted", "rolled in longitude")], start=1
    ):
        rows = np.flatnonzero(other & (patterns[:, number] == usual[0 if number < 4 else 4]))
        other[rows] = False
        if len(rows):
            found = True
            bad[rows, channel] = True
            ones = np.ones(len(rows))
            words = [f"{name}, and so are the missing cells"] * len(rows)
            tally(channel, check, name).add(rows, ones, ones, words)
    return found


def _orientations(
    channel: int,
    states: dict[Change, list[int]],
    count: int,
    wrong: Array,
    bad: Array,
    tally: Callable[..., _Tally],
) -> None:
    """Say which frames were turned, rolled or scaled: those that are fewer, or are known wrong."""
    code = np.zeros(count, np.int64)
    named = list(states)
    for number, change in enumerate(named, start=1):
        code[states[change]] = number
    if not named:
        return
    sound = [np.mean(wrong[code == k, channel]) if (code == k).any() else 1.0
             for k in range(len(named) + 1)]  # fmt: skip
    frames = np.bincount(code, minlength=len(named) + 1)
    truth = min(range(len(named) + 1), key=lambda k: (sound[k] > 0.5, -frames[k], k))
    for number in range(len(named) + 1):
        where = np.flatnonzero(code == number)
        if number == truth or not len(where):
            continue
        # the first frames were taken for right: what is so against others is the same change
        change = named[(number or truth) - 1]
        where = where[~wrong[where, channel]] if change.kind == "units" else where
        if not len(where):
            continue
        bad[where, channel] = True
        ones = np.ones(len(where))
        words = [change.name] * len(where)
        tally(channel, change.kind, change.name).add(where, ones, ones, words)


def _hashes(looks: Array) -> npt.NDArray[np.uint64]:
    """Name each look, 0 for one that says so little that others may well be the same."""
    values = np.ascontiguousarray(looks[..., NUMBERS.index("minimum") :])
    factors = np.random.default_rng(0).integers(1, 2**63, values.shape[-1], dtype=np.uint64) | 1
    bits = values.view(np.uint32).astype(np.uint64)
    with np.errstate(over="ignore"):
        names = ((bits + 1) * factors).sum(axis=-1, dtype=np.uint64)
    profiles = np.sort(looks[..., len(NUMBERS) :], axis=-1)  # NaN last
    finite = np.isfinite(profiles)
    with np.errstate(invalid="ignore"):
        differ = ((np.diff(profiles, axis=-1) > 0) & finite[..., 1:]).sum(axis=-1) + 1
    return np.where(differ >= VARIED * np.maximum(finite.sum(axis=-1), 4), names, 0)


def _repeated(
    channel: int,
    names: npt.NDArray[np.uint64],
    times: Array,
    name_time: Callable[[int], str],
    bad: Array,
    tally: Callable[..., _Tally],
) -> None:
    """Find frames that are there again, but for data that often are."""
    _, first, place = np.unique(names, return_index=True, return_inverse=True)
    again = (names != 0) & (first[place] != np.arange(len(names)))
    neighbours = (names[1:] == names[:-1]) & (names[1:] != 0)
    if neighbours.sum() > max(OFTEN * len(names), 2):
        return
    rows = np.flatnonzero(again)
    if len(rows):
        bad[rows, channel] = True
        words = [f"that of {name_time(int(times[i]))}" for i in first[place[rows]]]
        ones = np.ones(len(rows))
        tally(channel, "repeated").add(rows, ones, ones, words)
