"""Scores by a cluster: the same bits; workers that die cost nothing but time, or are named."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from dask.distributed import Client, LocalCluster

from weatherdiff.errors import StorageError, WeatherdiffError
from weatherdiff.evaluation import Persistence, Settings, open_scores, statistics
from weatherdiff.tasks.crew import Crew
from weatherdiff.tasks.running import open_cluster


@contextmanager
def cluster(workers: int) -> Iterator[Crew]:
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as found,
        Client(found, set_as_default=False) as client,
    ):
        yield Crew(client, 0.2)


def test_a_crew_gives_the_same_bits_and_leaves_no_notes(
    forecasts: xr.Dataset, analyses: xr.Dataset, tmp_path: Path
) -> None:
    what: dict[str, Any] = {
        "reference": {"persistence": Persistence(analyses)},
        "settings": Settings(block=2, maps=True),
    }
    one = statistics(forecasts, analyses, store=tmp_path / "one.zarr", **what)
    told: list[tuple[int, int]] = []
    with cluster(1) as crew:
        many = statistics(
            forecasts, analyses, store=tmp_path / "many.zarr", executor=crew,
            progress=lambda *facts: told.append(facts), **what,
        )  # fmt: skip
        with pytest.raises(ValueError, match="a crew needs a store"):
            statistics(forecasts, analyses, executor=crew, **what)
    xr.testing.assert_identical(many, one)
    assert told[-1] == (7, 7)
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")) == [
        "many.zarr", "one.zarr",
    ]  # fmt: skip


def test_what_a_crew_without_workers_has_not_scored_is_named_and_scored_by_the_next_run(
    forecasts: xr.Dataset, analyses: xr.Dataset, tmp_path: Path
) -> None:
    path, settings = tmp_path / "scores.zarr", Settings(block=2)
    with (
        cluster(0) as crew,
        pytest.raises(
            StorageError,
            match=r"no workers for 0\.2 s; not done: the scores of 7 of the forecasts from "
            r"2020-01-13T00:00 to 2020-01-14T12:00\. What is done is kept",
        ),
    ):
        statistics(forecasts, analyses, settings=settings, store=path, executor=crew)
    assert not path.exists()
    statistics(forecasts, analyses, settings=settings, store=path)
    assert open_scores(path).sizes["lead_time"] == 3


def deadly(analyses: xr.Dataset, folder: Path, deaths: int) -> Persistence:
    """Give a reference at which so many workers die."""

    class Deadly(Persistence):
        def forecast(self, *arguments: Any, **options: Any) -> xr.Dataset:
            made = super().forecast(*arguments, **options)
            before = len(list(folder.glob("*.fatal")))
            if os.getpid() != here and before < deaths:
                (folder / f"{before}.fatal").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return made

    here = os.getpid()
    return Deadly(analyses)


@pytest.mark.deep
def test_scores_survive_workers_and_name_what_kills_three(
    make_forecasts: Callable[..., xr.Dataset], analyses: xr.Dataset, tmp_path: Path
) -> None:
    forecasts, settings = make_forecasts(2), Settings(block=2)
    plain = statistics(
        forecasts, analyses, settings=settings, store=tmp_path / "plain.zarr",
        reference={"persistence": Persistence(analyses)},
    )  # fmt: skip
    with open_cluster("local:1") as crew:
        for deaths in (2, 9):
            folder = tmp_path / str(deaths)
            folder.mkdir()
            what: dict[str, Any] = {
                "reference": {"persistence": deadly(analyses, folder, deaths)},
                "settings": settings, "store": folder / "scores.zarr", "executor": crew,
            }  # fmt: skip
            if deaths == 2:
                xr.testing.assert_equal(statistics(forecasts, analyses, **what), plain)
                continue
            with pytest.raises(
                WeatherdiffError,
                match=r"^The scores of 2 of the forecasts from 2020-01-13T00:00 to "
                r"2020-01-13T06:00 could not be done: tried 3 times on the cluster; the last "
                r"time, the worker died",
            ):
                statistics(forecasts, analyses, **what)
            assert len(list(folder.glob("*.fatal"))) == 3
