"""Forecasts against analyses: statistics streamed by blocks of initial times, then scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import xarray as xr

from weatherdiff.evaluation.aggregate import merge_statistics, scores_from
from weatherdiff.evaluation.baselines import Reference
from weatherdiff.evaluation.matching import compare

__all__ = ["evaluate", "statistics"]


def evaluate(
    forecasts: xr.Dataset,
    observations: xr.Dataset,
    *,
    reference: Mapping[str, Reference] | None = None,
    block: int | None = None,
    weights: xr.DataArray | None = None,
    nan: str = "propagate",
    estimator: str = "fair",
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Score ensemble forecasts against analyses.

    Forecasts stream through memory by blocks of initial times, channel by channel.

    Missing values: a cell that no observation used ever fills (the sea in a land data set) is left
    out. A missing observation, or valid time, is left out where it is missing, and lowers
    ``coverage``. A NaN in a forecast or reference that has an observation makes its score NaN,
    unless ``nan="omit"`` leaves it out, which lowers ``coverage``. Forecast and references are
    always scored on the same cells and times.

    Parameters
    ----------
    forecasts : (init_time, lead_time, number[, level], latitude, longitude)
        Ensemble forecasts, in memory or lazy.
    observations : (time[, level], latitude, longitude)
        Analyses on the same grid, in the same units. Variables (and levels) found in both are
        scored.
    reference : mapping of str to Reference, optional
        Reference forecasts by name, such as ``{"climatology": ClimatologyEnsemble(...)}``. They
        are scored with ``estimator``, those of one member with the standard one.
    block : int, optional
        Initial times in memory at once, one channel at a time; as many as make 4 million values
        unless given. The result does not depend on it.
    weights : (latitude, longitude), optional
        Weights of the cells, at least zero; exact cell areas unless given. Zero leaves out.
    nan : {"propagate", "omit"}
        What a NaN in a forecast or reference does.
    estimator : {"fair", "standard"}
        Estimator of the CRPS, see :func:`crps_ensemble`.
    progress : callable, optional
        Called after each block with the number of initial times done and their total.

    Returns
    -------
    xr.Dataset
        Scores over ``(variable, lead_time)`` as :func:`scores_from` describes them, and the
        statistics they derive from.

    Raises
    ------
    DimensionError
        A dimension is missing, or lead times have no unit, or ``"fair"`` with one member.
    GridMismatchError
        Forecasts, observations, references or weights are not on one grid.
    InputError
        Nothing is in common, times repeat, or weights are negative or NaN.
    MissingInputError
        No valid time of the forecasts is among the observations.
    UnitsError
        Units differ.
    ValueError
        An unknown option, or ``block`` below one.

    Examples
    --------
    >>> import numpy as np
    >>> from weatherdiff.evaluation import ClimatologyEnsemble, Persistence
    >>> rng = np.random.default_rng(1)
    >>> time = np.arange("2020-01-01", "2020-01-21", 12, dtype="datetime64[h]")
    >>> grid = {"latitude": [-45.0, 0.0, 60.0], "longitude": [0.0, 10.0, 20.0, 30.0]}
    >>> analyses = xr.Dataset(
    ...     {"t": (("time", "latitude", "longitude"), rng.normal(size=(40, 3, 4)))},
    ...     {"time": time.astype("datetime64[ns]"), **grid},
    ... )
    >>> climatology = ClimatologyEnsemble(analyses, period=("2020-01-01", "2020-01-12"))
    >>> inits = analyses["time"].values[24:36]
    >>> leads = np.array([12, 24], dtype="timedelta64[h]").astype("timedelta64[ns]")
    >>> forecasts = climatology.forecast(inits, leads)
    >>> scores = evaluate(
    ...     forecasts, analyses, reference={"persistence": Persistence(analyses)}
    ... )
    >>> print(scores["crpss_persistence"].round(2).values)
    [[0.47 0.44]]

    Runs over parts of the initial times can be joined:

    >>> parts = [statistics(forecasts.isel(init_time=i), analyses) for i in ([0, 1, 2], [3, 4])]
    >>> whole = evaluate(forecasts.isel(init_time=slice(5)), analyses)
    >>> scores_from(merge_statistics(parts)).identical(whole)
    True
    """
    return scores_from(
        statistics(
            forecasts,
            observations,
            reference=reference,
            block=block,
            weights=weights,
            nan=nan,
            estimator=estimator,
            progress=progress,
        )
    )


def statistics(
    forecasts: xr.Dataset,
    observations: xr.Dataset,
    *,
    reference: Mapping[str, Reference] | None = None,
    block: int | None = None,
    weights: xr.DataArray | None = None,
    nan: str = "propagate",
    estimator: str = "fair",
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Sum the scores over the cells, for each initial time: what adds over parts of the work.

    Parameters, errors and the treatment of missing values are those of :func:`evaluate`.

    Returns
    -------
    xr.Dataset
        Sums over ``(variable, init_time, lead_time)``: see :mod:`weatherdiff.evaluation.aggregate`.
    """
    if nan not in ("propagate", "omit"):
        raise ValueError(f"nan is {nan!r}, expected 'propagate' or 'omit'.")
    if block is not None and block < 1:
        raise ValueError(f"block is {block}, expected at least one initial time.")
    comparison = compare(forecasts, observations, dict(reference or {}), weights, nan, estimator)
    total = len(comparison.inits)
    step = block or comparison.default_block()
    parts = []
    for start in range(0, total, step):
        stop = min(start + step, total)
        parts.append(comparison.statistics(slice(start, stop)))
        if progress is not None:
            progress(stop, total)
    return merge_statistics(parts)
