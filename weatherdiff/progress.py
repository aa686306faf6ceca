"""Progress of long work: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from weatherdiff.streams import complain

__all__ = ["Report", "progress_bar"]

LOG_SECONDS = 15.0


class Report(Protocol):
    """What :func:`progress_bar` gives."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Say how far the work is, and in a few words what it has come to."""


@contextmanager
def progress_bar(description: str, unit: str) -> Iterator[Report]:
    """Give a callable to report ``(done, total)`` and a note to.

    Parameters
    ----------
    description : str
        What is being done.
    unit : str
        Of the numbers, in the plural.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(description, total=None, note="")

            def update(done: int, total: int, note: str = "") -> None:
                progress.update(task, completed=done, total=total, note=note)

            yield update
        return

    start = last = time.monotonic()

    def report(done: int, total: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= LOG_SECONDS:
            last = now
            complain(
                f"{description}: {done}/{total} {unit}, {now - start:.0f} s{note and f', {note}'}"
            )

    yield report
