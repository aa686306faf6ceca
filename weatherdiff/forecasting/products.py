"""What is published of an ensemble beside its members, or instead of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import ConfigError

__all__ = ["Products", "Thresholds"]

Array = npt.NDArray[np.floating]
_CHUNK_BYTES = 64e6  # of the members in float64, in one piece of latitudes


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of one variable, in its unit, ascending.

    Attributes
    ----------
    above : tuple of float
        The event is a greater value.
    below : tuple of float
        The event is a lesser one.
    """

    above: tuple[float, ...] = ()
    below: tuple[float, ...] = ()


@dataclass(frozen=True)
class Products:
    """Mean, spread, quantiles and probabilities of an ensemble.

    Parameters
    ----------
    mean : bool
    spread : bool
        Standard deviation of the members, with M - 1.
    quantiles : tuple of float
        Between 0 and 1, interpolated linearly between the members in their order.
    exceedance : mapping
        Variable -> thresholds. Of a variable with levels, all of these, or with the level
        appended, one: ``"temperature_850"``.

    Examples
    --------
    >>> dims = ("init_time", "lead_time", "number", "latitude", "longitude")
    >>> field = (dims, np.array([271.0, 273.0, 275.0]).reshape(1, 1, 3, 1, 1), {"units": "K"})
    >>> products = Products(mean=True, exceedance={"t": Thresholds(above=(272.0,))})
    >>> made = products.of(xr.Dataset({"t": field}))
    >>> made["t_mean"].item(), round(made["t_above"].item(), 3), made["t_above"].dims[2]
    (273.0, 0.667, 'threshold_t_above')
    """

    mean: bool = False
    spread: bool = False
    quantiles: tuple[float, ...] = ()
    exceedance: Mapping[str, Thresholds] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        """Whether there is anything to make."""
        return bool(self.mean or self.spread or self.quantiles or self.exceedance)

    def require(self, example: xr.Dataset) -> None:
        """Refuse thresholds of what is not forecast.

        Raises
        ------
        ConfigError
            There is no such variable.
        """
        names = [name for variable in example.data_vars.values() for name in _names(variable)]
        for name in self.exceedance:
            if name not in names:
                raise ConfigError(
                    f"forecast.products: there is no variable {name!r} to exceed a threshold; the "
                    f"model has {', '.join(names)}."
                )

    def of(self, block: xr.Dataset) -> xr.Dataset:
        """Make them of some frames.

        The arithmetic is in float64, a piece of latitudes at a time: beside ``block`` and the
        result, memory is about three times 64 MB, or as many members of one row.

        Parameters
        ----------
        block : (init_time, lead_time, number[, level], latitude, longitude)
            All members, in physical units. NaN in a member is NaN in the result.

        Returns
        -------
        (init_time, lead_time[, quantile or threshold][, level], latitude, longitude)
            For a variable ``t``: ``t_mean``, ``t_spread``, ``t_quantile``, ``t_above`` and
            ``t_below``, float32; the last two are the share of the members beyond the thresholds
            ``threshold_t_above`` and ``threshold_t_below``.
        """
        made: dict[str, Any] = {}
        coords = {
            name: (coord.dims, coord.values, coord.attrs)
            for name, coord in block.coords.items()
            if "number" not in coord.dims
        }
        for variable in block.data_vars.values():
            for name, part, reduction in self._reductions(variable):
                made[name] = _reduced(part, reduction)
                if reduction.along is not None:
                    along, values, attributes = reduction.along
                    coords[along] = ((along,), np.array(values, np.float64), attributes)
        return xr.Dataset(made, coords)

    def _reductions(self, x: xr.DataArray) -> Iterator[tuple[str, xr.DataArray, _Reduction]]:
        """Name what is to be made of a variable."""
        name, what = str(x.name), x.attrs.get("long_name", x.name)
        if self.mean:
            yield (
                f"{name}_mean",
                x,
                _Reduction(
                    lambda v: v.mean(0),
                    {
                        **x.attrs,
                        "long_name": f"ensemble mean of {what}",
                        "cell_methods": "realization: mean",
                    },
                ),
            )
        if self.spread:
            yield (
                f"{name}_spread",
                x,
                _Reduction(
                    lambda v: v.std(0, ddof=1),
                    {
                        **x.attrs,
                        "long_name": f"ensemble standard deviation of {what}",
                        "cell_methods": "realization: standard_deviation",
                        "comment": "square root of the unbiased variance (M - 1)",
                    },
                ),
            )
        if self.quantiles:
            yield f"{name}_quantile", x, _Reduction(
                lambda v: np.quantile(v, self.quantiles, axis=0),
                {**x.attrs, "long_name": f"ensemble quantiles of {what}",
                 "comment": "linear between the members in their order"},
                ("quantile", self.quantiles, {"long_name": "probability", "units": "1"}),
            )  # fmt: skip
        for event, part in _names(x).items():
            thresholds = self.exceedance.get(event, Thresholds())
            for side, values in (("above", thresholds.above), ("below", thresholds.below)):
                if values:
                    yield f"{event}_{side}", part, _Reduction(
                        _share(values, side),
                        {"long_name": f"probability that {what} is {side} the threshold",
                         "units": "1", "comment": "share of the members",
                         **({"level": event.removeprefix(f"{name}_")} if event != name else {})},
                        (f"threshold_{event}_{side}", values,
                         {"long_name": "threshold", "units": x.attrs.get("units", "")}),
                    )  # fmt: skip


@dataclass(frozen=True)
class _Reduction:
    """From (number, cells) to ([along,] cells)."""

    make: Callable[[Array], Array]
    attributes: Mapping[str, Any]
    along: tuple[str, tuple[float, ...], dict[str, str]] | None = None


def _names(x: xr.DataArray) -> dict[str, xr.DataArray]:
    """Give a variable, and each of its levels, by the names by which they are asked for."""
    if "level" not in x.dims:
        return {str(x.name): x}
    levels = enumerate(x["level"].values)
    parts = {f"{x.name}_{level:g}": x.isel(level=i, drop=True) for i, level in levels}
    return {str(x.name): x, **parts}


def _share(thresholds: tuple[float, ...], side: str) -> Callable[[Array], Array]:
    beyond = np.greater if side == "above" else np.less

    def share(values: Array) -> Array:
        unknown = np.isnan(values).any(0)
        shares = [beyond(values, threshold).mean(0) for threshold in thresholds]
        return np.where(unknown, np.nan, np.stack(shares))

    return share


def _reduced(x: xr.DataArray, reduction: _Reduction) -> xr.Variable:
    """Take the members away, a piece of latitudes at a time."""
    members = x.dims.index("number")
    rows = x.dims.index("latitude") - (x.dims.index("latitude") > members)
    values = np.moveaxis(x.to_numpy(), members, 0)
    dims = [str(dim) for dim in x.dims if dim != "number"]
    sizes = list(values.shape[1:])
    place = dims.index("lead_time") + 1
    if reduction.along is not None:
        dims.insert(place, reduction.along[0])
        sizes.insert(place, len(reduction.along[1]))
    result = np.empty(sizes, np.float32)
    step = max(1, int(_CHUNK_BYTES // (8 * max(1, values.size // x.sizes["latitude"]))))
    for start in range(0, x.sizes["latitude"], step):
        part = slice(start, start + step)
        piece = values[(slice(None),) * (rows + 1) + (part,)].astype(np.float64)
        made = reduction.make(piece)
        if reduction.along is not None:
            made = np.moveaxis(made, 0, place)
        result[(slice(None),) * dims.index("latitude") + (part,)] = made
    return xr.Variable(dims, result, dict(reduction.attributes))
