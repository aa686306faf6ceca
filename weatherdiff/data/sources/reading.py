"""Several sources as one: each opened by itself, brought to one region and grid, then joined."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import xarray as xr

from weatherdiff.data.open import check_known, merge_parts, open_fields
from weatherdiff.data.sources.combine import Join, combine, order_times
from weatherdiff.data.sources.placement import HISTORY, PLACED, Region, Regridding, placed
from weatherdiff.data.sources.source import SOURCES
from weatherdiff.errors import InputError
from weatherdiff.layout import LAYOUT, Layout
from weatherdiff.schema import validate

__all__ = ["Reading", "open_sources"]

_LOG = logging.getLogger(__name__)

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Reading:
    """One source: the arguments of :func:`weatherdiff.open_fields` that are its own.

    Parameters
    ----------
    paths : path or list of paths
    variables : sequence of str, optional
    rename, units : mapping
    engine : str, optional
    storage_options : mapping
    """

    paths: Path | Sequence[Path]
    variables: Sequence[str] | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    engine: str | None = None
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """For messages."""
        paths = [self.paths] if isinstance(self.paths, str | os.PathLike) else list(self.paths)
        return ", ".join(os.fspath(path) for path in paths[:3]) + (", ..." if paths[3:] else "")

    def open(
        self, variables: Sequence[str] | None = None, levels: Sequence[float] | None = None
    ) -> xr.Dataset:
        """Open it; its own choice of variables comes first."""
        return open_fields(
            self.paths,
            variables=self.variables if self.variables is not None else variables,
            levels=levels,
            rename=self.rename,
            units=self.units,
            engine=self.engine,
            storage_options=self.storage_options,
        )


def open_sources(
    readings: Sequence[Reading],
    *,
    variables: Sequence[str] | None = None,
    levels: Sequence[float] | None = None,
    region: Region | None = None,
    regridding: Regridding | None = None,
    join: Join = "exact",
) -> xr.Dataset:
    """Open sources and join them, on one region and grid.

    Parameters
    ----------
    readings : sequence of Reading
        At least one.
    variables : sequence of str, optional
        Variables of the result, by canonical or own name, in this order; all by default.
    levels : sequence of float, optional
        Pressure levels of the result [hPa].
    region : Region, optional
    regridding : Regridding, optional
        Sources on different grids need it.
    join : {"exact", "inner", "outer"}
        Of the times of different variables, see :func:`weatherdiff.data.sources.combine.combine`.

    Returns
    -------
    Dataset
        As :func:`weatherdiff.open_fields` gives it, lazy.

    Raises
    ------
    WeatherdiffError
        What :func:`~weatherdiff.open_fields`,
        :func:`~weatherdiff.data.sources.placement.placed` and
        :func:`~weatherdiff.data.sources.combine.combine` raise.

    Examples
    --------
    >>> here = Reading("sample:uk-2018", variables=["Tair"])
    >>> there = Reading("sample:uk-2018", variables=["PSurf"])
    >>> list(open_sources([here, there], region=Region((50, 55), (-4, 2))))
    ['2m_temperature', 'surface_pressure']
    """
    if len(readings) == 1:
        ds = readings[0].open(variables, levels)
        return placed(ds, region=region, regridding=regridding)
    history: list[str] = []

    def note(text: str) -> None:
        if text not in history:
            history.append(text)
            _LOG.info(text)

    parts = []
    for reading in readings:
        part = placed(reading.open(), region=region, regridding=regridding)
        history += [t for t in part.attrs[HISTORY].splitlines() if t not in history]
        parts.append((reading.name, part))
    layouts = [Layout.from_dict(json.loads(part.attrs[LAYOUT])) for _, part in parts]
    wanted = _chosen(variables, parts, layouts)
    if wanted is not None:
        parts = [(name, part[[n for n in part if n in wanted]]) for name, part in parts]
        layouts = [layout for layout, (_, part) in zip(layouts, parts, strict=True) if len(part)]
        parts = [(name, part) for name, part in parts if len(part)]
    ds = order_times(combine(parts, levels, join=join, note=note), note)
    if wanted is not None:
        ds = ds[wanted]
    ds.attrs = {**parts[0][1].attrs, LAYOUT: json.dumps(merge_parts(layouts, ds).to_dict())}
    ds.attrs[HISTORY] = "\n".join(history)
    places = [part.attrs[PLACED] for _, part in parts if PLACED in part.attrs]
    if places:
        ds.attrs[PLACED] = places[0]
    validate(ds)
    files: dict[str, Any] = {}
    for _, part in parts:
        files |= part.encoding.get(SOURCES, {}).get("files", {})
    ds.encoding[SOURCES] = {"files": files, "chunk": 1}  # the pieces begin anywhere
    return ds


def _chosen(
    variables: Sequence[str] | None,
    parts: Sequence[tuple[str, xr.Dataset]],
    layouts: Sequence[Layout],
) -> list[str] | None:
    """Canonical names of the variables asked for."""
    if variables is None:
        return None
    present = {str(name) for _, part in parts for name in part.data_vars}
    own = [(old, new) for layout in layouts for new, old in layout.names.items() if new in present]
    check_known("variables", variables, present | {old for old, _ in own})
    chosen: dict[str, None] = {}
    for name in variables:
        meant = [new for old, new in own if old == name] or [name]
        chosen.update(dict.fromkeys(meant))
    if not chosen:
        raise InputError("no variable is asked for.")
    return list(chosen)
