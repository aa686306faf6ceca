"""The members of a forecast in lockstep: a block of frames of all, then the next block of all.

Between two blocks nothing is left but the last frames of each member: with these, and the number
of the next block, the forecast can be stopped, and gone on with by another process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from weatherdiff.data.windows import WindowSpec
from weatherdiff.forecasting.assimilation import Assimilation
from weatherdiff.forecasting.block import BlockSampler

__all__ = ["Drawer", "Key", "Rollout"]

Array = npt.NDArray[np.float32]
#: Draws groups of members: takes the block, and what each group has behind it, by position.
Drawer = Callable[[int, dict[int, Array]], Iterable[tuple[int, Array]]]


class Key(NamedTuple):
    """What is forecast.

    Attributes
    ----------
    seed : int
    init : int
        Seconds since 1970-01-01 UTC.
    numbers : range
        Of the members.
    frames : int
        In all.
    """

    seed: int
    init: int
    numbers: range
    frames: int


class Rollout(Iterator[xr.Dataset]):
    """Yield a forecast block of frames by block of frames, as :meth:`Forecaster.rollout` says.

    Memory is that of one block of frames of all members, in physical units, and of what they have
    behind them, before and after it: about ``8 * members * channels * cells * (history + frames)``
    bytes, beside what a group of members takes to be drawn, and the block before, unless whoever
    asks for the next one has let it go.

    Parameters
    ----------
    sampler : BlockSampler
    history : (history, channel, latitude, longitude)
        Of all members, normalised; NaN where no data.
    spec : WindowSpec
    key : Key
    forcings : callable
        Times -> (time, forcing, latitude, longitude).
    fields : callable
        Normalised frames (number, lead_time, channel, latitude, longitude) and times -> these in
        physical units.
    dataset : callable
        Frames in physical units, initial time and times -> Dataset.
    observed : list
        Observations of each block of frames, or None.
    progress : callable, optional
        Called with (groups of members done, in all) of each block.

    Attributes
    ----------
    block : int
        The next block of frames.
    past : (number, history, channel, latitude, longitude)
        What each member has behind it, normalised; filled up to whole groups of members.
    """

    def __init__(
        self,
        sampler: BlockSampler,
        history: Array,
        *,
        spec: WindowSpec,
        key: Key,
        forcings: Callable[[npt.NDArray[np.int64]], Array],
        fields: Callable[[Array, npt.NDArray[np.int64]], Array],
        dataset: Callable[[Array, int, npt.NDArray[np.int64]], xr.Dataset],
        observed: list[Assimilation | None],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._sampler, self._spec, self._key = sampler, spec, key
        self._forcings, self._fields, self._dataset = forcings, fields, dataset
        self._observed, self._progress = observed, progress
        self._known: dict[int, torch.Tensor] = {}  # forcings of the block that is being drawn
        size = sampler.sampling.member_block
        numbers = key.numbers
        self.groups = [range(a, a + size) for a in range(numbers.start, numbers.stop, size)]
        self.block = 0
        self.past: Array = np.broadcast_to(history, (len(self.groups) * size, *history.shape))
        self.drawer: Drawer = self._draw_all

    @property
    def blocks(self) -> int:
        """Blocks of frames in all."""
        return len(self._observed)

    def draw(self, group: int, block: int, past: Array) -> Array:
        """Draw the frames of a block of one group of members.

        Parameters
        ----------
        group : int
            Which.
        block : int
            Of frames.
        past : (number, history, channel, latitude, longitude)

        Returns
        -------
        (number, frames, channel, latitude, longitude)
            Normalised. They depend on nothing but the arguments, whoever draws them.
        """
        if block not in self._known:
            known = self._forcings(self._start(block) + self._spec.offsets)
            self._known = {block: torch.from_numpy(known)}
        return self._sampler(
            past, self._known[block], seed=self._key.seed, init_time=self._key.init,
            numbers=list(self.groups[group]), block=block, observed=self._observed[block],
        )  # fmt: skip

    def __next__(self) -> xr.Dataset:
        """Advance all members by a block of frames."""
        if self.block == self.blocks:
            raise StopIteration
        spec, key, size = self._spec, self._key, self._sampler.sampling.member_block
        rows = [slice(i * size, (i + 1) * size) for i in range(len(self.groups))]
        keep = min(spec.frames, key.frames - self.block * spec.frames)
        times = self._start(self.block) + spec.lead_times[:keep]
        new = np.empty((len(key.numbers), keep, *self.past.shape[2:]), np.float32)
        past = np.empty(self.past.shape, np.float32)
        behind = {group: self.past[part] for group, part in enumerate(rows)}
        for done, (group, frames) in enumerate(self.drawer(self.block, behind), start=1):
            part = rows[group]
            wanted = new[part]  # without the members that fill up the last group
            wanted[:] = self._fields(frames[: len(wanted), :keep], times)
            whole = np.concatenate([self.past[part], frames], axis=1)
            past[part] = whole[:, -spec.history :]
            if self._progress is not None:
                self._progress(done, len(self.groups))
        self.past = past
        self.block += 1
        ds = self._dataset(new, key.init, times)
        return ds.assign_coords(number=("number", np.array(key.numbers), ds["number"].attrs))

    def _draw_all(self, block: int, behind: dict[int, Array]) -> Iterator[tuple[int, Array]]:
        for group, past in behind.items():
            yield group, self.draw(group, block, past)

    def _start(self, block: int) -> int:
        return self._key.init + block * self._spec.frames * self._spec.step
