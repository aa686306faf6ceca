"""Windows of several stores in one sequence, in given shares.

To train on one data set and on another beside it: a long simulation and the few years of analyses
that matter, say. All have the same channels, units, grid and static fields, and are normalised with
the statistics of the first, so that a number means the same whichever store it comes from; how far
each of the others is from that is reported (:func:`deviations`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from weatherdiff.data.fields import Fields
from weatherdiff.data.loader import Batch, WindowDataset
from weatherdiff.data.loading.order import ExactOrder, keyed_permutation
from weatherdiff.data.loading.reader import Reader
from weatherdiff.data.normalization import Normalizer
from weatherdiff.data.windows import Int, Windows
from weatherdiff.errors import ConfigError, GridMismatchError, InputError

__all__ = [
    "Deviation",
    "MixtureDataset",
    "MixtureOrder",
    "deviations",
    "normalized_by",
    "require_alike",
]

Float = npt.NDArray[np.float32]

SAMPLE = 64  # frames by which two data sets are compared
LARGEST = 10**6  # denominator of a share


@dataclass(frozen=True)
class MixtureOrder:
    """Windows of several sets in given shares; a pure function of (seed, index).

    Of any number of windows from the first on, each set has its share, rounded up or down at most
    once for each set before it; each set's own windows come permutation after permutation. Within a
    batch their order is shuffled. As in :class:`~weatherdiff.data.loading.order.ExactOrder` the
    global batch does not depend on the number of ranks, of which each takes its slice.

    Parameters
    ----------
    sizes : tuple of int
        Windows of each set. Windows are numbered through all of them.
    weights : tuple of float
        Share of each set, up to a factor, whatever its size.
    batch_size, seed, rank, ranks
        As for :class:`~weatherdiff.data.loading.order.ExactOrder`.

    Raises
    ------
    ConfigError
        A weight is not positive, a set is empty, or the batch does not divide over the ranks.

    Examples
    --------
    >>> order = MixtureOrder(sizes=(100, 5), weights=(1.0, 3.0), batch_size=8, seed=0)
    >>> [int((order.rows(step) < 100).sum()) for step in range(4)]
    [2, 2, 2, 2]
    """

    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    batch_size: int
    seed: int
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.weights) or min(self.weights, default=0) <= 0:
            raise ConfigError(
                f"A mixture needs a positive weight for each of its {len(self.sizes)} sets; found "
                f"{', '.join(map(str, self.weights)) or 'none'}."
            )
        if not all(self.sizes):
            raise ConfigError(
                f"Set number {self.sizes.index(0)} of the mixture has no window; check its period."
            )
        _ = self._orders  # which refuse a batch that does not divide

    def rows(self, step: int) -> Int:
        """Give the windows of this rank at a step; (share,)."""
        begin, size = step * self.batch_size, self.batch_size
        rows = np.empty(size, np.int64)
        rest = np.arange(begin, begin + size)  # numbers of the windows among those not yet given
        places = np.arange(size)
        offset = 0
        for order, share in zip(self._orders, self._shares, strict=True):
            mine, before = _taken(rest, share)
            rows[places[mine]] = offset + order.windows_at(before[mine])
            rest, places = (rest - before)[~mine], places[~mine]
            offset += order.windows
        slots = keyed_permutation(size, self.seed, step, 1)
        count = size // self.ranks
        return rows[slots][self.rank * count : (self.rank + 1) * count]

    def state(self) -> dict[str, Any]:
        """Give what the sequence depends on: not the ranks."""
        return {
            "order": "mixture",
            "windows": list(self.sizes),
            "weights": list(self.weights),
            "batch_size": self.batch_size,
            "seed": self.seed,
        }

    @cached_property
    def _orders(self) -> tuple[ExactOrder, ...]:
        return tuple(
            ExactOrder(size, self.batch_size, self.seed + number, self.rank, self.ranks)
            for number, size in enumerate(self.sizes)
        )

    @cached_property
    def _shares(self) -> tuple[Fraction, ...]:
        """Of each set among it and those after it."""
        weights = [Fraction(w) for w in self.weights]
        shares = [w / sum(weights[i:]) for i, w in enumerate(weights)]
        return tuple(max(s.limit_denominator(LARGEST), Fraction(1, LARGEST)) for s in shares)


def _taken(numbers: Int, share: Fraction) -> tuple[npt.NDArray[np.bool_], Int]:
    """Which of the numbers are taken, and how many of those before each; evenly, in integers."""
    a, b = share.numerator, share.denominator
    before = (numbers // b) * a + (numbers % b) * a // b
    after = ((numbers + 1) // b) * a + ((numbers + 1) % b) * a // b
    return after > before, before


class MixtureDataset(WindowDataset):
    """The windows of several sets, numbered through.

    Parameters
    ----------
    parts : sequence of WindowDataset
        The first is the one whose store stands for all.
    weights : sequence of float
        Share of the windows that each is to have.

    Raises
    ------
    InputError, GridMismatchError
        They do not go together; see :func:`require_alike`.
    """

    def __init__(self, parts: Sequence[WindowDataset], weights: Sequence[float]) -> None:
        first = parts[0]
        for part in parts[1:]:
            require_alike(first.store, part.store)
        self.parts, self.weights = tuple(parts), tuple(weights)
        self.store, self.spec, self.forcings = first.store, first.spec, first.forcings
        self.in_memory = all(part.in_memory for part in parts)
        frames = np.cumsum([0, *(part.store.shape[0] for part in parts)])
        self.windows = Windows(
            np.concatenate([part.windows.init_times for part in parts]),
            np.concatenate(
                [p.windows.indices + start for p, start in zip(parts, frames, strict=False)]
            ),
            sum(part.windows.absent for part in parts),
            sum(part.windows.invalid for part in parts),
        )
        self._first = np.cumsum([0, *map(len, parts)])
        self._reader = _JoinedReader([part._reader for part in parts], frames)

    def order(self, batch_size: int, seed: int, *, rank: int = 0, ranks: int = 1) -> MixtureOrder:
        """Give the order in which the shares are as they should."""
        sizes = tuple(map(len, self.parts))
        return MixtureOrder(sizes, self.weights, batch_size, seed, rank, ranks)

    def _finish(self, rows: Int, parts: tuple[Float, ...]) -> Batch:
        owner = np.searchsorted(self._first, rows, side="right") - 1
        found, places = [], []
        for number in np.unique(owner).tolist():
            mine = np.flatnonzero(owner == number)
            own = parts if len(mine) == len(rows) else tuple(part[mine] for part in parts)
            found.append(self.parts[number]._finish(rows[mine] - self._first[number], own))
            places.append(mine)
        if len(found) == 1:
            return found[0]
        back = torch.from_numpy(np.argsort(np.concatenate(places)))
        return Batch(*(torch.cat(fields)[back] for fields in zip(*found, strict=True)))


class _JoinedReader:
    """Frames of several readers, numbered through."""

    def __init__(self, readers: Sequence[Reader], first: Int) -> None:
        self.readers, self.first = readers, first

    def read(self, indices: npt.ArrayLike, out: Float | None = None) -> Float:
        wanted = np.asarray(indices, np.int64)
        owner = np.searchsorted(self.first, wanted, side="right") - 1
        for number in np.unique(owner).tolist():
            mine = np.flatnonzero(owner == number)
            local = wanted[mine] - self.first[number]
            if len(mine) == len(wanted):
                return self.readers[number].read(local, out=out)
            frames = self.readers[number].read(local)
            if out is None:
                out = np.empty((len(wanted), *frames.shape[1:]), np.float32)
            out[mine] = frames
        assert out is not None  # noqa: S101  (for the type checker: something was asked for)
        return out


def normalized_by(
    fields: Fields, normalizer: Normalizer, mask: npt.NDArray[np.bool_] | None = None
) -> Fields:
    """Give fields with the statistics of another data set.

    Parameters
    ----------
    fields : FieldStore or SourceFields
    normalizer : Normalizer
    mask : (channel, latitude, longitude), optional
        Where that has data: elsewhere there are no statistics, and these fields are not used.

    Raises
    ------
    InputError
        The statistics are of days of another calendar.
    """
    if fields.calendar != normalizer.period.calendar:
        raise InputError(
            f"The data have the calendar {fields.calendar!r}, the statistics "
            f"{normalizer.period.calendar!r}: their days do not correspond."
        )
    shared = fields.mask if mask is None else fields.mask & mask
    return replace(fields, normalizer=normalizer, mask=shared)


def require_alike(first: Fields, other: Fields, name: str = "The other data") -> None:
    """Refuse data that cannot be in one batch.

    Raises
    ------
    InputError
        Other channels, units or static fields.
    GridMismatchError
        Another grid.
    """
    for what, ours, theirs in (
        ("channels", first.channels.labels, other.channels.labels),
        ("units", first.channels.units, other.channels.units),
        ("static fields", first.metadata["static"], other.metadata["static"]),
    ):
        if list(ours) != list(theirs):
            raise InputError(
                f"{name} has the {what} {', '.join(theirs) or 'none'}; expected are "
                f"{', '.join(ours) or 'none'}, in this order. Prepare it with the same variables, "
                "levels and units (data.variables, data.levels, data.rename, data.units)."
            )
    try:
        first.grid.require_same(other.grid)
    except GridMismatchError as error:
        raise GridMismatchError(f"{name}: {error}") from error


class Deviation(NamedTuple):
    """How far a channel of some data is from the statistics that it is normalised with.

    Attributes
    ----------
    mean, std : float
        Of the normalised anomalies, area-weighted: 0 and 1 where they fit.
    """

    mean: float
    std: float


def deviations(fields: Fields, rows: Int, normalizer: Normalizer) -> dict[str, Deviation]:
    """Normalise some frames with the statistics of other data, and say how they come out.

    Parameters
    ----------
    fields : FieldStore or SourceFields
    rows : (n,)
        Positions on its time axis, of which at most :data:`SAMPLE`, evenly spread, are read.
    normalizer : Normalizer

    Returns
    -------
    dict
        By label of the channel; NaN where it has no data.

    Raises
    ------
    InputError
        A value is outside the bounds of its variable.
    """
    rows = np.unique(rows)
    rows = rows[np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).round().astype(int)]
    states = normalizer.state(fields.reader().read(rows), fields.times[rows]).astype(np.float64)
    area = np.broadcast_to(fields.grid.area_weights().to_numpy(), states.shape[2:])
    found = {}
    for c, label in enumerate(fields.channels.labels):
        there = ~np.isnan(states[:, c])
        weights = np.where(there, area, 0)
        values = np.where(there, states[:, c], 0)
        with np.errstate(invalid="ignore"):
            mean = (weights * values).sum() / weights.sum()
            variance = (weights * (values - mean) ** 2).sum() / weights.sum()
        found[label] = Deviation(float(mean), float(np.sqrt(variance)))
    return found
