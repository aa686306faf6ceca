"""Energy scores of whole fields in the streaming pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.evaluation.distances import Distances, add_distances, energy_parts
from weatherdiff.evaluation.estimators import score_from_parts, skill
from weatherdiff.evaluation.fields.statistic import FORECAST, Array, FieldSums, Sums

if TYPE_CHECKING:
    from weatherdiff.evaluation.matching import Match
    from weatherdiff.evaluation.totals import Total

__all__ = ["EnergyScore", "energy_scores"]


@dataclass(frozen=True)
class EnergyScore:
    """Energy score of whole fields, jointly over lead times or variables too if asked.

    A forecast whose members are right cell by cell may still be wrong as a film: the energy score
    over space and lead times tells. See :mod:`weatherdiff.evaluation.multivariate`.

    Parameters
    ----------
    lead_time : bool
        Join the lead times. Initial times with a missing valid time are then left out.
    variable : bool
        Join the variables, each divided by its scale.
    scales : tuple of (str, float)
        Scale of each variable by label, in its unit, where they are joined: a standard deviation.
    """

    lead_time: bool = False
    variable: bool = False
    scales: tuple[tuple[str, float], ...] = ()

    @property
    def name(self) -> str:
        """Of its scores: ``energy_score``, with what is joined beside space."""
        return "energy_score" + "_lead_time" * self.lead_time + "_variable" * self.variable

    def coordinates(self, match: Match) -> dict[str, Any]:
        """No dimensions of its own."""
        return {}

    def begin(self, match: Match) -> FieldSums:
        """Start the sums of a block.

        Raises
        ------
        InputError
            Variables are joined and one has no scale.
        """
        labels = [channel.label for channel in match.units]
        scales = dict(self.scales) if self.variable else {}
        for label in labels if self.variable else []:
            if not scales.get(label, 0) > 0:
                raise InputError(
                    f"the energy score over variables needs a positive scale of {label}, found "
                    f"{scales.get(label)}."
                )
        return _EnergySums(self, match, [scales.get(label, 1.0) for label in labels])


class _EnergySums:
    def __init__(self, statistic: EnergyScore, match: Match, scales: list[float]) -> None:
        self._statistic, self._match, self._scales = statistic, match, scales
        self._distances: dict[tuple[int, ...], Distances] = {}
        self._weight: dict[tuple[int, ...], float] = {}
        self._frames: dict[tuple[int, ...], int] = {}
        joined = (statistic.variable, False, statistic.lead_time)
        sizes = (len(match.units), len(match.inits), len(match.leads))
        self._shape = tuple(1 if j else n for j, n in zip(joined, sizes, strict=True))
        self._whole = int(np.prod([n for j, n in zip(joined, sizes, strict=True) if j]))
        self._names = [FORECAST, *match.references]

    def add(
        self, place: tuple[int, int, int], observation: Array, ensembles: Mapping[str, Array]
    ) -> None:
        if np.isnan(observation).all():
            return
        variable, init, lead = place
        key = (variable % self._shape[0], init, lead % self._shape[2])
        target = observation.ravel()
        for region, weights in enumerate(self._match.weights):
            at = (*key, region)
            for which, name in enumerate(self._names):
                members = ensembles[name].reshape(len(ensembles[name]), -1)
                sums = self._distances.setdefault((*at, which), Distances.zeros(len(members)))
                counted = add_distances(
                    members, target, weights, sums, scale=self._scales[variable]
                )
            self._weight[at] = self._weight.get(at, 0.0) + counted
            self._frames[at] = self._frames.get(at, 0) + 1

    def result(self) -> Sums:
        regions = len(self._match.regions)
        shape = (*self._shape, regions)
        weight = np.zeros(shape)
        parts = np.zeros((2, len(self._names), *shape))
        for at, counted in self._weight.items():
            if counted == 0 or self._frames[at] < self._whole:
                continue  # nothing observed, or not all that is to be joined
            weight[at] = 1
            for which in range(len(self._names)):
                apart = self._distances[(*at, which)]
                distance, dispersion = energy_parts(
                    apart.to_observation / counted, apart.between / counted
                )
                parts[(0, which, *at)], parts[(1, which, *at)] = distance, dispersion
        dims = ["variable", "region", "init_time", "lead_time"]
        drop = [axis for axis, joined in ((0, self._statistic.variable),
                                          (3, self._statistic.lead_time)) if joined]  # fmt: skip

        def arranged(values: Array) -> tuple[tuple[str, ...], Array]:
            moved = np.moveaxis(values, -1, 1).squeeze(tuple(drop))
            return tuple(d for i, d in enumerate(dims) if i not in drop), moved

        name = self._statistic.name
        sums: Sums = {f"{name}_weight": arranged(weight)}
        for which, reference in enumerate(self._names):
            suffix = reference and f"_{reference}"
            sums[f"{name}_distance{suffix}"] = arranged(parts[0, which])
            sums[f"{name}_dispersion{suffix}"] = arranged(parts[1, which])
        return sums


def energy_scores(
    total: Total, estimator: str, ensemble_size: int | None
) -> dict[str, xr.DataArray]:
    """Energy scores, and skills against the references, of what is among the sums."""
    scores: dict[str, xr.DataArray] = {}
    for key in map(str, total.statistics.data_vars):
        if key.startswith("sum_energy_score") and key.endswith("_weight"):
            name = key.removeprefix("sum_").removesuffix("_weight")
            scores |= _of_one(total, name, estimator, ensemble_size)
    return scores


def _of_one(
    total: Total, name: str, estimator: str, ensemble_size: int | None
) -> dict[str, xr.DataArray]:
    weight = total(f"sum_{name}_weight")
    weight = weight.where(weight > 0)
    attrs = total.statistics.attrs

    def score(suffix: str, members: int) -> xr.DataArray:
        distance, dispersion = (
            total(f"sum_{name}_{part}{suffix}") / weight for part in ("distance", "dispersion")
        )
        return score_from_parts(
            (distance, xr.zeros_like(weight), dispersion), members=members,
            reference=bool(suffix), estimator=estimator, ensemble_size=ensemble_size,
        )  # fmt: skip

    scores = {name: score("", int(attrs["members"]))}
    for reference in attrs["references"]:
        members = int(total.statistics[f"sum_over_{reference}"].attrs["members"])
        of_reference = score(f"_{reference}", members)
        scores[f"{name}_{reference}"] = of_reference
        scores[f"{name.replace('score', 'skill')}_{reference}"] = skill(
            scores[name], of_reference, f"energy skill against {reference}"
        )
    return scores
