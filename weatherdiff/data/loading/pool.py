"""Frames of some blocks in memory, from which windows are drawn.

What this costs beside a full permutation was measured with ``scripts/benchmarks/shuffling.py`` (the
sample, 822 hourly windows, batches of 16, 300 steps of a small network, three seeds; validation
loss relative to the exact order, lowest to highest):

=========================================  ===================  ====================
pool                                       variance of batches  validation loss
=========================================  ===================  ====================
half of the epoch, 16 blocks of 25         1.8                  -1.4 to +1.1%
an eighth of the epoch, 16 blocks of 6     1.7                  +4.1 to +6.6%
an eighth of the epoch, 48 blocks of 2     1.1                  +0.2 to +2.9%
an eighth of the epoch, one block of 102   10.9                 +3.9 to +8.6%
=========================================  ===================  ====================

Two windows of a batch correlate with 0.05, 0.05, 0.01 and 0.66. So it is not the batch alone that
counts, but how many steps in a row draw from the same few situations: a pool should hold a good
part of the epoch, or many blocks. Where memory or the disk allow, take the exact order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from weatherdiff.data.loading.ahead import Task
from weatherdiff.data.loading.order import Lane, Pool
from weatherdiff.data.loading.reader import Reader

__all__ = ["DrawnLane", "FramePool", "Piece", "copy_frames", "frames_of"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]

PIECE_BYTES = 2**22  # that are read at once: a thread is soon free for the next batch


class FramePool:
    """The frames of a pool's blocks, each read once.

    Parameters
    ----------
    pool : Pool
        Which windows, block by block, and the order in which they are drawn.
    indices : (window, frames)
        Positions of each window's frames on the time axis.
    reader : Reader
    memory : (n, ...)
        Holds all frames of the pool; see :func:`frames_of`.

    Attributes
    ----------
    loads : deque of Task
        What is to be read and was not given out yet, block by block and in pieces.
    pieces : int
        How many there are of them in all.
    """

    def __init__(self, pool: Pool, indices: Int, reader: Reader, memory: Float) -> None:
        self.reader, self.memory = reader, memory
        blocks = frames_of(pool, indices)
        bases = np.cumsum([0, *map(len, blocks)])[:-1].tolist()
        size = max(1, PIECE_BYTES // max(1, memory[:1].nbytes))
        self.loads = deque(
            Task(partial(self._load, frames[start : start + size], base + start))
            for frames, base in zip(blocks, bases, strict=True)
            for start in range(0, len(frames), size)
        )
        self.pieces = len(self.loads)
        self._begun: list[Task[None]] = []
        rows = np.concatenate(pool.blocks)
        places = np.concatenate(
            [
                base + np.searchsorted(frames, indices[members])
                for members, frames, base in zip(pool.blocks, blocks, bases, strict=True)
            ]
        )
        order = np.argsort(rows)
        self._places = places[order[np.searchsorted(rows, pool.rows, sorter=order)]]

    def load(self, pieces: int) -> Iterator[Task[None]]:
        """Give out so many more pieces to be read, or all that are left."""
        for _ in range(min(pieces, len(self.loads))):
            task = self.loads.popleft()
            self._begun.append(task)
            yield task

    def _load(self, frames: Int, base: int) -> None:
        self.reader.read(frames, out=self.memory[base : base + len(frames)])

    def gather(self, start: int, stop: int, out: list[Float], slots: Int) -> None:
        """Copy windows number ``start`` to ``stop`` of the drawing order, when they are there.

        All pieces must have been given out.

        Parameters
        ----------
        out : list of (batch, frames, ...)
            Consecutive parts of the windows.
        slots : (stop - start,)
            Which of a batch each window is.
        """
        for task in self._begun:
            task.done.result()
        self._begun = []
        copy_frames(self.memory, self._places[start:stop], out, slots)


class Piece(NamedTuple):
    """Windows of a batch that are drawn from one pool.

    Attributes
    ----------
    pool : FramePool
    first, last : int
        Numbers in its drawing order.
    """

    pool: FramePool
    first: int
    last: int


class DrawnLane:
    """The pools of a lane: those that are drawn from, and the next one, read meanwhile.

    Parameters
    ----------
    lane : Lane
    first, last : int
        Windows of the lane to be drawn, counted from the start of its first epoch.
    slack : int
        Windows for which the memory of the last pool may still be in use when they are drawn from
        a new one.
    make : callable
        From a pool to a :class:`FramePool`.
    room : callable
        Whether there is memory for one more pool. Where a thread is late with the last batches of
        a pool there is none, and the next one can wait, until something is drawn from it.
    """

    def __init__(
        self,
        lane: Lane,
        first: int,
        last: int,
        slack: int,
        make: Callable[[Pool], FramePool],
        room: Callable[[], bool],
    ) -> None:
        self._last, self._slack, self._make, self._room = last, slack, make, room
        self._upcoming = _pools_from(lane, first)
        self._opened: deque[tuple[int, int, FramePool]] = deque()

    def draw(self, start: int, stop: int) -> list[Piece]:
        """Give where windows number ``start`` to ``stop - 1`` are, which may not be read yet."""
        opened, pieces = self._opened, list[Piece]()
        if start == stop:
            return pieces
        while opened and opened[0][1] <= start:
            opened.popleft()
        while not opened or opened[-1][1] < stop:
            self._open()
        for begin, end, pool in opened:
            first, last = max(start, begin), min(stop, end)
            if first < last:
                pieces.append(Piece(pool, first - begin, last - begin))
        return pieces

    def due(self, stop: int) -> Iterator[Task[None]]:
        """Give what should be read of the next pool, when those before ``stop`` are drawn.

        The next pool takes the memory of the last one, and is read piece by piece as this one is
        drawn from.
        """
        if not self._opened:
            return
        begin, end = self._opened[0][:2]
        done = stop - begin - self._slack
        if done <= 0 or end >= self._last:
            return
        if len(self._opened) == 1:
            if not self._room():
                return
            self._open()
        pool = self._opened[1][2]
        wanted = -(-pool.pieces * done // max(1, end - begin - self._slack))
        yield from pool.load(wanted - pool.pieces + len(pool.loads))

    def _open(self) -> None:
        begin, end, pool = next(self._upcoming)
        self._opened.append((begin, end, self._make(pool)))


def _pools_from(lane: Lane, first: int) -> Iterator[tuple[int, int, Pool]]:
    """Pools from that of window ``first`` on, and which windows of the lane each serves."""
    epoch = first // lane.length
    begin = epoch * lane.length
    while True:
        for pool in lane.pools(epoch):
            end = begin + len(pool.rows)
            if end > first:
                yield begin, end, pool
            begin = end
        epoch += 1


def frames_of(pool: Pool, indices: Int) -> list[Int]:
    """Positions on the time axis of the frames of each block, ascending."""
    return [np.unique(indices[rows]) for rows in pool.blocks]


def copy_frames(memory: Float, places: Int, out: list[Float], slots: Int) -> None:
    """Copy ``memory[places]`` to parts, frames that lie together at once.

    Parameters
    ----------
    memory : (n, ...)
    places : (window, frames)
    out : list of (batch, part of frames, ...)
    slots : (window,)
        Which of a batch each window is.
    """
    start = 0
    for part in out:
        stop = start + part.shape[1]
        for slot, wanted in zip(slots.tolist(), places[:, start:stop].tolist(), strict=True):
            row = part[slot]
            if wanted[-1] - wanted[0] == len(wanted) - 1 and wanted == sorted(wanted):
                row[...] = memory[wanted[0] : wanted[-1] + 1]
            else:
                for frame, place in zip(row, wanted, strict=True):
                    frame[...] = memory[place]
        start = stop
