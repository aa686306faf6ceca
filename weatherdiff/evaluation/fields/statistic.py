"""What a statistic of whole fields is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy.typing as npt

if TYPE_CHECKING:
    from weatherdiff.evaluation.matching import Match

__all__ = ["FORECAST", "FieldStatistic", "FieldSums", "Sums"]

Array = npt.NDArray[Any]
Sums = dict[str, tuple[tuple[str, ...], Array]]
FORECAST = ""  # its key among the ensembles; references have their names


class FieldSums(Protocol):
    """Sums of one statistic for a block of initial times."""

    def add(
        self,
        place: tuple[int, int, int],
        observation: Array,
        ensembles: Mapping[str, Array],
    ) -> None:
        """Add a frame.

        Parameters
        ----------
        place : (variable, init_time, lead_time)
            Positions in the block.
        observation : (latitude, longitude)
            NaN where nothing is to be counted.
        ensembles : mapping of str to (number, latitude, longitude)
            The forecast, under ``""``, and the references by name.
        """
        ...

    def result(self) -> Sums:
        """Give the sums: dimensions and values by name, without the prefix ``sum_``."""
        ...


class FieldStatistic(Protocol):
    """What is asked for."""

    def begin(self, match: Match) -> FieldSums:
        """Start the sums of a block."""
        ...

    def coordinates(self, match: Match) -> dict[str, Any]:
        """Give the coordinates of its own dimensions."""
        ...
