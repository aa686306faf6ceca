"""FieldStore: prepared fields on disk, and all that training needs to know about them."""

from __future__ import annotations

import dataclasses
import logging
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from weatherdiff.data.calendars import Calendar
from weatherdiff.data.channels import Channels
from weatherdiff.data.fields import Fields
from weatherdiff.data.loading.reader import BlockReader, FunctionReader, Reader
from weatherdiff.data.normalization import Normalizer
from weatherdiff.data.storing.inventory import FILES, Inventory
from weatherdiff.data.storing.manifest import FILE as MANIFEST
from weatherdiff.data.storing.manifest import Manifest
from weatherdiff.data.storing.profiles import Profile
from weatherdiff.data.storing.stored_array import UnknownLayoutError
from weatherdiff.data.windows import Int
from weatherdiff.errors import InputError, MissingInputError, StorageError
from weatherdiff.grid import Grid

__all__ = ["FORMAT_VERSION", "FieldStore"]

logger = logging.getLogger(__name__)

FORMAT = "weatherdiff field store"
FORMAT_VERSION = 3  # 2 knows no checksums of what is not sealed by its codec; 1 has no manifest
ADVICE = "The store is damaged; prepare it again."

# The checksum finds flipped bits. A chunk that is lost reads as the fill value without an error, so
# that is one which fields never have (prepare refuses it).
LOST = np.float32(np.inf)


@dataclass(frozen=True, kw_only=True)
class FieldStore(Fields):
    """Prepared fields: one array (time, channel, latitude, longitude) and its statistics.

    On disk it is a Zarr v3 group that xarray opens: ``fields`` (float32, physical units, one time
    a chunk, many times a shard, kept as its
    :class:`~weatherdiff.data.storing.profiles.Profile` says, LZ4 with a CRC by default),
    ``valid`` (time,), ``mask`` (channel, latitude,
    longitude), ``static``, and groups ``statistics`` and ``moments``. It is written by
    :func:`weatherdiff.prepare`, and grows only by :func:`weatherdiff.data.append.append`. An open
    store is the state its manifest had then, also while it grows: frames that are there never
    change.

    Attributes
    ----------
    path : Path
    channels, grid, times, valid, mask, static, normalizer, metadata
        As of :class:`~weatherdiff.data.fields.Fields`; the metadata hold the manifest, too.

    Examples
    --------
    >>> store = FieldStore.open("runs/demo/fields.zarr")             # doctest: +SKIP
    >>> store.read(np.array([0, 24])).shape                          # doctest: +SKIP
    (2, 4, 22, 28)
    """

    path: Path

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> FieldStore:
        """Open a prepared store; only its small arrays are read.

        Raises
        ------
        MissingInputError
            There is nothing at ``path``.
        InputError
            It is not a field store, is damaged, or was written by a newer version.
        """
        path = Path(path)
        if not path.exists():
            raise MissingInputError(f"There is no field store at {path}; run prepare first.")
        try:
            group = zarr.open_group(path, mode="r", use_consolidated=False)
            attributes: dict[str, Any] = group.attrs.asdict()
            metadata = dict(attributes["weatherdiff"])
        except (KeyError, OSError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} is not a field store (or its zarr.json is damaged): "
                f"{type(error).__name__} {error}. "
                "Run prepare on the source data."
            ) from error
        if metadata.get("format") != FORMAT:
            raise InputError(
                f"{path / 'zarr.json'} is of {metadata.get('format')!r}, not a {FORMAT}."
            )
        if metadata.get("version", 0) > FORMAT_VERSION:
            raise InputError(
                f"{path / 'zarr.json'} says format version {metadata['version']}; this weatherdiff "
                f"reads up to {FORMAT_VERSION}. Upgrade weatherdiff, or prepare the store again."
            )
        try:
            if metadata["version"] > 1 or (path / MANIFEST).is_file():
                # before the arrays: these may have grown since, and are cut to what it says
                metadata |= _manifest(path)
                metadata["plan"] = _plan(metadata)
            arrays = {
                name: _small(group, name, path)
                for name in ("time", "latitude", "longitude", "valid", "mask", "static")
            }
            statistics = {
                name: _small(group, f"statistics/{name}", path)
                for name in ("climatology", "std", "tendency_std")
            }
            frames = metadata.setdefault("frames", len(arrays["time"]))
            for name in ("time", "valid"):
                arrays[name] = arrays[name][:frames]
            store = cls(
                path=path,
                channels=Channels.from_dict(metadata["channels"]),
                grid=Grid(arrays["latitude"], arrays["longitude"]),
                times=arrays["time"].astype(np.int64),
                valid=arrays["valid"].astype(bool),
                mask=arrays["mask"].astype(bool),
                static=arrays["static"].astype(np.float32),
                normalizer=Normalizer.from_dict(metadata["normalizer"], statistics),
                metadata=metadata,
            )
            shape = _array(group, "fields").shape
            if shape[1:] != store.shape[1:]:
                raise ValueError("fields do not have the shape of their coordinates")
            if min(shape[0], len(store.times), len(store.valid)) < frames:
                raise ValueError(f"there are fewer times than the {frames} of the manifest")
        except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            reason = "; ".join([f"{type(error).__name__} {error}", *_damage(path, metadata)])
            raise InputError(f"{path} is damaged: {reason}.") from error
        damage = _damage(path, metadata)
        if damage:
            raise InputError(f"{path} is damaged: {'; '.join(damage)}.")
        return store

    @property
    def profile(self) -> Profile:
        """How the fields are kept."""
        stored = self.metadata.get("profile", {})
        sources = (None if one is None else tuple(one) for one in stored.get("sources", ()))
        return Profile(stored.get("name", "lz4"), tuple(sources))

    def read(self, indices: Int) -> npt.NDArray[np.float32]:
        """Read frames.

        Parameters
        ----------
        indices : (n,)
            Positions on the time axis, in any order.

        Returns
        -------
        (n, channel, latitude, longitude)
            Physical units.

        Raises
        ------
        StorageError
            A frame is lost or cannot be decoded: the store is damaged.
        """
        return self._reader.read(indices)

    @cached_property
    def _reader(self) -> Reader:
        return self.reader()

    def reader(self, *, threads: int = 1) -> Reader:
        """Give what reads frames into the caller's memory, for as many threads as like to.

        Parameters
        ----------
        threads : int
            That decode the frames of one call.
        """
        try:
            return BlockReader(self.path / "fields", threads=threads, advice=ADVICE)
        except UnknownLayoutError as reason:
            logger.warning("Reading through zarr-python, which is slower: %s.", reason)
        array = _array(zarr.open_group(self.path, mode="r", use_consolidated=False), "fields")
        return FunctionReader(lambda indices: read_frames(array, indices, self.path))

    def to_dataset(self) -> xr.Dataset:
        """Give the fields as a canonical, lazy Dataset in physical units."""
        # not the coordinates of a store that grows at this moment
        opened = xr.open_zarr(self.path, consolidated=False, drop_variables=["time", "valid"])
        array = (
            opened["fields"]
            .isel(time=slice(len(self.times)))
            .assign_coords(
                time=Calendar(self.calendar).dates(self.times),
                latitude=self.grid.latitude,
                longitude=self.grid.longitude,
            )
        )
        return self.channels.unstack(array)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        return dataclasses.asdict(Manifest.read(path))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{MANIFEST}: {error}") from error


def _plan(metadata: dict[str, Any]) -> dict[str, Any]:
    """Give the plan with the gaps before and between the frames that were added since."""
    plan = dict(metadata["plan"])
    for addition in metadata["additions"]:
        plan["absent"] = plan.get("absent", 0) + addition.get("absent", 0)
        plan["gaps"] = [*plan.get("gaps", []), *addition.get("gaps", [])]
    return plan


def _damage(path: Path, metadata: dict[str, Any]) -> list[str]:
    """Compare with the inventory, which stores before the third version have not."""
    older = not (path / MANIFEST).is_file()
    older |= metadata["version"] < 3 and not (path / FILES).is_file()
    if older or "frames" not in metadata:
        return []
    return Inventory.read(path).damage(path, metadata["frames"])


def read_frames(array: zarr.Array, indices: Int, path: Path) -> npt.NDArray[np.float32]:
    """Read frames in ascending order, contiguous ones as slices, and put them in order.

    Raises
    ------
    StorageError
        A frame is lost or cannot be decoded; the first one is named.
    """
    order = np.unique(np.asarray(indices))
    out = np.empty((len(order), *array.shape[1:]), np.float32)
    breaks = np.flatnonzero(np.diff(order) != 1) + 1
    done = 0
    for run in np.split(order, breaks):
        if len(run):
            out[done : done + len(run)] = _read_run(array, int(run[0]), int(run[-1]) + 1, path)
            done += len(run)
    return out[np.searchsorted(order, indices)]


def _read_run(array: zarr.Array, start: int, stop: int, path: Path) -> npt.NDArray[np.float32]:
    try:
        frames = np.asarray(array[start:stop])
        lost = np.flatnonzero(frames[:, 0, 0, 0] == LOST)
        reason, bad = "it is lost", start + int(lost[0]) if len(lost) else None
    except (RuntimeError, ValueError, OSError) as error:
        if stop - start > 1:  # which one is it?
            for index in range(start, stop):
                _read_run(array, index, index + 1, path)
        reason, bad = str(error), start
    if bad is None:
        return frames
    shards = array.shards or array.chunks
    file = path / "fields" / array.metadata.encode_chunk_key((bad // shards[0], 0, 0, 0))
    raise StorageError(f"Frame {bad} cannot be read from {file}: {reason}. {ADVICE}")


def _small(group: zarr.Group, name: str, path: Path) -> npt.NDArray[Any]:
    array = _array(group, name)
    files = [f"{name}/{array.metadata.encode_chunk_key(i)}" for i in np.ndindex(array.cdata_shape)]
    lost = [file for file in files if not (path / file).is_file()]
    if lost:
        raise ValueError(f"the values of {name} are lost ({lost[0]} is absent)")
    try:
        return np.asarray(array[...])
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{', '.join(files)}: {error}") from error


def _array(group: zarr.Group, name: str) -> zarr.Array:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise KeyError(f"{name} is a group")
    return array
