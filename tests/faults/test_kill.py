"""kill -9 at any moment: nothing partial is visible, and the next run ends as an unhurt one."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from weatherdiff.errors import MissingInputError
from weatherdiff.forecasting import open_forecasts
from weatherdiff.forecasting.writer import verify_forecast

NAMES = ["2020-01-30T06.zarr"]
BATCH = ("--now", "2020-01-30T07:00", "--max-lateness", "2h")
PUBLISHING = 100  # points from the manifest on, about
SHARES = 26  # equal parts of a run, in each of which one is killed in every run of the tests


@pytest.fixture
def uninterrupted(
    runs: Callable, site: Callable, hashes: Callable, tmp_path: Path, kept: dict[str, Any]
) -> tuple[dict[str, dict[str, str]], int, float]:
    """Content of the forecasts, points at which to be killed, and seconds, of a whole run."""
    if not kept:
        here = site()
        start = time.monotonic()
        code, text = runs("batch", here.config, *BATCH, count=str(tmp_path / "count"))
        assert code == 0, text
        assert here.visible == NAMES
        assert here.hidden == []
        kept["seconds"] = time.monotonic() - start
        kept["count"] = len(json.loads((tmp_path / "count").read_text()))
        kept["content"] = {name: hashes(here.forecasts / name) for name in NAMES}
    return kept["content"], kept["count"], kept["seconds"]


def check_killed(here: Any, whole: dict[str, dict[str, str]], hashes: Callable) -> list[str]:
    """Whatever is visible is whole; return the units that are done."""
    for name in here.visible:
        verify_forecast(here.forecasts / name)
        assert hashes(here.forecasts / name) == whole[name]
    if here.visible:
        assert open_forecasts(here.forecasts).sizes["init_time"] == len(here.visible)
    else:
        with pytest.raises(MissingInputError):
            open_forecasts(here.forecasts)
    return [
        f"{path.parents[1].name[1:14]} {int(path.stem)}"
        for path in here.forecasts.glob(".*.work/units/*.json")
        if f"{path.parents[1].name[1:14]}.zarr" not in here.visible
    ]


def check_resumed(
    here: Any, done: list[str], whole: dict[str, dict[str, str]], runs: Callable, hashes: Callable
) -> None:
    """The next run makes the units that are not done, and ends as an uninterrupted one."""
    before = here.visible
    code, text = runs("batch", here.config, *BATCH)
    assert code == 0, text
    assert here.visible == NAMES
    assert here.hidden == []
    for name in NAMES:
        verify_forecast(here.forecasts / name)
        assert hashes(here.forecasts / name) == whole[name]
    units = 3 * (len(NAMES) - len(before)) - len(done)
    assert text.count('"event": "unit"') == units


def kill_somewhere(
    runs: Callable, site: Callable, hashes: Callable, uninterrupted: tuple, seed: int, at: str
) -> None:
    whole, count, seconds = uninterrupted
    here, rng = site(), random.Random(seed)  # noqa: S311
    if at != "any time":
        first, last = (1, count) if at == "a point" else (count - PUBLISHING, count)
        if at == "a point" and seed < SHARES:  # no phase of a run is left out by chance
            first, last = 1 + count * seed // SHARES, count * (seed + 1) // SHARES
        code, _ = runs("batch", here.config, *BATCH, kill=rng.randint(first, last))
        assert code == -9
    else:
        pid = runs.start("batch", here.config, *BATCH)
        time.sleep(rng.uniform(0, seconds))
        os.kill(pid, signal.SIGKILL)  # until it is waited for, it keeps its number
        runs.wait(pid)
    check_resumed(here, check_killed(here, whole, hashes), whole, runs, hashes)


@pytest.mark.attempts("seed", SHARES, 400)
def test_a_run_killed_at_a_write_fsync_or_rename(
    runs: Callable, site: Callable, hashes: Callable, uninterrupted: tuple, seed: int
) -> None:
    kill_somewhere(runs, site, hashes, uninterrupted, seed, "a point")


@pytest.mark.attempts("seed", 2, 20)
def test_a_run_killed_while_it_publishes(
    runs: Callable, site: Callable, hashes: Callable, uninterrupted: tuple, seed: int
) -> None:
    kill_somewhere(runs, site, hashes, uninterrupted, seed, "the end")


@pytest.mark.attempts("seed", 3, 100)
def test_a_run_killed_at_any_time(
    runs: Callable, site: Callable, hashes: Callable, uninterrupted: tuple, seed: int
) -> None:
    kill_somewhere(runs, site, hashes, uninterrupted, seed, "any time")
