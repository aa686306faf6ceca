r"""Block bootstrap of pooled sums: an interval for any function of them.

Initial times are drawn in blocks of neighbours, the last followed by the first, so that each
replicate keeps most of their autocorrelation (Kuensch 1989, doi:10.1214/aos/1176347265). How often
each initial time was drawn is all that the sums need: a replicate is a row of counts times the
sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.evaluation.significance.pairing import in_order

__all__ = ["block_bootstrap", "block_length"]

FloatArray = npt.NDArray[np.float64]

# Pooled sums held at once: 64 MiB.
_VALUES_AT_ONCE = 2**23
# Of the block lengths that suit the values of a result, one that is long enough for most.
_QUANTILE = 0.9


def block_bootstrap(
    statistics: xr.Dataset,
    function: Callable[[xr.Dataset], xr.DataArray],
    *,
    seed: int,
    replicates: int = 1000,
    level: float = 0.95,
    block: int | None = None,
) -> xr.Dataset:
    """Confidence interval of any function of pooled statistics.

    With few initial times, or persistent ones, such an interval is too narrow: a nominal 5% of
    misses is 20% for 60 initial times with an autocorrelation of 0.7 (``scripts/benchmarks/
    significance.py``). For the difference of two scores :func:`compare` is better.

    Parameters
    ----------
    statistics : xr.Dataset
        Sums for each initial time, as :func:`~weatherdiff.evaluation.statistics` makes them.
    function : callable
        From a data set of pooled sums to a data array, such as a :class:`PooledScore`. The
        variables ``sum_...`` over ``init_time`` are given with ``replicate`` as first dimension and
        ``init_time`` of size one; variables without initial times as they are; others, which do
        not add, as at the first initial time. The result must keep ``replicate``.
    seed : int
        Key of the random numbers. The first replicates do not depend on how many there are.
    replicates : int
        Number of samples.
    level : float
        Confidence of the interval.
    block : int, optional
        Initial times in a block; chosen by :func:`block_length` unless given, from the effect of
        each initial time on the result, long enough for nine of ten of its values.

    Returns
    -------
    xr.Dataset
        ``estimate`` of all initial times, ``lower`` and ``upper`` percentile, ``standard_error``;
        the block length is an attribute. NaN propagates.

    Raises
    ------
    InputError
        There are fewer than two initial times, or one is there twice.
    ValueError
        ``block``, ``replicates`` or ``level`` is out of range, or the function loses ``replicate``.

    Examples
    --------
    >>> inits = np.datetime64("2020-01-01", "ns") + np.arange(50) * np.timedelta64(1, "D")
    >>> errors = np.random.default_rng(1).chisquare(4, size=50)
    >>> statistics = xr.Dataset(
    ...     {
    ...         "sum_squared_error": ("init_time", errors),
    ...         "sum_weight": ("init_time", np.ones(50)),
    ...     },
    ...     {"init_time": inits},
    ... )
    >>> found = block_bootstrap(
    ...     statistics, lambda sums: (sums["sum_squared_error"] / sums["sum_weight"]) ** 0.5, seed=1
    ... )
    >>> bool(found["lower"] < found["estimate"] < found["upper"])
    True
    """
    statistics = in_order(statistics)
    n = statistics.sizes["init_time"]
    if n < 2:
        raise InputError("a bootstrap needs at least two initial times.")
    if replicates < 1 or not 0 < level < 1:
        raise ValueError("replicates must be at least one, and level between 0 and 1.")
    if block is not None and not 1 <= block <= n:
        raise ValueError(f"block is {block}, expected 1 to {n} initial times.")
    if block is None:
        without = _evaluate(statistics, function, 1 - np.eye(n))
        block = _common_length(without.transpose("replicate", ...).values.reshape(n, -1).T)
    counts = _counts(n, block, replicates, seed)
    estimate = _evaluate(statistics, function, np.ones((1, n))).isel(replicate=0)
    drawn = _evaluate(statistics, function, counts)
    tails = [(1 - level) / 2, (1 + level) / 2]
    bounds = drawn.quantile(tails, "replicate", skipna=False)
    return xr.Dataset(
        {
            "estimate": estimate,
            "lower": bounds.isel(quantile=0, drop=True),
            "upper": bounds.isel(quantile=1, drop=True),
            "standard_error": drawn.std("replicate", skipna=False),
        },
        attrs={"block": block, "replicates": replicates, "level": level, "seed": seed},
    )


def block_length(series: FloatArray) -> float:
    r"""Block length of a circular block bootstrap of the mean.

    .. math::
        b = \left(\frac{2 G^2}{\frac43 g^2} n\right)^{1/3}, \quad
        G = \sum_k \lambda(k/M) |k| R(k), \quad g = \sum_k \lambda(k/M) R(k)

    with autocovariances R, the trapezoidal window :math:`\lambda`, and M twice the lag after which
    autocorrelation is negligible.

    Parameters
    ----------
    series : (n,)
        Values at successive initial times.

    Returns
    -------
    float
        Between 1 and ``min(3 sqrt(n), n / 3)``; NaN if a value is.

    References
    ----------
    Politis and White (2004), doi:10.1081/ETC-120028836. Patton, Politis and White (2009),
    doi:10.1080/07474930802459016.

    Examples
    --------
    >>> block_length(np.random.default_rng(1).normal(size=1000)) < 10
    True
    """
    n = len(series)
    longest = max(1.0, min(3 * math.sqrt(n), n / 3))
    deviations = series - series.mean()
    if np.isnan(deviations).any():
        return math.nan
    if not deviations.any():
        return 1.0
    calm = max(5, math.ceil(math.sqrt(math.log10(n))))
    lags = min(n - 1, math.ceil(math.sqrt(n)) + calm)
    covariance = np.array([deviations[: n - k] @ deviations[k:] for k in range(lags + 1)]) / n
    loud = np.abs(covariance[1:] / covariance[0]) >= 2 * math.sqrt(math.log10(n) / n)
    # The first lag from which on `calm` of them in a row are negligible.
    quiet = [k for k in range(lags) if not loud[k : k + calm].any()]
    cut = min(lags, 2 * max(1, quiet[0] if quiet else lags))
    k = np.arange(1, cut + 1)
    weighted = np.clip(2 * (1 - k / cut), 0, 1) * covariance[k]
    g = covariance[0] + 2 * weighted.sum()
    slope = 2 * (k * weighted).sum()
    if g <= 0:
        return longest
    return float(np.clip((1.5 * (slope / g) ** 2 * n) ** (1 / 3), 1, longest))


def _common_length(series: FloatArray) -> int:
    lengths = np.array([block_length(one) for one in series])
    lengths = lengths[~np.isnan(lengths)]
    return math.ceil(np.quantile(lengths, _QUANTILE)) if lengths.size else 1


def _counts(n: int, block: int, replicates: int, seed: int) -> FloatArray:
    """How often each initial time is drawn, (replicate, n); rows add to n."""
    starts = np.random.default_rng(seed).integers(n, size=(replicates, math.ceil(n / block)))
    drawn = (starts[..., np.newaxis] + np.arange(block)) % n
    drawn = drawn.reshape(replicates, -1)[:, :n]
    counts = np.zeros((replicates, n))
    np.add.at(counts, (np.arange(replicates)[:, np.newaxis], drawn), 1.0)
    return counts


def _evaluate(
    statistics: xr.Dataset, function: Callable[[xr.Dataset], xr.DataArray], counts: FloatArray
) -> xr.DataArray:
    """Apply the function to sums pooled with each row of counts."""
    timed = {name for name, field in statistics.data_vars.items() if "init_time" in field.dims}
    sums = {name: statistics[name] for name in timed if str(name).startswith("sum_")}
    others = {name: statistics[name].isel(init_time=[0]) for name in timed - set(sums)}
    fixed = statistics.drop_dims("init_time").assign(others)
    size = max(1, sum(field.size for field in sums.values()) // counts.shape[1])
    step = max(1, _VALUES_AT_ONCE // size)
    first = statistics["init_time"].values[:1]
    results = []
    for start in range(0, len(counts), step):
        rows = counts[start : start + step]
        pooled = fixed.assign_coords(init_time=first).assign(
            {name: _pooled(field, rows) for name, field in sums.items()}
        )
        result = function(pooled)
        if "replicate" not in result.dims:
            raise ValueError("the function's result has lost the dimension replicate.")
        results.append(
            result.squeeze("init_time", drop=True) if "init_time" in result.dims else result
        )
    return xr.concat(results, "replicate", coords="minimal", compat="override", join="override")


def _pooled(field: xr.DataArray, counts: FloatArray) -> xr.Variable:
    values = field.variable.transpose("init_time", ...)
    total = counts @ values.values.reshape(len(values), -1)
    dims = [dim for dim in values.dims if dim != "init_time"]
    full = xr.Variable(
        ("replicate", *dims), total.reshape(len(counts), *values.shape[1:]), field.attrs
    )
    order = ("replicate", *field.dims)
    return full.set_dims({"init_time": 1, **full.sizes}).transpose(*order)
