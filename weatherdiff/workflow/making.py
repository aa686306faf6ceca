"""One forecast, from the model and the input to a published folder: for ``forecast`` and ``batch``.

The members are drawn unit by unit, see :mod:`weatherdiff.forecasting.work`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from weatherdiff.data.calendars import Calendar, written
from weatherdiff.data.windows import seconds
from weatherdiff.errors import ConfigError, LockedError
from weatherdiff.forecasting.lockstep import advance
from weatherdiff.forecasting.work import Work
from weatherdiff.journal import tell
from weatherdiff.signals import stop_if_asked
from weatherdiff.staging import remove_leftovers
from weatherdiff.workflow.record import digest, versions
from weatherdiff.workflow.sampling import MADE_WITH, Sampler

__all__ = ["Share", "make_forecast"]

PATIENCE = 30  # seconds that a share waits for another to publish


@dataclass(frozen=True)
class Share:
    """Which units are ours when several processes make the same forecasts.

    Parameters
    ----------
    index, count : int
        We are the ``index``-th, from 1, of ``count``.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """Read "3/8".

        Raises
        ------
        ConfigError
            Not such a share.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(
                f'Not a share: {text!r}; write for example "3/8", the third of eight.'
            )
        return cls(int(found[1]), int(found[2]))

    def has(self, ordinal: int) -> bool:
        """Tell whether a unit is ours, by its position among all there will ever be."""
        return ordinal % self.count == self.index - 1


def make_forecast(
    sampler: Sampler,
    init_time: np.datetime64,
    *,
    older: np.datetime64 | None = None,
    overwrite: bool = False,
    share: Share | None = None,
    ordinal: int = 0,
    report: Callable[..., None] = lambda **_: None,
) -> Path | None:
    """Make and publish one forecast; units that an earlier run has finished are taken over.

    Parameters
    ----------
    sampler : Sampler
    init_time : datetime64
    older : datetime64, optional
        What it starts from instead, as its own input is not there.
    overwrite : bool
        Replace a forecast that is there.
    share : Share, optional
        Make only its units. Whoever finds all units done publishes.
    ordinal : int
        Position of the initial time among all there will ever be.
    report : callable, optional
        Called with keywords ``unit``, ``of`` and ``members`` after each unit.

    Returns
    -------
    Path or None
        None if others have published it or will.

    Raises
    ------
    LockedError
        Another process makes it.
    MissingInputError, InputError, StorageError
        Nothing is published then; units that are done stay for the next run.
    """
    started = datetime.now(UTC)
    keep = sampler.config.forecast.keep_members
    if not keep and share is not None:  # all members advance together: a forecast is one unit
        if not share.has(ordinal):
            return None
        share = None
    analyses = sampler.history(init_time if older is None else older)
    fingerprint = _fingerprint(analyses)
    labels = {"input_sha256": fingerprint}
    if older is not None:
        labels["fallback"] = (
            f"started from the analysis of {written(older, 'm')}Z, as that of the "
            "initial time was not there"
        )
    work = Work(
        folder=sampler.config.forecasts,
        example=sampler.example(init_time),
        lead_times=sampler.lead_times,
        block=sampler.block,
        attributes={**sampler.attributes, **labels},
        valid=sampler.valid,
        products=sampler.products,
        keep_members=keep,
    )

    def draw(numbers: range) -> Iterator[xr.Dataset]:
        if older is None:
            return sampler.blocks(init_time, numbers, analyses)
        return sampler.older_blocks(init_time, older, numbers, analyses)

    # Either refuses input that is absent or unfit before anything is written.
    rollout = None if keep else sampler.blocks(init_time, None, analyses)
    if rollout is None:
        draw(work.units[0])
    made: list[int] = []

    def done(unit: int) -> None:
        made.append(unit)
        members = len(work.units[unit]) if keep else sampler.config.forecast.members
        report(unit=unit, of=len(work.units), members=members)

    with work.locked() if share is None else _sharing(work):
        if share is None:
            remove_leftovers(work.folder, of=work.path.name)
        if work.path.exists() and not overwrite:
            return None
        work.begin()
        if rollout is None:
            ours = [
                unit for unit in work.due()
                if share is None or share.has(ordinal * len(work.units) + unit)
            ]  # fmt: skip
            _draw_members(sampler, work, ours, init_time, analyses, draw, done)
        else:
            if sampler.workers is not None:
                from weatherdiff.forecasting.fanout import draw_groups

                drawing = sampler.drawing(init_time, analyses, work.writer)
                told = _telling(init_time, sampler.calendar)
                rollout.drawer = draw_groups(sampler.workers, drawing, rollout.groups, failed=told)
            for unit in advance(work, rollout):
                done(unit)
                stop_if_asked()
        stop_if_asked()
        record = _record(sampler, init_time, analyses, fingerprint, started, made)
        if share is None:
            return work.publish(record, overwrite=overwrite)
    for _ in range(PATIENCE):
        try:
            with work.locked():
                if work.path.exists() or work.due():
                    return None
                return work.publish(record)
        except LockedError:
            if work.path.exists() or work.due():  # one that is still at a unit comes here after
                return None
            time.sleep(1)  # another publishes, or cleans up
    return None


def _draw_members(
    sampler: Sampler,
    work: Work,
    units: list[int],
    init_time: np.datetime64,
    analyses: xr.Dataset,
    draw: Callable[[range], Iterator[xr.Dataset]],
    done: Callable[[int], None],
) -> None:
    """Draw units of members, one after the other, or by a cluster."""
    if sampler.workers is None:
        for unit in units:
            stop_if_asked()
            work.put(unit, draw(work.units[unit]))
            done(unit)
        return

    from weatherdiff.forecasting.fanout import draw_units

    drawing = sampler.drawing(init_time, analyses, work.writer)
    told = _telling(init_time, sampler.calendar)
    for drawn in draw_units(sampler.workers, drawing, units, failed=told):
        stop_if_asked()
        work.take(drawn)
        done(drawn.unit)


def _telling(init_time: np.datetime64, calendar: str) -> Callable[[range, int, str], None]:
    """Tell of members that a cluster could not draw, and will be given again."""

    def told(numbers: range, times: int, cause: str) -> None:
        tell(
            "unit failed",
            level=logging.WARNING,
            init_time=f"{Calendar(calendar).text(seconds([init_time])[0])[:-3]}Z",
            members=[numbers.start, numbers.stop - 1],
            times=times,
            cause=cause,
        )

    return told


@contextmanager
def _sharing(work: Work) -> Iterator[None]:
    """Share the units; if one of those that share is just publishing, wait for it."""
    with ExitStack() as stack:
        for attempt in range(PATIENCE):
            try:
                stack.enter_context(work.locked(shared=True))
                break
            except LockedError:
                if attempt == PATIENCE - 1:
                    raise
                time.sleep(1)
        yield


def _record(
    sampler: Sampler,
    init_time: np.datetime64,
    analyses: xr.Dataset,
    fingerprint: str,
    started: datetime,
    made: list[int],
) -> dict[str, Any]:
    """Tell in plain types how a forecast was made."""
    config, calendar = sampler.config, Calendar.of(analyses["time"])
    settings = config.model_dump(mode="json")
    return {
        "run": {
            "format": "weatherdiff run",
            "version": 1,
            "init_time": f"{calendar.text(seconds([init_time])[0])}Z",
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": config.forecast.seed,
            "members": config.forecast.members,
            "units_made_by_the_last_run": made,
            "settings": json.loads(sampler.attributes[MADE_WITH]),
            "configuration": settings,
            "configuration_sha256": digest(settings),
            "model": {
                "folder": str(config.model_folder),
                "weights_sha256": json.loads(sampler.attributes[MADE_WITH])["weights_sha256"],
                "description_sha256": sampler.identity,
            },
            "input": {
                "sha256": fingerprint,
                "times": [f"{calendar.text(t)}Z" for t in seconds(analyses["time"].values)],
                "source": config.data.model_dump(mode="json")["source"],
            },
            "packages": {"python": platform.python_version(), **versions()},
            "machine": platform.platform(),
        }
    }


def _fingerprint(ds: xr.Dataset) -> str:
    """Hash times and values of what a forecast starts from."""
    total = hashlib.sha256(seconds(ds["time"].values).tobytes())
    for name in sorted(map(str, ds.data_vars)):
        total.update(name.encode())
        total.update(np.ascontiguousarray(ds[name].to_numpy()).tobytes())
    return total.hexdigest()
