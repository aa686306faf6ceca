"""How things look: display units, names, colours, and axes of lead time and of the map."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from weatherdiff.data.calendars import written

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLORS",
    "SPREAD_SKILL_BAND",
    "DisplayUnits",
    "FieldStyle",
    "color_of",
    "degrees_east",
    "degrees_north",
    "display_units",
    "field_style",
    "format_time",
    "include",
    "lead_axis",
    "lead_labels",
    "line_colors",
    "map_step",
    "shown_units",
    "title_of",
]

T = TypeVar("T", bound=Any)

# Okabe and Ito's palette: distinguishable with any colour vision.
COLORS = {
    "ensemble": "#0072B2",
    "observation": "#000000",
    "climatology": "#7F7F7F",
    "persistence": "#D55E00",
    "smooth_climatology": "#56B4E9",
    "analogs": "#E69F00",
    "linear_inverse_model": "#009E73",
    "mean": "#009E73",
    "other": "#CC79A7",
    "masked": "#D9D9D9",
}

_DISTINCT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

# Spread-skill ratios that a report does not complain about.
SPREAD_SKILL_BAND = (0.8, 1.2)

# Beyond this a lead-time axis counts days.
_LONGEST_IN_HOURS = 120.0

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def color_of(name: str) -> str:
    """Colour of a forecast, reference or part by its name; pink if it has none of its own."""
    return COLORS.get(name, COLORS["other"])


def line_colors(count: int, *, ordered: bool) -> list[str]:
    """Colours for ``count`` lines, from dark to light where their order means something.

    Examples
    --------
    >>> line_colors(2, ordered=False)
    ['#0072B2', '#D55E00']
    >>> len(set(line_colors(12, ordered=True)))
    12
    """
    if not ordered and count <= len(_DISTINCT):
        return list(_DISTINCT[:count])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    # The palest end is left out: it cannot be seen on white.
    return [to_hex(colormaps["viridis"](share)) for share in np.linspace(0, 0.88, count)]


@dataclass(frozen=True)
class DisplayUnits:
    """The unit a reader expects: shown value = stored value times ``factor``, plus ``offset``."""

    label: str
    factor: float
    offset: float = 0.0

    def value_of(self, stored: T) -> T:
        """Shown value of a stored one, of a number or an array."""
        scaled = stored if self.factor == 1 else stored * self.factor
        return scaled if self.offset == 0 else scaled + self.offset

    def axis_label(self, quantity: str) -> str:
        """``quantity [unit]``, or the quantity alone where the unit is unknown."""
        return f"{quantity} [{self.label}]".lstrip() if self.label else quantity

    @property
    def squared(self) -> str:
        """The unit's square in print; empty where the unit is unknown."""
        return f"({self.label})²" if " " in self.label else f"{self.label}²" * bool(self.label)


_CUSTOMARY = {
    "Pa": DisplayUnits("hPa", 1e-2),
    "kg kg**-1": DisplayUnits("g/kg", 1e3),
    "kg kg-1": DisplayUnits("g/kg", 1e3),
}


def display_units(units: str | None) -> DisplayUnits:
    """Customary unit of a stored one: hPa for Pa, g/kg for kg/kg, else itself in print.

    Examples
    --------
    >>> display_units("Pa")
    DisplayUnits(label='hPa', factor=0.01, offset=0.0)
    >>> display_units("W m**-2").label
    'W m⁻²'
    """
    if units in _CUSTOMARY:
        return _CUSTOMARY[units]
    text = re.sub(
        r"(?<=[A-Za-z])(?:\*\*|\^)?(-?\d+)",
        lambda match: match[1].translate(_SUPERSCRIPTS),
        units or "",
    )
    return DisplayUnits(text, 1.0)


def shown_units(units: str | None, label: str) -> DisplayUnits:
    """Customary unit of a channel's values: degrees Celsius for temperatures, else as above.

    Differences, errors and scores stay in the unit of :func:`display_units`.

    Examples
    --------
    >>> shown_units("K", "2m_temperature").value_of(298.15)
    25.0
    >>> shown_units("K", "potential_temperature_850").label
    'K'
    """
    words = label.lower()
    if units == "K" and "potential" not in words and ("temperature" in words or "dew" in words):
        return DisplayUnits("°C", 1.0, -273.15)
    return display_units(units)


def title_of(label: str) -> str:
    """Spell a channel's label as words.

    Examples
    --------
    >>> title_of("2m_temperature"), title_of("geopotential_500")
    ('2 m temperature', 'geopotential 500')
    """
    return re.sub(r"^(\d+)m ", r"\1 m ", label.replace("_", " "))


@dataclass(frozen=True)
class FieldStyle:
    """Colours of a field, and what its colour scale must hold.

    ``anchor`` is ``"zero"`` for a scale that starts at zero, ``"symmetric"`` for one centred on it
    (wind components), and ``"none"`` where zero means nothing (kelvin, pressure). ``isolines`` for
    fields that forecasters read by their contours.
    """

    colormap: str
    anchor: Literal["none", "zero", "symmetric"] = "none"
    isolines: bool = False

    def limits(self, values: npt.NDArray[np.floating]) -> tuple[float, float]:
        """Colour limits that leave out the outer 1 % of the finite values on each side.

        Examples
        --------
        >>> low, high = FieldStyle("RdBu_r", "symmetric").limits(np.array([-1.0, 3.0]))
        >>> low == -high
        True
        """
        finite = values[np.isfinite(values)]
        low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 1.0)
        if self.anchor == "symmetric":
            high = max(abs(low), abs(high))
            low = -high
        elif self.anchor == "zero":
            low = 0.0
        if not high > low:  # a constant field, such as sunshine at night
            high = low + 1.0
        return float(low), float(high)


# The first entry with a word that occurs in the variable's name decides.
_FIELD_STYLES = (
    (("u_component", "v_component", "vorticity", "divergence"), FieldStyle("PuOr_r", "symmetric")),
    (("anomaly", "tendency"), FieldStyle("PuOr_r", "symmetric")),
    (("streamfunction",), FieldStyle("PuOr_r", "symmetric", isolines=True)),
    (("geopotential", "sea_level_pressure"), FieldStyle("viridis", isolines=True)),
    (("temperature", "dewpoint"), FieldStyle("plasma")),
    (("precipitation", "rain", "snow", "cloud"), FieldStyle("YlGnBu", "zero")),
    (("humidity", "water"), FieldStyle("YlGnBu")),
    (("radiation", "flux"), FieldStyle("inferno", "zero")),
    (("speed", "gust"), FieldStyle("BuPu", "zero")),
)


def field_style(label: str) -> FieldStyle:
    """Colour scale for a channel, by the words in its name; viridis for pressure and unknowns."""
    for words, style in _FIELD_STYLES:
        if any(word in label.lower() for word in words):
            return style
    return FieldStyle("viridis")


def format_time(time: np.datetime64 | npt.NDArray[Any]) -> str:
    """Write a time of any calendar to the minute, in UTC.

    Examples
    --------
    >>> format_time(np.datetime64("2018-07-20T06:00"))
    '2018-07-20 06:00 UTC'
    """
    return f"{written(time, 'm').replace('T', ' ')} UTC"


def lead_labels(lead_hours: npt.NDArray[np.float64]) -> list[str]:
    """Lead times in hours, or all in days if the last is that long.

    Examples
    --------
    >>> lead_labels(np.array([12.0, 36.0])), lead_labels(np.array([36.0, 240.0]))
    (['+12 h', '+36 h'], ['+1.5 d', '+10 d'])
    """
    if lead_hours.max() > _LONGEST_IN_HOURS:
        return [f"+{lead:g} d" for lead in lead_hours / 24]
    return [f"+{lead:g} h" for lead in lead_hours]


def lead_axis(axes: Axes, lead_hours: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Label the horizontal axis as lead time and return the leads in the axis' unit."""
    from matplotlib.ticker import MultipleLocator

    in_days = lead_hours.max() > _LONGEST_IN_HOURS
    leads = lead_hours / 24 if in_days else lead_hours
    steps = (1, 2, 5, 10, 30, 90) if in_days else (1, 2, 3, 6, 12, 24)
    axes.xaxis.set_major_locator(MultipleLocator(_step(steps, leads.max(), count=8)))
    axes.set_xlabel("lead time [days]" if in_days else "lead time [hours]")
    return leads


def include(axes: Axes, low: float, high: float) -> None:
    """Widen the vertical axis to hold ``low`` and ``high``, so that small departures look small."""
    bottom, top = axes.get_ylim()
    axes.set_ylim(min(bottom, low), max(top, high))


def degrees_north(latitude: float, _position: int | None = None) -> str:
    """Latitude with its hemisphere; also a matplotlib tick formatter.

    Examples
    --------
    >>> degrees_north(-33.5), degrees_north(0)
    ('33.5°S', '0°')
    """
    return _degrees(latitude, "N", "S")


def degrees_east(longitude: float, _position: int | None = None) -> str:
    """Longitude with its hemisphere, in any convention; also a matplotlib tick formatter.

    Examples
    --------
    >>> degrees_east(357.5), degrees_east(540)
    ('2.5°W', '180°')
    """
    return _degrees((longitude + 180) % 360 - 180, "E", "W")


def map_step(span: float, count: int) -> float:
    """Tick spacing in degrees for at most ``count`` ticks in ``span`` degrees."""
    return _step((0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 45, 60, 90), span, count=count)


def _degrees(value: float, positive: str, negative: str) -> str:
    value = round(value, 2)
    if value == 0 or abs(value) == 180:
        return f"{abs(value):g}°"
    return f"{abs(value):g}°{positive if value > 0 else negative}"


def _step(steps: tuple[float, ...], span: float, *, count: int) -> float:
    """Smallest of ``steps`` that fits at most ``count`` times in ``span``."""
    return next((step for step in steps if span <= step * count), steps[-1])
