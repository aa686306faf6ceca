"""Sparse observations in physical units: a table of points, or linear functionals of the fields.

A table has one row for each observation and the columns

==========  ================================================================================
variable    name of one of the model's variables
level       in hPa, for a variable with levels; may be absent
latitude    degrees north
longitude   degrees east, in any convention
valid_time  UTC unless it says otherwise
value       observed
error       standard deviation of its error, independent of the other rows'
units       of value and error; may be absent: those of the model then
==========  ================================================================================

Other columns are left alone. What is not the value at a point, such as the mean over an area, is
given as :class:`LinearObservations`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from weatherdiff.data.calendars import Calendar
from weatherdiff.data.sources.formats import find_paths, load, open_raw, reading
from weatherdiff.errors import DimensionError, InputError

__all__ = [
    "LinearObservations",
    "ObservationTable",
    "open_observations",
    "point_table",
    "require_calendar",
]

ObservationTable: TypeAlias = "pd.DataFrame | xr.Dataset"
"""See the module for its columns; a Dataset has them along its only dimension."""

COLUMNS = ("variable", "latitude", "longitude", "valid_time", "value", "error")
NUMBERS = ("latitude", "longitude", "value", "error")


@dataclass(frozen=True)
class LinearObservations:
    """Observations of any linear functionals of the fields, such as the mean over an area.

    Parameters
    ----------
    weights : Dataset
        For each variable that is observed, (observation, valid_time[, level], latitude, longitude)
        on the model's grid: what the fields are multiplied with before they are summed, zero nearly
        everywhere. In cells where the model has no data they must be zero.
    value : (observation,)
        Observed sums, in the units that follow from the model's and the weights'.
    error : (observation,)
        Standard deviations of their errors, independent of each other.

    Raises
    ------
    InputError
        Values or errors that are not finite, or errors that are not positive.
    DimensionError
        Weights without an axis of observations or times, or of another count than the values.

    Examples
    --------
    The mean of four cells at one time:

    >>> box = xr.Dataset(
    ...     {"2m_temperature": (("latitude", "longitude"), np.full((2, 2), 0.25))},
    ...     {"latitude": [50.0, 51.0], "longitude": [0.0, 1.0]})
    >>> box = box.expand_dims(observation=1, valid_time=[np.datetime64("2018-07-20T06", "ns")])
    >>> LinearObservations(box, [288.4], [0.3]).value
    array([288.4])
    """

    weights: xr.Dataset
    value: npt.ArrayLike
    error: npt.ArrayLike

    def __post_init__(self) -> None:
        for name in ("value", "error"):
            object.__setattr__(self, name, np.atleast_1d(np.asarray(getattr(self, name), float)))
        absent = {"observation", "valid_time", "latitude", "longitude"} - set(self.weights.dims)
        if absent or not self.weights.data_vars:
            raise DimensionError(
                f"The weights lack {', '.join(sorted(absent)) or 'variables'}; each variable is "
                "(observation, valid_time[, level], latitude, longitude)."
            )
        count = self.weights.sizes["observation"]
        if np.shape(self.value) != (count,) or np.shape(self.error) != (count,):
            raise DimensionError(
                f"There are weights of {count} observations, {np.size(self.value)} values and "
                f"{np.size(self.error)} errors."
            )
        require_errors(np.asarray(self.value), np.asarray(self.error))


def open_observations(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table of observations: CSV, NetCDF or Zarr.

    Parameters
    ----------
    path : path
        ``*.csv``, or what :func:`weatherdiff.open_fields` could open: a NetCDF file or Zarr store
        whose variables are the columns.

    Returns
    -------
    DataFrame
        With the columns of :mod:`weatherdiff.forecasting.observations`, checked.

    Raises
    ------
    MissingInputError
        There is nothing at ``path``.
    InputError
        It cannot be read, lacks a column, or has a row that cannot be.
    """
    paths = find_paths(path)
    if len(paths) > 1:
        raise InputError(f"{path} is {len(paths)} files; give one table.")
    if Path(paths[0]).suffix == ".csv":
        with reading(paths[0]):
            table = pd.read_csv(paths[0], dtype={"variable": str, "valid_time": str})
    else:
        table = load(open_raw(paths[0])[0])
    try:
        return point_table(table)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def point_table(table: ObservationTable) -> pd.DataFrame:
    """Check a table of observations.

    Parameters
    ----------
    table : DataFrame or Dataset
        With the columns of :mod:`weatherdiff.forecasting.observations`.

    Returns
    -------
    DataFrame
        Those columns, ``valid_time`` in UTC, ``level`` NaN where there is none, ``units`` empty.

    Raises
    ------
    InputError
        A column is absent, there are no rows, or a row has a value that cannot be.
    """
    if isinstance(table, xr.Dataset):
        if len(table.dims) != 1:
            raise InputError(
                "The observations need one dimension along which all columns lie; found "
                f"{', '.join(map(str, table.dims)) or 'none'}."
            )
        table = table.reset_coords().to_dataframe().reset_index()
    absent = [name for name in COLUMNS if name not in table]
    if absent:
        raise InputError(
            f"The observations lack {', '.join(absent)}; found {', '.join(map(str, table))}."
        )
    if table.empty:
        raise InputError("There are no observations in the table.")
    out = pd.DataFrame({"variable": table["variable"].astype(str).to_numpy()})
    for name in (*NUMBERS, "level"):
        column = table.get(name, np.nan)
        out[name] = pd.to_numeric(np.broadcast_to(column, len(table)), errors="coerce")
    times = pd.to_datetime(table["valid_time"], utc=True, errors="coerce", format="ISO8601")
    out["valid_time"] = times.dt.tz_localize(None).to_numpy("datetime64[ns]")
    units = table["units"] if "units" in table else pd.Series([""] * len(table))
    out["units"] = units.fillna("").astype(str).to_numpy()
    for name in (*NUMBERS, "valid_time"):
        bad = np.flatnonzero(out[name].isna())
        if len(bad):
            raise InputError(
                f"Row {bad[0]} of the observations has no usable {name}: "
                f"{table[name].iloc[bad[0]]!r}."
            )
    if (out["latitude"].abs() > 90).any():
        raise InputError("The observations have latitudes beyond 90 degrees.")
    require_errors(out["value"].to_numpy(), out["error"].to_numpy())
    return out


def require_calendar(observations: ObservationTable | LinearObservations, calendar: str) -> None:
    """Refuse observations whose times are of another calendar than the model's.

    Raises
    ------
    InputError
        A table, whose times are of the standard calendar, or weights of another calendar.
    """
    theirs = Calendar()
    if isinstance(observations, LinearObservations):
        times = observations.weights.get("valid_time", xr.DataArray())
        theirs = Calendar.of(times) if times.dtype == object else theirs
    if theirs != Calendar(calendar):
        raise InputError(
            f"The observations have times of the calendar {theirs.name}, the model forecasts in "
            f"the calendar {calendar}; give LinearObservations whose valid_time is in that one."
        )


def require_errors(value: npt.NDArray[np.float64], error: npt.NDArray[np.float64]) -> None:
    """Refuse observations without a usable error.

    Raises
    ------
    InputError
        Something is not finite, or an error is not positive.
    """
    bad = np.flatnonzero(~(np.isfinite(value) & np.isfinite(error) & (error > 0)))
    if len(bad):
        raise InputError(
            f"Observation {bad[0]} is {value[bad[0]]:g} with error {error[bad[0]]:g}; values must "
            "be finite and errors (standard deviations) finite and positive."
        )
