"""The configuration of a whole run, and what must hold between its sections."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from weatherdiff.config.section import Section
from weatherdiff.config.sections import (
    Batch,
    Data,
    Evaluation,
    Forecast,
    Model,
    Objective,
    Positive,
    Report,
    Splits,
    Training,
    Window,
    in_some_calendar,
)

__all__ = ["Config"]


class Config(Section):
    """A whole run."""

    output: Path
    """Folder for all that the run writes. Relative to the working folder."""
    data: Data
    window: Window
    splits: Splits
    forcings: list[str] = ["time_of_day", "toa_solar_radiation"]
    """Known ahead; see :data:`weatherdiff.data.forcings.FORCINGS`."""
    model: Model = Model()
    objective: Objective = Objective()
    training: Training = Training()
    forecast: Forecast
    evaluation: Evaluation = Evaluation()
    report: Report = Report()
    batch: Batch = Batch()
    threads: Positive | None = None
    """CPU threads of the network. One is often fastest for small grids; PyTorch's by default."""
    worker_timeout: Annotated[float, Field(gt=0)] = 300.0
    """Seconds that a cluster may be without workers before a verb gives up, with exit code 74."""

    @field_validator("forcings", mode="after")
    @classmethod
    def _are_known(cls, names: list[str]) -> list[str]:
        from weatherdiff.data.forcings import FORCINGS

        for name in names:
            if name not in FORCINGS:
                raise ValueError(f"unknown forcing {name!r}; known are {', '.join(FORCINGS)}")
        return names

    @model_validator(mode="after")
    def _only_what_is_prepared_is_controlled(self) -> Config:
        if not self.data.prepare and self.data.quality != "report":
            raise ValueError(
                f"data.quality: {self.data.quality} acts on a field store, and data.prepare is "
                "false; prepare one, or look at the source with weatherdiff check"
            )
        return self

    @model_validator(mode="after")
    def _fallback_is_possible(self) -> Config:
        options = self.forecast
        for key, asked in (
            ("scheduler", options.scheduler is not None),
            ("keep_members: false", not options.keep_members),
            ("observations", options.observations is not None),
        ):
            if asked and self.batch.fallback is not None:
                raise ValueError(f"batch.fallback cannot be had with forecast.{key}; leave one out")
        return self

    @model_validator(mode="after")
    def _lead_time_is_in_steps(self) -> Config:
        from weatherdiff.data.prepare import parse_step

        if parse_step(self.forecast.lead_time) % parse_step(self.window.step):
            raise ValueError(
                f"forecast.lead_time {self.forecast.lead_time} is not a multiple of window.step "
                f"{self.window.step}"
            )
        return self

    @model_validator(mode="after")
    def _splits_are_apart(self) -> Config:
        """No frame may be in two splits, neither as target nor as history."""
        from weatherdiff.data.prepare import parse_step

        reach = (self.window.history - 1) * parse_step(self.window.step)
        gap = parse_step(self.splits.gap) if self.splits.gap is not None else 0
        names = ("training", "validation", "test")
        named = in_some_calendar(
            lambda calendar: [(name, self.splits.period(name, calendar)) for name in names]
        )
        named.sort(key=lambda item: item[1].start)
        for (first, a), (second, b) in pairwise(named):
            if b.start - reach - gap <= a.stop:
                apart = f"{reach / 3600:g} h of history"
                apart += f" and a gap of {gap / 3600:g} h" if gap else ""
                raise ValueError(
                    f"splits: the {second} period ({b}), with {apart} before it, must start after "
                    f"the {first} period ({a}) has ended"
                )
        return self

    @property
    def store(self) -> Path:
        """Of the prepared fields."""
        return self.output / "fields.zarr"

    @property
    def source_statistics(self) -> Path:
        """Of a source that is not prepared."""
        return self.output / "source_statistics.npz"

    @property
    def model_folder(self) -> Path:
        """Of the trained model."""
        return self.output / "model"

    @property
    def forecasts(self) -> Path:
        """Of the forecasts."""
        return self.output / "forecasts"

    @property
    def scores(self) -> Path:
        """Of the scores."""
        return self.output / "scores.zarr"

    @property
    def thresholds(self) -> Path:
        """Of events by climatological percentile."""
        return self.output / "thresholds.zarr"

    @property
    def report_page(self) -> Path:
        """Of the report."""
        return self.output / "report.html"

    @property
    def summary(self) -> Path:
        """Of the short table of scores."""
        return self.output / "summary.json"
