"""From a model to ensembles, stored or scored as they are drawn."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import xarray as xr

from weatherdiff.config import Config
from weatherdiff.errors import ConfigError
from weatherdiff.progress import progress_bar
from weatherdiff.workflow.fields import init_times_of
from weatherdiff.workflow.making import make_forecast
from weatherdiff.workflow.record import seconds_spent, timed, write_json
from weatherdiff.workflow.retention import prune
from weatherdiff.workflow.sampling import MADE_WITH, Sampler

__all__ = ["forecast", "forecast_and_score"]

logger = logging.getLogger(__name__)


def forecast(config: Config, *, overwrite: bool = False) -> Path:
    """Make the configured forecasts that are not there yet; return their folder.

    A run that was killed goes on with the next unit of members, see
    :mod:`weatherdiff.forecasting.work`.

    Raises
    ------
    ConfigError
        A forecast that is there was made with another model or other settings.
    """
    from weatherdiff.forecasting.writer import forecast_attributes, forecast_name

    sampling = Sampler(config)
    init_times = init_times_of(config, sampling.frames, calendar=sampling.calendar)
    sampling.require_observed(init_times)
    config.forecasts.mkdir(parents=True, exist_ok=True)
    prune(config.forecasts, keep=None, at_least=1)  # what killed runs have left, and no forecast
    due = []
    for init_time in init_times:
        path = config.forecasts / forecast_name(init_time)
        if overwrite or not path.exists():
            due.append(init_time)
        elif forecast_attributes(path).get(MADE_WITH) != sampling.attributes[MADE_WITH]:
            raise ConfigError(
                f"{path} was made with another model or other settings; run forecast with "
                "--overwrite, or choose another output folder."
            )
    if not due:
        logger.info("All %d forecasts are there already.", len(init_times))
        return config.forecasts
    with (
        timed(config, "forecast"),
        progress_bar("forecast", "initial times") as progress,
        sampling.crew(),
    ):
        for done, init_time in enumerate(due, start=1):
            make_forecast(sampling, init_time, overwrite=overwrite)
            progress(done, len(due))
    return config.forecasts


def forecast_and_score(config: Config) -> xr.Dataset:
    """Score the configured forecasts while they are made, and keep no member.

    The members of an initial time advance in lockstep, a block of frames at a time: memory is that
    of the members of one block. The scores are those of forecasting first and evaluating then. A
    run that was stopped goes on with the next initial time. A cluster is not made use of.
    """
    from weatherdiff import scoring
    from weatherdiff.evaluation import open_scores, summary
    from weatherdiff.evaluation.lockstep import match_blocks, score_blocks
    from weatherdiff.evaluation.storage import StatisticsStore

    sampling = Sampler(config)
    ds, options, period = sampling.analyses, config.evaluation, config.splits.training
    init_times = np.array(init_times_of(config, sampling.frames, calendar=sampling.calendar))
    sampling.require_observed(init_times)
    config.output.mkdir(parents=True, exist_ok=True)
    with timed(config, "forecast"), progress_bar("forecast", "initial times") as progress:
        matched = match_blocks(
            sampling.example(init_times[0]),
            ds,
            init_times=init_times,
            lead_times=sampling.lead_times,
            reference=scoring.baselines(options, ds, period),
            settings=scoring.score_settings(options, ds, period, config.thresholds),
        )
        with StatisticsStore(config.scores, matched, replace=True) as kept:
            due = kept.due()
            for i, init_time in enumerate(due.inits):
                kept.add(score_blocks(due.select(slice(i, i + 1)), sampling.blocks(init_time)))
                progress(i + 1, len(due.inits))
            kept.publish()
        result = open_scores(config.scores)
    write_json(config.summary, {**summary(result), "seconds": seconds_spent(config)})
    return result
