"""Members drawn by the workers of a cluster: the same units, and the same bytes, as by ourselves.

Workers need the package, and must see the same file system. A worker loads the model once. It draws
a unit into a folder of its own, see :mod:`weatherdiff.forecasting.drawing`; only the process that
asked for it gives the forecast its parts, and its name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from weatherdiff.errors import StorageError
from weatherdiff.forecasting.drawing import Drawn, UnitWriter
from weatherdiff.forecasting.forecaster import Forecaster
from weatherdiff.forecasting.manifest import entry_of
from weatherdiff.forecasting.observations import ObservationTable
from weatherdiff.forecasting.rollout import Drawer, Rollout
from weatherdiff.forecasting.sampling import Sampling
from weatherdiff.tasks.attempts import run_tried
from weatherdiff.tasks.crew import Crew

__all__ = ["Drawing", "draw_groups", "draw_units", "identity"]

#: Told the numbers of members that could not be drawn, how often that was tried, and why not.
Failed = Callable[[range, int, str], None]


@dataclass(frozen=True)
class Drawing:
    """All that a worker must know to draw members of one forecast; it pickles.

    Parameters
    ----------
    model : path
        Folder of the model.
    identity : str
        Of the model, see :func:`identity`: a worker refuses another.
    threads : int
        PyTorch's: sums over another number of threads may differ in their last bits.
    analyses : Dataset
        The history, in memory.
    init_time : datetime64
    frames : int
    members : int
    seed : int
    sampling : Sampling
        With a precision that is not left to the machine.
    writer : UnitWriter
    observations : DataFrame, optional
    """

    model: Path
    identity: str
    threads: int
    analyses: xr.Dataset
    init_time: np.datetime64
    frames: int
    members: int
    seed: int
    sampling: Sampling
    writer: UnitWriter
    observations: ObservationTable | None = None

    def rollout(self, numbers: range) -> Rollout:
        """Give the members with these numbers, at their beginning."""
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        return _loaded(self.model, self.identity).rollout(
            self.analyses,
            init_time=self.init_time,
            frames=self.frames,
            members=numbers,
            seed=self.seed,
            sampling=self.sampling,
            observations=self.observations,
        )

    def unit(self, unit: int) -> Drawn:
        """Draw a unit of members, all frames."""
        return self.writer.draw(unit, self.rollout(self.writer.units[unit]))

    def group(
        self, group: int, block: int, past: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Draw a block of frames of one group of members; see :meth:`Rollout.draw`."""
        return self.rollout(range(self.members)).draw(group, block, past)


def identity(model: Path) -> str:
    """Tell one model from another: the hash of its description, which has that of its weights."""
    return entry_of(model / "model.json").sha256


def draw_units(
    crew: Crew,
    drawing: Drawing,
    units: Iterable[int],
    *,
    failed: Failed = lambda *_: None,
) -> Iterator[Drawn]:
    """Have units of members drawn by a cluster.

    Parameters
    ----------
    crew : Crew
    drawing : Drawing
    units : iterable of int
    failed : callable, optional

    Yields
    ------
    Drawn
        Each unit, as it is drawn.

    Raises
    ------
    WeatherdiffError
        A unit has failed three times; it is named, with what happened the last time. The kind is
        that of the last error, if that was one of ours.
    StorageError
        The cluster has had no workers for too long, or is gone; the members that are not drawn are
        named.
    """
    numbers = drawing.writer.units
    arguments: dict[int, tuple[()]] = dict.fromkeys(units, ())
    for _, drawn in _tried(crew, drawing, "unit", arguments, numbers, failed):
        yield drawn


def draw_groups(
    crew: Crew,
    drawing: Drawing,
    groups: list[range],
    *,
    failed: Failed = lambda *_: None,
) -> Drawer:
    """Give what draws the groups of a rollout by a cluster; see :attr:`Rollout.drawer`.

    What the workers draw comes back by the network. Parameters and errors are those of
    :func:`draw_units`.
    """
    numbers = [range(g.start, min(g.stop, drawing.members)) for g in groups]

    def draw(block: int, behind: dict[int, Any]) -> Iterator[tuple[int, Any]]:
        arguments = {group: (block, past) for group, past in behind.items()}
        return _tried(crew, drawing, "group", arguments, numbers, failed)

    return draw


def _tried(
    crew: Crew,
    drawing: Drawing,
    task: str,
    arguments: Mapping[int, tuple[Any, ...]],
    numbers: list[range],
    failed: Failed,
) -> Iterator[tuple[int, Any]]:
    """Have tasks done by a cluster, and named by the members that they draw."""

    def name(indices: list[int]) -> str:
        members = ", ".join(f"{numbers[i].start} to {numbers[i].stop - 1}" for i in indices)
        return f"members {members} of the forecast from {drawing.writer.path.stem}"

    return run_tried(
        crew,
        drawing,
        task,
        arguments,
        notes=drawing.writer.hidden / "begun",
        name=name,
        failed=lambda index, times, cause: failed(numbers[index], times, cause),
    )


_lock = threading.Lock()
_kept: dict[tuple[Path, str], Forecaster] = {}


def _loaded(model: Path, expected: str) -> Forecaster:
    """Load a model, once a worker; the former goes when another is asked for."""
    with _lock:
        if (model, expected) not in _kept:
            found = identity(model)
            if found != expected:
                raise StorageError(
                    f"A worker finds another model in {model} than the one asked for; let it see "
                    "the same file system, and leave the model alone while forecasts are made."
                )
            _kept.clear()
            _kept[model, expected] = Forecaster.load(model)
        return _kept[model, expected]
