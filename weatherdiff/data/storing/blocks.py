"""Memory for frames, straight from the system: given back at once when nothing uses it.

The allocator of C keeps what was freed, for each thread apart and the more the larger the arrays
were, so that a process would hold several times what it uses. The system clears what it gives,
which takes its time: so a block is used again while there is work for it.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Blocks", "empty"]

Float = npt.NDArray[np.float32]

LARGE = 2**20  # bytes


def empty(shape: tuple[int, ...]) -> Float:
    """Give a new array of float32, of any values.

    Examples
    --------
    >>> empty((2, 512, 1024)).shape
    (2, 512, 1024)
    """
    size = int(np.prod(shape))
    if 4 * size < LARGE:
        return np.empty(shape, np.float32)
    return np.frombuffer(mmap.mmap(-1, 4 * size), np.float32).reshape(shape)


class Blocks:
    """Arrays of float32, as many as are in use at once; one that is pickled has none.

    Examples
    --------
    >>> blocks = Blocks()
    >>> with blocks.taken((2, 3)) as one:
    ...     one[:] = 1
    >>> with blocks.taken((1, 3)) as other:
    ...     other
    array([[1., 1., 1.]], dtype=float32)
    """

    def __init__(self) -> None:
        self._free: list[Float] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"_free": []}

    @contextmanager
    def taken(self, shape: tuple[int, ...]) -> Iterator[Float]:
        """Give an array, of any values, until the context ends."""
        size = int(np.prod(shape))
        try:
            space = self._free.pop()  # which no two threads can do at once
        except IndexError:
            space = empty((size,))
        if space.size < size:
            space = empty((size,))
        try:
            yield space[:size].reshape(shape)
        finally:
            self._free.append(space)

    def clear(self) -> None:
        """Give back what is not in use."""
        self._free.clear()
