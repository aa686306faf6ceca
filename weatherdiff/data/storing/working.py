"""The folder in which a store is prepared: begun once, gone on with, published when whole."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from weatherdiff.data.storing.plan import Plan
from weatherdiff.data.storing.shards import put_file
from weatherdiff.data.storing.tasks import FIELDS, LOG
from weatherdiff.errors import ConfigError, InputError, LockedError, StorageError
from weatherdiff.staging import PARTIAL_SUFFIX, disk_errors, locked, publish

__all__ = ["clean", "empty", "store_lock", "working_folder"]

logger = logging.getLogger(__name__)

PLAN = "fields/plan.json"


@contextmanager
def working_folder(path: Path, plan: Plan, *, overwrite: bool) -> Iterator[Path]:
    """Give the hidden folder beside ``path`` in which the store is made; rename it at the end.

    What a run that was stopped has left there is gone on with, if its plan was the same. After an
    error the folder stays if a shard is finished; it is removed if there is none, or if all are
    and the data were refused: the same data would be again.

    Raises
    ------
    ConfigError
        It was begun with another plan, and is not to be overwritten.
    LockedError
        Another process is at work there.
    StorageError
        ``path`` exists, and is not to be overwritten; or the disk is full.
    """
    if path.is_symlink():  # to a larger disk, say: the store belongs there
        path = Path(os.path.realpath(path))
    require_free(path, overwrite=overwrite)
    # after the pattern of staging's names, which puts back what was moved aside for it
    folder = path.with_name(f".{path.name}.prepared.working")
    with disk_errors(path), ExitStack() as locks:
        if (path / FIELDS).is_dir():
            locks.enter_context(store_lock(path))  # nobody adds to what is to be replaced
        locks.enter_context(store_lock(folder))
        require_free(path, overwrite=overwrite)
        _begin(folder, path, plan, overwrite=overwrite)
        try:
            yield folder
            clean(folder)
            publish(folder, path)
        except BaseException as error:
            finished = len(list((folder / LOG).glob("*.fields.json")))
            refused = isinstance(error, InputError | ConfigError) and finished == plan.shards
            if refused or not finished:
                shutil.rmtree(folder, ignore_errors=True)
            raise


def require_free(path: Path, *, overwrite: bool) -> None:
    """Refuse to replace what is there, unless asked to."""
    if path.exists() and not overwrite:
        raise StorageError(f"{path} exists already; remove it, or ask for it to be overwritten.")


def _begin(folder: Path, path: Path, plan: Plan, *, overwrite: bool) -> None:
    file = folder / PLAN
    try:
        known = json.loads(file.read_bytes())
    except (OSError, ValueError):
        known = None  # nothing there, or not even the plan
    if known == plan.to_dict():
        logger.info("%s was begun before, and is gone on with.", path)
    elif known and not overwrite:
        raise ConfigError(
            f"{path} was begun with another plan: {plan.differences(known)}. Run prepare with "
            f"--overwrite to begin again, or remove {folder}."
        )
    else:
        empty(folder)
    clean(folder)
    put_file(file, json.dumps(plan.to_dict(), indent=1) + "\n")


def empty(folder: Path) -> None:
    """Remove all but the lock and the plan."""
    for entry in [*folder.iterdir(), *(folder / FIELDS).iterdir()]:
        if entry.name not in (FIELDS, Path(PLAN).name) and not entry.name.endswith(".lock"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


@contextmanager
def store_lock(store: Path) -> Iterator[None]:
    """Hold the lock of a store while it is written; it lies inside, and is renamed with it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(store / FIELDS / "writing"))
        except LockedError:
            raise LockedError(f"Another process is writing {store}; wait for it.") from None
        yield


def clean(store: Path) -> None:
    """Remove files that a killed process had not yet renamed, ours and those of zarr-python."""
    for leftover in store.rglob(f"*{PARTIAL_SUFFIX}"):
        leftover.unlink(missing_ok=True)
