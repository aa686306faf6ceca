"""Scheduled runs: what is due by the clock, the input and what is published is made, once.

A run may be killed at any moment and started again. Its state is in the folders: a forecast that is
there is published and whole; hidden beside it is what has been begun.

In the calendar of a climate model there is no today: now is the newest time of the data. Initial
times are then seconds of that calendar, and nothing is said of how late a forecast is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr

from weatherdiff.config import Config
from weatherdiff.data.calendars import Calendar
from weatherdiff.data.windows import seconds
from weatherdiff.errors import (
    ConfigError,
    InputError,
    LockedError,
    MissingInputError,
    StorageError,
    WeatherdiffError,
    exit_code_of,
)
from weatherdiff.forecasting.cycle import Cycle, Plan, parse_span, plan
from weatherdiff.forecasting.fallback import older_start
from weatherdiff.journal import tell
from weatherdiff.workflow.fields import open_source, window_spec
from weatherdiff.workflow.ledger import path_of, published_times, record_runs
from weatherdiff.workflow.making import Share, make_forecast
from weatherdiff.workflow.metrics import ping, write_metrics
from weatherdiff.workflow.retention import prune
from weatherdiff.workflow.sampling import Sampler

__all__ = ["Request", "Run", "batch", "find_due", "plan_text"]

#: What a run with several troubles ends with: the first of these.
GRAVEST = (StorageError, InputError, MissingInputError, LockedError)


@dataclass(frozen=True)
class Request:
    """What one run is asked for beside the configuration.

    Attributes
    ----------
    now : int, optional
        Seconds since 1970-01-01 UTC, instead of the clock; of the standard calendar.
    init_times : tuple of str
        These alone, whatever the cycle and the lateness.
    backfill : str, optional
        Look back so far, where that is further than ``max_lateness``.
    max_lateness : str, optional
        Instead of the configured one.
    share : Share, optional
        Make only some units; other processes make the others.
    """

    now: int | None = None
    init_times: tuple[str, ...] = ()
    backfill: str | None = None
    max_lateness: str | None = None
    share: Share | None = None

    def clock(self) -> int:
        """Tell the time, in seconds since 1970-01-01 UTC."""
        return int(time.time()) if self.now is None else self.now


@dataclass
class Run:
    """What one run comes to."""

    plan: Plan = field(default_factory=lambda: Plan([], [], []))
    older: dict[int, int] = field(default_factory=dict)
    """Due, but for the input -> what they start from instead."""
    published: list[int] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    units: int = 0
    troubles: list[WeatherdiffError] = field(default_factory=list)
    calendar: Calendar = field(default_factory=Calendar)
    """That of the data, in whose seconds all times here are."""


def batch(config: Config, request: Request | None = None, *, dry_run: bool = False) -> Run:
    """Make and publish what is due; running again does nothing.

    Parameters
    ----------
    config : Config
    request : Request, optional
    dry_run : bool
        Find out what is due, and do none of it.

    Raises
    ------
    MissingInputError
        An initial time that is due lacks its input; those that have it are published.
    InputError
        The input or a published forecast is damaged, or the forecast is not finite. The other
        initial times are published.
    StorageError
        The disk is full or fails. Nothing more is tried.
    LockedError
        Another process makes a forecast that is due; the others are published.
    ConfigError
        Settings that cannot be.
    """
    request = request or Request()
    run, start, code = Run(), time.monotonic(), 0
    if dry_run:
        _find_due(config, request, run)
        return run
    try:
        config.forecasts.mkdir(parents=True, exist_ok=True)
        _make_due(config, request, run)
    except BaseException as error:
        code = exit_code_of(error)
        raise
    finally:
        _end(config, request, run, code, time.monotonic() - start)
    return run


def plan_text(
    found: Plan, older: Mapping[int, int] | None = None, calendar: Calendar | None = None
) -> str:
    """Write a plan, a line for each initial time.

    Parameters
    ----------
    found : Plan
    older : mapping, optional
        Initial times that start from an older analysis -> that.
    calendar : Calendar, optional
        Of the times, the standard one unless given.

    Examples
    --------
    >>> print(plan_text(Plan(due=[1532066400], waiting=[1532088000], published=[])))
    due       2018-07-20T06:00Z
    waiting   2018-07-20T12:00Z
    """
    iso = (calendar or Calendar()).iso
    lines = [f"{name:9} {iso(t)}" for name, times in found._asdict().items() for t in times]
    lines += [f"fallback  {iso(t)} from {iso(start)}" for t, start in (older or {}).items()]
    return "\n".join(lines) or "nothing is due"


def find_due(
    config: Config,
    request: Request,
    available: Callable[[int], bool],
    calendar: Calendar | None = None,
) -> Plan:
    """Sort the initial times that a run is asked for.

    Parameters
    ----------
    config : Config
    request : Request
    available : callable
        Whether the input of an initial time is there.
    calendar : Calendar, optional
        Of the data and of all times, the standard one unless given.

    Raises
    ------
    ConfigError
        What is asked for would be removed as too old at once.
    """
    options, now = config.batch, request.clock()
    keep = None if options.keep is None else parse_span(options.keep)
    lateness = options.max_lateness if request.max_lateness is None else request.max_lateness
    reach = parse_span(lateness)
    if request.backfill is not None:
        reach = max(reach, parse_span(request.backfill))
    there = published_times(config.forecasts)
    if request.init_times:
        candidates = [(calendar or Calendar()).parse(t) for t in request.init_times]
        oldest = max([*there, *candidates]) - min(candidates)
    else:
        candidates = Cycle.parse(options.cycle).between(now - reach, now)
        oldest = reach
    if keep is not None and oldest > keep:
        raise ConfigError(
            f"Asked for initial times up to {oldest / 3600:g} h old, but batch.keep is "
            f"{options.keep}: they would be removed at once."
        )
    return plan(candidates, published=set(there).__contains__, available=available)


def _find_due(config: Config, request: Request, run: Run) -> xr.Dataset:
    """Put into the run what is due; give the data."""
    ds = open_source(config)
    if "time" not in ds.coords:
        raise InputError("Scheduled runs need data with a time.")
    run.calendar = Calendar.of(ds["time"])
    times, spec = set(seconds(ds["time"].values).tolist()), window_spec(config)
    if not run.calendar.standard:
        request = _by_the_data(request, run.calendar, max(times))
    _require_same_calendar(config, run.calendar)
    history = spec.offsets[: spec.history].tolist()

    def available(init: int) -> bool:
        return all(init + offset in times for offset in history)

    found = find_due(config, request, available, run.calendar)
    older: dict[int, int] = {}
    options = config.batch
    # Shares that look at other moments could start from other analyses.
    if options.fallback is not None and request.share is None:
        latest = request.clock() - parse_span(options.fallback_after)
        reach = parse_span(options.fallback)
        for init in [time for time in found.waiting if time <= latest]:
            start = older_start(init, step=spec.step, reach=reach, available=available)
            if start is not None:
                older[init] = start
                found.waiting.remove(init)
    run.plan, run.older = found, older
    return ds


def _by_the_data(request: Request, calendar: Calendar, newest: int) -> Request:
    """Set the clock to the newest time of the data."""
    if request.now is not None:
        raise InputError(
            f"The data are in the calendar {calendar.name}, where no time of the clock has a "
            f"meaning: now is their newest time, {calendar.iso(newest)}. Leave out --now, or name "
            "the initial times with batch --init."
        )
    return replace(request, now=newest)


def _require_same_calendar(config: Config, calendar: Calendar) -> None:
    from weatherdiff.forecasting.writer import calendar_of

    theirs = calendar_of(config.forecasts, default=calendar)
    if theirs != calendar:
        raise InputError(
            f"The data are in the calendar {calendar.name}, the forecasts of {config.forecasts} in "
            f"the calendar {theirs.name}; choose another output folder."
        )


def _make_due(config: Config, request: Request, run: Run) -> None:
    ds, iso = _find_due(config, request, run), run.calendar.iso
    due, waiting, published = run.plan
    facts: dict[str, Any] = {"due": [iso(t) for t in due], "waiting": [iso(t) for t in waiting]}
    if run.older:
        facts["fallback"] = {iso(t): iso(start) for t, start in run.older.items()}
    tell("plan", **facts)
    run.troubles += _damaged(config, published, run.calendar)
    sampler, cycle = None, Cycle.parse(config.batch.cycle)
    with ExitStack() as stack:
        for init in [*due, *run.older]:
            try:
                if sampler is None:
                    loaded = Sampler(config, ds)
                    stack.enter_context(loaded.crew())
                    sampler = loaded
                _make(sampler, init, cycle.ordinal(init), request, run)
            except StorageError as error:  # which the next would meet, too
                tell("failed", init_time=iso(init), error=str(error))
                run.troubles.append(error)
                break
            except (InputError, MissingInputError, LockedError) as error:
                tell("failed", init_time=iso(init), error=str(error))
                run.troubles.append(error)
    if waiting:
        more = f" (and for {len(waiting) - 1} more)" if len(waiting) > 1 else ""
        last = iso(seconds(ds["time"].values).max())
        run.troubles.append(
            MissingInputError(
                f"The input for {iso(waiting[0])}{more} is not there yet; the data reach to {last}."
            )
        )
    _remove_old(config, run)
    for kind in GRAVEST:
        for trouble in run.troubles:
            if isinstance(trouble, kind):
                raise trouble


def _damaged(config: Config, published: list[int], calendar: Calendar) -> list[WeatherdiffError]:
    """Look whether what is published is still there, by name and size."""
    from weatherdiff.forecasting.writer import forecast_attributes

    troubles: list[WeatherdiffError] = []
    for init in published:
        try:
            forecast_attributes(path_of(config.forecasts, init, calendar))
        except MissingInputError:  # removed by another run
            continue
        except InputError as error:
            tell("damaged", init_time=calendar.iso(init), error=str(error))
            troubles.append(InputError(f"{error} Remove the folder to have it made again."))
    return troubles


def _make(sampler: Sampler, init: int, ordinal: int, request: Request, run: Run) -> None:
    start, older, iso = time.monotonic(), run.older.get(init), run.calendar.iso

    def report(**facts: Any) -> None:
        run.units += 1
        tell("unit", init_time=iso(init), **facts)

    path = make_forecast(
        sampler,
        run.calendar.dates([init])[0],
        older=None if older is None else run.calendar.dates([older])[0],
        share=request.share,
        ordinal=ordinal,
        report=report,
    )
    if path is None:
        tell("left to others", init_time=iso(init))
        return
    run.published.append(init)
    late = {"lateness_seconds": request.clock() - init} if run.calendar.standard else {}
    facts: dict[str, Any] = {
        "published": iso_now(),
        **late,
        "seconds": round(time.monotonic() - start, 3),
        "members": sampler.config.forecast.members,
    }
    if older is not None:
        facts["fallback"] = iso(older)
    record_runs(path.parent, {iso(init): facts})
    tell("published", init_time=iso(init), path=str(path), **facts)


def _remove_old(config: Config, run: Run) -> None:
    """Remove what has been kept long enough, and bring the ledger up to date."""
    options, iso = config.batch, run.calendar.iso
    keep = None if options.keep is None else parse_span(options.keep)
    run.removed = prune(config.forecasts, keep=keep, at_least=options.keep_at_least)
    if run.removed:
        tell("removed", init_times=[iso(t) for t in run.removed])
    record_runs(config.forecasts, {iso(t): {"removed": iso_now()} for t in run.removed})


def _end(config: Config, request: Request, run: Run, code: int, duration: float) -> None:
    """Tell all that want to know; what fails here fails nothing."""
    options, now = config.batch, request.clock()
    if options.metrics is not None:
        newest = published_times(config.forecasts)[-1:]
        values: dict[str, float] = {
            "last_run_timestamp_seconds": time.time(),
            "exit_code": code,
            "duration_seconds": duration,
            "published": len(run.published),
            "waiting": len(run.plan.waiting),
            "failures": len([t for t in run.troubles if type(t) is not MissingInputError]),
            "units": run.units,
        }
        if newest and run.calendar.standard:
            values["newest_init_timestamp_seconds"] = newest[0]
            values["lateness_seconds"] = now - newest[0]
        if code == 0:
            values["last_success_timestamp_seconds"] = values["last_run_timestamp_seconds"]
        write_metrics(options.metrics, values)
    tell(
        "finished",
        exit_code=code,
        published=[run.calendar.iso(t) for t in run.published],
        units=run.units,
        seconds=round(duration, 3),
    )
    if options.ping is not None and code == 0:
        ping(options.ping, timeout=options.ping_timeout)


def iso_now() -> str:
    """Tell the time of the clock, in UTC."""
    return f"{np.datetime64(int(time.time()), 's')}Z"
