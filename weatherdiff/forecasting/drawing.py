"""The members of a unit, drawn into a folder of their own: by this process, or by a worker.

Nobody else writes there, so that a worker that was believed dead, and was not, can spoil nothing.
Whoever publishes the forecast takes the objects over from there, by renaming them.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from weatherdiff.errors import InputError
from weatherdiff.forecasting.arrays import objects_of, put_block
from weatherdiff.forecasting.manifest import Entry, entry_of
from weatherdiff.staging import disk_errors

__all__ = ["Drawn", "UnitWriter", "require_finite"]


@dataclass(frozen=True)
class Drawn:
    """What was drawn of a unit.

    Attributes
    ----------
    unit : int
        Which.
    folder : path
        Where the objects are.
    files : mapping
        Their names relative to the folder, and to the forecast's; sizes and hashes.
    seconds : float
        What it took.
    """

    unit: int
    folder: Path
    files: Mapping[str, Entry]
    seconds: float


@dataclass(frozen=True)
class UnitWriter:
    """Write the blocks of units of members.

    Parameters
    ----------
    path : path
        Of the forecast to come, for messages.
    hidden : path
        Folder of the work.
    units : list of range
        Numbers of the members of each unit.
    lead_times : (lead_time,)
        timedelta64, of all frames.
    valid : mapping
        Variable -> cells (..., latitude, longitude) that must have values; all unless given.
    """

    path: Path
    hidden: Path
    units: list[range]
    lead_times: npt.NDArray[np.timedelta64]
    valid: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    def draw(self, unit: int, blocks: Iterable[xr.Dataset]) -> Drawn:
        """Store the members of a unit in a new folder.

        Parameters
        ----------
        unit : int
            Position in ``units``.
        blocks : iterable of Dataset
            As :meth:`Forecaster.rollout` yields them for the numbers of the unit.

        Raises
        ------
        InputError
            The blocks are not those of the unit, or a value is not finite.
        StorageError
            The disk is full, or not writable.
        """
        start = time.monotonic()
        folder = self.hidden / "drawn" / f"{unit:04d}.{uuid.uuid4().hex[:8]}"
        for left in folder.parent.glob(f"{unit:04d}.*"):  # by one that died, or will never be taken
            shutil.rmtree(left, ignore_errors=True)
        try:
            with disk_errors(self.path):
                folder.mkdir(parents=True)
                # It describes all arrays; their own descriptions are not needed to write chunks.
                shutil.copyfile(self.hidden / "forecast" / "zarr.json", folder / "zarr.json")
                group = zarr.open_group(folder, mode="r+", use_consolidated=True)
                numbers, done = self.units[unit], 0
                members = slice(numbers.start, numbers.stop)
                for block in blocks:
                    frames = slice(done, done + block.sizes["lead_time"])
                    self._require_sound(block, frames, numbers)
                    put_block(group, block, frames=frames, members=members)
                    done = frames.stop
                if done != len(self.lead_times):
                    raise InputError(
                        f"A unit has {done} frames, {len(self.lead_times)} were expected."
                    )
                files = {name: entry_of(folder / name) for name in objects_of(group, unit)}
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Drawn(unit, folder, files, round(time.monotonic() - start, 3))

    def _require_sound(self, block: xr.Dataset, frames: slice, numbers: range) -> None:
        if block["number"].values.tolist() != list(numbers):
            raise InputError(f"A unit has the numbers {block['number'].values.tolist()}.")
        if not np.array_equal(block["lead_time"].values, self.lead_times[frames]):
            raise InputError(f"Lead times are {block['lead_time'].values}, not those expected.")
        require_finite(block, self.valid, self.path.stem)


def require_finite(
    block: xr.Dataset, valid: Mapping[str, npt.NDArray[np.bool_]], name: str
) -> None:
    """Refuse a block of a forecast with a value that is not finite.

    Parameters
    ----------
    block : Dataset
        As :meth:`Forecaster.rollout` yields it.
    valid : mapping
        Variable -> cells (..., latitude, longitude) that must have values; all unless given.
    name : str
        Of the forecast.

    Raises
    ------
    InputError
        There is one; the variable, the share and the members are named.
    """
    numbers = block["number"].values
    for variable, values in block.data_vars.items():
        bad = ~np.isfinite(values.to_numpy()) & valid.get(str(variable), np.True_)
        if bad.any():
            raise InputError(
                f"The forecast from {name} is not finite: {variable} in {bad.mean():.2%} of the "
                f"values of members {numbers[0]} to {numbers[-1]}. Look at the input and the "
                "model; nothing is published."
            )
