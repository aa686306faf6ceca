"""Examine a data set that is not prepared, reading it once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.calendars import Calendar
from weatherdiff.data.channels import Channels
from weatherdiff.data.quality.examination import Examination, examine
from weatherdiff.data.quality.looks import Looker
from weatherdiff.data.quality.rules import range_of
from weatherdiff.data.sources.source import Source
from weatherdiff.grid import Grid

__all__ = ["looker_of", "survey", "without_infinite"]

Array = npt.NDArray[Any]

BLOCK_BYTES = 2**25  # of fields at once


def looker_of(ds: xr.Dataset, channels: Channels, grid: Grid) -> Looker:
    """Give what looks at the frames of a canonical data set."""
    ranges = tuple(range_of(v, ds[v].attrs) for v in channels.variables)
    heights = grid.area_weights().to_numpy().mean(axis=1).astype(np.float32)
    return Looker(ranges, heights, grid.shape[1])


def without_infinite(fields: Array) -> Array:
    """Make infinite values missing, in place.

    Parameters
    ----------
    fields : (time, channel, latitude, longitude)

    Returns
    -------
    (time, channel)
        Which fraction was infinite.
    """
    fraction = np.zeros(fields.shape[:2])
    for t in np.flatnonzero(~np.isfinite(fields.sum(axis=(1, 2, 3), dtype=np.float64))):
        infinite = np.isinf(fields[t])
        fraction[t] = infinite.mean(axis=(1, 2))
        fields[t][infinite] = np.nan
    return fraction


def survey(ds: xr.Dataset) -> Examination:
    """Examine a canonical data set; all of its fields are read once, a few at a time.

    Parameters
    ----------
    ds : xr.Dataset
        As :func:`weatherdiff.open_fields` gives it.

    Examples
    --------
    >>> from weatherdiff import open_fields
    >>> ds = open_fields("sample:uk-2018", variables=["2m_temperature"]).isel(time=slice(0, 48))
    >>> survey(ds).findings
    []
    >>> ds["2m_temperature"] = ds["2m_temperature"].where(ds.time != ds.time[30], -999)
    >>> print(survey(ds).findings[0])
    2m_temperature at 2018-06-02T06:00Z: 100.0% of its values are in other units (mean -999 K)
    """
    channels, grid = Channels.from_dataset(ds), Grid.from_dataset(ds)
    calendar = Calendar.of(ds["time"])
    looker = looker_of(ds, channels, grid)
    times = calendar.seconds(ds["time"].values)
    source = Source(ds, channels)
    size = max(1, BLOCK_BYTES // (4 * len(channels) * grid.shape[0] * grid.shape[1]))
    looks = np.empty((len(times), len(channels), looker.size), np.float32)
    for start in range(0, len(times), size):
        block = source.read(start, min(start + size, len(times)))
        infinite = without_infinite(block)
        looks[start : start + len(block)] = looker.look(block, infinite)
    return examine(
        lambda start, stop: looks[start:stop],
        times,
        channels,
        looker,
        name_time=calendar.iso,
    )
