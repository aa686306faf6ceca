"""Run tasks one after the other, on threads, or on a cluster of ``dask.distributed``."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from weatherdiff.errors import ConfigError, StorageError
from weatherdiff.tasks.attempts import run_tried
from weatherdiff.tasks.crew import ANSWER, PATIENCE, Crew

__all__ = ["Scheduler", "open_cluster", "run_tasks"]

#: A cluster of so many processes of this machine, for as long as the work takes.
_LOCAL = re.compile(r"local:([1-9]\d{0,3})")

#: None, ``"threads"``, or a cluster: ``"local:4"``, its address, a client, or a crew.
Scheduler = Literal["threads"] | str | Any | None


def run_tasks(
    job: Any,
    task: str,
    indices: Iterable[int],
    *,
    scheduler: Scheduler = None,
    notes: Path,
    done: Callable[[int], None] = lambda _: None,
) -> None:
    """Call a method of ``job`` for each index; the result does not depend on who does it.

    Parameters
    ----------
    job : object
        For a cluster it must pickle, and its workers must see the same file system.
    task : str
        Name of the method. It takes an index.
    indices : iterable of int
    scheduler : None, "threads", str, dask.distributed.Client or Crew
        One after the other by default; else at once, as many as there are processors, or as the
        cluster at that address has; ``"local:4"`` is one of four processes of this machine.
    notes : path
        A folder for what a cluster notes of tasks that are begun; see :func:`run_tried`.
    done : callable
        Told the index of each task as it is done.

    Raises
    ------
    ConfigError
        The scheduler is none of these.
    WeatherdiffError
        A task has failed three times on a cluster.
    StorageError
        There is no cluster at the address, or it had no workers for too long; the tasks that are
        not done are named.
    """
    if scheduler is None:
        for index in indices:
            getattr(job, task)(index)
            done(index)
    elif scheduler == "threads":
        _run_on_threads(getattr(job, task), indices, done)
    else:
        with open_cluster(scheduler) as crew:
            arguments = dict.fromkeys(indices, ())
            for index, _ in run_tried(crew, job, task, arguments, notes=notes, name=_name):
                done(index)


def _name(indices: list[int]) -> str:
    return f"task{'s' if len(indices) > 1 else ''} {', '.join(map(str, indices))}"


def _run_on_threads(
    call: Callable[[int], Any], indices: Iterable[int], done: Callable[[int], None]
) -> None:
    """Keep all threads at work; after a failure let those finish, and start no more."""
    workers, queue = os.cpu_count() or 1, iter(indices)
    running: dict[Future[Any], int] = {}
    with ThreadPoolExecutor(workers) as pool:

        def submit(count: int) -> None:
            running.update({pool.submit(call, index): index for index in islice(queue, count)})

        submit(workers)
        try:
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    index = running.pop(future)
                    future.result()
                    done(index)
                    submit(1)
        finally:
            for future in running:
                future.cancel()


@contextmanager
def open_cluster(scheduler: Any, patience: float = PATIENCE) -> Iterator[Crew]:
    """Connect to a cluster of ``dask.distributed``, or start one on this machine.

    Only tasks go to the cluster: what xarray computes in between is done here, where nobody waits
    for workers.

    Parameters
    ----------
    scheduler : str, dask.distributed.Client or Crew
        The address of a dask scheduler, ``"local:4"`` for four worker processes of one thread each,
        which end with the context, or a client or crew, which is left open.
    patience : float
        Seconds that the cluster may be without workers; a crew has its own.

    Raises
    ------
    ConfigError
        None of these.
    StorageError
        There is no cluster at the address.
    """
    from dask.distributed import Client
    from distributed.comm import get_address_host

    if isinstance(scheduler, Crew):
        yield scheduler
        return
    if isinstance(scheduler, Client):
        yield Crew(scheduler, patience)
        return
    if not isinstance(scheduler, str):
        raise ConfigError(
            f'scheduler is {scheduler!r}; give "threads", "local:4", the address of a dask '
            "scheduler, or a dask.distributed.Client."
        )
    local = _LOCAL.fullmatch(scheduler)
    if local:
        with _local_cluster(int(local[1])) as client:
            yield Crew(client, patience)
        return
    try:
        get_address_host(scheduler)
    except ValueError as error:
        raise ConfigError(
            f'scheduler {scheduler!r} is neither "threads", nor "local:4" for four processes, nor '
            f"an address such as tcp://10.0.0.1:8786: {error}"
        ) from error
    try:
        with ThreadPoolExecutor(1) as pool:  # the caller may have a loop of its own
            pool.submit(asyncio.run, _ask(scheduler)).result()
        client = Client(scheduler, timeout=ANSWER, set_as_default=False)
    except Exception as error:  # of whatever kind, if something else listens there
        raise StorageError(
            f"There is no dask scheduler at {scheduler}, or none that answers within {ANSWER:g} s "
            f"({str(error) or 'it is silent'}). Start one, or give its address."
        ) from error
    with client:
        yield Crew(client, patience)


async def _ask(address: str) -> None:
    """Wait for any answer of a scheduler; a client would wait for ever for one that is silent."""
    from distributed.core import rpc

    async with rpc(address, timeout=ANSWER) as scheduler:
        await asyncio.wait_for(scheduler.identity(n_workers=0), ANSWER + 1)


@contextmanager
def _local_cluster(workers: int) -> Iterator[Any]:
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
        Client(cluster, set_as_default=False) as client,
    ):
        yield client
