"""Refuse fields that no atmosphere has: missing, infinite, out of range, levels in another order.

Opening looks at the first field of each variable only. This looks at every value, and is meant for
the few times a forecast starts from.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.quality.rules import FEW, Range, levels_out_of_order, range_of
from weatherdiff.data.sources.formats import load
from weatherdiff.errors import InputError, UnitsError
from weatherdiff.grid import Grid

__all__ = ["require_sound"]

Floats = npt.NDArray[np.float64]


def require_sound(ds: xr.Dataset, *, missing: xr.Dataset | None = None) -> xr.Dataset:
    """Look at every value of a data set.

    Parameters
    ----------
    ds : xr.Dataset
        Canonical, as :func:`weatherdiff.open_fields` gives it; a few times of it.
    missing : xr.Dataset, optional
        Cells that may be missing, by variable: True where (no time), as the sea is in data of the
        land. None may be by default.

    Returns
    -------
    xr.Dataset
        The same, in memory.

    Raises
    ------
    InputError
        Values are missing, infinite or physically impossible, or the levels of geopotential,
        temperature or specific humidity are not in the order of their labels. Variable, time and
        fraction of the values are named.
    UnitsError
        The mean of a field is that of other units.

    Examples
    --------
    >>> from weatherdiff import open_fields
    >>> ds = open_fields("sample:uk-2018", variables=["2m_temperature"]).isel(time=[0, 1])
    >>> sea = ds.isel(time=0, drop=True).isnull()
    >>> require_sound(ds, missing=sea).sizes["time"]
    2
    >>> require_sound(ds)
    Traceback (most recent call last):
    ...
    weatherdiff.errors.InputError: 2m_temperature at 2018-06-01T00:00: 55.4% of its values are ...
    """
    ds = load(ds)
    weights = Grid.from_dataset(ds).area_weights().values
    for name, field in ds.data_vars.items():
        allowed = np.zeros((), bool)
        if missing is not None and name in missing:
            allowed = missing[name].values.astype(bool)
        known = range_of(str(name), field.attrs)
        for when, values in _times(field):
            where = f"{name} at {when}" if when else str(name)
            _require_present(where, values, allowed)
            means = _means(values, weights)
            _require_possible(where, known, values, most=FEW)
            _require_plausible(where, known, means)
            _require_possible(where, known, values)
            if "level" in field.dims:
                _require_order(where, str(name), means, field["level"].values)
    return ds


def _times(field: xr.DataArray) -> Iterator[tuple[str, Floats]]:
    """Each time and its values ([level,] latitude, longitude)."""
    if "time" not in field.dims:
        yield "", field.values.astype(np.float64)
        return
    for index in range(field.sizes["time"]):
        time = field["time"].values[index]
        when = np.datetime_as_string(time, "m") if field["time"].dtype.kind == "M" else str(time)
        yield when, field.isel(time=index).values.astype(np.float64)


def _require_present(where: str, values: Floats, allowed: npt.NDArray[np.bool_]) -> None:
    for what, bad in (
        ("infinite", np.isinf(values)),
        ("missing", np.isnan(values) & ~np.broadcast_to(allowed, values.shape)),
    ):
        if bad.any():
            raise InputError(
                f"{where}: {_share(bad)} of its values are {what}; fetch it again, or start from "
                "another time."
            )


def _require_possible(where: str, known: Range, values: Floats, most: float = 1.0) -> None:
    with np.errstate(invalid="ignore"):
        bad = (values < known.low) | (values > known.high)
    if bad.any() and bad.sum() <= most * np.isfinite(values).sum():
        worst = values[bad][np.abs(values[bad]).argmax()]
        raise InputError(
            f"{where}: {_share(bad)} of its values are out of the range that is possible, "
            f"{known.low:g} to {known.high:g} {known.units}; the worst is {worst:g}."
        )


def _means(values: Floats, weights: Floats) -> Floats:
    """Area means of each level, (level,), over the cells that there are."""
    values = values.reshape(-1, *weights.shape)
    there = np.isfinite(values)
    total = (there * weights).sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, values * weights, 0).sum(axis=(1, 2)) / total)


def _require_plausible(where: str, known: Range, means: Floats) -> None:
    with np.errstate(invalid="ignore"):
        bad = (means < known.mean_low) | (means > known.mean_high)
    if bad.any():
        worst = float(means[bad][0])
        raise UnitsError(
            f"{where}: its mean is {worst:g} {known.units} in {_share(bad)} of its fields, "
            f"expected {known.mean_low:g} to {known.mean_high:g}{known.guess(worst)}."
        )


def _require_order(where: str, name: str, means: Floats, levels: Floats) -> None:
    wrong = levels_out_of_order(name, levels.astype(np.float64), means)
    if wrong.any():
        raise InputError(
            f"{where}: {_share(wrong)} of its levels are not in the order of their labels, the "
            f"first at {levels[wrong].min():g} hPa; the levels were shuffled, or mislabelled."
        )


def _share(bad: npt.NDArray[np.bool_]) -> str:
    return f"{bad.mean():.3g}" if bad.mean() < 0.001 else f"{bad.mean():.1%}"
