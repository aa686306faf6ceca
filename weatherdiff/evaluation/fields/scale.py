"""CRPS by spatial scale in the streaming pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.evaluation.estimators import score_from_parts, skill
from weatherdiff.evaluation.fields.statistic import FORECAST, Array, FieldSums, Sums
from weatherdiff.evaluation.kernels import CLIPPED, Wanted, ensemble_sums
from weatherdiff.evaluation.scales import coarsen

if TYPE_CHECKING:
    from weatherdiff.evaluation.matching import Match
    from weatherdiff.evaluation.totals import Total

__all__ = ["CRPSByScale", "scale_scores"]

_PARTS = CLIPPED  # over, under, dispersion
_DIMS = ("variable", "init_time", "lead_time", "scale")


@dataclass(frozen=True)
class CRPSByScale:
    """CRPS of averages over boxes of cells, over the whole grid.

    See :mod:`weatherdiff.evaluation.scales`.

    Parameters
    ----------
    scales : tuple of int
        Sides of the boxes in cells.
    """

    scales: tuple[int, ...] = (1, 2, 4, 8)

    def coordinates(self, match: Match) -> dict[str, Any]:
        """Sides of the boxes."""
        attrs = {"long_name": "side of the boxes averaged over", "units": "cells"}
        return {"scale": ("scale", list(self.scales), attrs)}

    def begin(self, match: Match) -> FieldSums:
        """Start the sums of a block.

        Raises
        ------
        InputError
            A side is less than one cell.
        """
        if min(self.scales, default=0) < 1:
            raise InputError(f"scales are {self.scales}, expected at least one cell.")
        return _ScaleSums(self, match)


class _ScaleSums:
    def __init__(self, statistic: CRPSByScale, match: Match) -> None:
        self._scales = statistic.scales
        self._weights = match.area
        shape = (len(match.units), len(match.inits), len(match.leads), len(self._scales))
        self._weight = np.zeros(shape)
        names = (FORECAST, *match.references)
        self._parts = {name: np.zeros((len(_PARTS), *shape)) for name in names}

    def add(
        self, place: tuple[int, int, int], observation: Array, ensembles: Mapping[str, Array]
    ) -> None:
        counted = ~np.isnan(observation) & (self._weights > 0)
        for i, k in enumerate(self._scales):
            target, weight = coarsen(observation, self._weights, k, counted=counted)
            self._weight[(*place, i)] = weight.sum()
            for name, members in ensembles.items():
                averages, _ = coarsen(members, self._weights, k, counted=counted)
                sums = ensemble_sums(
                    averages.reshape(len(averages), -1),
                    target.ravel(),
                    weight.reshape(1, -1),
                    wanted=Wanted(rank=False, clipped=False),
                )
                for part, kept in zip(_PARTS, self._parts[name], strict=True):
                    kept[(*place, i)] = sums[part][0]

    def result(self) -> Sums:
        sums: Sums = {"scale_weight": (_DIMS, self._weight)}
        for name, parts in self._parts.items():
            suffix = name and f"_{name}"
            for part, values in zip(_PARTS, parts, strict=True):
                sums[f"scale_{part}{suffix}"] = (_DIMS, values)
        return sums


def scale_scores(
    total: Total, estimator: str, ensemble_size: int | None
) -> dict[str, xr.DataArray]:
    """CRPS by scale, and its skill against the references, if it is among the sums."""
    if "sum_scale_weight" not in total.statistics:
        return {}
    weight = total("sum_scale_weight")
    weight = weight.where(weight > 0)
    attrs = total.statistics.attrs

    def score(suffix: str, members: int) -> xr.DataArray:
        return score_from_parts(
            [total(f"sum_scale_{part}{suffix}") / weight for part in _PARTS], members=members,
            reference=bool(suffix), estimator=estimator, ensemble_size=ensemble_size,
        )  # fmt: skip

    scores = {"crps_by_scale": score("", int(attrs["members"]))}
    for name in attrs["references"]:
        members = int(total.statistics[f"sum_over_{name}"].attrs["members"])
        scores[f"crps_by_scale_{name}"] = score(f"_{name}", members)
        scores[f"crpss_by_scale_{name}"] = skill(
            scores["crps_by_scale"], scores[f"crps_by_scale_{name}"], f"CRPS skill against {name}"
        )
    return scores
