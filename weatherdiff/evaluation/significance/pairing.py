"""Two statistics on what both have: variables, regions, lead times and initial times."""

from __future__ import annotations

import numpy as np
import xarray as xr

from weatherdiff.data.calendars import require_same_calendar
from weatherdiff.errors import GridMismatchError, InputError, UnitsError

__all__ = ["in_order", "pair"]

_LABELS = ("variable", "region", "lead_time", "init_time", "event")
_GRID = ("latitude", "longitude", "cell_weight")


def pair(
    first: xr.Dataset, second: xr.Dataset, *, estimator: str
) -> tuple[xr.Dataset, xr.Dataset, dict[str, int]]:
    """Select what two statistics have in common, initial times ascending.

    Parameters
    ----------
    first, second : xr.Dataset
        Statistics of two models scored with the same observations.
    estimator : str
        Estimator they are to be compared with.

    Returns
    -------
    (xr.Dataset, xr.Dataset, dict)
        Both with the same labels in the order of the first; how many initial times only one has.

    Raises
    ------
    GridMismatchError, UnitsError
        Grids, cell weights or units differ.
    InputError
        Nothing is in common, labels repeat, or the ensembles are of different sizes and the
        estimator is not fair.
    """
    _require_comparable(first, second, estimator)
    shared = {}
    for name in _LABELS:
        if (name in first.dims) != (name in second.dims):
            raise InputError(f"only one of the statistics has a dimension {name}.")
        if name not in first.dims:
            continue
        ours, theirs = first[name].values, second[name].values
        if object in (ours.dtype, theirs.dtype) and name == "init_time":
            require_same_calendar(ours, theirs, ("the first statistics", "the second"))
        if np.unique(ours).size < ours.size or np.unique(theirs).size < theirs.size:
            raise InputError(f"{name} holds a value twice.")
        _, i, j = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
        if i.size == 0:
            raise InputError(f"no {name} is in both statistics.")
        # intersect1d sorts by label: right for times, while names keep the order of the first.
        order = slice(None) if name == "init_time" else np.argsort(i)
        shared[name] = i[order], j[order]
    a = first.isel({name: i for name, (i, _) in shared.items()})
    b = second.isel({name: j for name, (_, j) in shared.items()})
    if "units" in a.coords and "units" in b.coords:
        for variable, ours, theirs in zip(
            a["variable"].values, a["units"].values, b["units"].values, strict=True
        ):
            if ours != theirs:
                raise UnitsError(f"{variable} is in {str(ours)!r} and in {str(theirs)!r}.")
    alone = {
        "init_times_of_first_only": first.sizes["init_time"] - a.sizes["init_time"],
        "init_times_of_second_only": second.sizes["init_time"] - a.sizes["init_time"],
    }
    return a, b, alone


def in_order(statistics: xr.Dataset) -> xr.Dataset:
    """Statistics with initial times ascending.

    Raises
    ------
    InputError
        There is none, or one is there twice.
    """
    if statistics.sizes.get("init_time", 0) == 0:
        raise InputError("the statistics hold no initial time.")
    if not statistics.get_index("init_time").is_unique:
        raise InputError("init_time holds a value twice.")
    return statistics.sortby("init_time")


def _require_comparable(first: xr.Dataset, second: xr.Dataset, estimator: str) -> None:
    for name in _GRID:
        if (
            name in first
            and name in second
            and not (
                first[name].shape == second[name].shape
                and np.allclose(first[name].values, second[name].values, rtol=1e-6, atol=1e-6)
            )
        ):
            raise GridMismatchError(f"the statistics differ in {name}; compare on one grid.")
    members = [statistics.attrs.get("members") for statistics in (first, second)]
    if estimator != "fair" and members[0] != members[1]:
        raise InputError(
            f"ensembles of {members[0]} and {members[1]} members compare only with the fair "
            f"estimator, not the {estimator} one."
        )
