"""Verification as a configuration asks for it: baselines, events, regions, and where scores go."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xarray as xr

from weatherdiff.config import Evaluation
from weatherdiff.errors import InputError, MissingInputError
from weatherdiff.evaluation import (
    AnalogEnsemble,
    ClimatologyEnsemble,
    CRPSByScale,
    EnergyScore,
    Event,
    FieldStatistic,
    FractionsSkillScore,
    LinearInverseModel,
    Persistence,
    PowerSpectra,
    Reference,
    Settings,
    SmoothClimatology,
    VariogramScore,
    climatological_percentile,
    compare,
    percentile_events,
    regions,
)
from weatherdiff.evaluation.baselines.training import within
from weatherdiff.grid import Grid
from weatherdiff.staging import staged
from weatherdiff.tasks.crew import Crew
from weatherdiff.tasks.running import open_cluster

__all__ = ["baselines", "comparisons", "executor_of", "open_any_forecasts", "score_settings"]

Period = tuple[str, str]


def open_any_forecasts(source: str | os.PathLike[str]) -> xr.Dataset:
    """Open forecasts of ours (a folder of ``<initial time>.zarr``) or anybody else's."""
    from weatherdiff.data.ensembles import open_ensembles
    from weatherdiff.forecasting.writer import is_ours, open_forecasts

    if is_ours(source):
        return open_forecasts(source)
    return open_ensembles(os.fspath(source))


def baselines(options: Evaluation, analyses: xr.Dataset, period: Period) -> dict[str, Reference]:
    """Fit the baselines on the training period."""
    make: dict[str, Callable[[], Reference]] = {
        "climatology": lambda: ClimatologyEnsemble(analyses, period=period),
        "persistence": lambda: Persistence(analyses),
        "smooth_climatology": lambda: SmoothClimatology(
            analyses, period=period, members=options.baseline_members
        ),
        "analogs": lambda: AnalogEnsemble(
            analyses, period=period, members=options.baseline_members
        ),
        "linear_inverse_model": lambda: LinearInverseModel(
            analyses, period=period, members=options.baseline_members, truncation=options.patterns
        ),
    }
    return {name: make[name]() for name in options.baselines}


def score_settings(
    options: Evaluation, analyses: xr.Dataset, period: Period, thresholds: Path
) -> Settings:
    """Build the settings: what to score.

    Parameters
    ----------
    options : Evaluation
        The configuration's section.
    analyses : Dataset
        Canonical.
    period : (start, end)
        Training period: climatological thresholds and scales know no other.
    thresholds : Path
        Where climatological thresholds are kept, a Zarr folder.

    Raises
    ------
    MissingInputError
        The regions land and sea are asked for, and the data have no ``land_sea_mask``.
    """
    grid = Grid.from_dataset(analyses)
    chosen = None
    if options.regions or options.boxes:
        mask = analyses.get("land_sea_mask")
        if mask is None and {"land", "sea"} & set(options.regions):
            raise MissingInputError(
                "The regions land and sea need the variable land_sea_mask, which is not in the "
                "data; add it to data.source, or leave the regions out."
            )
        named = [name for name in options.regions if name not in ("land", "sea")]
        wanted_mask = mask if {"land", "sea"} & set(options.regions) else None
        chosen = regions(grid, named=named, boxes=options.boxes, land_sea_mask=wanted_mask)
    climatology = None
    if "anomaly_correlation" in options.scores:
        climatology = SmoothClimatology(analyses, period=period)
    events = list(_events(options, analyses, period, thresholds))
    return Settings(
        nan=options.nan,
        regions=chosen,
        events=events,
        climatology=climatology,
        decomposition="decomposition" in options.scores,
        maps="maps" in options.scores,
        fields=list(_field_statistics(options, analyses, period)),
    )


def _field_statistics(
    options: Evaluation, analyses: xr.Dataset, period: Period
) -> Iterator[FieldStatistic]:
    wanted = options.scores
    if "energy" in wanted:
        yield EnergyScore()
    if "energy_lead_time" in wanted:
        yield EnergyScore(lead_time=True)
    if "energy_variable" in wanted:
        yield EnergyScore(variable=True, scales=_scales(analyses, period))
    if "variogram" in wanted:
        yield VariogramScore()
    if "crps_by_scale" in wanted:
        yield CRPSByScale(tuple(options.scales))
    if "spectra" in wanted:
        yield PowerSpectra()
    if "fractions" in wanted:
        yield FractionsSkillScore(tuple(options.windows))


def _scales(analyses: xr.Dataset, period: Period) -> tuple[tuple[str, float], ...]:
    """Compute the standard deviation of each channel in the training period."""
    fields = analyses[[n for n in analyses.data_vars if "time" in analyses[n].dims]]
    training = within(fields, period).astype(np.float64)
    over = [d for d in ("time", "latitude", "longitude") if d in training.dims]
    deviation = training.std(over).compute()
    scales = []
    for name, values in deviation.items():
        if "level" in values.dims:
            scales += [(f"{name}_{level:g}", float(values.sel(level=level)))
                       for level in values["level"].values]  # fmt: skip
        else:
            scales.append((str(name), float(values)))
    return tuple(scales)


def _events(
    options: Evaluation, analyses: xr.Dataset, period: Period, path: Path
) -> Iterator[Event]:
    percentiles: dict[tuple[float, bool], list[str]] = {}
    for event in options.events:
        if event.above is not None:
            yield Event(event.variable, event.above)
        elif event.below is not None:
            yield Event(event.variable, event.below, above=False)
        elif event.above_percentile is not None:
            percentiles.setdefault((event.above_percentile, True), []).append(event.variable)
        elif event.below_percentile is not None:
            percentiles.setdefault((event.below_percentile, False), []).append(event.variable)
    if not percentiles:
        return
    names = {label for labels in percentiles.values() for label in labels}
    needed = [
        name for name in analyses.data_vars
        if any(label == name or label.startswith(f"{name}_") for label in names)
    ]  # fmt: skip
    if not needed:
        raise InputError(
            f"The data have no {', '.join(sorted(names))} to take percentiles of; they have "
            f"{', '.join(map(str, analyses.data_vars))}."
        )
    levels = sorted({value for value, _ in percentiles})
    fields = _thresholds(analyses[needed], levels, period, path)
    for (value, above), labels in percentiles.items():
        made = percentile_events(fields.sel(percentile=[value]), above=above)
        yield from (event for event in made if event.variable in labels)


def _thresholds(
    analyses: xr.Dataset, percentiles: list[float], period: Period, path: Path
) -> xr.Dataset:
    """Climatological thresholds from their folder, made first if it is not there."""
    key = json.dumps([sorted(map(str, analyses.data_vars)), percentiles, period])
    if path.exists():
        known = xr.open_zarr(path, consolidated=False, chunks=None)
        if known.attrs.get("made_of") == key:
            return known
    fields = climatological_percentile(analyses, percentiles, period=period)
    with staged(path, overwrite=True) as temporary:
        fields.assign_attrs(made_of=key).to_zarr(temporary, zarr_format=3, consolidated=False)
    return xr.open_zarr(path, consolidated=False, chunks=None)


def comparisons(statistics: xr.Dataset) -> dict[str, xr.Dataset]:
    """Compare the ensemble with each of its references by fair CRPS."""
    return {name: compare(statistics, name) for name in statistics.attrs["references"]}


@contextmanager
def executor_of(
    scheduler: str | None, workers: int | None, patience: float
) -> Iterator[Executor | Crew]:
    """Threads of this process, or a cluster of ``dask.distributed``.

    Parameters
    ----------
    scheduler : str, optional
        Address of a running dask scheduler, such as ``tcp://10.0.0.1:8786``, or ``local:4``.
    workers : int, optional
        Threads, as many as there are processors unless given.
    patience : float
        Seconds that the cluster may be without workers.

    Raises
    ------
    ConfigError, StorageError
        See :func:`weatherdiff.tasks.running.open_cluster`.
    """
    if scheduler is None:
        with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            yield pool
        return
    with open_cluster(scheduler, patience) as crew:
        yield crew
