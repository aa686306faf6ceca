r"""Calibration from the rank histogram: how far from flat, and in what way.

Of N independent cases of a perfect ensemble every one of the M + 1 ranks has the expected
frequency :math:`1/(M+1)`, and no histogram is exactly flat. Neighbouring cells and successive times
are not independent cases: N is far fewer than the values that were ranked, and a test that takes
them all rejects every ensemble. Functions take what is summed over ``rank`` and any scale: weights
or relative frequencies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.special import chdtrc

from weatherdiff.errors import DimensionError, InputError

__all__ = ["flatness_test", "pit_histogram", "reliability_index"]


def reliability_index(rank_histogram: xr.DataArray) -> xr.DataArray:
    r"""Sum of the distances of the ranks' frequencies from the flat histogram.

    .. math:: \Delta = \sum_{r=0}^M \left|f_r-\frac1{M+1}\right|

    A perfect ensemble has about :math:`\sqrt{2M/(\pi N)}` for N independent cases.

    Parameters
    ----------
    rank_histogram : (..., rank)
        Weights or frequencies of the ranks 0..M. NaN propagates.

    Returns
    -------
    (...)
        From 0, flat, to 2M / (M + 1), all in one rank. NaN without weight.

    Raises
    ------
    DimensionError
        There is no ``rank``.

    References
    ----------
    Delle Monache et al. (2006), doi:10.1029/2005JD006917.

    Examples
    --------
    >>> round(float(reliability_index(xr.DataArray([3.0, 2.0, 5.0], dims="rank"))), 4)
    0.3333
    """
    frequency = _frequencies(rank_histogram)
    return abs(frequency - 1 / frequency.sizes["rank"]).sum("rank", skipna=False)


def flatness_test(rank_histogram: xr.DataArray, *, cases: xr.DataArray | float) -> xr.Dataset:
    r"""Chi-square test of a flat rank histogram, and its parts for slope and convexity.

    .. math:: \chi^2 = N(M+1)\sum_{r=0}^M\left(f_r-\frac1{M+1}\right)^2

    has, for a perfect ensemble and N independent cases, the chi-square distribution of M degrees
    of freedom. Its projections on a straight line and on a parabola have one degree of freedom
    each: they find a bias and a wrong spread where the whole, spread over all ranks, does not.

    Parameters
    ----------
    rank_histogram : (..., rank)
        Weights or frequencies of the ranks 0..M. NaN propagates.
    cases : (...) or float
        Number N of independent cases, to be judged by the user: at most the number of times that
        are further apart than the errors' memory, times the few independent patterns of the field.

    Returns
    -------
    xr.Dataset, (...)
        ``chi_square``, ``slope``, ``convexity`` (each with a ``p_value_...``), and ``residual``,
        the rest of ``chi_square``. ``slope_sign`` is 1 if the observation lies too often above the
        members (forecasts too low), -1 if below; ``convexity_sign`` is 1 if it lies too often
        outside (too little spread), -1 if inside. With one member there is no convexity, which is
        NaN.

    Raises
    ------
    DimensionError
        There is no ``rank``.
    InputError
        ``cases`` is not positive.

    References
    ----------
    Jolliffe and Primo (2008), doi:10.1175/2007MWR2219.1.

    Examples
    --------
    >>> test = flatness_test(xr.DataArray([9.0, 4.0, 3.0, 8.0], dims="rank"), cases=24)
    >>> {name: round(float(test[name]), 2) for name in ("chi_square", "slope", "convexity")}
    {'chi_square': 4.33, 'slope': 0.13, 'convexity': 4.17}
    >>> float(test["convexity_sign"]), round(float(test["p_value_convexity"]), 2)
    (1.0, 0.04)
    """
    cases = xr.DataArray(cases)
    if not bool((cases > 0).all()):
        raise InputError("cases is not a positive number.")
    excess = _frequencies(rank_histogram) - 1 / rank_histogram.sizes["rank"]
    ranks = rank_histogram.sizes["rank"]
    scale = cases * ranks
    chi_square = scale * (excess**2).sum("rank", skipna=False)
    line, parabola = (xr.DataArray(c, dims="rank") for c in _contrasts(ranks))
    along_line = (excess * line).sum("rank", skipna=False)
    along_parabola = (excess * parabola).sum("rank", skipna=False)
    slope, convexity = scale * along_line**2, scale * along_parabola**2
    return xr.Dataset(
        {
            "chi_square": chi_square,
            "slope": slope,
            "convexity": convexity,
            "residual": chi_square - slope - convexity,
            "slope_sign": np.sign(along_line),
            "convexity_sign": np.sign(along_parabola),
            "p_value_chi_square": _p_value(chi_square, ranks - 1),
            "p_value_slope": _p_value(slope, 1),
            "p_value_convexity": _p_value(convexity, 1),
        }
    )


def pit_histogram(rank_histogram: xr.DataArray, *, bins: int = 10) -> xr.DataArray:
    """Histogram of the probability integral transform, in any number of bins.

    A rank r of M + 1 stands for a value anywhere between r / (M + 1) and (r + 1) / (M + 1), all
    equally likely; its weight is shared out exactly over the bins it meets. A flat rank histogram
    stays flat, and ensembles of different sizes become comparable.

    Parameters
    ----------
    rank_histogram : (..., rank)
        Weights or frequencies of the ranks 0..M. NaN propagates.
    bins : int
        Number of bins between 0 and 1.

    Returns
    -------
    (..., pit)
        Relative frequencies over ``pit``, the bins' centres. NaN without weight.

    Raises
    ------
    DimensionError
        There is no ``rank``.
    ValueError
        ``bins`` is below one.

    Examples
    --------
    >>> pit_histogram(xr.DataArray([3.0, 0.0, 3.0], dims="rank"), bins=2).values
    array([0.5, 0.5])
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}, expected at least one.")
    frequency = _frequencies(rank_histogram)
    ranks = frequency.sizes["rank"]
    # In units of 1 / (ranks * bins), whole numbers: no rounding at the edges.
    rank_edges = np.arange(ranks + 1) * bins
    bin_edges = np.arange(bins + 1) * ranks
    upper = np.minimum(rank_edges[1:, np.newaxis], bin_edges[1:])
    lower = np.maximum(rank_edges[:-1, np.newaxis], bin_edges[:-1])
    shares = xr.DataArray(np.maximum(upper - lower, 0) / bins, dims=("rank", "pit"))
    centres = (np.arange(bins) + 0.5) / bins
    return frequency.dot(shares, dim="rank").assign_coords(pit=centres)


def _frequencies(rank_histogram: xr.DataArray) -> xr.DataArray:
    if rank_histogram.sizes.get("rank", 0) < 2:
        raise DimensionError(
            f"a rank histogram has dimensions {rank_histogram.dims}, expected rank among them, of "
            "at least two ranks."
        )
    total = rank_histogram.sum("rank", skipna=False)
    frequency = rank_histogram / total.where(total > 0)
    return frequency.drop_vars("rank", errors="ignore")


def _contrasts(ranks: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Orthonormal line and parabola over the ranks, each of sum zero."""
    line: npt.NDArray[Any] = np.arange(ranks) - (ranks - 1) / 2
    line /= np.sqrt((line**2).sum())
    if ranks < 3:
        return line, np.full(ranks, np.nan)
    parabola = line**2 - (line**2).mean()
    return line, parabola / np.sqrt((parabola**2).sum())


def _p_value(chi_square: xr.DataArray, freedom: int) -> xr.DataArray:
    return xr.apply_ufunc(
        lambda value: chdtrc(freedom, value),
        chi_square,
        dask="parallelized",
        output_dtypes=[np.float64],
    )
