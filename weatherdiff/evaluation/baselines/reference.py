"""What a reference forecast is, and the layout that all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.calendars import after, is_cftime
from weatherdiff.errors import DimensionError
from weatherdiff.evaluation.alignment import Leads, Times, gather

__all__ = [
    "BLOCK_INITS",
    "FORECAST_DIMS",
    "Index",
    "Reference",
    "frames_at",
    "in_nanoseconds",
    "with_coordinates",
]

Index = npt.NDArray[np.int64]

FORECAST_DIMS = ("init_time", "lead_time", "number")
# Initial times per dask block: what is in memory at once, beside the frames they draw on.
BLOCK_INITS = 16


class Reference(Protocol):
    """What a reference gives: forecasts of ``members`` members for any times asked."""

    members: int

    def forecast(self, init_times: Times, lead_times: Leads) -> xr.Dataset:
        """Forecasts over ``(init_time, lead_time, number, ...)``."""
        ...


def in_nanoseconds(inits: Times, leads: Leads) -> tuple[Times, Leads]:
    """Give initial and lead times in the package's unit; dates of cftime stay what they are.

    Raises
    ------
    DimensionError
        The times have no unit.
    """
    inits, leads = np.asarray(inits), np.asarray(leads)
    dated = inits.dtype.kind == "M" or is_cftime(inits)
    if not dated or leads.dtype.kind != "m":
        raise DimensionError(
            f"init_time is {inits.dtype} and lead_time is {leads.dtype}, expected datetime64 and "
            "timedelta64."
        )
    if inits.dtype.kind == "M":
        inits = inits.astype("datetime64[ns]")
    return inits, leads.astype("timedelta64[ns]")


def with_coordinates(
    variables: Mapping[str, xr.DataArray], inits: Times, leads: Leads, members: int
) -> xr.Dataset:
    """Put variables (init_time, lead_time[, number], ...) in the layout of a forecast."""
    ds = xr.Dataset(variables).assign_coords(
        init_time=inits,
        lead_time=leads,
        valid_time=(FORECAST_DIMS[:2], after(inits[:, np.newaxis], leads)),
    )
    if any("number" in field.dims for field in variables.values()):
        ds = ds.assign_coords(number=np.arange(members))
    return ds


def frames_at(analyses: xr.Dataset, index: Index, inits: Times, leads: Leads) -> xr.Dataset:
    """Forecasts whose frames are analyses.

    Parameters
    ----------
    analyses : (time, ...)
        Variables, lazy or not; those without a time are left out.
    index : (init_time, lead_time, number)
        Positions in time; -1 gives NaN.

    Returns
    -------
    (init_time, lead_time, number, ...)
        Lazy, in blocks of initial times.
    """
    blocks = [index[i : i + BLOCK_INITS] for i in range(0, len(index), BLOCK_INITS)]
    variables = {
        str(name): xr.concat(
            [gather(field, block, FORECAST_DIMS) for block in blocks],
            "init_time",
            coords="minimal",
            compat="override",
            join="exact",
        )
        for name, field in analyses.data_vars.items()
        if "time" in field.dims
    }
    return with_coordinates(variables, inits, leads, index.shape[-1])
