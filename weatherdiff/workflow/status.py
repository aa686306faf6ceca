"""How scheduled runs stand: what is published, due, waiting and half made."""

from __future__ import annotations

import re

from weatherdiff.config import Config
from weatherdiff.data.calendars import Calendar
from weatherdiff.errors import WeatherdiffError
from weatherdiff.sealed import unseal
from weatherdiff.workflow.batch import Request, Run, batch
from weatherdiff.workflow.ledger import read_ledger

__all__ = ["status"]


def status(config: Config, request: Request | None = None) -> str:
    """Say how scheduled runs stand; change nothing.

    Parameters
    ----------
    config : Config
    request : Request, optional
        As for :func:`weatherdiff.workflow.batch.batch`.
    """
    request = request or Request()
    run, trouble = _asked(config, request)
    own, clock = run.calendar, Calendar().iso(request.clock())
    if not own.standard:
        clock = f"none in the calendar {own.name}: now is the newest time of the data"
    runs = read_ledger(config.forecasts)
    there = {name: run for name, run in runs.items() if "removed" not in run}
    lines = [f"clock      {clock}"]
    if there:
        newest, facts = list(there.items())[-1]
        made = (
            f"damaged: {facts['damaged']}" if "damaged" in facts else f"made {facts['published']}"
        )
        lines.append(f"newest     {newest}, {made}")
    lines.append(f"published  {len(there)}, removed as too old {len(runs) - len(there)}")
    if trouble is None:
        for name, times in (("due", run.plan.due), ("waiting", run.plan.waiting)):
            lines.append(f"{name:10} {', '.join(map(own.iso, times)) or 'none'}")
    else:  # the rest is still of use
        lines.append(f"due        not known: {trouble}")
    for work in sorted(config.forecasts.glob(".*.zarr.????????.work")):
        name = re.sub(r"^\.(.*)\.zarr\.\w{8}\.work$", r"\1", work.name)
        done = len(list(work.glob("units/*.json")))
        try:
            units = unseal((work / "run.json").read_text())["units"]
        except (KeyError, OSError, ValueError):
            units = "?"
        lines.append(f"begun      {name}, {done} of {units} units")
    return "\n".join(lines)


def _asked(config: Config, request: Request) -> tuple[Run, WeatherdiffError | None]:
    """Find out what is due, or why that cannot be known."""
    from weatherdiff.forecasting.writer import calendar_of

    try:
        return batch(config, request, dry_run=True), None
    except WeatherdiffError as error:
        return Run(calendar=calendar_of(config.forecasts)), error
