"""Tasks on a cluster whose workers may die: each is tried a few times, and counted.

A scheduler of dask counts the deaths of workers too, but blames every task that a worker had been
given, whether it had begun or not, and knows nothing of the errors before. So a worker notes each
beginning of a task in a file of the shared file system: what killed it is then known by name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weatherdiff.errors import StorageError, WeatherdiffError
from weatherdiff.tasks.crew import ANSWER, Crew, IdleClusterError

if TYPE_CHECKING:
    from dask.distributed import Future

__all__ = ["TRIES", "run_tried"]

TRIES = 3
DIED = "the worker died while it was at it (killed, out of memory, or crashed)"


class _SpentError(Exception):
    """A task that has begun often enough was given to a worker once more."""


def run_tried(
    crew: Crew,
    job: Any,
    task: str,
    arguments: Mapping[int, tuple[Any, ...]],
    *,
    notes: Path,
    name: Callable[[list[int]], str],
    failed: Callable[[int, int, str], None] = lambda *_: None,
) -> Iterator[tuple[int, Any]]:
    """Call a method of ``job`` for each index on a cluster, up to three times if it fails.

    Parameters
    ----------
    crew : Crew
    job : object
        It must pickle; sent to each worker once.
    task : str
        Name of the method. It takes an index and the arguments of the index.
    arguments : mapping
        The indices, and what the method is given beside them.
    notes : path
        A folder that workers see, for the notes on beginnings. They are removed as tasks are done.
    name : callable
        Gives indices the name that they have in messages, such as "members 2 to 3".
    failed : callable, optional
        Told the index, how many times it has failed, and why it did the last time.

    Yields
    ------
    (int, object)
        Index and result of each task, as it is done.

    Raises
    ------
    WeatherdiffError
        A task has failed three times, by an error or because its worker died; it is named, with
        what happened the last time. The kind is that of the last error, if that was one of ours.
        Those that run are cancelled.
    StorageError
        The cluster has been without workers for too long, or is gone; what is not done is named.
    """
    waiting = deque(arguments)
    for index in waiting:
        _note(notes, index).unlink(missing_ok=True)
    if not waiting:
        return
    told: dict[int, int] = dict.fromkeys(waiting, 0)
    running: dict[Future, int] = {}

    def fail(index: int, times: int, error: BaseException | None = None) -> None:
        """Make it known; give up if that was once too often."""
        if error is not None:  # which may be that the task cannot even begin
            times = max(times, told[index] + 1)
        cause = DIED if error is None else f"{type(error).__name__}: {error}"
        if times > told[index]:
            told[index] = times
            failed(index, times, cause)
        if times >= TRIES:
            what = name([index])
            kind = type(error) if isinstance(error, WeatherdiffError) else WeatherdiffError
            raise kind(
                f"{what[0].upper()}{what[1:]} could not be done: tried {times} times on the "
                f"cluster; the last time, {cause.rstrip('.')}."
            ) from error

    try:
        sent = crew.send(job)
        while waiting or running:
            workers = crew.threads() or 1  # some may have come, or gone; one task waits for them
            while waiting and len(running) < workers:
                index = waiting.popleft()
                future = crew.client.submit(
                    _try, sent, task, index, notes, *arguments[index], pure=False
                )
                running[future] = index
            for future in crew.first(running):
                index = running.pop(future)
                waiting.append(index)
                done, outcome = _outcome(crew, future)
                begun = min(_begun(notes, index), TRIES)
                fail(index, begun - 1 if done else begun, None if done else outcome)
                if done:
                    waiting.pop()
                    _note(notes, index).unlink(missing_ok=True)
                    yield index, outcome
                elif outcome is None:  # its worker, or all that held the job, died
                    sent = crew.send(job)
    except IdleClusterError as error:
        left = name(sorted([*waiting, *running.values()]))
        raise StorageError(
            f"{error}; not done: {left}. What is done is kept: run again when there are workers."
        ) from error
    finally:
        if running and crew.client.status == "running":
            crew.client.cancel(list(running))


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


def _outcome(crew: Crew, future: Future) -> tuple[bool, Any]:
    """Tell whether a task is done; give its result then, else its error, if that was its own."""
    from concurrent.futures import CancelledError

    from dask.distributed import KilledWorker

    crew.require_scheduler()
    error: BaseException | None = None
    try:
        if future.status == "finished":
            return True, future.result(timeout=max(crew.patience, ANSWER))
        if future.status == "error":
            error = future.exception()
    except TimeoutError:  # whoever had the result is gone, and nobody does it again
        pass
    except Exception as again:
        error = again
    return False, None if isinstance(error, CancelledError | KilledWorker | _SpentError) else error
