"""Days of kills, late input and full disks: each initial time is published exactly once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

from weatherdiff.forecasting.writer import verify_forecast

CODES = {-9, 0, 66, 74, 143, -15}  # the last: SIGTERM before anything has begun


@pytest.mark.parametrize("cycles", [10, pytest.param(200, marks=pytest.mark.deep)])
def test_whatever_happens_each_initial_time_is_published_once(
    runs: Callable, site: Callable, cycles: int
) -> None:
    rng = random.Random(cycles)  # noqa: S311
    here = site(max_lateness="3D")
    path = here.folder / "analyses.nc"
    with xr.open_dataset(path) as opened:
        whole = opened.load()
    clock = np.datetime64("2020-01-29T01:00", "m")
    step = np.timedelta64(3 * 24 * 60 // cycles, "m")
    made: dict[str, int] = {}
    kinds = rng.sample(["none", "kill", "room", "slow"] * (cycles // 4 + 1), cycles)
    for kind in kinds:
        clock += step
        late = np.timedelta64(rng.choice([30, 60, 500]), "m")
        path.unlink()
        whole.sel(time=slice(None, (clock - late).astype("datetime64[ns]"))).to_netcdf(path)
        fault: dict[str, Any] = {
            "none": {},
            "kill": {"kill": rng.randint(1, 600)},
            "room": {"room": rng.randint(0, 90_000)},
            "slow": {"slow": 0.02},
        }[kind]
        pid = runs.start("batch", here.config, "--now", str(clock), **fault)
        if kind == "slow":
            time.sleep(rng.uniform(0, 1))
            os.kill(pid, signal.SIGTERM)
        assert runs.wait(pid) in CODES
        for name in here.visible:
            verify_forecast(here.forecasts / name)
            number = (here.forecasts / name).stat().st_ino
            assert made.setdefault(name, number) == number
        assert set(made) == set(here.visible)
    assert len(set(kinds)) == 4
    path.unlink()
    whole.to_netcdf(path)
    assert runs("batch", here.config, "--now", str(clock))[0] == 0
    # None of those that came due while all this went on is ever too late.
    due = np.arange("2020-01-29T06", clock.astype("datetime64[h]") + 1, 6, "datetime64[h]")
    assert here.visible[-len(due) :] == [f"{hour}.zarr" for hour in due]
    assert here.hidden == []
    for name, number in made.items():
        assert (here.forecasts / name).stat().st_ino == number
