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
        drawn/              objects of units that are being made
        units/0000.json     the members of block 0 are done

Where members are not kept, a unit is a block of frames of all members, and what it leaves are the
products of these; see :mod:`weatherdiff.forecasting.lockstep`.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.storing.shards import put_file
from weatherdiff.errors import StorageError
from weatherdiff.forecasting.arrays import PRODUCTS, create_fields, finish
from weatherdiff.forecasting.drawing import Drawn, UnitWriter
from weatherdiff.forecasting.lockstep import make_products
from weatherdiff.forecasting.manifest import (
    MANIFEST,
    Entry,
    entry_of,
    find_damage,
    find_extra,
    write_manifest,
)
from weatherdiff.forecasting.products import Products
from weatherdiff.forecasting.writer import forecast_name
from weatherdiff.sealed import seal, unseal
from weatherdiff.staging import disk_errors, locked, publish, remove_leftovers

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
    products : Products, optional
        To be made of the members.
    keep_members : bool
        Whether the members are published.
    """

    folder: Path
    example: xr.Dataset
    lead_times: npt.NDArray[np.timedelta64]
    block: tuple[int, int]
    attributes: Mapping[str, Any]
    valid: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    products: Products = field(default_factory=Products)
    keep_members: bool = True

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
        if self.products.any:
            made |= {"products": asdict(self.products), "keep_members": self.keep_members}
        return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()

    @property
    def hidden(self) -> Path:
        """Folder of the work."""
        return self.path.with_name(f".{self.path.name}.{self.key[:8]}{SUFFIX}")

    @property
    def units(self) -> list[range]:
        """Numbers of the members of each unit; places of its frames, if members are not kept."""
        if self.keep_members:
            return _parts(self.example.sizes["number"], self.block[1])
        return self.steps

    @property
    def steps(self) -> list[range]:
        """Places of the frames of each block."""
        return _parts(len(self.lead_times), self.block[0])

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
                damage = find_damage(self.unfinished, _read_record(record))
            except ValueError as error:
                damage = [str(error)]
            if damage:
                record.unlink(missing_ok=True)

    def due(self) -> list[int]:
        """Tell which units are not done."""
        return [unit for unit in range(len(self.units)) if not self.record_of(unit).is_file()]

    @cached_property
    def writer(self) -> UnitWriter:
        """What draws a unit, in this process or in another one that sees the folder."""
        hidden = self.hidden.absolute()  # a worker may have another working folder
        return UnitWriter(self.path, hidden, self.units, self.lead_times, self.valid)

    def put(self, unit: int, blocks: Iterable[xr.Dataset]) -> None:
        """Store the members of a unit, and then the record of it.

        Parameters and errors are those of :meth:`UnitWriter.draw`.
        """
        self.take(self.writer.draw(unit, blocks))

    def take(self, drawn: Drawn) -> None:
        """Give the objects of a unit their places, and write the record of it.

        Raises
        ------
        StorageError
            The disk is full, or not writable.
        """
        with disk_errors(self.path):
            for name in drawn.files:
                (self.unfinished / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(drawn.folder / name, self.unfinished / name)
            shutil.rmtree(drawn.folder, ignore_errors=True)
        self.record(drawn.unit, drawn.files, seconds=drawn.seconds)

    def record(self, unit: int, files: Mapping[str, Entry], **facts: Any) -> None:
        """Write that a unit is done.

        Parameters
        ----------
        unit : int
            Position in :attr:`units`.
        files : mapping
            Its objects, in their places.
        **facts
            Plain types.
        """
        content = {
            "unit": unit,
            "numbers" if self.keep_members else "frames": list(self.units[unit]),
            **facts,
            "files": {name: list(entry) for name, entry in files.items()},
        }
        with disk_errors(self.path):  # not flushed: begin() looks whether it and they are whole
            put_file(self.record_of(unit), seal(content))

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
                    known |= _read_record(self.record_of(unit))
                (self.unfinished / MANIFEST).unlink(missing_ok=True)  # of a run that died here
                for name in find_extra(self.unfinished, known):
                    (self.unfinished / name).unlink()
                damage = find_damage(self.unfinished, known)
                if damage:
                    raise StorageError(f"{self.unfinished} has been damaged: {'; '.join(damage)}.")
                if self.products.any and self.keep_members:
                    known |= make_products(self.unfinished, self.example, self.products, self.steps)
                write_manifest(self.unfinished, record, known)
                publish(self.unfinished, self.path, replace=overwrite)
            except ValueError as error:
                raise StorageError(
                    f"{self.hidden} has been damaged: {error}; run again."
                ) from error
        discard_work(self.path)
        return self.path

    @property
    def unfinished(self) -> Path:
        """What will be the forecast."""
        return self.hidden / "forecast"

    def record_of(self, unit: int) -> Path:
        """Where it is written that a unit is done."""
        return self.hidden / "units" / f"{unit:04d}.json"

    def _is_begun(self) -> bool:
        """Whether what is there is the same work, and its skeleton is sound."""
        try:
            run = unseal((self.hidden / "run.json").read_text())
            return run["key"] == self.key and not find_damage(
                self.unfinished, _entries(run["files"])
            )
        except (OSError, KeyError, TypeError, ValueError):
            return False

    def _create(self) -> None:
        temporary = self.hidden.with_name(f"{self.hidden.name}.{uuid.uuid4().hex[:8]}.partial")
        with disk_errors(self.path):
            try:
                (temporary / "units").mkdir(parents=True)
                forecast = temporary / "forecast"
                self._lay_out(forecast)
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

    def _lay_out(self, path: Path) -> None:
        """Create all that is in the forecast beside values."""
        example, frames = self.example, len(self.lead_times)
        layouts = {path: example}
        if not self.keep_members:
            layouts[path] = example.drop_vars(list(example.data_vars))
        if self.products.any:
            layouts[path / PRODUCTS] = self.products.of(example.isel(number=slice(2)))
        for place, layout in layouts.items():
            group = create_fields(place, layout, frames=frames, block=self.block)
            # Without a field, there is none to say that the valid time is a coordinate.
            attributes = {} if layout.data_vars else {"coordinates": "valid_time"}
            attributes |= self.attributes
            finish(group, layout, lead_times=self.lead_times, attributes=attributes)


def _parts(count: int, size: int) -> list[range]:
    return [range(a, min(a + size, count)) for a in range(0, count, size)]


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
