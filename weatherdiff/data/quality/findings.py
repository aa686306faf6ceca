"""What was found wrong, as a table for people and as plain types for the manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from weatherdiff.errors import InputError

__all__ = ["CHECKS", "Finding", "Quality", "merge_findings", "quality_table", "refuse_findings"]

#: What is done about findings: told; refused; or the frames are made missing.
Quality = Literal["report", "refuse", "mark"]

RECENT = 256  # findings that are told of one by one

#: The checks, and what each finds.
CHECKS = {
    "missing": "cells without data that have some at other times",
    "infinite": "infinite values",
    "range": "values that are not possible",
    "units": "values in other units than the others, or than is said",
    "levels": "levels that are not in the order of their labels",
    "flipped": "frames turned over against their neighbours",
    "shifted": "frames rolled in longitude against their neighbours",
    "jump": "frames that differ from their neighbours as no others do",
    "repeated": "frames that are those of another time",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one channel.

    Attributes
    ----------
    variable : str
        Label of the channel.
    check : str
        One of :data:`CHECKS`.
    times : int
        How many frames it was found in.
    first, last : str
        Times of the first and the last of them.
    fraction : float
        Of the values of these frames.
    worst : str
        The worst of it, in words.
    """

    variable: str
    check: str
    times: int
    first: str
    last: str
    fraction: float
    worst: str

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Finding:
        """Read what :meth:`to_dict` gives."""
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        many = f"{self.times} times from {self.first} to {self.last}"
        when = f"at {self.first}" if self.times == 1 else f"at {many}"
        return (
            f"{self.variable} {when}: {_percent(self.fraction)} of its values are "
            f"{_WORDS[self.check]} ({self.worst})"
        )


_WORDS = {
    "missing": "missing",
    "infinite": "infinite",
    "range": "out of the range that is possible",
    "units": "in other units",
    "levels": "not in the order of their levels",
    "flipped": "turned over",
    "shifted": "rolled in longitude",
    "jump": "unlike those before",
    "repeated": "those of another time",
}


def quality_table(findings: Iterable[Finding]) -> list[str]:
    r"""Write findings as lines of a table, or a line that says there are none.

    Examples
    --------
    >>> found = Finding("t", "range", 2, "2020-01-01T00:00", "2020-01-02T00:00", .5, "-999")
    >>> print("\n".join(quality_table([found])))
    quality      variable  check  times  first             last              fraction  worst
                 t         range  2      2020-01-01T00:00  2020-01-02T00:00  50.0%     -999
    >>> quality_table([])
    ['quality      nothing was found']
    """
    rows = [
        (f.variable, f.check, str(f.times), f.first, f.last, _percent(f.fraction), f.worst)
        for f in findings
    ]
    if not rows:
        return ["quality      nothing was found"]
    rows.insert(0, ("variable", "check", "times", "first", "last", "fraction", "worst"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        ("quality      " if number == 0 else " " * 13)
        + "  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip()
        for number, row in enumerate(rows)
    ]


def merge_findings(findings: Sequence[Finding], *, recent: int = RECENT) -> list[Finding]:
    """Keep the last findings as they are; make one of those before that are of the same kind.

    Parameters
    ----------
    findings : sequence of Finding
        In the order of time.
    recent : int
        How many to keep.

    Examples
    --------
    >>> days = [Finding("t", "range", 1, f"day {n}", f"day {n}", n / 10, f"{n}") for n in (1, 2, 3)]
    >>> for found in merge_findings(days, recent=1):
    ...     print(found)
    t at 2 times from day 1 to day 2: 15.0% of its values are out of the range that is possible (2)
    t at day 3: 30.0% of its values are out of the range that is possible (3)
    """
    more = max(len(findings) - recent, 0)
    merged: dict[tuple[str, str], Finding] = {}
    for one in findings[:more]:
        key = one.variable, one.check
        known = merged.get(key)
        if known is not None:
            times = known.times + one.times
            share = (known.times * known.fraction + one.times * one.fraction) / times
            worse = max(known, one, key=lambda found: found.fraction)
            one = dataclasses.replace(
                known, times=times, last=one.last, fraction=round(share, 6), worst=worse.worst
            )
        merged[key] = one
    return [*merged.values(), *findings[more:]]


def refuse_findings(findings: Sequence[Finding], *, filled: bool) -> None:
    """Refuse data of which anything was found.

    Parameters
    ----------
    findings : sequence of Finding
    filled : bool
        Whether missing values are to be filled, and so are no fault.

    Raises
    ------
    InputError
    """
    faults = [f for f in findings if not (filled and f.check == "missing")]
    if faults:
        more = f" There are {len(faults) - 1} more findings." if len(faults) > 1 else ""
        raise InputError(
            f"{faults[0]}.{more} Correct the data, or have these frames left out with "
            "data.quality: mark, or only told of with data.quality: report."
        )


def _percent(fraction: float) -> str:
    return f"{fraction:.3g}" if 0 < fraction < 0.001 else f"{fraction:.1%}"
