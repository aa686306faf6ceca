"""Add new dates to a field store. Readers see it as it was or as it will be, never between."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from weatherdiff import schema
from weatherdiff.data.calendars import Calendar
from weatherdiff.data.channels import Channels
from weatherdiff.data.prepare import counted
from weatherdiff.data.quality import (
    Finding,
    Quality,
    control_quality,
    looker_of,
    merge_findings,
)
from weatherdiff.data.sources.source import Source, fingerprint, require_unchanged
from weatherdiff.data.store import FieldStore
from weatherdiff.data.storing.create import lengthen
from weatherdiff.data.storing.judging import require_bounds
from weatherdiff.data.storing.manifest import Manifest, merge_additions
from weatherdiff.data.storing.moments import Moments
from weatherdiff.data.storing.plan import SHOWN, analysis_times, find_gaps
from weatherdiff.data.storing.rounding import merge_errors, summarize_errors
from weatherdiff.data.storing.tasks import FIELDS, FRAMES, LOG, LOOKS, Job
from weatherdiff.data.storing.working import clean, store_lock
from weatherdiff.data.windows import Int
from weatherdiff.errors import GridMismatchError, InputError, StorageError
from weatherdiff.grid import Grid
from weatherdiff.staging import disk_errors, flush
from weatherdiff.tasks.running import Scheduler, run_tasks

__all__ = ["append", "report_late"]

logger = logging.getLogger(__name__)

SHIFTED, SPREAD = (
    1.0,
    2.0,
)  # mean and factor of the standard deviation from which drift is a warning


def append(
    ds: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    scheduler: Scheduler = None,
    progress: Callable[[int, int], None] | None = None,
) -> FieldStore:
    """Add the frames of a grown source that are later than those of the store.

    Frames are known by their time. Those that are there stay as they are, and so do the mask, the
    statistics and the normalizer, which are of the training period; how far the new frames are
    from them is reported and recorded. A last shard that has room is written anew beside the old
    one, and takes its name. What is published is the manifest, by one rename, when all else is on
    the disk: whoever opened the store before reads the same frames as before, and a run that was
    killed has changed nothing that readers see, and is gone on with by the next.

    Parameters
    ----------
    ds : Dataset
        Canonical; its variables, units and grid are those of the store. It need not hold the old
        times.
    path : path
        Of the store.
    scheduler, progress
        As for :func:`weatherdiff.prepare`.

    Returns
    -------
    FieldStore
        As it is now; as it was if there is no later time.

    Raises
    ------
    MissingInputError
        There is no store.
    GridMismatchError
        The grid is another one.
    InputError
        The variables or units are others, values are infinite or out of bounds, a file was changed
        while it was read, or the store was written by an older version. The store stays as it was.
    LockedError
        Another process adds to the store.
    StorageError
        The store is damaged, or the disk is full.
    """
    path = Path(path)
    FieldStore.open(path)  # or say what is wrong, before there is a lock
    with disk_errors(path), store_lock(path):
        store = FieldStore.open(path)
        schema.validate(ds)
        ds = _alike(store, ds)
        times = analysis_times(ds, fewest=1)  # a store may grow by one
        report_late(store, times)
        first = int(np.searchsorted(times, store.times[-1], side="right"))
        if first == len(times):
            logger.info("%s: no time is later than those it has.", path)
            return store
        absent, gaps = _report_gaps(store, times[first:])
        clean(path)
        job = _job(store, ds.isel(time=slice(first, None)), times[first:], fingerprint(ds))
        run = partial(run_tasks, job, scheduler=scheduler, notes=path / LOG)
        run("write_fields", job.indices, done=counted(job, progress))
        require_unchanged(ds)
        filled = store.metadata["fill"] is not None
        findings = control_quality(job, path, _quality(store), filled=filled)
        run("write_changes", job.indices)
        if any(entry["key"] != job.key for entry in job.entries()):
            raise StorageError(f"Another run has written to {path} meanwhile; run prepare again.")
        rows = np.concatenate([job.frame_table(index) for index in job.indices])
        require_bounds(store.channels, store.normalizer.transforms, rows)
        found = _look(store, job)
        valid = np.concatenate([store.valid, found.whole | filled])
        changed = lengthen(path, job.times, valid, job.shard, job.kept)
        files = {path / name for entry in job.entries() for name in entry["files"]}
        files |= set(changed) | set(job.log_files())
        flush(sorted(files | {file.parent for file in files}))
        addition = _describe(store, job, found)
        if gaps:
            addition |= {"absent": absent, "gaps": [list(gap) for gap in gaps[-SHOWN:]]}
        Manifest(
            frames=len(job.times),
            frames_with_gaps=store.metadata["frames_with_gaps"] + int((~found.whole).sum()),
            additions=merge_additions((*store.metadata["additions"], addition)),
            packing=_packing(store, job, rows),
            quality=_all_findings(store, job, findings),
        ).write(path)
    return FieldStore.open(path)


def _alike(store: FieldStore, ds: xr.Dataset) -> xr.Dataset:
    """Refuse what does not fit; give the channels in the order of the store."""
    if store.metadata["version"] < 2:
        raise InputError(
            f"{store.path} was written by an older version, in a format that cannot grow; prepare "
            "it again with --overwrite."
        )
    ds = _in_order(store, ds)
    units = zip(
        store.channels.labels, store.channels.units, Channels.from_dataset(ds).units, strict=True
    )
    wrong = [f"{label} in {own}, the data in {unit}" for label, own, unit in units if own != unit]
    if wrong:
        raise InputError(
            f"{store.path} has {'; '.join(wrong)}. Give the same units, or prepare another store."
        )
    calendar = Calendar.of(ds["time"]).name if "time" in ds.coords else store.calendar
    if calendar != store.calendar:
        raise InputError(
            f"{store.path} has the calendar {store.calendar}, the data {calendar}; give data in "
            "the same, or prepare another store."
        )
    try:
        store.grid.require_same(Grid.from_dataset(ds))
    except GridMismatchError as error:
        raise GridMismatchError(f"{store.path} and the data: {error}") from error
    return ds


def _in_order(store: FieldStore, ds: xr.Dataset) -> xr.Dataset:
    """Put variables and levels in the order of the store's channels, which must be the same."""
    own, given = store.channels, Channels.from_dataset(ds)
    if own.labels == given.labels:
        return ds
    absent = [label for label in own.labels if label not in given.labels]
    new = [label for label in given.labels if label not in own.labels]
    if absent or new:
        raise InputError(
            f"{store.path} has the channels {', '.join(own.labels)}; the data lack "
            f"{', '.join(absent) or 'none'}, and have {', '.join(new) or 'none'} besides. Give the "
            "same variables and levels, or prepare another store."
        )
    variables = list(dict.fromkeys(own.variables))
    ds = ds[[*variables, *(name for name in ds.data_vars if name not in variables)]]
    levels = list(dict.fromkeys(level for level in own.levels if level is not None))
    if levels:
        known = [f"{level:g}" for level in ds["level"].values]  # as labels have them
        ds = ds.isel(level=[known.index(f"{level:g}") for level in levels])
    logger.info("%s: the channels of the data are put in its order.", store.path)
    return ds


def report_late(store: FieldStore, times: Int) -> bool:
    """Tell of new frames before the last of the store, and whether there are any.

    They cannot be added: the files are in the order of time.

    Parameters
    ----------
    store : FieldStore
    times : (time,)
        Of the source, in seconds.
    """
    late = np.setdiff1d(times[times <= store.times[-1]], store.times)
    if len(late):
        logger.warning(
            "%s: %d times before its last one are new, the first is %s; they are left out. Prepare "
            "it again with --overwrite to have them.",
            store.path, len(late), Calendar(store.calendar).text(late[0]),
        )  # fmt: skip
    return len(late) > 0


def _report_gaps(store: FieldStore, new: Int) -> tuple[int, tuple[tuple[str, int], ...]]:
    """Tell of frames that are absent between the store and the new ones, and among these."""
    step, calendar = store.metadata["plan"]["step"], Calendar(store.calendar)
    absent, gaps = find_gaps(np.concatenate([store.times[-1:], new]), step, calendar)
    if gaps:
        more = f", and in {len(gaps) - SHOWN} more gaps" if len(gaps) > SHOWN else ""
        logger.warning(
            "%s: %d frames are absent before or between the new ones: %s%s. No window reaches "
            "across them.",
            store.path, absent,
            ", ".join(f"{length / 3600:g} h after {start}" for start, length in gaps[:SHOWN]), more,
        )  # fmt: skip
    off = np.flatnonzero((new - store.times[-1]) % step) if step else new[:0]
    if len(off):
        logger.warning(
            "%s: %d new times, the first at %s, are no whole steps of %g h after those it has; "
            "windows across them are found by time, and lack where no frame is.",
            store.path, len(off), calendar.text(new[off[0]]), step / 3600,
        )  # fmt: skip
    return absent, gaps


def _job(store: FieldStore, part: xr.Dataset, times: Int, source: str) -> Job:
    group = zarr.open_group(store.path, mode="r", use_consolidated=False)
    kept = len(store.times)
    key = json.dumps(["addition", source, kept, times.tolist()])
    return Job(
        source=Source(part, Channels.from_dataset(part)),
        folder=store.path,
        times=np.concatenate([store.times, times]),
        kept=kept,
        shard=int(group[FIELDS].shards[0]),  # type: ignore[union-attr, index]
        leads=np.asarray(group["moments/lead"][...]),  # type: ignore[index]
        key=hashlib.sha256(key.encode()).hexdigest()[:16],
        profile=store.profile,
        looker=looker_of(part, store.channels, store.grid) if LOOKS in group else None,
        infinite="missing" if _quality(store) == "mark" else "refused",
        calendar=store.calendar,
    )


def _packing(store: FieldStore, job: Job, rows: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Merge the errors of packing of the old frames and the new, if the store is packed."""
    if job.profile.lossless:
        return {}
    before = store.metadata["packing"]
    labels, units = store.channels.labels, store.channels.units
    if all("moments" in before[label] for label in labels):
        known = np.array([[before[label]["moments"] for label in labels]])
    else:  # of a store of an older version all frames are read, once
        group = zarr.open_group(store.path, mode="r", use_consolidated=False)
        known = np.asarray(group[FRAMES][: job.kept])  # type: ignore[index]
    table = merge_errors([np.array([before[label]["table"] for label in labels]), job.errors()])
    return summarize_errors(table, labels, units, Moments.merge(np.concatenate([known, rows])))


def _quality(store: FieldStore) -> Quality:
    """Give what is done about faults, as when the store was prepared."""
    quality: Quality = store.metadata["plan"]["settings"].get("quality", "report")
    return quality


def _all_findings(
    store: FieldStore, job: Job, findings: list[Finding]
) -> tuple[dict[str, Any], ...] | None:
    if job.looker is None:
        return store.metadata.get("quality")
    before = [Finding.from_dict(known) for known in store.metadata.get("quality") or ()]
    return tuple(found.to_dict() for found in merge_findings([*before, *findings]))


@dataclass
class _Found:
    """What the new frames are like.

    Attributes
    ----------
    whole : (time,)
        False where data are missing that the store has at other times.
    outside : (channel,)
        Frames with data where the store never had any.
    weight, total, square : (channel,)
        Sums over cells and times of area, of area times anomaly and of area times its square.
    """

    whole: npt.NDArray[np.bool_]
    outside: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64] = field(init=False)
    total: npt.NDArray[np.float64] = field(init=False)
    square: npt.NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.weight, self.total, self.square = (np.zeros(len(self.outside)) for _ in range(3))


def _look(store: FieldStore, job: Job) -> _Found:
    """Read the new frames once, a shard after the other."""
    area = store.grid.area_weights().to_numpy() * store.mask
    found = _Found(
        np.ones(len(job.times) - job.kept, bool), np.zeros(len(store.channels), np.int64)
    )
    for index in job.indices:
        start, stop = job.span(index)
        rows = np.arange(max(start, job.kept), stop)
        fields = job.read(rows)
        there = ~np.isnan(fields)
        found.whole[rows - job.kept] = (there | ~store.mask).all(axis=(1, 2, 3))
        found.outside += (there & ~store.mask).any(axis=(2, 3)).sum(axis=0)
        anomaly = store.normalizer.state(fields, job.times[rows])
        for c in range(len(area)):
            used = there[:, c] & store.mask[c]
            weights = np.broadcast_to(area[c], used.shape)[used]
            values = anomaly[:, c][used].astype(np.float64)
            found.weight[c] += weights.sum()
            found.total[c] += weights @ values
            found.square[c] += weights @ values**2
    return found


def _describe(store: FieldStore, job: Job, found: _Found) -> dict[str, Any]:
    """Report and record how far the new frames are from the statistics of the training period."""
    first, last = (Calendar(store.calendar).text(t) for t in job.times[[job.kept, -1]])
    count = len(job.times) - job.kept
    logger.info("%s: %d frames added, %s to %s.", store.path, count, first, last)
    gaps = int((~found.whole).sum())
    if gaps:
        logger.warning("%s: %d of the %d new frames have missing data.", store.path, gaps, count)
    drift: dict[str, dict[str, float] | None] = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        means = found.total / found.weight
        spreads = np.sqrt(found.square / found.weight - means**2)
    for c, label in enumerate(store.channels.labels):
        if found.outside[c]:
            logger.warning(
                "%s: %s has data in %d new frames where it never had any; they are not used.",
                store.path, label, found.outside[c],
            )  # fmt: skip
        if not found.weight[c]:
            drift[label] = None
            continue
        mean, spread = float(means[c]), float(spreads[c])
        drift[label] = {"mean": round(mean, 6), "std": round(spread, 6)}
        drifts = abs(mean) > SHIFTED or not 1 / SPREAD < spread < SPREAD
        logger.log(
            logging.WARNING if drifts else logging.INFO,
            "%s: %s of the new frames has anomalies of mean %.2f and standard deviation %.2f, in "
            "standard deviations of the training period%s.",
            store.path, label, mean, spread,
            "; the statistics may no longer fit" if drifts else "",
        )  # fmt: skip
    return {"frames": [job.kept, len(job.times)], "first": first, "last": last, "drift": drift}
