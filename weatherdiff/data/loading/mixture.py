"""Windows of several stores in one sequence, in given shares.

To train on one data set and on another beside it: a long simulation and the few years of analyses
that matter, say. All have the same channels, units, grid and static fields, and are normalised with
the statistics of the first, so that a number means the same whichever store it comes from; how far
each of the others is from that is reported (:func:`deviations`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from weatherdiff.data.fields import Fields
from weatherdiff.data.loader import Batch, WindowDataset
from weatherdiff.data.loading.mixture_order import MixtureOrder, PoolMixtureOrder
from weatherdiff.data.loading.order import PoolOrder
from weatherdiff.data.loading.reader import Reader
from weatherdiff.data.normalization import Normalizer
from weatherdiff.data.windows import Int, Windows
from weatherdiff.errors import GridMismatchError, InputError

__all__ = [
    "Deviation",
    "MixtureDataset",
    "MixtureOrder",
    "PoolMixtureOrder",
    "deviations",
    "normalized_by",
    "require_alike",
]

Float = npt.NDArray[np.float32]

SAMPLE = 64  # frames by which two data sets are compared


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

    def pool_order(
        self, batch_size: int, seed: int, *, pool_bytes: int, rank: int = 0, ranks: int = 1
    ) -> PoolMixtureOrder:
        """Give the order in which each set is drawn from pools, the shares as they should.

        Parameters
        ----------
        batch_size, seed, rank, ranks
            As for :class:`~weatherdiff.data.loading.order.PoolOrder`.
        pool_bytes : int
            Of the pools of all sets; each has its share, as it is drawn from in this proportion.
        """
        blocks = [
            PoolOrder.sized(
                part.windows.indices, 1, seed,
                frame_bytes=part.store.nbytes // part.store.shape[0],
                pool_bytes=int(pool_bytes * weight / sum(self.weights)),
            )
            for part, weight in zip(self.parts, self.weights, strict=True)
        ]  # fmt: skip
        return PoolMixtureOrder(
            tuple(map(len, self.parts)), self.weights, batch_size, seed, rank, ranks,
            block=tuple(part.block for part in blocks),
            blocks=tuple(part.blocks for part in blocks),
        )  # fmt: skip

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
