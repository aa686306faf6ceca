"""Members drawn by the workers of a cluster: the same units, and the same bytes, as by ourselves.

Workers need the package, and must see the same file system. A worker loads the model once. It draws
a unit into a folder of its own, see :mod:`weatherdiff.forecasting.drawing`; only the process that
asked for it gives the forecast its parts, and its name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from weatherdiff.errors import StorageError, WeatherdiffError
from weatherdiff.forecasting.drawing import Drawn, UnitWriter
from weatherdiff.forecasting.forecaster import Forecaster
from weatherdiff.forecasting.manifest import entry_of
from weatherdiff.forecasting.observations import ObservationTable
from weatherdiff.forecasting.rollout import Drawer, Rollout
from weatherdiff.forecasting.sampling import Sampling
from weatherdiff.tasks.attempts import AbandonedTasksError, FailedTaskError, run_tried
from weatherdiff.tasks.crew import PATIENCE

if TYPE_CHECKING:
    from dask.distributed import Client

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
    client: Client,
    drawing: Drawing,
    units: Iterable[int],
    *,
    take: Callable[[Drawn], None],
    failed: Failed = lambda *_: None,
    patience: float = PATIENCE,
) -> None:
    """Have units of members drawn by a cluster.

    Parameters
    ----------
    client : dask.distributed.Client
    drawing : Drawing
    units : iterable of int
    take : callable
        Given each unit that is drawn, in this process, one after the other.
    failed : callable, optional
    patience : float
        Seconds that the cluster may be without workers.

    Raises
    ------
    WeatherdiffError
        A unit has failed three times; it is named, with what happened the last time. The kind is
        that of the last error, if that was one of ours.
    StorageError
        The cluster has had no workers for too long; the members that are not drawn are named.
    MissingInputError
        The cluster is gone.
    """
    numbers = drawing.writer.units
    try:
        run_tried(
            client,
            drawing,
            "unit",
            units,
            notes=drawing.writer.hidden / "begun",
            done=lambda _, drawn: take(drawn),
            failed=lambda unit, times, cause: failed(numbers[unit], times, cause),
            patience=patience,
        )
    except FailedTaskError as error:
        raise _named(error, drawing, numbers[error.index]) from error
    except AbandonedTasksError as error:
        raise _abandoned(error, drawing, [numbers[unit] for unit in error.indices]) from error


def draw_groups(
    client: Client,
    drawing: Drawing,
    groups: list[range],
    *,
    failed: Failed = lambda *_: None,
    patience: float = PATIENCE,
) -> Drawer:
    """Give what draws the groups of a rollout by a cluster; see :attr:`Rollout.drawer`.

    What the workers draw comes back by the network, and is held until all of a block is there: the
    memory of this process has one more block of frames of all members.

    Parameters and errors are those of :func:`draw_units`.
    """
    numbers = [range(g.start, min(g.stop, drawing.members)) for g in groups]

    def draw(block: int, behind: dict[int, Any]) -> Iterable[tuple[int, Any]]:
        drawn: dict[int, Any] = {}
        try:
            run_tried(
                client,
                drawing,
                "group",
                behind,
                notes=drawing.writer.hidden / "begun",
                arguments=lambda group: (block, behind[group]),
                done=drawn.__setitem__,
                failed=lambda group, times, cause: failed(numbers[group], times, cause),
                patience=patience,
            )
        except FailedTaskError as error:
            raise _named(error, drawing, numbers[error.index]) from error
        except AbandonedTasksError as error:
            left = [numbers[group] for group in error.indices]
            raise _abandoned(error, drawing, left) from error
        return drawn.items()

    return draw


def _named(error: FailedTaskError, drawing: Drawing, numbers: range) -> WeatherdiffError:
    """Say in words which unit it was that failed."""
    kind = type(error.error) if isinstance(error.error, WeatherdiffError) else WeatherdiffError
    return kind(
        f"Members {numbers.start} to {numbers.stop - 1} of the forecast from "
        f"{drawing.writer.path.stem} could not be drawn: tried {error.times} times on the cluster; "
        f"the last time, {error.cause.rstrip('.')}."
    )


def _abandoned(error: AbandonedTasksError, drawing: Drawing, numbers: list[range]) -> StorageError:
    """Say in words which units are not done."""
    left = ", ".join(f"{part.start} to {part.stop - 1}" for part in numbers)
    return StorageError(
        f"{error.cause}; of the forecast from {drawing.writer.path.stem} the members {left} are "
        "not drawn. What is done is kept: start workers, and run again."
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
