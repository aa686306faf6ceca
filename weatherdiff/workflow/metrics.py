"""What monitoring reads: a Prometheus text file, and a ping after each good run."""

from __future__ import annotations

import http.client
import logging
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from weatherdiff.errors import WeatherdiffError
from weatherdiff.journal import tell
from weatherdiff.staging import staged

__all__ = ["ping", "write_metrics"]

PREFIX = "weatherdiff_batch_"

#: Name -> what it tells. All are gauges of the last run, as a text file has no counters.
HELP = {
    "last_run_timestamp_seconds": "When the last run ended.",
    "last_success_timestamp_seconds": "When the last run with exit code 0 ended.",
    "exit_code": "Exit code of the last run.",
    "duration_seconds": "Wall time of the last run.",
    "published": "Forecasts that the last run published.",
    "waiting": "Initial times whose input was not there.",
    "failures": "Initial times that failed in the last run.",
    "units": "Units (blocks of members) that the last run made.",
    "newest_init_timestamp_seconds": "Initial time of the newest published forecast.",
    "lateness_seconds": "Time from the newest published initial time to the end of the run.",
}


def write_metrics(path: Path, values: Mapping[str, float]) -> None:
    """Replace the text file; a failure is reported and changes nothing else.

    Parameters
    ----------
    path : path
    values : mapping
        Some of :data:`HELP`. The time of the last success is kept from the earlier file where it
        is not among them.
    """
    try:
        lasting = _earlier(path, "last_success_timestamp_seconds")
        lines = []
        for name, text in HELP.items():
            value = values.get(name, lasting.get(name))
            if value is not None:
                lines += [
                    f"# HELP {PREFIX}{name} {text}",
                    f"# TYPE {PREFIX}{name} gauge",
                    f"{PREFIX}{name} {value:.15g}",
                ]
        with staged(path, overwrite=True) as temporary:
            temporary.write_text("\n".join(lines) + "\n")
            temporary.chmod(0o644)
    except (OSError, WeatherdiffError) as error:
        tell("metrics not written", level=logging.WARNING, path=str(path), error=str(error))


def ping(url: str, *, timeout: float) -> None:
    """Ask for an address, for at most ``timeout`` seconds; a failure is reported and no more.

    Parameters
    ----------
    url : str
        ``http`` or ``https``.
    timeout : float
        Seconds, for all of it: looking up the name, too.
    """
    trouble = ["no answer"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(url, timeout=timeout):  # noqa: S310 - the scheme is checked
                trouble.clear()
        except (OSError, ValueError, http.client.HTTPException) as error:
            trouble[:] = [str(error)]

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    if trouble:
        tell("ping failed", level=logging.WARNING, error=trouble[0])


def _earlier(path: Path, *names: str) -> dict[str, float]:
    found = {}
    if path.is_file():
        for line in path.read_text(errors="replace").splitlines():
            name, _, value = line.removeprefix(PREFIX).partition(" ")
            if name in names:
                try:
                    found[name] = float(value)
                except ValueError:
                    continue
    return found
