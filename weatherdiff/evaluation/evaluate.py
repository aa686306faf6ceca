"""Forecasts against analyses: statistics streamed by blocks of initial times, then scores."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from weatherdiff.data.calendars import written
from weatherdiff.evaluation.aggregate import merge_statistics, scores_from
from weatherdiff.evaluation.baselines import Reference
from weatherdiff.evaluation.estimators import crps_from_parts
from weatherdiff.evaluation.matching import Match, match
from weatherdiff.evaluation.settings import Settings
from weatherdiff.evaluation.storage import StatisticsStore
from weatherdiff.tasks.attempts import run_tried
from weatherdiff.tasks.crew import Crew

__all__ = ["evaluate", "statistics"]

Progress = Callable[[int, int], None]


def evaluate(
    forecasts: xr.Dataset,
    observations: xr.Dataset,
    *,
    reference: Mapping[str, Reference] | None = None,
    estimator: str = "fair",
    settings: Settings | None = None,
    store: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Score ensemble forecasts against analyses.

    Forecasts stream through memory by blocks of initial times, channel by channel, tiles of lead
    times and rows at a time: memory follows the stored chunk and the number of threads.

    Missing values: a cell that no observation used ever fills (the sea in a land data set) is left
    out. A missing observation, or valid time, is left out where it is missing, and lowers
    ``coverage``. A NaN in a forecast or reference that has an observation makes its score NaN,
    unless ``Settings(nan="omit")`` leaves it out, which lowers ``coverage``. Forecast and
    references are always scored on the same cells and times. A member that is missing as a whole
    is an error, not a smaller ensemble.

    Parameters
    ----------
    forecasts : (init_time, lead_time, number[, level], latitude, longitude)
        Ensemble forecasts, in memory or lazy.
    observations : (time[, level], latitude, longitude)
        Analyses on the same grid, in the same units. Variables (and levels) found in both are
        scored.
    reference : mapping of str to Reference, optional
        Reference forecasts by name, such as ``{"climatology": ClimatologyEnsemble(...)}``, or
        another model's as :class:`StoredForecast`.
    estimator : {"fair", "standard", "almost_fair"}
        Estimator of the CRPS, see :func:`scores_from`; the statistics serve them all.
    settings : Settings, optional
        Weights, regions, events, maps, and what a NaN does.
    store : path, optional
        Zarr folder of the scores. What is there already, whole or from a run that was stopped, is
        not computed again, but for one initial time to see that it is of the same forecasts.
        Initial times that are new are added, and those with more observations than before are
        scored again.
    executor : concurrent.futures.Executor, optional
        What runs the blocks: a ``ThreadPoolExecutor()``, or the ``get_executor()`` of a
        ``dask.distributed.Client``. One after the other unless given. The result does not depend
        on it.
    progress : callable, optional
        Called after each block with the number of initial times done and their total.

    Returns
    -------
    xr.Dataset
        Scores over ``(variable[, region], lead_time)`` as :func:`scores_from` describes them, and
        the statistics they derive from.

    Raises
    ------
    DimensionError
        A dimension is missing, or lead times have no unit, or ``"fair"`` with one member.
    GridMismatchError
        Forecasts, observations, references, weights or regions are not on one grid.
    InputError
        Nothing is in common, calendars differ, times repeat, weights are negative or NaN, a member
        is missing, or the ``store`` holds other statistics.
    MissingInputError
        No valid time of the forecasts is among the observations.
    UnitsError
        Units differ.
    ValueError
        An unknown option.

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
    if forecasts.sizes.get("number"):  # refused before the work, not after
        zero = xr.DataArray(0.0)
        crps_from_parts(zero, zero, zero, members=forecasts.sizes["number"], estimator=estimator)
    sums = statistics(
        forecasts,
        observations,
        reference=reference,
        settings=settings,
        store=store,
        executor=executor,
        progress=progress,
    )
    return scores_from(sums, estimator=estimator)


def statistics(
    forecasts: xr.Dataset,
    observations: xr.Dataset,
    *,
    reference: Mapping[str, Reference] | None = None,
    settings: Settings | None = None,
    store: str | os.PathLike[str] | None = None,
    replace: bool = False,
    executor: Executor | Crew | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Sum the scores over the cells, for each initial time: what adds over parts of the work.

    Parameters, errors and the treatment of missing values are those of :func:`evaluate`; with
    ``replace``, a ``store`` of other statistics is replaced once the new ones are whole. With a
    ``store``, a :class:`~weatherdiff.tasks.crew.Crew` may run the blocks, too: each is tried again
    if its worker dies, and what is not done is named.

    Returns
    -------
    xr.Dataset
        Sums over ``(variable, region, init_time, lead_time)``: see
        :mod:`weatherdiff.evaluation.aggregate`.
    """
    matched = match(forecasts, observations, dict(reference or {}), settings or Settings())
    if store is None:
        return merge_statistics(_run(matched, executor, progress))
    from weatherdiff.evaluation.streaming import score_block

    with StatisticsStore(store, matched, replace=replace) as kept:
        kept.confirm(score_block)
        remaining = kept.due()
        if len(remaining.inits):
            for part in _run(remaining, executor, progress, kept.notes):
                kept.add(part)
        return kept.publish()


@dataclass(frozen=True)
class _Blocks:
    """What is sent to each worker of a cluster, once."""

    matched: Match
    blocks: list[slice]

    def score(self, number: int) -> xr.Dataset:
        from weatherdiff.evaluation.streaming import score_block

        return score_block(self.matched.select(self.blocks[number]))

    def name(self, numbers: list[int]) -> str:
        """Name blocks by their initial times, which are many."""
        inits = np.concatenate([self.matched.inits[self.blocks[number]] for number in numbers])
        first, last = written(inits.min(), "m"), written(inits.max(), "m")
        if first == last:
            return f"the scores of the forecast from {first}"
        return f"the scores of {len(inits)} of the forecasts from {first} to {last}"


def _run(
    matched: Match,
    executor: Executor | Crew | None,
    progress: Progress | None,
    notes: Path | None = None,
) -> Iterator[xr.Dataset]:
    """Score all blocks, here, on an executor or by a crew, and give each as it is done."""
    from weatherdiff.evaluation.streaming import score_block

    done, total = 0, len(matched.inits)
    blocks = matched.blocks()

    def told(part: xr.Dataset) -> xr.Dataset:
        nonlocal done
        done += part.sizes["init_time"]
        if progress is not None:
            progress(done, total)
        return part

    if executor is None:
        for block in blocks:
            yield told(score_block(matched.select(block)))
        return
    if isinstance(executor, Crew):
        if notes is None:
            raise ValueError("a crew needs a store, where it notes what it has begun")
        job = _Blocks(matched, blocks)
        arguments: dict[int, tuple[()]] = dict.fromkeys(range(len(blocks)), ())
        for _, part in run_tried(executor, job, "score", arguments, notes=notes, name=job.name):
            yield told(part)
        return
    # A few more in the queue than can run, and given in order: neither blocks nor results pile up,
    # and sums over initial times do not depend on which block was first.
    waiting = 2 * (getattr(executor, "_max_workers", None) or os.cpu_count() or 1)
    running: deque[Future[xr.Dataset]] = deque()
    try:
        for block in blocks:
            running.append(executor.submit(score_block, matched.select(block)))
            if len(running) == waiting:
                yield told(running.popleft().result())
        while running:
            yield told(running.popleft().result())
    finally:
        for future in running:
            future.cancel()
