"""Where on the globe: a region of canonical fields, and the grid they are brought to.

What was done is written into the attributes, from which it comes into the store's provenance; and
the recorded layout becomes that of the new grid in the user's own order and convention.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.sources.regrid import Method, covered, lattice, regridded
from weatherdiff.errors import ConfigError, InputError
from weatherdiff.grid import Grid, canonical_grid
from weatherdiff.layout import LAYOUT, Layout

__all__ = ["PLACED", "Region", "Regridding", "placed"]

#: Attribute that tells what was done, as JSON.
PLACED = "weatherdiff_placed"
HISTORY = "weatherdiff_history"
_DEGREES = 1e-4

Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Region:
    """A box of latitudes and longitudes, its edges included.

    Parameters
    ----------
    latitude : (south, north)
        Degrees north.
    longitude : (west, east)
        Degrees east, in any convention. The box goes eastward from the first to the second, across
        the date line and the Greenwich meridian alike.

    Raises
    ------
    ConfigError
        South is not below north, or east is west.

    Examples
    --------
    >>> grid, rows, columns = Region((0, 70), (-90, 90)).of(lattice(45))
    >>> print(grid.latitude, grid.longitude, columns)
    [22.5 67.5] [-90. -45.   0.  45.  90.] [6 7 0 1 2]
    """

    latitude: tuple[float, float] = (-90.0, 90.0)
    longitude: tuple[float, float] = (0.0, 360.0)

    def __post_init__(self) -> None:
        (south, north), (west, east) = self.latitude, self.longitude
        if not -90 <= south < north <= 90:
            raise ConfigError(
                f"region: latitude is {south:g} to {north:g}; give the south first, then the north."
            )
        if not (-360 <= west <= 360 and -360 <= east <= 360) or west == east:
            raise ConfigError(
                f"region: longitude is {west:g} to {east:g}; give the west first, then the east."
            )

    def of(self, grid: Grid) -> tuple[Grid, Places, Places]:
        """Give the part of a grid that lies inside, and where its rows and columns were.

        Raises
        ------
        InputError
            Fewer than two latitudes or longitudes do.
        """
        (south, north), (west, east) = self.latitude, self.longitude
        rows = (grid.latitude >= south - _DEGREES) & (grid.latitude <= north + _DEGREES)
        width = np.mod(east - west, 360) or 360.0
        columns = np.mod(grid.longitude - west + _DEGREES, 360) <= width + 2 * _DEGREES
        if rows.sum() < 2 or columns.sum() < 2:
            raise InputError(
                f"the region {south:g} to {north:g} north, {west:g} to {east:g} east holds "
                f"{rows.sum()} latitudes and {columns.sum()} longitudes of the data, which go from "
                f"{grid.latitude[0]:g} to {grid.latitude[-1]:g} and from {grid.longitude[0]:g} to "
                f"{grid.longitude[-1]:g}; at least two of each are needed."
            )
        where = np.flatnonzero(rows), np.flatnonzero(columns)
        part, i, j = canonical_grid(grid.latitude[where[0]], grid.longitude[where[1]])
        return part, where[0][i], where[1][j]


@dataclass(frozen=True)
class Regridding:
    """The grid to bring fields to, and how.

    Parameters
    ----------
    method : {"conservative", "linear"}
        See :mod:`weatherdiff.data.sources.regrid`.
    resolution : float, optional
        Degrees: the cells of :func:`~weatherdiff.data.sources.regrid.lattice` that lie in the
        region and are covered by the data.
    latitude, longitude : sequence of float, optional
        Instead, the centres themselves.

    Raises
    ------
    ConfigError
        Neither or both are given.
    """

    method: Method
    resolution: float | None = None
    latitude: tuple[float, ...] | None = None
    longitude: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        axes = self.latitude is not None, self.longitude is not None
        if any(axes) != all(axes) or any(axes) == (self.resolution is not None):
            raise ConfigError("regrid: give either the resolution, or latitude and longitude.")

    def target(self, source: Grid, region: Region | None) -> Grid:
        """Give the grid that a source is brought to."""
        if self.resolution is None:
            try:
                grid = canonical_grid(self.latitude or (), self.longitude or ())[0]
            except InputError as error:
                raise ConfigError(f"regrid: {error}") from error
            return grid if region is None else region.of(grid)[0]
        grid = lattice(self.resolution)
        if region is not None:
            grid = region.of(grid)[0]
        known = covered(source, grid, self.method)
        if min(axis.sum() for axis in known) < 2:
            raise InputError(
                f"regrid: the data cover {known[0].sum()} latitudes and {known[1].sum()} "
                f"longitudes of cells of {self.resolution:g} degrees; two of each are needed."
            )
        return canonical_grid(grid.latitude[known[0]], grid.longitude[known[1]])[0]


def placed(
    ds: xr.Dataset, *, region: Region | None = None, regridding: Regridding | None = None
) -> xr.Dataset:
    """Select a region of canonical fields, or bring them to a grid, lazily.

    Parameters
    ----------
    ds : Dataset
        As :func:`weatherdiff.open_fields` gives it.
    region : Region, optional
    regridding : Regridding, optional
        With a region, the target is the part of the grid that lies in it.

    Returns
    -------
    Dataset
        Canonical. The attribute ``weatherdiff_placed`` tells what was done.

    Raises
    ------
    InputError
        The region holds too few cells, or the target grid reaches beyond the data.

    Examples
    --------
    >>> from weatherdiff import open_fields
    >>> ds = open_fields("sample:uk-2018", variables=["PSurf"])
    >>> part = placed(ds, region=Region((50, 52), (-4, 1)))
    >>> print(dict(part.sizes))
    {'time': 1464, 'latitude': 4, 'longitude': 10}
    """
    if region is None and regridding is None:
        return ds
    source = Grid.from_dataset(ds)
    done: dict[str, Any] = {"from": _extent(source)}
    if region is not None:
        done["region"] = {"latitude": region.latitude, "longitude": region.longitude}
    if regridding is not None:
        target = regridding.target(source, region)
        result = regridded(ds, target, regridding.method)
        done["method"] = regridding.method
        told = f"regridded by {regridding.method} weights"
    else:
        target, rows, columns = (region or Region()).of(source)
        result = ds.isel(latitude=_simple(rows), longitude=_simple(columns)).assign_coords(
            latitude=("latitude", target.latitude, ds["latitude"].attrs),
            longitude=("longitude", target.longitude, ds["longitude"].attrs),
        )
        told = "a region was selected"
    done["to"] = _extent(target)
    note = f"{told}: from {done['from']} to {done['to']}"
    history = [line for line in (str(ds.attrs.get(HISTORY, "")), note) if line]
    result = result.assign_attrs({PLACED: json.dumps(done), HISTORY: "\n".join(history)})
    if LAYOUT in ds.attrs:
        layout = _moved(Layout.from_dict(json.loads(ds.attrs[LAYOUT])), target)
        result = result.assign_attrs({LAYOUT: json.dumps(layout.to_dict())})
    result.encoding = dict(ds.encoding)
    return result


def _simple(places: Places) -> slice | Places:
    """Give consecutive places as a slice, which dask reads without copying."""
    if len(places) == places[-1] - places[0] + 1 and (np.diff(places) == 1).all():
        return slice(int(places[0]), int(places[-1]) + 1)
    return places


def _extent(grid: Grid) -> str:
    return " x ".join(
        f"{axis.size} {name}s {axis[0]:g} to {axis[-1]:g}"
        for name, axis in (("latitude", grid.latitude), ("longitude", grid.longitude))
    )


def _moved(layout: Layout, grid: Grid) -> Layout:
    """Give a layout on another grid: the user's order of latitudes and convention of longitudes."""
    latitude = grid.latitude
    if layout.latitude[0] > layout.latitude[-1]:
        latitude = latitude[::-1]
    base = -180 if min(layout.longitude) < 0 else 0
    longitude = np.round(np.mod(grid.longitude - base, 360) + base, 9)
    if (np.diff(longitude) < 0).any():  # it would be split at the convention's seam
        longitude = grid.longitude
    return replace(layout, latitude=tuple(latitude.tolist()), longitude=tuple(longitude.tolist()))
