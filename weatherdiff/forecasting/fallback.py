"""A forecast from an older initial state, where its own is not there: asked for, and labelled.

The members start where there is input, and run to the end of the forecast that is due; the frames
until its initial time are left out. Initial, lead and valid times are those of the forecast that is
due, so that whoever waits for it can read it as ever; its attributes say what it started from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import xarray as xr

__all__ = ["older_start", "with_later_start"]


def older_start(
    init: int, *, step: int, reach: int, available: Callable[[int], bool]
) -> int | None:
    """Find the newest earlier time, by whole steps, that a forecast can start from.

    Parameters
    ----------
    init : int
        The initial time whose input is not there, in seconds.
    step, reach : int
        Time from frame to frame, and how far to look back, in seconds.
    available : callable
        Whether the input of an initial time is there.

    Examples
    --------
    >>> older_start(30, step=6, reach=12, available=lambda time: time <= 20)
    18
    >>> older_start(30, step=6, reach=6, available=lambda time: time <= 20) is None
    True
    """
    times = range(init - step, init - reach - 1, -step)
    return next((time for time in times if available(time)), None)


def with_later_start(
    blocks: Iterable[xr.Dataset], init_time: np.datetime64, *, frames: int
) -> Iterator[xr.Dataset]:
    """Make blocks of a forecast blocks of one that begins later.

    Parameters
    ----------
    blocks : iterable of Dataset
        As :meth:`Forecaster.rollout` yields them.
    init_time : datetime64
        One of their valid times: frames that are not after it are left out.
    frames : int
        Of a block, but for the last one.

    Yields
    ------
    Dataset
        With the initial time and lead times counted from it.
    """
    kept: list[xr.Dataset] = []
    for block in blocks:
        later = block["valid_time"].values[0] > init_time
        kept.append(_from(block.isel(lead_time=later), init_time))
        whole = xr.concat(kept, "lead_time", data_vars="minimal", coords="minimal", compat="equals")
        while whole.sizes["lead_time"] >= frames:
            yield whole.isel(lead_time=slice(frames))
            whole = whole.isel(lead_time=slice(frames, None))
        kept = [whole]
    if kept and kept[0].sizes["lead_time"]:
        yield kept[0]


def _from(block: xr.Dataset, init_time: np.datetime64) -> xr.Dataset:
    """Count lead times from another initial time."""
    lead_times = (block["valid_time"].values[0] - init_time).astype("timedelta64[ns]")
    init = np.array([init_time], block["init_time"].dtype)
    return block.assign_coords(
        init_time=("init_time", init, block["init_time"].attrs),
        lead_time=("lead_time", lead_times, block["lead_time"].attrs),
    )
