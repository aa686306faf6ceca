"""Panels of maps: their size and place, degrees, coastlines and colour bars.

Plain longitude-latitude axes, true to scale at the map's middle latitude. Coastlines come from
cartopy if it is installed and its data are on this machine already; otherwise the edge of the
valid cells serves.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from weatherdiff.grid import Grid
from weatherdiff.plotting.appearance import degrees_east, degrees_north, map_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Edges", "Lines", "bar_axes", "cell_edges", "coastlines", "finish_maps", "map_panels"]

Edges = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
Lines = list[npt.NDArray[np.float64]]

# Inches. Everything has a known size, which spares matplotlib's slow search for a layout.
_PANEL_WIDTH = 1.8
_GAP = 0.15
_MARGINS = {"left": 1.35, "right": 0.15, "top": 0.7, "bottom": 1.0}
_BAR_HEIGHT, _BAR_BOTTOM = 0.12, 0.55


def map_panels(rows: int, columns: int, edges: Edges) -> tuple[Figure, npt.NDArray[Any]]:
    """Make a figure of equal maps, (rows, columns), between the margins."""
    from matplotlib.figure import Figure

    aspect = 1 / max(np.cos(np.deg2rad(edges[1].mean())), 0.1)
    panel_height = _PANEL_WIDTH * aspect * np.ptp(edges[1]) / np.ptp(edges[0])
    across = columns * (_PANEL_WIDTH + _GAP) - _GAP
    down = rows * (panel_height + _GAP) - _GAP
    width = _MARGINS["left"] + across + _MARGINS["right"]
    height = _MARGINS["bottom"] + down + _MARGINS["top"]
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(
        rows,
        columns,
        sharex=True,
        sharey=True,
        squeeze=False,
        gridspec_kw={
            "left": _MARGINS["left"] / width,
            "right": 1 - _MARGINS["right"] / width,
            "bottom": _MARGINS["bottom"] / height,
            "top": 1 - _MARGINS["top"] / height,
            "wspace": _GAP / _PANEL_WIDTH,
            "hspace": _GAP / panel_height,
        },
    )
    return figure, axes


def bar_axes(figure: Figure, bottom_row: npt.NDArray[Any]) -> Axes:
    """Axes of a colour bar below the panels it belongs to."""
    left = bottom_row[0].get_position().x0
    across = bottom_row[-1].get_position().x1 - left
    share = 0.9 if bottom_row.size == 1 else 0.5
    height = figure.get_figheight()
    return figure.add_axes(
        (
            left + across * (1 - share) / 2,
            _BAR_BOTTOM / height,
            across * share,
            _BAR_HEIGHT / height,
        )
    )


def cell_edges(grid: Grid) -> Edges:
    """Edges of the cells, longitude then latitude, midway between centres and as far beyond."""
    return _edges(grid.longitude), _edges(grid.latitude).clip(-90, 90)


def finish_maps(
    axes: npt.NDArray[Any], edges: Edges, *, valid: npt.NDArray[np.bool_], rows: list[str]
) -> None:
    """Add degrees, coastlines or the edge of the valid cells, and what each row is.

    Parameters
    ----------
    axes : (row, column)
        The maps, which share their axes.
    edges : tuple
        Of the cells.
    valid : (latitude, longitude)
        Cells with a value anywhere.
    rows : list of str
        A text beside each row.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.ticker import MultipleLocator

    outline = coastlines(float(np.ptp(edges[0]))) or _outline(valid, edges)
    low, high = (np.array([pick(edge) for edge in edges]) for pick in (np.min, np.max))
    # Two seams to the west and east cover every convention of longitude.
    moved = [line + np.array([shift, 0.0]) for shift in (-360, 0, 360) for line in outline]
    seen = [line for line in moved if (line.max(0) >= low).all() and (line.min(0) <= high).all()]
    for panel, text in zip(axes[:, 0], rows, strict=True):
        panel.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9, labelpad=8)
    for panel in axes.flat:
        lines = LineCollection(seen, colors="0.15", linewidths=0.6)
        panel.add_collection(lines, autolim=False)
        panel.tick_params(labelsize=8)
    # What the panels share is set once: each setting visits all of them.
    panel = axes.flat[0]
    panel.set_xlim(low[0], high[0])
    panel.set_ylim(low[1], high[1])
    for axis, span, name in (
        (panel.xaxis, high[0] - low[0], degrees_east),
        (panel.yaxis, high[1] - low[1], degrees_north),
    ):
        axis.set_major_locator(MultipleLocator(map_step(span, count=4)))
        axis.set_major_formatter(name)


def _edges(centres: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    inner = (centres[1:] + centres[:-1]) / 2
    return np.concatenate(
        [[2 * centres[0] - inner[0]], inner, [2 * centres[-1] - inner[-1]]], dtype=np.float64
    )


def _outline(valid: npt.NDArray[np.bool_], edges: Edges) -> Lines:
    """Cell sides that part valid cells from masked ones, each as ((x0, y0), (x1, y1))."""
    x, y = edges
    sides = []
    for row, column in np.argwhere(np.diff(valid, axis=1)):
        sides.append(((x[column + 1], y[row]), (x[column + 1], y[row + 1])))
    for row, column in np.argwhere(np.diff(valid, axis=0)):
        sides.append(((x[column], y[row + 1]), (x[column + 1], y[row + 1])))
    return [np.array(side) for side in sides]


@lru_cache
def coastlines(span: float) -> Lines:
    """Coastlines as (vertex, [longitude, latitude]) arrays; none unless stored on this machine.

    cartopy's data are read without importing it: its loader downloads what it does not find, and
    its projection library crashes the interpreter at exit once netCDF4 has opened a file (netCDF4
    1.7.5 with pyproj 3.7.2).
    """
    cartopy = find_spec("cartopy")
    if cartopy is None or cartopy.origin is None:
        return []
    from shapefile import Reader  # pyshp, which cartopy depends on

    home = os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")
    folders = [Path(home, "cartopy"), Path(cartopy.origin).parent / "data"]
    if "CARTOPY_DATA_DIR" in os.environ:
        folders.insert(0, Path(os.environ["CARTOPY_DATA_DIR"]))
    for resolution in ("50m", "110m") if span < 90 else ("110m", "50m"):
        for folder in folders:
            path = folder / f"shapefiles/natural_earth/physical/ne_{resolution}_coastline.shp"
            if path.is_file():
                with Reader(path) as reader:
                    return [
                        np.array(part)[:, :2]
                        for shape in reader.iterShapes()
                        for part in np.split(np.array(shape.points), shape.parts[1:])
                    ]
    return []
