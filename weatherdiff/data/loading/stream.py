"""Windows, prefetched by threads: from positions of frames to batches in memory.

Threads, never processes: the codecs and numpy release the interpreter's lock, nothing is copied
between processes, and nothing is forked. The threads work on a bounded number of batches ahead and
give them in the order that :mod:`weatherdiff.data.loading.order` says, however many they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from weatherdiff.data.loading.buffers import Buffers
from weatherdiff.data.loading.order import Order, Pool, PoolOrder
from weatherdiff.data.loading.pool import FramePool, frames_of
from weatherdiff.data.loading.reader import Reader

__all__ = ["WindowStream"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]
Parts = tuple[Float, ...]
T = TypeVar("T")
Submit = Callable[[Callable[[], None]], "Future[None]"]


class WindowStream(Generic[T]):
    """Batches of windows in a given order.

    With an exact order each batch is read on its own. With a pool order the frames of a pool's
    blocks are read once, into memory; while batches are drawn from it, the next pool is read.

    Parameters
    ----------
    reader : Reader
        Gives frames; threads call it at once.
    shape : tuple of int
        Of a frame.
    indices : (window, frames)
        Positions of each window's frames on the time axis.
    order : Order
        Which windows are in the batch of a step.
    finish : callable
        ``finish(rows, parts)`` makes a batch, in a thread, of the windows' numbers and of arrays
        (batch, frames, ...), one for each of ``parts``.
    parts : tuple of int, optional
        Cuts the frames of a window to several arrays (history and target, say).
    threads : int
        That read and finish, with ``2 * threads`` batches ahead of the one asked for; 0 does all
        when a batch is asked for.
    pinned : bool
        Batches are in page-locked memory: see :class:`weatherdiff.data.loading.buffers.Buffers`.

    Examples
    --------
    >>> from weatherdiff.data.loading.order import ExactOrder
    >>> from weatherdiff.data.loading.reader import FunctionReader
    >>> indices = np.arange(10)[:, None] + np.arange(3)
    >>> stream = WindowStream(FunctionReader(lambda frames: frames[:, None]), (1,), indices,
    ...                       ExactOrder(10, 2, seed=0), lambda rows, parts: (rows, parts[0]))
    >>> for rows, frames in stream.steps(0, 5):
    ...     assert (frames[:, :, 0] == indices[rows]).all()
    """

    def __init__(
        self,
        reader: Reader,
        shape: tuple[int, ...],
        indices: Int,
        order: Order,
        finish: Callable[[Int, Parts], T],
        *,
        parts: tuple[int, ...] | None = None,
        threads: int = 2,
        pinned: bool = False,
    ) -> None:
        self.pinned = pinned
        self.reader, self.shape, self.indices = reader, shape, indices
        self.order, self.finish, self.threads = order, finish, threads
        self.parts = parts or (indices.shape[1],)
        if sum(self.parts) != indices.shape[1]:
            raise ValueError(f"parts {self.parts} of windows of {indices.shape[1]} frames")
        self._buffers: dict[tuple[int, ...], Buffers] = {}
        self._capacity = 0

    def steps(self, start: int, stop: int) -> Generator[T, None, None]:
        """Give the batches of steps ``start`` to ``stop - 1``.

        Closing the generator, or leaving it to be collected, ends its threads. An error in a
        thread is raised where the batch was asked for.
        """
        ahead, pending = 2 * self.threads, deque[Future[T]]()
        executor = ThreadPoolExecutor(self.threads, "windows") if self.threads else _Inline()
        try:
            if isinstance(self.order, PoolOrder):
                tasks = self._pooled(self.order, start, stop, executor.submit, ahead)
            else:
                tasks = (partial(self._read, self.order.rows(s)) for s in range(start, stop))
            for task in tasks:
                pending.append(executor.submit(task))
                del task  # it holds memory of a pool
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pending.clear()
            executor.shutdown(wait=True, cancel_futures=True)

    def _read(self, rows: Int) -> T:
        """Make a batch on its own."""
        out = self._take(len(rows))
        start = 0
        for part in out:
            stop = start + part.shape[1]
            wanted = self.indices[rows, start:stop].ravel()
            self.reader.read(wanted, out=part.reshape(len(wanted), *self.shape))
            start = stop
        return self.finish(rows, tuple(out))

    def _pooled(
        self, order: PoolOrder, start: int, stop: int, submit: Submit, ahead: int
    ) -> Iterator[Callable[[], T]]:
        """Give the batches of a pool order, with the loading of pools submitted before them.

        A batch waits for its pool in the thread that makes it. That cannot lock up: what it waits
        for was submitted before it, and waits for nothing.
        """
        share = order.batch_size // order.ranks
        upcoming = _pools_from(order, start, share)
        opened: deque[tuple[int, int, FramePool, deque[Callable[[], None]]]] = deque()

        def open_next() -> None:
            begin, end, pool = next(upcoming)
            frames = FramePool(pool, self.indices, self.reader, self._memory(order, pool))
            opened.append((begin, end, frames, deque(frames.loads())))

        def load(number: int, count: int) -> None:
            _, _, frames, loads = opened[number]
            for _ in range(min(count, len(loads))):
                frames.loading.append(submit(loads.popleft()))

        for step in range(start, stop):
            a, b = step * share, (step + 1) * share
            while opened and opened[0][1] <= a:
                opened.popleft()
            while not opened or opened[-1][1] < b:
                open_next()
            pieces = []
            for number, (begin, end, frames, loads) in enumerate(opened):
                first, last = max(a, begin), min(b, end)
                if first < last:
                    load(number, len(loads))
                    pieces.append((frames, first - begin, last - begin))
            yield partial(self._gather, order.rows(step), pieces)
            del pieces, frames  # only tasks that are not done yet hold a pool
            begin, end = opened[0][:2]
            # The next pool takes the memory of the last one, whose batches are all given by then,
            # and is read block by block as this one is drawn from.
            done = (b - begin) // share - ahead - 1
            if done >= 0 and end < stop * share:
                if len(opened) == 1:
                    open_next()
                blocks = len(opened[1][3]) + len(opened[1][2].loading)
                wanted = -(-blocks * (done + 1) * share // max(1, end - begin - ahead * share))
                load(1, wanted - len(opened[1][2].loading))

    def _gather(self, rows: Int, pieces: list[tuple[FramePool, int, int]]) -> T:
        out = self._take(len(rows))
        done = 0
        for pool, first, last in pieces:
            count = last - first
            pool.gather(first, last, [part[done : done + count] for part in out])
            done += count
        return self.finish(rows, tuple(out))

    def _take(self, batch: int) -> list[Float]:
        shapes = [(batch, frames, *self.shape) for frames in self.parts]
        return [self._buffer(shape, pinned=self.pinned).take() for shape in shapes]

    def _memory(self, order: PoolOrder, pool: Pool) -> Float:
        """Memory for the frames of a pool; one size serves all pools of an epoch."""
        needed = sum(map(len, frames_of(pool, self.indices)))
        if needed > self._capacity:
            self._buffers.pop((self._capacity, *self.shape), None)
            self._capacity = needed + needed // 16
        return self._buffer((self._capacity, *self.shape)).take()

    def _buffer(self, shape: tuple[int, ...], *, pinned: bool = False) -> Buffers:
        return self._buffers.setdefault(shape, Buffers(shape, pinned=pinned))


def _pools_from(order: PoolOrder, step: int, share: int) -> Iterator[tuple[int, int, Pool]]:
    """Pools in the order in which they are drawn from, and the windows that they serve.

    Windows are counted from the first of the first epoch; pools before that of ``step`` are left
    out.
    """
    epoch = step // order.steps
    begin = epoch * order.steps * share
    while True:
        for pool in order.pools(epoch):
            end = begin + len(pool.rows)
            if end > step * share:
                yield begin, end, pool
            begin = end
        epoch += 1


class _Inline:
    """An executor that does it at once."""

    def submit(self, task: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(task())
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, *, wait: bool, cancel_futures: bool) -> None:
        """Do nothing: all is done."""
