"""Forecasts, observations and references that are known to match, and how to read them.

A :class:`Match` is made once, from coordinates alone. It is small, holds no fields in memory that
were not there before, and can be sent to another process; what it loads is a block at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import dask.array
import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.calendars import after, on_axis, require_same_calendar
from weatherdiff.errors import DimensionError, GridMismatchError, InputError, MissingInputError
from weatherdiff.evaluation.alignment import (
    Channel,
    Leads,
    Times,
    analysis_times,
    ascending_latitude,
    channels,
    init_times,
    lead_times,
    positions,
    require_same_units,
)
from weatherdiff.evaluation.baselines import Reference
from weatherdiff.evaluation.events import check_events
from weatherdiff.evaluation.settings import Settings
from weatherdiff.grid import Grid

__all__ = ["Match", "match"]

CELL_DIMS = ("latitude", "longitude")
SUM_DIMS = ("init_time", "lead_time")
FORECAST_DIMS = (*SUM_DIMS, "number", *CELL_DIMS)
ANALYSIS_DIMS = ("time", *CELL_DIMS)

# Bytes of one channel's members that are in memory at once, for each thread: large enough that
# reading dominates the overhead of a call, and that some stored chunks fit whole, so that memory
# follows the chunk and not the ensemble.
BLOCK_BYTES = 2**24
BLOCK_CHUNKS = 8
# The kernels add up tiles of so many cells; parts that end with one add to the same bits.
TILE = 128


@dataclass(frozen=True)
class Match:
    """What is to be scored, in an order that no longer depends on the user's.

    Attributes
    ----------
    forecasts, observations : xr.Dataset
        Latitude ascending.
    references : dict of str to Reference
    settings : Settings
    units : dict of Channel to str
        The channels to score and their units.
    inits : (init_time,)
    leads : (lead_time,)
    index : (init_time, lead_time)
        Position of the verifying observation in time, or -1.
    grid : Grid
    area : (latitude, longitude)
        Weights of the cells in the whole grid.
    weights : (region, latitude x longitude)
        Of the cells in each region.
    regions : list of str
    mapped : (init_time, lead_time), optional
        Frames that the maps have already, and whose sums alone are asked for.
    """

    forecasts: xr.Dataset
    observations: xr.Dataset
    references: dict[str, Reference]
    settings: Settings
    units: dict[Channel, str]
    inits: Times
    leads: Leads
    index: npt.NDArray[np.int64]
    grid: Grid
    area: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    regions: list[str]
    mapped: npt.NDArray[np.bool_] | None = None

    @property
    def members(self) -> int:
        """Number of members of the forecasts."""
        return self.forecasts.sizes["number"]

    @property
    def valid_times(self) -> Times:
        """Valid times, (init_time, lead_time)."""
        return after(self.inits[:, np.newaxis], self.leads)

    def select(self, inits: slice | npt.NDArray[np.intp]) -> Match:
        """Keep some initial times: what a worker needs, and no more."""
        return replace(
            self,
            forecasts=self.forecasts.isel(init_time=inits),
            inits=self.inits[inits],
            index=self.index[inits],
            mapped=None if self.mapped is None else self.mapped[inits],
        )

    def sample(self, position: int) -> Match:
        """Keep one channel of one initial time, with its references and events and no more."""
        labels = {event.variable for event in self.settings.events}
        channel = next((c for c in self.units if c.label in labels), next(iter(self.units)))
        events = [event for event in self.settings.events if event.variable == channel.label]
        settings = replace(
            self.settings, events=events, climatology=None, decomposition=False, maps=False,
            fields=(),
        )  # fmt: skip
        one = self.select(slice(position, position + 1))
        return replace(one, units={channel: self.units[channel]}, settings=settings)

    def blocks(self) -> list[slice]:
        """Give initial times to score together: those that fit in a block, whole stored chunks."""
        frame = self._frame_bytes() * len(self.leads)
        step = self.settings.block or self._chunked("init_time", self._block_bytes() // frame)
        total = len(self.inits)
        return [slice(i, min(i + step, total)) for i in range(0, total, step)]

    def tiles(self) -> list[tuple[slice, slice]]:
        """Give lead times and rows to read together, whole stored chunks if they fit."""
        frame = self._frame_bytes() * len(self.inits)
        fitting = self._block_bytes() / frame
        leads = self._chunked("lead_time", int(fitting))
        if leads > fitting:  # a chunk holds more leads than fit: it will be decoded again
            leads = max(1, int(fitting))
        rows = len(self.grid.latitude)
        if fitting < 1 and not self.settings.fields:
            # Any split of the cells gives the same bits if it ends with a tile of the kernels.
            quantum = TILE // math.gcd(TILE, len(self.grid.longitude))
            rows = min(rows, max(1, int(rows * fitting) // quantum) * quantum)
        return [
            (lead, row)
            for lead in _slices(len(self.leads), leads)
            for row in _slices(len(self.grid.latitude), rows)
        ]

    def _block_bytes(self) -> int:
        """Size of what is read together."""
        chunks = []
        for channel in self.units:
            field = self.forecasts[channel.name]
            sizes = [min(_stored_chunk(field, str(d)), n) for d, n in field.sizes.items()]
            chunks.append(math.prod(sizes) * field.dtype.itemsize)
        return max(BLOCK_BYTES, BLOCK_CHUNKS * max(chunks))

    def _frame_bytes(self) -> int:
        """Size of the members of one channel at one lead time, of the widest ensemble."""
        members = max([self.members, *(r.members for r in self.references.values())])
        itemsize = max(self.forecasts[c.name].dtype.itemsize for c in self.units)
        return members * self.weights.shape[-1] * itemsize

    def _chunked(self, dim: str, fitting: int) -> int:
        """Round what fits to whole stored chunks, so that no chunk is decoded twice."""
        size = self.forecasts.sizes[dim]
        stored = max(_stored_chunk(self.forecasts[c.name], dim) for c in self.units)
        stored = max(1, min(stored, size))
        return int(min(size, max(1, fitting // stored) * stored))

    def load_forecast(self, channel: Channel, leads: slice, rows: slice) -> npt.NDArray[Any]:
        """Read members, (init_time, lead_time, number, latitude, longitude)."""
        field = channel.of(self.forecasts).isel(lead_time=leads, latitude=rows)
        return load(field, FORECAST_DIMS)

    def load_observation(self, channel: Channel) -> npt.NDArray[Any]:
        """Read verifying frames, (init_time, lead_time, latitude, longitude); NaN if missing."""
        return load_frames(channel.of(self.observations), self.index)

    def reference_forecasts(self) -> dict[str, xr.Dataset]:
        """Make the references' forecasts, refused unless comparable with ours."""
        forecasts = {}
        for name, reference in self.references.items():
            made = reference.forecast(self.inits, self.leads)
            forecasts[name], grid = ascending_latitude(made)
            require_same_grid(grid, self.grid, f"reference {name}")
            offered = channels(forecasts[name], FORECAST_DIMS)
            for channel in self.units:
                if channel not in offered:
                    raise InputError(f"reference {name} does not forecast {channel.label}.")
                require_same_units(channel.of(forecasts[name]), channel.of(self.observations))
        return forecasts


def load(field: xr.DataArray, dims: tuple[str, ...]) -> npt.NDArray[Any]:
    """Read values in an order of dimensions: what matches what has been settled before."""
    ordered = field.transpose(*dims)
    if ordered.chunks is None:
        values = np.ascontiguousarray(ordered.values)
    else:  # chunk by chunk into its place, rather than all chunks and then their whole
        values = np.empty(ordered.shape, ordered.dtype)
        # In the thread that asks, as the blocks are what runs in parallel; and not by dask's
        # configuration, which all threads share.
        dask.array.store(ordered.data, values, lock=False, scheduler="synchronous")
    if values.dtype not in (np.float32, np.float64) or not values.dtype.isnative:
        values = values.astype(np.result_type(values.dtype.newbyteorder("="), np.float32))
    return values


def load_frames(field: xr.DataArray, index: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Read frames (..., latitude, longitude) at positions in time (...); NaN where -1."""
    needed, inverse = np.unique(index[index >= 0], return_inverse=True)
    dtype = np.result_type(field.dtype, np.float32)
    shape = tuple(field.sizes[name] for name in CELL_DIMS)
    frames = np.full((*index.shape, *shape), np.nan, dtype)
    if needed.size:
        frames[index >= 0] = load(field.isel(time=needed), ANALYSIS_DIMS)[inverse]
    return frames


def match(
    forecasts: xr.Dataset,
    observations: xr.Dataset,
    references: dict[str, Reference],
    settings: Settings,
) -> Match:
    """Match forecasts with observations, or refuse.

    Parameters and errors are those of :func:`weatherdiff.evaluation.evaluate`. Coordinates are
    read, no fields.
    """
    missing = [name for name in FORECAST_DIMS if name not in forecasts.dims]
    if missing:
        raise DimensionError(
            f"forecasts have no dimension {', '.join(missing)}; a single forecast needs "
            "expand_dims of init_time, lead_time or number."
        )
    inits, leads = init_times(forecasts), lead_times(forecasts)
    _require_distinct(forecasts, inits, leads)
    valid = after(inits[:, np.newaxis], leads)
    _require_valid_times(forecasts, valid)
    times = analysis_times(observations)
    require_same_calendar(inits, times, ("the forecasts", "the observations"))
    index = positions(times, valid)
    if not (index >= 0).any():
        raise MissingInputError(
            f"no valid time of the forecasts, {valid.min()} to {valid.max()}, is among the "
            "observations."
        )
    forecasts, grid = ascending_latitude(forecasts)
    observations, theirs = ascending_latitude(observations)
    require_same_grid(theirs, grid, "observations")
    # In the order of the observations: that of stored forecasts is the alphabet's.
    offered = channels(forecasts, FORECAST_DIMS)
    shared = [c for c in channels(observations, ANALYSIS_DIMS) if c in offered]
    if not shared:
        raise InputError(
            f"no variable is in both the forecasts, {sorted(map(str, forecasts.data_vars))}, and "
            f"the observations, {sorted(map(str, observations.data_vars))}."
        )
    units = {c: require_same_units(c.of(forecasts), c.of(observations)) for c in shared}
    area = _area(settings, grid)
    weights, regions = _region_weights(settings, grid, area)
    check_events(settings.events, {channel.label: unit for channel, unit in units.items()})
    matched = Match(
        forecasts=forecasts.drop_vars("valid_time", errors="ignore"),
        observations=observations,
        references=references,
        settings=settings,
        units=units,
        inits=inits,
        leads=leads,
        index=index,
        grid=grid,
        area=area,
        weights=weights,
        regions=regions,
    )
    # References are made again for each block: refuse what does not compare before the first.
    for end in {0, len(inits) - 1}:
        matched.select(slice(end, end + 1)).reference_forecasts()
    return matched


def _require_distinct(forecasts: xr.Dataset, inits: Times, leads: Leads) -> None:
    """Refuse an empty selection, and what is missing among the labels or there twice."""
    labels: dict[str, npt.NDArray[Any]] = {"init_time": inits, "lead_time": leads}
    if "number" in forecasts.coords:
        labels["number"] = forecasts["number"].values
    for name in (*SUM_DIMS, "number"):
        if forecasts.sizes[name] == 0:
            raise InputError(f"the forecasts are an empty selection: there is no {name}.")
        if name in labels and np.unique(labels[name]).size < forecasts.sizes[name]:
            raise InputError(f"{name} of the forecasts holds a value twice.")
    if np.isnat(on_axis(inits)).any() or np.isnat(leads).any():
        raise InputError("init_time or lead_time of the forecasts holds a missing value (NaT).")


def _require_valid_times(forecasts: xr.Dataset, valid: Times) -> None:
    """Refuse valid times that are not the sums of initial and lead times."""
    if "valid_time" not in forecasts.coords:
        return
    stated = forecasts["valid_time"].variable
    if not set(stated.dims) <= set(SUM_DIMS):
        raise DimensionError(
            f"valid_time has dimensions {stated.dims}, expected {SUM_DIMS}; drop it if it is of "
            "no use."
        )
    stated = stated.set_dims(dict(zip(SUM_DIMS, valid.shape, strict=True))).transpose(*SUM_DIMS)
    if not np.array_equal(stated.values, valid):
        raise InputError("valid_time of the forecasts is not init_time + lead_time.")


def _area(settings: Settings, grid: Grid) -> npt.NDArray[np.float64]:
    """Weights of the cells, (latitude, longitude)."""
    area = grid.area_weights().values
    if settings.weights is not None:
        area = _on_grid(settings.weights, grid, "weights")[0]
    if not (np.all(area >= 0) and 0 < area.sum() < np.inf):
        raise InputError("weights must be finite and at least zero, and not all zero.")
    return area


def _region_weights(
    settings: Settings, grid: Grid, area: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Weights of the cells in each region, (region, latitude x longitude), and its name."""
    shares, names = np.ones((1, *grid.shape)), ["all"]
    if settings.regions is not None:
        shares = _on_grid(settings.regions, grid, "regions")
        names = [str(name) for name in settings.regions["region"].values]
        if len(set(names)) < len(names):
            raise InputError(f"regions holds a name twice: {', '.join(names)}.")
        if not np.all((shares >= 0) & (shares <= 1)):
            raise InputError("regions must be shares of the cells, between 0 and 1.")
    weights = (shares * area).reshape(len(names), -1)
    empty = [name for name, of_region in zip(names, weights, strict=True) if not of_region.any()]
    if empty:
        raise InputError(f"region {empty[0]!r} holds no cell of the grid with a weight.")
    return weights, names


def _on_grid(field: xr.DataArray, grid: Grid, owner: str) -> npt.NDArray[np.float64]:
    """Values (region, latitude, longitude) on the grid, or refused."""
    ds, theirs = ascending_latitude(field.to_dataset(name="field"))
    require_same_grid(theirs, grid, owner)
    values = ds["field"]
    if "region" not in values.dims:
        values = values.expand_dims("region")
    return values.transpose("region", *CELL_DIMS).values.astype(np.float64)


def require_same_grid(theirs: Grid, ours: Grid, owner: str) -> None:
    """Refuse another grid, saying whose it is."""
    try:
        theirs.require_same(ours)
    except GridMismatchError as error:
        raise GridMismatchError(f"{owner} and forecasts are on different grids: {error}") from None


def _stored_chunk(field: xr.DataArray, dim: str) -> int:
    """Size of a stored chunk along a dimension, 1 if not known."""
    if field.chunks is not None:
        return int(field.chunksizes[dim][0])
    stored = field.encoding.get("preferred_chunks") or {}
    return int(stored.get(dim, 1))


def _slices(size: int, step: int) -> list[slice]:
    return [slice(i, min(i + step, size)) for i in range(0, size, step)]
