"""What to score, beside the scores that are always made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy.typing as npt
import xarray as xr

if TYPE_CHECKING:
    from weatherdiff.evaluation.events import Event
    from weatherdiff.evaluation.fields import FieldStatistic

__all__ = ["Climatology", "Settings"]


class Climatology(Protocol):
    """What anomalies are taken from, for the anomaly correlation."""

    def mean(self, valid_times: npt.NDArray[Any]) -> xr.Dataset:
        """Climatological means over ``(time[, level], latitude, longitude)``."""
        ...


@dataclass(frozen=True)
class Settings:
    """What to score and how.

    Parameters
    ----------
    nan : {"propagate", "omit"}
        What a NaN in a forecast or reference does where there is an observation: make the score
        NaN, or leave the cell out, which lowers ``coverage``. A member that is missing as a whole
        is an error either way.
    weights : (latitude, longitude), optional
        Weights of the cells, at least zero; exact cell areas unless given. Zero leaves out.
    regions : (region, latitude, longitude), optional
        Shares of the cells that belong to each region, as :func:`regions` makes them; the whole
        grid unless given.
    events : sequence of Event
        Thresholds whose exceedance is forecast.
    climatology : Climatology, optional
        Means from which anomalies are taken, such as a
        :class:`~weatherdiff.evaluation.SmoothClimatology`.
    decomposition : bool
        Keep what the CRPS's reliability and resolution follow from: two numbers for each rank.
    maps : bool
        Keep sums over the initial times for each cell.
    fields : sequence of FieldStatistic
        Scores that need the cells together: energy and variogram scores, spectra, scores by
        spatial scale, fractions skill score.
    block : int, optional
        Initial times in one unit of work; as many as make about 32 MiB unless given. The result
        does not depend on it.

    Raises
    ------
    ValueError
        An unknown ``nan``, or ``block`` below one.

    Examples
    --------
    >>> Settings(maps=True).nan
    'propagate'
    """

    nan: str = "propagate"
    weights: xr.DataArray | None = None
    regions: xr.DataArray | None = None
    events: Sequence[Event] = ()
    climatology: Climatology | None = None
    decomposition: bool = False
    maps: bool = False
    fields: Sequence[FieldStatistic] = ()
    block: int | None = None

    def __post_init__(self) -> None:
        if self.nan not in ("propagate", "omit"):
            raise ValueError(f"nan is {self.nan!r}, expected 'propagate' or 'omit'.")
        if self.block is not None and self.block < 1:
            raise ValueError(f"block is {self.block}, expected at least one initial time.")
