r"""Reliability of event probabilities: Brier score, its decompositions, reliability diagram.

All follow from event tables over ``count`` = 0..M, see :mod:`weatherdiff.evaluation.exceedance`:
:math:`n_k`, the weight of the points where k of M members are in the event, and :math:`o_k`, the
part of it where the event occurred. With :math:`N = \sum_k n_k`, :math:`p_k = k/M`,
:math:`\bar o_k = o_k/n_k` and :math:`\bar o = \sum_k o_k/N` the Brier score is

.. math:: \frac1N\sum_k \left[(n_k - o_k)\,p_k^2 + o_k\,(1-p_k)^2\right]
          = \underbrace{\frac1N\sum_k n_k(p_k-\bar o_k)^2}_\mathrm{reliability}
          - \underbrace{\frac1N\sum_k n_k(\bar o_k-\bar o)^2}_\mathrm{resolution}
          + \underbrace{\bar o(1-\bar o)}_\mathrm{uncertainty}

exactly, as the forecasts take M + 1 values and no others (Murphy 1973). Tables add; scores do not:
sum the tables over what is to be pooled first. Every function works along ``count`` alone, keeps
the other dimensions, and is lazy if the tables are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.evaluation.exceedance import members_of
from weatherdiff.evaluation.scores import dispersion_factor

__all__ = [
    "brier_decomposition",
    "brier_from_tables",
    "corp_decomposition",
    "reliability_diagram",
]

FloatArray = npt.NDArray[np.float64]


def brier_from_tables(
    event_count: xr.DataArray,
    event_occurred: xr.DataArray,
    *,
    estimator: str = "fair",
    alpha: float = 0.95,
    members: int | None = None,
) -> xr.DataArray:
    r"""Brier score of the points in event tables.

    .. math:: \frac1N\sum_k \left[(n_k - o_k)\,p_k + o_k\,(1-p_k)
              - f\,n_k\frac{k(M-k)}{M(M-1)}\right]

    with f as for the CRPS, :func:`~weatherdiff.evaluation.crps_ensemble`. ``"standard"``
    (:math:`f=1-1/M`) is the score of the probabilities as they stand, ``"fair"`` (1) an unbiased
    estimate of what an ensemble of infinitely many members would score, and ``"adjusted"``
    (:math:`1-1/m`) of what one of ``members`` members m would.

    Parameters
    ----------
    event_count, event_occurred : (..., count)
        Event tables. NaN propagates.
    estimator : {"fair", "standard", "almost_fair", "adjusted"}
        The estimator.
    alpha : float
        Share of the fair estimator in the almost fair one.
    members : int, optional
        Ensemble size of ``"adjusted"``.

    Returns
    -------
    (...)
        Dimensionless, NaN without weight.

    Raises
    ------
    DimensionError
        The tables are no pair over ``count``, or one member with another estimator than
        ``"standard"``.
    ValueError
        Another ``estimator``, or ``alpha`` or ``members`` that do not fit it, or coordinates of
        the tables that differ.

    References
    ----------
    Ferro (2014), doi:10.1002/qj.2270. Ferro, Richardson and Weigel (2008), doi:10.1002/met.45.

    Examples
    --------
    >>> count = xr.DataArray([4.0, 2.0, 2.0], dims="count")
    >>> occurred = xr.DataArray([0.0, 1.0, 2.0], dims="count")
    >>> float(brier_from_tables(count, occurred, estimator="standard"))
    0.0625
    >>> float(brier_from_tables(count, occurred))
    0.0
    """
    size = members_of(event_count, event_occurred)
    factor = dispersion_factor(estimator, size, alpha=alpha, size=members)
    k = xr.DataArray(np.arange(size + 1.0), dims="count")
    score = (event_count - event_occurred) * (k / size) + event_occurred * (1 - k / size)
    if size > 1:
        score = score - event_count * (factor * k * (size - k) / (size * (size - 1)))
    return _sum(score) / _positive(_sum(event_count))


def brier_decomposition(event_count: xr.DataArray, event_occurred: xr.DataArray) -> xr.Dataset:
    """Reliability, resolution and uncertainty of the standard Brier score.

    The parts are those of the sample. From few cases, reliability and resolution are both too
    large, by the sampling variance of the observed frequencies (Bröcker 2012): the more members,
    the fewer cases share a probability. :func:`corp_decomposition` suffers far less.

    Parameters
    ----------
    event_count, event_occurred : (..., count)
        Event tables. NaN propagates.

    Returns
    -------
    xr.Dataset, (...)
        ``reliability`` (0 is best), ``resolution`` and ``uncertainty``, with Brier score =
        reliability - resolution + uncertainty. NaN without weight.

    Raises
    ------
    DimensionError
        The tables are no pair over ``count``.

    References
    ----------
    Murphy (1973), doi:10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2. Bröcker (2012),
    doi:10.1007/s00382-011-1191-1.

    Examples
    --------
    >>> count = xr.DataArray([4.0, 2.0, 2.0], dims="count")
    >>> occurred = xr.DataArray([1.0, 1.0, 2.0], dims="count")
    >>> parts = brier_decomposition(count, occurred)
    >>> [float(parts[name]) for name in ("reliability", "resolution", "uncertainty")]
    [0.03125, 0.09375, 0.25]
    """
    probability = _probabilities(event_count, event_occurred)
    weight = _positive(_sum(event_count))
    base_rate = _sum(event_occurred) / weight
    frequency = _frequencies(event_count, event_occurred).fillna(0.0)  # of no weight
    return xr.Dataset(
        {
            "reliability": _sum(event_count * (probability - frequency) ** 2) / weight,
            "resolution": _sum(event_count * (frequency - base_rate) ** 2) / weight,
            "uncertainty": base_rate * (1 - base_rate),
        }
    )


def corp_decomposition(event_count: xr.DataArray, event_occurred: xr.DataArray) -> xr.Dataset:
    """Miscalibration, discrimination and uncertainty of the standard Brier score (CORP).

    The forecasts are compared with themselves recalibrated by isotonic regression: the observed
    frequencies that increase with the forecast probability and fit best. There is no binning to
    choose, and both parts are at least zero.

    Parameters
    ----------
    event_count, event_occurred : (..., count)
        Event tables. NaN propagates.

    Returns
    -------
    xr.Dataset, (...)
        ``miscalibration`` (0 is best), ``discrimination`` and ``uncertainty``, with Brier score =
        miscalibration - discrimination + uncertainty. NaN without weight.

    Raises
    ------
    DimensionError
        The tables are no pair over ``count``.

    References
    ----------
    Dimitriadis, Gneiting and Jordan (2021), doi:10.1073/pnas.2016191118.

    Examples
    --------
    >>> count = xr.DataArray([4.0, 2.0, 2.0], dims="count")
    >>> occurred = xr.DataArray([1.0, 0.0, 2.0], dims="count")
    >>> parts = corp_decomposition(count, occurred)
    >>> [round(float(parts[name]), 4) for name in ("miscalibration", "discrimination")]
    [0.0833, 0.1302]
    """
    recalibrated = _recalibrated(event_count, event_occurred).fillna(0.0)  # of no weight
    brier = brier_from_tables(event_count, event_occurred, estimator="standard")
    weight = _positive(_sum(event_count))
    best = _sum(
        (event_count - event_occurred) * recalibrated**2 + event_occurred * (1 - recalibrated) ** 2
    )
    base_rate = _sum(event_occurred) / weight
    uncertainty = base_rate * (1 - base_rate)
    return xr.Dataset(
        {
            "miscalibration": brier - best / weight,
            "discrimination": uncertainty - best / weight,
            "uncertainty": uncertainty,
        }
    )


def reliability_diagram(event_count: xr.DataArray, event_occurred: xr.DataArray) -> xr.Dataset:
    """Observed frequency of the event for each forecast probability.

    Parameters
    ----------
    event_count, event_occurred : (..., count)
        Event tables. NaN propagates.

    Returns
    -------
    xr.Dataset, (..., count)
        ``forecast_probability`` (a coordinate), ``observed_frequency`` and
        ``recalibrated_probability`` (the same made to increase, see :func:`corp_decomposition`),
        both NaN for probabilities that were never forecast; ``share``, how often each was; and
        ``base_rate`` (...), the observed frequency of all.

    Raises
    ------
    DimensionError
        The tables are no pair over ``count``.

    Examples
    --------
    >>> count = xr.DataArray([4.0, 2.0, 2.0], dims="count")
    >>> occurred = xr.DataArray([1.0, 0.0, 2.0], dims="count")
    >>> diagram = reliability_diagram(count, occurred)
    >>> print(diagram["observed_frequency"].values)
    [0.25 0.   1.  ]
    >>> print(diagram["recalibrated_probability"].values.round(3), diagram["share"].values)
    [0.167 0.167 1.   ] [0.5  0.25 0.25]
    """
    probability = _probabilities(event_count, event_occurred)
    weight = _positive(_sum(event_count))
    return xr.Dataset(
        {
            "observed_frequency": _frequencies(event_count, event_occurred),
            "recalibrated_probability": _recalibrated(event_count, event_occurred),
            "share": event_count / weight,
            "base_rate": _sum(event_occurred) / weight,
        }
    ).assign_coords(forecast_probability=probability)


def _probabilities(event_count: xr.DataArray, event_occurred: xr.DataArray) -> xr.DataArray:
    members = members_of(event_count, event_occurred)
    return xr.DataArray(np.arange(members + 1) / members, dims="count")


def _sum(table: xr.DataArray) -> xr.DataArray:
    return table.sum("count", skipna=False)


def _positive(weight: xr.DataArray) -> xr.DataArray:
    return weight.where(weight > 0)


def _frequencies(event_count: xr.DataArray, event_occurred: xr.DataArray) -> xr.DataArray:
    return event_occurred / _positive(event_count)


def _recalibrated(event_count: xr.DataArray, event_occurred: xr.DataArray) -> xr.DataArray:
    return xr.apply_ufunc(
        _isotonic,
        event_count,
        event_occurred,
        input_core_dims=[["count"], ["count"]],
        output_core_dims=[["count"]],
        join="exact",
        vectorize=True,
        dask="parallelized",
        output_dtypes=[np.float64],
    )


def _isotonic(count: FloatArray, occurred: FloatArray) -> FloatArray:
    """Increasing frequencies that fit best; NaN where there is no weight."""
    result = np.full(count.shape, np.nan)
    weighted = count > 0
    if weighted.any() and not np.isnan(count + occurred).any():
        from scipy.optimize import isotonic_regression  # a third of a second for all other scores

        frequency = occurred[weighted] / count[weighted]
        result[weighted] = isotonic_regression(frequency, weights=count[weighted]).x
    return result
