r"""Scores as functions of pooled sums, so that their uncertainty follows from that of the sums.

A score is :math:`f(m_1, \ldots, m_K)` with the pooled means
:math:`m_k = \sum_t s_{kt} / \sum_t w_t` of one or more sums over initial times t. What one initial
time does to it is, to first order,

.. math::
    u_t = \frac{1}{\bar w} \sum_k \frac{\partial f}{\partial m_k} (s_{kt} - m_k w_t),

the series whose mean is tested: for a score that is a mean itself, simply the deviations from it.
The derivatives are taken by a complex step, exact to rounding (Squire and Trapp 1998,
doi:10.1137/S003614459631241X).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.evaluation.scores import dispersion_factor

__all__ = ["SCORES", "PooledScore", "influence", "pool"]

Array = npt.NDArray[Any]

# Scores, and which way is better: the lower or higher value, or neither.
SCORES = {
    "crps": "lower",
    "threshold_weighted_crps": "lower",
    "brier": "lower",
    "mse": "lower",
    "mse_unbiased": "lower",
    "mae": "lower",
    "rmse": "lower",
    "acc": "higher",
    "spread_skill_ratio": "neither",
}
_STEP = 1e-30


@dataclass(frozen=True)
class PooledScore:
    """A score of statistics, or of sums pooled from them.

    Parameters
    ----------
    score : str
        ``crps``, ``threshold_weighted_crps`` and ``brier`` (by event), ``mse``, ``mae`` and
        ``rmse`` of the ensemble mean, ``mse_unbiased`` (without the part that more members would
        take away), ``acc`` (of anomalies), ``spread_skill_ratio``.
    estimator : {"fair", "standard", "almost_fair"}
        Estimator of ``crps``, ``threshold_weighted_crps`` and ``brier``; a single forecast has no
        spread, and the same score with both.
    reference : str, optional
        Score this reference instead of the ensemble.

    Raises
    ------
    ValueError
        Another score or estimator.

    Examples
    --------
    >>> dims = ("variable", "init_time")
    >>> sums = {"sum_weight": (dims, [[1.0, 3.0]]), "sum_squared_error": (dims, [[4.0, 32.0]])}
    >>> PooledScore("rmse")(xr.Dataset(sums)).values
    array([3.])
    """

    score: str
    estimator: str = "fair"
    reference: str | None = None

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise ValueError(f"score is {self.score!r}, expected one of {', '.join(SCORES)}.")
        dispersion_factor(self.estimator, members=2)  # refuses an unknown one

    def __call__(self, statistics: xr.Dataset) -> xr.DataArray:
        """Pool over the initial times, if there are any left, and score.

        Raises
        ------
        InputError
            The statistics lack a sum that the score needs.
        """
        parts, weight = self.parts(statistics), statistics["sum_weight"]
        if "init_time" in weight.dims:
            parts = [part.sum("init_time", skipna=False) for part in parts]
            weight = weight.sum("init_time")
        weight = weight.where(weight > 0)
        return xr.apply_ufunc(self.of_means, *(part / weight for part in parts))

    def parts(self, statistics: xr.Dataset) -> list[xr.DataArray]:
        """Give the sums of which the score is a function.

        Raises
        ------
        InputError
            The statistics lack them.
        """
        score = self.score
        if score == "crps":
            return [self._crps(statistics, "")]
        if score == "threshold_weighted_crps":
            return [self._crps(statistics, "event_")]
        if score == "brier":
            return [self._brier(statistics)]
        if score == "mae":
            return [self._sum(statistics, "absolute_error")]
        if score == "acc":
            names = ("anomaly_product", "anomaly_forecast", "anomaly_observation")
            return [self._sum(statistics, name) for name in names]
        error = self._sum(statistics, "squared_error")
        if score in ("mse", "rmse"):
            return [error]
        members, variance = self._members(statistics), self._sum(statistics, "variance")
        if score == "mse_unbiased":
            return [error - variance / members]
        return [variance * (1 + 1 / members), error]

    def of_means(self, *means: Array) -> Array:
        """Score from the pooled means of :meth:`parts`; NaN where it is undefined."""
        with np.errstate(invalid="ignore", divide="ignore"):
            if self.score == "rmse":
                return np.sqrt(means[0])
            if self.score == "spread_skill_ratio":
                return np.sqrt(means[0] / np.where(means[1] == 0, np.nan, means[1]))
            if self.score == "acc":
                squares = means[1] * means[2]
                return means[0] / np.sqrt(np.where(squares == 0, np.nan, squares))
        return means[0]

    def _crps(self, statistics: xr.Dataset, prefix: str) -> xr.DataArray:
        over, under, dispersion = (
            self._sum(statistics, prefix + name) for name in ("over", "under", "dispersion")
        )
        return over + under - self._share(statistics) * dispersion

    def _brier(self, statistics: xr.Dataset) -> xr.DataArray:
        if self.reference is not None:
            name = {"fair": "brier_fair", "standard": "brier"}.get(self.estimator)
            if name is None:
                raise InputError("the Brier score of a reference is kept fair and standard only.")
            return self._sum(statistics, name)
        count, occurred = (self._sum(statistics, f"event_{n}") for n in ("count", "occurred"))
        members = self._members(statistics)
        hits = statistics["count"]
        p = hits / members
        # As the CRPS: the distance from the outcome, less the distance of members from each other.
        apart = p * (count - occurred) + (1 - p) * occurred
        pairs = hits * (members - hits) / (members * max(1, members - 1))
        return (apart - self._share(statistics) * pairs * count).sum("count", skipna=False)

    def _share(self, statistics: xr.Dataset) -> float:
        """Give the share of the fair dispersion that the estimator takes off."""
        if self.estimator == "fair":
            return 1.0  # of any number of members, known or not
        members = self._members(statistics)
        return 1.0 if members == 1 else dispersion_factor(self.estimator, members)

    def _sum(self, statistics: xr.Dataset, name: str) -> xr.DataArray:
        full = f"sum_{name}" if self.reference is None else f"sum_{name}_{self.reference}"
        if full not in statistics:
            raise InputError(
                f"the statistics hold no {full}, which {self.score} needs; score the forecasts "
                "again with it."
            )
        return statistics[full]

    def _members(self, statistics: xr.Dataset) -> int:
        if self.reference is None:
            return int(statistics.attrs["members"])
        members = self._sum(statistics, "over").attrs.get("members")
        if members is None:
            raise InputError(
                f"the statistics do not tell the members of {self.reference}, which {self.score} "
                "needs; its fair CRPS needs no number of members."
            )
        return int(members)


def pool(parts: list[Array], weight: Array) -> list[Array]:
    """Pooled means over the last dimension.

    Parameters
    ----------
    parts : list of (..., init_time)
        Sums over cells.
    weight : (..., init_time)
        Sums of weights, not all zero.
    """
    total = weight.sum(axis=-1)
    return [part.sum(axis=-1) / total for part in parts]


def influence(score: PooledScore, parts: list[Array], weight: Array) -> Array:
    """First-order effect of each initial time on a pooled score.

    Parameters
    ----------
    score : PooledScore
        The function of the means.
    parts, weight
        As for :func:`pool`.

    Returns
    -------
    (..., init_time)
        Deviations whose mean is zero and whose mean's variance is that of the score.
    """
    means = pool(parts, weight)
    scale = weight.mean(axis=-1, keepdims=True)
    result = np.zeros(weight.shape)
    for k, (part, mean) in enumerate(zip(parts, means, strict=True)):
        shifted = [m + (1j * _STEP if i == k else 0) for i, m in enumerate(means)]
        slope = np.imag(score.of_means(*shifted)) / _STEP
        result += slope[..., np.newaxis] * (part - mean[..., np.newaxis] * weight) / scale
    return result
