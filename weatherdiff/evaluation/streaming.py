"""Blocks of forecasts through the kernels: the sums of each (variable, initial time, lead time).

Nothing here is larger than a block: the members of one channel, of a few lead times and rows, pass
through a kernel and leave their sums. All that is kept is additive, so that it does not matter how
the work is cut; the sums of one initial time and lead time are always added in the same order, so
that it does not even change the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.calendars import written
from weatherdiff.errors import InputError
from weatherdiff.evaluation.alignment import Channel, ascending_latitude, channels
from weatherdiff.evaluation.fields import FORECAST
from weatherdiff.evaluation.kernels import (
    ANOMALIES,
    CLIPPED,
    FIELDS,
    TILE,
    EnsembleSums,
    Events,
    Wanted,
    ensemble_sums,
)
from weatherdiff.evaluation.matching import (
    ANALYSIS_DIMS,
    CELL_DIMS,
    FORECAST_DIMS,
    SUM_DIMS,
    Match,
    load,
    require_same_grid,
)

__all__ = ["Accumulation", "score_block"]

Array = npt.NDArray[Any]

# Of a reference, what skill scores need; of a map, what is worth a picture.
REFERENCE_FIELDS = ("over", "under", "dispersion", "error", "squared_error", "variance")
MAP_FIELDS = REFERENCE_FIELDS


def score_block(match: Match) -> xr.Dataset:
    """Sum the scores of a block of initial times over the cells.

    Parameters
    ----------
    match : Match
        What is to be scored, with the initial times of the block alone.

    Returns
    -------
    xr.Dataset
        Sums over ``(variable, region, init_time, lead_time)``, see
        :mod:`weatherdiff.evaluation.aggregate`.

    Raises
    ------
    InputError
        A member is missing as a whole.
    """
    accumulation = Accumulation(match)
    for number, channel in enumerate(match.units):
        accumulation.observe(number, match.load_observation(channel))
        for leads, rows in match.tiles():
            references = {
                name: load(channel.of(forecast).isel(lead_time=leads, latitude=rows), FORECAST_DIMS)
                for name, forecast in accumulation.references.items()
            }
            forecast = match.load_forecast(channel, leads, rows)
            accumulation.add(leads, rows, forecast, references)
            del forecast, references  # before the next ones take their memory
    return accumulation.result()


@dataclass(frozen=True)
class _Channel:
    """What is known of the channel that is being added, at (init_time, lead_time)."""

    number: int
    label: str
    observation: Array  # (init_time, lead_time, latitude, longitude)
    thresholds: tuple[Array, ...]  # of each event, like the observation
    above: npt.NDArray[np.bool_]
    climatology: Array | None


class Accumulation:
    """Sums of a block of initial times, filled tile by tile.

    Channels come one after the other, each with :meth:`observe` first; lead times in any order;
    rows from south to north.

    Parameters
    ----------
    match : Match
        With the initial times of the block alone.

    Attributes
    ----------
    references : dict of str to xr.Dataset
        The references' forecasts for the block.
    """

    def __init__(self, match: Match) -> None:
        self.references = match.reference_forecasts()
        self._match = match
        self._labels = [channel.label for channel in match.units]
        self._events = list(dict.fromkeys(event.label for event in match.settings.events))
        self._channel: _Channel | None = None
        # By name of the ensemble, then by (channel, init_time, lead_time).
        self._sums: dict[str, dict[tuple[int, int, int], EnsembleSums]] = {
            name: {} for name in (FORECAST, *match.references)
        }
        shape = match.grid.shape
        self._observed = np.zeros((len(self._labels), *shape), bool)
        self._maps: dict[str, Array] = {}
        if match.settings.maps:
            names = ["weight", *MAP_FIELDS, *(f"crps_{name}" for name in match.references)]
            size = (len(self._labels), len(match.leads), *shape)
            self._maps = {name: np.zeros(size) for name in names}
        sizes = (len(self._labels), len(match.inits), len(match.leads), len(match.regions))
        self._complete = np.zeros(sizes)
        self._fields = [statistic.begin(match) for statistic in match.settings.fields]

    def observe(self, number: int, observation: Array) -> None:
        """Turn to a channel.

        Parameters
        ----------
        number : int
            Its position among the channels.
        observation : (init_time, lead_time, latitude, longitude)
            Verifying frames; NaN where there is none.
        """
        match = self._match
        channel = list(match.units)[number]
        events = [e for e in match.settings.events if e.variable == channel.label]
        self._channel = _Channel(
            number=number,
            label=channel.label,
            observation=observation,
            thresholds=tuple(e.thresholds(match.valid_times, match.grid) for e in events),
            above=np.array([event.above for event in events], bool),
            climatology=self._climatology(channel),
        )
        weighted = (match.weights > 0).any(axis=0).reshape(match.grid.shape)
        self._observed[number] |= (~np.isnan(observation)).any(axis=(0, 1)) & weighted

    def _climatology(self, channel: Channel) -> Array | None:
        """Climatological means at the valid times, like the observation."""
        match = self._match
        if match.settings.climatology is None:
            return None
        times, inverse = np.unique(match.valid_times, return_inverse=True)
        means, grid = ascending_latitude(match.settings.climatology.mean(times))
        require_same_grid(grid, match.grid, "the climatology")
        if channel not in channels(means, ANALYSIS_DIMS):
            raise InputError(f"the climatology has no {channel.label}.")
        frames = load(channel.of(means), ANALYSIS_DIMS)
        return frames[inverse.reshape(match.valid_times.shape)]

    def add(
        self, leads: slice, rows: slice, forecast: Array, references: Mapping[str, Array]
    ) -> None:
        """Add the members of some lead times and rows of the current channel.

        Parameters
        ----------
        leads, rows : slice
            Positions of the lead times and latitudes.
        forecast : (init_time, lead_time, number, latitude, longitude)
            Members.
        references : mapping of str to array of the same dimensions
            Members of each reference.

        Raises
        ------
        InputError
            A member is missing as a whole.
        """
        columns = len(self._match.grid.longitude)
        cells = slice(rows.start * columns, rows.stop * columns)
        weights = np.ascontiguousarray(self._match.weights[:, cells])
        for init in range(forecast.shape[0]):
            for k, lead in enumerate(range(leads.start, leads.stop)):
                ensembles = {FORECAST: forecast[init, k]}
                ensembles |= {name: members[init, k] for name, members in references.items()}
                self._add_frame((init, lead), rows, weights, ensembles)

    def _add_frame(
        self, place: tuple[int, int], rows: slice, weights: Array, ensembles: Mapping[str, Array]
    ) -> None:
        """Add one initial time and lead time: members (number, latitude, longitude)."""
        channel, settings = self._channel, self._match.settings
        if channel is None:
            raise ValueError("observe() must come before add().")
        observation = channel.observation[*place, rows]
        complete = np.ones(observation.shape, bool)
        if len(ensembles) > 1 or self._fields or settings.maps:
            with np.errstate(invalid="ignore", over="ignore"):
                for members in ensembles.values():  # a sum is NaN if one is, and fast
                    complete &= ~np.isnan(members.sum(axis=0))
        # Left out for all if for one; but what is not left out is NaN only where it is missing.
        shared: dict[str, Any] = {"usable": complete.ravel() if settings.nan == "omit" else None}
        if channel.thresholds:
            at_cells = [threshold[*place, rows].ravel() for threshold in channel.thresholds]
            shared["events"] = Events(np.stack(at_cells), channel.above)
        key = (channel.number, *place)
        pointwise = {}
        for name, members in ensembles.items():
            own: dict[str, Any] = {}
            if name == FORECAST and channel.climatology is not None:
                own["climatology"] = channel.climatology[*place, rows].ravel()
            sums = ensemble_sums(
                members.reshape(len(members), -1),
                observation.ravel(),
                weights,
                wanted=Wanted(
                    rank=name == FORECAST,
                    clipped=name == FORECAST,
                    decompose=name == FORECAST and settings.decomposition,
                    pointwise=settings.maps,
                    omit=settings.nan == "omit",
                ),
                into=self._sums[name].get(key),
                **shared,
                **own,
            )
            self._sums[name][key] = sums
            pointwise[name] = sums.pointwise
            if name == FORECAST and sums.member_missing.any():
                self._refuse_missing(np.flatnonzero(sums.member_missing), place)
        if len(ensembles) > 1:
            counted = weights * (complete & ~np.isnan(observation)).ravel()
            tiles = np.add.reduceat(counted, np.arange(0, counted.shape[1], TILE), axis=1)
            # One tile after the other, as the kernel adds.
            self._complete[key] = np.cumsum(np.c_[self._complete[key], tiles], axis=1)[:, -1]
        else:
            self._complete[key] = self._sums[FORECAST][key].complete
        if settings.nan == "omit":
            observation = np.where(complete, observation, np.nan)
        mapped = self._match.mapped
        if settings.maps and (mapped is None or not mapped[place]):
            self._add_maps(place[1], rows, observation, pointwise)
        for statistic in self._fields:
            statistic.add(key, observation, ensembles)

    def _add_maps(
        self, lead: int, rows: slice, observation: Array, pointwise: Mapping[str, Array | None]
    ) -> None:
        """Add the pointwise fields of the cells that count."""
        number = self._channel.number if self._channel else 0
        counted = ~np.isnan(observation)
        at = (number, lead, rows)
        self._maps["weight"][at] += counted
        for name, fields in pointwise.items():
            if fields is None:
                continue
            maps = dict(zip(FIELDS, fields.reshape(-1, *observation.shape), strict=False))
            if name == FORECAST:
                for field in MAP_FIELDS:
                    self._maps[field][at] += np.where(counted, maps[field], 0)
            else:
                crps = maps["over"] + maps["under"] - maps["dispersion"]
                self._maps[f"crps_{name}"][at] += np.where(counted, crps, 0)

    def _refuse_missing(self, numbers: Array, place: tuple[int, int]) -> None:
        match, channel = self._match, self._channel
        labels = match.forecasts["number"].values if "number" in match.forecasts.coords else None
        names = ", ".join(str(n if labels is None else labels[n]) for n in numbers)
        lead = match.leads[place[1]] / np.timedelta64(1, "h")
        raise InputError(
            f"member {names} of {channel.label if channel else ''} from "
            f"{written(match.inits[place[0]], 'm')} at lead time "
            f"{lead:g} h is missing (NaN wherever there is "
            "an observation) while others are there; complete the forecast, or leave it out."
        )

    def result(self) -> xr.Dataset:
        """Give the statistics of the block."""
        match = self._match
        dims = ("variable", "region", *SUM_DIMS)
        variables: dict[str, Any] = {}

        def put(name: str, values: Array, *more: str, **attrs: Any) -> None:
            # (variable, init_time, lead_time, region, ...) as it was gathered
            variables[f"sum_{name}"] = ((*dims, *more), np.moveaxis(values, 3, 1), attrs)

        gathered = {name: _gather(sums, self._shape()) for name, sums in self._sums.items()}
        ours = gathered[FORECAST]
        put("weight", ours["weight"])
        put("complete", self._complete)
        for i, name in enumerate(FIELDS):
            put(name, ours["totals"][..., i])
        if match.members == 1:  # undefined, and not zero
            put("variance", np.full_like(ours["weight"], np.nan))
        put("rank", ours["rank"], "rank")
        if match.settings.climatology is not None:
            for i, name in enumerate(ANOMALIES, start=len(FIELDS)):
                put(name, ours["totals"][..., i])
        if match.settings.decomposition:
            put("alpha", ours["alpha"], "rank")
            put("beta", ours["beta"], "rank")
        for name, reference in match.references.items():
            theirs = gathered[name]
            for field in REFERENCE_FIELDS:
                total = theirs["totals"][..., FIELDS.index(field)]
                put(f"{field}_{name}", total, members=reference.members)
        if self._events:
            joint = self._by_event(ours["joint"])
            put("event_count", joint.sum(axis=-2), "event", "count")
            put("event_occurred", joint[..., 1, :], "event", "count")
            clipped = self._by_event(ours["clipped"])
            for i, name in enumerate(CLIPPED):
                put(f"event_{name}", clipped[..., i], "event")
            for name, reference in match.references.items():
                for score, values in _brier_sums(self._by_event(gathered[name]["joint"])).items():
                    put(f"{score}_{name}", values, "event", members=reference.members)
        coords: dict[str, Any] = {
            "variable": self._labels,
            "region": match.regions,
            "init_time": match.inits,
            "lead_time": match.leads,
            "rank": np.arange(match.members + 1),
            "latitude": match.grid.latitude,
            "longitude": match.grid.longitude,
            "units": ("variable", list(match.units.values())),
        }
        if self._events:
            coords |= {"event": self._events, "count": np.arange(match.members + 1)}
        for sums in self._fields:
            for name, (own, values) in sums.result().items():
                variables[f"sum_{name}"] = (own, values)
        for statistic in match.settings.fields:
            coords |= statistic.coordinates(match)
        for name, values in self._maps.items():
            variables[f"map_{name}"] = (("variable", "lead_time", *CELL_DIMS), values)
        variables["cell_observed"] = (("variable", *CELL_DIMS), self._observed)
        cells = match.weights.reshape(-1, *match.grid.shape)
        variables["cell_weight"] = (("region", *CELL_DIMS), cells)
        variables["valid_time_found"] = (SUM_DIMS, match.index >= 0)
        attrs = {
            "members": match.members,
            "nan": match.settings.nan,
            "references": list(match.references),
        }
        return xr.Dataset(variables, coords, attrs)

    def _shape(self) -> tuple[int, int, int]:
        return len(self._labels), len(self._match.inits), len(self._match.leads)

    def _by_event(self, tables: list[Array]) -> Array:
        """Spread each channel's own events over all events, NaN where it has none.

        From (init_time, lead_time, region, own event, ...) of each channel to (variable, init_time,
        lead_time, region, event, ...).
        """
        first = tables[0]
        shape = (len(tables), *first.shape[:3], len(self._events), *first.shape[4:])
        spread = np.full(shape, np.nan)
        for number, (label, table) in enumerate(zip(self._labels, tables, strict=True)):
            own = [e.label for e in self._match.settings.events if e.variable == label]
            for i, name in enumerate(own):
                spread[number, :, :, :, self._events.index(name)] = table[:, :, :, i]
        return spread


def _gather(
    sums: Mapping[tuple[int, int, int], EnsembleSums], shape: tuple[int, int, int]
) -> dict[str, Any]:
    """Arrays over (variable, init_time, lead_time, region, ...); those of events by variable."""
    gathered: dict[str, Any] = {}
    places = [
        [(v, i, k) for i in range(shape[1]) for k in range(shape[2])] for v in range(shape[0])
    ]
    for name in ("totals", "weight", "rank", "alpha", "beta", "joint", "clipped"):
        by_variable = [
            np.stack([getattr(sums[place], name) for place in of_variable])
            for of_variable in places
        ]
        by_variable = [a.reshape(*shape[1:], *a.shape[1:]) for a in by_variable]
        gathered[name] = by_variable if name in ("joint", "clipped") else np.stack(by_variable)
    return gathered


def _brier_sums(joint: Array) -> dict[str, Array]:
    """Sum the Brier score, standard and fair, of tables (..., occurred, count)."""
    members = joint.shape[-1] - 1
    probability = np.arange(members + 1) / members
    standard = (joint[..., 0, :] * probability**2 + joint[..., 1, :] * (1 - probability) ** 2).sum(
        axis=-1
    )
    if members == 1:
        return {"brier": standard, "brier_fair": np.full_like(standard, np.nan)}
    lost = joint.sum(axis=-2) * probability * (1 - probability) / (members - 1)
    return {"brier": standard, "brier_fair": standard - lost.sum(axis=-1)}
