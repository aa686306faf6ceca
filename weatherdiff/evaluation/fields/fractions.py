"""Fractions skill score of events in the streaming pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.evaluation.fields.statistic import FORECAST, Array, FieldSums, Sums
from weatherdiff.evaluation.neighbourhood import fractions_sums

if TYPE_CHECKING:
    from weatherdiff.evaluation.events import Event
    from weatherdiff.evaluation.matching import Match
    from weatherdiff.evaluation.totals import Total

__all__ = ["FractionsSkillScore", "fractions_scores"]


@dataclass(frozen=True)
class FractionsSkillScore:
    """Fractions skill score of the settings' events, over the whole grid.

    See :mod:`weatherdiff.evaluation.neighbourhood`.

    Parameters
    ----------
    windows : tuple of int
        Widths of the neighbourhoods in cells, odd.
    """

    windows: tuple[int, ...] = (1, 3, 5, 9)

    def coordinates(self, match: Match) -> dict[str, Any]:
        """Widths of the neighbourhoods."""
        return {"window": list(self.windows)}

    def begin(self, match: Match) -> FieldSums:
        """Start the sums of a block.

        Raises
        ------
        InputError
            There are no events.
        """
        if not match.settings.events:
            raise InputError("the fractions skill score needs events.")
        return _FractionsSums(self, match)


class _FractionsSums:
    def __init__(self, statistic: FractionsSkillScore, match: Match) -> None:
        self._match, self._windows = match, statistic.windows
        self._labels = [channel.label for channel in match.units]
        self._events = list(dict.fromkeys(event.label for event in match.settings.events))
        shape = (len(self._labels), len(match.inits), len(match.leads), len(self._events))
        self._sums = np.full((2, *shape, len(self._windows)), np.nan)
        self._weights = match.area
        self._thresholds: dict[int, list[tuple[Event, Array]]] = {}

    def add(
        self, place: tuple[int, int, int], observation: Array, ensembles: Mapping[str, Array]
    ) -> None:
        members = ensembles[FORECAST]
        for event, at_times in self._events_of(place[0]):
            threshold = at_times[*place[1:]]
            missing = np.isnan(observation) | np.isnan(threshold)
            beyond = np.greater if event.above else np.less
            probability = beyond(members, threshold).mean(axis=0)
            probability[np.isnan(members.sum(axis=0))] = np.nan
            occurred = np.where(missing, np.nan, beyond(observation, threshold))
            self._sums[:, *place, self._events.index(event.label)] = fractions_sums(
                probability,
                occurred,
                self._weights,
                windows=self._windows,
                periodic=self._match.grid.is_periodic,
            )

    def _events_of(self, variable: int) -> list[tuple[Event, Array]]:
        """Events of a variable, and their thresholds at the valid times of the block."""
        if variable not in self._thresholds:
            match, label = self._match, self._labels[variable]
            events = [event for event in match.settings.events if event.variable == label]
            # Of one variable at a time, as they come one after the other.
            self._thresholds = {
                variable: [(e, e.thresholds(match.valid_times, match.grid)) for e in events]
            }
        return self._thresholds[variable]

    def result(self) -> Sums:
        dims = ("variable", "init_time", "lead_time", "event", "window")
        return {
            "fractions_error": (dims, self._sums[0]),
            "fractions_largest": (dims, self._sums[1]),
        }


def fractions_scores(
    total: Total, estimator: str, ensemble_size: int | None
) -> dict[str, xr.DataArray]:
    """Fractions skill scores, if they are among the sums."""
    if "sum_fractions_error" not in total.statistics:
        return {}
    largest = total("sum_fractions_largest")
    score = 1 - total("sum_fractions_error") / largest.where(largest > 0)
    return {"fractions_skill_score": score.assign_attrs(units="1")}
