"""What values a field may have, and how its levels must lie: the one place for these rules.

A known variable has its row in :data:`weatherdiff.schema.VARIABLES`; another one is known by its CF
standard name, or by its units alone, and then only what no field of the atmosphere has is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weatherdiff.errors import UnitsError
from weatherdiff.schema import VARIABLES, Variable
from weatherdiff.units import likely_units, unit_conversion

__all__ = ["ANYTHING", "FEW", "Range", "levels_out_of_order", "range_of"]

Floats = npt.NDArray[np.float64]

# Packing and interpolation go a little beyond a bound that cannot be exceeded; single values go
# beyond the range of the means of fields. In ranges of the means.
BEYOND_BOUND, BEYOND_MEANS = 0.01, 0.25

#: Share of the values of a field that are out of range, below which these are bad values; if they
#: are more, the field is in other units.
FEW = 0.5

# By canonical units: what no field of the atmosphere has, differences of fields included.
_BY_UNITS: Mapping[str, tuple[float, float]] = {
    "K": (-500, 4000),
    "Pa": (-2e5, 2e5),
    "m s**-1": (-500, 500),
    "kg kg**-1": (-1, 1),
    "W m**-2": (-1e4, 1e4),
    "m**2 s**-2": (-2e6, 2e6),
    "kg m**-2 s**-1": (-1, 1),
    "Pa s**-1": (-500, 500),
    "m": (-2e4, 2e5),
}

# Between these pressures [hPa] the order of the levels shows in the mean over an area: below,
# inversions are common, and above is the stratosphere.
_LOWEST, _HIGHEST = 850, 250


@dataclass(frozen=True)
class Range:
    """Values that are possible, and area means that are plausible, in the units of the data.

    Attributes
    ----------
    low, high : float
        Of single values.
    mean_low, mean_high : float
        Of the mean over a field.
    units : str
    canonical : bool
        Whether these are the units of the schema, so that others can be guessed from a mean.
    """

    low: float
    high: float
    mean_low: float
    mean_high: float
    units: str
    canonical: bool = False

    def guess(self, mean: float) -> str:
        """Say of which units a mean looks, in words to end a sentence with; perhaps empty."""
        if not self.canonical:
            return ""
        found = likely_units(mean, self.units, self.mean_low, self.mean_high)
        return f"; it looks like {found}" if found else ""


#: Of a field of which nothing is known.
ANYTHING = Range(-np.inf, np.inf, -np.inf, np.inf, "")


def range_of(name: str, attributes: Mapping[str, Any]) -> Range:
    """Give the range of a variable by its name, its CF standard name or its units.

    Parameters
    ----------
    name : str
        Canonical, or the user's own.
    attributes : mapping
        With ``units``, and perhaps ``standard_name``.

    Examples
    --------
    >>> range_of("2m_temperature", {"units": "K"}).high
    382.5
    >>> found = range_of("tmax", {"units": "degC", "standard_name": "air_temperature"})
    >>> round(found.low), round(found.high)
    (-186, 129)
    >>> range_of("anomaly", {"units": "K"}).low, range_of("index", {"units": "1"}).low
    (-500.0, -inf)
    """
    units = str(attributes.get("units", ""))
    if name in VARIABLES:
        known = [VARIABLES[name]]
    else:
        standard = attributes.get("standard_name")
        known = [v for v in VARIABLES.values() if standard in v.standard_names.split()]
    ranges = [r for v in known if (r := _in_units(v, units)) is not None]
    if ranges:
        return Range(
            min(r.low for r in ranges),
            max(r.high for r in ranges),
            min(r.mean_low for r in ranges),
            max(r.mean_high for r in ranges),
            units,
            all(units == v.units for v in known),
        )
    plain = _conversion(units, "1") is not None  # a number may be of anything
    for canonical, (low, high) in _BY_UNITS.items():
        conversion = _conversion(units, canonical)
        if conversion is not None and not plain:
            factor, offset = conversion
            bounds = (low - offset) / factor, (high - offset) / factor
            return Range(*bounds, *bounds, units)
    return ANYTHING


def levels_out_of_order(name: str, levels: Floats, means: Floats) -> npt.NDArray[np.bool_]:
    """Tell which levels do not lie in the order of their labels.

    Geopotential falls with pressure everywhere; temperature and humidity rise with it in the free
    troposphere.

    Parameters
    ----------
    name : str
        Canonical name of the variable; of others nothing is known.
    levels : (level,)
        In hPa, in any order.
    means : (..., level)
        Area means in canonical units; NaN is not looked at.

    Returns
    -------
    (..., level)
        True where a level lies below one that it should lie above; in the order of ``levels``.

    Examples
    --------
    >>> levels = np.array([500.0, 850.0, 700.0])
    >>> levels_out_of_order("geopotential", levels, np.array([5.4e4, 1.4e4, 2.9e4]))
    array([False, False, False])
    >>> levels_out_of_order("geopotential", levels, np.array([5.4e4, 2.9e4, 1.4e4]))
    array([False,  True, False])
    """
    wrong = np.zeros(means.shape, bool)
    if name in ("geopotential", "geopotential_height"):
        used, sign, slack = np.ones(levels.shape, bool), -1, 0.0
    elif name in ("temperature", "specific_humidity"):
        used, sign = (levels <= _LOWEST) & (levels >= _HIGHEST), 1
        slack = 5.0 if name == "temperature" else 1e-4
    else:
        return wrong
    order = np.flatnonzero(used)[np.argsort(levels[used])]
    if not len(order):
        return wrong
    along = sign * means[..., order]
    with np.errstate(invalid="ignore"):
        highest = np.fmax.accumulate(along, axis=-1)
        wrong[..., order] = along < highest - slack
    return wrong


def _in_units(variable: Variable, units: str) -> Range | None:
    conversion = _conversion(units, variable.units)
    if conversion is None:
        return None
    factor, offset = conversion
    span = variable.high - variable.low
    low, high = variable.low - BEYOND_MEANS * span, variable.high + BEYOND_MEANS * span
    if variable.lower is not None:
        low = variable.lower - BEYOND_BOUND * span
    if variable.upper is not None:
        high = variable.upper + BEYOND_BOUND * span

    def own(canonical: float) -> float:
        return (canonical - offset) / factor

    return Range(own(low), own(high), own(variable.low), own(variable.high), units)


def _conversion(units: str, canonical: str) -> tuple[float, float] | None:
    try:
        return unit_conversion(units, canonical)
    except UnitsError:
        return None
