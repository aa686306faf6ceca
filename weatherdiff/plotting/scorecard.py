"""The scorecard: two forecasts compared for every variable and lead time at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import DimensionError, InputError
from weatherdiff.plotting.appearance import COLORS, lead_labels, title_of
from weatherdiff.plotting.event_names import event_title
from weatherdiff.plotting.frame import put_title
from weatherdiff.plotting.selection import hours, one_stratum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

__all__ = ["plot_scorecard"]

# Ends of the colour scale in percent; the smallest that holds nearly all cells is taken.
_ENDS = (2.0, 5.0, 10.0, 20.0, 30.0, 50.0, 100.0)
# Up to this many leads there is room for numbers.
_MOST_WITH_NUMBERS = 14
# Inches.
_WIDEST = 13.0
_NARROWEST = 6.0
_TITLE, _LEADS, _BAR, _PANEL_TITLE, _GAP = 0.4, 0.5, 0.85, 0.25, 0.1
# More labels of lead times than this are too many to read.
_MOST_LABELS = 20


def plot_scorecard(comparison: xr.Dataset, *, title: str | None = None) -> Figure:
    """Relative difference of two forecasts' scores, a cell for each variable and lead time.

    Blue where the first forecast is better, red where the second is. A dot marks the differences
    that are significant, grey the ones that are not known. Up to 14 lead times the percentages are
    written into the cells. Regions and events are panels of their own.

    Parameters
    ----------
    comparison : (variable, [region,] lead_time, [event])
        What :func:`weatherdiff.evaluation.compare` returns: ``relative_difference`` and, if
        present, ``significant``. The attribute ``better`` says whether ``"lower"`` values of the
        score are (the default), ``"higher"`` ones, or ``"neither"``: blue is then lower.
    title : str, optional
        What is compared with what.

    Raises
    ------
    InputError
        The comparison holds no relative difference.
    DimensionError
        It has other dimensions.

    Examples
    --------
    >>> dims = ("variable", "lead_time")
    >>> comparison = xr.Dataset(
    ...     {
    ...         "relative_difference": (dims, [[-0.08, 0.01]]),
    ...         "significant": (dims, [[True, False]]),
    ...     },
    ...     {"variable": ["2m_temperature"], "lead_time": np.array([6, 12], "timedelta64[h]")},
    ... )
    >>> figure = plot_scorecard(comparison, title="CRPS: new against old")
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['-8.0', '+1.0']
    """
    panels, where = _panels(comparison)
    better = str(comparison.attrs.get("better", "lower"))
    percent = np.stack([100 * panel["relative_difference"].values for panel in panels.values()])
    labels = [title_of(str(label)) for label in comparison["variable"].values]
    lead_hours = hours(comparison["lead_time"].values)
    leads, shown = lead_labels(lead_hours), _shown(lead_hours)
    end = _end(percent)

    figure, axes, unit, columns = _layout(labels, list(panels), len(leads))
    for index, (panel, values) in enumerate(zip(axes, percent, strict=True)):
        name, scores = list(panels.items())[index]
        mesh = _draw(panel, values, end, "RdBu" if better == "higher" else "RdBu_r")
        if "significant" in scores:
            _mark(panel, scores["significant"].values, values, end)
        if len(panels) > 1:
            panel.set_title(name, fontsize=10)
        panel.set_xticks([i + 0.5 for i in shown], [leads[i] for i in shown])
        panel.set_yticks(np.arange(len(labels)) + 0.5, labels)
        panel.tick_params(length=0, labelsize=8)
        panel.tick_params(axis="y", labelsize=9, labelleft=index % columns == 0)
        # Only where there is no panel below.
        panel.tick_params(axis="x", labelbottom=index + columns >= len(panels))
        if len(leads) > 8:
            panel.tick_params(axis="x", rotation=90)
    words = "blue: lower, red: higher" if better == "neither" else "blue: better, red: worse"
    _bar(figure, mesh, end, unit, words)
    if "significant" in comparison:
        _explain(figure, comparison, unit)
    put_title(
        figure,
        (title or "Relative difference of scores") + where,
        x=0.1 * unit[0],
        y=1 - 0.1 * unit[1],
        va="top",
    )
    return figure


def _panels(comparison: xr.Dataset) -> tuple[dict[str, xr.Dataset], str]:
    """Tables (variable, lead_time) by region and event, and what was taken of season or hour."""
    if "relative_difference" not in comparison:
        raise InputError("the comparison holds no relative_difference.")
    names = [name for name in ("relative_difference", "significant") if name in comparison]
    panels, where = {"": comparison[names]}, ""
    for dim in ("region", "event"):
        if dim in comparison.dims:
            words = title_of if dim == "region" else _event_namer(comparison)
            panels = {
                f"{name}, {words(str(value))}".removeprefix(", "): table.isel({dim: index})
                for name, table in panels.items()
                for index, value in enumerate(comparison[dim].values)
            }
    for name, table in panels.items():
        part, where = one_stratum(table)
        if set(part.dims) != {"variable", "lead_time"}:
            raise DimensionError(
                f"the comparison has dimensions {tuple(part.dims)}, expected variable, lead_time."
            )
        panels[name] = part.transpose("variable", "lead_time")
    return panels, where


def _event_namer(comparison: xr.Dataset) -> Callable[[str], str]:
    """Give what names events, with the threshold in the unit of its variable."""
    units: dict[str, str] = {}
    if "units" in comparison.coords:
        names = comparison["variable"].values, comparison["units"].values
        units = {str(name): str(unit) for name, unit in zip(*names, strict=True)}
    return lambda event: event_title(event, units=units.get(re.split("[<>]", event)[0]))


def _end(percent: npt.NDArray[np.float64]) -> float:
    """End of the colour scale."""
    known = np.abs(percent[np.isfinite(percent)])
    reach = np.percentile(known, 95) if known.size else 0.0
    return next((end for end in _ENDS if reach <= end), _ENDS[-1])


def _shown(lead_hours: npt.NDArray[np.float64]) -> list[int]:
    """Positions of the lead times to label: whole days if all are too many and those are not."""
    size = lead_hours.size
    if size <= _MOST_LABELS:
        return list(range(size))
    days = np.flatnonzero(lead_hours % 24 == 0)
    if 4 <= days.size <= _MOST_LABELS:
        return [int(position) for position in days]
    return list(range(0, size, -(-size // _MOST_LABELS)))


def _layout(
    labels: list[str], panels: list[str], leads: int
) -> tuple[Figure, list[Axes], tuple[float, float], int]:
    """Figure with a panel for each region; the shares of it that an inch is; panels in a row."""
    from matplotlib.figure import Figure

    cell_width = 0.46 if leads <= _MOST_WITH_NUMBERS else max(0.17, 7.5 / leads)
    cell_height = 0.32 if leads <= _MOST_WITH_NUMBERS else 0.24
    across, down = leads * cell_width, len(labels) * cell_height
    left = 0.25 + 0.075 * max(len(label) for label in labels)
    # A narrow panel still needs room for its title.
    gap = 0.2 + max(0.0, 0.085 * max(map(len, panels)) - across) * (len(panels) > 1)
    columns = min(len(panels), max(1, int((_WIDEST - left) / (across + gap))))
    rows = -(-len(panels) // columns)
    above = _PANEL_TITLE * (len(panels) > 1)
    height = _TITLE + rows * (above + down) + _GAP * (rows - 1) + _LEADS + _BAR
    width = max(_NARROWEST, left + columns * (across + gap))
    figure = Figure(figsize=(width, height))
    axes: list[Axes] = []
    for index in range(len(panels)):
        row, column = divmod(index, columns)
        bottom = height - _TITLE - (row + 1) * (above + down) - row * _GAP
        x = left + column * (across + gap)
        box = (x / width, bottom / height, across / width, down / height)
        axes.append(figure.add_axes(box, sharey=axes[index - column] if column else None))
        if not column:
            axes[-1].invert_yaxis()
    return figure, axes, (1 / width, 1 / height), columns


def _draw(panel: Axes, percent: npt.NDArray[np.float64], end: float, colors: str) -> QuadMesh:
    from matplotlib import colormaps

    panel.set_facecolor(COLORS["masked"])
    style: dict[str, Any] = {"cmap": colormaps[colors], "vmin": -end, "vmax": end}
    mesh = panel.pcolormesh(percent, edgecolors="white", linewidth=0.8, **style)
    if percent.shape[1] <= _MOST_WITH_NUMBERS:
        for (row, column), value in np.ndenumerate(percent):
            if np.isfinite(value):
                panel.text(
                    column + 0.46,
                    row + 0.54,
                    _signed(value),
                    ha="center",
                    va="center",
                    fontsize=8,
                    color=_ink(value, end),
                )
    for spine in panel.spines.values():
        spine.set_visible(False)
    return mesh


def _mark(
    panel: Axes,
    significant: npt.NDArray[np.bool_],
    percent: npt.NDArray[np.float64],
    end: float,
) -> None:
    """Dot in each significant cell, in its corner if there is a number."""
    numbers = percent.shape[1] <= _MOST_WITH_NUMBERS
    rows, columns = np.nonzero(significant & np.isfinite(percent))
    if not rows.size:
        return
    x, y = (0.88, 0.2) if numbers else (0.5, 0.5)
    inks = [_ink(value, end) for value in percent[rows, columns]]
    panel.scatter(columns + x, rows + y, s=9, c=inks, linewidths=0, zorder=3)


def _bar(figure: Figure, mesh: QuadMesh, end: float, unit: tuple[float, float], words: str) -> None:
    axes = figure.add_axes((0.25 * unit[0], 0.5 * unit[1], 2.6 * unit[0], 0.13 * unit[1]))
    bar = figure.colorbar(mesh, cax=axes, orientation="horizontal", extend="both")
    bar.set_ticks([-end, -end / 2, 0, end / 2, end])
    bar.ax.xaxis.set_major_formatter(lambda value, _: f"{value:+g}%" if value else "0")
    axes.tick_params(labelsize=8)
    axes.set_xlabel(words, fontsize=8)


def _explain(figure: Figure, comparison: xr.Dataset, unit: tuple[float, float]) -> None:
    """Say what the dot means."""
    from matplotlib.lines import Line2D

    dot = Line2D([], [], linestyle="", marker="o", markersize=3.5, color="0.1")
    level = comparison.attrs.get("level")
    text = "significant" if level is None else f"significant (false discovery rate {1 - level:.0%})"
    figure.legend(
        [dot],
        [text],
        loc="center left",
        bbox_to_anchor=(3.0 * unit[0], 0.57 * unit[1]),
        frameon=False,
        fontsize=9,
        handletextpad=0.2,
    )


def _signed(percent: float) -> str:
    """Signed number, with one decimal as long as it takes no more room than that."""
    return f"{percent:+.1f}" if abs(percent) < 9.95 else f"{percent:+.0f}"


def _ink(percent: float, end: float) -> str:
    """Black on pale cells, white on dark ones."""
    return "white" if abs(percent) > 0.65 * end else "0.1"
