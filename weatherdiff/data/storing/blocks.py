"""Memory for frames that is used again: the system clears what is new, which takes its time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Blocks"]


class Blocks:
    """Arrays of float32, as many as are in use at once; one that is pickled has none.

    Examples
    --------
    >>> blocks = Blocks()
    >>> with blocks.taken((2, 3)) as one:
    ...     first = one
    >>> with blocks.taken((1, 3)) as other:
    ...     other.shape, other.base is first.base
    ((1, 3), True)
    """

    def __init__(self) -> None:
        self._free: list[npt.NDArray[np.float32]] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"_free": []}

    @contextmanager
    def taken(self, shape: tuple[int, ...]) -> Iterator[npt.NDArray[np.float32]]:
        """Give an array, of any values, until the context ends."""
        size = int(np.prod(shape))
        try:
            space = self._free.pop()  # which no two threads can do at once
        except IndexError:
            space = np.empty(0, np.float32)
        if space.size < size:
            space = np.empty(size, np.float32)
        try:
            yield space[:size].reshape(shape)
        finally:
            self._free.append(space)
