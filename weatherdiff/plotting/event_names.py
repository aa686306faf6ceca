"""Events in a reader's words and units."""

from __future__ import annotations

import re

from weatherdiff.plotting.appearance import shown_units, title_of

__all__ = ["event_title"]

_FIXED = re.compile(r"(?P<name>.*?)(?P<sign>[<>])(?P<value>[-+]?\d[\d.]*(?:e[-+]?\d+)?)")
_PERCENTILE = re.compile(r"(?P<side>above|below)_p(?P<percentile>\d+(?:\.\d+)?)")


def event_title(event: str, *, variable: str = "", units: str | None = None) -> str:
    """Spell an event's label as words, the threshold in the unit that the pictures use.

    Parameters
    ----------
    event : str
        Label, such as :class:`weatherdiff.evaluation.Event` makes up.
    variable : str
        Channel label, where the title is to say it.
    units : str, optional
        Of the variable, as stored.

    Examples
    --------
    >>> event_title("2m_temperature>298.15", variable="2m_temperature", units="K")
    '2 m temperature > 25 °C'
    >>> event_title("above_p90", variable="2m_temperature")
    '2 m temperature above the 90th percentile'
    >>> event_title("below_p2.5"), event_title("gale", variable="gust")
    ('below the 2.5th percentile', 'gust, gale')
    """
    name = title_of(variable)
    if fixed := _FIXED.fullmatch(event):
        variable = fixed["name"] or variable
        shown = shown_units(units, variable)
        value = f"{shown.value_of(float(fixed['value'])):.6g} {shown.label}".strip()
        return f"{title_of(variable)} {fixed['sign']} {value}".strip()
    if percentile := _PERCENTILE.fullmatch(event):
        ordinal = _ordinal(percentile["percentile"])
        return f"{name} {percentile['side']} the {ordinal} percentile".strip()
    words = title_of(event)
    return words if not name or words.startswith(name) else f"{name}, {words}"


def _ordinal(number: str) -> str:
    """``1st``, ``2nd``, ``11th``."""
    last = "" if number[-2:] in ("11", "12", "13") or "." in number else number[-1]
    return number + {"1": "st", "2": "nd", "3": "rd"}.get(last, "th")
