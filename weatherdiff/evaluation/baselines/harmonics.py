r"""Harmonics of the year and of the day, and their least squares.

A climatological value at time :math:`t` is a sum over the products of the annual functions
:math:`1, \cos k\theta, \sin k\theta, \ldots` of the phase :math:`\theta` of the year with the
like functions of the phase of the day: a daily cycle that changes with the season.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weatherdiff.data.calendars import CALENDARS, on_axis
from weatherdiff.evaluation.alignment import Times
from weatherdiff.evaluation.baselines.training import calendar_of, hour_of_day, spans_a_year

__all__ = ["HarmonicMoments", "Harmonics", "least_squares"]

FloatArray = npt.NDArray[np.float64]

_DAY = 86_400e9  # nanoseconds
# Relative eigenvalue below which a combination of harmonics is not determined by the times.
_RANK_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Harmonics:
    """Which harmonics there are.

    Parameters
    ----------
    annual : int
        Harmonics of the year.
    diurnal : int
        Harmonics of the day.
    alternating : bool
        Whether there is one more, sampled twice a period, so that it has no sine: with it, an even
        number of hours a day is told apart completely.
    origin : int
        Nanoseconds after midnight where the day's phase starts.
    year : float
        Mean length of the year in days, in the calendar of the times.
    """

    annual: int
    diurnal: int
    alternating: bool
    origin: int
    year: float = 365.2425

    @classmethod
    def resolved_by(cls, times: Times, annual: int, diurnal: int) -> Harmonics:
        """Keep the harmonics that times can tell apart: no season in less than a year.

        Examples
        --------
        >>> times = np.arange("2020-01-01", "2020-02-01", 6, dtype="datetime64[h]")
        >>> Harmonics.resolved_by(times.astype("datetime64[ns]"), 2, 4)
        Harmonics(annual=0, diurnal=1, alternating=True, origin=0, year=365.2425)
        """
        hours = np.unique(hour_of_day(times))
        return cls(
            annual=annual if spans_a_year(times) else 0,
            diurnal=min(diurnal, (hours.size - 1) // 2),
            alternating=hours.size % 2 == 0 and diurnal >= hours.size // 2,
            origin=int(hours[0]),
            year=CALENDARS[calendar_of(times).name],
        )

    def design(self, times: Times) -> FloatArray:
        """Values of the harmonics, (..., term)."""
        year = _waves(_since(times) / (self.year * _DAY), self.annual)
        phase = (hour_of_day(times) - self.origin) / _DAY
        day = _waves(phase, self.diurnal)
        if self.alternating:
            top = np.cos(2 * np.pi * (self.diurnal + 1) * phase)
            day = np.concatenate([day, top[..., np.newaxis]], axis=-1)
        terms = year[..., :, np.newaxis] * day[..., np.newaxis, :]
        return terms.reshape(*times.shape, -1)


@dataclass(frozen=True, eq=False)
class HarmonicMoments:
    """Mean and standard deviation of the cells of one variable, at any time.

    Parameters
    ----------
    of_mean, of_variance : Harmonics
        Which harmonics the two have.
    mean, variance : (term, cell)
        Their coefficients.
    least : (cell,)
        Below which the variance does not fall.
    """

    of_mean: Harmonics
    of_variance: Harmonics
    mean: FloatArray
    variance: FloatArray
    least: FloatArray

    def mean_at(self, times: Times) -> FloatArray:
        """Give means, (..., cell)."""
        return self.of_mean.design(times) @ self.mean

    def spread_at(self, times: Times) -> FloatArray:
        """Give standard deviations, (..., cell)."""
        return np.sqrt(np.maximum(self.of_variance.design(times) @ self.variance, self.least))

    def standardised(self, values: FloatArray, times: Times) -> FloatArray:
        """Anomalies of values (..., cell) in standard deviations; in their unit where it is 0."""
        spread = self.spread_at(times)
        return (values - self.mean_at(times)) / np.where(spread == 0, 1.0, spread)


def least_squares(parts: Iterable[tuple[FloatArray, FloatArray]]) -> FloatArray:
    """Coefficients (term, cell); zero along combinations of terms that the times do not determine.

    Parameters
    ----------
    parts : iterable of (time, term), (time, cell)
        Designs and values of parts of the times, as large as fit in memory together.
    """
    normal = moment = np.zeros(())
    for design, values in parts:
        normal = normal + design.T @ design
        moment = moment + design.T @ values
    return np.linalg.pinv(normal, rcond=_RANK_TOLERANCE, hermitian=True) @ moment


def _since(times: Times) -> FloatArray:
    """Nanoseconds since 1970-01-01 of the calendar."""
    axis = on_axis(times)
    if axis.dtype.kind == "M":
        return axis.astype("datetime64[ns]").astype(np.int64).astype(np.float64)
    return axis.astype(np.int64) * np.float64(1e9)


def _waves(cycles: FloatArray, count: int) -> FloatArray:
    """1, cos, sin, cos of twice the phase, ...: (..., 1 + 2 count)."""
    angle = 2 * np.pi * cycles[..., np.newaxis] * np.arange(1, count + 1)
    pairs = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    ones = np.ones((*cycles.shape, 1))
    return np.concatenate([ones, pairs.reshape(*cycles.shape, -1)], axis=-1)
