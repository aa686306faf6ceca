"""Run tasks one after the other, on threads, or on a cluster of ``dask.distributed``."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from weatherdiff.errors import ConfigError, MissingInputError, StorageError
from weatherdiff.tasks.crew import PATIENCE, Crew, IdleClusterError

if TYPE_CHECKING:
    from dask.distributed import Client

__all__ = ["Scheduler", "open_cluster", "run_tasks"]

#: A cluster of so many processes of this machine, for as long as the work takes.
_LOCAL = re.compile(r"local:([1-9]\d{0,3})")

#: None, ``"threads"``, or a cluster: ``"local:4"``, its address, or a client.
Scheduler = Literal["threads"] | str | Any | None


def run_tasks(
    job: Any,
    task: str,
    indices: Iterable[int],
    *,
    scheduler: Scheduler = None,
    done: Callable[[int], None] = lambda _: None,
    patience: float = PATIENCE,
) -> None:
    """Call a method of ``job`` for each index; the result does not depend on who does it.

    Parameters
    ----------
    job : object
        For a cluster it must pickle, and its workers must see the same file system.
    task : str
        Name of the method. It takes an index.
    indices : iterable of int
    scheduler : None, "threads", str or dask.distributed.Client
        One after the other by default; else at once, as many as there are processors, or as the
        cluster at that address has; ``"local:4"`` is one of four processes of this machine.
    done : callable
        Told the index of each task as it is done.
    patience : float
        Seconds that a cluster may be without workers.

    Raises
    ------
    ConfigError
        The scheduler is none of these.
    MissingInputError
        There is no cluster at the address.
    StorageError
        All workers of the cluster died, or it had none for too long; the tasks that are not done
        are named.
    """
    if scheduler is None:
        for index in indices:
            getattr(job, task)(index)
            done(index)
    elif scheduler == "threads":
        workers = os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            _drain(indices, lambda i: pool.submit(getattr(job, task), i), _first, workers, done)
    else:
        with open_cluster(scheduler) as client:
            _run_on(Crew(client, patience), job, task, list(indices), done)


def _run_on(
    crew: Crew, job: Any, task: str, indices: list[int], done: Callable[[int], None]
) -> None:
    """Call a method of ``job`` for each index on a cluster."""
    from concurrent.futures import CancelledError

    from dask.distributed import KilledWorker, wait

    left = dict.fromkeys(indices)

    def first(running: list[Any]) -> Iterable[Any]:
        while True:
            try:
                return wait(running, timeout=1, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                crew.look()

    def tell(index: int) -> None:
        del left[index]
        done(index)

    try:
        sent = crew.send(job)
        most = 2 * (crew.threads() or 1)
        _drain(
            indices,
            lambda index: crew.client.submit(_call, sent, task, index, pure=False),
            first,
            most,
            tell,
        )
    except (CancelledError, IdleClusterError, KilledWorker) as error:
        idle = isinstance(error, IdleClusterError)
        cause = str(error) if idle else "The workers of the cluster died (killed, or out of memory)"
        raise StorageError(
            f"{cause}; tasks that are not done: {', '.join(map(str, left))}. What is done is kept: "
            "start workers, and run again."
        ) from error


def _call(job: Any, task: str, index: int) -> None:
    getattr(job, task)(index)


def _first(running: list[Future[Any]]) -> Iterable[Future[Any]]:
    return wait(running, return_when=FIRST_COMPLETED).done


def _drain(
    indices: Iterable[int],
    submit: Callable[[int], Any],
    first: Callable[[list[Any]], Iterable[Any]],
    most: int,
    done: Callable[[int], None],
) -> None:
    """Keep ``most`` tasks in the air; after a failure let those finish, and start no more."""
    queue = iter(indices)
    running = {submit(index): index for index in islice(queue, most)}
    try:
        while running:
            for future in list(first(list(running))):
                index = running.pop(future)
                future.result()
                done(index)
                running.update({submit(i): i for i in islice(queue, 1)})
    finally:
        for future in running:
            future.cancel()


@contextmanager
def open_cluster(scheduler: Any) -> Iterator[Client]:
    """Connect to a cluster of ``dask.distributed``, or start one on this machine.

    Parameters
    ----------
    scheduler : str or dask.distributed.Client
        The address of a dask scheduler, ``"local:4"`` for four worker processes of one thread each,
        which end with the context, or a client, which is left open.

    Raises
    ------
    ConfigError
        None of these.
    MissingInputError
        There is no cluster at the address.
    """
    from dask.distributed import Client

    if isinstance(scheduler, Client):
        yield scheduler
        return
    if not isinstance(scheduler, str):
        raise ConfigError(
            f'scheduler is {scheduler!r}; give "threads", "local:4", the address of a dask '
            "scheduler, or a dask.distributed.Client."
        )
    local = _LOCAL.fullmatch(scheduler)
    if local:
        with _local_cluster(int(local[1])) as client:
            yield client
        return
    try:
        client = Client(scheduler, timeout="30s")
    except ValueError as error:
        raise ConfigError(
            f'scheduler {scheduler!r} is neither "threads", nor "local:4" for four processes, nor '
            f"an address such as tcp://10.0.0.1:8786: {error}"
        ) from error
    except (OSError, TimeoutError) as error:
        raise MissingInputError(f"There is no dask scheduler at {scheduler}: {error}.") from error
    with client:
        yield client


@contextmanager
def _local_cluster(workers: int) -> Iterator[Client]:
    """Start processes that leave what is to be said of their work, and of their end, to us."""
    import dask
    from dask.distributed import Client, LocalCluster

    quiet = {"distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical"}
    with (
        dask.config.set(quiet),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",  # any free port: there may be another cluster here
            memory_limit=0,  # a worker that is paused at some share of the memory waits for ever
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
