"""Products of members: of those that are stored, or of members in lockstep that never are.

Without members on the disk, all of them advance by a block of frames, leave its products, and what
each has behind it; a run that is killed goes on from there. The products are the same bytes either
way.

::

    .2018-07-20T06.zarr.4f1e9a02.work/
        forecast/products/  becomes 2018-07-20T06.zarr/products
        behind/0003.npy     the last frames of all members, after the block 3
        units/0003.json     the products of block 3 are done
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from weatherdiff.errors import InputError
from weatherdiff.forecasting.arrays import PRODUCTS, array_of, objects_of, put_block
from weatherdiff.forecasting.drawing import require_finite
from weatherdiff.forecasting.manifest import Entry, entry_of
from weatherdiff.forecasting.products import Products
from weatherdiff.sealed import unseal
from weatherdiff.staging import disk_errors, staged

if TYPE_CHECKING:
    from weatherdiff.forecasting.rollout import Rollout
    from weatherdiff.forecasting.work import Work

__all__ = ["advance", "make_products"]


def make_products(
    path: Path, example: xr.Dataset, products: Products, steps: list[range]
) -> dict[str, Entry]:
    """Make the products of members that are all stored.

    Memory is that of one block of frames of one variable, all members.

    Parameters
    ----------
    path : path
        The forecast, with a group of products without values.
    example : Dataset
        A frame of all members as :meth:`Forecaster.layout` gives it.
    products : Products
    steps : list of range
        Places of the frames of each block.

    Returns
    -------
    dict
        Name relative to ``path`` -> what is known of each object that was written.
    """
    members = zarr.open_group(path, mode="r", use_consolidated=False)
    group = zarr.open_group(path / PRODUCTS, mode="r+", use_consolidated=False)
    frame = example.drop_vars(["lead_time", "valid_time"]).isel(lead_time=0)
    for step in steps:
        frames = slice(step.start, step.stop)
        for name, layout in example.data_vars.items():
            values = np.asarray(array_of(members, str(name))[:, frames])
            block = xr.Dataset(
                {name: (layout.dims, values, layout.attrs)},
                {n: c for n, c in frame.coords.items() if set(c.dims) <= set(layout.dims)},
            )
            put_block(group, products.of(block), frames=frames)
    names = [name for unit in range(len(steps)) for name in objects_of(group, unit, "lead_time")]
    return {f"{PRODUCTS}/{name}": entry_of(path / PRODUCTS / name) for name in names}


def advance(work: Work, rollout: Rollout) -> Iterator[int]:
    """Let the members advance from where an earlier run stopped; yield each unit that is done.

    Parameters
    ----------
    work : Work
        That was begun, and does not keep members.
    rollout : Rollout
        Of all members, at its beginning.

    Raises
    ------
    InputError
        A value is not finite.
    StorageError
        The disk is full, or not writable.
    """
    _go_on(work, rollout)
    for block in rollout:
        unit = rollout.block - 1
        _require_lead_times(work, unit, block)
        require_finite(block, work.valid, work.path.stem)
        _put(work, unit, block, rollout.past)
        del block  # else it is held while the next one is drawn
        yield unit


def _put(work: Work, unit: int, block: xr.Dataset, past: npt.NDArray[np.float32]) -> None:
    """Store the products of a block of frames, and where the members have come to."""
    path, frames = work.unfinished / PRODUCTS, work.units[unit]
    with disk_errors(work.path):
        group = zarr.open_group(path, mode="r+", use_consolidated=False)
        names = objects_of(group, unit, "lead_time")
        for name in names:  # a damaged one would be read before it is written
            (path / name).unlink(missing_ok=True)
        made = work.products.of(block)
        put_block(group, made, frames=slice(frames.start, frames.stop))
        files = {f"{PRODUCTS}/{name}": entry_of(path / name) for name in names}
        with staged(_behind(work, unit), overwrite=True) as temporary, temporary.open("wb") as file:
            np.save(file, past, allow_pickle=False)
        behind = list(entry_of(_behind(work, unit)))
    work.record(unit, files, behind=behind)
    if unit:
        _behind(work, unit - 1).unlink(missing_ok=True)


def _go_on(work: Work, rollout: Rollout) -> None:
    """Put the members where they had come to, if that is known; else they begin again."""
    due = work.due()
    done = due[0] if due else len(work.units)
    if done == len(work.units):
        rollout.block = done
        return
    past = _read_behind(work, done - 1, rollout.past.shape) if done else None
    if past is None:
        done = 0
    for unit in range(done, len(work.units)):
        work.record_of(unit).unlink(missing_ok=True)
    if past is not None:
        rollout.block, rollout.past = done, past


def _read_behind(work: Work, unit: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32] | None:
    """Read what the members have behind them after a unit; None if it is not as it was written."""
    path = _behind(work, unit)
    try:
        size, sha256 = unseal(work.record_of(unit).read_text())["behind"]
        if entry_of(path) != Entry(size, sha256):
            return None
        past: npt.NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (KeyError, OSError, TypeError, ValueError):
        return None
    return past if past.shape == shape and past.dtype == np.float32 else None


def _behind(work: Work, unit: int) -> Path:
    return work.hidden / "behind" / f"{unit:04d}.npy"


def _require_lead_times(work: Work, unit: int, block: xr.Dataset) -> None:
    frames: Any = work.units[unit]
    expected = work.lead_times[frames.start : frames.stop]
    if not np.array_equal(block["lead_time"].values, expected):
        raise InputError(f"Lead times are {block['lead_time'].values}, not {expected}.")
