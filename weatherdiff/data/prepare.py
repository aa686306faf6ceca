"""Canonical Dataset -> FieldStore, out of core, resumable, published only when whole."""

from __future__ import annotations

import datetime
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Required, TypedDict, Unpack, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
import zarr

from weatherdiff import schema
from weatherdiff.data.calendars import STANDARD, Calendar
from weatherdiff.data.channels import Channels
from weatherdiff.data.normalization import fit_normalizer
from weatherdiff.data.quality import Quality, control_quality, looker_of
from weatherdiff.data.sources.source import SOURCES, Source, require_unchanged
from weatherdiff.data.store import FieldStore
from weatherdiff.data.storing.create import create_store, finish_store
from weatherdiff.data.storing.judging import Fill, judge
from weatherdiff.data.storing.manifest import Manifest
from weatherdiff.data.storing.moments import Moments
from weatherdiff.data.storing.plan import BLOCK_BYTES, Plan, analysis_times, require_step
from weatherdiff.data.storing.profiles import Profile, ProfileName
from weatherdiff.data.storing.rounding import summarize_errors
from weatherdiff.data.storing.tasks import FRAMES, LOG, SEEN, Job
from weatherdiff.data.storing.working import empty, working_folder
from weatherdiff.data.windows import Period, WindowSpec
from weatherdiff.errors import ConfigError, InputError, StorageError
from weatherdiff.grid import Grid
from weatherdiff.tasks.running import Scheduler, run_tasks

__all__ = [
    "Settings",
    "counted",
    "make_plan",
    "parse_step",
    "plain",
    "prepare",
    "spec_of",
    "standard_static",
]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


class Settings(TypedDict, total=False):
    """What a field store depends on beside the data.

    Attributes
    ----------
    training_period : (start, stop)
        ISO dates, both included. Statistics come from these times alone.
    step : str
        Time from frame to frame of the forecasts to come, e.g. ``"3h"``.
    frames : int
        Number of frames of one forecast block: the leads of the tendency statistics.
    fill : {"climatology"}, optional
        Treat missing values as the climatology of their cell and time instead of leaving the
        frame out. They never count in the loss.
    held_out : sequence of (start, stop), optional
        Periods of validation and test, which statistics must not touch.
    profile : {"lz4", "raw", "packed"}, optional
        How the fields are kept: see :class:`weatherdiff.data.storing.profiles.Profile`.
    quality : {"report", "refuse", "mark"}
        What is done about frames that quality control finds fault with: they are told of, the data
        are refused, or the frames become missing.
    """

    training_period: Required[tuple[str, str]]
    step: Required[str]
    frames: Required[int]
    fill: Fill | None
    held_out: Sequence[tuple[str, str]]
    profile: ProfileName
    quality: Quality


def make_plan(ds: xr.Dataset, **settings: Unpack[Settings]) -> Plan:
    """Scan a canonical Dataset: what would be prepared, from its coordinates alone.

    Raises
    ------
    InputError
        The data are not canonical, or have no time in the training period.
    ConfigError
        A setting is unknown, a period or step cannot be read, the data cannot serve it, or the
        training period touches one that is held out.
    """
    unknown = sorted(settings.keys() - Settings.__annotations__.keys())
    if unknown:
        raise ConfigError(
            f"There is no setting {', '.join(unknown)}; there are "
            f"{', '.join(Settings.__annotations__)}."
        )
    if settings.get("fill") not in (None, *get_args(Fill)):
        raise ConfigError(
            f"fill is {settings['fill']!r}; choose {' or '.join(get_args(Fill))}, or leave it out."
        )
    calendar = Calendar.of(ds["time"]).name if "time" in ds.coords else STANDARD
    period = Period.parse(*settings["training_period"], calendar)
    spec = spec_of(settings)
    for other in settings.get("held_out", ()):
        held = Period.parse(*other, calendar)
        if held.start <= period.stop and period.start <= held.stop:
            raise ConfigError(
                f"The statistics would be of the training period {period}, which touches the "
                f"period {held} that is held out for validation or test; move one of them."
            )
    known: dict[str, Any] = {
        "training_period": [period.start, period.stop],
        "step": spec.step,
        "frames": spec.frames,
        "fill": settings.get("fill"),
    }
    profile = _profile(ds, settings).name
    if profile != "lz4":
        known["profile"] = profile
    quality = settings.get("quality", "report")
    if quality not in get_args(Quality):
        raise ConfigError(f"quality is {quality!r}; choose of {', '.join(get_args(Quality))}.")
    if quality != "report":  # plans of before there was a choice stay
        known["quality"] = quality
    plan = Plan.of(ds, known, block_bytes=BLOCK_BYTES)
    require_step(plan, spec.step)
    if not period.contains(analysis_times(ds)).any():  # before anything is written
        raise InputError(
            f"The training period, {period}, holds none of the data's {plan.times} times, "
            f"{plan.first} to {plan.last}; statistics need many: choose a period of these."
        )
    return plan


def prepare(
    ds: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    scheduler: Scheduler = None,
    progress: Progress | None = None,
    **settings: Unpack[Settings],
) -> FieldStore:
    """Write a canonical Dataset to a field store, with statistics of the training period.

    The source is read once, in tasks of one shard each, in bounded memory (see
    :meth:`Plan.describe <weatherdiff.data.storing.plan.Plan.describe>`). A run that was stopped,
    even killed, is gone on with by the next: shards that are finished, and are still what the log
    says, are not written again. The store is the same, byte by byte, however often that happened
    and whoever did the tasks.

    Cells that never have data (the sea, for a land data set) become the mask. A frame in which
    other data are missing is marked: no window will contain it, unless it is to be filled.

    Parameters
    ----------
    ds : Dataset
        As :func:`weatherdiff.open_fields` gives it. Variables without time become static fields.
    path : path
        Of the store to write.
    overwrite : bool
        Replace a store that is there, and begin again what was begun with another plan.
    scheduler : None, "threads", str or dask.distributed.Client
        What runs the tasks: one after the other, threads of this process, or a cluster (its
        address or client) whose workers see the same file system. Memory is that of one task for
        each that runs.
    progress : callable, optional
        Called with (frames written, frames in all).
    **settings
        ``training_period``, ``step`` and ``frames``; perhaps ``fill``, ``held_out`` and
        ``profile``: see :class:`Settings`.

    Returns
    -------
    FieldStore

    Raises
    ------
    InputError
        The data are not canonical, hold values out of bounds, too few frames are whole, or a file
        was changed while it was read.
    ConfigError
        A period or step that cannot be read, or that the data cannot serve; a training period that
        touches one held out; or the store was begun with another plan.
    LockedError
        Another process prepares this store.
    StorageError
        The store exists already, or the disk is full. Finished shards stay in a hidden folder
        beside ``path`` for the next run; if there are none nothing is left.

    Examples
    --------
    >>> import tempfile
    >>> from weatherdiff.data.samples import open_sample
    >>> from weatherdiff import open_fields
    >>> ds = open_fields("sample:uk-2018", variables=["2m_temperature"]).isel(time=slice(0, 240))
    >>> store = prepare(ds, tempfile.mkdtemp() + "/fields.zarr", step="6h", frames=2,
    ...                 training_period=("2018-06-01", "2018-06-07"))
    >>> store.shape, int(store.mask.sum())
    ((240, 1, 22, 28), 275)
    """
    path = Path(path)
    schema.validate(ds)
    plan = make_plan(ds, **settings)
    channels, times, grid = Channels.from_dataset(ds), analysis_times(ds), Grid.from_dataset(ds)
    calendar = plan.calendar
    spec, period = spec_of(settings), Period.parse(*settings["training_period"], calendar)
    fill, quality = settings.get("fill"), settings.get("quality", "report")
    profile, looker = _profile(ds, settings), looker_of(ds, channels, grid)
    names, static = standard_static(ds)

    with working_folder(path, plan, overwrite=overwrite) as folder:
        leads = spec.lead_times
        if not (folder / SEEN / "zarr.json").exists():  # which is created last
            empty(folder)
            create_store(
                folder, channels=channels, grid=grid, times=times, shard=plan.shard, leads=leads,
                looker=looker, calendar=calendar, profile=profile,
            )  # fmt: skip
        job = Job(
            Source.past_xarray(ds, channels), folder, times, 0, plan.shard, leads, plan.digest,
            profile=profile, looker=looker, calendar=calendar,
            infinite="missing" if quality == "mark" else "refused",
        )  # fmt: skip
        run = partial(run_tasks, job, scheduler=scheduler, notes=folder / LOG)
        run("write_fields", job.indices, done=counted(job, progress))
        require_unchanged(ds)
        findings = control_quality(job, path, quality, filled=fill is not None)
        frames, mask = _learn(folder)
        whole, transforms = judge(ds, frames, mask, period, fill)
        run("write_changes", job.indices)
        job.blocks.clear()
        if any(entry["key"] != job.key for entry in job.entries()):
            raise StorageError(f"Another run has written to {path} meanwhile; run prepare again.")
        normalizer = fit_normalizer(
            job.read,
            times,
            whole,
            transforms=transforms,
            weights=grid.area_weights().to_numpy() * mask,
            spec=spec,
            period=period,
            block=plan.shard,
            threads=1 if scheduler is None else os.cpu_count() or 1,
        )
        finish_store(
            folder,
            valid=np.ones(len(times), bool) if fill else whole,
            mask=mask,
            static=static,
            normalizer=normalizer,
            metadata={
                "channels": channels.to_dict(),
                "static": names,
                "fill": fill,
                "profile": {"name": profile.name, "sources": profile.sources},
                "plan": plan.to_dict(),
                "source": plain(ds.attrs),
                "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            },
        )
        packing = {}
        if not profile.lossless:
            moments = Moments.merge(frames)
            packing = summarize_errors(job.errors(), channels.labels, channels.units, moments)
        Manifest(
            frames=len(times),
            frames_with_gaps=int((~whole).sum()),
            packing=packing,
            quality=tuple(finding.to_dict() for finding in findings),
        ).write(folder)
    return FieldStore.open(path)


def parse_step(step: str) -> int:
    """Read a time step such as "3h", "30min" or "1D"; seconds.

    Raises
    ------
    ConfigError
        Not a positive whole number of seconds.

    Examples
    --------
    >>> parse_step("3h")
    10800
    """
    try:
        delta = pd.Timedelta(step)
    except ValueError:
        delta = pd.NaT
    if delta is pd.NaT or delta <= pd.Timedelta(0) or delta % pd.Timedelta("1s"):
        raise ConfigError(f'Not a time step: {step!r}; write for example "3h", "30min" or "1D".')
    return int(delta.total_seconds())


def _profile(ds: xr.Dataset, settings: Settings) -> Profile:
    variables = Channels.from_dataset(ds).variables
    return Profile.of(settings.get("profile", "lz4"), ds.encoding.get(SOURCES, {}), variables)


def spec_of(settings: Settings) -> WindowSpec:
    """Give the leads whose changes count."""
    return WindowSpec(history=1, frames=settings["frames"], step=parse_step(settings["step"]))


def counted(job: Job, progress: Progress | None) -> Callable[[int], None]:
    """Report frames where tasks are counted."""
    done = job.kept

    def told(index: int) -> None:
        nonlocal done
        start, stop = job.span(index)
        done += stop - max(start, job.kept)
        if progress is not None:
            progress(done, len(job.times))

    return told


def _learn(folder: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Moments of all frames (time, channel, statistic), and where there ever are data."""
    group = zarr.open_group(folder, mode="r", use_consolidated=False)
    mask: npt.NDArray[np.bool_] | None = None
    seen = group[SEEN]
    for number in range(seen.shape[0]):  # type: ignore[union-attr]
        part = np.asarray(seen[number])  # type: ignore[index]
        mask = part if mask is None else mask | part
    assert mask is not None  # noqa: S101  (for the type checker: there are times)
    return np.asarray(group[FRAMES][...]), mask  # type: ignore[index]


def standard_static(ds: xr.Dataset) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Standardise the user's static fields over the grid; missing values become the mean.

    Raises
    ------
    InputError
        One has no data, or infinite values.
    """
    names = [str(n) for n in ds.data_vars if ds[n].dims == ("latitude", "longitude")]
    fields = []
    for name in names:
        values = ds[name].to_numpy().astype(np.float64)
        if np.isinf(values).any() or np.isnan(values).all():
            what = "infinite values" if np.isinf(values).any() else "no data at all"
            raise InputError(f"{name} has {what}; correct it, or leave it out.")
        spread = np.nanstd(values)
        standard = (values - np.nanmean(values)) / (spread if spread > 0 else 1)
        fields.append(np.where(np.isnan(standard), 0, standard))
    shape = (len(names), ds.sizes["latitude"], ds.sizes["longitude"])
    return names, np.array(fields, np.float32).reshape(shape)


def plain(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Turn attributes into JSON types."""
    return {str(name): _plain(value) for name, value in attributes.items()}


def _plain(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
