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

from weatherdiff.errors import MissingInputError

if TYPE_CHECKING:
    from dask.distributed import Client, Future

__all__ = ["TRIES", "FailedTaskError", "run_tried"]

TRIES = 3
PATIENCE = 300  # seconds until there is a worker
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

    Raises
    ------
    FailedTaskError
        A task has failed three times, by an error or because its worker died. Those that run are
        cancelled.
    MissingInputError
        The cluster is gone, or has no worker within five minutes.
    """
    waiting = deque(indices)
    for index in waiting:
        _note(notes, index).unlink(missing_ok=True)
    if not waiting:
        return
    told: dict[int, int] = dict.fromkeys(waiting, 0)
    running: dict[Future, int] = {}
    sent = _send(client, job)

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
        while waiting or running:
            workers = _threads(client)  # some may have come, or gone
            while waiting and len(running) < workers:
                index = waiting.popleft()
                future = client.submit(
                    _try, sent, task, index, notes, *arguments(index), pure=False
                )
                running[future] = index
            for future in _first(client, list(running)):
                index = running.pop(future)
                begun = _begun(notes, index)
                if future.status == "finished":
                    result = future.result()
                    fail(index, min(begun, TRIES) - 1)
                    _note(notes, index).unlink(missing_ok=True)
                    done(index, result)
                    continue
                error = _error_of(client, future)
                if error is None:  # its worker, or all that held the job, died
                    sent = _send(client, job)
                fail(index, min(begun, TRIES), error)
                waiting.append(index)
    finally:
        if running and client.status == "running":
            client.cancel(list(running))


def _send(client: Client, job: Any) -> Future:
    """Give every worker the job; wait for the first of them."""
    end = time.monotonic() + PATIENCE
    while client.status == "running":
        try:
            return client.scatter(job, broadcast=True, hash=False, timeout=PATIENCE)
        except TimeoutError as error:
            raise MissingInputError(_IDLE) from error
        except OSError as error:  # a worker died while it was given the job
            if time.monotonic() > end:
                raise MissingInputError(_IDLE) from error
            time.sleep(0.5)
    raise MissingInputError(_GONE)


def _threads(client: Client) -> int:
    """Tell how many tasks the cluster can do at once; at least one, which then waits."""
    try:
        return sum(client.nthreads().values()) or 1
    except OSError as error:
        raise MissingInputError(_GONE) from error


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


def _first(client: Client, running: list[Future]) -> list[Future]:
    """Wait until something has happened to one of them; a cluster that is gone is an error."""
    while not (ended := [future for future in running if future.status != "pending"]):
        if client.status != "running":
            raise MissingInputError(_GONE)
        time.sleep(0.02)
    return ended


_IDLE = f"No worker of the cluster has answered for {PATIENCE} s; start some, and run again."
_GONE = "The dask scheduler is gone; what is done is kept, run again when it is back."


def _error_of(client: Client, future: Future) -> BaseException | None:
    """Give what a task raised; None if it was its worker that failed."""
    from dask.distributed import KilledWorker

    if client.status != "running":
        raise MissingInputError(_GONE)
    if future.status == "cancelled" or future.status == "lost":
        return None
    error = future.exception()
    return None if isinstance(error, KilledWorker | _SpentError) else error
