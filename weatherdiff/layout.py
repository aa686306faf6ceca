"""From the user's names, order and units to canonical ones, and back.

Inside the package latitude and longitude increase. A global grid starts in [0, 360), a regional one
in [-180, 180), and none is split at a seam. :class:`Layout` remembers what the user had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import UnitsError
from weatherdiff.grid import Grid, canonical_grid, grid_coordinates
from weatherdiff.schema import canonical_names, convert_units
from weatherdiff.units import unit_conversion

__all__ = ["LAYOUT", "Layout", "canonical_layout"]

#: Attribute of a data set that holds its layout as JSON.
LAYOUT = "weatherdiff_layout"

_LATITUDE = {"standard_name": "latitude", "units": "degrees_north"}
_LONGITUDE = {"standard_name": "longitude", "units": "degrees_east"}


@dataclass(frozen=True)
class Layout:
    """The user's own order, names and units, to give output back as the input was.

    Parameters
    ----------
    latitude, longitude : tuple of float
        Coordinates as the user had them: values, order and longitude convention.
    dtype : str
        Type of these coordinates.
    order : tuple of str
        Canonical names of the dimensions in the user's order.
    names : dict
        The user's name of each dimension and variable that has another canonical one.
    units : dict
        The user's units by canonical name.
    """

    latitude: tuple[float, ...]
    longitude: tuple[float, ...]
    dtype: str
    order: tuple[str, ...]
    names: dict[str, str]
    units: dict[str, str]

    def restore(self, ds: xr.Dataset) -> xr.Dataset:
        """Give a canonical data set back in the user's own layout.

        Parameters
        ----------
        ds : (..., latitude, longitude)
            Analysis or forecast on the same grid. Dimensions and variables the user did not have
            stay as they are, the dimensions in front.

        Returns
        -------
        xr.Dataset
            The same values; lazy if ``ds`` is.

        Raises
        ------
        GridMismatchError
            ``ds`` is on another grid.
        UnitsError
            A variable has no units.
        """
        grid, rows, columns = canonical_grid(self.latitude, self.longitude)
        grid.require_same(Grid.from_dataset(ds))
        ds = _reorder(ds, latitude=np.argsort(rows), longitude=np.argsort(columns)).assign_coords(
            latitude=("latitude", np.array(self.latitude, self.dtype), _LATITUDE),
            longitude=("longitude", np.array(self.longitude, self.dtype), _LONGITUDE),
        )
        for name, units in self.units.items():
            if name not in ds.variables:
                continue
            stated = ds[name].attrs.get("units")
            if stated is None:
                raise UnitsError(f"{name} has no units, so that it cannot be given in {units}.")
            if stated != units:
                factor, offset = unit_conversion(units, stated)
                values = (ds[name].variable - offset) / factor
                values.attrs = {**ds[name].attrs, "units": units}
                ds = ds.assign({name: values})
        last = [name for name in self.order if name in ds.dims]
        ds = ds.transpose(..., *last)
        return ds.rename({old: new for old, new in self.names.items() if old in ds.variables})

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts and strings, ready for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Layout:
        """Layout from the dict of :meth:`to_dict`."""
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**fields)


def canonical_layout(
    ds: xr.Dataset,
    *,
    rename: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
) -> tuple[xr.Dataset, Layout]:
    """Bring an analysis into canonical names, order and units.

    Parameters
    ----------
    ds : xr.Dataset
        Variables on one latitude-longitude grid.
    rename : mapping, optional
        Canonical names by the user's, where they are not known.
    units : mapping, optional
        Units by the user's or the canonical name, where they are missing or wrong.

    Returns
    -------
    xr.Dataset
        Variables ([time, ][level, ]latitude, longitude); lazy if ``ds`` is. The same field on
        longitudes -180 to 180 and 0 to 360, in any order of rows, gives the same result.
    Layout
        What :meth:`Layout.restore` needs to undo it.

    Raises
    ------
    DimensionError
        There is no one-dimensional latitude or longitude.
    InputError
        A coordinate is out of range or repeats itself.
    UnitsError
        Units are absent, unknown, or of another quantity.

    Examples
    --------
    >>> field = [[15.0, 16.0, 17.0], [10.0, 11.0, 12.0]]
    >>> coordinates = {"lat": [50.5, 50.0], "lon": [359.0, 359.5, 0.0]}
    >>> ds = xr.Dataset({"t2m": (("lat", "lon"), field, {"units": "degC"})}, coordinates)
    >>> canonical, layout = canonical_layout(ds)
    >>> print(canonical["2m_temperature"].values[0], canonical.longitude.values)
    [283.15 284.15 285.15] [-1.  -0.5  0. ]
    >>> layout.restore(canonical).equals(ds.astype("float32"))
    True
    """
    names = canonical_names(ds, rename)
    ds = ds.rename(names)
    latitude, longitude = grid_coordinates(ds)
    order = max((field.dims for field in ds.data_vars.values()), key=len, default=())
    grid, rows, columns = canonical_grid(latitude, longitude)
    ds = _reorder(ds, latitude=rows, longitude=columns).assign_coords(
        latitude=("latitude", grid.latitude, _LATITUDE),
        longitude=("longitude", grid.longitude, _LONGITUDE),
    )
    ds = ds.transpose("time", "level", ..., "latitude", "longitude", missing_dims="ignore")
    ds, had = convert_units(ds, {names.get(k, k): v for k, v in (units or {}).items()})
    return ds, Layout(
        latitude=tuple(latitude.tolist()),
        longitude=tuple(longitude.tolist()),
        dtype=str(np.result_type(latitude, longitude)),
        order=tuple(map(str, order)),
        names={new: old for old, new in names.items()},
        units=had,
    )


def _reorder(ds: xr.Dataset, **positions: npt.NDArray[np.intp]) -> xr.Dataset:
    moved = {name: p for name, p in positions.items() if not np.array_equal(p, np.arange(p.size))}
    return ds.isel(moved)
