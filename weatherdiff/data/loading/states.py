"""Readers of normalised frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from weatherdiff.data.loading.arithmetic import TILE, to_anomalies
from weatherdiff.data.loading.reader import Reader
from weatherdiff.data.normalization import Normalizer
from weatherdiff.data.windows import Int

__all__ = ["MemoryReader", "StateReader"]

Float = npt.NDArray[np.float32]


class StateReader:
    """Frames as normalised anomalies, in the memory that they are read to.

    As :meth:`weatherdiff.data.normalization.Normalizer.state` makes them, in one pass.

    Parameters
    ----------
    reader : Reader
        Gives physical frames (n, channel, latitude, longitude).
    normalizer : Normalizer
    times : (time,)
        Of the time axis, seconds since 1970-01-01 UTC.
    """

    def __init__(self, reader: Reader, normalizer: Normalizer, times: Int) -> None:
        self.reader, self.normalizer, self.times = reader, normalizer, times

    def read(self, indices: npt.ArrayLike, out: Float | None = None) -> Float:
        """Read frames (n, ...) in the order asked for, into ``out`` if it is given.

        Raises
        ------
        StorageError
            A frame cannot be read.
        InputError
            A value is outside the bounds of its variable.
        """
        wanted = np.asarray(indices, np.int64)
        frames = self.reader.read(wanted, out=out)
        if not frames.flags.c_contiguous:
            frames = frames.copy()
        if len(wanted):
            self._normalize(frames, self.times[wanted])
        return frames

    def _normalize(self, frames: Float, times: Int) -> None:
        normalizer = self.normalizer
        basis = normalizer.harmonics.evaluate(times)
        rows = frames.reshape(*frames.shape[:2], -1)
        climatology = normalizer.climatology.reshape(*normalizer.climatology.shape[:2], -1)
        for c, transform in enumerate(normalizer.transforms):
            if transform.is_identity:
                continue
            for start in range(0, rows.shape[2], TILE):
                tile = rows[:, c, start : start + TILE]
                tile[...] = transform.forward(tile)
        to_anomalies(rows, basis, climatology, normalizer.std)


class MemoryReader:
    """Frames that are in memory already.

    Parameters
    ----------
    reader : Reader
        Where they come from.
    indices : (n,)
        Positions that will be asked for, ascending.
    """

    def __init__(self, reader: Reader, indices: Int) -> None:
        self.indices, self.frames = indices, reader.read(indices)

    def read(self, indices: npt.ArrayLike, out: Float | None = None) -> Float:
        """Give frames (n, ...) in the order asked for, in ``out`` if it is given."""
        places = np.searchsorted(self.indices, np.asarray(indices, np.int64))
        if out is None:
            return self.frames[places]
        for frame, place in zip(out, places.tolist(), strict=True):
            frame[...] = self.frames[place]
        return out
