"""Which forecasts and places to show, chosen by rules that do not look for good pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.calendars import after, on_axis
from weatherdiff.errors import InputError
from weatherdiff.plotting.appearance import title_of
from weatherdiff.plotting.selection import channel, evenly_spaced, single_init

__all__ = ["Case", "choose_case", "choose_points", "spectrum_inits"]

# Spectra of one case are noisy; more than this many cost reading time and show no more.
_SPECTRUM_CASES = 8


@dataclass(frozen=True)
class Case:
    """An initial time to show and the reason why it was chosen."""

    init_time: Any
    reason: str


def choose_case(scores: xr.Dataset, forecasts: xr.Dataset) -> Case:
    """Choose the forecast of median quality.

    The CRPS of each variable and lead is divided by its mean over the forecasts, and averaged over
    variables and leads; the forecast in the middle of that order is typical, neither a success
    nor a failure. Where the scores keep no sums for single forecasts, or none is complete, the
    forecast in the middle of the period is taken.

    Raises
    ------
    InputError
        There are no forecasts.
    """
    inits = np.sort(forecasts["init_time"].values)
    if not inits.size:
        raise InputError("there are no forecasts to report on.")
    quality = _relative_crps(scores)
    if quality is not None:
        known = np.isin(on_axis(quality["init_time"].values), on_axis(inits))
        quality = quality[known].dropna("init_time")
    if quality is None or not quality.size:
        return Case(inits[(inits.size - 1) // 2], f"the middle one of {inits.size}")
    order = np.argsort(quality.values, kind="stable")
    median = quality["init_time"].values[order[(order.size - 1) // 2]]
    reason = f"the one of median CRPS among {order.size}, over all variables and leads"
    return Case(median, reason)


def _relative_crps(scores: xr.Dataset) -> xr.DataArray | None:
    """CRPS of each forecast relative to the mean forecast, (init_time,); NaN if incomplete."""
    if {"sum_over", "sum_under", "sum_dispersion", "sum_weight"} <= set(scores):
        total = scores["sum_over"] + scores["sum_under"] - scores["sum_dispersion"]  # fair
    elif {"sum_crps", "sum_weight"} <= set(scores):
        total = scores["sum_crps"]
    else:
        return None
    weight = scores["sum_weight"]
    crps = total / weight.where(weight > 0)
    if "region" in crps.dims:
        crps = crps.isel(region=0)
    mean = crps.mean("init_time")
    # Sunshine at night has CRPS 0 in every forecast and says nothing.
    relative = (crps / mean.where(mean > 0)).where(mean > 0, 0.0)
    return relative.mean(("variable", "lead_time"), skipna=False)


def choose_points(case: xr.Dataset, labels: list[str]) -> dict[str, tuple[float, float]]:
    """Choose the middle of the area and the forecast's extremes.

    Extremes are those of the ensemble mean averaged over the leads, of the first temperature among
    the channels or else of the first channel: known before the outcome, so that the observation
    plays no part in the choice.

    Parameters
    ----------
    case : (lead_time, number[, level], latitude, longitude)
        Forecast from one init time.
    labels : list of str
        Channel labels.

    Returns
    -------
    dict
        Latitude and longitude by description, two or three of them.

    Raises
    ------
    InputError
        The forecast is missing everywhere.
    """
    label = next((label for label in labels if "temperature" in label), labels[0])
    field = single_init(channel(case, label)).mean(("lead_time", "number"), skipna=False)
    values = field.values
    if not np.isfinite(values).any():
        raise InputError(f"the forecast of {label} is missing everywhere.")
    latitude, longitude = field["latitude"].values, field["longitude"].values
    # Squared distance on a plane true to scale at the middle latitude.
    north = latitude - (latitude[0] + latitude[-1]) / 2
    east = (longitude - (longitude[0] + longitude[-1]) / 2) * np.cos(np.deg2rad(latitude.mean()))
    distance = np.where(np.isfinite(values), north[:, None] ** 2 + east**2, np.inf)
    name = title_of(label)
    high, low = ("warmest", "coldest") if "temperature" in label else ("highest", "lowest")
    chosen = {
        "cell nearest to the middle of the area": distance.argmin(),
        f"cell with the {high} forecast of {name}": np.nanargmax(values),
        f"cell with the {low} forecast of {name}": np.nanargmin(values),
    }
    points: dict[str, tuple[float, float]] = {}
    for reason, position in chosen.items():
        row, column = np.unravel_index(position, values.shape)
        point = float(latitude[row]), float(longitude[column])
        if point not in points.values():
            points[reason] = point
    return points


def spectrum_inits(forecasts: xr.Dataset, observations: xr.Dataset) -> npt.NDArray[Any]:
    """Take a few evenly spaced initial times whose valid times are all observed."""
    inits = np.sort(forecasts["init_time"].values)
    valid = after(inits[:, None], forecasts["lead_time"].values)
    observed = np.isin(on_axis(valid), on_axis(observations["time"].values))
    complete = inits[observed.all(axis=1)]
    return complete[evenly_spaced(complete.size, _SPECTRUM_CASES)]
