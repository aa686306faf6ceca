"""What packing did to the values: measured, merged over shards, and told for each channel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from weatherdiff.data.storing.moments import Moments

__all__ = ["merge_errors", "packing_errors", "summarize_errors"]

Array = npt.NDArray[Any]
Errors = dict[str, list[float]]


def packing_errors(kept: Array, frame: Array) -> Array:
    """Measure the errors of one frame.

    Parameters
    ----------
    kept, frame : (channel, latitude, longitude)
        What will be read, and what was to be kept; NaN in both is no value.

    Returns
    -------
    (channel, 3)
        Largest error, sum of squares, and count of values.

    Examples
    --------
    >>> packing_errors(np.array([[[1.0, 4.5, np.nan]]]), np.array([[[1.0, 4.0, np.nan]]]))
    array([[0.5 , 0.25, 2.  ]])
    """
    there = ~np.isnan(frame)
    error = np.where(there, kept.astype(np.float64) - frame, 0).reshape(len(frame), -1)
    count = there.reshape(len(frame), -1).sum(axis=1)
    return np.stack([np.abs(error).max(axis=1), (error**2).sum(axis=1), count], axis=1)


def merge_errors(tables: Iterable[Array]) -> Array:
    """Merge tables of :func:`packing_errors`: the same shape, of all of them."""
    stacked = np.stack(list(tables))
    return np.concatenate([stacked[..., :1].max(axis=0), stacked[..., 1:].sum(axis=0)], axis=-1)


def summarize_errors(
    table: Array, labels: Sequence[str], units: Sequence[str], moments: Moments
) -> dict[str, dict[str, Any]]:
    """Tell the errors of each channel, in its unit and as a share of its standard deviation.

    ``lossless`` is true where every value came back bit for bit. ``table`` and ``moments`` are kept
    beside it, to be merged with those of frames to come.

    Examples
    --------
    >>> table = np.array([[0.5, 1.0, 16.0]])
    >>> moments = Moments(*np.array([[16.0], [280.0], [1600.0], [270.0], [290.0]]))
    >>> summarize_errors(table, ["t"], ["K"], moments)["t"]["rms_error_of_std"]
    0.025
    """
    told = {}
    spreads = moments.std.tolist()
    for label, unit, spread, row, known in zip(
        labels, units, spreads, table.tolist(), moments.table.tolist(), strict=True
    ):
        largest, squares, count = row
        rms = float(np.sqrt(squares / count)) if count else 0.0
        told[label] = {
            "units": unit,
            "lossless": largest == 0,
            "max_error": largest,
            "rms_error": rms,
            "max_error_of_std": largest / spread if spread else None,
            "rms_error_of_std": rms / spread if spread else None,
            "table": row,
            "moments": known,
        }
    return told
