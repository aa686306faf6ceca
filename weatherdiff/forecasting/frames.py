"""Frames of a forecast as a CF Dataset."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.calendars import STANDARD, Calendar
from weatherdiff.data.channels import Channels
from weatherdiff.grid import Grid

__all__ = ["forecast_dataset"]

_COORDINATES = {
    "init_time": {"standard_name": "forecast_reference_time", "long_name": "initial time"},
    "lead_time": {"standard_name": "forecast_period", "long_name": "time since the initial time"},
    "number": {"standard_name": "realization", "long_name": "ensemble member", "units": "1"},
    "level": {"standard_name": "air_pressure", "units": "hPa", "positive": "down"},
    "latitude": {"standard_name": "latitude", "units": "degrees_north"},
    "longitude": {"standard_name": "longitude", "units": "degrees_east"},
    "valid_time": {"standard_name": "time", "long_name": "time for which the forecast is valid"},
}


def forecast_dataset(
    fields: npt.NDArray[np.float32],
    *,
    init: int,
    times: npt.NDArray[np.int64],
    channels: Channels,
    grid: Grid,
    calendar: str = STANDARD,
) -> xr.Dataset:
    """Name the axes of the frames of one initial time.

    Parameters
    ----------
    fields : (number, lead_time, channel, latitude, longitude)
        Physical units.
    init : int
        Seconds since 1970-01-01 UTC.
    times : (lead_time,)
        When the frames are valid, likewise.
    channels : Channels
    grid : Grid
    calendar : str
        Of the times, in which they are written.

    Returns
    -------
    Dataset
        (init_time, lead_time, number[, level], latitude, longitude).
    """
    lead_time = (times - init).astype("timedelta64[s]").astype("timedelta64[ns]")
    own = Calendar(calendar)
    vectors = {
        "init_time": own.dates([init]),
        "lead_time": lead_time,
        "number": np.arange(len(fields)),
        "latitude": grid.latitude,
        "longitude": grid.longitude,
    }
    array = xr.DataArray(
        fields.swapaxes(0, 1)[None],
        dims=("init_time", "lead_time", "number", "channel", "latitude", "longitude"),
        coords={
            **{name: (name, values, _attributes(name)) for name, values in vectors.items()},
            "valid_time": (
                ("init_time", "lead_time"),
                own.dates(times)[None],
                _attributes("valid_time"),
            ),
        },
    )
    ds = channels.unstack(array)
    if "level" in ds.coords:
        ds["level"].attrs = _attributes("level")
    return ds


def _attributes(name: str) -> dict[str, str]:
    return dict(_COORDINATES[name])
