"""Whether values are stored as they are meant, for the readers that go past xarray."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.layout import Layout
from weatherdiff.units import unit_conversion

__all__ = ["as_slice", "is_nan", "require_as_meant", "stored_names"]

#: Attributes by which stored values are not the values meant.
ENCODED = {"scale_factor", "add_offset", "missing_value", "_Unsigned"}


def require_as_meant(attributes: Mapping[str, Any]) -> None:
    """Refuse an array whose values are encoded.

    Raises
    ------
    ValueError
    """
    found = ENCODED & set(attributes)
    if not is_nan(attributes.get("_FillValue", "NaN")):
        found.add("_FillValue")
    if found:
        raise ValueError(f"its values are encoded: {', '.join(sorted(found))}")


def stored_names(ds: xr.Dataset, variables: Iterable[str], layout: Layout) -> list[str]:
    """Give the names of variables as they are stored, where they are only renamed.

    Raises
    ------
    ValueError
        A name leads elsewhere, or the values are converted to other units.
    """
    names = []
    for variable in variables:
        own = layout.names.get(variable, variable)
        if "/" in own or own.startswith("."):
            raise ValueError(f"the name {own} is no plain one")
        units = str(ds[variable].attrs.get("units", ""))
        if unit_conversion(layout.units.get(variable, units), units) != (1, 0):
            raise ValueError(f"{variable} is converted")
        names.append(own)
    return names


def is_nan(value: Any) -> bool:
    """Whether a fill value is NaN, as a number or as xarray writes it: bytes of a double.

    Examples
    --------
    >>> is_nan("NaN"), is_nan("AAAAAAAA+H8="), is_nan(0.0)
    (True, True, False)
    """
    if isinstance(value, str) and value != "NaN":
        value = struct.unpack("<d", base64.b64decode(value, validate=True))[0]
    return math.isnan(float(value))


def as_slice(places: npt.NDArray[np.intp]) -> slice | npt.NDArray[np.intp]:
    """Give all places in order, or in the opposite order, as a slice, which copies nothing.

    Examples
    --------
    >>> as_slice(np.array([2, 1, 0])), as_slice(np.array([0, 2]))
    (slice(None, None, -1), array([0, 2]))
    """
    if np.array_equal(places, np.arange(len(places))):
        return slice(None)
    if np.array_equal(places, np.arange(len(places))[::-1]):
        return slice(None, None, -1)
    return places
