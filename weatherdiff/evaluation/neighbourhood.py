r"""Fractions skill score: within what distance an event is forecast where it occurs.

The fraction of a neighbourhood that is in the event, as the ensemble gives it (the mean of the
members' probabilities, :math:`P`) and as observed (:math:`O`), is compared in windows of growing
size:

.. math:: \mathrm{FSS} = 1 - \frac{\overline{(P-O)^2}}{\overline{P^2}+\overline{O^2}}

Both averages add over cells and times; the ratio comes last. Cells that are missing or have no
weight are left out of the windows, which are cut at the edges of a region and closed round the
globe; they do not reach across a pole. Within a window cells count by their weight, so that with
cell areas the fraction is one of area.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import ndimage

from weatherdiff.errors import DimensionError, InputError
from weatherdiff.evaluation.exceedance import event_probability
from weatherdiff.grid import Grid

__all__ = ["fractions_skill_score", "fractions_sums"]

FloatArray = npt.NDArray[np.float64]
_CELLS = ("latitude", "longitude")


def fractions_skill_score(
    forecast: xr.DataArray,
    observation: xr.DataArray,
    *,
    threshold: float | xr.DataArray,
    windows: Sequence[int],
    above: bool = True,
    weights: xr.DataArray | None = None,
    pool: Hashable | Sequence[Hashable] = (),
    dim: str = "number",
) -> xr.DataArray:
    """Fractions skill score (FSS) of an ensemble for several neighbourhoods.

    A calibrated ensemble of few members scores less than one of many; compare equal sizes.

    Parameters
    ----------
    forecast : (number, ..., latitude, longitude)
        Ensemble, any unit. Without chunks in latitude and longitude.
    observation : (..., latitude, longitude)
        Verifying values in the same unit, without ``dim``.
    threshold : float or (..., latitude, longitude)
        In the same unit. Where it or the observation is NaN the cell is left out; a NaN in the
        forecast of any other cell makes the score NaN.
    windows : sequence of int
        Widths of the square neighbourhoods in cells, odd; 1 is the cell itself.
    above : bool
        Whether the event is a value greater than the threshold, or one less than it.
    weights : (latitude, longitude), optional
        At least zero; exact cell areas unless given. Zero leaves out, in the windows too.
    pool : dimension or sequence of them
        Dimensions, such as ``"init_time"``, over which one score is made of all cases.
    dim : str
        The ensemble dimension.

    Returns
    -------
    (..., window)
        From 0 to 1, best. NaN where the event is neither forecast nor observed anywhere. Lazy if
        the input is.

    Raises
    ------
    DimensionError
        ``dim`` missing from the forecast or present in the observation, or no latitude and
        longitude.
    GridMismatchError
        Weights are on another grid.
    InputError
        A window is not odd, or weights are negative or NaN.

    References
    ----------
    Roberts and Lean (2008), doi:10.1175/2007MWR2123.1. Necker et al. (2024), doi:10.1002/qj.4824.

    Examples
    --------
    >>> coords = {"latitude": [0.0, 1.0, 2.0], "longitude": [0.0, 1.0, 2.0, 3.0]}
    >>> observation = xr.DataArray(np.eye(3, 4), coords, ("latitude", "longitude"))
    >>> displaced = observation.roll(longitude=1).expand_dims("number")
    >>> equal = xr.ones_like(observation)
    >>> fractions_skill_score(
    ...     displaced, observation, threshold=0.5, windows=[1, 3], weights=equal
    ... ).values.round(2)
    array([0.  , 0.81])
    """
    for name in _CELLS:
        if name not in forecast.dims or name not in observation.dims:
            raise DimensionError(f"the forecast or the observation has no dimension {name}.")
    grid = Grid.from_dataset(observation)
    if weights is None:
        weights = grid.area_weights()
    elif set(_CELLS) <= set(weights.coords):
        grid.require_same(Grid.from_dataset(weights))
    probability, occurred = event_probability(forecast, observation, threshold, above, dim)
    sums = xr.apply_ufunc(
        fractions_sums,
        probability,
        occurred,
        # By position: coordinates of areas may differ in the last digit.
        weights.transpose(*_CELLS).drop_vars(_CELLS, errors="ignore"),
        input_core_dims=[_CELLS, _CELLS, _CELLS],
        output_core_dims=[["part", "window"]],
        kwargs={"windows": tuple(windows), "periodic": grid.is_periodic},
        join="exact",
        keep_attrs=False,
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"part": 2, "window": len(windows)}},
    )
    pooled = [pool] if isinstance(pool, str) or not isinstance(pool, Sequence) else list(pool)
    sums = sums.sum(pooled, skipna=False).assign_coords(window=list(windows))
    error, largest = sums.isel(part=0), sums.isel(part=1)
    return 1 - error / largest.where(largest > 0)


def fractions_sums(
    probability: FloatArray,
    occurred: FloatArray,
    weights: FloatArray,
    *,
    windows: Sequence[int],
    periodic: bool,
) -> FloatArray:
    r"""Weighted sums over the cells from which the fractions skill score follows.

    They add over times; FSS = 1 - error / largest of the totals.

    Parameters
    ----------
    probability : (..., latitude, longitude)
        Ensemble probability of the event. A NaN in a counted cell makes both sums NaN.
    occurred : (..., latitude, longitude)
        One where the event occurred, zero where not; NaN leaves the cell out.
    weights : (latitude, longitude)
        At least zero; zero leaves the cell out.
    windows : sequence of int
        Widths of the neighbourhoods in cells, odd. One that goes further than round the globe
        takes every cell once.
    periodic : bool
        Whether the last longitude neighbours the first.

    Returns
    -------
    (..., 2, window)
        The sums of :math:`w(P-O)^2` and of :math:`w(P^2+O^2)`.

    Raises
    ------
    InputError
        A window is not odd, or weights are negative or NaN.

    Examples
    --------
    >>> occurred = np.array([[0.0, 1.0, 0.0]])
    >>> fractions_sums(occurred[:, ::-1], occurred, np.ones((1, 3)), windows=[1], periodic=False)
    array([[0.],
           [2.]])
    """
    bad = [window for window in windows if window < 1 or window % 2 == 0]
    if bad or len(windows) == 0:
        raise InputError(f"windows are {list(windows)}, expected odd numbers of cells.")
    if not np.all(weights >= 0):
        raise InputError("weights are negative or NaN.")
    counted = ~np.isnan(occurred) & (weights > 0)
    shape = np.broadcast_shapes(probability.shape, counted.shape)
    share = np.where(counted, weights, 0.0)
    forecast = np.where(counted, probability, 0.0)
    missing = np.isnan(forecast)
    forecast = np.where(missing, 0.0, forecast)  # a running sum would not get rid of a NaN
    observed = np.where(counted, occurred, 0.0)
    sums = np.empty((*shape[:-2], 2, len(windows)))
    for i, window in enumerate(windows):
        size = [window, min(window, shape[-1]) if periodic else window]
        around = _window_sum(share, size, periodic)
        around = np.where(counted, around, 1.0)
        p = _window_sum(share * forecast, size, periodic) / around
        o = _window_sum(share * observed, size, periodic) / around
        sums[..., 0, i] = (share * (p - o) ** 2).sum(axis=(-2, -1))
        sums[..., 1, i] = (share * (p**2 + o**2)).sum(axis=(-2, -1))
    sums[np.broadcast_to(missing.any(axis=(-2, -1)), shape[:-2])] = np.nan
    return sums


def _window_sum(field: FloatArray, size: list[int], periodic: bool) -> FloatArray:
    """Mean over the window with zeros beyond the edges, proportional to the sum."""
    return ndimage.uniform_filter(
        field,
        size=size,
        mode=("constant", "wrap" if periodic else "constant"),
        axes=(-2, -1),
    )
