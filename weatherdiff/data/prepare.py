"""Canonical Dataset -> FieldStore, out of core, published only when whole."""

from __future__ import annotations

import datetime
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from weatherdiff import schema
from weatherdiff.data.channels import Channels
from weatherdiff.data.formats import load
from weatherdiff.data.normalization import fit_normalizer
from weatherdiff.data.store import FieldStore, create_store, finish_store, read_frames
from weatherdiff.data.transforms import BoundedTransform
from weatherdiff.data.windows import Int, Period, WindowSpec, seconds
from weatherdiff.errors import ConfigError, InputError
from weatherdiff.grid import Grid
from weatherdiff.staging import staged

__all__ = ["prepare"]

logger = logging.getLogger(__name__)

Fill = Literal["climatology"]
Progress = Callable[[int, int], None]

BLOCK_BYTES = 32 * 2**20  # of fields in memory at once, and of one shard
NEAR = 3.0  # standard deviations within which a bound matters
BEND = 1.0  # scale of a transform in standard deviations


def prepare(
    ds: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    training_period: tuple[str, str],
    step: str,
    frames: int,
    fill: Fill | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> FieldStore:
    """Write a canonical Dataset to a field store, with statistics of the training period.

    The data are read once, a block of times after the other. Cells that never have data (the sea,
    for a land data set) become the mask. A frame in which other data are missing is marked: no
    window will contain it, unless it is to be filled.

    Parameters
    ----------
    ds : Dataset
        As :func:`weatherdiff.open_fields` gives it. Variables without time become static fields.
    path : path
        Of the store to write.
    training_period : (start, stop)
        ISO dates, both included. Statistics come from these times alone.
    step : str
        Time from frame to frame of the forecasts to come, e.g. ``"3h"``.
    frames : int
        Number of frames of one forecast block: the leads of the tendency statistics.
    fill : {"climatology"}, optional
        Treat missing values as the climatology of their cell and time instead of leaving the
        frame out. They never count in the loss.
    overwrite : bool
        Replace a store that is there.
    progress : callable, optional
        Called with (frames written, frames in all).

    Returns
    -------
    FieldStore

    Raises
    ------
    InputError
        The data are not canonical, hold values out of bounds, or too few frames are whole.
    ConfigError
        A period or step that cannot be read, or that the data cannot serve.
    StorageError
        The store exists already, or the disk is full. Nothing is left behind.

    Examples
    --------
    >>> import tempfile
    >>> from weatherdiff.data.samples import open_sample
    >>> from weatherdiff import open_fields
    >>> ds = open_fields("sample:uk-2018", variables=["2m_temperature"]).isel(time=slice(0, 240))
    >>> store = prepare(ds, tempfile.mkdtemp() + "/fields.zarr", step="6h", frames=2,
    ...                 training_period=("2018-06-01", "2018-06-07"))
    >>> store.shape, int(store.mask.sum())
    ((240, 1, 22, 28), 275)
    """
    path = Path(path)
    schema.validate(ds)
    channels = Channels.from_dataset(ds)
    times = _times(ds)
    period = Period.parse(*training_period)
    spec = WindowSpec(history=1, frames=frames, step=parse_step(step))
    _check_step(times, spec.step)
    grid = Grid.from_dataset(ds)
    stacked = channels.stack(ds)
    shape = (len(times), len(channels), *grid.shape)
    shard = int(np.clip(BLOCK_BYTES // (4 * np.prod(shape[1:])), 1, len(times)))

    with staged(path, overwrite=overwrite) as temporary:
        group, array = create_store(
            temporary, channels=channels, grid=grid, times=times, shard=shard
        )
        moments = _Moments(channels.labels, shape, period.contains(times))
        for start in range(0, len(times), shard):
            stop = min(start + shard, len(times))
            block = load(stacked.isel(time=slice(start, stop))).to_numpy()
            array[start:stop] = block
            moments.add(block, start)
            if progress is not None:
                progress(stop, len(times))
        mask, gaps = moments.mask, moments.gaps
        whole = np.asarray(~gaps.any(axis=1))
        if not mask.any(axis=(1, 2)).all():
            empty = channels.labels[int(np.argmin(mask.any(axis=(1, 2))))]
            raise InputError(f"{empty} has no data at all; leave it out.")
        _report_gaps(gaps, channels, fill)
        transforms = tuple(
            _transform(ds[variable], *moments.of(c))
            for c, variable in enumerate(channels.variables)
        )
        moments.require_bounds(transforms)
        normalizer = fit_normalizer(
            lambda indices: read_frames(array, indices, path),
            times,
            whole,
            transforms=transforms,
            weights=grid.area_weights().to_numpy() * mask,
            spec=spec,
            period=period,
            block=shard,
        )
        names, static = _static(ds)
        finish_store(
            group,
            valid=np.ones(len(times), bool) if fill else whole,
            mask=mask,
            static=static,
            normalizer=normalizer,
            metadata={
                "channels": channels.to_dict(),
                "static": names,
                "fill": fill,
                "frames_with_gaps": int((~whole).sum()),
                "source": {k: _plain(v) for k, v in ds.attrs.items()},
                "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            },
        )
    return FieldStore.open(path)


def parse_step(step: str) -> int:
    """Read a time step such as "3h", "30min" or "1D"; seconds.

    Raises
    ------
    ConfigError
        Not a positive whole number of seconds.

    Examples
    --------
    >>> parse_step("3h")
    10800
    """
    try:
        delta = pd.Timedelta(step)
    except ValueError:
        delta = pd.NaT
    if delta is pd.NaT or delta <= pd.Timedelta(0) or delta % pd.Timedelta("1s"):
        raise ConfigError(f'Not a time step: {step!r}; write for example "3h", "30min" or "1D".')
    return int(delta.total_seconds())


class _Moments:
    """What the writing pass learns: where data are, and count, mean, std, min and max.

    Moments are those of the training period; ``ends`` are minimum and maximum of all times.
    """

    def __init__(
        self,
        labels: tuple[str, ...],
        shape: tuple[int, int, int, int],
        training: npt.NDArray[np.bool_],
    ) -> None:
        self.labels = labels
        channels = shape[1]
        self.mask = np.zeros(shape[1:], bool)
        self.missing = np.zeros((shape[0], channels), np.int64)
        self.training = training
        self.count, self.mean, self.square = (np.zeros(channels) for _ in range(3))
        self.low, self.high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self.ends = np.stack([self.low, self.high])

    def add(self, block: npt.NDArray[np.float32], start: int) -> None:
        if np.isinf(block).any():
            time, channel = np.argwhere(np.isinf(block))[0][:2]
            raise InputError(
                f"{self.labels[channel]} has infinite values, first at time index {start + time}; "
                "mask or correct them."
            )
        finite = np.isfinite(block)
        self.mask |= finite.any(axis=0)
        stop = start + len(block)
        self.missing[start:stop] = (~finite).sum(axis=(2, 3))
        for end, extreme in zip(self.ends, (np.fmin, np.fmax), strict=True):
            extreme(end, extreme.reduce(block, axis=(0, 2, 3)), out=end)
        inside = self.training[start:stop]
        for c in range(block.shape[1]):
            values = block[inside, c][finite[inside, c]].astype(np.float64)
            if len(values):
                # merging of moments: Chan, Golub & LeVeque (1983), doi:10.2307/2683386
                n, mean = len(values), values.mean()
                total, delta = self.count[c] + n, mean - self.mean[c]
                self.square[c] += values.var() * n + delta**2 * self.count[c] * n / total
                self.mean[c] += delta * n / total
                self.count[c] = total
                self.low[c] = min(self.low[c], values.min())
                self.high[c] = max(self.high[c], values.max())

    @property
    def gaps(self) -> npt.NDArray[np.bool_]:
        """(time, channel): frames in which cells are missing that have data at other times."""
        return self.missing > (~self.mask).sum(axis=(1, 2))

    def of(self, channel: int) -> tuple[float, float, float]:
        """Std, min and max of a channel in the training period."""
        if not self.count[channel]:
            raise InputError("The training period holds no data; is it inside the data's span?")
        low, high = float(self.low[channel]), float(self.high[channel])
        if low == high:
            raise InputError(
                f"{self.labels[channel]} is constant in the training period; leave it out."
            )
        return float(np.sqrt(self.square[channel] / self.count[channel])), low, high

    def require_bounds(self, transforms: tuple[BoundedTransform, ...]) -> None:
        """Refuse values out of bounds at any time, and say of which channel they are."""
        for c, transform in enumerate(transforms):
            try:
                transform.forward(self.ends[:, c])
            except InputError as error:
                raise InputError(f"{self.labels[c]}: {error}") from error


def _transform(variable: xr.DataArray, std: float, low: float, high: float) -> BoundedTransform:
    """Bound a variable where its data come near a natural bound.

    The bounds are those of the schema, or the data's own CF ``valid_min`` and ``valid_max``.
    Sea-level pressure cannot be negative either, but no forecast comes near it: identity.
    """
    known = schema.VARIABLES.get(str(variable.name))
    lower = variable.attrs.get("valid_min", known.lower if known else None)
    upper = variable.attrs.get("valid_max", known.upper if known else None)
    if lower is not None and low - float(lower) > NEAR * std:
        lower = None
    if upper is not None and float(upper) - high > NEAR * std:
        upper = None
    scale = std if lower is not None and upper is not None else BEND * std
    return BoundedTransform(
        None if lower is None else float(lower), None if upper is None else float(upper), scale
    )


def _times(ds: xr.Dataset) -> Int:
    if ds["time"].dtype.kind != "M":
        calendar = ds["time"].dt.calendar
        raise InputError(
            f"The data have the calendar {calendar!r}; prepare needs the standard one. Convert "
            'them with ds.convert_calendar("standard", use_cftime=False, align_on="date").'
        )
    return seconds(ds["time"].values)


def _check_step(times: Int, step: int) -> None:
    if len(times) < 2:
        raise InputError(f"The data have {len(times)} times; a forecast needs more.")
    own = int(np.median(np.diff(times)))
    if step % own:
        raise ConfigError(
            f"The time step {step / 3600:g} h is not a multiple of the data's own step "
            f"{own / 3600:g} h."
        )


def _static(ds: xr.Dataset) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Standardise the user's static fields over the grid; missing values become the mean."""
    names = [str(n) for n in ds.data_vars if ds[n].dims == ("latitude", "longitude")]
    fields = []
    for name in names:
        values = ds[name].to_numpy().astype(np.float64)
        spread = np.nanstd(values)
        standard = (values - np.nanmean(values)) / (spread if spread > 0 else 1)
        fields.append(np.where(np.isnan(standard), 0, standard))
    shape = (len(names), ds.sizes["latitude"], ds.sizes["longitude"])
    return names, np.array(fields, np.float32).reshape(shape)


def _report_gaps(gaps: npt.NDArray[np.bool_], channels: Channels, fill: Fill | None) -> None:
    for label, count in zip(channels.labels, gaps.sum(axis=0), strict=True):
        if count:
            fate = f"filled with the {fill}" if fill else "left out of all windows"
            logger.warning(
                "%s: %d of %d frames have missing data; %s.", label, count, len(gaps), fate
            )


def _plain(value: Any) -> Any:
    """Turn an attribute into a JSON type."""
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
