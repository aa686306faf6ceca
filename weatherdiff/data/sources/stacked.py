"""One array of many variables, (time, channel, latitude, longitude), as many variables."""

from __future__ import annotations

import numpy as np
import xarray as xr

from weatherdiff.errors import InputError

__all__ = ["names_dimension", "split_channels"]

#: What these count is no variables, whatever their labels are.
DIMENSIONS = ("init_time", "lead_time", "valid_time", "time", "number", "latitude", "longitude")


def names_dimension(ds: xr.Dataset, variable: str) -> str | None:
    """Dimension of a variable whose coordinate holds names; None if there is none."""
    for dim in map(str, ds[variable].dims):
        if dim in DIMENSIONS:
            continue
        if dim in ds.coords and ds[dim].dtype.kind in "UOT":
            values = ds[dim].to_numpy().tolist()
            if all(isinstance(value, str) for value in values):
                return dim
    return None


def split_channels(ds: xr.Dataset) -> xr.Dataset:
    """Turn arrays along a dimension of names into one variable for each name.

    Units are taken from a coordinate ``units`` along that dimension, if there is one.

    Raises
    ------
    InputError
        A name occurs twice, or is that of another variable.

    Examples
    --------
    >>> stacked = xr.Dataset({"x": (("time", "channel"), np.eye(2))}, {"channel": ["t", "u"]})
    >>> split_channels(stacked)["u"].values
    array([0., 1.])
    """
    for variable in list(map(str, ds.data_vars)):
        dim = names_dimension(ds, variable)
        if dim is None:
            continue
        labels = ds[dim].to_numpy().tolist()
        taken = [n for n in labels if labels.count(n) > 1 or (n in ds.variables and n != variable)]
        if taken:
            raise InputError(
                f"{variable} holds {taken[0]!r} along {dim}, a name that occurs again; rename it."
            )
        units = ds["units"].values if "units" in ds and ds["units"].dims == (dim,) else None
        array = ds[variable]
        fields = {}
        for number, label in enumerate(labels):
            field = array.isel({dim: number}, drop=True).drop_vars("units", errors="ignore")
            known = {k: v for k, v in array.attrs.items() if k != "units"}
            if units is not None:
                known["units"] = str(np.asarray(units)[number])
            fields[label] = field.assign_attrs(known) if known else field
        ds = ds.drop_vars(variable).assign(fields)
        if not any(dim in field.dims for field in ds.data_vars.values()):
            ds = ds.drop_dims(dim)
    return ds
