"""Which cells observations see: the observation operator, sparse, on the model's grid."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from weatherdiff.data.calendars import STANDARD, Calendar
from weatherdiff.data.channels import Channels
from weatherdiff.data.windows import WindowSpec, seconds
from weatherdiff.errors import InputError
from weatherdiff.forecasting.observations import (
    LinearObservations,
    ObservationTable,
    point_table,
)
from weatherdiff.grid import Grid
from weatherdiff.units import unit_conversion

__all__ = ["Footprints", "bilinear", "footprints"]

logger = logging.getLogger(__name__)

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]


class Corners(NamedTuple):
    """Four cells around each point, and their weights, (point, 4)."""

    cell: Int
    weight: Float


@dataclass(frozen=True)
class Footprints:
    """Observations and the cells they are made of, in physical units.

    Parameters
    ----------
    row, time, channel, cell : (entry,)
        Which observation, when (seconds), which channel, and which cell of the flattened grid.
    weight : (entry,)
    value, error : (observation,)
        Error as standard deviation.
    """

    row: Int
    time: Int
    channel: Int
    cell: Int
    weight: Float
    value: Float
    error: Float

    def __len__(self) -> int:
        return len(self.value)

    def select(self, rows: npt.NDArray[np.bool_]) -> Footprints:
        """Keep some of the observations."""
        kept = rows[self.row]
        return Footprints(
            (np.cumsum(rows) - 1)[self.row[kept]], self.time[kept], self.channel[kept],
            self.cell[kept], self.weight[kept], self.value[rows], self.error[rows],
        )  # fmt: skip

    def by_block(
        self, init: int, spec: WindowSpec, blocks: int, calendar: str = STANDARD
    ) -> list[Footprints | None]:
        """Give each block of frames the observations of its times.

        An observation belongs to the block that holds its time, also where the forecast is cut
        before; the others, of times between frames or outside the blocks, are left out, which is
        logged.

        Raises
        ------
        InputError
            One observation sees frames of several blocks, which are drawn one after the other.
        """
        iso = Calendar(calendar).iso
        frame, rest = np.divmod(self.time - init, spec.step)
        block = (frame - 1) // spec.frames
        block = np.where((rest == 0) & (frame > 0) & (block < blocks), block, -1)
        first = np.full(len(self), blocks)
        last = np.full(len(self), -1)
        np.minimum.at(first, self.row, block)
        np.maximum.at(last, self.row, block)
        if (first != last).any():
            row = int(np.argmax(first != last))
            raise InputError(
                f"Observation {row} is of frames of several blocks, or partly of none; a forecast "
                f"from {iso(init)} draws {spec.frames} frames at a time."
            )
        if (first < 0).any():
            times = np.unique(self.time[first[self.row] < 0])
            logger.warning(
                "%d of %d observations are at no frame of the forecast from %s and are left out "
                "(%s to %s).",
                (first < 0).sum(), len(self), iso(init), iso(times[0]), iso(times[-1]),
            )  # fmt: skip
        wanted = [first == b for b in range(blocks)]
        return [self.select(rows) if rows.any() else None for rows in wanted]


def footprints(
    observations: ObservationTable | LinearObservations,
    *,
    channels: Channels,
    grid: Grid,
    mask: npt.NDArray[np.bool_],
) -> Footprints:
    """Find the cells of observations, once for a forecast.

    Parameters
    ----------
    observations : DataFrame, Dataset or LinearObservations
        See :mod:`weatherdiff.forecasting.observations`. Points are interpolated bilinearly between
        the centres of cells; near the coast between those that have data, their weights
        renormalised.
    channels, grid, mask
        Of the model.

    Raises
    ------
    InputError
        A variable or level that the model has not, a point outside the grid or with no data
        around, weights on another grid or on cells without data.
    UnitsError
        Units that are not those of the variable.
    """
    if isinstance(observations, LinearObservations):
        return _of_weights(observations, channels, grid, mask)
    return _of_points(point_table(observations), channels, grid, mask)


def bilinear(grid: Grid, latitude: Float, longitude: Float) -> Corners:
    """Weights of the four cells around each point.

    Points within half a cell beyond the outer centres take the outer cell's value.

    Parameters
    ----------
    grid : Grid
    latitude, longitude : (point,)
        In degrees, any convention.

    Raises
    ------
    InputError
        A point is outside the grid.

    Examples
    --------
    >>> grid = Grid([50.0, 51.0], [0.0, 1.0, 2.0])
    >>> corners = bilinear(grid, np.array([50.5]), np.array([360.25]))
    >>> corners.cell, corners.weight
    (array([[0, 1, 3, 4]]), array([[0.375, 0.125, 0.375, 0.125]]))
    """
    south, y = _position(grid.latitude, latitude)
    east = grid.longitude[0] + np.mod(longitude - grid.longitude[0], 360)
    if grid.is_periodic:
        west, x = _position(np.append(grid.longitude, grid.longitude[0] + 360), east)
    else:
        # just west of the first meridian rather than far east of the last
        half = (grid.longitude[-1] + grid.longitude[0] + 360) / 2
        west, x = _position(grid.longitude, np.where(east > half, east - 360, east))
    outside = np.isnan(y) | np.isnan(x)
    if outside.any():
        point = int(np.argmax(outside))
        raise InputError(
            f"{latitude[point]:g} N, {longitude[point]:g} E is outside the model's grid: latitude "
            f"{grid.latitude.min():g} to {grid.latitude.max():g}, longitude "
            f"{grid.longitude.min():g} to {grid.longitude.max():g}."
        )
    rows, columns = grid.shape
    cells, weights = [], []
    for i, wy in ((south, 1 - y), (south + 1, y)):
        for j, wx in ((west, 1 - x), (west + 1, x)):
            cells.append(np.minimum(i, rows - 1) * columns + j % columns)
            weights.append(wy * wx)
    return Corners(np.stack(cells, axis=1), np.stack(weights, axis=1))


def _position(centres: Float, values: Float) -> tuple[Int, Float]:
    """Index of the centre before each value, and the share of the way to the next; NaN outside."""
    sign = 1 if centres[-1] > centres[0] else -1
    rising, wanted = sign * centres, sign * values
    before, after = (rising[k + 1] - rising[k] for k in (0, len(centres) - 2))
    outside = (wanted < rising[0] - before / 2) | (wanted > rising[-1] + after / 2)
    place = np.interp(wanted, rising, np.arange(len(centres)))
    index = np.minimum(place.astype(np.int64), len(centres) - 2)
    return index, np.where(outside, np.nan, place - index)


def _of_points(
    table: pd.DataFrame, channels: Channels, grid: Grid, mask: npt.NDArray[np.bool_]
) -> Footprints:
    known = {
        (variable, None if level is None else float(level)): channel
        for channel, (variable, level) in enumerate(
            zip(channels.variables, channels.levels, strict=True)
        )
    }
    channel = np.empty(len(table), np.int64)
    value, error = table["value"].to_numpy(copy=True), table["error"].to_numpy(copy=True)
    names = zip(table["variable"], table["level"], table["units"], strict=True)
    for k, (variable, level, units) in enumerate(names):
        key = (variable, None if np.isnan(level) else float(level))
        if key not in known:
            at = "" if key[1] is None else f" at {level:g} hPa"
            raise InputError(
                f"Row {k} of the observations is of {variable}{at}, which the model has not; it "
                f"has {', '.join(channels.labels)}."
            )
        channel[k] = known[key]
        own = channels.units[channel[k]]
        if units and units != own:
            factor, offset = unit_conversion(units, own)
            value[k], error[k] = factor * value[k] + offset, factor * error[k]
    corners = bilinear(grid, table["latitude"].to_numpy(), table["longitude"].to_numpy())
    weight = corners.weight * mask.reshape(len(mask), -1)[channel[:, None], corners.cell]
    total = weight.sum(axis=1, keepdims=True)
    if (total == 0).any():
        k = int(np.argmin(total))
        raise InputError(
            f"Row {k} of the observations, {table['variable'][k]} at {table['latitude'][k]:g} N, "
            f"{table['longitude'][k]:g} E, is where the model has no data."
        )
    row, corner = np.nonzero(weight)
    return Footprints(
        row=row,
        time=seconds(table["valid_time"].to_numpy())[row],
        channel=channel[row],
        cell=corners.cell[row, corner],
        weight=(weight / total)[row, corner],
        value=value,
        error=error,
    )


def _of_weights(
    given: LinearObservations, channels: Channels, grid: Grid, mask: npt.NDArray[np.bool_]
) -> Footprints:
    grid.require_same(Grid.from_dataset(given.weights))
    unknown = [name for name in given.weights.data_vars if name not in channels.variables]
    if unknown:
        raise InputError(
            f"There are weights of {unknown[0]}, which the model has not; it has "
            f"{', '.join(dict.fromkeys(channels.variables))}."
        )
    times = seconds(given.weights["valid_time"].values)
    found: list[tuple[npt.NDArray[Any], ...]] = []
    for channel, (name, level) in enumerate(zip(channels.variables, channels.levels, strict=True)):
        if name not in given.weights:
            continue
        field = given.weights[name]
        if level is not None:
            if level not in field.coords.get("level", xr.DataArray([])).values:
                continue
            field = field.sel(level=level)
        field = field.transpose("observation", "valid_time", "latitude", "longitude")
        weights = np.asarray(field.values, float).reshape(*field.shape[:2], -1)
        if not np.isfinite(weights).all() or weights[..., ~mask[channel].ravel()].any():
            raise InputError(
                f"The weights of {name} are not finite, or not zero where the model has no data."
            )
        row, time, cell = np.nonzero(weights)
        found.append((row, times[time], np.full(len(row), channel), cell, weights[row, time, cell]))
    value, error = np.asarray(given.value), np.asarray(given.error)
    blind = np.setdiff1d(np.arange(len(value)), [r for part in found for r in part[0]])
    if len(blind):
        raise InputError(f"All weights of observation {blind[0]} are zero.")
    row, time, channel_, cell, weight = (np.concatenate(part) for part in zip(*found, strict=True))
    return Footprints(row, time, channel_, cell, weight, value, error)
