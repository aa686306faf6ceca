"""A cluster that is not there, or has nobody at work: every verb gives up, and says what is left.

The commands run in this process, and so does the scheduler.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dask.distributed import LocalCluster

from weatherdiff.cli import main
from weatherdiff.tasks import running

#: What each verb names of what it has not done.
LEFT = {
    "prepare": "tasks? 0",
    "forecast": "members 0 to 1, 2 to 3, 4 to 4 of the forecast from 2020-01-30T06",
    "batch": "members 0 to 1, 2 to 3, 4 to 4 of the forecast from 2020-01-30T06",
    "evaluate": "the scores of the forecast from 2020-01-30T06:00",
}
#: ``forecast`` waits for a cluster as ``batch`` does.
VERBS = ["prepare", pytest.param("forecast", marks=pytest.mark.deep), "batch", "evaluate"]
NOW = ("--now", "2020-01-30T07", "--max-lateness", "2h")


@pytest.fixture
def tried(
    workshop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run a verb that is due on a cluster; return the exit code and what was said."""

    def run(verb: str, scheduler: str) -> tuple[int, str]:
        here = workshop.due("forecast" if verb == "batch" else verb, tmp_path / "here")
        more = NOW if verb == "batch" else ()
        command = [verb, str(here.config), "--scheduler", scheduler, "--set", "worker_timeout=0.1"]
        code = main([*command, *more])
        return code, capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def idle() -> Iterator[str]:
    """Give the address of a scheduler without workers."""
    with LocalCluster(
        n_workers=0, processes=False, dashboard_address=":0", silence_logs=logging.CRITICAL
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.parametrize("verb", VERBS)
def test_a_cluster_without_workers_is_given_up(
    tried: Callable[..., tuple[int, str]], idle: str, verb: str
) -> None:
    code, text = tried(verb, idle)
    assert code == 74, text
    said = rf"The cluster has had no workers for 0\.1 s; not done: {LEFT[verb]}"
    assert re.search(said, text), text
    assert "What is done is kept: run again when there are workers." in text


@pytest.mark.parametrize("verb", VERBS)
def test_an_address_without_a_scheduler_is_given_up(
    tried: Callable[..., tuple[int, str]], verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "ANSWER", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    code, text = tried(verb, address)
    assert code == 74, text
    assert f"There is no dask scheduler at {address}, or none that answers within 0.1 s" in text
