"""The history that a forecast starts from: read, checked, normalised."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff import schema
from weatherdiff.data.calendars import STANDARD, Calendar
from weatherdiff.data.channels import Channels
from weatherdiff.data.normalization import Normalizer
from weatherdiff.data.soundness import require_sound
from weatherdiff.data.sources.formats import load
from weatherdiff.data.windows import WindowSpec
from weatherdiff.errors import InputError, MissingInputError, UnitsError
from weatherdiff.grid import Grid

__all__ = ["history_places", "read_history"]


def history_places(
    ds: xr.Dataset, init: int, spec: WindowSpec, calendar: str = STANDARD
) -> slice | npt.NDArray[np.intp]:
    """Find the frames that a forecast starts from, on the time axis of the data.

    Raises
    ------
    InputError
        The data have no times, or those of another calendar than the model's.
    MissingInputError
        A frame is not in the data.
    """
    own = Calendar(calendar)
    name = "standard" if own.standard else own.name
    if "time" not in ds.coords:
        raise InputError(f"The data have no {name} time coordinate; use open_fields.")
    if Calendar.of(ds["time"]) != own:
        raise InputError(
            f"The data have no {name} time coordinate but one of the calendar "
            f"{Calendar.of(ds['time']).name}; give analyses in the calendar the model was trained "
            "in."
        )
    times = own.seconds(ds["time"].values)
    wanted = init + spec.offsets[: spec.history]
    where = np.searchsorted(times, wanted).clip(max=len(times) - 1)
    absent = wanted[times[where] != wanted]
    if len(absent):
        first, last = (own.iso(t).removesuffix("Z") for t in times[[0, -1]])
        raise MissingInputError(
            f"A forecast from {own.iso(init)} needs the frame of {own.iso(absent[0])}, which is "
            f"not in the data ({first} to {last}, {len(times)} times)."
        )
    # A slice reaches through dask to the file; for a list of positions all of a chunk is read.
    steps = np.unique(np.diff(where))
    if len(steps) > 1:
        return where
    return slice(where[0], where[-1] + 1, steps[0] if len(steps) else None)


def read_history(
    ds: xr.Dataset,
    init: int,
    *,
    channels: Channels,
    grid: Grid,
    normalizer: Normalizer,
    spec: WindowSpec,
    mask: npt.NDArray[np.bool_],
    fill: bool,
) -> npt.NDArray[np.float32]:
    """Read and check the history of one initial time.

    Parameters
    ----------
    ds : Dataset
        Canonical analysis.
    init : int
        Seconds since 1970-01-01 UTC.
    channels, grid, normalizer, spec, mask, fill
        Of the model, as for :class:`weatherdiff.Forecaster`.

    Returns
    -------
    (history, channel, latitude, longitude)
        Normalised; NaN where the model has no data.

    Raises
    ------
    MissingInputError
        A frame is not in the data.
    InputError
        Missing or impossible values, another grid, other units, an absent variable.
    """
    grid.require_same(Grid.from_dataset(ds))
    wanted = init + spec.offsets[: spec.history]
    own = Calendar(normalizer.period.calendar)
    places = history_places(ds, init, spec, own.name)
    frames = load(ds[_present(ds, channels)].isel(time=places))
    schema.validate(frames)
    _require_units(frames, channels)
    fields = np.where(mask, channels.stack(frames).to_numpy(), np.nan)
    missing = ~np.isfinite(fields) & mask
    if missing.any() and not (fill and not np.isinf(fields).any()):
        t, c = np.argwhere(missing.any(axis=(2, 3)))[0]
        infinite = ", some of them infinite" if np.isinf(fields[t, c]).any() else ""
        raise InputError(
            f"The initial state has missing values: {channels.labels[c]} at "
            f"{own.iso(wanted[t])} in {missing[t, c].sum()} of {mask[c].sum()} cells "
            f"({missing[t, c].sum() / mask[c].sum():.1%}){infinite}. "
            'Complete the data, or prepare and train with fill: "climatology".'
        )
    state = normalizer.state(fields, wanted)
    # where values may be missing has been seen to: the model knows the sea
    require_sound(frames, missing=frames.isnull().any("time"))
    return state


def _present(ds: xr.Dataset, channels: Channels) -> list[str]:
    absent = [name for name in channels.variables if name not in ds]
    if absent:
        raise InputError(
            f"The model needs {', '.join(dict.fromkeys(absent))}; the data have "
            f"{', '.join(map(str, ds.data_vars))}."
        )
    return list(dict.fromkeys(channels.variables))


def _require_units(frames: xr.Dataset, channels: Channels) -> None:
    """Refuse units other than the model's, which the schema knows of common variables alone."""
    for name, values in frames.data_vars.items():
        known = channels.attributes[str(name)]["units"]
        if values.attrs["units"] != known:
            raise UnitsError(
                f"{name} is in {values.attrs['units']!r}, the model was trained in {known!r}; "
                "convert it."
            )
