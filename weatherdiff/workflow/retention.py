"""Forecasts that have been kept long enough are hidden by one rename, and then deleted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from weatherdiff.data.calendars import Calendar
from weatherdiff.errors import InputError, LockedError, MissingInputError, StorageError
from weatherdiff.journal import tell
from weatherdiff.staging import hidden_beside, locked, remove_leftovers
from weatherdiff.workflow.ledger import path_of, published_times

__all__ = ["newest_sound", "prune"]


def newest_sound(folder: Path) -> int | None:
    """Find the newest forecast every byte of which is as it was written.

    Returns
    -------
    int or None
        Its initial time, in seconds since 1970-01-01 UTC of the forecasts' calendar.
    """
    from weatherdiff.forecasting.writer import calendar_of, verify_forecast

    own = calendar_of(folder)
    for time in reversed(published_times(folder)):
        try:
            verify_forecast(path_of(folder, time, own))
        except (InputError, MissingInputError, StorageError) as error:  # another run removed it
            tell("damaged", init_time=own.iso(time), error=str(error))
        else:
            return time
    return None


def prune(folder: Path, *, keep: int | None, at_least: int) -> list[int]:
    """Remove forecasts by age, and what killed runs have left behind.

    Parameters
    ----------
    folder : path
        Of the forecasts.
    keep : int, optional
        Seconds, counted from the newest; none is too old unless given.
    at_least : int
        So many of the newest are kept, however old.

    Returns
    -------
    list of int
        Initial times of those removed.
    """
    from weatherdiff.forecasting.cycle import expired
    from weatherdiff.forecasting.work import discard_work
    from weatherdiff.forecasting.writer import calendar_of

    own, times = calendar_of(folder), published_times(folder)
    removed = []
    rule = {"keep": keep or 0, "at_least": at_least}
    if keep is not None and times and expired(times, **rule, newest_good=times[-1]):
        good = newest_sound(folder)
        for time in expired(times, **rule, newest_good=good):
            path = path_of(folder, time, own)
            try:
                with locked(path) as lock:
                    hidden = hidden_beside(path)
                    os.rename(path, hidden)
                    shutil.rmtree(hidden, ignore_errors=True)
                    discard_work(path)
                    lock.unlink(missing_ok=True)
            except (LockedError, FileNotFoundError):  # another run is at it
                continue
            removed.append(time)
    _clean(folder, times[-1] - keep if keep is not None and times else None, own)
    return removed


def _clean(folder: Path, oldest: int | None, calendar: Calendar) -> None:
    """Remove what killed runs have left of forecasts that are published, were removed or are old.

    What has been begun of others stays for the next run.
    """
    from weatherdiff.forecasting.work import discard_work
    from weatherdiff.forecasting.writer import forecast_time

    names = {left.name[1:].partition(".zarr.")[0] for left in folder.glob(".*.zarr.????????.*")}
    for path in (folder / f"{name}.zarr" for name in names):
        try:
            with locked(path) as lock:
                remove_leftovers(folder, of=path.name)
                time = forecast_time(path.name, calendar)
                old = oldest is not None and time is not None and time < oldest
                if path.exists() or old:
                    discard_work(path)
                if not path.exists() and not list(folder.glob(f".{path.name}.????????.*")):
                    lock.unlink(missing_ok=True)
        except LockedError:  # another run is at it
            continue
