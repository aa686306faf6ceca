"""Regions over which scores are averaged: weights of the cells, beside their areas.

A cell belongs to a box if its centre lies in it, edges included, as in WeatherBench 2: a row at
exactly 20 degrees counts for the tropics and for the extra-tropics. Cells are never cut, so that a
region's mean is one of whole grid values; its weights times the exact cell areas add over any
partition of the region.

References
----------
Rasp et al. (2024), doi:10.1029/2023MS004019; the bounds are those of WeatherBench 2's evaluation
script, which follow the scorecards of ECMWF.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import ConfigError, DimensionError, InputError
from weatherdiff.grid import Grid, canonical_grid

__all__ = ["LAND_THRESHOLD", "NAMED_REGIONS", "Box", "latitude_bands", "regions"]

#: South, north, west, east in degrees; east of a box across a seam may be less than west.
Box = tuple[float, float, float, float]

_WIDE = (-180.0, 180.0)
#: Boxes of the named regions, WeatherBench 2's.
NAMED_REGIONS: Mapping[str, tuple[Box, ...]] = {
    "global": ((-90, 90, *_WIDE),),
    "tropics": ((-20, 20, *_WIDE),),
    "extra-tropics": ((-90, -20, *_WIDE), (20, 90, *_WIDE)),
    "northern-hemisphere": ((20, 90, *_WIDE),),
    "southern-hemisphere": ((-90, -20, *_WIDE),),
    "europe": ((35, 75, -12.5, 42.5),),
    "north-america": ((25, 60, -120, -75),),
    "north-atlantic": ((25, 65, -70, -10),),
    "north-pacific": ((25, 60, 145, -130),),
    "east-asia": ((25, 60, 102.5, 150),),
    "ausnz": ((-45, -12.5, 120, 175),),
    "arctic": ((60, 90, *_WIDE),),
    "antarctic": ((-90, -60, *_WIDE),),
}

#: A cell with a larger share of land is land, every other one sea.
LAND_THRESHOLD = 0.5

# Coordinates stored as float32 near 360 are off by 3e-5 degrees.
_TOLERANCE = 1e-4


def regions(
    grid: Grid,
    *,
    named: Sequence[str] = (),
    boxes: Mapping[str, Box] | None = None,
    masks: Mapping[str, xr.DataArray] | None = None,
    land_sea_mask: xr.DataArray | None = None,
) -> xr.DataArray:
    """Weights of the cells in each region.

    Parameters
    ----------
    grid : Grid
        Where the scores are, in any order of rows and columns.
    named : sequence of str
        Names in :data:`NAMED_REGIONS`, with hyphens or underscores (``"northern-hemisphere"``
        begins at 20 degrees north, as usual in verification); ``"land"`` and ``"sea"``; or both, as
        in ``"tropics-land"``.
    boxes : mapping, optional
        South, north, west and east by name, in degrees. Longitudes go eastward from west to east,
        across any seam, in either convention: ``(35, 75, 347.5, 42.5)`` is Europe.
    masks : mapping of (latitude, longitude), optional
        Regions of any form by name: bool, or weights from 0 to 1, on the same grid in any order.
    land_sea_mask : (latitude, longitude), optional
        Share of land from 0 to 1; a cell with more than a half is land.

    Returns
    -------
    (region, latitude, longitude)
        Dimensionless float64 from 0 to 1, to multiply with :meth:`Grid.area_weights`. The first
        region is ``"all"``, then come the named ones, the boxes and the masks.

    Raises
    ------
    ConfigError
        A name is unknown or is given twice, a box is none, or there is no mask for land and sea.
    DimensionError
        A mask is not on (latitude, longitude).
    GridMismatchError
        A mask is on another grid.
    InputError
        A region has no cell on this grid, or a mask holds other than 0 to 1.

    Examples
    --------
    >>> grid = Grid(np.linspace(-80, 80, 9), np.arange(0, 360, 30))
    >>> weights = regions(grid, named=["tropics"], boxes={"atlantic": (0, 60, -60, 0)})
    >>> print(weights.region.values, weights.sum(("latitude", "longitude")).values)
    ['all' 'tropics' 'atlantic'] [108.  36.  12.]
    """
    found = {"all": np.ones(grid.shape)}

    def add(name: str, weights: npt.NDArray[np.float64]) -> None:
        if name in found:
            raise ConfigError(f"region {name!r} is given twice; give each one its own name.")
        if not weights.any():
            raise InputError(
                f"region {name!r} has no cell on this grid, whose centres go from "
                f"{grid.latitude.min():g} to {grid.latitude.max():g} degrees north and from "
                f"{grid.longitude.min():g} to {grid.longitude.max():g} degrees east."
            )
        found[name] = weights

    for name in named:
        add(name, _named(grid, name, land_sea_mask))
    for name, box in (boxes or {}).items():
        add(name, _inside(grid, name, box))
    for name, mask in (masks or {}).items():
        add(name, _on_grid(grid, name, mask))
    return xr.DataArray(
        np.stack(list(found.values())),
        dims=("region", "latitude", "longitude"),
        coords={"region": list(found), "latitude": grid.latitude, "longitude": grid.longitude},
        name="region_weight",
        attrs={"long_name": "weight of a cell in a region, beside its area", "units": "1"},
    )


def latitude_bands(grid: Grid, width: float = 30.0) -> dict[str, xr.DataArray]:
    """Masks of bands of latitude, for the ``masks`` of :func:`regions`.

    Each cell is in one band: its southern edge belongs to a band, its northern one to the next.

    Parameters
    ----------
    grid : Grid
        Where the scores are.
    width : float
        Width in degrees, which divides 180.

    Returns
    -------
    dict of (latitude, longitude)
        By name from south to north, those that hold a cell.

    Raises
    ------
    ConfigError
        The width does not divide 180 degrees.

    Examples
    --------
    >>> grid = Grid(np.array([10.0, 40.0, 70.0]), np.array([0.0, 5.0]))
    >>> list(latitude_bands(grid))
    ['0-30N', '30N-60N', '60N-90N']
    """
    count = round(180 / width) if width > 0 else 0
    if count < 1 or not np.isclose(count * width, 180):
        raise ConfigError(f"bands of {width:g} degrees do not divide 180; give a width that does.")
    edges = np.linspace(-90, 90, count + 1)
    place = np.searchsorted(edges, grid.latitude + _TOLERANCE, side="right") - 1
    place = place.clip(0, count - 1)
    rows = {
        f"{_latitude(edges[i])}-{_latitude(edges[i + 1])}": place == i for i in np.unique(place)
    }
    coords = {"latitude": grid.latitude, "longitude": grid.longitude}
    return {
        name: xr.DataArray(
            np.broadcast_to(inside[:, None], grid.shape), coords, ("latitude", "longitude")
        )
        for name, inside in rows.items()
    }


def _latitude(degrees: float) -> str:
    side = "N" if degrees > 0 else "S" if degrees < 0 else ""
    return f"{abs(degrees):g}{side}"


def _named(grid: Grid, name: str, land_sea_mask: xr.DataArray | None) -> npt.NDArray[np.float64]:
    place, _, surface = name.replace("_", "-").rpartition("-")
    if surface not in ("land", "sea"):
        place, surface = name.replace("_", "-"), ""
    if place and place not in NAMED_REGIONS:
        raise ConfigError(
            f"region {name!r} is unknown; there are {', '.join(NAMED_REGIONS)}, land and sea, and "
            "both as in tropics-land."
        )
    weights = np.ones(grid.shape)
    if place:
        weights = np.maximum.reduce([_inside(grid, name, box) for box in NAMED_REGIONS[place]])
    if surface:
        if land_sea_mask is None:
            raise ConfigError(f"region {name!r} needs a land_sea_mask.")
        land = _on_grid(grid, "land_sea_mask", land_sea_mask) > LAND_THRESHOLD
        weights = weights * (land if surface == "land" else ~land)
    return weights


def _inside(grid: Grid, name: str, box: Box) -> npt.NDArray[np.float64]:
    """Weight 1 for the cells whose centres lie in the box, edges included."""
    if len(box) != 4 or not np.isfinite(box).all():
        raise ConfigError(f"region {name!r} is {box}, expected (south, north, west, east).")
    south, north, west, east = box
    if not (-90 <= south <= north <= 90 and max(abs(west), abs(east)) <= 360):
        raise ConfigError(
            f"region {name!r} is {tuple(box)}, expected (south, north, west, east) with "
            "-90 <= south <= north <= 90 and longitudes from -360 to 360."
        )
    rows = (grid.latitude >= south - _TOLERANCE) & (grid.latitude <= north + _TOLERANCE)
    width = 360.0 if east - west >= 360 else np.mod(east - west, 360)
    eastward = np.mod(grid.longitude - west + _TOLERANCE, 360) - _TOLERANCE
    return np.outer(rows, eastward <= width + _TOLERANCE).astype(np.float64)


def _on_grid(grid: Grid, name: str, mask: xr.DataArray) -> npt.NDArray[np.float64]:
    """Values of a mask in the order of the grid, whatever its own."""
    if set(mask.dims) != {"latitude", "longitude"}:
        raise DimensionError(
            f"mask {name!r} has dimensions {mask.dims}, expected (latitude, longitude)."
        )
    mask = mask.transpose("latitude", "longitude")
    theirs, their_rows, their_columns = canonical_grid(
        mask["latitude"].values, mask["longitude"].values
    )
    ours, rows, columns = canonical_grid(grid.latitude, grid.longitude)
    ours.require_same(theirs)
    values = np.asarray(mask.values, np.float64)
    wrong = values[~((values >= 0) & (values <= 1))]
    if wrong.size:
        raise InputError(
            f"mask {name!r} holds {wrong.size} values that are missing or not from 0 to 1, the "
            f"first is {wrong[0]:g}; give bool, or weights from 0 to 1."
        )
    result = np.empty_like(values)
    result[np.ix_(rows, columns)] = values[np.ix_(their_rows, their_columns)]
    return result
