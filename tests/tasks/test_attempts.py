"""Tasks that fail are tried again, a bounded number of times, and counted one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from dask.distributed import Client, LocalCluster

from weatherdiff.errors import InputError, StorageError, WeatherdiffError
from weatherdiff.tasks.attempts import run_tried
from weatherdiff.tasks.crew import Crew
from weatherdiff.tasks.running import run_tasks


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield Crew(client)


@dataclass(frozen=True)
class Job:
    """Fails so many times at each index."""

    folder: Path
    failures: dict[int, int]
    kind: type[Exception] = ValueError

    def work(self, index: int, *more: int) -> tuple[int, ...]:
        with (self.folder / f"{index}").open("a+") as file:
            file.write(".")
            file.seek(0)
            times = len(file.read())
        if times <= self.failures.get(index, 0):
            raise self.kind(f"not yet, {times}")
        return (index, *more)


def name(indices: list[int]) -> str:
    return f"the tasks {indices}"


def work(
    crew: Crew,
    job: Job,
    folder: Path,
    after: Callable[[], object] = lambda: None,
    done: list[int] | None = None,
) -> None:
    """Have three tasks done, and something after each."""
    arguments: dict[int, tuple[()]] = dict.fromkeys(range(3), ())
    for index, _ in run_tried(crew, job, "work", arguments, notes=folder / "notes", name=name):
        (done if done is not None else []).append(index)
        after()


def test_a_task_may_fail_twice(crew: Crew, tmp_path: Path) -> None:
    failures = []
    arguments = {index: (10 * index,) for index in range(6)}
    results = run_tried(
        crew, Job(tmp_path, {2: 2, 4: 1}), "work", arguments,
        notes=tmp_path / "notes", name=name, failed=lambda *facts: failures.append(facts),
    )  # fmt: skip
    assert dict(results) == {i: (i, 10 * i) for i in range(6)}
    assert sorted(failures) == [
        (2, 1, "ValueError: not yet, 1"),
        (2, 2, "ValueError: not yet, 2"),
        (4, 1, "ValueError: not yet, 1"),
    ]
    assert list((tmp_path / "notes").iterdir()) == []


@pytest.mark.parametrize("kind", [ValueError, InputError])
def test_a_task_that_fails_three_times_ends_the_work(
    crew: Crew, tmp_path: Path, kind: type[Exception]
) -> None:
    job, done = Job(tmp_path, {1: 3}, kind), []
    for _ in range(2):  # the notes of a former run do not count
        (tmp_path / "1").unlink(missing_ok=True)
        with pytest.raises(
            WeatherdiffError,
            match=rf"^The tasks \[1\] could not be done: tried 3 times on the cluster; the last "
            rf"time, {kind.__name__}: not yet, 3\.$",
        ) as caught:
            work(crew, job, tmp_path, done=done)
        assert isinstance(caught.value.__cause__, kind)
        assert caught.value.exit_code == (65 if kind is InputError else 70)
    assert 1 not in done


def test_a_task_that_cannot_begin_is_not_tried_for_ever(crew: Crew, tmp_path: Path) -> None:
    tried = run_tried(
        crew, Job(tmp_path, {}), "absent", {0: ()}, notes=tmp_path / "notes", name=name
    )
    with pytest.raises(WeatherdiffError, match="AttributeError"):
        next(tried)


@contextmanager
def one_worker() -> Iterator[tuple[Client, Callable[[], None]]]:
    """Give a cluster of one thread, and what takes it away."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        (worker,) = cluster.workers.values()
        yield client, lambda: cluster.sync(worker.close)


def test_a_cluster_without_workers_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    done: list[int] = []
    with (
        one_worker() as (client, leave),
        pytest.raises(
            StorageError,
            match=r"^The cluster has had no workers for 0\.2 s; not done: the tasks \[1, 2\]\. "
            r"What is done is kept: run again when there are workers\.$",
        ) as caught,
    ):
        work(Crew(client, 0.2), Job(tmp_path, {}), tmp_path, leave, done)
    assert (done, caught.value.exit_code) == ([0], 74)


def test_tasks_that_a_cluster_leaves_are_named(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with (
        one_worker() as (client, leave),
        pytest.raises(StorageError, match=r"not done: tasks 1, 2, 3, 4, 5\. What is done is kept"),
    ):
        run_tasks(
            Job(tmp_path, {}), "work", range(6), scheduler=Crew(client, 0.2), notes=notes,
            done=lambda _: leave(),
        )  # fmt: skip
    with one_worker() as (client, leave):
        leave()
        with pytest.raises(StorageError, match=r"no workers for 0\.2 s; not done: tasks 0, 1\."):
            run_tasks(Job(tmp_path, {}), "work", range(2), scheduler=Crew(client, 0.2), notes=notes)


def test_a_scheduler_that_goes_is_no_bug_of_ours(tmp_path: Path) -> None:
    with (
        one_worker() as (client, _),
        pytest.raises(StorageError, match=r"scheduler is gone; not done: the tasks \[1, 2\]\."),
    ):
        work(Crew(client), Job(tmp_path, {}), tmp_path, client.close)
