"""Scores that need the cells of a field together, in the same pass as the pointwise ones.

A :class:`FieldStatistic` says what is asked; its ``begin`` gives an object that takes the frames of
a block of initial times as they come, and in the end gives its sums. They are over ``init_time``,
and they add.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from weatherdiff.evaluation.fields.energy import EnergyScore, energy_scores
from weatherdiff.evaluation.fields.fractions import FractionsSkillScore, fractions_scores
from weatherdiff.evaluation.fields.power import PowerSpectra, power_scores
from weatherdiff.evaluation.fields.scale import CRPSByScale, scale_scores
from weatherdiff.evaluation.fields.statistic import FORECAST, FieldStatistic, FieldSums
from weatherdiff.evaluation.fields.variogram import VariogramScore, variogram_scores

if TYPE_CHECKING:
    import xarray as xr

    from weatherdiff.evaluation.totals import Total

__all__ = [
    "FORECAST",
    "CRPSByScale",
    "EnergyScore",
    "FieldStatistic",
    "FieldSums",
    "FractionsSkillScore",
    "PowerSpectra",
    "VariogramScore",
    "field_scores",
]

_FINISH = (energy_scores, fractions_scores, power_scores, scale_scores, variogram_scores)


def field_scores(
    total: Total, *, estimator: str, ensemble_size: int | None
) -> dict[str, xr.DataArray]:
    """Scores of all field statistics that are among the sums.

    Parameters
    ----------
    total : Total
        Of the statistics.
    estimator, ensemble_size
        See :func:`~weatherdiff.evaluation.crps_from_parts`.
    """
    scores: dict[str, xr.DataArray] = {}
    for finish in _FINISH:
        scores |= finish(total, estimator, ensemble_size)
    return scores
