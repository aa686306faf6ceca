"""SIGTERM and Ctrl-C: what is done is kept, and the exit code is never 0."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from weatherdiff.forecasting.writer import verify_forecast

INIT, NAME = "2020-01-30T06", "2020-01-30T06.zarr"
COMMANDS = {
    "batch": ("--init", INIT, "--now", "2020-01-30T07"),
    "forecast": ("--init", INIT),
}


@pytest.mark.parametrize("verb", COMMANDS)
@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.attempts("attempt", 1, 10)
def test_a_forecast_that_is_stopped_keeps_its_units(
    runs: Callable, site: Callable, verb: str, how: signal.Signals, code: int, attempt: int
) -> None:
    here = site()
    log = here.folder / "log"
    # Each of the three units calls the network twice: it stops in the second or in the third.
    hang = 3 + attempt % 4
    pid = runs.start(verb, here.config, *COMMANDS[verb], log=log, hang=hang)
    until = time.monotonic() + 600
    while len(list(here.forecasts.glob(".*.work/units/*.json"))) < (hang - 1) // 2:
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.02)
    time.sleep(0.02 * attempt)  # it may be on the way there
    os.kill(pid, how)
    assert runs.wait(pid) == code
    assert here.visible == []
    done = len(list(here.forecasts.glob(".*.work/units/*.json")))
    assert done == (hang - 1) // 2
    status, text = runs("batch", here.config, *COMMANDS["batch"])
    assert status == 0, text
    if verb == "batch":
        assert text.count('"event": "unit"') == 3 - done
    verify_forecast(here.forecasts / NAME)
    assert here.hidden == []
