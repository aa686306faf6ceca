"""Tasks that fail are tried again, a bounded number of times, and counted one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from dask.distributed import Client, LocalCluster

from weatherdiff.errors import StorageError
from weatherdiff.tasks.attempts import AbandonedTasksError, FailedTaskError, run_tried
from weatherdiff.tasks.running import run_tasks


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@dataclass(frozen=True)
class Job:
    """Fails so many times at each index."""

    folder: Path
    failures: dict[int, int]

    def work(self, index: int, *more: int) -> tuple[int, ...]:
        with (self.folder / f"{index}").open("a+") as file:
            file.write(".")
            file.seek(0)
            times = len(file.read())
        if times <= self.failures.get(index, 0):
            raise ValueError(f"not yet, {times}")
        return (index, *more)


def test_a_task_may_fail_twice(client: Client, tmp_path: Path) -> None:
    results, failures = {}, []
    run_tried(
        client, Job(tmp_path, {2: 2, 4: 1}), "work", range(6),
        notes=tmp_path / "notes",
        arguments=lambda index: (10 * index,),
        done=results.__setitem__,
        failed=lambda *facts: failures.append(facts),
    )  # fmt: skip
    assert results == {i: (i, 10 * i) for i in range(6)}
    assert sorted(failures) == [
        (2, 1, "ValueError: not yet, 1"),
        (2, 2, "ValueError: not yet, 2"),
        (4, 1, "ValueError: not yet, 1"),
    ]
    assert list((tmp_path / "notes").iterdir()) == []


def test_a_task_that_fails_three_times_ends_the_work(client: Client, tmp_path: Path) -> None:
    done: list[int] = []
    job = Job(tmp_path, {1: 3})
    for _ in range(2):  # the notes of a former run do not count
        (tmp_path / "1").unlink(missing_ok=True)
        with pytest.raises(
            FailedTaskError, match=r"Task 1 failed 3 times; .* not yet, 3"
        ) as caught:
            run_tried(
                client, job, "work", range(3),
                notes=tmp_path / "notes", done=lambda index, _: done.append(index),
            )  # fmt: skip
        assert (caught.value.index, caught.value.times) == (1, 3)
        assert isinstance(caught.value.error, ValueError)
    assert 1 not in done


def test_a_task_that_cannot_begin_is_not_tried_for_ever(client: Client, tmp_path: Path) -> None:
    with pytest.raises(FailedTaskError, match="AttributeError"):
        run_tried(
            client, Job(tmp_path, {}), "absent", [0],
            notes=tmp_path / "notes", done=lambda *_: None,
        )  # fmt: skip


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

    def after(index: int, _: object) -> None:
        done.append(index)
        leave()

    with (
        one_worker() as (client, leave),
        pytest.raises(
            AbandonedTasksError, match=r"no workers for 0\.2 s; the tasks 1, 2 "
        ) as caught,
    ):
        run_tried(
            client, Job(tmp_path, {}), "work", range(3),
            notes=tmp_path / "notes", done=after, patience=0.2,
        )  # fmt: skip
    assert (done, caught.value.indices) == ([0], [1, 2])


def test_tasks_that_a_cluster_leaves_are_named(tmp_path: Path) -> None:
    with (
        one_worker() as (client, leave),
        pytest.raises(StorageError, match=r"tasks that are not done: .*5\. What is done is kept"),
    ):
        run_tasks(
            Job(tmp_path, {}), "work", range(6), scheduler=client,
            done=lambda _: leave(), patience=0.2,
        )  # fmt: skip
    with one_worker() as (client, leave):
        leave()
        with pytest.raises(StorageError, match=r"no workers for 0\.2 s; .* not done: 0, 1\."):
            run_tasks(Job(tmp_path, {}), "work", range(2), scheduler=client, patience=0.2)
