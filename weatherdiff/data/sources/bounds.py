"""The range of valid values that data state of themselves, in the units in which they are read.

By the CF conventions (section 2.5.1), ``valid_min``, ``valid_max`` and ``valid_range`` of packed
integers are packed as the values are, if they are integers too; xarray unpacks the values alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

__all__ = ["Part", "unpack_bounds"]

_BOUNDS = ("valid_min", "valid_max", "valid_range")
_PACKED = {"scale_factor", "add_offset", "_Unsigned"}
_FILLED = {"_FillValue", "missing_value"}

#: A source, what xarray opened of it, and canonical names by own ones.
Part = tuple[str, xr.Dataset, dict[str, str]]
Bounds = tuple[float | None, float | None]


def unpack_bounds(raw: Sequence[Part]) -> list[Part]:
    """Give packed variables the ``valid_min`` and ``valid_max`` of their unpacked values.

    Bounds of what is not packed stay as they are. Where the sources of one variable are packed
    differently, so that the same bounds mean other values in each, the widest are those of all.

    Parameters
    ----------
    raw : sequence of (source, Dataset, names)
        As xarray opened them.

    Returns
    -------
    list of (source, Dataset, names)

    Examples
    --------
    >>> packed = xr.Variable("x", np.array([0, 99], "i2"), {"scale_factor": 0.5, "valid_max": 40})
    >>> ds = xr.decode_cf(xr.Dataset({"rain": packed}))
    >>> [(_, ds, _)] = unpack_bounds([("here", ds, {})])
    >>> ds["rain"].values.tolist(), float(ds["rain"].attrs["valid_max"])
    ([0.0, 49.5], 20.0)
    """
    stated: dict[str, list[Bounds]] = {}
    packed = set()
    for _, ds, names in raw:
        for own, field in ds.data_vars.items():
            name = names.get(str(own), str(own))
            stated.setdefault(name, []).append(_bounds(field))
            if _is_packed(field) and field.attrs.keys() & set(_BOUNDS):
                packed.add(name)
    found = []
    for source, ds, names in raw:
        changed = {}
        for own, field in ds.data_vars.items():
            name = names.get(str(own), str(own))
            if name in packed:
                lows, highs = zip(*stated[name], strict=True)
                bounds = {"valid_min": _widest(lows, min), "valid_max": _widest(highs, max)}
                variable = field.variable.copy(deep=False)
                variable.attrs = {k: v for k, v in field.attrs.items() if k not in _BOUNDS}
                variable.attrs |= {k: np.float32(v) for k, v in bounds.items() if v is not None}
                changed[own] = variable
        found.append((source, ds.assign(changed) if changed else ds, names))
    return found


def _widest(bounds: Iterable[float | None], choose: Callable[[list[float]], float]) -> float | None:
    """Give the bound that all keep; None if one has none."""
    known = list(bounds)
    given = [bound for bound in known if bound is not None]
    return choose(given) if len(given) == len(known) else None


def _is_packed(field: xr.DataArray) -> bool:
    """Whether integers are stored that stand for other values."""
    stored = np.dtype(field.encoding.get("dtype") or field.dtype)
    return stored.kind in "iu" and bool((field.encoding.keys() | field.attrs.keys()) & _PACKED)


def _bounds(field: xr.DataArray) -> Bounds:
    """Least and greatest valid value in the units of the values that are here."""
    low, high, both = (np.ravel(field.attrs.get(name, ())) for name in _BOUNDS)
    if not _is_packed(field):
        return _number(low), _number(high)
    if len(both) == 2:  # as netCDF4-python chooses, if all are there
        low, high = both[:1], both[1:]
    if field.attrs.keys() & _PACKED:  # the values are packed still, and whole numbers bound them
        low, high = (one if one.dtype.kind in "iu" else one[:0] for one in (low, high))
        return _number(low), _number(high)
    packed = [one.dtype.kind in "iu" for one in (low, high)]
    least, most = (
        _number(_unpacked(one, field) if is_packed else one)
        for one, is_packed in zip((low, high), packed, strict=True)
    )
    turned = any(packed) and field.encoding.get("scale_factor", 1) < 0
    return (most, least) if turned else (least, most)


def _unpacked(bound: npt.NDArray[Any], field: xr.DataArray) -> npt.NDArray[Any]:
    """Unpack a bound by xarray's own arithmetic; empty if it is none that can be stored."""
    stored = np.dtype(field.encoding["dtype"])
    limits = np.iinfo(stored)
    if not len(bound) or not limits.min <= bound[0] <= limits.max:
        return bound[:0]
    attributes = {key: field.encoding[key] for key in _PACKED & field.encoding.keys()}
    if field.encoding.keys() & _FILLED:  # the type of the result depends on whether there is one
        attributes["_FillValue"] = stored.type(bound[0] == 0)
    packed = xr.Variable("bound", bound.astype(stored), attributes)
    return xr.decode_cf(xr.Dataset({"bound": packed}), decode_times=False)["bound"].values


def _number(bound: npt.NDArray[Any]) -> float | None:
    return float(bound[0]) if len(bound) == 1 and bound.dtype.kind in "iuf" else None
