"""From the configured source to a field store, its windows and initial times."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from weatherdiff.config import Config
from weatherdiff.data.append import append, report_late
from weatherdiff.data.calendars import STANDARD, Calendar
from weatherdiff.data.fields import Fields
from weatherdiff.data.prepare import Settings, parse_step
from weatherdiff.data.prepare import prepare as prepare_store
from weatherdiff.data.sources.source import fingerprint
from weatherdiff.data.store import FieldStore
from weatherdiff.data.windows import (
    Int,
    WindowSpec,
    find_windows,
    seconds,
)
from weatherdiff.errors import ConfigError, MissingInputError
from weatherdiff.progress import progress_bar
from weatherdiff.staging import disk_errors, remove_leftovers
from weatherdiff.tasks.running import Scheduler, open_cluster
from weatherdiff.workflow.record import timed

if TYPE_CHECKING:
    from weatherdiff.data.loader import WindowDataset

__all__ = [
    "init_times_of",
    "open_source",
    "open_store",
    "open_training_fields",
    "prepare",
    "window_spec",
    "windows_of",
]

logger = logging.getLogger(__name__)

PREPARED_WITH = "weatherdiff_prepared_with"


def open_source(config: Config) -> xr.Dataset:
    """Open the configured data as a canonical Dataset."""
    from weatherdiff.data.sources.reading import Reading, open_sources

    data = config.data
    entries = [data.source] if isinstance(data.source, str) else data.source
    plain = [entry for entry in entries if isinstance(entry, str)]
    readings = []
    if plain:
        options = data.storage_options
        readings.append(Reading(plain, None, data.rename, data.units, data.engine, options))
    for entry in entries:
        if not isinstance(entry, str):
            options = entry.storage_options or data.storage_options
            own = entry.rename, entry.units, entry.engine
            readings.append(Reading(entry.path, entry.variables, *own, options))
    return open_sources(
        readings,
        variables=data.variables,
        levels=data.levels,
        region=data.region.region() if data.region else None,
        regridding=data.regrid.regridding() if data.regrid else None,
        join=data.join,
    )


def prepare(config: Config, *, overwrite: bool = False, scheduler: str | None = None) -> FieldStore:
    """Prepare the field store; to one that was prepared with the same settings, add new dates.

    Parameters
    ----------
    config : Config
    overwrite : bool
        Replace a store that is there.
    scheduler : str, optional
        ``"threads"``, or the address of a dask scheduler; one task after the other by default.

    Raises
    ------
    ConfigError
        There is a store that was prepared with other settings; or ``data.prepare`` is false.
    StorageError
        There is no cluster at the address, or it had no workers for ``worker_timeout``.
    """
    if not config.data.prepare:
        raise ConfigError(
            "data.prepare is false, so training reads the source itself and there is nothing to "
            "prepare; leave it out to prepare a field store."
        )
    if config.store.exists() and not overwrite:
        return _grown(config, scheduler)
    with disk_errors(config.output):
        config.output.mkdir(parents=True, exist_ok=True)
    remove_leftovers(config.output)
    ds = _signed_source(config)
    with (
        timed(config, "prepare"),
        progress_bar("prepare", "times") as progress,
        _workers(config, scheduler) as workers,
    ):
        return prepare_store(
            ds,
            config.store,
            overwrite=overwrite,
            scheduler=workers,
            progress=progress,
            **store_settings(config),
        )


def store_settings(config: Config) -> Settings:
    """Give what :func:`weatherdiff.prepare` wants to know."""
    return {
        "training_period": config.splits.training,
        "step": config.window.step,
        "frames": config.window.frames,
        "fill": config.data.fill,
        "held_out": (config.splits.validation, config.splits.test),
        "profile": config.data.profile,
        "quality": config.data.quality,
    }


def _grown(config: Config, scheduler: str | None) -> FieldStore:
    """Add to the store what the source has beyond it."""
    store = open_store(config)
    try:
        ds = _signed_source(config)
    except MissingInputError as error:
        logger.warning("%s is there already, its source is not: %s", config.store, error)
        return store
    times = seconds(ds["time"].values)
    if times.max() <= store.times[-1]:
        if not report_late(store, times):
            logger.info("%s is there already, and has all times.", config.store)
        _report_changed(store, times, ds)
        return store
    with (
        progress_bar("prepare", "times") as progress,
        _workers(config, scheduler) as workers,
    ):
        return append(ds, config.store, scheduler=workers, progress=progress)


def _signed_source(config: Config) -> xr.Dataset:
    """Open the source, and put into its attributes what a store of it depends on beside."""
    return open_source(config).assign_attrs({PREPARED_WITH: prepare_settings(config)})


def _report_changed(store: FieldStore, times: Int, ds: xr.Dataset) -> None:
    """Tell that a source of the same times is another one: only what is later would be added."""
    if store.metadata.get("additions"):  # of which none says what it was read from
        return
    known = store.metadata.get("plan", {}).get("source")
    if known and np.array_equal(times, store.times) and fingerprint(ds) != known:
        logger.warning(
            "%s stays as it is, but its source is no longer the one that it was prepared from: "
            "files, their dates or attributes are others. If fields were corrected, prepare it "
            "again with --overwrite.",
            store.path,
        )


@contextmanager
def _workers(config: Config, scheduler: str | None) -> Iterator[Scheduler]:
    """Open a cluster, once for all tasks."""
    if scheduler is None or scheduler == "threads":
        yield scheduler
        return
    with open_cluster(scheduler, config.worker_timeout) as crew:
        yield crew


def prepare_settings(config: Config) -> str:
    """Give what a store depends on beside the source's contents; it is kept in the store."""
    data = config.data.model_dump(mode="json", exclude={"prepare"})
    # as in stores made when these keys did not exist
    for name in ("quality", "profile", "region", "regrid", "join"):
        if data[name] == type(config.data).model_fields[name].default:
            del data[name]
    settings = {
        "data": data,
        "step": config.window.step,
        "frames": config.window.frames,
        "training": config.splits.training,
    }
    return json.dumps(settings, sort_keys=True)


def open_store(config: Config) -> FieldStore:
    """Open the field store.

    Raises
    ------
    ConfigError
        It was prepared with other settings.
    """
    store = FieldStore.open(config.store)
    if store.metadata["source"].get(PREPARED_WITH) != prepare_settings(config):
        raise ConfigError(
            f"{config.store} was prepared with other settings; run prepare with --overwrite, or "
            "choose another output folder."
        )
    return store


def open_training_fields(config: Config) -> Fields:
    """Open what training reads: the field store, or the source itself if ``data.prepare`` is false.

    Raises
    ------
    ConfigError
        The store was prepared with other settings.
    """
    if config.data.prepare:
        return open_store(config)
    from weatherdiff.data.loading.unprepared import open_unprepared

    with progress_bar("statistics", "times") as progress:
        return open_unprepared(
            open_source(config),
            config.source_statistics,
            progress=progress,
            **store_settings(config),
        )


def window_spec(config: Config) -> WindowSpec:
    """Give the shape of a window in time."""
    window = config.window
    return WindowSpec(window.history, window.frames, parse_step(window.step))


def windows_of(config: Config, store: Fields, split: str) -> WindowDataset:
    """Give the windows of a split; those left out are counted in the log."""
    from weatherdiff.data.loader import WindowDataset

    spec = window_spec(config)
    period = config.splits.period(split, store.calendar)
    windows = find_windows(store.times, store.valid, spec, period)
    if windows.absent or windows.invalid:
        logger.warning(
            "%s: %d windows; %d left out for an absent frame, %d for missing data.",
            split, len(windows), windows.absent, windows.invalid,
        )  # fmt: skip
    return WindowDataset(store, windows, spec, config.forcings)


def init_times_of(
    config: Config,
    frames: int | None,
    ds: xr.Dataset | None = None,
    *,
    calendar: str = STANDARD,
) -> list[Any]:
    """Give the initial times asked for, or all that the test period can verify.

    They are datetime64, or dates of cftime where ``calendar``, that of the data, needs it.
    """
    own, wanted = Calendar(calendar), config.forecast.init_times
    if wanted != "test":
        return list(own.dates([own.parse(t) for t in wanted]))
    if ds is not None:
        times = seconds(ds["time"].values)
        valid = np.ones(len(times), bool)
    else:
        store = (
            FieldStore.open(config.store) if config.data.prepare else open_training_fields(config)
        )
        times, valid = store.times, store.valid
    window = config.window
    spec = WindowSpec(window.history, frames or window.frames, parse_step(window.step))
    found = find_windows(times, valid, spec, config.splits.period("test", calendar))
    if not len(found):
        raise MissingInputError(
            "No initial time of the test period has all its frames in the data."
        )
    return list(own.dates(found.init_times)[:: config.forecast.every])
