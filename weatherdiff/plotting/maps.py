"""Maps of one forecast beside what was observed.

Drawn on plain longitude-latitude axes, true to scale at the map's middle latitude. Coastlines come
from cartopy if it is installed and its data are on this machine already; otherwise the edge of the
valid cells serves.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.grid import Grid
from weatherdiff.plotting.appearance import (
    COLORS,
    FieldStyle,
    degrees_east,
    degrees_north,
    display_units,
    field_style,
    format_time,
    lead_labels,
    map_step,
    title_of,
)
from weatherdiff.plotting.selection import (
    forecast_and_observation,
    hours,
    observed_at,
    pick_leads,
    single_init,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

__all__ = ["plot_forecast_maps"]

_TITLES = {
    "observation": "observation",
    "member_0": "member 0",
    "member_1": "member 1",
    "mean": "ensemble mean",
    "spread": "spread",
    "error": "mean minus obs.",
}
# The columns that share a colour scale, in the order they are drawn.
_SCALES = {
    "field": ("observation", "member_0", "member_1", "mean"),
    "spread": ("spread",),
    "error": ("error",),
}
# Inches. Everything has a known size, which spares matplotlib's slow search for a layout.
_PANEL_WIDTH = 1.8
_GAP = 0.15
_MARGINS = {"left": 1.35, "right": 0.15, "top": 0.7, "bottom": 1.0}
_BAR_HEIGHT, _BAR_BOTTOM = 0.12, 0.55

Edges = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def plot_forecast_maps(
    forecast: xr.Dataset,
    observation: xr.Dataset,
    *,
    variable: str,
    lead_times: Sequence[np.timedelta64] | None = None,
) -> Figure:
    """Draw maps of an ensemble forecast, a row for each lead time.

    The columns are the observation, two members and the ensemble mean on one colour scale, then
    the spread (standard deviation of the members, ``ddof=1``) and the error of the mean on their
    own. Each scale serves all leads and leaves out the outer 1 % of the values on either side. A
    single member has neither mean nor spread; the error is then its own.

    Parameters
    ----------
    forecast : ([init_time,] lead_time, number[, level], latitude, longitude)
        From one init time; only the drawn lead times are read.
    observation : (time[, level], latitude, longitude)
        Analysis on the same grid. Maps of times it lacks stay grey.
    variable : str
        Channel label, such as ``"geopotential_500"``.
    lead_times : sequence of timedelta64, optional
        Default: four evenly spaced ones.

    Raises
    ------
    InputError
        Unknown channel or lead time.
    DimensionError
        Several init times, or a dimension missing.
    GridMismatchError, UnitsError
        The grids or the units differ.
    """
    members, truth = forecast_and_observation(forecast, observation, variable)
    members = single_init(members)
    members = members.sel(lead_time=pick_leads(members, lead_times))
    grid = Grid.from_dataset(members)
    units = display_units(members.attrs.get("units"))
    fields = _fields(members, truth) * units.factor

    edges = _edges(grid.longitude), _edges(grid.latitude).clip(-90, 90)
    aspect = 1 / max(np.cos(np.deg2rad(grid.latitude.mean())), 0.1)
    panel_height = _PANEL_WIDTH * aspect * np.ptp(edges[1]) / np.ptp(edges[0])
    figure, axes = _panels(fields.sizes["lead_time"], len(fields), panel_height)
    styles = {
        "field": (field_style(variable), title_of(variable)),
        "spread": (FieldStyle("magma_r", "zero"), "standard deviation"),
        "error": (FieldStyle("RdBu_r", "symmetric"), "error"),
    }
    for scale, sharing in _SCALES.items():
        group = fields[[name for name in sharing if name in fields]]
        if not group:
            continue
        style, quantity = styles[scale]
        columns = [list(fields).index(name) for name in group]
        mesh = _draw(axes[:, columns], edges, grid, group, style)
        bar = figure.colorbar(
            mesh,
            cax=_bar_axes(figure, axes[-1, columns]),
            orientation="horizontal",
            label=units.axis_label(quantity),
            extend="max" if style.anchor == "zero" else "both",
        )
        bar.ax.locator_params(nbins=4)
        bar.ax.tick_params(labelsize=8)

    outline = _coastlines(float(np.ptp(edges[0]))) or _outline(fields, edges)
    _annotate(axes, fields, edges, outline)
    height = figure.get_figheight()
    figure.suptitle(
        f"{title_of(variable).capitalize()}, forecast from "
        f"{format_time(members['init_time'].values)}",
        x=0.01,
        y=1 - 0.1 / height,
        ha="left",
    )
    return figure


def _panels(rows: int, columns: int, panel_height: float) -> tuple[Figure, npt.NDArray[Any]]:
    """Make a figure of equal panels between the margins."""
    from matplotlib.figure import Figure

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


def _bar_axes(figure: Figure, bottom_row: npt.NDArray[Any]) -> Axes:
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


def _draw(
    panels: npt.NDArray[Any], edges: Edges, grid: Grid, group: xr.Dataset, style: FieldStyle
) -> QuadMesh:
    """Fill the panels (lead_time, field) of one colour scale; return the last for its bar."""
    from matplotlib.ticker import MaxNLocator

    values = group.to_array("field").transpose("lead_time", "field", "latitude", "longitude").values
    low, high = style.limits(values)
    levels = MaxNLocator(10).tick_values(low, high) if style.isolines else []
    for panel, field in zip(panels.ravel(), values.reshape(-1, *grid.shape), strict=True):
        panel.set_facecolor(COLORS["masked"])
        mesh = panel.pcolormesh(*edges, field, cmap=style.colormap, vmin=low, vmax=high)
        # matplotlib warns if no level is within the field's range.
        crossed = [level for level in levels if (field < level).any() and (field > level).any()]
        if crossed:
            centres = grid.longitude, grid.latitude
            panel.contour(*centres, field, crossed, colors="white", linewidths=0.6, alpha=0.8)
    return mesh


def _fields(members: xr.DataArray, truth: xr.DataArray) -> xr.Dataset:
    """Read what the columns show, (lead_time, latitude, longitude) each, in one pass."""
    valid_time = members["init_time"].values + members["lead_time"].values
    observed = observed_at(truth, valid_time)
    # The forecast's coordinates, so that rounding in the last digit cannot drop cells.
    observed = observed.rename(time="lead_time").transpose("lead_time", "latitude", "longitude")
    observed = members.isel(number=0, drop=True).copy(data=observed.data)
    fields = {"observation": observed, "member_0": members.isel(number=0, drop=True)}
    if members.sizes["number"] > 1:
        fields["member_1"] = members.isel(number=1, drop=True)
        fields["mean"] = members.mean("number", skipna=False)
        fields["spread"] = members.std("number", ddof=1, skipna=False)
    fields["error"] = fields.get("mean", fields["member_0"]) - observed
    return xr.Dataset(fields).load()


def _annotate(
    axes: npt.NDArray[Any],
    fields: xr.Dataset,
    edges: Edges,
    outline: list[npt.NDArray[np.float64]],
) -> None:
    """Add titles, degrees, coastlines and the lead time of each row."""
    from matplotlib.collections import LineCollection
    from matplotlib.ticker import MultipleLocator

    for panel, name in zip(axes[0], fields, strict=True):
        single = "mean" not in fields and name == "error"
        panel.set_title("member 0 minus obs." if single else _TITLES[str(name)], fontsize=11)
    leads = fields["lead_time"].values
    labels = lead_labels(hours(leads))
    for panel, label, valid in zip(
        axes[:, 0], labels, fields["init_time"].values + leads, strict=True
    ):
        day, clock = format_time(valid).split(" ", 1)
        panel.set_ylabel(
            f"{label}\n{day}\n{clock}", rotation=0, ha="right", va="center", fontsize=9
        )
    for panel in axes.flat:
        # Two seams to the west and east cover every convention of longitude.
        for shift in (-360, 0, 360):
            moved = [line + np.array([shift, 0.0]) for line in outline]
            panel.add_collection(LineCollection(moved, colors="0.15", linewidths=0.6))
        panel.set_xlim(edges[0].min(), edges[0].max())
        panel.set_ylim(edges[1].min(), edges[1].max())
        panel.tick_params(labelsize=8)
        for axis, span, name in (
            (panel.xaxis, np.ptp(edges[0]), degrees_east),
            (panel.yaxis, np.ptp(edges[1]), degrees_north),
        ):
            axis.set_major_locator(MultipleLocator(map_step(span, count=4)))
            axis.set_major_formatter(name)


def _edges(centres: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Edges midway between cell centres, and as far beyond the outer ones."""
    inner = (centres[1:] + centres[:-1]) / 2
    return np.concatenate(
        [[2 * centres[0] - inner[0]], inner, [2 * centres[-1] - inner[-1]]], dtype=np.float64
    )


def _outline(fields: xr.Dataset, edges: Edges) -> list[npt.NDArray[np.float64]]:
    """Cell sides that part valid cells from masked ones, each as ((x0, y0), (x1, y1))."""
    shown = fields[["observation", "member_0"]].to_array().values
    valid = np.isfinite(shown).any(axis=(0, 1))
    x, y = edges
    sides = []
    for row, column in np.argwhere(np.diff(valid, axis=1)):
        sides.append(((x[column + 1], y[row]), (x[column + 1], y[row + 1])))
    for row, column in np.argwhere(np.diff(valid, axis=0)):
        sides.append(((x[column], y[row + 1]), (x[column + 1], y[row + 1])))
    return [np.array(side) for side in sides]


@lru_cache
def _coastlines(span: float) -> list[npt.NDArray[np.float64]]:
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
