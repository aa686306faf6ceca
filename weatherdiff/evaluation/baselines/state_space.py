r"""Leading patterns (EOFs) of standardised anomalies, all variables and levels together.

With area weights :math:`w` the weighted anomalies :math:`\sqrt w\,z` are projected on orthonormal
patterns. These are found by subspace iteration, :math:`V\leftarrow\mathrm{orth}(X^\top X V)`, a
block of times in memory at once: exact if there are as many patterns as times or cells, otherwise
to about :math:`(\lambda_j/\lambda_k)^6` for the variances :math:`\lambda_j` beyond them.

References
----------
Halko, Martinsson & Tropp (2011), doi:10.1137/090771806, algorithm 4.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.evaluation.alignment import Times, analysis_times, positions
from weatherdiff.evaluation.baselines.reference import BLOCK_INITS, Index
from weatherdiff.evaluation.baselines.smooth_climatology import SmoothClimatology

__all__ = ["StateSpace"]

FloatArray = npt.NDArray[np.float64]

_ITERATIONS = 3
# Patterns carried along in the iteration beside those wanted, which converge faster for it.
_SPARE = 10


@dataclass(frozen=True, eq=False)
class StateSpace:
    """Patterns, and the training analyses in terms of them.

    Parameters
    ----------
    climatology : SmoothClimatology
        What anomalies are taken from and standardised with.
    patterns : (state, pattern)
        Orthonormal, by decreasing variance.
    components : (time, pattern)
        Of the training analyses; NaN where these are incomplete.
    variance : (state,)
        Mean square of the standardised anomalies.
    """

    climatology: SmoothClimatology
    patterns: FloatArray
    components: FloatArray
    variance: FloatArray

    @classmethod
    def fit(cls, climatology: SmoothClimatology, count: int) -> StateSpace:
        """Find the leading patterns of the climatology's training period.

        The rank of the record, if that is less than ``count``.

        Raises
        ------
        InputError
            No training analysis is complete in all variables.
        """
        record = climatology.record
        complete = record.all_complete
        if not complete.any():
            raise InputError("no training analysis is complete in all variables at once.")
        root = np.sqrt(record.weights)

        def parts() -> Iterator[tuple[Index, FloatArray]]:
            for block in record.blocks():
                kept = block.start + np.flatnonzero(complete[block])
                if kept.size:
                    analyses = record.analyses.isel(time=kept)
                    yield kept, climatology.standardised_states(analyses) * root

        rank = min(int(complete.sum()), root.size)
        width = min(count + _SPARE, rank)
        patterns = np.random.default_rng(0).standard_normal((root.size, width))
        for _ in range(_ITERATIONS):
            total = np.zeros_like(patterns)
            for _, rows in parts():
                total += rows.T @ (rows @ patterns)
            patterns = np.linalg.qr(total)[0]

        components = np.full((complete.size, width), np.nan)
        squares = np.zeros(root.size)
        for at, rows in parts():
            components[at] = rows @ patterns
            squares += (rows**2).sum(axis=0)
        turn = np.linalg.svd(components[complete], full_matrices=False)[2].T
        turn = turn[:, : min(count, rank)]
        patterns = patterns @ turn
        # Of the two signs, the one whose largest weight is positive.
        largest = np.abs(patterns).argmax(axis=0)
        signs = np.sign(patterns[largest, np.arange(patterns.shape[1])])
        return cls(
            climatology,
            patterns * signs,
            components @ (turn * signs),
            squares / complete.sum() / record.weights,
        )

    @property
    def count(self) -> int:
        """Number of patterns."""
        return self.patterns.shape[1]

    def leading(self, count: int) -> StateSpace:
        """Keep the first patterns only."""
        return replace(
            self, patterns=self.patterns[:, :count], components=self.components[:, :count]
        )

    def explained_variance(self) -> FloatArray:
        """Mean square of the anomalies that the patterns hold, (state,)."""
        known = self.components[~np.isnan(self.components[:, 0])]
        covariance = known.T @ known / len(known)
        explained = ((self.patterns @ covariance) * self.patterns).sum(axis=1)
        return explained / self.climatology.record.weights

    def project(self, analyses: xr.Dataset, times: Times) -> FloatArray:
        """Components of the analyses at given times, NaN where there is none or it lacks values.

        Parameters
        ----------
        analyses : (time, ...)
            The variables of the record at any times; read by blocks.
        times : (time,)
            Times wanted, repeated or not.

        Returns
        -------
        (time, pattern)
        """
        record = self.climatology.record
        place = positions(analysis_times(analyses), times)
        needed, inverse = np.unique(place[place >= 0], return_inverse=True)
        rows = np.empty((needed.size, self.count))
        for start in range(0, needed.size, BLOCK_INITS):
            block = slice(start, start + BLOCK_INITS)
            states = self.climatology.standardised_states(analyses.isel(time=needed[block]))
            rows[block] = (states * np.sqrt(record.weights)) @ self.patterns
        components = np.full((times.size, self.count), np.nan)
        components[place >= 0] = rows[inverse]
        return components

    @cached_property
    def maps(self) -> npt.NDArray[np.float32]:
        """Patterns as standardised anomalies, (pattern, state)."""
        weights = self.climatology.record.weights[:, np.newaxis]
        return np.ascontiguousarray((self.patterns / np.sqrt(weights)).T, dtype=np.float32)
