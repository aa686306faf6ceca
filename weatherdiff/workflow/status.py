"""How scheduled runs stand: what is published, due, waiting and half made."""

from __future__ import annotations

import re

from weatherdiff.config import Config
from weatherdiff.errors import WeatherdiffError
from weatherdiff.sealed import unseal
from weatherdiff.workflow.batch import Request, batch
from weatherdiff.workflow.ledger import iso, read_ledger

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
    runs = read_ledger(config.forecasts)
    there = {name: run for name, run in runs.items() if "removed" not in run}
    lines = [f"clock      {iso(request.clock())}"]
    if there:
        newest, run = list(there.items())[-1]
        made = f"damaged: {run['damaged']}" if "damaged" in run else f"made {run['published']}"
        lines.append(f"newest     {newest}, {made}")
    lines.append(f"published  {len(there)}, removed as too old {len(runs) - len(there)}")
    try:
        found = batch(config, request, dry_run=True).plan
        for name, times in (("due", found.due), ("waiting", found.waiting)):
            lines.append(f"{name:10} {', '.join(map(iso, times)) or 'none'}")
    except WeatherdiffError as error:  # the rest is still of use
        lines.append(f"due        not known: {error}")
    for work in sorted(config.forecasts.glob(".*.zarr.????????.work")):
        name = re.sub(r"^\.(.*)\.zarr\.\w{8}\.work$", r"\1", work.name)
        done = len(list(work.glob("units/*.json")))
        try:
            units = unseal((work / "run.json").read_text())["units"]
        except (KeyError, OSError, ValueError):
            units = "?"
        lines.append(f"begun      {name}, {done} of {units} units")
    return "\n".join(lines)
