"""What the kernels sum, and the arrays they sum it into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ANOMALIES", "CLIPPED", "FIELDS", "TILE", "EnsembleSums", "Events", "Points", "Wanted"]

FloatArray = npt.NDArray[np.float64]

FIELDS = (
    "over",
    "under",
    "dispersion",
    "error",
    "squared_error",
    "absolute_error",
    "variance",
)
"""Pointwise scores; their definitions are in :mod:`weatherdiff.evaluation.kernels`."""

ANOMALIES = ("anomaly_product", "anomaly_forecast", "anomaly_observation")
"""Fields that a climatology adds to :data:`FIELDS`."""

CLIPPED = FIELDS[:3]
"""Fields of the values clipped at the threshold of an event."""

TILE = 128
"""Points worked on at a time. Work split at a multiple of it gives the same bits."""


@dataclass(frozen=True)
class Events:
    """Events: values above, or below, a threshold.

    Parameters
    ----------
    thresholds : (event, point) or (event, 1)
        Thresholds; a value equal to one is not in the event.
    above : (event,) bool
        The event is the values above the threshold, rather than below.
    """

    thresholds: npt.NDArray[Any]
    above: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Wanted:
    """Which statistics are computed, and what a missing value does.

    Parameters
    ----------
    fields : bool
        The scores of :data:`FIELDS`.
    rank : bool
        The rank histogram.
    clipped : bool
        Over, under and dispersion of the values clipped at the thresholds.
    decompose : bool
        Hersbach's alpha and beta.
    pointwise : bool
        The fields at each point too.
    omit : bool
        Leave out points where a member is NaN or that are not usable; else they make the totals
        NaN.
    """

    fields: bool = True
    rank: bool = True
    clipped: bool = True
    decompose: bool = False
    pointwise: bool = False
    omit: bool = False


@dataclass(frozen=True)
class Points:
    """The input of a kernel, checked: an ensemble at some points and what belongs to them.

    Parameters
    ----------
    forecast : (member, point)
        Ensemble.
    observation : (point,)
        Verifying values.
    weights : (region, point)
        Weights, at least 0.
    usable : (point,) bool
        Points that may be complete.
    thresholds : (event, point) or (event, 1)
        In the precision that the differences are to have.
    above : (event,) bool
        Sides of the thresholds.
    climatology : (point,) or (0,)
        Normal values, if there are any.
    """

    forecast: npt.NDArray[Any]
    observation: npt.NDArray[Any]
    weights: FloatArray
    usable: npt.NDArray[np.bool_]
    thresholds: npt.NDArray[Any]
    above: npt.NDArray[np.bool_]
    climatology: FloatArray

    @property
    def fits(self) -> bool:
        """Whether the forecast needs no copy: a member's points are contiguous, and precise."""
        between, within = self.forecast.strides
        contiguous = within == self.forecast.itemsize and between >= 0 and between % within == 0
        return contiguous and self.forecast.dtype == self.thresholds.dtype

    def part(self, points: slice) -> Points:
        """Take some of the points, in contiguous arrays; copies only where it must be."""
        forecast, thresholds = self.forecast[:, points], self.thresholds
        if not self.fits:
            forecast = np.ascontiguousarray(forecast, thresholds.dtype)
        if thresholds.shape[1] != 1 or self.forecast.shape[1] == 1:
            thresholds = thresholds[:, points]
        return Points(
            forecast=forecast,
            observation=np.ascontiguousarray(self.observation[points], thresholds.dtype),
            weights=np.ascontiguousarray(self.weights[:, points]),
            usable=np.ascontiguousarray(self.usable[points]),
            thresholds=np.ascontiguousarray(thresholds),
            above=self.above,
            climatology=np.ascontiguousarray(self.climatology[points]),
        )

    def padded(self, size: int) -> Points:
        """Fill up with zeros that have no weight."""
        lacking = size - len(self.observation)

        def pad(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, lacking)])

        per_point = self.thresholds.shape[1] != 1 or len(self.observation) == 1
        return Points(
            forecast=pad(self.forecast),
            observation=pad(self.observation),
            weights=pad(self.weights),
            usable=np.pad(self.usable, (0, lacking), constant_values=True),
            thresholds=pad(self.thresholds) if per_point else self.thresholds,
            above=self.above,
            climatology=pad(self.climatology) if self.climatology.size else self.climatology,
        )


@dataclass(frozen=True)
class EnsembleSums:
    """Weighted sums over the points of each region; their arrays grow in place.

    Parameters
    ----------
    fields : tuple of str
        Names along ``field``: :data:`FIELDS`, and :data:`ANOMALIES` with a climatology.
    totals : (region, field)
        Sums of the fields.
    weight, complete : (region,)
        Weight of the points that count, and of those that have all values.
    rank : (region, rank)
        Weight by rank of the observation, 0 to M; ties are spread equally.
    joint : (region, event, 2, count)
        Weight by number of members in the event, 0 to M, where the observation is not (0) and is
        (1) in it.
    clipped : (region, event, 3)
        Sums of over, under and dispersion of the values clipped at the threshold.
    alpha, beta : (region, rank)
        Sums of the mean distances of Hersbach (2000) below and above the observation.
    missing : (member + 1,) int64
        Observed points where the member is NaN; the last is the number of observed points.
    pointwise : (field, point)
        Fields of the last call, if wanted; NaN where a value is missing.
    """

    fields: tuple[str, ...]
    totals: FloatArray
    weight: FloatArray
    complete: FloatArray
    rank: FloatArray
    joint: FloatArray
    clipped: FloatArray
    alpha: FloatArray
    beta: FloatArray
    missing: npt.NDArray[np.int64]
    pointwise: FloatArray

    @classmethod
    def zero(
        cls, members: int, regions: int, events: int = 0, climatology: bool = False
    ) -> EnsembleSums:
        """Make sums over no points."""
        fields = FIELDS + ANOMALIES if climatology else FIELDS
        return cls(
            fields=fields,
            totals=np.zeros((regions, len(fields))),
            weight=np.zeros(regions),
            complete=np.zeros(regions),
            rank=np.zeros((regions, members + 1)),
            joint=np.zeros((regions, events, 2, members + 1)),
            clipped=np.zeros((regions, events, len(CLIPPED))),
            alpha=np.zeros((regions, members + 1)),
            beta=np.zeros((regions, members + 1)),
            missing=np.zeros(members + 1, np.int64),
            pointwise=np.empty((0, 0)),
        )

    def __getitem__(self, field: str) -> FloatArray:
        """Total of one field, ``(region,)``."""
        return self.totals[:, self.fields.index(field)]

    @property
    def event_count(self) -> FloatArray:
        """Weight by number of members in the event, ``(region, event, count)``."""
        return self.joint[:, :, 0] + self.joint[:, :, 1]

    @property
    def event_occurred(self) -> FloatArray:
        """The part of it where the observation is in the event, ``(region, event, count)``."""
        return self.joint[:, :, 1]

    @property
    def member_missing(self) -> npt.NDArray[np.bool_]:
        """Members that are NaN at every observed point, ``(member,)``, unless all members are."""
        missing = self.missing[:-1] == self.missing[-1]
        return missing & (self.missing[-1] > 0) & ~missing.all()
