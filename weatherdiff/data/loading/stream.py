"""Windows, prefetched by threads: from positions of frames to batches in memory.

Threads, never processes: the codecs and numpy release the interpreter's lock, nothing is copied
between processes, and nothing is forked. The threads work on a bounded number of batches ahead and
give them in the order that :mod:`weatherdiff.data.loading.order` says, however many they are.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from weatherdiff.data.loading.ahead import Ahead, Task, one_by_one
from weatherdiff.data.loading.buffers import Buffers
from weatherdiff.data.loading.order import Order, Pool, Pooled
from weatherdiff.data.loading.pool import DrawnLane, FramePool, Piece, frames_of
from weatherdiff.data.loading.reader import Reader

__all__ = ["WindowStream"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]
Parts = tuple[Float, ...]
T = TypeVar("T")


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
        That read and finish; 0 does all when a batch is asked for.
    ahead : int, optional
        Batches that are made before they are asked for; ``2 * threads`` by default.
    dtype : dtype
        Of what the reader gives.
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
        ahead: int | None = None,
        dtype: npt.DTypeLike = np.float32,
        pinned: bool = False,
    ) -> None:
        self.dtype, self.pinned = dtype, pinned
        self.ahead = 2 * threads if ahead is None else ahead
        self.reader, self.shape, self.indices = reader, shape, indices
        self.order, self.finish, self.threads = order, finish, threads
        self.parts = parts or (indices.shape[1],)
        if sum(self.parts) != indices.shape[1]:
            raise ValueError(f"parts {self.parts} of windows of {indices.shape[1]} frames")
        self._buffers: dict[tuple[int, ...], Buffers] = {}
        self._capacity: dict[int, int] = {}

    def steps(self, start: int, stop: int) -> Generator[T, None, None]:
        """Give the batches of steps ``start`` to ``stop - 1``.

        Closing the generator, or leaving it to be collected, ends its threads. An error in a
        thread is raised where the batch was asked for.
        """
        plan = self._plan(start, stop)
        if not self.threads:
            yield from one_by_one(plan)
            return
        ahead: Ahead[T] = Ahead(plan, self.threads, self.ahead)
        try:
            yield from ahead
        finally:
            ahead.close()

    def _plan(self, start: int, stop: int) -> Iterator[Task[Any]]:
        """Give what is to be done for batches, in the order in which it is begun."""
        if isinstance(self.order, Pooled):
            yield from self._pooled(self.order, start, stop)
        else:
            for step in range(start, stop):
                yield Task(partial(self._read, self.order.rows(step)), wanted=True)

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

    def _pooled(self, order: Pooled, start: int, stop: int) -> Iterator[Task[Any]]:
        """Give the batches of an order of pools, and the reading of the pools before them.

        A batch waits for its pools in the thread that makes it. That cannot lock up: what it waits
        for was begun before it, and waits for nothing.
        """
        first, last = order.drawn(start), order.drawn(stop)
        begun = order.drawn(start + self.threads)  # by threads that may not be done with a pool
        lanes = [
            DrawnLane(
                lane, first[n], last[n], begun[n] - first[n], self._maker(n), partial(self._room, n)
            )
            for n, lane in enumerate(order.lanes)
        ]
        for step in range(start, stop):
            before, after = order.drawn(step), order.drawn(step + 1)
            draws = zip(lanes, before, after, strict=True)
            pieces = [piece for lane, a, b in draws for piece in lane.draw(a, b)]
            for piece in pieces:
                yield from piece.pool.load(piece.pool.pieces)
            make = partial(self._gather, order.rows(step), order.slots(step), pieces)
            yield Task(make, wanted=True)
            del make, pieces, piece  # only tasks that are not done yet hold a pool
            for lane, b in zip(lanes, after, strict=True):
                yield from lane.due(b)

    def _gather(self, rows: Int, slots: Int, pieces: list[Piece]) -> T:
        out = self._take(len(rows))
        done = 0
        for pool, first, last in pieces:
            count = last - first
            pool.gather(first, last, out, slots[done : done + count])
            done += count
        return self.finish(rows, tuple(out))

    def _maker(self, lane: int) -> Callable[[Pool], FramePool]:
        def make(pool: Pool) -> FramePool:
            return FramePool(pool, self.indices, self.reader, self._memory(lane, pool))

        return make

    def _take(self, batch: int) -> list[Float]:
        shapes = [(batch, frames, *self.shape) for frames in self.parts]
        return [self._buffer(shape, pinned=self.pinned).take() for shape in shapes]

    def _memory(self, lane: int, pool: Pool) -> Float:
        """Memory for the frames of a pool; one size serves all pools of a lane."""
        needed, known = sum(map(len, frames_of(pool, self.indices))), self._capacity.get(lane, 0)
        if needed > known:
            self._capacity[lane] = needed + needed // 16
            if known not in self._capacity.values():
                self._buffers.pop((known, *self.shape), None)
        return self._buffer((self._capacity[lane], *self.shape)).take()

    def _room(self, lane: int) -> bool:
        """Whether the next pool of a lane finds memory: each lane has that of two."""
        capacity = self._capacity[lane]
        buffers = self._buffer((capacity, *self.shape))
        return buffers.spare > 0 or buffers.made < 2 * [*self._capacity.values()].count(capacity)

    def _buffer(self, shape: tuple[int, ...], *, pinned: bool = False) -> Buffers:
        return self._buffers.setdefault(shape, Buffers(shape, self.dtype, pinned=pinned))
