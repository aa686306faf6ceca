"""Variogram score of whole fields in the streaming pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from weatherdiff.evaluation.fields.statistic import FORECAST, Array, FieldSums, Sums
from weatherdiff.evaluation.variogram import neighbour_lags, variogram_sums

if TYPE_CHECKING:
    from weatherdiff.evaluation.matching import Match
    from weatherdiff.evaluation.totals import Total

__all__ = ["VariogramScore", "variogram_scores"]

_DIMS = ("variable", "init_time", "lead_time")
_SERIES = ("squares", "corrections", "weight")


@dataclass(frozen=True)
class VariogramScore:
    """Variogram score of the pairs of cells near each other, over the whole grid.

    See :mod:`weatherdiff.evaluation.variogram`.

    Parameters
    ----------
    reach : int
        Largest distance of a pair in cells along each side.
    order : float
        Exponent of the differences.
    """

    reach: int = 2
    order: float = 0.5

    def coordinates(self, match: Match) -> dict[str, Any]:
        """No dimensions of its own."""
        return {}

    def begin(self, match: Match) -> FieldSums:
        """Start the sums of a block."""
        return _VariogramSums(self, match)


class _VariogramSums:
    def __init__(self, statistic: VariogramScore, match: Match) -> None:
        self._order = statistic.order
        self._periodic = 1 if match.grid.is_periodic else None
        self._lags = neighbour_lags(match.grid.shape, statistic.reach, periodic=self._periodic)
        self._weights = match.area
        shape = (len(match.units), len(match.inits), len(match.leads))
        names = (FORECAST, *match.references)
        self._sums = {name: np.zeros((len(_SERIES), *shape)) for name in names}

    def add(
        self, place: tuple[int, int, int], observation: Array, ensembles: Mapping[str, Array]
    ) -> None:
        for name, members in ensembles.items():
            self._sums[name][(slice(None), *place)] = variogram_sums(
                members,
                observation,
                self._weights,
                self._lags,
                periodic=self._periodic,
                order=self._order,
            )

    def result(self) -> Sums:
        return {
            f"variogram_{part}{name and f'_{name}'}": (_DIMS, values)
            for name, sums in self._sums.items()
            for part, values in zip(_SERIES, sums, strict=True)
        }


def variogram_scores(
    total: Total, estimator: str, ensemble_size: int | None
) -> dict[str, xr.DataArray]:
    """Variogram scores, if they are among the sums: standard if that is asked for, else fair."""
    if "sum_variogram_weight" not in total.statistics:
        return {}
    scores = {}
    for name in ("", *total.statistics.attrs["references"]):
        suffix = name and f"_{name}"
        squares = total(f"sum_variogram_squares{suffix}")
        if estimator != "standard":  # zero for one member
            squares = squares - total(f"sum_variogram_corrections{suffix}")
        weight = total(f"sum_variogram_weight{suffix}")
        scores[f"variogram_score{suffix}"] = squares / weight.where(weight > 0)
    return scores
