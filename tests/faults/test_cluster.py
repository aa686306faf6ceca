"""Members drawn by a cluster: the same bytes, also when workers die; what fails is named."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import yaml
from dask.distributed import Client, LocalCluster
from distributed.utils import get_mp_context

from weatherdiff.config import load_config
from weatherdiff.errors import ConfigError, InputError, StorageError, WeatherdiffError
from weatherdiff.forecasting import fanout
from weatherdiff.forecasting.writer import verify_forecast
from weatherdiff.tasks.crew import Crew
from weatherdiff.tasks.running import open_cluster
from weatherdiff.workflow.making import make_forecast
from weatherdiff.workflow.sampling import Sampler

INIT = np.datetime64("2020-01-30T06", "ns")
NAME = "2020-01-30T06.zarr"
COMMAND = ("batch", "--now", "2020-01-30T07", "--max-lateness", "2h")
PRODUCTS = {"mean": True, "quantiles": [0.5]}


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    """One worker process: when it dies, what it held is lost."""
    # It and those that follow it fork where all has been imported, rather than import it each.
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        imported = ["distributed", "weatherdiff.forecasting.forecaster", fanout.__name__]
        get_mp_context().set_forkserver_preload(imported)
        with open_cluster("local:1") as crew:
            yield crew


def make(here: Any, crew: Crew | None = None, **options: Any) -> list[dict[str, Any]]:
    """Make and publish the forecast; return what is reported."""
    reports: list[dict[str, Any]] = []
    sampler = Sampler(load_config(here.config))
    sampler.workers = crew
    make_forecast(sampler, INIT, report=lambda **facts: reports.append(facts), **options)
    verify_forecast(here.forecasts / NAME)
    assert here.hidden == []
    return reports


def without_members(here: Any) -> Any:
    """Ask for products alone."""
    document = yaml.safe_load(here.config.read_text())
    document["forecast"] |= {"keep_members": False, "products": PRODUCTS}
    here.config.write_text(yaml.safe_dump(document))
    return here


@pytest.fixture
def whole(site: Callable, hashes: Callable) -> dict[str, str]:
    """Hashes of a forecast that this process made."""
    here = site()
    make(here)
    return hashes(here.forecasts / NAME)


def poison(monkeypatch: pytest.MonkeyPatch, folder: Path, *, deaths: int, error: bool) -> None:
    """Let unit 1 fail so many times, once it is drawn."""
    plain = fanout.Drawing

    class Poisoned(plain):  # type: ignore[misc,valid-type]
        def _fail(self) -> None:
            before = len(list(folder.glob("*.fatal")))
            if before < deaths:
                (folder / f"{before}.fatal").touch()
                if error:
                    raise InputError("the unit is poison")
                os.kill(os.getpid(), 9)

        def unit(self, unit: int) -> Any:
            drawn = plain.unit(self, unit)
            if unit == 1:
                self._fail()
            return drawn

        def group(self, group: int, block: int, past: Any) -> Any:
            drawn = plain.group(self, group, block, past)
            if (group, block) == (1, 1):
                self._fail()
            return drawn

    monkeypatch.setattr(fanout, "Drawing", Poisoned)


def test_a_worker_that_dies_costs_nothing_but_time(
    crew: Crew,
    site: Callable,
    hashes: Callable,
    whole: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    poison(monkeypatch, tmp_path, deaths=1, error=False)
    here = site()
    reports = make(here, crew)
    assert sorted((r["unit"], r["members"]) for r in reports) == [(0, 2), (1, 2), (2, 1)]
    assert len(list(tmp_path.glob("*.fatal"))) == 1
    assert hashes(here.forecasts / NAME) == whole


@pytest.mark.deep
def test_members_in_lockstep_are_drawn_by_a_cluster(
    crew: Crew, site: Callable, hashes: Callable
) -> None:
    ours, theirs = without_members(site()), without_members(site())
    assert make(ours, crew) == make(theirs)
    assert hashes(ours.forecasts / NAME) == hashes(theirs.forecasts / NAME)


def test_a_unit_that_fails_three_times_is_named(
    crew: Crew,
    site: Callable,
    hashes: Callable,
    whole: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    poison(monkeypatch, tmp_path, deaths=3, error=True)
    here = site()
    with pytest.raises(
        InputError,
        match=r"Members 2 to 3 of the forecast from 2020-01-30T06 could not be done: tried 3 "
        r"times on the cluster; the last time, InputError: the unit is poison\.",
    ):
        make(here, crew)
    assert here.visible == []
    reports = make(here, crew)  # which is no poison any more; what was done stays done
    assert {r["unit"] for r in reports} <= {1, 2}
    assert hashes(here.forecasts / NAME) == whole


@pytest.mark.deep
@pytest.mark.parametrize("keep", [True, False])
def test_a_unit_that_kills_three_workers_is_named(
    site: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, keep: bool
) -> None:
    poison(monkeypatch, tmp_path, deaths=9, error=False)
    here = site() if keep else without_members(site())
    with open_cluster("local:2") as crew:
        with pytest.raises(WeatherdiffError, match=r"Members 2 to 3 .* the worker died") as caught:
            make(here, crew)
        assert caught.value.exit_code == 70
        assert len(list(tmp_path.glob("*.fatal"))) == 3  # no more workers than that
    monkeypatch.undo()
    make(here)


@contextmanager
def one_worker(runs: Any, log: Path) -> Iterator[tuple[Client, int]]:
    """Give a cluster of one worker, which nobody starts again."""
    with LocalCluster(
        n_workers=0, host="127.0.0.1", dashboard_address=":0", silence_logs=logging.CRITICAL
    ) as cluster:
        worker = runs.start(
            cluster.scheduler_address, "--no-nanny", "--no-dashboard", "--nthreads=1",
            program="distributed.cli.dask_worker", log=log,
        )  # fmt: skip
        with Client(cluster) as client:
            client.wait_for_workers(1)
            yield client, worker


@pytest.mark.parametrize("keep", [True, pytest.param(False, marks=pytest.mark.deep)])
def test_a_cluster_that_loses_all_its_workers_is_given_up_and_the_units_are_named(
    runs: Any,
    site: Callable,
    hashes: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    keep: bool,
) -> None:
    poison(monkeypatch, tmp_path, deaths=1, error=False)
    here, other = (site() if keep else without_members(site()) for _ in range(2))
    with one_worker(runs, tmp_path / "log") as (client, worker):
        with pytest.raises(
            StorageError, match=r"no workers for 0\.5 s; not done: members 2 to 3, 4 to 4 of "
        ) as caught:
            make(here, Crew(client, 0.5))
        assert runs.wait(worker) == -signal.SIGKILL
    assert caught.value.exit_code == 74
    assert here.visible == []
    monkeypatch.undo()
    reports = make(here)
    assert [report["unit"] for report in reports] == [1, 2][: 2 if keep else 1]
    make(other)
    assert hashes(here.forecasts / NAME) == hashes(other.forecasts / NAME)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(10))
def test_workers_killed_at_any_time(
    site: Callable, hashes: Callable, whole: dict[str, str], seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311
    here = site() if seed % 2 else without_members(site())
    if not seed % 2:
        other = without_members(site())
        make(other)
        whole = hashes(other.forecasts / NAME)
    with open_cluster("local:2") as crew:
        ended = threading.Event()
        killed = []

        def kill() -> None:
            pids = list(crew.client.run(os.getpid).values())
            if not ended.wait(rng.uniform(0, 3)):
                pid = rng.choice(pids)
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

        killer = threading.Thread(target=kill)
        killer.start()
        make(here, crew)
        ended.set()
        killer.join()
    assert hashes(here.forecasts / NAME) == whole


def drawing(runs: Any, here: Any, log: Path, *, workers: int) -> int:
    """Start a run with a cluster, and wait until it draws; return its process."""
    pid = runs.start(*COMMAND, here.config, "--scheduler", f"local:{workers}", log=log)
    limit = time.monotonic() + 300
    while time.monotonic() < limit and not list(here.forecasts.glob(".*.work/begun/*")):
        time.sleep(0.01)
    return int(pid)


@pytest.mark.deep
def test_the_command_line_fans_out_and_outlives_a_worker(
    runs: Callable, site: Callable, hashes: Callable, whole: dict[str, str], tmp_path: Path
) -> None:
    here, log = site(), tmp_path / "log"
    pid = drawing(runs, here, log, workers=2)
    for worker in _workers(pid)[:1]:
        os.kill(worker, signal.SIGKILL)
    assert runs.wait(pid) == 0, log.read_text()
    assert hashes(here.forecasts / NAME) == whole
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["unit"] for line in lines if line["event"] == "unit"] != []
    assert sum(line["event"] == "published" for line in lines) == 1


@pytest.mark.deep
def test_a_run_with_a_cluster_that_is_told_to_stop_is_gone_on_with(
    runs: Callable, site: Callable, hashes: Callable, whole: dict[str, str], tmp_path: Path
) -> None:
    here, log = site(), tmp_path / "log"
    pid = drawing(runs, here, log, workers=1)
    os.kill(pid, signal.SIGTERM)
    assert runs.wait(pid) == 143, log.read_text()
    assert here.visible == []
    assert runs(*COMMAND, here.config)[0] == 0
    assert hashes(here.forecasts / NAME) == whole


def _workers(pid: int) -> list[int]:
    """Give the processes of a run that were spawned to work."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = status.read_text().split("PPid:")[1].split()[0]
            if int(parent) == pid and "spawn_main" in (status.parent / "cmdline").read_text():
                found.append(int(status.parent.name))
        except OSError:
            continue
    return sorted(found)


def test_threads_are_no_cluster(site: Callable) -> None:
    with pytest.raises(ConfigError, match=r"forecast\.scheduler: threads are PyTorch's here"):
        load_config(site().config, ["forecast.scheduler=threads"])


def test_what_publishes_nothing_is_refused(site: Callable) -> None:
    with pytest.raises(ConfigError, match="without members"):
        load_config(site().config, ["forecast.keep_members=false"])
