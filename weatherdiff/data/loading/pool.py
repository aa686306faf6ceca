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

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

import numpy as np
import numpy.typing as npt

from weatherdiff.data.loading.order import Pool
from weatherdiff.data.loading.reader import Reader

__all__ = ["FramePool", "copy_frames", "frames_of"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]


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
    """

    def __init__(self, pool: Pool, indices: Int, reader: Reader, memory: Float) -> None:
        self.reader, self.memory = reader, memory
        self.loading: list[Future[None]] = []
        blocks = frames_of(pool, indices)
        bases = np.cumsum([0, *map(len, blocks)])
        self._blocks = list(zip(blocks, bases[:-1].tolist(), strict=True))
        rows = np.concatenate(pool.blocks)
        places = np.concatenate(
            [
                base + np.searchsorted(frames, indices[members])
                for members, (frames, base) in zip(pool.blocks, self._blocks, strict=True)
            ]
        )
        order = np.argsort(rows)
        self._places = places[order[np.searchsorted(rows, pool.rows, sorter=order)]]

    def loads(self) -> list[Callable[[], None]]:
        """Give what is to be done, one call for each block, before windows are drawn."""
        return [partial(self._load, frames, base) for frames, base in self._blocks]

    def _load(self, frames: Int, base: int) -> None:
        self.reader.read(frames, out=self.memory[base : base + len(frames)])

    def gather(self, start: int, stop: int, out: list[Float]) -> None:
        """Copy windows number ``start`` to ``stop`` of the drawing order, when they are there.

        Parameters
        ----------
        out : list of (stop - start, frames, ...)
            Consecutive parts of the windows.
        """
        for load in self.loading:
            load.result()
        copy_frames(self.memory, self._places[start:stop], out)


def frames_of(pool: Pool, indices: Int) -> list[Int]:
    """Positions on the time axis of the frames of each block, ascending."""
    return [np.unique(indices[rows]) for rows in pool.blocks]


def copy_frames(memory: Float, places: Int, out: list[Float]) -> None:
    """Copy ``memory[places]`` to parts, frames that lie together at once.

    Parameters
    ----------
    memory : (n, ...)
    places : (window, frames)
    out : list of (window, part of frames, ...)
    """
    start = 0
    for part in out:
        stop = start + part.shape[1]
        for row, wanted in zip(part, places[:, start:stop].tolist(), strict=True):
            if wanted[-1] - wanted[0] == len(wanted) - 1 and wanted == sorted(wanted):
                row[...] = memory[wanted[0] : wanted[-1] + 1]
            else:
                for frame, place in zip(row, wanted, strict=True):
                    frame[...] = memory[place]
        start = stop
