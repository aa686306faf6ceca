"""From a model to ensembles, stored or scored as they are drawn."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from weatherdiff.config import Config
from weatherdiff.data.windows import seconds
from weatherdiff.errors import ConfigError
from weatherdiff.layout import LAYOUT
from weatherdiff.progress import progress_bar
from weatherdiff.staging import remove_leftovers
from weatherdiff.workflow.fields import init_times_of, open_source
from weatherdiff.workflow.record import (
    digest,
    seconds_spent,
    set_threads,
    timed,
    versions,
    write_json,
)

__all__ = ["forecast", "forecast_and_score"]

logger = logging.getLogger(__name__)

MADE_WITH = "weatherdiff_made_with"


def forecast(config: Config, *, overwrite: bool = False) -> Path:
    """Make the configured forecasts that are not there yet; return their folder.

    Raises
    ------
    ConfigError
        A forecast that is there was made with another model or other settings.
    """
    from weatherdiff.forecasting.writer import forecast_attributes, forecast_name, write_forecast

    sampling = Sampler(config)
    init_times = init_times_of(config, sampling.frames)
    sampling.require_observed(init_times)
    config.forecasts.mkdir(parents=True, exist_ok=True)
    remove_leftovers(config.forecasts)
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
    with timed(config, "forecast"), progress_bar("forecast", "initial times") as progress:
        for done, init_time in enumerate(due, start=1):
            write_forecast(
                config.forecasts,
                sampling.blocks(init_time),
                frames=sampling.frames,
                member_block=config.forecast.member_block,
                attributes=sampling.attributes,
                overwrite=overwrite,
            )
            progress(done, len(due))
    return config.forecasts


def forecast_and_score(config: Config) -> xr.Dataset:
    """Score the configured forecasts while they are made, and keep no member.

    The members of an initial time advance in lockstep, a block of frames at a time: memory is that
    of the members of one block. The scores are those of forecasting first and evaluating then. A
    run that was stopped goes on with the next initial time.
    """
    from weatherdiff import scoring
    from weatherdiff.evaluation import open_scores, summary
    from weatherdiff.evaluation.lockstep import match_blocks, score_blocks
    from weatherdiff.evaluation.storage import StatisticsStore

    sampling = Sampler(config)
    ds, options, period = sampling.analyses, config.evaluation, config.splits.training
    init_times = np.array(init_times_of(config, sampling.frames)).astype("datetime64[ns]")
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


class Sampler:
    """The model and how a configuration draws from it."""

    def __init__(self, config: Config) -> None:
        from weatherdiff.forecasting.assimilation import require_posterior
        from weatherdiff.forecasting.forecaster import Forecaster, Sampling
        from weatherdiff.forecasting.observations import open_observations

        set_threads(config)
        options = config.forecast
        self._forecaster = Forecaster.load(config.model_folder)
        self._options = options
        self._sampling = Sampling(
            sampler=options.sampler,
            steps=options.steps,
            member_block=options.member_block,
            precision=options.precision,
            noise=options.noise,
            grid=options.grid,
            guidance=options.guidance,
            guidance_method=options.guidance_method,
        )
        # Refuses what has no meaning for the model.
        made_by = asdict(self._forecaster.schedule(self._sampling))
        made_by["precision"] = self._sampling.arithmetic
        self._observations: pd.DataFrame | None = None
        if options.observations is not None:
            require_posterior(self._forecaster.objective, self._sampling)
            self._observations = open_observations(options.observations)
            made_by["observations_sha256"] = digest(
                self._observations.to_json(date_format="iso", double_precision=15)
            )
        self.analyses = ds = open_source(config)
        self.frames = self._forecaster.frames_until(options.lead_time)
        self.attributes = {
            "title": "weatherdiff ensemble forecast",
            "history": f"weatherdiff {versions()['weatherdiff']}",
            "seed": options.seed,
            "model": str(config.model_folder),
            "licence_of_source": str(ds.attrs.get("licence", ds.attrs.get("license", ""))),
            LAYOUT: ds.attrs[LAYOUT],
            MADE_WITH: _forecast_settings(config, made_by),
        }
        if options.observations is not None:
            self.attributes["observations"] = options.observations

    @property
    def lead_times(self) -> npt.NDArray[np.timedelta64]:
        """Of all frames."""
        step = self._forecaster.spec.step
        leads = step * np.arange(1, self.frames + 1)
        return leads.astype("timedelta64[s]").astype("timedelta64[ns]")

    def blocks(self, init_time: np.datetime64) -> Iterator[xr.Dataset]:
        """Draw the members of an initial time, a block of frames at a time."""
        return self._forecaster.rollout(
            self.analyses,
            init_time=init_time,
            frames=self.frames,
            members=self._options.members,
            seed=self._options.seed,
            sampling=self._sampling,
            observations=self._observed(init_time),
        )

    def require_observed(self, init_times: Iterable[np.datetime64]) -> None:
        """Refuse observations of which no forecast can make use.

        Raises
        ------
        ConfigError
            There are some, and none is at a frame of a forecast.
        """
        if self._observations is None:
            return
        observed = [self._observed(init_time) is not None for init_time in init_times]
        if not any(observed):
            times = self._observations["valid_time"]
            raise ConfigError(
                f"forecast.observations: {self._options.observations} ({times.min()} to "
                f"{times.max()}) has no observation at a frame of any of the forecasts."
            )
        logger.info("%d of %d forecasts have observations.", sum(observed), len(observed))

    def _observed(self, init_time: np.datetime64) -> pd.DataFrame | None:
        """Give the observations at the frames of a forecast, if there are any."""
        if self._observations is None:
            return None
        spec = self._forecaster.spec
        frames = -(-self.frames // spec.frames) * spec.frames  # of whole blocks
        times = int(seconds([init_time])[0]) + spec.step * np.arange(1, frames + 1)
        found = np.isin(seconds(self._observations["valid_time"].to_numpy()), times)
        return self._observations[found] if found.any() else None

    def example(self, init_time: np.datetime64) -> xr.Dataset:
        """Give a block as :meth:`blocks` gives it, without drawing: for its layout alone."""
        return self._forecaster.layout(init_time, self._options.members).assign_attrs(
            self.attributes
        )


def _forecast_settings(config: Config, made_by: dict[str, Any]) -> str:
    """Give what forecasts depend on beside initial times and the contents of the source."""
    model = json.loads((config.model_folder / "model.json").read_text())
    options = config.forecast.model_dump(mode="json", exclude={"init_times", "every"})
    options |= made_by
    # As forecasts were described before there was a choice, so that those that are there stay.
    plain = {
        "grid": "uniform", "guidance": 1.0, "observations": None, "guidance_method": "auto"
    }  # fmt: skip
    if options["observations"] is not None:
        del plain["guidance_method"]
    for key, only in plain.items():
        if options[key] == only:
            del options[key]
    return json.dumps({**options, "weights_sha256": model["weights_sha256"]}, sort_keys=True)
