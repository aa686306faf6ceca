"""Windows of a field store, or of the user's own data -> normalised batches of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from weatherdiff.data.fields import Fields
from weatherdiff.data.forcings import forcing_fields, static_fields
from weatherdiff.data.loading.arithmetic import to_tendencies
from weatherdiff.data.loading.order import Order
from weatherdiff.data.loading.reader import Reader
from weatherdiff.data.loading.states import MemoryReader, StateReader
from weatherdiff.data.loading.stream import WindowStream
from weatherdiff.data.windows import Int, Windows, WindowSpec

__all__ = ["Batch", "WindowDataset", "static_channels"]

Float = npt.NDArray[np.float32]

CACHE_BYTES = 2 * 2**30
AHEAD_BYTES = 2**27  # of batches that wait, so that a pause of the threads is not one of training


class Batch(NamedTuple):
    """Normalised windows.

    Attributes
    ----------
    history : (batch, history, channel, lat, lon)
        Anomalies; 0 where there are no data.
    forcings : (batch, history + frames, forcing, lat, lon)
    static : (batch, static, lat, lon)
    target : (batch, frames, channel, lat, lon)
        Change from the last frame, unit variance for each channel and lead; 0 where no data.
    weights : (batch, frames, channel, lat, lon)
        Relative cell areas; 0 where there are no data, so that those cells carry no loss.
    init_times : (batch,)
        Seconds since 1970-01-01 UTC.
    """

    history: Tensor
    forcings: Tensor
    static: Tensor
    target: Tensor
    weights: Tensor
    init_times: Tensor


class WindowDataset(Dataset[Batch]):
    """The windows of one period.

    :meth:`stream` gives batches that threads prefetch; ``__getitems__`` any windows at once, also
    for a ``DataLoader`` whose ``collate_fn`` passes batches on. The numbers are the same. Stores
    smaller than ``cache_bytes`` are normalised once and kept.

    Parameters
    ----------
    store : FieldStore or SourceFields
        Prepared fields, or the user's own as they are, which gives the same batches.
    windows : Windows
        As :func:`weatherdiff.data.windows.find_windows` gives them.
    spec : WindowSpec
        Their shape.
    forcings : sequence of str
        Of :data:`weatherdiff.data.forcings.FORCINGS`.
    cache_bytes : int
        Largest store to keep in memory.

    Attributes
    ----------
    static : (static, latitude, longitude) tensor
        Inputs that are the same in all windows.
    area : (channel, latitude, longitude)
        Weights where there are data.
    complete : bool
        Whether data are everywhere: all windows have the same weights.
    in_memory : bool
    """

    def __init__(
        self,
        store: Fields,
        windows: Windows,
        spec: WindowSpec,
        forcings: Sequence[str],
        *,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.store, self.windows, self.spec = store, windows, spec
        self.forcings = tuple(forcings)
        self.static = torch.from_numpy(static_channels(store))
        area = store.grid.area_weights().to_numpy() * store.mask
        self.area = (area / area.mean()).astype(np.float32)
        self.complete = bool(store.mask.all()) and not store.metadata.get("fill")
        self._reader: Reader = StateReader(store.reader(), store.normalizer, store.times)
        self.in_memory = store.nbytes <= cache_bytes
        if self.in_memory:
            self._reader = MemoryReader(self._reader, np.unique(windows.indices))

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, rows: list[int]) -> Batch:
        """Fetch several windows as one batch."""
        parts = []
        for frames in (slice(None, self.spec.history), slice(self.spec.history, None)):
            wanted = self.windows.indices[rows, frames]
            states = self._reader.read(wanted.ravel())
            parts.append(states.reshape(*wanted.shape, *states.shape[1:]))
        return self._finish(np.asarray(rows), (parts[0], parts[1]))

    def stream(
        self, order: Order, *, threads: int = 2, pinned: bool = False
    ) -> WindowStream[Batch]:
        """Give batches in an order, made ahead by threads.

        Parameters
        ----------
        order : Order
            Of as many windows as there are here.
        threads : int
            0 makes each batch when it is asked for.
        pinned : bool
            History and target in page-locked memory, for CUDA.
        """
        return WindowStream(
            self._reader,
            self.store.shape[1:],
            self.windows.indices,
            order,
            self._finish,
            parts=(self.spec.history, self.spec.frames),
            threads=threads,
            ahead=self.ahead(order, threads),
            pinned=pinned,
        )

    def ahead(self, order: Order, threads: int) -> int:
        """Give how many batches are made ahead: two to eight a thread, fewer of large ones."""
        frame_bytes = self.store.nbytes // self.store.shape[0]
        batch_bytes = len(order.rows(0)) * frame_bytes * (self.spec.history + self.spec.frames)
        return min(max(AHEAD_BYTES // max(1, batch_bytes), 2 * threads), 8 * threads)

    def times_of(self, rows: Int) -> tuple[Int, Int]:
        """Give the times of the frames of windows, each once, and where each frame has its own."""
        times = self.windows.init_times[rows][:, None] + self.spec.offsets
        unique, where = np.unique(times, return_inverse=True)
        return unique, where.reshape(times.shape)

    def forcings_at(self, times: Int) -> Float:
        """Give the forcings at times; (time, forcing, lat, lon)."""
        return forcing_fields(self.forcings, times, self.store.grid, self.store.calendar)

    def _finish(self, rows: Int, parts: tuple[Float, ...]) -> Batch:
        """Make a batch of normalised states, in their memory; NaN is where there are no data."""
        history, target = parts
        unique, where = self.times_of(rows)
        to_tendencies(
            target.reshape(*target.shape[:3], -1),
            history.reshape(*history.shape[:3], -1),
            self.store.normalizer.tendency_std,
        )
        if self.complete:
            weights = torch.from_numpy(self.area).expand(target.shape)
        else:
            weights = torch.from_numpy(self._weights_of(target))
            for part in parts:
                np.nan_to_num(part, copy=False)
        return Batch(
            history=torch.from_numpy(history),
            forcings=torch.from_numpy(self.forcings_at(unique)[where]),
            static=self.static.expand(len(rows), *self.static.shape),
            target=torch.from_numpy(target),
            weights=weights,
            init_times=torch.from_numpy(self.windows.init_times[rows]),
        )

    def _weights_of(self, target: Float) -> Float:
        weights = np.empty_like(target)
        for place in np.ndindex(target.shape[:2]):
            weights[place] = self.area
            weights[place][np.isnan(target[place])] = 0
        return weights


def static_channels(store: Fields) -> npt.NDArray[np.float32]:
    """All static inputs of a store: position, mask, and the user's own; (static, lat, lon)."""
    return np.concatenate([static_fields(store.grid, store.mask), store.static])
