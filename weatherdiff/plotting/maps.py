"""Maps of one forecast beside what was observed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.calendars import after
from weatherdiff.grid import Grid
from weatherdiff.plotting.appearance import (
    COLORS,
    FieldStyle,
    display_units,
    field_style,
    format_time,
    lead_labels,
    shown_units,
    title_of,
)
from weatherdiff.plotting.frame import put_title
from weatherdiff.plotting.geography import (
    Edges,
    bar_axes,
    cell_edges,
    finish_maps,
    map_panels,
)
from weatherdiff.plotting.selection import (
    forecast_and_observation,
    hours,
    observed_at,
    pick_leads,
    single_init,
)

if TYPE_CHECKING:
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
    stored = members.attrs.get("units")
    fields = _fields(members, truth)
    units = dict.fromkeys(_SCALES, display_units(stored)) | {"field": shown_units(stored, variable)}

    edges = cell_edges(grid)
    figure, axes = map_panels(fields.sizes["lead_time"], len(fields), edges)
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
        group = group.map(units[scale].value_of)
        columns = [list(fields).index(name) for name in group]
        mesh = _draw(axes[:, columns], edges, grid, group, style)
        bar = figure.colorbar(
            mesh,
            cax=bar_axes(figure, axes[-1, columns]),
            orientation="horizontal",
            label=units[scale].axis_label(quantity),
            extend="max" if style.anchor == "zero" else "both",
        )
        bar.ax.locator_params(nbins=4 if len(columns) == 1 else 7)
        bar.ax.tick_params(labelsize=8)

    for panel, name in zip(axes[0], fields, strict=True):
        single = "mean" not in fields and name == "error"
        panel.set_title("member 0 minus obs." if single else _TITLES[str(name)], fontsize=11)
    shown = fields[["observation", "member_0"]].to_array().values
    valid = np.isfinite(shown).any(axis=(0, 1))
    finish_maps(axes, edges, valid=valid, rows=_row_labels(fields))
    height = figure.get_figheight()
    put_title(
        figure,
        f"{title_of(variable).capitalize()}, forecast from "
        f"{format_time(members['init_time'].values)}",
        y=1 - 0.1 / height,
    )
    return figure


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
    valid_time = after(members["init_time"].values, members["lead_time"].values)
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


def _row_labels(fields: xr.Dataset) -> list[str]:
    """Lead time and valid time of each row."""
    leads = fields["lead_time"].values
    rows = []
    times = after(fields["init_time"].values, leads)
    for label, valid in zip(lead_labels(hours(leads)), times, strict=True):
        day, clock = format_time(valid).split(" ", 1)
        rows.append(f"{label}\n{day}\n{clock}")
    return rows
