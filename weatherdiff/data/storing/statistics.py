"""Statistics of any period of a field store, from the moments kept in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
import zarr

from weatherdiff.data.store import FieldStore
from weatherdiff.data.storing.inventory import require_moments
from weatherdiff.data.storing.moments import NOTHING, Moments
from weatherdiff.data.storing.tasks import CHANGES, FRAMES
from weatherdiff.data.windows import Period
from weatherdiff.errors import InputError

__all__ = ["field_statistics"]


def field_statistics(store: FieldStore, start: str, stop: str) -> xr.Dataset:
    """Exact statistics of a period, without reading a frame.

    They are over all cells that have data, each counted once whatever its area, of frames in the
    period; a change counts where both its frames are. Accumulated in float64.

    Parameters
    ----------
    store : FieldStore
    start, stop : str
        ISO dates, both included.

    Returns
    -------
    Dataset
        ``count``, ``mean``, ``std``, ``minimum`` and ``maximum`` (channel,), and the same of the
        changes over each lead, ``change_count`` to ``change_maximum`` (lead_time, channel), in the
        units of the channels.

    Raises
    ------
    InputError
        The store is of the first version, which has no moments; they are damaged; or the period
        has no data.
    """
    if store.metadata["version"] < 2:
        raise InputError(
            f"{store.path} was written by an older version, without moments; prepare it again with "
            "--overwrite."
        )
    if store.metadata["version"] > 2:
        require_moments(store.path)
    group = zarr.open_group(store.path, mode="r", use_consolidated=False)
    period = Period.parse(start, stop, store.calendar)
    inside = np.flatnonzero(period.contains(store.times))
    if not len(inside):
        raise InputError(f"{store.path} has no frame in the period {period}.")
    rows = slice(inside[0], inside[-1] + 1)  # times ascend
    leads = np.asarray(group["moments/lead"][...])  # type: ignore[index]
    try:
        changes = np.asarray(group[CHANGES][rows])  # type: ignore[index]
        moments = np.asarray(group[FRAMES][rows])  # type: ignore[index]
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"The moments of {store.path} are damaged ({error}); weatherdiff verify names the file."
        ) from error
    before = store.times[rows, None] - leads < period.start
    changes[before] = NOTHING
    frames = Moments.merge(moments)
    names = ("count", "mean", "std", "minimum", "maximum")
    variables: dict[str, Any] = {n: ("channel", getattr(frames, n)) for n in names}
    merged = Moments.merge(changes)
    variables |= {f"change_{n}": (("lead_time", "channel"), getattr(merged, n)) for n in names}
    return xr.Dataset(
        variables,
        {
            "channel": list(store.channels.labels),
            "units": ("channel", list(store.channels.units)),
            "lead_time": leads.astype("timedelta64[s]").astype("timedelta64[ns]"),
        },
    )
