r"""The latitude-longitude grid: checks and exact cell areas.

A grid is two coordinate vectors. Cell edges lie midway between centres, so that the areas are

.. math:: A_{ij} \propto (\sin\phi_{i+1/2} - \sin\phi_{i-1/2})\,\Delta\lambda_j

for global and regional, regular and Gaussian grids, with or without rows at the poles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import DimensionError, GridMismatchError, InputError

__all__ = ["Grid", "canonical_grid", "grid_coordinates"]

# Longitudes stored as float32 near 360 are off by 3e-5 degrees.
_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Grid:
    """Cell centres of a latitude-longitude grid.

    Parameters
    ----------
    latitude : (latitude,)
        Degrees north, strictly monotonic, at least two.
    longitude : (longitude,)
        Degrees east, strictly monotonic, at least two, spanning less than 360 degrees.

    Raises
    ------
    DimensionError
        A coordinate is not a vector of at least two numbers.
    InputError
        A coordinate is not finite, not monotonic, out of range or repeats a meridian.

    Examples
    --------
    >>> grid = Grid(np.linspace(-90, 90, 5), np.arange(0, 360, 45))
    >>> grid.shape, grid.is_periodic
    ((5, 8), True)
    >>> weights = grid.area_weights().isel(longitude=0)
    >>> print(weights.values.round(3), float(weights.mean().round(12)))
    [0.19  1.353 1.913 1.353 0.19 ] 1.0
    """

    latitude: npt.NDArray[np.float64]
    longitude: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("latitude", "longitude"):
            values = _decimal(getattr(self, name)).copy()
            _check_vector(values, name)
            steps = np.diff(values)
            if not (np.all(steps > 0) or np.all(steps < 0)):
                raise InputError(
                    f"{name} neither increases nor decreases throughout: {_describe(values)}; "
                    "sort it, and keep each value once."
                )
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        furthest = self.latitude[np.abs(self.latitude).argmax()]
        if abs(furthest) > 90 + _TOLERANCE:
            raise InputError(
                f"latitude reaches {furthest:g}, expected [-90, 90]; are latitude and longitude "
                "swapped, or the coordinates those of a projection?"
            )
        _check_meridians(self.longitude)
        if np.ptp(self.longitude) > 360:
            raise InputError(f"longitude goes round more than once: {_describe(self.longitude)}.")

    @classmethod
    def from_dataset(cls, ds: xr.Dataset | xr.DataArray) -> Grid:
        """Grid of a data set's ``latitude`` and ``longitude`` coordinates.

        Raises
        ------
        DimensionError
            A coordinate is missing or two-dimensional (a projected or curvilinear grid).
        """
        return cls(*grid_coordinates(ds))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of latitudes and of longitudes."""
        return self.latitude.size, self.longitude.size

    @property
    def is_periodic(self) -> bool:
        """Whether the meridians are equally spaced all round, the seam included."""
        return _is_uniform(_gaps(np.sort(np.mod(self.longitude, 360))))

    @property
    def latitude_edges(self) -> npt.NDArray[np.float64]:
        """Edges of the rows, one more than there are: what :meth:`area_weights` goes by."""
        return _latitude_edges(self.latitude)

    @property
    def longitude_edges(self) -> npt.NDArray[np.float64]:
        """Edges of the columns, one more than there are."""
        return _longitude_edges(self.longitude)

    def area_weights(self) -> xr.DataArray:
        """Exact cell areas, relative to their mean.

        The outer edges lie half a spacing beyond the outer centres, but not beyond the pole; where
        no further row would fit before the pole (a Gaussian grid), the outer cell reaches it.

        Returns
        -------
        (latitude, longitude)
            Dimensionless float64, mean 1.
        """
        heights = np.abs(np.diff(np.sin(np.deg2rad(self.latitude_edges))))
        widths = np.abs(np.diff(self.longitude_edges))
        weights = np.outer(heights / heights.mean(), widths / widths.mean())
        return xr.DataArray(
            weights,
            dims=("latitude", "longitude"),
            coords={"latitude": self.latitude, "longitude": self.longitude},
            name="area_weight",
            attrs={"long_name": "cell area relative to the mean cell", "units": "1"},
        )

    def require_same(self, other: Grid, tolerance: float = _TOLERANCE) -> None:
        """Refuse another grid.

        Parameters
        ----------
        other : Grid
            The grid to compare with.
        tolerance : float
            Largest difference of a coordinate, in degrees.

        Raises
        ------
        GridMismatchError
            A shape or a coordinate differs.
        """
        for name in ("latitude", "longitude"):
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours.size != theirs.size or np.abs(ours - theirs).max() > tolerance:
                raise GridMismatchError(
                    f"{name} differs: {_describe(ours)} against {_describe(theirs)}; "
                    "regrid or select one to match the other."
                )

    def to_dict(self) -> dict[str, list[float]]:
        """Coordinates as plain lists, ready for JSON."""
        return {"latitude": self.latitude.tolist(), "longitude": self.longitude.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Grid:
        """Grid from the lists of :meth:`to_dict`."""
        return cls(values["latitude"], values["longitude"])

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Grid)
            and np.array_equal(self.latitude, other.latitude)
            and np.array_equal(self.longitude, other.longitude)
        )

    def __hash__(self) -> int:
        return hash((self.latitude.tobytes(), self.longitude.tobytes()))


def grid_coordinates(ds: xr.Dataset | xr.DataArray) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Latitudes and longitudes of a data set, as they are.

    Raises
    ------
    DimensionError
        A coordinate is missing.
    """
    for name in ("latitude", "longitude"):
        if name not in ds.coords:
            known = ", ".join(sorted(map(str, ds.coords))) or "none"
            raise DimensionError(
                f"there is no coordinate {name}; there are: {known}. Name its own as in "
                f"rename={{'...': {name!r}}}; of what is in a group, open the group with xarray."
            )
    return ds["latitude"].values, ds["longitude"].values


def canonical_grid(
    latitude: npt.ArrayLike, longitude: npt.ArrayLike
) -> tuple[Grid, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Grid of the same cells in canonical order, and where its rows and columns were.

    Latitude and longitude increase. A global grid starts in [0, 360), a regional one in
    [-180, 180), and none is split at a seam: longitudes 359, 0, 1 become -1, 0, 1.

    Parameters
    ----------
    latitude, longitude : (latitude,), (longitude,)
        Degrees north and east, in any order and convention.

    Returns
    -------
    Grid
        The canonical grid.
    rows, columns : (latitude,), (longitude,)
        Positions of its latitudes and longitudes among those given.

    Raises
    ------
    DimensionError
        A coordinate is not a vector of at least two numbers.
    InputError
        A coordinate is not finite, out of range or repeats a value.

    Examples
    --------
    >>> grid, rows, columns = canonical_grid([60.0, 50.0], [-180.0, -90.0, 0.0, 90.0])
    >>> print(grid.latitude, grid.longitude, columns)
    [50. 60.] [  0.  90. 180. 270.] [2 3 0 1]
    """
    latitude, longitude = _decimal(latitude), _decimal(longitude)
    for name, values in (("latitude", latitude), ("longitude", longitude)):
        _check_vector(values, name)
    _check_meridians(longitude)
    rows = np.argsort(latitude)
    # rounded, as adding 360 and taking it away again changes the last digits
    turned = np.mod(np.round(np.mod(longitude, 360), 9), 360)
    columns = np.argsort(turned)
    gaps = _gaps(turned[columns])
    if not _is_uniform(gaps):  # a region: it starts after the largest gap
        columns = np.roll(columns, -1 - gaps.argmax())
        first = turned[columns[0]]
        turned = np.round(first + np.mod(turned - first, 360) - (360 if first >= 180 else 0), 9)
    return Grid(latitude[rows], turned[columns]), rows, columns


def _decimal(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Values as float64; a float32 280.1 is to be 280.1 and not 280.1000061."""
    values = np.asarray(values)
    if values.dtype == np.float32:
        values = values.astype(str)
    return values.astype(np.float64)


def _check_vector(values: npt.NDArray[np.float64], name: str) -> None:
    if values.ndim != 1 or values.size < 2:
        advice = "a projected or curvilinear grid must first be regridded to latitude and longitude"
        if values.ndim == 1:
            advice = "give fields, not a point or a section"
        raise DimensionError(
            f"{name} has shape {values.shape}, expected a vector of at least two; {advice}."
        )
    if not np.isfinite(values).all():
        raise InputError(
            f"{name} holds {np.sum(~np.isfinite(values))} missing or infinite values; correct them "
            "(in Zarr 2 a fill value of 0 makes 0 missing: store the coordinate without one)."
        )


def _check_meridians(longitude: npt.NDArray[np.float64]) -> None:
    turned = np.mod(longitude, 360)
    order = np.argsort(turned)
    gaps = _gaps(turned[order])
    if gaps.min() < _TOLERANCE:
        place = gaps.argmin()
        pair = longitude[order[[place, (place + 1) % order.size]]]
        raise InputError(
            f"longitudes {pair.min():g} and {pair.max():g} are the same meridian; drop one, "
            "as in ds.isel(longitude=slice(0, -1))."
        )


def _gaps(increasing: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Degrees from each longitude to the next one eastward, round the globe."""
    return np.diff(increasing, append=increasing[0] + 360)


def _is_uniform(gaps: npt.NDArray[np.float64]) -> bool:
    return bool(np.ptp(gaps) < max(_TOLERANCE, 1e-3 * gaps.min()))


def _latitude_edges(latitude: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    edges = _edges(latitude)
    for end, inner in ((0, 1), (-1, -2)):
        spacing = latitude[end] - latitude[inner]
        pole = np.copysign(90, spacing)
        if abs(pole - latitude[end]) < 0.99 * abs(spacing):  # no further row fits
            edges[end] = pole
    return edges


def _longitude_edges(longitude: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    edges = _edges(longitude)
    if abs(edges[-1] - edges[0]) > 360:  # unequal spacing round the globe: meet midway
        turn = np.copysign(360, edges[-1] - edges[0])
        edges[-1] = (longitude[-1] + longitude[0] + turn) / 2
        edges[0] = edges[-1] - turn
    return edges


def _edges(centres: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Midpoints, and at both ends the centre plus half the outer spacing."""
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def _describe(values: npt.NDArray[np.float64]) -> str:
    return f"{values.size} values from {values[0]:g} to {values[-1]:g}"
