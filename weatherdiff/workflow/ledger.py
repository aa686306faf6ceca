"""What has been published: the folders are the truth, the ledger remembers more about them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from weatherdiff.data.calendars import Calendar
from weatherdiff.errors import InputError, LockedError
from weatherdiff.journal import tell
from weatherdiff.sealed import seal, unseal
from weatherdiff.staging import locked, remove_leftovers, staged

__all__ = ["path_of", "published_times", "read_ledger", "record_runs"]

LEDGER = "ledger.json"
FORMAT_VERSION = 1


def published_times(folder: Path) -> list[int]:
    """Give the initial times of the forecasts in a folder, ascending seconds of its calendar."""
    from weatherdiff.forecasting.writer import calendar_of, forecast_time

    own = calendar_of(folder)
    found = [forecast_time(path.name, own) for path in folder.glob("[!.]*.zarr")]
    return sorted(time for time in found if time is not None)


def path_of(folder: Path, time: int, calendar: Calendar) -> Path:
    """Give the folder of the forecast from a time, in seconds of a calendar."""
    from weatherdiff.forecasting.writer import forecast_name

    date = np.datetime64(time, "s") if calendar.standard else calendar.dates([time])[0]
    return folder / forecast_name(date)


def read_ledger(folder: Path) -> dict[str, dict[str, Any]]:
    """Give what is known of each run, by initial time, ascending.

    A ledger that is lost, damaged or behind is made up from the manifests of the forecasts; runs
    whose folder is gone are left out, unless they were removed as too old.
    """
    from weatherdiff.forecasting.writer import calendar_of

    known: dict[str, dict[str, Any]] = {}
    path = folder / LEDGER
    if path.exists():
        try:
            document = unseal(path.read_text())
            if document["version"] > FORMAT_VERSION:
                raise InputError(f"{path} has version {document['version']}; upgrade weatherdiff.")
            known = {str(name): dict(run) for name, run in document["runs"].items()}
        except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
            tell("ledger rebuilt", reason=str(error))
    own = calendar_of(folder)
    there = {own.iso(time): time for time in published_times(folder)}
    runs = {name: run for name, run in known.items() if name in there or "removed" in run}
    for name in there:
        known_of = runs.get(name, {}).keys()
        if "published" not in known_of or {"removed", "damaged"} & known_of:  # and made again
            runs[name] = _from_manifest(path_of(folder, there[name], own))
    return dict(sorted(runs.items()))


def record_runs(folder: Path, news: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add facts to the ledger; return all of it.

    If another run is writing it, this one's facts are left out: the manifests have the important
    ones, and the next run takes these over.

    Parameters
    ----------
    folder : path
        Of the forecasts.
    news : mapping
        Initial time, as :meth:`Calendar.iso` writes it -> facts, plain types.
    """
    runs = read_ledger(folder)
    try:
        with locked(folder / LEDGER):
            remove_leftovers(folder, of=LEDGER)
            runs = read_ledger(folder)
            for name, facts in news.items():
                runs[name] = {**runs.get(name, {}), **facts}
            runs = dict(sorted(runs.items()))
            text = seal({"version": FORMAT_VERSION, "runs": runs})
            path = folder / LEDGER
            if not path.is_file() or path.read_bytes() != text.encode():
                with staged(path, overwrite=True) as temporary:
                    temporary.write_text(text)
    except LockedError:
        tell("ledger busy")
    return runs


def _from_manifest(path: Path) -> dict[str, Any]:
    from weatherdiff.forecasting.manifest import MANIFEST, read_manifest

    try:
        run = read_manifest(path)[0].get("run", {})
        written = datetime.fromtimestamp((path / MANIFEST).stat().st_mtime, UTC)
    except InputError as error:
        return {"damaged": str(error)}
    finished = run.get("finished", written.isoformat(timespec="seconds"))
    return {"published": finished, "members": run.get("members")}
