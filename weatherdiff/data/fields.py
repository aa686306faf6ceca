"""What training knows about fields, whether they were prepared or are the user's own files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weatherdiff.data.channels import Channels
from weatherdiff.data.loading.reader import Reader
from weatherdiff.data.normalization import Normalizer
from weatherdiff.data.windows import Int
from weatherdiff.grid import Grid

__all__ = ["Fields"]


@dataclass(frozen=True, kw_only=True)
class Fields(ABC):
    """One array (time, channel, latitude, longitude) and its statistics.

    Attributes
    ----------
    channels : Channels
    grid : Grid
    times : (time,)
        Seconds since 1970-01-01 UTC, ascending; gaps are simply not there.
    valid : (time,)
        False where a frame has missing data in cells that have data at other times.
    mask : (channel, latitude, longitude)
        False in cells that never have data (sea, for a land data set).
    static : (static, latitude, longitude)
        The user's own static fields, normalised.
    normalizer : Normalizer
    metadata : dict
        Everything else: provenance, names of static fields, the user's layout.
    """

    channels: Channels
    grid: Grid
    times: Int
    valid: npt.NDArray[np.bool_]
    mask: npt.NDArray[np.bool_]
    static: npt.NDArray[np.float32]
    normalizer: Normalizer
    metadata: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(time, channel, latitude, longitude)."""
        return (len(self.times), len(self.channels), *self.grid.shape)

    @property
    def nbytes(self) -> int:
        """Size of the fields when decoded."""
        return 4 * int(np.prod(self.shape))

    @property
    def calendar(self) -> str:
        """CF name of the calendar of the times."""
        return self.normalizer.period.calendar

    @abstractmethod
    def reader(self, *, threads: int = 1) -> Reader:
        """Give what reads frames in physical units.

        Parameters
        ----------
        threads : int
            That decode the frames of one call, where more than one can.
        """
