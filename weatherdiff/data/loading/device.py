"""Batches from the memory of the loader to the device."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from weatherdiff.data.loading.packed import PackedBatch

if TYPE_CHECKING:
    from weatherdiff.data.loader import Batch

__all__ = ["Transfer"]

#: Fields of a batch that the network reads or is compared with; weights and times stay as they are.
CONVERTED = frozenset({"history", "forcings", "static", "target"})


class Transfer:
    """Copy batches to a device, and unpack and convert them there.

    Pinned memory is copied from after the call has returned. So a batch is held until its copy is
    done: before that its memory must not go back to the loader, which would fill it anew.

    Parameters
    ----------
    dtype : torch.dtype, optional
        Of the fields on the device, bfloat16 say, which halves what they take there; by default as
        the loader makes them, float32. They are converted on the device; weights stay float32.

    Notes
    -----
    The tests run on processors alone: the branch of CUDA, its events and pinned memory, is tested
    with an imitation of an event, and was never run on a GPU.

    Examples
    --------
    >>> from weatherdiff.data.loader import Batch
    >>> batch = Batch(*torch.ones(6, 2).unbind())
    >>> moved = Transfer(torch.bfloat16)(batch, torch.device("cpu"))
    >>> moved.history.dtype, moved.weights.dtype
    (torch.bfloat16, torch.float32)
    """

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        self.dtype = dtype
        self._held: deque[tuple[Any, Batch | PackedBatch]] = deque()

    def __call__(self, batch: Batch | PackedBatch, device: torch.device) -> Batch:
        """Give the batch on the device."""
        while self._held and self._held[0][0].query():
            self._held.popleft()
        fields: dict[str, Any] = {
            name: one.to(device, non_blocking=device.type == "cuda")
            for name, one in batch._asdict().items()
            if isinstance(one, Tensor)
        }
        moved = batch._replace(**fields)
        if device.type == "cuda" and batch.history.is_pinned():
            self._hold(torch.cuda.current_stream(device).record_event(), batch)
        plain = moved.unpack() if isinstance(moved, PackedBatch) else moved
        if self.dtype is None:
            return plain
        return plain._replace(**{n: getattr(plain, n).to(self.dtype) for n in CONVERTED})

    def _hold(self, copied: Any, batch: Batch | PackedBatch) -> None:
        self._held.append((copied, batch))
