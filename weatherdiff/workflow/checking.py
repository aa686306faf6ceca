"""What a run would do, without doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from weatherdiff.config import Config
from weatherdiff.data.windows import find_windows, seconds
from weatherdiff.errors import MissingInputError
from weatherdiff.workflow.fields import (
    init_times_of,
    open_source,
    store_settings,
    window_spec,
)
from weatherdiff.workflow.training import objective_of

if TYPE_CHECKING:
    from weatherdiff.data.store import FieldStore

__all__ = ["check", "quality_lines"]

LOOKED_AT = 2**29  # bytes of fields that are read to check them


def check(config: Config) -> str:
    """Open the data and say what the run would do; train nothing, write nothing."""
    from weatherdiff.data.channels import Channels
    from weatherdiff.data.forcings import forcing_fields
    from weatherdiff.data.prepare import make_plan
    from weatherdiff.grid import Grid
    from weatherdiff.models import VideoDenoiser

    ds = open_source(config)
    plan = make_plan(ds, **store_settings(config))
    channels, grid = Channels.from_dataset(ds), Grid.from_dataset(ds)
    objective_of(config, grid)
    times, calendar = seconds(ds["time"].values), plan.calendar
    spec = window_spec(config)
    static = [n for n in ds.data_vars if "time" not in ds[n].dims]
    forcings = forcing_fields(config.forcings, times[:1], grid).shape[1]
    network = VideoDenoiser(
        frames=spec.frames,
        channels=len(channels),
        history=spec.history,
        forcings=forcings,
        static=(4 if grid.is_periodic else 3) + len(static),
        periodic=grid.is_periodic,
        size=config.model.size,
        mixing=config.model.mixing,
    )
    frame = 4 * len(channels) * grid.shape[0] * grid.shape[1]
    parameters = sum(p.numel() for p in network.parameters())
    members = config.forecast.members
    lines = [
        *plan.describe(),
        f"grid         {grid.shape[0]} latitudes x {grid.shape[1]} longitudes, "
        + ("global" if grid.is_periodic else "regional"),
        f"channels     {len(channels)}: {', '.join(channels.labels)}",
        f"static       {', '.join(map(str, static)) or 'none of the data'}",
        f"window       {spec.history} frames in, {spec.frames} out, {spec.step / 3600:g} h apart",
    ]
    present = np.ones(len(times), bool)
    for name in ("training", "validation", "test"):
        period = config.splits.period(name, calendar)
        found = find_windows(times, present, spec, period)
        gaps = f" ({found.absent} more lack a frame)" if found.absent else ""
        lines.append(f"{name:12} {len(found)} windows{gaps}, {period}")
    forecasts = _forecasts(config, ds, calendar, members * frame * spec.frames)
    network_bytes = 4 * 4 * parameters  # weights, gradients, two moments
    block = (spec.frames + spec.history) * frame
    lines += [
        f"network      {config.model.size}, {parameters / 1e6:.2f} million parameters",
        f"field store  {_size(frame * len(times))} before compression",
        "memory       about "
        f"{_size(network_bytes + 60 * block * config.training.batch_size)} to train, "
        f"{_size(8 * block * members + 4 * parameters)} to forecast",
        f"forecasts    {forecasts}",
        "scores       "
        f"with forecast --evaluate-only {_size(members * frame * spec.frames)} of members are held "
        "at once, one block of one initial time, and none stored",
        *_quality(config, ds, frame * len(times)),
    ]
    return "\n".join(lines)


def _forecasts(config: Config, ds: xr.Dataset, calendar: str, block: float) -> str:
    """Count the forecasts; that none can be made yet is no reason not to say all else."""
    try:
        inits = len(init_times_of(config, None, ds, calendar=calendar))
    except MissingInputError as error:
        return f"none: {error}"
    return (
        f"{inits} x {config.forecast.members} members, {_size(block)} a block of "
        f"{config.window.frames} frames"
    )


def _quality(config: Config, ds: xr.Dataset, size: int) -> list[str]:
    """Tell what is wrong with the fields, as far as it is known or quickly found out."""
    from weatherdiff.data.quality import quality_table, survey
    from weatherdiff.data.store import FieldStore

    if config.store.exists():
        return quality_lines(FieldStore.open(config.store))
    if size > LOOKED_AT:
        return [f"quality      prepare looks at every value; {_size(size)} are too many for check"]
    return quality_table(survey(ds).findings)


def quality_lines(store: FieldStore) -> list[str]:
    """Write what quality control has found in a prepared store, as lines of a table."""
    from weatherdiff.data.quality import Finding, quality_table

    if store.metadata.get("quality") is None:
        return [f"quality      {store.path} was prepared by a version that did not look"]
    return quality_table(Finding.from_dict(found) for found in store.metadata["quality"])


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
