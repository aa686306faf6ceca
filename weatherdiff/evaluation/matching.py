"""One comparison: forecasts, observations and references that match, and their weighted sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import DimensionError, GridMismatchError, InputError, MissingInputError
from weatherdiff.evaluation.aggregate import sum_over_cells
from weatherdiff.evaluation.alignment import (
    Channel,
    Leads,
    Times,
    analysis_times,
    ascending_latitude,
    channels,
    gather,
    init_times,
    lead_times,
    positions,
    require_same_units,
)
from weatherdiff.evaluation.baselines import Reference
from weatherdiff.evaluation.scores import (
    crps_ensemble,
    ensemble_variance,
    error_of_mean,
    rank_of_observation,
)
from weatherdiff.grid import Grid

__all__ = ["Comparison", "compare"]

_CELL_DIMS = ("latitude", "longitude")
_SUM_DIMS = ("init_time", "lead_time")
_FORECAST_DIMS = (*_SUM_DIMS, "number", *_CELL_DIMS)
_ANALYSIS_DIMS = ("time", *_CELL_DIMS)
# Ensemble values of one channel in a block unless told otherwise: 16 MiB of float32.
_BLOCK_VALUES = 2**22


@dataclass(frozen=True)
class Comparison:
    """Forecasts and observations known to match, and how to score them."""

    forecasts: xr.Dataset
    observations: xr.Dataset
    references: dict[str, Reference]
    units: dict[Channel, str]
    inits: Times
    leads: Leads
    index: npt.NDArray[np.int64]  # (init_time, lead_time): position of the observation, or -1
    grid: Grid
    weights: npt.NDArray[np.float64]
    nan: str
    estimator: str

    @property
    def members(self) -> int:
        """Number of members of the forecasts."""
        return self.forecasts.sizes["number"]

    def default_block(self) -> int:
        """Give the initial times that make a block of moderate size, one at least."""
        members = max([self.members, *(r.members for r in self.references.values())])
        return max(1, _BLOCK_VALUES // (len(self.leads) * members * self.weights.size))

    def estimator_of(self, reference: Reference) -> str:
        """Name the estimator of a reference's CRPS."""
        return "standard" if reference.members == 1 else self.estimator

    def reference_forecasts(self, inits: Times) -> dict[str, xr.Dataset]:
        """Make the references' forecasts, refused unless comparable with ours."""
        forecasts = {}
        for name, reference in self.references.items():
            forecasts[name], grid = ascending_latitude(reference.forecast(inits, self.leads))
            _require_same_grid(grid, self.grid, f"reference {name}")
            offered = channels(forecasts[name], _FORECAST_DIMS)
            for channel in self.units:
                if channel not in offered:
                    raise InputError(f"reference {name} does not forecast {channel.label}.")
                require_same_units(channel.of(forecasts[name]), channel.of(self.observations))
        return forecasts

    def statistics(self, block: slice) -> xr.Dataset:
        """Sum over the cells for a block of initial times, all channels."""
        references = self.reference_forecasts(self.inits[block])
        sums = [self._channel_sums(channel, block, references) for channel in self.units]
        dims = ("variable", *_SUM_DIMS)
        shapes = {"sum_rank": (*dims, "rank"), "cell_observed": ("variable", *_CELL_DIMS)}
        variables = {
            name: (shapes.get(name, dims), np.stack([of_channel[name] for of_channel in sums]))
            for name in sums[0]
        }
        result = xr.Dataset(
            variables,
            coords={
                "variable": [channel.label for channel in self.units],
                "init_time": self.inits[block],
                "lead_time": self.leads,
                "rank": np.arange(self.members + 1),
                "latitude": self.grid.latitude,
                "longitude": self.grid.longitude,
                "units": ("variable", list(self.units.values())),
            },
            attrs={
                "members": self.members,
                "estimator": self.estimator,
                "nan": self.nan,
                "references": list(self.references),
            },
        )
        for name, reference in self.references.items():
            result[f"sum_crps_{name}"].attrs = {
                "members": reference.members,
                "estimator": self.estimator_of(reference),
            }
        return result.assign(
            cell_weight=(_CELL_DIMS, self.weights),
            valid_time_found=(_SUM_DIMS, self.index[block] >= 0),
        )

    def _channel_sums(
        self, channel: Channel, block: slice, references: dict[str, xr.Dataset]
    ) -> dict[str, npt.NDArray[Any]]:
        """Sum one channel over the cells, (init_time, lead_time), and tell which are observed."""
        forecast = _load_ensemble(channel.of(self.forecasts).isel(init_time=block))
        observation = _load(
            gather(channel.of(self.observations), self.index[block], _SUM_DIMS),
            (*_SUM_DIMS, *_CELL_DIMS),
        )
        error = error_of_mean(forecast, observation).values
        fields = {
            "crps": crps_ensemble(forecast, observation, estimator=self.estimator).values,
            "squared_error": error**2,
            "error": error,
            "absolute_error": np.abs(error),
            "variance": np.full_like(error, np.nan),  # undefined for one member
        }
        if self.members > 1:
            fields["variance"] = ensemble_variance(forecast).values
        observed = observation.notnull().values & (self.weights > 0)
        complete = observed & ~np.isnan(error)
        for name, reference in self.references.items():
            ensemble = _load_ensemble(channel.of(references[name]))
            crps = crps_ensemble(ensemble, observation, estimator=self.estimator_of(reference))
            fields[f"crps_{name}"] = crps.values
            complete &= crps.notnull().values
        counted = complete if self.nan == "omit" else observed

        ranks = np.moveaxis(rank_of_observation(forecast, observation).values, -1, 0)
        ones = np.ones_like(error)
        return {
            **{
                f"sum_{name}": sum_over_cells(field, self.weights, counted)
                for name, field in fields.items()
            },
            "sum_rank": np.moveaxis(sum_over_cells(ranks, self.weights, counted), 0, -1),
            "sum_weight": sum_over_cells(ones, self.weights, counted),
            "sum_complete": sum_over_cells(ones, self.weights, complete),
            "cell_observed": np.logical_or.reduce(observed, axis=(0, 1)),
        }


def compare(
    forecasts: xr.Dataset,
    observations: xr.Dataset,
    references: dict[str, Reference],
    weights: xr.DataArray | None,
    nan: str,
    estimator: str,
) -> Comparison:
    """Match forecasts with observations, or refuse.

    Parameters and errors are those of :func:`weatherdiff.evaluation.evaluate`.

    Returns
    -------
    Comparison
        What is needed to score any block of initial times.
    """
    missing = [name for name in _FORECAST_DIMS if name not in forecasts.dims]
    if missing:
        raise DimensionError(
            f"forecasts have no dimension {', '.join(missing)}; a single forecast needs "
            "expand_dims of init_time, lead_time or number."
        )
    inits, leads = init_times(forecasts), lead_times(forecasts)
    valid = inits[:, np.newaxis] + leads
    if "valid_time" in forecasts.coords and not np.array_equal(
        forecasts["valid_time"].transpose(*_SUM_DIMS).values, valid
    ):
        raise InputError("valid_time of the forecasts is not init_time + lead_time.")
    index = positions(analysis_times(observations), valid)
    if not (index >= 0).any():
        raise MissingInputError(
            f"no valid time of the forecasts, {valid.min()} to {valid.max()}, is among the "
            "observations."
        )
    forecasts, grid = ascending_latitude(forecasts)
    observations, theirs = ascending_latitude(observations)
    _require_same_grid(theirs, grid, "observations")
    observed = channels(observations, _ANALYSIS_DIMS)
    shared = [c for c in channels(forecasts, _FORECAST_DIMS) if c in observed]
    if not shared:
        raise InputError(
            f"no variable is in both the forecasts, {sorted(map(str, forecasts.data_vars))}, and "
            f"the observations, {sorted(map(str, observations.data_vars))}."
        )
    comparison = Comparison(
        forecasts=forecasts,
        observations=observations,
        references=references,
        units={c: require_same_units(c.of(forecasts), c.of(observations)) for c in shared},
        inits=inits,
        leads=leads,
        index=index,
        grid=grid,
        weights=grid.area_weights().values if weights is None else _cell_weights(weights, grid),
        nan=nan,
        estimator=estimator,
    )
    # References are made again for each block: refuse what does not compare before the first.
    comparison.reference_forecasts(np.unique(inits)[[0, -1]])
    return comparison


def _cell_weights(weights: xr.DataArray, grid: Grid) -> npt.NDArray[np.float64]:
    ds, theirs = ascending_latitude(weights.to_dataset(name="weight"))
    _require_same_grid(theirs, grid, "weights")
    values = ds["weight"].transpose(*_CELL_DIMS).values.astype(np.float64)
    if not (np.all(values >= 0) and 0 < values.sum() < np.inf):
        raise InputError("weights must be finite and at least zero, and not all zero.")
    return values


def _require_same_grid(theirs: Grid, ours: Grid, owner: str) -> None:
    try:
        theirs.require_same(ours)
    except GridMismatchError as error:
        raise GridMismatchError(f"{owner} and forecasts are on different grids: {error}") from None


def _load_ensemble(field: xr.DataArray) -> xr.DataArray:
    # Members last: each score takes them together, without a copy.
    return _load(field, (*_SUM_DIMS, *_CELL_DIMS, "number"))


def _load(field: xr.DataArray, dims: tuple[str, ...]) -> xr.DataArray:
    """Values in memory without coordinates: what matches what has been settled before."""
    return xr.DataArray(np.ascontiguousarray(field.transpose(*dims).values), dims=dims)
