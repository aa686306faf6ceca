"""The border between named variables and the channel axis of a tensor.

A channel is one variable at one level. This is the only place where a Dataset becomes an array
``(time, channel, latitude, longitude)`` or an array becomes a Dataset again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from weatherdiff.errors import DimensionError, InputError

__all__ = ["Channels", "channel_label"]


def channel_label(variable: str, level: float | None = None) -> str:
    """Name a variable at a level.

    Examples
    --------
    >>> channel_label("2m_temperature"), channel_label("geopotential", 500.0)
    ('2m_temperature', 'geopotential_500')
    """
    return variable if level is None else f"{variable}_{level:g}"


@dataclass(frozen=True)
class Channels:
    """An ordered set of (variable, level), with the attributes of the variables.

    Parameters
    ----------
    variables : tuple of str
        Variable of each channel.
    levels : tuple of (float or None)
        Level of each channel in hPa, None at a single level.
    attributes : mapping
        Variable -> CF attributes (units, standard_name, long_name), given back on output.

    Examples
    --------
    >>> ds = xr.Dataset(
    ...     {"z": (("time", "level", "latitude", "longitude"), np.zeros((1, 2, 3, 4))),
    ...      "t2m": (("time", "latitude", "longitude"), np.ones((1, 3, 4)))},
    ...     {"level": [500, 850]})
    >>> channels = Channels.from_dataset(ds)
    >>> channels.labels
    ('z_500', 'z_850', 't2m')
    >>> xr.testing.assert_identical(channels.unstack(channels.stack(ds)), ds.astype("float32"))
    """

    variables: tuple[str, ...]
    levels: tuple[float | None, ...]
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_dataset(cls, ds: xr.Dataset, variables: Iterable[str] | None = None) -> Channels:
        """Take the time-dependent variables of a canonical Dataset, in their order.

        Raises
        ------
        InputError
            A variable is absent, none depends on time, or two channels would have one name.
        """
        names = [str(n) for n in ds.data_vars if "time" in ds[n].dims]
        if variables is not None:
            absent = [n for n in variables if n not in names]
            if absent:
                raise InputError(
                    f"No time-dependent variable {', '.join(absent)}; the data have "
                    f"{', '.join(names) or 'none'}."
                )
            names = list(variables)
        if not names:
            raise InputError("No variable of the data set depends on time.")
        flat = [
            (name, level)
            for name in names
            for level in (map(float, ds["level"].values) if "level" in ds[name].dims else [None])
        ]
        kept = ("units", "standard_name", "long_name")
        attributes = {n: {k: ds[n].attrs[k] for k in kept if k in ds[n].attrs} for n in names}
        found = cls(tuple(n for n, _ in flat), tuple(lev for _, lev in flat), attributes)
        twice = [label for label, count in Counter(found.labels).items() if count > 1]
        if twice:
            raise InputError(
                f"{', '.join(twice)} would be the name of two channels: of a variable and of a "
                "level of another; rename the variable, or leave one out."
            )
        return found

    def __len__(self) -> int:
        return len(self.variables)

    @property
    def labels(self) -> tuple[str, ...]:
        """One unique name per channel."""
        return tuple(map(channel_label, self.variables, self.levels))

    @property
    def units(self) -> tuple[str, ...]:
        """Units of each channel, "" where unknown."""
        return tuple(str(self.attributes.get(v, {}).get("units", "")) for v in self.variables)

    def stack(self, ds: xr.Dataset) -> xr.DataArray:
        """Lay the variables along one axis.

        Returns
        -------
        (time, channel, latitude, longitude)
            float32, lazy if ``ds`` is.

        Raises
        ------
        InputError
            A variable or level is absent.
        """
        fields = []
        for variable, level in zip(self.variables, self.levels, strict=True):
            if variable not in ds:
                raise InputError(
                    f"The data have no {variable}; they have {', '.join(map(str, ds.data_vars))}."
                )
            values = ds[variable]
            if level is not None:
                if "level" not in values.dims or level not in values["level"].values:
                    raise InputError(f"The data have no {variable} at level {level:g} hPa.")
                values = values.sel(level=level, drop=True)
            elif "level" in values.dims:
                raise DimensionError(f"{variable} has levels, but one level was expected.")
            fields.append(values.drop_vars(["level"], errors="ignore").astype(np.float32))
        stacked = xr.concat(
            fields,
            dim=xr.Variable("channel", np.array(self.labels, dtype=object)),
            coords="minimal",
            compat="override",
            join="exact",
            combine_attrs="drop",
        )
        return stacked.rename(None).transpose("time", "channel", "latitude", "longitude")

    def unstack(self, array: xr.DataArray) -> xr.Dataset:
        """Undo :meth:`stack`, for any leading dimensions.

        Parameters
        ----------
        array : (..., channel, latitude, longitude)

        Returns
        -------
        Dataset
            Variables (..., latitude, longitude) or (..., level, latitude, longitude).
        """
        if array.sizes.get("channel") != len(self):
            raise DimensionError(
                f"{array.sizes.get('channel', 'no')} channels found, {len(self)} expected."
            )
        out = {}
        for variable in dict.fromkeys(self.variables):
            where = [i for i, name in enumerate(self.variables) if name == variable]
            if self.levels[where[0]] is None:
                values = array.isel(channel=where[0], drop=True)
            else:
                level = [self.levels[i] for i in where]
                values = array.isel(channel=where).drop_vars("channel", errors="ignore")
                values = values.rename(channel="level").assign_coords(level=_numbers(level))
            out[variable] = values.assign_attrs(self.attributes.get(variable, {}))
        return xr.Dataset(out)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "variables": list(self.variables),
            "levels": list(self.levels),
            "attributes": {k: dict(v) for k, v in self.attributes.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Channels:
        """Undo :meth:`to_dict`."""
        return cls(tuple(data["variables"]), tuple(data["levels"]), data["attributes"])


def _numbers(levels: list[float | None]) -> np.ndarray:
    """Levels as integers where they are whole, as most data sets have them."""
    values = np.array(levels, dtype=float)
    return values.astype(int) if (values == values.round()).all() else values
