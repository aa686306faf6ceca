"""Work that threads do before its results are asked for.

Who asks does next to nothing: the threads plan what comes next, do it, and put it in line; a batch
that is there is taken in some ten microseconds, so that a training step of milliseconds does not
notice. Nothing waits for a place in line but the threads' own work, which then ends; so a program
may end whenever it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Lock
from typing import Any, Generic, TypeVar

__all__ = ["Ahead", "Task", "one_by_one"]

T = TypeVar("T")


class Task(Generic[T]):
    """A call that is made once, and whose result others may wait for.

    Parameters
    ----------
    function : callable
    wanted : bool
        Whether the result is one of those asked for; else others need it to be done.
    """

    def __init__(self, function: Callable[[], T], *, wanted: bool = False) -> None:
        self.wanted, self.done = wanted, Future[T]()
        self._function: Callable[[], T] | None = function

    def run(self) -> None:
        """Make the call, and let go of what it needed."""
        function, self._function = self._function, None
        if function is None:
            raise RuntimeError("a task is run once")
        try:
            self.done.set_result(function())
        except BaseException as error:
            self.done.set_exception(error)


class Ahead(Generic[T]):
    """The results of wanted tasks, in order.

    Tasks are begun in the order of the plan, so that one may wait for those before it.

    Parameters
    ----------
    plan : iterator of Task
        Asked for the next one by one thread at a time.
    threads : int
        That do the tasks, at least one.
    ahead : int
        Wanted results that may be begun before they are asked for, at least one. Threads that rest
        go on when two thirds of these places are free.

    Examples
    --------
    >>> results = Ahead((Task(lambda n=n: n * n, wanted=True) for n in range(4)), 2, 2)
    >>> list(results)
    [0, 1, 4, 9]
    >>> results.close()
    """

    def __init__(self, plan: Iterator[Task[Any]], threads: int, ahead: int) -> None:
        self._plan, self._threads = plan, threads
        self._line: SimpleQueue[Future[T] | None] = SimpleQueue()
        self._first: Future[T] | None = None
        self._planning, self._counting = Lock(), Lock()
        self._places, self._working, self._ended = ahead, threads, False
        # Not for each place that is free is a thread woken: it may take the processor of who asks,
        # for some milliseconds.
        self._few = max(1, 2 * ahead // 3)
        self._executor = ThreadPoolExecutor(threads, "windows")
        for _ in range(threads):
            self._executor.submit(self._work)

    def __iter__(self) -> Iterator[T]:
        while self._more():
            yield self._take()  # no name: who asked has the only hold on it

    def _more(self) -> bool:
        """Wait until it is known what the next result is, and whether there is one."""
        self._first = self._line.get()
        return self._first is not None

    def _take(self) -> T:
        with self._counting:
            self._places += 1
            idle = self._places >= self._few and self._working < self._threads
            self._working += idle
        if idle:
            self._executor.submit(self._work)
        first, self._first = self._first, None
        assert first is not None  # noqa: S101  (for the type checker: there is more)
        return first.result()

    def close(self) -> None:
        """End the threads, when what they are at is done."""
        self._ended = True
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _work(self) -> None:
        """Do tasks while there is a place in line."""
        while self._take_place():
            while True:
                task = self._next()
                if task is None:
                    return
                task.run()
                if task.wanted:
                    break

    def _take_place(self) -> bool:
        with self._counting:
            if not self._places:
                self._working -= 1
                return False
            self._places -= 1
            return True

    def _next(self) -> Task[Any] | None:
        with self._planning:
            if self._ended:
                return None
            try:
                task = next(self._plan, None)
            except BaseException as error:
                failed: Future[T] = Future()
                failed.set_exception(error)
                self._line.put(failed)
                task = None
            if task is None:
                self._ended = True
                self._line.put(None)
            elif task.wanted:
                self._line.put(task.done)
            return task


def one_by_one(plan: Iterator[Task[Any]]) -> Iterator[Any]:
    """Give the wanted results, each task done when it is its turn."""
    for task in plan:
        task.run()
        if task.wanted:
            yield task.done.result()
