r"""Canonical fields on another latitude-longitude grid.

Both grids are products of two axes, and so are the weights: a field :math:`S` becomes
:math:`T = R\,S\,C^T` with one sparse matrix for the rows and one for the columns.

*conservative*: the share of each source cell in a target cell, of the exact area on the sphere,

.. math:: R_{ji} = \frac{|[\sin a_j, \sin b_j] \cap [\sin a_i, \sin b_i]|}{\sin b_j - \sin a_j}

with cell edges as in :mod:`weatherdiff.grid`, and likewise in longitude, round the globe. The sum
of :math:`T` times area is that of :math:`S`.

*linear*: between the two neighbouring centres on each axis. Beyond the outermost centre, but within
its cell, that centre's value is taken: nothing is extrapolated.

A target cell into which a missing value enters is missing.

xarray-regrid 0.4.2 was tried for this. Its conservative weights take the area of a cell as evenly
spread over its latitudes and add rows at the poles: the area mean of noise on 32 x 64 changes by
3e-4 of its standard deviation, and with ``skipna=False`` missing values count as 0.

References
----------
Jones (1999), First- and second-order conservative remapping schemes for grids in spherical
coordinates, doi:10.1175/1520-0493(1999)127<2204:FASOCR>2.0.CO;2 (equation 3, constant in a cell).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.sparse import csr_array

from weatherdiff.errors import ConfigError, InputError
from weatherdiff.grid import Grid

__all__ = ["Method", "covered", "lattice", "regridded"]

Method = Literal["conservative", "linear"]
Vector = npt.NDArray[np.float64]

_NEARLY = 1e-6  # of a cell: coordinates are rounded
_DEGREES = 1e-4


def lattice(resolution: float) -> Grid:
    """Give the global grid of square cells, none centred at a pole, one at the Greenwich meridian.

    Raises
    ------
    ConfigError
        The resolution does not divide 180 degrees, or is not between 0 and 60.

    Examples
    --------
    >>> grid = lattice(45)
    >>> print(grid.latitude, grid.longitude[:3])
    [-67.5 -22.5  22.5  67.5] [ 0. 45. 90.]
    """
    count = round(180 / resolution) if 0 < resolution <= 60 else 0
    if not count or abs(count * resolution - 180) > _DEGREES:
        raise ConfigError(
            f"regrid: a resolution of {resolution:g} degrees does not divide 180; give one that "
            "does (2.5, 1.5, 0.7031250), or latitude and longitude themselves."
        )
    rows, columns = np.arange(count, dtype=np.float64), np.arange(2 * count, dtype=np.float64)
    step = 180 / count
    return Grid(-90 + step * (rows + 0.5), step * columns)


def covered(
    source: Grid, target: Grid, method: Method
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Tell which rows and which columns of a target the source has data for, wholly."""
    return tuple(known for _, known in _axes(source, target, method))  # type: ignore[return-value]


def regridded(ds: xr.Dataset, target: Grid, method: Method) -> xr.Dataset:
    """Bring a canonical Dataset to another grid, lazily.

    Parameters
    ----------
    ds : Dataset
        (..., latitude, longitude), whole fields in each chunk or not.
    target : Grid
        In canonical order.
    method : {"conservative", "linear"}

    Returns
    -------
    Dataset
        float32, with the same attributes.

    Raises
    ------
    InputError
        The target reaches beyond the data.

    Examples
    --------
    >>> field = xr.DataArray(
    ...     [[0.0, 2.0, 4.0, 6.0], [10.0, 12.0, 14.0, 16.0]],
    ...     {"latitude": [-45.0, 45.0], "longitude": [0.0, 90.0, 180.0, 270.0]},
    ...     ("latitude", "longitude"),
    ... )
    >>> target = Grid([-45, 45], [45.0, 225.0])
    >>> print(regridded(field.to_dataset(name="t"), target, "conservative")["t"].values)
    [[ 1.  5.]
     [11. 15.]]
    """
    source = Grid.from_dataset(ds)
    weights = []
    for name, (matrix, known) in zip(
        ("latitude", "longitude"), _axes(source, target, method), strict=True
    ):
        if not known.all():
            ours, theirs = getattr(source, name), getattr(target, name)
            raise InputError(
                f"regrid: {name} {theirs[~known][0]:g} is beyond the data, which go from "
                f"{ours[0]:g} to {ours[-1]:g}; choose a grid inside of them, or a region."
            )
        weights.append(matrix)
    rows, columns = weights
    dims = ["latitude", "longitude"]
    whole = ds.chunk({d: -1 for d in dims if len(ds.chunksizes.get(d, ())) > 1})
    moved: dict[Any, Any] = {}
    for variable, field in whole.data_vars.items():
        moved[variable] = xr.apply_ufunc(
            _blocks,
            field,
            input_core_dims=[dims],
            output_core_dims=[dims],
            exclude_dims=set(dims),
            kwargs={"rows": rows, "columns": columns},
            dask="parallelized",
            dask_gufunc_kwargs={"output_sizes": dict(zip(dims, target.shape, strict=True))},
            output_dtypes=[np.float32],
            keep_attrs=True,
        )
    kept = {key: ds[key] for key in ds.coords if key not in dims}
    axes = {d: (d, getattr(target, d), ds[d].attrs) for d in dims}
    return xr.Dataset(moved, attrs=ds.attrs).assign_coords(kept).assign_coords(axes)


def _blocks(
    values: npt.NDArray[Any], *, rows: csr_array, columns: csr_array
) -> npt.NDArray[np.float32]:
    """(..., latitude, longitude) on another grid; one field after the other, in float64."""
    shape = (*values.shape[:-2], rows.shape[0], columns.shape[0])
    out = np.empty((int(np.prod(shape[:-2], dtype=int)), *shape[-2:]), np.float32)
    for field, result in zip(values.reshape(-1, *values.shape[-2:]), out, strict=True):
        missing = np.isnan(field)
        if missing.any():
            result[...] = _product(rows, np.where(missing, 0, field), columns)
            result[_product(rows, missing.astype(np.float64), columns) > _NEARLY] = np.nan
        else:
            result[...] = _product(rows, field, columns)
    return out.reshape(shape)


def _product(rows: csr_array, field: npt.NDArray[Any], columns: csr_array) -> npt.NDArray[Any]:
    halfway = np.ascontiguousarray((rows @ field.astype(np.float64, copy=False)).T)
    return np.asarray((columns @ halfway).T)


def _axes(
    source: Grid, target: Grid, method: Method
) -> tuple[tuple[csr_array, npt.NDArray[np.bool_]], tuple[csr_array, npt.NDArray[np.bool_]]]:
    """For rows and columns: weights (target, source), and where they are of data alone."""
    if method == "conservative":
        ours, theirs = (np.sin(np.deg2rad(grid.latitude_edges)) for grid in (source, target))
        return _overlap(ours, theirs), _overlap(source.longitude_edges, target.longitude_edges, 360)
    columns = source.longitude, source.longitude_edges
    return (
        _between(source.latitude, source.latitude_edges, target.latitude),
        _between(*columns, target.longitude, 360 if source.is_periodic else None),
    )


def _overlap(
    source: Vector, target: Vector, period: float | None = None
) -> tuple[csr_array, npt.NDArray[np.bool_]]:
    """Shares of target cells that lie in each source cell, from increasing edges."""
    turns = [0.0]
    if period is not None:
        first = np.floor((target[0] - source[-1]) / period)
        last = np.ceil((target[-1] - source[0]) / period)
        turns = [period * k for k in np.arange(first, last + 1)]
    shares = np.zeros((len(target) - 1, len(source) - 1))
    for turn in turns:
        low = np.maximum(target[:-1, None], source[:-1] + turn)
        high = np.minimum(target[1:, None], source[1:] + turn)
        shares += np.maximum(high - low, 0)
    total = shares.sum(axis=1)
    known = total >= (1 - _NEARLY) * np.diff(target)
    shares[known] /= total[known, None]
    shares[shares < _NEARLY * shares.max(axis=1, keepdims=True)] = 0  # edges equal but for rounding
    shares /= np.where(known, shares.sum(axis=1), 1)[:, None]
    return csr_array(shares), known


def _between(
    source: Vector, edges: Vector, target: Vector, period: float | None = None
) -> tuple[csr_array, npt.NDArray[np.bool_]]:
    """Weights of the two neighbours among increasing centres."""
    nodes = source
    if period is not None:
        nodes = np.append(source, source[0] + period)
        target = source[0] + np.mod(target - source[0], period)
        known = np.ones(len(target), bool)
    else:
        # longitudes of a region may be given in the other convention
        if target.max() > edges[-1] + _DEGREES and target.min() - 360 >= edges[0] - _DEGREES:
            target = target - 360
        elif target.min() < edges[0] - _DEGREES and target.max() + 360 <= edges[-1] + _DEGREES:
            target = target + 360
        known = (target >= edges[0] - _DEGREES) & (target <= edges[-1] + _DEGREES)
    target = np.clip(target, nodes[0], nodes[-1])
    left = np.clip(np.searchsorted(nodes, target, side="right") - 1, 0, len(nodes) - 2)
    share = (target - nodes[left]) / (nodes[left + 1] - nodes[left])
    share[share < _NEARLY], share[share > 1 - _NEARLY] = 0, 1
    number = np.arange(len(target))
    weights = csr_array(
        (
            np.concatenate([1 - share, share]),
            (np.tile(number, 2), np.concatenate([left, (left + 1) % len(source)])),
        ),
        shape=(len(target), len(source)),
    )
    weights.eliminate_zeros()
    return weights, known
