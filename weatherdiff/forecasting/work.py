"""A forecast in the making: units of members, each done once, however often the run is killed.

The folder of the work is a hidden sibling of the forecast to come. It holds the forecast itself,
still without most of its values, and a record of each unit that is done, with the hash of every
object the unit stored. A record is written, by one rename, after its objects; a unit that has none,
or whose objects are not as it says, is made again. When all have one, the manifest is written, all
is forced to the disk, and the folder is renamed.

::

    .2018-07-20T06.zarr.4f1e9a02.work/
        run.json            what is being made: skeleton and settings; its hash is in the name
        forecast/           becomes 2018-07-20T06.zarr
        units/0000.json     the members of block 0 are done
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from weatherdiff.errors import InputError, StorageError
from weatherdiff.forecasting.arrays import create_fields, finish, objects_of, put_block
from weatherdiff.forecasting.manifest import (
    MANIFEST,
    Entry,
    entry_of,
    find_damage,
    find_extra,
    write_manifest,
)
from weatherdiff.forecasting.writer import forecast_name
from weatherdiff.sealed import seal, unseal
from weatherdiff.staging import disk_errors, locked, publish, remove_leftovers, staged

__all__ = ["Work", "discard_work"]

SUFFIX = ".work"


@dataclass(frozen=True)
class Work:
    """One forecast that is being made.

    Parameters
    ----------
    folder : path
        Of all forecasts; this one becomes ``folder/<init time>.zarr``.
    example : Dataset
        A frame of all members as :meth:`Forecaster.layout` gives it.
    lead_times : (lead_time,)
        timedelta64, of all frames.
    block : (int, int)
        Frames and members drawn together. A unit is a block of members, of all frames.
    attributes : mapping
        Of the forecast: settings and provenance, plain types. Work that was begun with others is
        not gone on with.
    valid : mapping, optional
        Variable -> cells (..., latitude, longitude) that must have values; all unless given.
    """

    folder: Path
    example: xr.Dataset
    lead_times: npt.NDArray[np.timedelta64]
    block: tuple[int, int]
    attributes: Mapping[str, Any]
    valid: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    @cached_property
    def path(self) -> Path:
        """Of the forecast, once it is published."""
        return self.folder / forecast_name(self.example["init_time"].values[0])

    @cached_property
    def key(self) -> str:
        """Hash of what is being made."""
        coordinates = {
            str(name): hashlib.sha256(_bytes(values.to_numpy())).hexdigest()
            for name, values in self.example.coords.items()
        }
        made = {
            "attributes": dict(self.attributes),
            "block": self.block,
            "coordinates": coordinates,
            "lead_times": self.lead_times.astype("timedelta64[s]").astype(int).tolist(),
            "variables": [str(name) for name in self.example.data_vars],
        }
        return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()

    @property
    def hidden(self) -> Path:
        """Folder of the work."""
        return self.path.with_name(f".{self.path.name}.{self.key[:8]}{SUFFIX}")

    @property
    def units(self) -> list[range]:
        """Numbers of the members of each unit."""
        members, size = self.example.sizes["number"], self.block[1]
        return [range(a, min(a + size, members)) for a in range(0, members, size)]

    def locked(self, *, shared: bool = False) -> AbstractContextManager[Path]:
        """Keep others from making the same forecast.

        Parameters
        ----------
        shared : bool
            Keep out only those that do not share the units.

        Raises
        ------
        LockedError
            Another process is at it.
        """
        return locked(self.path, shared=shared)

    def begin(self) -> None:
        """Create the folder of the work, or take up what is there.

        Units whose objects are not as their record says are made again.

        Raises
        ------
        StorageError
            The disk is full, or not writable.
        """
        if not self._is_begun():
            # It appears whole, by one rename: look again, another that shares may just have begun.
            if self.hidden.exists() and not self._is_begun():
                shutil.rmtree(self.hidden, ignore_errors=True)
            if not self.hidden.exists():
                self._create()
        for record in sorted((self.hidden / "units").glob("*.json")):
            try:
                damage = find_damage(self._forecast, _read_record(record))
            except ValueError as error:
                damage = [str(error)]
            if damage:
                record.unlink(missing_ok=True)

    def due(self) -> list[int]:
        """Tell which units are not done."""
        return [unit for unit in range(len(self.units)) if not self._record(unit).is_file()]

    def put(self, unit: int, blocks: Iterable[xr.Dataset]) -> None:
        """Store the members of a unit, and then the record of it.

        Parameters
        ----------
        unit : int
            Position in :attr:`units`.
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
        with disk_errors(self.path):
            group = zarr.open_group(self._forecast, mode="r+", use_consolidated=False)
            objects = [self._forecast / name for name in objects_of(group, unit)]
            for file in objects:  # a damaged one would be read before it is written
                file.unlink(missing_ok=True)
            numbers, done = self.units[unit], 0
            for block in blocks:
                frames = slice(done, done + block.sizes["lead_time"])
                self._require_sound(block, frames, numbers)
                put_block(group, block, frames=frames, members=slice(numbers.start, numbers.stop))
                done = frames.stop
            if done != len(self.lead_times):
                raise InputError(f"A unit has {done} frames, {len(self.lead_times)} were expected.")
            files = {}
            for file in objects:
                size, sha256 = entry_of(file)
                files[file.relative_to(self._forecast).as_posix()] = [size, sha256]
        record = {
            "unit": unit,
            "numbers": list(numbers),
            "seconds": round(time.monotonic() - start, 3),
            "files": files,
        }
        with staged(self._record(unit), overwrite=True) as temporary:
            temporary.write_text(seal(record))

    def publish(self, record: Mapping[str, Any], *, overwrite: bool = False) -> Path:
        """Verify every object, write the manifest, and give the forecast its name.

        Parameters
        ----------
        record : mapping
            How it was made, for the manifest; plain types.
        overwrite : bool
            Replace a forecast that is there.

        Raises
        ------
        StorageError
            The forecast exists, an object has been damaged since it was written (run again: its
            unit is made anew), or the disk is full.
        """
        if self.path.exists() and not overwrite:
            raise StorageError(f"{self.path} exists already; remove it, or overwrite it.")
        remove_leftovers(self.folder, of=self.path.name)
        with disk_errors(self.path):
            try:
                known = _entries(unseal((self.hidden / "run.json").read_text())["files"])
                for unit in range(len(self.units)):
                    known |= _read_record(self._record(unit))
                (self._forecast / MANIFEST).unlink(missing_ok=True)  # of a run that died here
                for name in find_extra(self._forecast, known):
                    (self._forecast / name).unlink()
                damage = find_damage(self._forecast, known)
                if damage:
                    raise StorageError(f"{self._forecast} has been damaged: {'; '.join(damage)}.")
                write_manifest(self._forecast, record, known)
                publish(self._forecast, self.path, replace=overwrite)
            except ValueError as error:
                raise StorageError(
                    f"{self.hidden} has been damaged: {error}; run again."
                ) from error
        discard_work(self.path)
        return self.path

    @property
    def _forecast(self) -> Path:
        return self.hidden / "forecast"

    def _record(self, unit: int) -> Path:
        return self.hidden / "units" / f"{unit:04d}.json"

    def _is_begun(self) -> bool:
        """Whether what is there is the same work, and its skeleton is sound."""
        try:
            run = unseal((self.hidden / "run.json").read_text())
            return run["key"] == self.key and not find_damage(
                self._forecast, _entries(run["files"])
            )
        except (OSError, KeyError, TypeError, ValueError):
            return False

    def _create(self) -> None:
        temporary = self.hidden.with_name(f"{self.hidden.name}.{uuid.uuid4().hex[:8]}.partial")
        with disk_errors(self.path):
            try:
                (temporary / "units").mkdir(parents=True)
                forecast = temporary / "forecast"
                frames = len(self.lead_times)
                group = create_fields(forecast, self.example, frames=frames, block=self.block)
                finish(group, self.example, lead_times=self.lead_times, attributes=self.attributes)
                files = {
                    file.relative_to(forecast).as_posix(): list(entry_of(file))
                    for file in sorted(forecast.rglob("*"))
                    if file.is_file()
                }
                run = {"key": self.key, "units": len(self.units), "files": files}
                (temporary / "run.json").write_text(seal(run))
                os.rename(temporary, self.hidden)  # not flushed: begin() hashes what it takes up
            except OSError:
                shutil.rmtree(temporary, ignore_errors=True)
                if self._is_begun():  # by another run, which shares the units
                    return
                raise
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise

    def _require_sound(self, block: xr.Dataset, frames: slice, numbers: range) -> None:
        if block["number"].values.tolist() != list(numbers):
            raise InputError(f"A unit has the numbers {block['number'].values.tolist()}.")
        if not np.array_equal(block["lead_time"].values, self.lead_times[frames]):
            raise InputError(f"Lead times are {block['lead_time'].values}, not those expected.")
        for name, values in block.data_vars.items():
            valid = self.valid.get(str(name), np.True_)
            bad = ~np.isfinite(values.to_numpy()) & valid
            if bad.any():
                raise InputError(
                    f"The forecast from {self.path.stem} is not finite: {name} in "
                    f"{bad.mean():.2%} of the values of members {numbers.start} to "
                    f"{numbers.stop - 1}. Look at the input and the model; nothing is published."
                )


def discard_work(path: Path) -> None:
    """Remove what was begun of a forecast; call this only while it is locked.

    Parameters
    ----------
    path : path
        Of the forecast.
    """
    name = glob.escape(f".{path.name}.")
    for left in path.parent.glob(f"{name}????????{SUFFIX}*"):
        shutil.rmtree(left, ignore_errors=True)


def _entries(files: Mapping[str, Any]) -> dict[str, Entry]:
    return {name: Entry(size, sha256) for name, (size, sha256) in files.items()}


def _read_record(path: Path) -> dict[str, Entry]:
    try:
        return _entries(unseal(path.read_text())["files"])
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a record of a unit: {error}") from error


def _bytes(values: npt.NDArray[Any]) -> bytes:
    """Bytes of values; dates of cftime are objects, whose bytes are addresses."""
    plain = values.astype(str) if values.dtype == object else values
    return np.ascontiguousarray(plain).tobytes()
