"""What a page can show, and what it does show: the most telling pictures, up to a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from weatherdiff.errors import InputError
from weatherdiff.report.page import paragraph, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Exhibit", "shares", "shown"]


@dataclass(frozen=True)
class Exhibit:
    """A picture that can be drawn.

    Parameters
    ----------
    name : str
        What it is, as in "no ...".
    figure : callable
        Draws it; an :class:`InputError` says why it cannot be drawn.
    alt : str
        For those who do not see it.
    caption : str
        How to read it.
    rank : int
        Its importance: those of high rank are left out first.
    before : str
        Markup that introduces it.
    """

    name: str
    figure: Callable[[], Figure]
    alt: str
    caption: str = ""
    rank: int = 0
    before: str = ""

    def markup(self) -> str:
        """Draw it, or say why there is none."""
        try:
            figure = self.figure()
        except InputError as error:
            return self.before + paragraph(f"No {self.name}: {error}")
        return self.before + picture(figure, alt=self.alt, caption=self.caption)


def shares(most: int, wanted: Sequence[int]) -> list[int]:
    """Pictures of each section, ``most`` in all: what it wants, or what all who want more get.

    Examples
    --------
    >>> shares(9, [2, 8, 5]), shares(2, [3, 3, 3])
    ([2, 4, 3], [1, 1, 0])
    """
    given = [0] * len(wanted)
    for _ in range(min(max(most, 0), sum(wanted))):
        hungry = [index for index, number in enumerate(wanted) if given[index] < number]
        given[min(hungry, key=lambda index: given[index])] += 1
    return given


def shown(exhibits: Sequence[Exhibit], most: int) -> list[str]:
    """Markup of the ``most`` most important exhibits in their order, and what was left out."""
    ranked = sorted(range(len(exhibits)), key=lambda index: exhibits[index].rank)
    chosen = set(ranked[:most])
    markup = [exhibit.markup() for index, exhibit in enumerate(exhibits) if index in chosen]
    missing = [exhibit.name for index, exhibit in enumerate(exhibits) if index not in chosen]
    if missing:
        markup.append(paragraph(f"Left out to keep the page small: {', '.join(missing)}."))
    return markup
