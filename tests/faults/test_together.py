"""Several runs at once: each forecast is published once, and no unit is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from weatherdiff.forecasting.writer import verify_forecast

INITS = [f"2020-01-{day}T{hour:02}" for day in (29, 30) for hour in (0, 6, 12, 18)]


def together(
    runs: Callable, commands: list[list[object]], soon: float, logs: Path, slow: float = 0.05
) -> list[int]:
    """Start all at one moment; return the exit codes."""
    logs.mkdir()
    pids = [
        runs.start(*command, log=logs / str(i), start=soon, slow=slow)
        for i, command in enumerate(commands)
    ]
    return [runs.wait(pid) for pid in pids]


@pytest.mark.attempts("attempt", 2, 20)
def test_of_eight_runs_of_one_initial_time_one_publishes_and_the_others_exit_with_75(
    runs: Callable, site: Callable, soon: Callable, tmp_path: Path, attempt: int
) -> None:
    here = site()
    command = ["batch", here.config, "--init", "2020-01-30T06", "--now", "2020-01-30T07"]
    codes = together(runs, [command] * 8, soon(), tmp_path / "logs", slow=0.25)
    logs = [(tmp_path / "logs" / str(i)).read_text() for i in range(8)]
    assert sum('"event": "published"' in log for log in logs) == 1
    late = sum('"due": []' in log for log in logs)  # came when it was published already
    assert sorted(codes) == [0] * (1 + late) + [75] * (7 - late)
    assert late < 7
    assert here.visible == ["2020-01-30T06.zarr"]
    assert here.hidden == []
    verify_forecast(here.forecasts / here.visible[0])


@pytest.mark.attempts("attempt", 1, 5)
def test_runs_of_different_initial_times_all_publish(
    runs: Callable, site: Callable, soon: Callable, tmp_path: Path, attempt: int
) -> None:
    here = site(members=2)
    commands = [["batch", here.config, "--init", t, "--now", "2020-01-31T00"] for t in INITS]
    assert together(runs, commands, soon(), tmp_path / "logs") == [0] * 8
    assert here.visible == [f"{t}.zarr" for t in INITS]
    assert here.hidden == []
    for name in here.visible:
        verify_forecast(here.forecasts / name)
    code, text = runs("batch", here.config, "--now", "2020-01-30T20", "--max-lateness", "8h")
    assert (code, '"event": "published"' in text) == (0, False)


@pytest.mark.parametrize("count", [pytest.param(2, marks=pytest.mark.deep), 5])
def test_shares_make_what_one_run_makes_each_unit_once(
    runs: Callable,
    site: Callable,
    soon: Callable,
    hashes: Callable,
    tmp_path: Path,
    count: int,
) -> None:
    alone, here = site(), site()
    assert runs("batch", alone.config, "--now", "2020-01-30T13")[0] == 0
    commands = [
        ["batch", here.config, "--now", "2020-01-30T13", "--shard", f"{i + 1}/{count}"]
        for i in range(count)
    ]
    assert together(runs, commands, soon(), tmp_path / "logs") == [0] * count
    assert here.visible == alone.visible
    assert here.hidden == []
    for name in alone.visible:
        assert hashes(here.forecasts / name) == hashes(alone.forecasts / name)
    units = [
        line
        for log in (tmp_path / "logs").iterdir()
        for line in log.read_text().splitlines()
        if '"event": "unit"' in line
    ]
    assert len(units) == 6


def test_a_share_that_died_leaves_the_forecast_to_the_next_run(
    runs: Callable, site: Callable
) -> None:
    here = site()
    now = ("--now", "2020-01-30T07", "--max-lateness", "2h")
    assert runs("batch", here.config, *now, "--shard", "1/2")[0] == 0
    assert here.visible == []
    code, text = runs("batch", here.config, *now)
    assert (code, here.visible) == (0, ["2020-01-30T06.zarr"])
    assert 0 < text.count('"event": "unit"') < 3
