"""The training analyses as rows of numbers, a block of times in memory at once.

A cell that is never observed (the sea in a land data set) is left out. An analysis that lacks a
value in any other cell is *incomplete* and treated like one that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.evaluation.alignment import Times, analysis_times
from weatherdiff.evaluation.baselines.training import within
from weatherdiff.grid import Grid

__all__ = ["TrainingRecord"]

# Values in memory at once while fitting: 32 MiB of float64 (more if a single time is larger).
_BLOCK_VALUES = 2**22


@dataclass(frozen=True, eq=False)
class TrainingRecord:
    """Training analyses, and what is missing in them.

    Parameters
    ----------
    analyses : (time, ...)
        Variables over time, time first.
    times : (time,)
        Their times.
    observed : dict of (cell,)
        By variable, whether a cell is ever observed.
    complete : dict of (time,)
        By variable, whether every cell ever observed is so at a time.
    """

    analyses: xr.Dataset
    times: Times
    observed: dict[str, npt.NDArray[np.bool_]]
    complete: dict[str, npt.NDArray[np.bool_]]

    @classmethod
    def read(cls, analyses: xr.Dataset, period: tuple[object, object]) -> TrainingRecord:
        """Go through the analyses of a period once.

        Raises
        ------
        InputError
            There is no analysis in the period, no variable over time, or none that is ever
            complete.
        """
        analyses = within(analyses, period)
        times = analysis_times(analyses)
        names = [str(name) for name, field in analyses.data_vars.items() if "time" in field.dims]
        if not names:
            raise InputError("the analyses hold no variable over time.")
        analyses = analyses[names].transpose("time", ...)
        observed, complete = {}, {}
        for name in names:
            field = analyses[name]
            seen = np.zeros(_cells(field), dtype=bool)
            missing = np.empty(times.size, dtype=np.int64)
            for block in _blocks([field]):
                finite = np.isfinite(_rows(field, block))
                seen |= finite.any(axis=0)
                missing[block] = np.count_nonzero(~finite, axis=1)
            observed[name] = seen
            complete[name] = missing == np.count_nonzero(~seen)
            if not seen.any() or not complete[name].any():
                raise InputError(
                    f"no training analysis of {name} has a value in every cell that is ever "
                    "observed; fill it or leave it out."
                )
        return cls(analyses, times, observed, complete)

    @property
    def names(self) -> list[str]:
        """The variables, in their order."""
        return list(self.observed)

    @property
    def all_complete(self) -> npt.NDArray[np.bool_]:
        """Whether all variables are complete, (time,)."""
        return np.logical_and.reduce(list(self.complete.values()))

    @cached_property
    def weights(self) -> npt.NDArray[np.float64]:
        """Area weights of the observed cells, mean 1 in each variable, (state,)."""
        parts = []
        for name, observed in self.observed.items():
            frame = self.analyses[name].isel(time=0, drop=True)
            weights = np.ones(frame.shape)
            if {"latitude", "longitude"} <= set(frame.dims):
                area = Grid.from_dataset(frame).area_weights().variable
                others = {dim: size for dim, size in frame.sizes.items() if dim not in area.dims}
                weights = area.set_dims(others | dict(area.sizes)).transpose(*frame.dims).values
            kept = weights.ravel()[observed]
            parts.append(kept / kept.mean())
        return np.concatenate(parts)

    def part(self, name: str) -> slice:
        """Place of a variable's observed cells in a state."""
        sizes = [int(np.count_nonzero(observed)) for observed in self.observed.values()]
        place = self.names.index(name)
        return slice(sum(sizes[:place]), sum(sizes[: place + 1]))

    def frame_shape(self, name: str) -> tuple[int, ...]:
        """Sizes of a variable without time."""
        return self.analyses[name].shape[1:]

    def rows(self, ds: xr.Dataset, name: str) -> npt.NDArray[np.float64]:
        """Bring a variable of analyses on the same grid into memory as (time, cell)."""
        return _rows(ds[name].transpose(*self.analyses[name].dims), slice(None))

    def frames(self, name: str, states: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Put observed cells (..., cell) of a variable back in place, NaN elsewhere."""
        observed = self.observed[name]
        if observed.all():
            whole = states
        else:
            whole = np.full((*states.shape[:-1], observed.size), np.nan, dtype=states.dtype)
            whole[..., observed] = states
        return whole.reshape(*states.shape[:-1], *self.frame_shape(name))

    def blocks(self) -> Iterator[slice]:
        """Give consecutive times of all variables that fit in memory together."""
        return _blocks([self.analyses[name] for name in self.names])

    def complete_rows(
        self, name: str
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
        """Go through the complete analyses of a variable: positions, and values (time, cell)."""
        field = self.analyses[name]
        for block in _blocks([field]):
            kept = np.flatnonzero(self.complete[name][block])
            if kept.size:
                yield block.start + kept, _rows(field, block)[kept]


def _cells(field: xr.DataArray) -> int:
    return int(np.prod(field.shape[1:]))


def _rows(field: xr.DataArray, block: slice) -> npt.NDArray[np.float64]:
    """Values of a variable (time first) at some times, (time, cell)."""
    values = field.isel(time=block).values
    return values.reshape(len(values), -1).astype(np.float64, copy=False)


def _blocks(fields: list[xr.DataArray]) -> Iterator[slice]:
    """Slices of time of moderate size, ending where chunks do if possible."""
    step = max(1, _BLOCK_VALUES // sum(_cells(field) for field in fields))
    length = fields[0].sizes["time"]
    ends = np.cumsum(fields[0].chunksizes.get("time", (length,)))
    start = 0
    while start < length:
        stop = min(start + step, length)
        within_reach = ends[(ends > start) & (ends <= stop)]
        if within_reach.size:
            stop = int(within_reach[-1])
        yield slice(start, stop)
        start = stop
