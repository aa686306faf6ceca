r"""Physical fields to normalised ones and back, with statistics of the training period only.

Each channel goes through three steps:

1. :math:`z = T(x)`, the transform of a bounded variable
   (:mod:`weatherdiff.data.storing.transforms`);
2. :math:`a = (z - c(t)) / s`, the anomaly from a climatology of each cell: harmonics of the day
   (where the data resolve it) and of the year (where the training period holds one), by least
   squares; :math:`s` is one number per channel, the area-weighted standard deviation of
   :math:`z - c`;
3. what the network predicts: :math:`y_k = (a(t_0 + k\Delta t) - a(t_0)) / d_k`, the change from
   the last frame, with :math:`d_k` its standard deviation for each channel and lead.

Taking the mean daily and yearly cycle out first leaves the network with the weather.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from weatherdiff.data.calendars import CALENDARS, DAY, STANDARD, Calendar
from weatherdiff.data.storing.blocks import Blocks
from weatherdiff.data.storing.moments import weighted_squares
from weatherdiff.data.storing.transforms import BoundedTransform
from weatherdiff.data.windows import Int, Period, WindowSpec
from weatherdiff.errors import InputError

__all__ = ["Harmonics", "Normalizer", "fit_normalizer"]

Array = npt.NDArray[np.floating]
Read = Callable[[Int, npt.NDArray[np.float32]], Any]
"""Positions on the time axis, and room for physical fields (time, channel, latitude, longitude)."""


@dataclass(frozen=True)
class Harmonics:
    """The basis in time of the climatology: a mean, and waves of the day and the year.

    Parameters
    ----------
    daily, yearly : int
        How many harmonics of each.
    calendar : str
        That says how long a year is.
    """

    daily: int
    yearly: int
    calendar: str = STANDARD

    @classmethod
    def resolved_by(cls, times: Int, calendar: str = STANDARD) -> Harmonics:
        """Give the most that a record supports, up to twelve of the day and two of the year.

        Twelve are the mean of each hour: the sun's day is not made of few waves. The day needs two
        frames a day; the year needs a full one, as half a year would be extrapolated into the
        other half.
        """
        a_day = DAY // max(1, int(np.median(np.diff(times)))) if len(times) > 1 else 1
        a_year = times[-1] - times[0] >= (CALENDARS[calendar] - 5) * DAY
        return cls(daily=min(12, a_day // 2), yearly=2 if a_year else 0, calendar=calendar)

    def evaluate(self, times: Int) -> npt.NDArray[np.float64]:
        """Basis functions at the times (seconds); (time, basis)."""
        waves = [np.ones(len(times))]
        for count, length in ((self.daily, DAY), (self.yearly, Calendar(self.calendar).year)):
            for k in range(1, count + 1):
                angle = 2 * np.pi * k * (times % length) / length
                waves += [np.cos(angle), np.sin(angle)]
        return np.stack(waves, axis=1)


@dataclass(frozen=True)
class Normalizer:
    """Statistics of the training period, and the two ways between physical and normalised.

    Parameters
    ----------
    transforms : tuple of BoundedTransform
        One per channel.
    harmonics : Harmonics
        Basis of the climatology.
    climatology : (basis, channel, latitude, longitude)
        Its coefficients, transformed units; NaN where a cell has no data.
    std : (channel,)
        Standard deviation of the anomalies, transformed units.
    tendency_std : (lead, channel)
        Standard deviation of the change of the normalised anomaly from the last frame.
    step : int
        Seconds between the leads.
    period : Period
        The training period.
    """

    transforms: tuple[BoundedTransform, ...]
    harmonics: Harmonics
    climatology: npt.NDArray[np.float32]
    std: npt.NDArray[np.float64]
    tendency_std: npt.NDArray[np.float64]
    step: int
    period: Period

    def state(self, fields: Array, times: Int) -> npt.NDArray[np.float32]:
        """Physical fields to normalised anomalies.

        Parameters
        ----------
        fields : (time, channel, latitude, longitude)
            Physical units; NaN stays NaN.
        times : (time,)
            Seconds since 1970-01-01 UTC.

        Raises
        ------
        InputError
            A value is outside the bounds of its variable.
        """
        out = np.empty(fields.shape, np.float32)
        for c in range(len(self.transforms)):  # one after the other: bounded memory
            self.fill_state(c, fields, times, out)
        return out

    def fill_state(self, c: int, fields: Array, times: Int, out: Array) -> None:
        """Fill one channel of :meth:`state`."""
        basis = self.harmonics.evaluate(times)
        mean = np.tensordot(basis, self.climatology[:, c].astype(np.float64), axes=1)
        anomaly = np.subtract(self.transforms[c].forward(fields[:, c]), mean, out=mean)
        np.divide(anomaly, self.std[c], out=anomaly)
        out[:, c] = anomaly

    def fields(self, state: Array, times: Int) -> npt.NDArray[np.float32]:
        """Undo :meth:`state`; values come out within their bounds.

        Parameters
        ----------
        state : (..., time, channel, latitude, longitude)
        times : (time,)
        """
        z = state * self.std[:, None, None] + self._mean(times)
        out = np.empty(z.shape, np.float32)
        for c, transform in enumerate(self.transforms):
            out[..., c, :, :] = transform.inverse(z[..., c, :, :])
        return out

    def tendency(self, target: Array, last: Array) -> npt.NDArray[np.float32]:
        """Change from the last frame, each channel and lead to unit variance.

        Parameters
        ----------
        target : (..., lead, channel, latitude, longitude)
            Normalised anomalies.
        last : (..., channel, latitude, longitude)
            The frame at the initial time.
        """
        change = target - last[..., None, :, :, :]
        return (change / self.tendency_std[..., None, None]).astype(np.float32)

    def add_tendency(self, tendency: Array, last: Array) -> npt.NDArray[np.float32]:
        """Undo :meth:`tendency`."""
        change = tendency * self.tendency_std[..., None, None]
        return (last[..., None, :, :, :] + change).astype(np.float32)

    def _mean(self, times: Int) -> npt.NDArray[np.float64]:
        return np.tensordot(self.harmonics.evaluate(times), self.climatology, axes=1)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Give the numbers, to be stored beside :meth:`to_dict`."""
        return {
            "climatology": self.climatology,
            "std": self.std,
            "tendency_std": self.tendency_std,
        }

    def to_dict(self) -> dict[str, Any]:
        """All but the arrays, in plain types for JSON."""
        return {
            "transforms": [
                {"lower": t.lower, "upper": t.upper, "scale": t.scale} for t in self.transforms
            ],
            "harmonics": {"daily": self.harmonics.daily, "yearly": self.harmonics.yearly},
            "step": self.step,
            "period": [self.period.start, self.period.stop],
            **({} if self.period.calendar == STANDARD else {"calendar": self.period.calendar}),
        }

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> Normalizer:
        """Undo :meth:`to_dict` and :meth:`arrays`."""
        calendar = Calendar(data.get("calendar", STANDARD)).name
        start, stop = data["period"]
        return cls(
            transforms=tuple(BoundedTransform(**t) for t in data["transforms"]),
            harmonics=Harmonics(**data["harmonics"], calendar=calendar),
            climatology=np.asarray(arrays["climatology"], np.float32),
            std=np.asarray(arrays["std"], np.float64),
            tendency_std=np.asarray(arrays["tendency_std"], np.float64),
            step=int(data["step"]),
            period=Period(start, stop, calendar),
        )


def fit_normalizer(
    read: Read,
    times: Int,
    valid: npt.NDArray[np.bool_],
    *,
    transforms: tuple[BoundedTransform, ...],
    weights: npt.NDArray[np.float64],
    spec: WindowSpec,
    period: Period,
    block: int = 256,
    threads: int = 1,
) -> Normalizer:
    """Fit all statistics on the training period, in two passes and bounded memory.

    Parameters
    ----------
    read : callable
        ``read(positions, out)`` fills physical fields (time, channel, latitude, longitude) of
        positions on the time axis.
    times : (time,)
        Seconds since 1970-01-01 UTC.
    valid : (time,)
        Frames without missing data; only these count.
    transforms : tuple of BoundedTransform
        One per channel.
    weights : (channel, latitude, longitude)
        Cell areas, 0 where a channel has no data.
    spec : WindowSpec
        The leads of the tendencies.
    period : Period
        The training period. No frame outside is read.
    block : int
        Frames in memory at once, three times over.
    threads : int
        They share the channels, and what is read; the result is the same.

    Raises
    ------
    InputError
        Too few valid frames, or a channel that never changes.
    """
    inside = np.flatnonzero(period.contains(times) & valid)
    if len(inside) < 2 * spec.frames + 1:
        raise InputError(
            f"Only {len(inside)} frames without missing data lie in the training period {period}; "
            f"statistics for {spec.frames} leads need at least {2 * spec.frames + 1}."
        )
    harmonics = Harmonics.resolved_by(times[inside], period.calendar)
    with ThreadPoolExecutor(threads) as pool:
        shared = _Shared(pool, threads, read, weights.shape)
        climatology = _climatology(shared, times, inside, transforms, weights, harmonics, block)
        centred = Normalizer(
            transforms,
            harmonics,
            climatology,
            np.ones(len(transforms)),
            np.ones((spec.frames, len(transforms))),
            spec.step,
            period,
        )
        std, change_std = _spreads(shared, times, inside, centred, weights, spec, block)
    # The fit leaves rounding errors, where fields do not change.
    rounding = np.finfo(np.float32).eps * np.nanmax(np.abs(climatology), axis=(0, 2, 3))
    constant = (std <= rounding) | (change_std <= rounding).any(axis=0)
    if constant.any():
        raise InputError(
            f"Channel number {int(np.argmax(constant))} does not change in the training period "
            f"{period}; leave it out, or give it as a static field."
        )
    return Normalizer(transforms, harmonics, climatology, std, change_std / std, spec.step, period)


@dataclass(frozen=True)
class _Shared:
    """Work that threads share: frames to read, and channels, each of them for itself."""

    pool: ThreadPoolExecutor
    threads: int
    source: Read
    frame: tuple[int, ...]
    blocks: Blocks = field(default_factory=Blocks)

    @contextmanager
    def read(self, indices: Int) -> Iterator[npt.NDArray[np.float32]]:
        """Read frames, each thread some of them, into memory that is used again."""
        cuts = np.linspace(0, len(indices), self.threads + 1).astype(int)
        parts = [slice(*pair) for pair in pairwise(cuts.tolist())]
        with self.blocks.taken((len(indices), *self.frame)) as out:
            for _ in self.pool.map(lambda part: self.source(indices[part], out[part]), parts):
                pass
            yield out

    def each(self, do: Callable[[int], Any]) -> list[Any]:
        """Do something for each channel."""
        return list(self.pool.map(do, range(self.frame[0])))


def _climatology(
    shared: _Shared,
    times: Int,
    inside: Int,
    transforms: tuple[BoundedTransform, ...],
    weights: npt.NDArray[np.float64],
    harmonics: Harmonics,
    block: int,
) -> npt.NDArray[np.float32]:
    """Fit the coefficients (basis, channel, latitude, longitude), cell by cell, in one pass."""
    size = harmonics.evaluate(times[:1]).shape[1]
    gram = np.zeros((size, size))
    moment = np.zeros((size, *weights.shape))
    for indices in _blocks(inside, block):
        basis = harmonics.evaluate(times[indices])
        gram += basis.T @ basis
        with shared.read(indices) as fields:

            def add(c: int, basis: Array = basis, fields: Array = fields) -> None:
                z = transforms[c].forward(fields[:, c]).astype(np.float64)
                moment[:, c] += np.tensordot(basis.T, z, axes=1)

            shared.each(add)
    # The pseudo-inverse drops waves that the times cannot tell apart.
    inverse = np.linalg.pinv(gram, rcond=1e-10, hermitian=True)
    return np.tensordot(inverse, moment, axes=1).astype(np.float32)


def _spreads(
    shared: _Shared,
    times: Int,
    inside: Int,
    centred: Normalizer,
    weights: npt.NDArray[np.float64],
    spec: WindowSpec,
    block: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Give standard deviations of anomalies (channel,) and of their changes (lead, channel)."""
    absent, nowhere = weights == 0, np.empty(0, np.int64)
    weights = np.ascontiguousarray(weights)
    whole = [float(area.sum()) for area in weights]
    # used in turn: of each block the one before is still needed
    space = [np.empty((min(block, len(inside)), *shared.frame), np.float32) for _ in range(2)]

    def states(indices: Int, out: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        out = out[: len(indices)]
        with shared.read(indices) as fields:

            def fill(c: int) -> None:
                centred.fill_state(c, fields, times[indices], out)
                out[:, c, absent[c]] = 0

            shared.each(fill)
        return out

    def mean_squares(
        now: Array, rows: Int, before: Array | None = None, places: Int = nowhere
    ) -> Array:
        def of(c: int) -> float:
            return weighted_squares(now, rows, before, places, c, weights[c]) / whole[c]

        return np.array(shared.each(of))

    usable = np.zeros(len(times), bool)
    usable[inside] = True
    total = np.zeros(shared.frame[0])
    changes = np.zeros((spec.frames, shared.frame[0]))
    counts = np.zeros(spec.frames)
    earlier: list[tuple[Int, npt.NDArray[np.float32]]] = []  # the block before, if there is one
    for indices in _blocks(inside, block):
        space.reverse()
        now = states(indices, space[0])
        total += mean_squares(now, np.arange(len(now)))
        for lead, seconds in enumerate(spec.lead_times):
            begin = times[indices] - seconds
            before = np.searchsorted(times, begin)
            rows = np.flatnonzero((times[before] == begin) & usable[before])
            before = before[rows]
            missing = np.ones(len(rows), bool)
            for known, frames in [(indices, now), *earlier]:
                place = np.searchsorted(known, before).clip(max=len(known) - 1)
                near = missing & (known[place] == before)
                changes[lead] += mean_squares(now, rows[near], frames, place[near])
                missing &= ~near
            if missing.any():  # further back
                far = before[missing]
                frames = states(far, np.empty((len(far), *shared.frame), np.float32))
                changes[lead] += mean_squares(now, rows[missing], frames, np.arange(len(far)))
            counts[lead] += len(rows)
        earlier = [(indices, now)]
    if not counts.all():
        raise InputError(
            f"No pair of frames {spec.lead_times[counts.argmin()] / 3600:g} hours apart lies in "
            f"the training period {centred.period}; is the time step right?"
        )
    return np.sqrt(total / len(inside)), np.sqrt(changes / counts[:, None])


def _blocks(indices: Int, size: int) -> Iterator[Int]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]
