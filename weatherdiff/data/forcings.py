"""What is known ahead: the clock, the season, the sun, and where on Earth one is.

All are dimensionless and of order one, so they need no statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from weatherdiff.data.calendars import DAY, STANDARD, Calendar
from weatherdiff.data.windows import Int
from weatherdiff.errors import ConfigError
from weatherdiff.grid import Grid

__all__ = ["FORCINGS", "STATIC", "forcing_fields", "static_fields"]

Array = npt.NDArray[np.float32]

Forcing = Callable[[Int, Grid, Calendar], list[npt.NDArray[np.float64]]]


def _time_of_day(times: Int, grid: Grid, _: Calendar) -> list[npt.NDArray[np.float64]]:
    """Cosine and sine of local mean solar time."""
    angle, shape = _hour_angle(times, grid), (len(times), *grid.shape)
    return [np.broadcast_to(wave(angle), shape) for wave in (np.cos, np.sin)]


def _time_of_year(times: Int, grid: Grid, calendar: Calendar) -> list[npt.NDArray[np.float64]]:
    """Cosine and sine of the fraction of the year."""
    angle, shape = _year_angle(times, calendar)[:, None, None], (len(times), *grid.shape)
    return [np.broadcast_to(wave(angle), shape) for wave in (np.cos, np.sin)]


def _toa_solar_radiation(
    times: Int, grid: Grid, calendar: Calendar
) -> list[npt.NDArray[np.float64]]:
    """Solar radiation at the top of the atmosphere as a fraction of the solar constant.

    Declination and distance by the Fourier series of Spencer (1971), as given in Iqbal (1983),
    An introduction to solar radiation, equations 1.2.1 and 1.3.1; good to 0.0006 rad. The
    equation of time (16 minutes at most) is left out: it is the clock's, not the sun's, and a
    network sees the difference as a slow drift.
    """
    g = _year_angle(times, calendar)
    declination = (
        0.006918
        - 0.399912 * np.cos(g)
        + 0.070257 * np.sin(g)
        - 0.006758 * np.cos(2 * g)
        + 0.000907 * np.sin(2 * g)
        - 0.002697 * np.cos(3 * g)
        + 0.00148 * np.sin(3 * g)
    )[:, None, None]
    distance = (
        1.00011
        + 0.034221 * np.cos(g)
        + 0.00128 * np.sin(g)
        + 0.000719 * np.cos(2 * g)
        + 0.000077 * np.sin(2 * g)
    )[:, None, None]
    latitude = np.deg2rad(grid.latitude)[:, None]
    # local mean solar time is 0 at midnight, the hour angle is 0 at noon
    height = -(np.cos(latitude) * np.cos(declination)) * np.cos(_hour_angle(times, grid))
    height += np.sin(latitude) * np.sin(declination)
    np.maximum(height, 0, out=height)
    return [np.multiply(distance, height, out=height)]


FORCINGS: dict[str, tuple[int, Forcing]] = {
    "time_of_day": (2, _time_of_day),
    "time_of_year": (2, _time_of_year),
    "toa_solar_radiation": (1, _toa_solar_radiation),
}
"""Name -> number of fields, and the function of (seconds, grid, calendar) that gives them."""

STATIC = ("latitude", "longitude", "mask")
"""Static fields that need no data: position, and which cells have data."""


def forcing_fields(names: Sequence[str], times: Int, grid: Grid, calendar: str = STANDARD) -> Array:
    """Fields known ahead at given times.

    Parameters
    ----------
    names : sequence of str
        Of :data:`FORCINGS`.
    times : (time,)
        Seconds since 1970-01-01 UTC of the calendar.
    grid : Grid
    calendar : str
        Of the times. The sun's year and the seasons are taken to last a year of it, whatever its
        length: so do the models that are integrated in it.

    Returns
    -------
    (time, forcing, latitude, longitude)

    Raises
    ------
    ConfigError
        A name is unknown.
    """
    unknown = [name for name in names if name not in FORCINGS]
    if unknown:
        raise ConfigError(f"Unknown forcing {unknown[0]!r}; known are {', '.join(FORCINGS)}.")
    own = Calendar(calendar)
    fields = [field for name in names for field in FORCINGS[name][1](times, grid, own)]
    out = np.empty((len(times), len(fields), *grid.shape), np.float32)
    for number, field in enumerate(fields):
        out[:, number] = field
    return out


def static_fields(grid: Grid, mask: npt.NDArray[np.bool_]) -> Array:
    """Position on Earth, and which cells have data.

    A global grid has sine and cosine of longitude, so that there is no seam; a regional one has
    both coordinates from -1 to 1 across the domain.

    Parameters
    ----------
    grid : Grid
    mask : (channel, latitude, longitude)
        True where there are data.

    Returns
    -------
    (static, latitude, longitude)
        Four fields on a global grid, three on a regional one; the last is the fraction of
        channels with data.
    """
    latitude, longitude = np.meshgrid(grid.latitude, grid.longitude, indexing="ij")
    if grid.is_periodic:
        angle = np.deg2rad(longitude)
        fields = [np.sin(np.deg2rad(latitude)), np.cos(angle), np.sin(angle)]
    else:
        fields = [_spread(latitude), _spread(longitude)]
    return np.stack([*fields, mask.mean(axis=0)]).astype(np.float32)


def _spread(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 2 * (x - x.min()) / np.ptp(x) - 1


def _hour_angle(times: Int, grid: Grid) -> npt.NDArray[np.float64]:
    """Local mean solar time as an angle, 0 at midnight; (time, 1, longitude)."""
    utc = 2 * np.pi * (times % DAY) / DAY
    return np.asarray(utc[:, None, None] + np.deg2rad(grid.longitude))


def _year_angle(times: Int, calendar: Calendar) -> npt.NDArray[np.float64]:
    """Time since the start of the calendar year as an angle."""
    return np.asarray(2 * np.pi * calendar.since_new_year(times) / calendar.year, np.float64)
