"""What stands around the panels of a figure: its title above, a common legend below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["put_legend", "put_title"]

# Points, and inches that a character of the largest takes.
_LARGEST, _SMALLEST, _CHARACTER = 12.0, 8.0, 0.093


def put_title(figure: Figure, text: str, **place: Any) -> None:
    """Title at the left, in letters small enough for the width of the figure."""
    room = (figure.get_figwidth() - 0.1) / (_CHARACTER * max(len(text), 1))
    size = min(_LARGEST, max(_SMALLEST, _LARGEST * room))
    figure.suptitle(text, **{"x": 0.01, "ha": "left", "fontsize": size} | place)


def put_legend(figure: Figure, axes: Axes) -> None:
    """Legend of one panel's lines, below all of them, where it hides none."""
    handles, labels = axes.get_legend_handles_labels()
    widest = 0.5 + 0.075 * max(map(len, labels), default=0)
    columns = max(1, min(len(labels), int(figure.get_figwidth() / widest)))
    figure.legend(
        handles, labels, loc="outside lower left", ncols=columns, frameon=False, fontsize=9
    )
