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


def shares(pictures: int, sections: int) -> list[int]:
    """Pictures of each section, so that the page has ``pictures`` at most; the first have more.

    Examples
    --------
    >>> shares(40, 3), shares(2, 3)
    ([14, 13, 13], [1, 1, 0])
    """
    each, rest = divmod(max(pictures, 0), sections)
    return [each + (index < rest) for index in range(sections)]


def shown(exhibits: Sequence[Exhibit], most: int) -> list[str]:
    """Markup of the ``most`` most important exhibits in their order, and what was left out."""
    ranked = sorted(range(len(exhibits)), key=lambda index: exhibits[index].rank)
    chosen = set(ranked[:most])
    markup = [exhibit.markup() for index, exhibit in enumerate(exhibits) if index in chosen]
    missing = [exhibit.name for index, exhibit in enumerate(exhibits) if index not in chosen]
    if missing:
        markup.append(paragraph(f"Left out to keep the page small: {', '.join(missing)}."))
    return markup
