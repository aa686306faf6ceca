"""The user's own Zarr at the speed of its codec, where it is stored one time a chunk.

What :func:`~weatherdiff.open_fields` gives is lazy through xarray, dask and zarr-python, which
spend most of their time on other things than decoding. A local Zarr v3 store of float32, as it is
written by many, with all levels and the whole grid of a time in one chunk, is read here by
:class:`~weatherdiff.data.loading.reader.BlockReader`; only the order of the latitudes and
longitudes may differ. Nothing is taken on trust: the first, middle and last frame must be the same,
bit by bit, read both ways, or this reader is not used.
"""

from __future__ import annotations

import json
import logging
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from weatherdiff.containment import opened_in
from weatherdiff.data.loading.reader import BlockReader, Reader
from weatherdiff.data.sources.as_stored import as_slice, require_as_meant, stored_names
from weatherdiff.data.sources.source import SOURCES, Source
from weatherdiff.data.storing.stored_array import StoredArray
from weatherdiff.data.windows import Int
from weatherdiff.errors import InputError, WeatherdiffError
from weatherdiff.grid import canonical_grid
from weatherdiff.layout import LAYOUT, Layout

__all__ = ["direct_reader"]

logger = logging.getLogger(__name__)

Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Contained(StoredArray):
    """An array of unknown origin, whose files may not be links out of its store."""

    def admit(self, number: int, file: int) -> None:
        if self._admitted[number]:  # asked once, as it costs a hundredth of a small frame
            return
        name = self.file_name(number)
        if not opened_in(file, name, self._store):
            raise InputError(f"{name} is a link out of the store, which is not followed.")
        self._admitted[number] = True

    def admitted(self, number: int) -> bool:
        return bool(self._admitted[number])

    @cached_property
    def _admitted(self) -> bytearray:
        return bytearray(-(-self.shape[0] // self.frames_per_file))

    @cached_property
    def _store(self) -> str:
        return os.path.realpath(self.path.parent)


@dataclass(frozen=True)
class _Piece:
    """Channels that are stored in one array."""

    reader: BlockReader
    channels: slice | Int  # of the frame asked for
    stored: slice | Int  # of the frame as it is stored


class _DirectReader:
    def __init__(
        self, pieces: Sequence[_Piece], frame: tuple[int, int, int], rows: Int, columns: Int
    ) -> None:
        self.pieces, self.frame = pieces, frame
        self.rows, self.columns = (as_slice(places) for places in (rows, columns))
        first = pieces[0]
        selections = (first.stored, self.rows, self.columns)
        self._as_stored = first.reader.shape[1:] == frame and all(
            isinstance(s, slice) and s == slice(None) for s in selections
        )

    def read(self, indices: npt.ArrayLike, out: Float | None = None) -> Float:
        """Read frames (n, channel, latitude, longitude) in the order asked for."""
        wanted = np.asarray(indices, np.int64)
        if self._as_stored:
            return self.pieces[0].reader.read(wanted, out=out)
        if out is None:
            out = np.empty((len(wanted), *self.frame), np.float32)
        for piece in self.pieces:
            frames = piece.reader.read(wanted).reshape(len(wanted), -1, *self.frame[1:])
            frames = frames[:, piece.stored][:, :, self.rows]
            out[:, piece.channels] = frames[..., self.columns]
        return out


def direct_reader(source: Source, ordinary: Reader) -> Reader:
    """Give the quick reader of a source if there is one, else the ordinary one.

    Parameters
    ----------
    source : Source
        Of a data set as :func:`~weatherdiff.open_fields` gives it.
    ordinary : Reader
        Of the same source, whose values are right.
    """
    files = list(source.ds.encoding.get(SOURCES, {}).get("files", {}))
    if len(files) != 1 or LAYOUT not in source.ds.attrs:
        return ordinary
    try:
        found = _find(source, Path(files[0]))
    except (OSError, KeyError, TypeError, ValueError, struct.error, WeatherdiffError) as reason:
        logger.info("%s is read through xarray: %s", files[0], reason)
        return ordinary
    last = source.ds.sizes["time"] - 1
    sample = sorted({0, last // 2, last})
    try:
        same = np.array_equal(found.read(sample), ordinary.read(sample), equal_nan=True)
    except WeatherdiffError as reason:
        logger.info("%s is read through xarray: %s", files[0], reason)
        return ordinary
    if not same:
        logger.info("%s is read through xarray: its values are not as they are stored.", files[0])
        return ordinary
    logger.info("%s is read chunk by chunk, past xarray.", files[0])
    return found


def _find(source: Source, path: Path) -> _DirectReader:
    """Find the arrays of all channels.

    Raises
    ------
    InputError, OSError, KeyError, ValueError
        They are not stored in a way that is known here.
    """
    ds, channels = source.ds, source.channels
    layout = Layout.from_dict(json.loads(ds.attrs[LAYOUT]))
    grid, rows, columns = canonical_grid(layout.latitude, layout.longitude)
    frame = (len(channels), *grid.shape)
    own = stored_names(ds, channels.variables, layout)
    if all((path / name / "zarr.json").is_file() for name in own):
        pieces, start = [], 0
        for name, group in groupby(own):
            count = len(list(group))
            pieces.append(_Piece(_open(path / name), slice(start, start + count), slice(None)))
            if pieces[-1].reader.array.shape[1:-2] not in ((), (count,)):
                raise ValueError(f"{name} has other levels")
            start += count
    else:
        stored, labels = _stacked(path, own)
        places = np.array([labels.index(name) for name in own])
        # of some of them a slice would not be these
        chosen = as_slice(places) if len(labels) == len(own) else places
        pieces = [_Piece(_open(stored), slice(None), chosen)]
    for piece in pieces:
        shape = piece.reader.shape
        if shape[0] != ds.sizes["time"] or shape[-2:] != grid.shape:
            raise ValueError(f"{piece.reader.array.path} has the shape {shape}")
    return _DirectReader(pieces, frame, rows, columns)


def _open(path: Path) -> BlockReader:
    document = json.loads((path / "zarr.json").read_bytes())
    require_as_meant(document.get("attributes", {}))
    reader = BlockReader(path, absent=float(document["fill_value"]), advice="Fetch it again.")
    reader.array = _Contained(**vars(reader.array))
    return reader


def _stacked(path: Path, own: Sequence[str]) -> tuple[Path, list[str]]:
    """Array of all channels, and the names of what is in it."""
    group: Any = zarr.open_group(path, mode="r", use_consolidated=False)
    for name, array in sorted(group.arrays()):
        names: tuple[Any, ...] = tuple(
            getattr(array.metadata, "dimension_names", None) or ()
        )  # not of v2
        if array.ndim == 4 and len(names) == 4 and names[1] in group:
            labels = [str(label) for label in np.asarray(group[names[1]][...]).tolist()]
            if set(own) <= set(labels):
                return path / name, labels
    raise ValueError(f"no array holds {', '.join(own)}")
