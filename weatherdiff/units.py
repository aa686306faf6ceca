"""Units of measurement: their spellings, and the conversions that weather data need.

A small table rather than a units library: what is not in it is refused, never guessed.
"""

import re
from collections.abc import Mapping

from weatherdiff.errors import UnitsError

__all__ = ["likely_units", "spellings", "unit_conversion"]

# By canonical units: the spellings (as _plain gives them) with their factor and offset.
_CONVERSIONS: Mapping[str, Mapping[tuple[str, ...], tuple[float, float]]] = {
    "K": {
        ("K", "kelvin", "Kelvin", "degK"): (1, 0),
        ("degC", "C", "°C", "celsius", "Celsius", "degrees_celsius", "degree_Celsius"): (1, 273.15),
        ("degF", "F", "°F", "fahrenheit", "Fahrenheit"): (5 / 9, 459.67 * 5 / 9),
    },
    "Pa": {
        ("Pa", "pascal", "Pascals"): (1, 0),
        ("hPa", "mbar", "mb", "millibar", "millibars"): (100, 0),
        ("kPa",): (1000, 0),
    },
    "hPa": {
        ("hPa", "mbar", "mb", "millibar", "millibars"): (1, 0),
        ("Pa",): (0.01, 0),
    },
    "kg kg**-1": {("kg kg-1", "1"): (1, 0), ("g kg-1",): (1e-3, 0), ("mg kg-1",): (1e-6, 0)},
    "1": {
        ("1", "(0 - 1)", "0 - 1", "(0-1)", "0-1", "fraction", "dimensionless", "~"): (1, 0),
        ("%", "percent"): (0.01, 0),
    },
    "m s**-1": {
        ("m s-1",): (1, 0),
        ("km h-1", "km hr-1"): (1 / 3.6, 0),
        ("kt", "knot", "knots"): (1852 / 3600, 0),
    },
    # A kilogram of water on a square metre is a millimetre of it.
    "m": {
        ("m", "gpm", "metre", "metres", "meter", "meters"): (1, 0),
        ("cm",): (1e-2, 0),
        ("mm", "kg m-2"): (1e-3, 0),
    },
    "kg m**-2": {("kg m-2", "mm"): (1, 0)},
    "kg m**-2 s**-1": {
        ("kg m-2 s-1", "mm s-1"): (1, 0),
        ("mm h-1", "mm hr-1"): (1 / 3600, 0),
        ("mm d-1", "mm day-1", "kg m-2 d-1", "kg m-2 day-1"): (1 / 86400, 0),
        ("m s-1",): (1000, 0),
    },
    "W m**-2": {("W m-2", "J m-2 s-1"): (1, 0)},
    "m**2 s**-2": {("m2 s-2", "J kg-1"): (1, 0)},
    "Pa s**-1": {("Pa s-1",): (1, 0), ("hPa s-1",): (100, 0)},
}


def _plain(units: str) -> str:
    """One spelling for all of ``kg/kg``, ``kg kg**-1``, ``kg kg^-1`` and ``kg.kg-1``."""
    words = re.sub(r"\*\*|\^", "", units)
    words = re.sub(r"\s*/\s*([A-Za-z]+)(\d*)", lambda m: f" {m[1]}-{m[2] or 1}", words)
    return re.sub(r"[\s.*·]+", " ", words).strip()


def unit_conversion(units: str, canonical: str) -> tuple[float, float]:
    """Factor and offset that turn values in ``units`` into ``canonical`` units.

    Raises
    ------
    UnitsError
        ``units`` are unknown, or measure something else.

    Examples
    --------
    >>> unit_conversion("degC", "K"), unit_conversion("kg/kg", "kg kg**-1")
    ((1, 273.15), (1, 0))
    """
    plain = _plain(units)
    conversions = _CONVERSIONS.get(canonical, {})
    for spellings, conversion in conversions.items():
        if plain in spellings:
            return conversion
    if canonical == "W m**-2" and plain in ("J m-2", "W s m-2"):
        raise UnitsError(
            f"units {units!r} are energy gathered over some time, expected a flux in {canonical}; "
            "divide by that time in seconds (3600 for hourly ERA5) and label it 'W m**-2'."
        )
    known = ", ".join(spellings[0] for spellings in conversions) or "none others"
    raise UnitsError(f"units {units!r} cannot be turned into {canonical}; known are: {known}.")


def likely_units(value: float, canonical: str, low: float, high: float) -> str | None:
    """Units of which ``value`` lies between ``low`` and ``high`` canonical units, if any.

    Examples
    --------
    >>> likely_units(15.0, "K", 170, 340)
    'degC'
    """
    for spellings, (factor, offset) in _CONVERSIONS[canonical].items():
        if low <= value * factor + offset <= high:
            return spellings[0]
    return None


def spellings(units: str) -> list[tuple[str, float, float]]:
    """Give the other units of what ``units`` measure, with factor and offset into ``units``.

    Examples
    --------
    >>> spellings("K")[0], spellings("sverdrup")
    (('degC', 1.0, 273.15), [])
    """
    found = []
    for conversions in _CONVERSIONS.values():
        ours = [c for names, c in conversions.items() if _plain(units) in names]
        if ours:
            factor, offset = ours[0]
            found += [
                (names[0], float(f / factor), float((o - offset) / factor))
                for names, (f, o) in conversions.items()
                if (f, o) != ours[0]
            ]
    return found
