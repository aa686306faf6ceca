"""Windows of a field store -> normalised batches of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from weatherdiff.data.forcings import forcing_fields, static_fields
from weatherdiff.data.store import FieldStore
from weatherdiff.data.windows import Int, Windows, WindowSpec

__all__ = ["Batch", "WindowDataset", "static_channels"]

CACHE_BYTES = 2 * 2**30


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
    """The windows of one period, fetched a batch at a time.

    Use it with a ``DataLoader`` whose ``collate_fn`` passes batches on: the loader asks for all
    windows of a batch at once (``__getitems__``), and frames that windows share are read once.
    Stores smaller than ``cache_bytes`` are normalised once and kept; the numbers are the same.

    Parameters
    ----------
    store : FieldStore
    windows : Windows
        As :func:`weatherdiff.data.windows.find_windows` gives them.
    spec : WindowSpec
        Their shape.
    forcings : sequence of str
        Of :data:`weatherdiff.data.forcings.FORCINGS`.
    cache_bytes : int
        Largest store to keep in memory.
    """

    def __init__(
        self,
        store: FieldStore,
        windows: Windows,
        spec: WindowSpec,
        forcings: Sequence[str],
        *,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.store, self.windows, self.spec = store, windows, spec
        self.forcings = tuple(forcings)
        self._static = torch.from_numpy(static_channels(store))
        area = store.grid.area_weights().to_numpy() * store.mask
        self._area = (area / area.mean()).astype(np.float32)
        self._cache: npt.NDArray[np.float32] | None = None
        if store.nbytes <= cache_bytes:
            used = np.unique(windows.indices)
            self._position = np.zeros(len(store.times), np.int64)
            self._position[used] = np.arange(len(used))
            self._cache = self._states(used)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, rows: list[int]) -> Batch:
        """Fetch several windows as one batch."""
        indices = self.windows.indices[rows]
        unique, where = np.unique(indices, return_inverse=True)
        where = where.reshape(indices.shape)
        if self._cache is not None:
            states = self._cache[self._position[unique]]
        else:
            states = self._states(unique)
        forcings = forcing_fields(self.forcings, self.store.times[unique], self.store.grid)

        h = self.spec.history
        windows = states[where]
        target = self.store.normalizer.tendency(windows[:, h:], windows[:, h - 1])
        weights = np.where(np.isnan(target), np.float32(0), self._area)
        return Batch(
            history=torch.from_numpy(np.nan_to_num(windows[:, :h])),
            forcings=torch.from_numpy(forcings[where]),
            static=self._static.expand(len(rows), *self._static.shape),
            target=torch.from_numpy(np.nan_to_num(target)),
            weights=torch.from_numpy(weights),
            init_times=torch.from_numpy(self.windows.init_times[rows]),
        )

    def _states(self, indices: Int) -> npt.NDArray[np.float32]:
        """Normalised frames; NaN where masked, checked when the store was prepared."""
        return self.store.normalizer.state(self.store.read(indices), self.store.times[indices])


def static_channels(store: FieldStore) -> npt.NDArray[np.float32]:
    """All static inputs of a store: position, mask, and the user's own; (static, lat, lon)."""
    return np.concatenate([static_fields(store.grid, store.mask), store.static])
