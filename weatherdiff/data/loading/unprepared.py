"""The user's own data in place of a field store: nothing is written but statistics.

A field store is read at the speed of its codec. This reads whatever
:func:`~weatherdiff.open_fields` opens, through the libraries that it was opened with: slower, but
at once, and without a second copy on the disk. Windows, statistics and so the tensors are those of
the prepared path, bit by bit.

The source is read once for the moments, gaps and mask of all frames, and the training period twice
more by :func:`~weatherdiff.data.normalization.fit_normalizer`; what fits into memory is read once.
The result is kept in a small file, and is good until the source, the period or the settings change.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff import schema
from weatherdiff.data.channels import Channels
from weatherdiff.data.fields import Fields
from weatherdiff.data.loading.direct import direct_reader
from weatherdiff.data.loading.reader import Reader
from weatherdiff.data.normalization import Normalizer, fit_normalizer
from weatherdiff.data.prepare import Settings, make_plan, plain, spec_of, standard_static
from weatherdiff.data.sources.source import SOURCES, Source
from weatherdiff.data.storing.judging import judge, refuse_infinite
from weatherdiff.data.storing.moments import frame_moments
from weatherdiff.data.storing.plan import Plan, analysis_times
from weatherdiff.data.windows import Int, Period
from weatherdiff.grid import Grid
from weatherdiff.staging import staged

__all__ = ["SourceFields", "SourceReader", "open_unprepared"]

logger = logging.getLogger(__name__)

Float = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]

VERSION = 1
KEPT_BYTES = 2**31  # fields that are kept in memory while statistics are made of them
APART = 4  # frames that are read for one that is wanted, at most
FAR = 64  # frames between two that are read at once, at most


@dataclass(frozen=True, kw_only=True)
class SourceFields(Fields):
    """What a :class:`~weatherdiff.data.store.FieldStore` is for training, of a source as it is.

    Attributes
    ----------
    source : Source
    channels, grid, times, valid, mask, static, normalizer
        As of :class:`~weatherdiff.data.fields.Fields`.
    metadata : dict
        Of these the same: ``static``, ``fill``, ``source``, ``frames_with_gaps``; ``created`` names
        the source and its settings.
    """

    source: Source

    def reader(self, *, threads: int = 1) -> Reader:
        """Give what reads physical frames; ``threads`` of one call are no faster here."""
        return self._reader

    @cached_property
    def _reader(self) -> Reader:
        return direct_reader(self.source, SourceReader(self.source))


class SourceReader:
    """Reader of frames of a lazy data set.

    Frames near each other are read at once, as a slice, which reaches through dask to the file.
    Any number of threads may read at once, but only Zarr is read by more than one of them: the
    other libraries may not.

    Parameters
    ----------
    source : Source

    Examples
    --------
    >>> values = np.arange(6.0)[:, None, None] * np.ones((2, 3))
    >>> ds = xr.Dataset({"t": (("time", "latitude", "longitude"), values)})
    >>> SourceReader(Source(ds, Channels.from_dataset(ds))).read([5, 0, 5])[:, 0, 0, 0]
    array([5., 0., 5.], dtype=float32)
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        sizes = source.ds.sizes
        self.frame = (len(source.channels), sizes["latitude"], sizes["longitude"])
        files = source.ds.encoding.get(SOURCES, {}).get("files", {})
        zarr = bool(files) and all(Path(f).is_dir() or f.endswith(".zarr") for f in files)
        self._turn = nullcontext() if zarr else threading.Lock()

    def read(self, indices: npt.ArrayLike, out: Float | None = None) -> Float:
        """Read frames (n, channel, latitude, longitude) in the order asked for.

        Raises
        ------
        InputError, MissingInputError, StorageError
            The source is damaged, has gone, or cannot be read.
        """
        wanted = np.asarray(indices, np.int64)
        if out is None:
            out = np.empty((len(wanted), *self.frame), np.float32)
        for positions in spans(wanted):
            chosen = slice(positions.start, positions.stop, positions.step)
            part = Source(self.source.ds.isel(time=chosen), self.source.channels)
            with self._turn:
                frames = part.read(0, len(positions))
            rows = np.flatnonzero((wanted >= positions.start) & (wanted <= positions[-1]))
            out[rows] = frames[(wanted[rows] - positions.start) // positions.step]
        return out


def spans(indices: Int) -> list[range]:
    """Cover positions with few ranges: evenly spaced ones, and dense ones with some others.

    Examples
    --------
    >>> spans(np.array([3, 0, 6, 3, 900, 901, 903]))
    [range(0, 7, 3), range(900, 904)]
    """
    found: list[range] = []
    for place in np.unique(indices).tolist():
        if found:
            begin, last, step = found[-1].start, found[-1][-1], found[-1].step
            gap = place - last
            even = gap <= FAR if begin == last else gap == step
            if even or max(gap, step) <= APART:
                step = gap if begin == last else math.gcd(gap, step)
                found[-1] = range(begin, place + 1, step)
                continue
        found.append(range(place, place + 1))
    return found


class _Learned(NamedTuple):
    """What is found out by reading."""

    whole: npt.NDArray[np.bool_]
    mask: npt.NDArray[np.bool_]
    normalizer: Normalizer


def open_unprepared(
    ds: xr.Dataset,
    statistics: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    **settings: Unpack[Settings],
) -> SourceFields:
    """Make a canonical Dataset ready to train on as it is.

    Parameters
    ----------
    ds : Dataset
        As :func:`weatherdiff.open_fields` gives it.
    statistics : path
        File for what is found out by reading; if it is there, and of the same source and settings,
        nothing is read.
    progress : callable, optional
        Called with (frames read, frames in all) of the first reading.
    **settings
        As for :func:`weatherdiff.prepare`.

    Returns
    -------
    SourceFields

    Raises
    ------
    InputError, ConfigError
        As :func:`weatherdiff.prepare`: the data or the settings are refused.
    StorageError
        The source cannot be read, or the file not be written.
    """
    statistics = Path(statistics)
    schema.validate(ds)
    plan = make_plan(ds, **settings)
    source = Source(ds, Channels.from_dataset(ds))
    learned = _known(statistics, plan)
    if learned is None:
        learned = _learn(source, plan, settings, progress)
        _keep(statistics, plan, learned)
    fill = settings.get("fill")
    names, static = standard_static(ds)
    return SourceFields(
        source=source,
        channels=source.channels,
        grid=Grid.from_dataset(ds),
        times=analysis_times(ds),
        valid=np.ones_like(learned.whole) if fill else learned.whole,
        mask=learned.mask,
        static=static,
        normalizer=learned.normalizer,
        metadata={
            "static": names,
            "fill": fill,
            "source": plain(ds.attrs),
            "created": plan.digest,
            "frames_with_gaps": int((~learned.whole).sum()),
        },
    )


def _learn(source: Source, plan: Plan, settings: Settings, progress: Progress | None) -> _Learned:
    """Read all frames once, and those of the training period as often as statistics need."""
    ds, ordinary = source.ds, SourceReader(source)
    reader = direct_reader(source, ordinary)
    times, grid = analysis_times(ds), Grid.from_dataset(ds)
    period = Period.parse(*settings["training_period"], plan.calendar)
    small = plan.frame_bytes * plan.times <= KEPT_BYTES
    kept: list[Float] = []
    tables, mask = [], np.zeros(ordinary.frame, bool)
    for start in range(0, plan.times, plan.shard):
        indices = np.arange(start, min(start + plan.shard, plan.times))
        block = reader.read(indices)
        refuse_infinite(
            block, start=start, times=times, calendar=plan.calendar, labels=plan.channels,
            advice="mask or correct them",
        )  # fmt: skip
        tables.append(frame_moments(block))
        mask |= np.any(~np.isnan(block), axis=0)
        if small:
            kept.append(block)
        if progress is not None:
            progress(int(indices[-1]) + 1, plan.times)
    whole, transforms = judge(ds, np.concatenate(tables), mask, period, settings.get("fill"))

    def read(indices: Int, out: Float) -> None:
        if not small:
            reader.read(indices, out)
            return
        for frame, i in zip(out, indices.tolist(), strict=True):
            frame[...] = kept[i // plan.shard][i % plan.shard]

    normalizer = fit_normalizer(
        read,
        times,
        whole,
        transforms=transforms,
        weights=grid.area_weights().to_numpy() * mask,
        spec=spec_of(settings),
        period=period,
        block=plan.shard,
    )
    return _Learned(whole, mask, normalizer)


def _keep(path: Path, plan: Plan, learned: _Learned) -> None:
    document = {
        "version": VERSION,
        "plan": plan.digest,
        "normalizer": learned.normalizer.to_dict(),
    }
    arrays: dict[str, Any] = {
        "document": np.array(json.dumps(document)),
        "whole": learned.whole,
        "mask": learned.mask,
        **learned.normalizer.arrays(),
    }
    with staged(path, overwrite=True) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _known(path: Path, plan: Plan) -> _Learned | None:
    """Give what an earlier run has found out of the same source."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            document = json.loads(str(arrays["document"]))
            if (document["version"], document["plan"]) != (VERSION, plan.digest):
                logger.info("%s is of another source or other settings; it is made anew.", path)
                return None
            return _Learned(
                arrays["whole"],
                arrays["mask"],
                Normalizer.from_dict(document["normalizer"], arrays),
            )
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        logger.warning("%s is damaged (%s); it is made anew.", path, error)
        return None
