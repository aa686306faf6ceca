"""The model, and how a configuration draws from it: by this process, or by a cluster."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from weatherdiff.config import Config
from weatherdiff.data.windows import seconds
from weatherdiff.errors import ConfigError, InputError, StorageError
from weatherdiff.forecasting.products import Products, Thresholds
from weatherdiff.layout import LAYOUT
from weatherdiff.workflow.fields import open_source
from weatherdiff.workflow.record import digest, set_threads, versions

if TYPE_CHECKING:
    from weatherdiff.config.sections import Forecast
    from weatherdiff.forecasting.drawing import UnitWriter
    from weatherdiff.forecasting.fanout import Drawing
    from weatherdiff.forecasting.forecaster import Forecaster
    from weatherdiff.forecasting.rollout import Rollout
    from weatherdiff.tasks.crew import Crew

__all__ = ["MADE_WITH", "Sampler"]

logger = logging.getLogger(__name__)

MADE_WITH = "weatherdiff_made_with"


class Sampler:
    """The model and how a configuration draws from it.

    Parameters
    ----------
    config : Config
    analyses : Dataset, optional
        The configured source, if it is open already.

    Attributes
    ----------
    workers : Crew or None
        The cluster that draws the members, within :meth:`crew`; we ourselves do without.
    identity : str
        SHA-256 of the description of the model that was loaded.
    """

    def __init__(self, config: Config, analyses: xr.Dataset | None = None) -> None:
        from weatherdiff.forecasting.assimilation import require_posterior
        from weatherdiff.forecasting.forecaster import Sampling
        from weatherdiff.forecasting.observations import open_observations, require_calendar

        set_threads(config)
        options = config.forecast
        self.config = config
        self.workers: Crew | None = None
        self._forecaster, description = _loaded(config.model_folder)
        self.identity = hashlib.sha256(description).hexdigest()
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
            require_calendar(self._observations, self._forecaster.calendar)
            made_by["observations_sha256"] = digest(
                self._observations.to_json(date_format="iso", double_precision=15)
            )
        self.analyses = ds = open_source(config) if analyses is None else analyses
        self.frames = self._forecaster.frames_until(options.lead_time)
        self.products = _products(options)
        self.products.require(self._forecaster.layout("1970-01-01", 2))
        self.attributes = {
            "title": "weatherdiff ensemble forecast",
            "history": f"weatherdiff {versions()['weatherdiff']}",
            "seed": options.seed,
            "model": str(config.model_folder),
            "licence_of_source": str(ds.attrs.get("licence", ds.attrs.get("license", ""))),
            LAYOUT: ds.attrs[LAYOUT],
            MADE_WITH: _forecast_settings(
                config, made_by, json.loads(description)["weights_sha256"]
            ),
        }
        if options.observations is not None:
            self.attributes["observations"] = options.observations

    @property
    def lead_times(self) -> npt.NDArray[np.timedelta64]:
        """Of all frames."""
        step = self._forecaster.spec.step
        leads = step * np.arange(1, self.frames + 1)
        return leads.astype("timedelta64[s]").astype("timedelta64[ns]")

    @property
    def block(self) -> tuple[int, int]:
        """Frames and members drawn together."""
        return self._forecaster.spec.frames, self._options.member_block

    @property
    def calendar(self) -> str:
        """CF name of the calendar that the model forecasts in."""
        return self._forecaster.calendar

    @property
    def valid(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Where each variable has values."""
        mask = xr.DataArray(self._forecaster.mask, dims=("channel", "latitude", "longitude"))
        parts = self._forecaster.channels.unstack(mask)
        return {str(name): part.to_numpy() for name, part in parts.data_vars.items()}

    @contextmanager
    def crew(self) -> Iterator[None]:
        """Have members drawn by the configured cluster, if there is one, as long as this lasts.

        Raises
        ------
        ConfigError, StorageError
            See :func:`weatherdiff.tasks.running.open_cluster`.
        """
        if self._options.scheduler is None:
            yield
            return
        from weatherdiff.tasks.running import open_cluster

        patience = self._options.worker_timeout or self.config.worker_timeout
        with open_cluster(self._options.scheduler, patience) as self.workers:
            try:
                yield
            finally:
                self.workers = None

    def drawing(
        self, init_time: np.datetime64, analyses: xr.Dataset, writer: UnitWriter
    ) -> Drawing:
        """Give what a worker must know to draw members.

        Parameters
        ----------
        init_time : datetime64
        analyses : Dataset
            Of :meth:`history`.
        writer : UnitWriter
        """
        import torch

        from weatherdiff.forecasting.fanout import Drawing

        return Drawing(
            model=self.config.model_folder.absolute(),
            identity=self.identity,
            threads=torch.get_num_threads(),
            analyses=analyses,
            init_time=init_time,
            frames=self.frames,
            members=self._options.members,
            seed=self._options.seed,
            sampling=replace(self._sampling, precision=self._sampling.arithmetic),
            writer=writer,
            observations=self._observed(init_time),
        )

    def blocks(
        self,
        init_time: np.datetime64,
        numbers: range | None = None,
        analyses: xr.Dataset | None = None,
        *,
        frames: int | None = None,
    ) -> Rollout:
        """Draw the members of an initial time, a block of frames at a time."""
        return self._forecaster.rollout(
            self.analyses if analyses is None else analyses,
            init_time=init_time,
            frames=frames or self.frames,
            members=numbers or self._options.members,
            seed=self._options.seed,
            sampling=self._sampling,
            observations=self._observed(init_time),
        )

    def older_blocks(
        self, init_time: np.datetime64, older: np.datetime64, numbers: range, analyses: xr.Dataset
    ) -> Iterator[xr.Dataset]:
        """Draw the same from an older analysis; see :mod:`weatherdiff.forecasting.fallback`."""
        from weatherdiff.forecasting.fallback import with_later_start

        spec = self._forecaster.spec
        behind = int(np.diff(seconds([older, init_time]))[0]) // spec.step
        rollout = self.blocks(older, numbers, analyses, frames=behind + self.frames)
        return with_later_start(rollout, init_time, frames=spec.frames)

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

    def history(self, init_time: np.datetime64) -> xr.Dataset:
        """Read the frames that a forecast starts from into memory."""
        from weatherdiff.data.sources.formats import load
        from weatherdiff.forecasting.initial_state import history_places

        ds, model = self.analyses, self._forecaster
        places = history_places(ds, int(seconds([init_time])[0]), model.spec, model.calendar)
        names = [name for name in dict.fromkeys(model.channels.variables) if name in ds]
        return load(ds[names].isel(time=places).copy())


def _products(options: Forecast) -> Products:
    """Give what is to be made of the members."""
    asked = options.products
    return Products(
        mean=asked.mean,
        spread=asked.spread,
        quantiles=tuple(asked.quantiles),
        exceedance={
            event.variable: Thresholds(tuple(event.above), tuple(event.below))
            for event in asked.exceedance
        },
    )


def _loaded(folder: Path) -> tuple[Forecaster, bytes]:
    """Load a model, and its description; training may be replacing it at this very moment.

    What a forecast says of its model is of the one that made it, also when another has its place
    by then.
    """
    from weatherdiff.forecasting.forecaster import Forecaster

    for _ in range(3):
        before = _description(folder)
        try:
            forecaster = Forecaster.load(folder)
        except InputError:  # the weights of another than the description
            if _description(folder) == before:
                raise
        else:
            if _description(folder) == before:
                return forecaster, before
    raise StorageError(f"{folder} was replaced again and again while it was loaded; run again.")


def _description(folder: Path) -> bytes:
    try:
        return (folder / "model.json").read_bytes()
    except FileNotFoundError:  # to load it says so
        return b""


def _forecast_settings(config: Config, made_by: Mapping[str, Any], weights_sha256: str) -> str:
    """Give what forecasts depend on beside initial times and the contents of the source."""
    elsewhere = {"init_times", "every", "scheduler", "worker_timeout"}
    options = config.forecast.model_dump(mode="json", exclude=elsewhere)
    options |= made_by
    # As forecasts were described before there was a choice, so that those that are there stay.
    plain = {
        "grid": "uniform", "guidance": 1.0, "observations": None, "guidance_method": "auto",
        "products": type(config.forecast.products)().model_dump(mode="json"), "keep_members": True,
    }  # fmt: skip
    if options["observations"] is not None:
        del plain["guidance_method"]
    for key, only in plain.items():
        if options[key] == only:
            del options[key]
    return json.dumps({**options, "weights_sha256": weights_sha256}, sort_keys=True)
