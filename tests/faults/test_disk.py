"""A full disk: exit code 74, nothing published, what was there intact, and the next run goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from weatherdiff.forecasting.writer import verify_forecast

NOW = ("--now", "2020-01-30T07")
NAME = "2020-01-30T06.zarr"
EARLIER = "2020-01-29T18.zarr"


def check_full(runs: Callable, here: object, code: int, text: str) -> None:
    assert code == 74, text
    assert "No space left" in text
    assert '"level": "error"' in text.splitlines()[-1]
    assert here.visible == [EARLIER]
    verify_forecast(here.forecasts / EARLIER)


@pytest.mark.parametrize(
    "room", [20_000, *(pytest.param(n, marks=pytest.mark.deep) for n in range(500, 45_000, 5000))]
)
def test_a_disk_that_fills_up_publishes_nothing(runs: Callable, site: Callable, room: int) -> None:
    here = site(max_lateness="2h")
    assert runs("batch", here.config, "--init", "2020-01-29T18", "--now", "2020-01-30T00")[0] == 0
    check_full(runs, here, *runs("batch", here.config, *NOW, room=room))
    code, text = runs("batch", here.config, *NOW)
    assert code == 0, text
    assert here.visible == [EARLIER, NAME]
    assert here.hidden == []
    verify_forecast(here.forecasts / NAME)


@pytest.mark.parametrize(
    "free", [24, *(pytest.param(n, marks=pytest.mark.deep) for n in range(4, 100, 10))]
)
def test_a_small_file_system_that_is_full_publishes_nothing(
    runs: Callable, site: Callable, small_disk: Callable[[int], Path], free: int
) -> None:
    first = site(max_lateness="2h")
    assert runs("batch", first.config, "--init", "2020-01-29T18", "--now", "2020-01-30T00")[0] == 0
    disk = small_disk(4000)
    shutil.copytree(first.folder, disk / "site")
    here = site(disk / "site", max_lateness="2h")
    left = shutil.disk_usage(disk).free
    (disk / "filler").write_bytes(b"x" * max(0, left - 1024 * free))
    check_full(runs, here, *runs("batch", here.config, *NOW))
    (disk / "filler").unlink()
    code, text = runs("batch", here.config, *NOW)
    assert code == 0, text
    assert here.visible == [EARLIER, NAME]
    assert here.hidden == []
