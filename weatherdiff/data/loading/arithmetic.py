"""What is worked out for each value of a batch, in one pass over it.

The loops are compiled where numba is (``WEATHERDIFF_NUMBA=0``: not); numpy's arithmetic is the same
but for the last bits of the sums in float64, with several passes through memory. Both release the
interpreter's lock, so that neither the step nor the other threads wait for them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from weatherdiff.compiling import compiled

__all__ = ["to_anomalies", "to_tendencies"]

Float = npt.NDArray[np.float32]
Double = npt.NDArray[np.float64]

TILE = 2**13  # values whose intermediates stay in the processor's cache
ROW = 2**9  # of those that are summed up at once by the compiled loop


def to_anomalies(values: Float, basis: Double, climatology: Float, std: Double) -> None:
    """Replace values by what they differ from a climatology, in standard deviations.

    Parameters
    ----------
    values : (n, channel, cell)
        Contiguous; NaN stays NaN.
    basis : (n, basis)
        Functions of time, at the values' times.
    climatology : (basis, channel, cell)
        Coefficients.
    std : (channel,)

    Examples
    --------
    >>> values = np.array([[[3.0, 5.0]]], np.float32)
    >>> to_anomalies(
    ...     values, np.array([[1.0, 2.0]]), np.ones((2, 1, 2), np.float32), np.array([2.0])
    ... )
    >>> values
    array([[[0., 1.]]], dtype=float32)
    """
    compiled(_anomalies, _anomalies_by_numpy)(values, basis, climatology, 1 / std)


def to_tendencies(target: Float, history: Float, std: Double) -> None:
    """Replace states by their changes from the last of the history, in standard deviations.

    Parameters
    ----------
    target : (batch, lead, channel, cell)
        Contiguous, as is the history.
    history : (batch, history, channel, cell)
    std : (lead, channel)

    Examples
    --------
    >>> target = np.array([[[[3.0, 5.0]]]], np.float32)
    >>> to_tendencies(target, np.ones((1, 1, 1, 2), np.float32), np.array([[2.0]]))
    >>> target
    array([[[[1., 2.]]]], dtype=float32)
    """
    compiled(_tendencies, _tendencies_by_numpy)(target, history, 1 / std)


def _anomalies(values: Any, basis: Any, climatology: Any, factor: Any) -> None:
    mean = np.empty(ROW, np.float64)
    for c in range(values.shape[1]):
        for start in range(0, values.shape[2], ROW):
            for n in range(values.shape[0]):
                row = values[n, c, start : start + ROW]  # slices: indices that are sums are checked
                mean[:] = 0.0
                for k in range(basis.shape[1]):
                    wave, weight = climatology[k, c, start : start + ROW], basis[n, k]
                    for i in range(len(row)):
                        mean[i] += weight * np.float64(wave[i])
                for i in range(len(row)):
                    row[i] = np.float32((np.float64(row[i]) - mean[i]) * factor[c])


def _anomalies_by_numpy(values: Float, basis: Double, climatology: Float, factor: Double) -> None:
    cells = values.shape[2]
    size = max(1, min(cells, TILE * 8 // max(1, len(values))))
    for c, scale in enumerate(factor.tolist()):
        for start in range(0, cells, size):
            tile = values[:, c, start : start + size]
            mean = basis @ climatology[:, c, start : start + size].astype(np.float64)
            np.subtract(tile, mean, out=mean)
            np.multiply(mean, scale, out=tile, casting="same_kind")


def _tendencies(target: Any, history: Any, factor: Any) -> None:
    for b in range(target.shape[0]):
        for lead in range(target.shape[1]):
            for c in range(target.shape[2]):
                row, last = target[b, lead, c], history[b, history.shape[1] - 1, c]
                for i in range(len(row)):
                    row[i] = np.float32(np.float64(row[i] - last[i]) * factor[lead, c])


def _tendencies_by_numpy(target: Float, history: Float, factor: Double) -> None:
    for states, before in zip(target, history, strict=True):
        for lead, scale in enumerate(factor[..., None]):
            np.subtract(states[lead], before[-1], out=states[lead])
            np.multiply(states[lead], scale, out=states[lead], casting="same_kind")
