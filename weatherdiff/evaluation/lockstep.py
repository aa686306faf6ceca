"""Scores of forecasts that are never stored: members are scored as they are drawn.

The members of one initial time advance in lockstep, a block of lead times at a time; each block
leaves its sums and goes. Memory is the members of one block, whatever the length of the forecast.
The sums are those of scoring the stored members, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import dask.array
import numpy as np
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.evaluation.alignment import Leads, Times, ascending_latitude
from weatherdiff.evaluation.baselines import Reference
from weatherdiff.evaluation.matching import FORECAST_DIMS, Match, load, match
from weatherdiff.evaluation.settings import Settings
from weatherdiff.evaluation.streaming import Accumulation

__all__ = ["match_blocks", "score_blocks"]


def match_blocks(
    example: xr.Dataset,
    observations: xr.Dataset,
    *,
    init_times: Times,
    lead_times: Leads,
    reference: Mapping[str, Reference] | None = None,
    settings: Settings | None = None,
) -> Match:
    """Match forecasts that are yet to be made with observations.

    Parameters
    ----------
    example : (init_time, lead_time, number[, level], latitude, longitude)
        Any block of one of the forecasts, for its variables, units, members and grid.
    observations : (time[, level], latitude, longitude)
        Analyses.
    init_times, lead_times : (init_time,), (lead_time,)
        Of all forecasts.
    reference, settings
        See :func:`~weatherdiff.evaluation.evaluate`.

    Returns
    -------
    Match
        For :func:`score_blocks`, a selection of one initial time at a time.

    Raises
    ------
    DimensionError, GridMismatchError, InputError, MissingInputError, UnitsError
        See :func:`~weatherdiff.evaluation.evaluate`.
    """
    sizes = {"init_time": len(init_times), "lead_time": len(lead_times)}
    planned = {}
    for name, field in example.data_vars.items():
        shape = [sizes.get(str(dim), size) for dim, size in field.sizes.items()]
        nothing = dask.array.zeros(shape, dtype=field.dtype, chunks=-1)
        planned[name] = xr.Variable(field.dims, nothing, field.attrs)
    kept = {n: c for n, c in example.coords.items() if not {"init_time", "lead_time"} & set(c.dims)}
    times = {"init_time": init_times, "lead_time": lead_times}
    forecasts = xr.Dataset(planned, {**kept, **times}, example.attrs)
    return match(forecasts, observations, dict(reference or {}), settings or Settings())


def score_blocks(matched: Match, blocks: Iterable[xr.Dataset]) -> xr.Dataset:
    """Sum the scores of one initial time from its blocks.

    Parameters
    ----------
    matched : Match
        Of :func:`match_blocks`, with that initial time alone.
    blocks : iterable of xr.Dataset
        Consecutive in lead time, all members of the initial time in each.

    Returns
    -------
    xr.Dataset
        Statistics, as :func:`~weatherdiff.evaluation.statistics` makes them.

    Raises
    ------
    InputError
        The blocks are of another initial time, or are not the lead times announced.
    """
    accumulation = Accumulation(matched)
    observed = [matched.load_observation(channel) for channel in matched.units]
    rows = slice(0, len(matched.grid.latitude))
    done = 0
    for block in blocks:
        block, _ = ascending_latitude(block)
        leads = slice(done, done + block.sizes["lead_time"])
        if not (
            np.array_equal(block["init_time"].values, matched.inits)
            and np.array_equal(block["lead_time"].values, matched.leads[leads])
        ):
            raise InputError(
                f"a block of the forecast from {block['init_time'].values} has the lead times "
                f"{block['lead_time'].values}, expected {matched.leads[leads]} from "
                f"{matched.inits}."
            )
        for number, channel in enumerate(matched.units):
            accumulation.observe(number, observed[number])
            references = {
                name: load(channel.of(forecast).isel(lead_time=leads), FORECAST_DIMS)
                for name, forecast in accumulation.references.items()
            }
            accumulation.add(leads, rows, load(channel.of(block), FORECAST_DIMS), references)
        done = leads.stop
    if done != len(matched.leads):
        raise InputError(f"the forecast has {done} lead times, {len(matched.leads)} were expected.")
    return accumulation.result()
