"""The three times of a forecast: when it started, how far it went, and what it is valid for.

Beside a lead time, a lone ``time`` is that of the start, as in the layouts of WeatherBench 2 and
cfgrib; without one it might be either and is refused. Nothing else is inferred, and valid times
that are given too must be those that follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.calendars import (
    Calendar,
    is_cftime,
    on_axis,
    require_same_calendar,
    written,
)
from weatherdiff.errors import DimensionError, InputError

__all__ = ["decode_init_times", "decode_lead_times", "require_valid_times", "tell_times_apart"]

_LONGEST_YEARS = 100
_YEAR = 31_557_600.0

# Seconds in the units in which lead times are written.
_SECONDS: Mapping[str, float] = {
    **dict.fromkeys(("weeks", "week"), 604800.0),
    **dict.fromkeys(("days", "day", "d", "D"), 86400.0),
    **dict.fromkeys(("hours", "hour", "hrs", "hr", "h", "H"), 3600.0),
    **dict.fromkeys(("minutes", "minute", "mins", "min", "m"), 60.0),
    **dict.fromkeys(("seconds", "second", "secs", "sec", "s"), 1.0),
    **dict.fromkeys(("milliseconds", "millisecond", "ms"), 1e-3),
    **dict.fromkeys(("microseconds", "microsecond", "us"), 1e-6),
    **dict.fromkeys(("nanoseconds", "nanosecond", "ns"), 1e-9),
}


def tell_times_apart(
    ds: xr.Dataset, names: Mapping[str, str], given: Mapping[str, str]
) -> dict[str, str]:
    """Correct the canonical names of the times: those of analyses know one ``time`` only.

    Parameters
    ----------
    ds : xr.Dataset
        Forecasts as they were opened.
    names : mapping
        Canonical names by own ones, from :func:`~weatherdiff.schema.canonical_names`.
    given : mapping
        Those the user gave.

    Returns
    -------
    dict
        The same with ``init_time``, ``lead_time`` and ``valid_time``, and no ``time``.

    Raises
    ------
    DimensionError
        There is no lead time, or no initial time.

    Examples
    --------
    >>> ds = xr.Dataset(coords={"time": [0], "step": [6], "valid_time": ("step", [6])})
    >>> tell_times_apart(ds, {"step": "lead_time"}, {})
    {'step': 'lead_time', 'time': 'init_time'}
    """
    own = {names.get(str(old), str(old)): str(old) for old in (*ds.variables, *ds.dims)}
    time = own.get("time")
    there = ", ".join(f"{name} ({size})" for name, size in ds.sizes.items())
    if "lead_time" not in own:
        doubt = "" if time is None else f", and {time} may be the start or the valid time"
        raise DimensionError(
            f"there is no lead time among the dimensions {there}{doubt}; name it with "
            "rename={'...': 'lead_time'}, add it as in ds.expand_dims(lead_time=[...]), or open "
            "analyses with open_fields."
        )
    names = {old: new for old, new in names.items() if new != "time" or old in given}
    if time is not None and "init_time" not in own:
        if time == "valid_time":
            raise DimensionError(
                f"there is a valid time and a lead time but no initial time (dimensions {there}); "
                "forecasts are arranged by initial time and lead time."
            )
        names[time] = "init_time"
    elif time is not None and "valid_time" not in own:
        names[time] = "valid_time"
    elif "init_time" not in own:
        raise DimensionError(f"there is a lead time but no initial time (dimensions {there}).")
    return {old: new for old, new in names.items() if old != new}


def decode_init_times(coordinate: xr.DataArray) -> npt.NDArray[Any]:
    """Give initial times as datetime64[ns], or as they are if they are dates of cftime.

    Raises
    ------
    DimensionError
        They are no dates.
    InputError
        The calendar is not known.
    """
    values = np.asarray(coordinate.values)
    if is_cftime(values):
        Calendar.of(values)
        return values
    if values.dtype.kind != "M" or np.isnat(values).any():
        kind = type(values.flat[0]).__name__ if values.dtype.kind == "O" else values.dtype
        raise DimensionError(
            f"init_time is of type {kind}, expected dates; its units should "
            "read like 'hours since 2000-01-01'."
        )
    return values.astype("datetime64[ns]")


def decode_lead_times(
    coordinate: xr.DataArray, units: str | None = None
) -> npt.NDArray[np.timedelta64]:
    """Give lead times as timedelta64[ns]; numbers by their units, never without.

    Parameters
    ----------
    coordinate : xr.DataArray
        Durations, or numbers with an attribute ``units`` such as ``"hours"``.
    units : str, optional
        Units that the user states.

    Raises
    ------
    DimensionError
        There are no units or unknown ones, or the lead times are absurd: negative, missing, not
        whole seconds, or longer than a hundred years, as numbers taken for nanoseconds are.

    Examples
    --------
    >>> hours = xr.DataArray([6, 12], dims="lead_time", attrs={"units": "hours"})
    >>> decode_lead_times(hours).astype("timedelta64[h]")
    array([ 6, 12], dtype='timedelta64[h]')
    """
    values = np.asarray(coordinate.values)
    if values.dtype.kind == "m":
        seconds = values.astype("timedelta64[ns]").astype(np.int64) / 1e9
        seconds = np.where(np.isnat(values), np.nan, seconds)
    elif values.dtype.kind in "iuf":
        stated = units or coordinate.attrs.get("units")
        if stated is None or str(stated) not in _SECONDS:
            has = "no units" if stated is None else f"units {stated!r}"
            raise DimensionError(
                f"lead_time is of type {values.dtype} and has {has}, expected units such as "
                "'hours'; pass them as units={'lead_time': 'hours'}."
            )
        seconds = values * _SECONDS[str(stated)]
    else:
        raise DimensionError(f"lead_time is of type {values.dtype}, expected durations.")
    whole = np.round(seconds)
    lost = 2e-7 if values.dtype.kind == "f" else 1e-12  # by hours in float32, by exact numbers
    sound = (np.abs(seconds - whole) <= lost * np.abs(seconds)) & (whole >= 0)
    sound &= whole <= _LONGEST_YEARS * _YEAR
    if not sound.all():
        first = seconds[~sound].flat[0]
        raise DimensionError(
            f"lead_time holds {first:g} s, expected whole seconds from 0 to {_LONGEST_YEARS} "
            "years; numbers were probably decoded with wrong units or without any, so open the "
            "file itself, or state them as units={'lead_time': 'hours'}."
        )
    return (whole.astype(np.int64) * 10**9).astype("timedelta64[ns]")


def require_valid_times(ds: xr.Dataset) -> None:
    """Check that valid times, where they are given, are initial times plus lead times.

    Parameters
    ----------
    ds : xr.Dataset
        With decoded ``init_time`` and ``lead_time``, scalars or vectors.

    Raises
    ------
    DimensionError
        The valid times are no dates, or have other dimensions.
    InputError
        They say otherwise, so that the initial times are probably not what they seem.
    """
    if "valid_time" not in ds.coords:
        return
    stated = ds["valid_time"]
    dated = stated.dtype.kind == "M" or is_cftime(stated.values)
    if not dated or not set(stated.dims) <= {"init_time", "lead_time"}:
        raise DimensionError(
            f"valid_time is of type {stated.dtype} with dimensions {stated.dims}, expected dates "
            "along init_time and lead_time; drop it if it is of no use."
        )
    init, lead = ds["init_time"].variable, ds["lead_time"].variable
    require_same_calendar(init.values, stated.values, ("the initial times", "the valid times"))
    if init.dtype == object:
        sums = init.copy(data=on_axis(init.values)) + lead.astype("timedelta64[s]")
        differs = sums != stated.variable.copy(data=on_axis(stated.values))
    else:
        sums = (init + lead).astype("datetime64[ns]")
        differs = sums != stated.variable.astype("datetime64[ns]")
    if differs.any():
        start, after, valid = (
            np.broadcast_to(v.set_dims(differs.sizes).values, differs.shape)[differs.values][0]
            for v in (init, lead, stated.variable)
        )
        raise InputError(
            f"valid_time is {written(valid, 's')} where init_time is {written(start, 's')} and "
            f"lead_time {after.astype('timedelta64[s]')}, expected their sum; if what is read as "
            "init_time are valid times, arrange the forecasts by initial time first."
        )
