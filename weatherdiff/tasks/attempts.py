"""Tasks on a cluster whose workers may die: each is tried a few times, and counted.

A scheduler of dask counts the deaths of workers too, but blames every task that a worker had been
given, whether it had begun or not, and knows nothing of the errors before. So a worker notes each
beginning of a task in a file of the shared file system: what killed it is then known by name.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weatherdiff.tasks.crew import PATIENCE, Crew, IdleClusterError

if TYPE_CHECKING:
    from dask.distributed import Client, Future

__all__ = ["TRIES", "AbandonedTasksError", "FailedTaskError", "run_tried"]

TRIES = 3
DIED = "the worker died while it was at it (killed, out of memory, or crashed)"


class FailedTaskError(Exception):
    """A task that has failed as often as it may.

    Attributes
    ----------
    index : int
        Which.
    times : int
        How often.
    cause : str
        What happened the last time.
    error : Exception or None
        The last time's, unless the worker died.
    """

    def __init__(self, index: int, times: int, cause: str, error: BaseException | None) -> None:
        super().__init__(f"Task {index} failed {times} times; the last time, {cause}.")
        self.index, self.times, self.cause, self.error = index, times, cause, error


class AbandonedTasksError(Exception):
    """Tasks that no worker is left for.

    Attributes
    ----------
    indices : list of int
        Which.
    cause : str
        How long they were waited for.
    """

    def __init__(self, indices: list[int], cause: str) -> None:
        super().__init__(f"{cause}; the tasks {', '.join(map(str, indices))} are not done.")
        self.indices, self.cause = indices, cause


class _SpentError(Exception):
    """A task that has begun often enough was given to a worker once more."""


def run_tried(
    client: Client,
    job: Any,
    task: str,
    indices: Iterable[int],
    *,
    notes: Path,
    arguments: Callable[[int], tuple[Any, ...]] = lambda _: (),
    done: Callable[[int, Any], None],
    failed: Callable[[int, int, str], None] = lambda *_: None,
    patience: float = PATIENCE,
) -> None:
    """Call a method of ``job`` for each index on a cluster, up to three times if it fails.

    Parameters
    ----------
    client : dask.distributed.Client
    job : object
        It must pickle; sent to each worker once.
    task : str
        Name of the method. It takes an index and the ``arguments`` of the index.
    indices : iterable of int
    notes : path
        A folder that workers see, for the notes on beginnings. They are removed as tasks are done.
    arguments : callable, optional
        What a task is given beside its index; asked for when it is sent.
    done : callable
        Told the index and the result of each task as it is done, one after the other.
    failed : callable, optional
        Told the index, how many times it has failed, and why it did the last time.
    patience : float
        Seconds that the cluster may be without workers.

    Raises
    ------
    FailedTaskError
        A task has failed three times, by an error or because its worker died. Those that run are
        cancelled.
    AbandonedTasksError
        The cluster has been without workers for too long.
    MissingInputError
        The cluster is gone.
    """
    waiting = deque(indices)
    for index in waiting:
        _note(notes, index).unlink(missing_ok=True)
    if not waiting:
        return
    told: dict[int, int] = dict.fromkeys(waiting, 0)
    running: dict[Future, int] = {}
    crew = Crew(client, patience)

    def fail(index: int, times: int, error: BaseException | None = None) -> None:
        """Make it known; give up if that was once too often."""
        if error is not None:  # which may be that the task cannot even begin
            times = max(times, told[index] + 1)
        cause = DIED if error is None else f"{type(error).__name__}: {error}"
        if times > told[index]:
            told[index] = times
            failed(index, times, cause)
        if times >= TRIES:
            raise FailedTaskError(index, times, cause, error) from error

    try:
        sent = crew.send(job)
        while waiting or running:
            workers = crew.threads() or 1  # some may have come, or gone; one task waits for them
            while waiting and len(running) < workers:
                index = waiting.popleft()
                future = client.submit(
                    _try, sent, task, index, notes, *arguments(index), pure=False
                )
                running[future] = index
            for future in _first(crew, list(running)):
                index = running.pop(future)
                begun = _begun(notes, index)
                if future.status == "finished":
                    result = future.result()
                    fail(index, min(begun, TRIES) - 1)
                    _note(notes, index).unlink(missing_ok=True)
                    done(index, result)
                    continue
                error = _error_of(crew, future)
                waiting.append(index)
                if error is None:  # its worker, or all that held the job, died
                    sent = crew.send(job)
                fail(index, min(begun, TRIES), error)
    except IdleClusterError as error:
        raise AbandonedTasksError(sorted([*waiting, *running.values()]), str(error)) from error
    finally:
        if running and client.status == "running":
            client.cancel(list(running))


def _try(job: Any, task: str, index: int, notes: Path, *arguments: Any) -> Any:
    """On a worker: note the beginning, and do it unless it has begun too often."""
    notes.mkdir(parents=True, exist_ok=True)
    with _note(notes, index).open("ab") as file:
        file.write(b".")
    if _begun(notes, index) > TRIES:
        raise _SpentError
    return getattr(job, task)(index, *arguments)


def _note(notes: Path, index: int) -> Path:
    return notes / f"{index:06d}.begun"


def _begun(notes: Path, index: int) -> int:
    try:
        return _note(notes, index).stat().st_size
    except FileNotFoundError:
        return 0


def _first(crew: Crew, running: list[Future]) -> list[Future]:
    """Wait until something has happened to one of them, as long as there is somebody to do it."""
    while not (ended := [future for future in running if future.status != "pending"]):
        crew.look()
        time.sleep(0.02)
    return ended


def _error_of(crew: Crew, future: Future) -> BaseException | None:
    """Give what a task raised; None if it was its worker that failed."""
    from dask.distributed import KilledWorker

    crew.require_scheduler()
    if future.status == "cancelled" or future.status == "lost":
        return None
    error = future.exception()
    return None if isinstance(error, KilledWorker | _SpentError) else error
