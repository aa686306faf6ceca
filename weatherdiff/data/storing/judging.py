"""What the moments of all frames say: which frames are whole, and how channels are transformed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff import schema
from weatherdiff.data.calendars import Calendar
from weatherdiff.data.channels import Channels
from weatherdiff.data.storing.moments import Moments
from weatherdiff.data.storing.plan import analysis_times
from weatherdiff.data.storing.transforms import BoundedTransform
from weatherdiff.data.windows import Period
from weatherdiff.errors import InputError

__all__ = ["Fill", "judge", "refuse_infinite", "require_bounds"]

logger = logging.getLogger(__name__)

Fill = Literal["climatology"]

NEAR = 3.0  # standard deviations within which a bound matters
BEND = 1.0  # scale of a transform in standard deviations


def judge(
    ds: xr.Dataset,
    frames: npt.NDArray[np.float64],
    mask: npt.NDArray[np.bool_],
    period: Period,
    fill: Fill | None,
) -> tuple[npt.NDArray[np.bool_], tuple[BoundedTransform, ...]]:
    """Find the frames without missing data and the transforms, from moments; report gaps.

    Parameters
    ----------
    ds : Dataset
        Canonical.
    frames : (time, channel, statistic)
        Moments of all frames.
    mask : (channel, latitude, longitude)
        Where there ever are data.
    period : Period
        Of training.
    fill : {"climatology"}, optional
        What missing values become; for the report.

    Returns
    -------
    whole : (time,)
    transforms : tuple of BoundedTransform
        One per channel.

    Raises
    ------
    InputError
        A channel has no data, does not change in the training period, or is out of bounds.
    """
    channels, times = Channels.from_dataset(ds), analysis_times(ds)
    _require_data(channels, mask)
    gaps = _gaps(frames, mask)
    _report_gaps(gaps, channels, fill)
    transforms = _transforms(ds, channels, frames[period.contains(times)])
    require_bounds(channels, transforms, frames)
    return np.asarray(~gaps.any(axis=1)), transforms


def refuse_infinite(
    block: npt.NDArray[np.float32],
    *,
    start: int,
    times: npt.NDArray[np.int64],
    calendar: str,
    labels: Sequence[str],
    advice: str,
) -> None:
    """Refuse infinite values, and say where the first of them are.

    Parameters
    ----------
    block : (time, channel, latitude, longitude)
    start : int
        Position of its first frame in ``times``.
    times : (time,)
        Of all frames, in seconds.
    calendar : str
        Of the times.
    labels : sequence of str
        Of the channels.
    advice : str
        What to do.

    Raises
    ------
    InputError
    """
    infinite = np.isinf(block)
    if infinite.any():
        time, channel = np.argwhere(infinite)[0][:2]
        raise InputError(
            f"{labels[channel]} has infinite values, first at time index {start + time}, "
            f"{Calendar(calendar).iso(times[start + time])}, in "
            f"{infinite[time, channel].mean():.1%} of the field; {advice}."
        )


def require_bounds(
    channels: Channels,
    transforms: Sequence[BoundedTransform],
    frames: npt.NDArray[np.float64],
) -> None:
    """Refuse values out of bounds at any time, and say of which channel they are.

    Parameters
    ----------
    channels : Channels
    transforms : sequence of BoundedTransform
        One per channel.
    frames : (time, channel, statistic)
        Moments.

    Raises
    ------
    InputError
    """
    whole = Moments.merge(frames)
    for c, transform in enumerate(transforms):
        try:
            transform.forward(np.array([whole.minimum[c], whole.maximum[c]]))
        except InputError as error:
            raise InputError(f"{channels.labels[c]}: {error}") from error


def _gaps(frames: npt.NDArray[np.float64], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(time, channel): frames in which cells are missing that have data at other times."""
    return frames[:, :, 0] < mask.sum(axis=(1, 2))


def _require_data(channels: Channels, mask: npt.NDArray[np.bool_]) -> None:
    if not mask.any(axis=(1, 2)).all():
        empty = channels.labels[int(np.argmin(mask.any(axis=(1, 2))))]
        raise InputError(f"{empty} has no data at all; leave it out.")


def _report_gaps(gaps: npt.NDArray[np.bool_], channels: Channels, fill: Fill | None) -> None:
    for label, count in zip(channels.labels, gaps.sum(axis=0), strict=True):
        if count:
            fate = f"filled with the {fill}" if fill else "left out of all windows"
            logger.warning(
                "%s: %d of %d frames have missing data; %s.", label, count, len(gaps), fate
            )


def _transforms(
    ds: xr.Dataset, channels: Channels, training: npt.NDArray[np.float64]
) -> tuple[BoundedTransform, ...]:
    """Give the transforms of the channels, from moments of the training period's frames."""
    moments = Moments.merge(training)
    if not moments.count.all():
        empty = ", ".join(np.array(channels.labels)[moments.count == 0].tolist())
        raise InputError(
            f"The training period holds no data of {empty}; choose a period in which there are "
            "data, or leave it out."
        )
    constant = moments.minimum == moments.maximum
    if constant.any():
        raise InputError(
            f"{channels.labels[int(np.argmax(constant))]} is constant in the training period; "
            "leave it out."
        )
    numbers = zip(channels.variables, moments.std, moments.minimum, moments.maximum, strict=True)
    return tuple(_transform(ds[v], float(s), float(a), float(b)) for v, s, a, b in numbers)


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
