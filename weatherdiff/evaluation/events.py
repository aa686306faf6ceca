"""Events: a variable above or below a threshold, fixed or varying with place and season."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.calendars import STANDARD, Calendar
from weatherdiff.errors import DimensionError, GridMismatchError, InputError, UnitsError
from weatherdiff.evaluation.baselines.training import calendar_of, day_of_year, hour_of_day
from weatherdiff.grid import Grid

__all__ = ["NANOSECONDS_PER_HOUR", "Event", "check_events"]

# Of a climatological threshold; the first two may be absent.
_FIELD_DIMS = ("dayofyear", "hour", "latitude", "longitude")
NANOSECONDS_PER_HOUR = 3_600_000_000_000


@dataclass(frozen=True, eq=False)
class Event:
    """A variable above, or below, a threshold.

    Parameters
    ----------
    variable : str
        Label of the channel: the variable's name, or ``name_level``.
    threshold : float or xr.DataArray
        In the variable's unit. A field is over ``([dayofyear], [hour], latitude, longitude)``,
        such as :func:`~weatherdiff.evaluation.climatological_percentile` gives; ``dayofyear`` is
        1..365 (the last day of a leap year counts with the one before), ``hour`` the time of day
        in hours. Where it is NaN and there is an observation the event's scores are NaN (the
        fractions skill score leaves such cells out). A lazy field is read whenever thresholds are
        asked for: compute it, or store it and open it, first.
    above : bool
        Whether the event is a value greater than the threshold, or one less than it. A value equal
        to the threshold is in neither.
    label : str, optional
        Name in the results, such as ``"2m_temperature>303.15"``, which is made up unless given.
        Events of several variables may share one, such as ``"above_p90"``.

    Raises
    ------
    DimensionError
        The field has other dimensions or lacks a coordinate.
    InputError
        The threshold is not finite, a day of the year or hour is out of range or occurs twice, or
        a field has no label.

    Examples
    --------
    >>> heat = Event("2m_temperature", 303.15)
    >>> heat.label
    '2m_temperature>303.15'
    >>> grid = Grid(np.array([40.0, 50.0]), np.array([0.0, 10.0, 20.0]))
    >>> heat.thresholds(np.array(["2020-07-01T12"], "datetime64[ns]"), grid).shape
    (1, 2, 3)
    """

    variable: str
    threshold: float | xr.DataArray
    above: bool = True
    label: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.threshold, xr.DataArray):
            _check_field(self.threshold)
            if not self.label:
                raise InputError(
                    f"the event of {self.variable} with a threshold field needs a label."
                )
        elif not np.isfinite(self.threshold):
            raise InputError(f"the threshold of {self.variable} is {self.threshold}.")
        elif not self.label:
            sign = ">" if self.above else "<"
            object.__setattr__(self, "label", f"{self.variable}{sign}{self.threshold:.10g}")

    @property
    def units(self) -> str:
        """Unit the threshold states, empty if it states none."""
        if isinstance(self.threshold, xr.DataArray):
            return str(self.threshold.attrs.get("units", ""))
        return ""

    def thresholds(self, valid_times: npt.NDArray[Any], grid: Grid) -> npt.NDArray[np.floating]:
        """Thresholds at given times on a grid.

        Parameters
        ----------
        valid_times : (...)
            Times the event is forecast for, ``datetime64`` or dates of cftime.
        grid : Grid
            The forecasts' grid, latitude in either order.

        Returns
        -------
        (..., latitude, longitude)
            Thresholds, read-only; what does not vary in time takes no memory for it.

        Raises
        ------
        GridMismatchError
            The field is on another grid.
        InputError
            The field has no thresholds for the hour or day of year of a valid time, or has those
            of the days of another calendar.
        """
        valid_times = np.asarray(valid_times)
        shape = (*valid_times.shape, *grid.shape)
        if not isinstance(self.threshold, xr.DataArray):
            return np.broadcast_to(np.float64(self.threshold), shape)
        field = _on(self.threshold, grid, self.label)
        own = calendar_of(valid_times)
        if "dayofyear" in field.dims and own != _calendar_of(field):
            raise InputError(
                f"the threshold of {self.label} is of days in the calendar "
                f"{_calendar_of(field).name}, the forecasts are in the calendar {own.name}; make "
                "it from analyses in that one."
            )
        moments_of_year = {
            "dayofyear": day_of_year(valid_times) + 1,
            "hour": hour_of_day(valid_times) / NANOSECONDS_PER_HOUR,
        }
        wanted = {
            name: self._positions(name, values.ravel())
            for name, values in moments_of_year.items()
            if name in field.dims
        }
        if not wanted:
            return np.broadcast_to(field.values, shape)
        moments, inverse = np.unique(np.stack(list(wanted.values())), axis=1, return_inverse=True)
        chosen = {name: ("moment", moments[i]) for i, name in enumerate(wanted)}
        frames = field.isel(chosen).transpose("moment", "latitude", "longitude").values
        if frames.shape[0] == 1:
            return np.broadcast_to(frames[0], shape)
        return frames[inverse.ravel()].reshape(shape)

    def _positions(self, name: str, wanted: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
        """Positions along a coordinate of the field of the values it must have."""
        assert isinstance(self.threshold, xr.DataArray)  # noqa: S101  (for the type checker)
        known = _whole(name, self.threshold[name].values)
        sought = _whole(name, wanted)
        order = np.argsort(known)
        place = order[np.searchsorted(known, sought, sorter=order).clip(max=known.size - 1)]
        absent = np.unique(wanted[known[place] != sought])
        if absent.size:
            listed = ", ".join(f"{value:g}" for value in absent[:5])
            raise InputError(
                f"the threshold of {self.label} has no {name} {listed}; forecasts lie outside the "
                "hours or season of the period it was made from."
            )
        return place


def check_events(events: Sequence[Event], units: Mapping[str, str]) -> None:
    """Refuse events that are not about what is scored.

    Parameters
    ----------
    events : sequence of Event
        The events asked for.
    units : mapping of str to str
        Unit of each scored channel by its label, empty if unknown.

    Raises
    ------
    InputError
        An event is of another variable, or occurs twice.
    UnitsError
        A threshold field states another unit than its variable.

    Examples
    --------
    >>> check_events([Event("t", 303.15)], {"2m_temperature": "K"})
    Traceback (most recent call last):
        ...
    weatherdiff.errors.InputError: event t>303.15 is of t, which is not among what is scored:
    2m_temperature.
    """
    seen = set()
    for event in events:
        if event.variable not in units:
            raise InputError(
                f"event {event.label} is of {event.variable}, which is not among what is scored: "
                f"{', '.join(units)}."
            )
        ours = units[event.variable]
        if event.units and ours and event.units != ours:
            raise UnitsError(
                f"the threshold of {event.label} is in {event.units!r}, {event.variable} in "
                f"{ours!r}; convert one of them."
            )
        if (event.variable, event.label) in seen:
            raise InputError(f"event {event.label} of {event.variable} is asked for twice.")
        seen.add((event.variable, event.label))


def _check_field(field: xr.DataArray) -> None:
    expected = tuple(dim for dim in _FIELD_DIMS if dim in field.dims)
    if expected[-2:] != _FIELD_DIMS[-2:] or set(field.dims) != set(expected):
        raise DimensionError(
            f"a threshold field has dimensions {field.dims}, expected latitude and longitude and "
            "perhaps dayofyear and hour."
        )
    Grid.from_dataset(field)  # refuses what is no grid
    days = _calendar_of(field).days
    for name, low, high in (("dayofyear", 1, days), ("hour", 0, 24)):
        if name not in field.dims:
            continue
        if name not in field.coords:
            raise DimensionError(f"a threshold field has no coordinate {name}.")
        values = field[name].values
        if values.dtype.kind not in "iuf" or np.any((values < low) | (values > high)):
            raise InputError(f"{name} of a threshold field is not within {low} to {high}.")
        if np.unique(_whole(name, values)).size != values.size:
            raise InputError(f"{name} of a threshold field holds a value twice.")


def _calendar_of(field: xr.DataArray) -> Calendar:
    """Give the calendar whose days of the year a field has."""
    stated = field["dayofyear"].attrs if "dayofyear" in field.coords else {}
    return Calendar(str(stated.get("calendar", STANDARD)))


def _on(field: xr.DataArray, grid: Grid, label: str) -> xr.DataArray:
    """Turn a field to a grid's order of latitudes; any other difference is refused."""
    latitude = field["latitude"].values
    if (latitude[0] < latitude[-1]) != (grid.latitude[0] < grid.latitude[-1]):
        field = field.isel(latitude=slice(None, None, -1))
    try:
        grid.require_same(Grid.from_dataset(field))
    except GridMismatchError as error:
        raise GridMismatchError(f"the threshold of {label} is on another grid: {error}") from error
    return field


def _whole(name: str, values: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Days, or hours in nanoseconds, as integers that compare exactly."""
    scale = NANOSECONDS_PER_HOUR if name == "hour" else 1
    return np.rint(np.asarray(values, np.float64) * scale).astype(np.int64)
