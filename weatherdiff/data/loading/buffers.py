"""Memory that is used again when nobody looks at it any more."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Buffers"]


class Buffers:
    """Arrays of one shape, recycled.

    Fresh memory costs about as much as the copy into it, page by page. An array that was taken
    comes back by itself when no array or tensor that was made of it is left, so that a batch which
    is kept (``list(loader)``) keeps its memory and is never written over.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    pinned : bool
        Page-locked, which CUDA copies from faster and while the program goes on; so an array must
        be held until it is copied, as :class:`~weatherdiff.data.loading.device.Transfer` does.
        Needs CUDA.

    Examples
    --------
    >>> buffers = Buffers((2, 3))
    >>> first = buffers.take()
    >>> address = first.ctypes.data
    >>> buffers.take().ctypes.data == address            # ``first`` is in use
    False
    >>> row = first[0]
    >>> del first
    >>> buffers.spare                                    # the second one; ``row`` holds the first
    1
    >>> del row
    >>> buffers.spare
    2
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32, *, pinned: bool = False
    ) -> None:
        self.shape, self.dtype, self.pinned = shape, np.dtype(dtype), pinned
        #: How many arrays there are.
        self.made = 0
        self._free: deque[npt.NDArray[Any]] = deque()

    @property
    def spare(self) -> int:
        """How many arrays wait to be used again."""
        return len(self._free)

    def take(self) -> npt.NDArray[Any]:
        """Give an array whose values are arbitrary."""
        try:
            base = self._free.pop()
        except IndexError:
            base = self._new()
        # The view lives as long as anything made of it; numpy would let views of views forget it,
        # were its base not of another type.
        view = np.asarray(base.data)
        weakref.finalize(view, self._free.append, base).atexit = False
        return view

    def _new(self) -> npt.NDArray[Any]:
        self.made += 1
        if not self.pinned:
            return np.empty(self.shape, self.dtype)
        import torch

        size = int(np.prod(self.shape)) * self.dtype.itemsize
        memory: npt.NDArray[Any] = torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
        return memory.view(self.dtype).reshape(self.shape)
