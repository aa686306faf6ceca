"""Forecaster: a trained model, in physical units."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from weatherdiff.data.channels import Channels
from weatherdiff.data.forcings import forcing_fields
from weatherdiff.data.normalization import Normalizer
from weatherdiff.data.windows import WindowSpec, parse_time
from weatherdiff.errors import ConfigError
from weatherdiff.flow import Objective, Schedule
from weatherdiff.forecasting.assimilation import Assimilation, require_posterior
from weatherdiff.forecasting.block import BlockSampler
from weatherdiff.forecasting.folder import read_parts, write_parts
from weatherdiff.forecasting.footprints import footprints
from weatherdiff.forecasting.frames import forecast_dataset
from weatherdiff.forecasting.initial_state import read_history
from weatherdiff.forecasting.observations import (
    LinearObservations,
    ObservationTable,
    require_calendar,
)
from weatherdiff.forecasting.rollout import Key, Rollout
from weatherdiff.forecasting.sampling import Sampling
from weatherdiff.grid import Grid
from weatherdiff.models import VideoDenoiser

__all__ = ["Forecaster", "Sampling"]

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Forecaster:
    """Draw ensembles from a trained model.

    Attributes
    ----------
    network : VideoDenoiser
    channels : Channels
    grid : Grid
    normalizer : Normalizer
    spec : WindowSpec
        History and frames of one block.
    forcings : tuple of str
    mask : (channel, latitude, longitude)
    static : (static, latitude, longitude)
    noise_scale : (frames, channel)
        Standard deviation of the initial noise, calibrated on the validation period.
    fill : bool
        Whether missing values in the initial state become climatology instead of an error.
    provenance : dict
    objective : Objective
        What the network was trained for.
    history_dropout : float
        Share of the training windows that had no history.

    Examples
    --------
    >>> forecaster = Forecaster.load("runs/demo/model")              # doctest: +SKIP
    >>> forecaster.forecast(ds, init_time="2018-07-20T06", lead_time="24h",
    ...                     members=20, seed=1)                      # doctest: +SKIP
    """

    network: VideoDenoiser
    channels: Channels
    grid: Grid
    normalizer: Normalizer
    spec: WindowSpec
    forcings: tuple[str, ...]
    mask: npt.NDArray[np.bool_]
    static: Array
    noise_scale: Array
    fill: bool
    provenance: Mapping[str, Any]
    objective: Objective = field(default_factory=Objective)
    history_dropout: float = 0.0

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Forecaster:
        """Load a model folder.

        Raises
        ------
        MissingInputError
            There is no model.
        InputError
            It is damaged, or newer than this weatherdiff.
        """
        return cls(**read_parts(folder))

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write a model folder, visible only when whole.

        Raises
        ------
        StorageError
            The folder exists, or cannot be written.
        """
        write_parts(self, folder, overwrite=overwrite)

    def forecast(
        self,
        ds: xr.Dataset,
        *,
        init_time: str | np.datetime64,
        lead_time: str | np.timedelta64,
        members: int,
        seed: int = 0,
        sampling: Sampling | None = None,
        progress: Callable[[int, int], None] | None = None,
        observations: ObservationTable | LinearObservations | None = None,
    ) -> xr.Dataset:
        """Forecast from one initial time; the ensemble is held in memory.

        Parameters
        ----------
        ds : Dataset
            Canonical analysis, as :func:`weatherdiff.open_fields` gives it, on the model's grid,
            with the frames of the history.
        init_time : str or datetime64
            UTC; the last frame of the history.
        lead_time : str or timedelta64
            The longest lead, a multiple of the model's step.
        members : int
            Size of the ensemble.
        seed : int
            The same seed gives the same member ``number`` whatever ``members`` is.
        sampling : Sampling, optional
        progress : callable, optional
            Called with (member blocks done, in all) of each block of frames.
        observations : DataFrame, Dataset or LinearObservations, optional
            Sparse observations of the frames being forecast, in physical units; see
            :mod:`weatherdiff.forecasting.observations`. The members are then drawn from the
            posterior given those of the block of frames that holds their time, from which the next
            block goes on. Observations at no frame are left out, which is logged. Bounded variables
            are observed in transformed space; see :mod:`weatherdiff.forecasting.assimilation`.

        Returns
        -------
        Dataset
            (init_time, lead_time, number[, level], latitude, longitude), physical units.

        Raises
        ------
        MissingInputError
            A frame of the history is not in ``ds``.
        InputError
            Missing values in the initial state, another grid, other units, an absent variable;
            an observation of something that the model has not, or outside its grid.
        ConfigError
            A lead time or number of members that cannot be, or observations with a model or
            sampling that they cannot be combined with.
        """
        frames = self.frames_until(lead_time)
        blocks = self.rollout(
            ds, init_time=init_time, frames=frames, members=members, seed=seed,
            sampling=sampling, progress=progress, observations=observations,
        )  # fmt: skip
        return xr.concat(list(blocks), "lead_time", data_vars="minimal", join="exact")

    def rollout(
        self,
        ds: xr.Dataset,
        *,
        init_time: str | np.datetime64,
        frames: int,
        members: int | range,
        seed: int = 0,
        sampling: Sampling | None = None,
        progress: Callable[[int, int], None] | None = None,
        observations: ObservationTable | LinearObservations | None = None,
    ) -> Rollout:
        """Yield a forecast block of frames by block of frames, all members in lockstep.

        Beyond the first block the model goes on from its own last frames. Memory holds the
        members of one block, however long the forecast. The last block is cut to ``frames``.
        The input is read and checked at the call, before the first block is asked for.

        Parameters and errors are those of :meth:`forecast`, with ``frames`` the number of steps.
        ``members`` may also be the range of the numbers of a part of the ensemble: one that starts
        at a multiple of the member block is bit-identical to that part of the whole.

        Returns
        -------
        Rollout
            An iterator of Datasets, which can also be stopped after a block and gone on with.
        """
        numbers = range(members) if isinstance(members, int) else members
        if len(numbers) < 1 or frames < 1:
            raise ConfigError(f"members ({members}) and frames ({frames}) must be at least 1.")
        sampling = sampling or Sampling()
        self._noise_scale(sampling)  # refuses what it does not know before anything is read
        self.schedule(sampling)
        init = parse_time(init_time, self.calendar)
        observed = self._observed(observations, init, frames, sampling)
        history = self.initial_state(ds, init)
        sampler = BlockSampler(
            self.network, self.objective, self.normalizer, self.mask, self.static,
            self._noise_scale(sampling), sampling,
        )  # fmt: skip
        return Rollout(
            sampler,
            history,
            spec=self.spec,
            key=Key(seed, init, numbers, frames),
            forcings=lambda times: forcing_fields(self.forcings, times, self.grid, self.calendar),
            fields=self.normalizer.fields,
            dataset=self._dataset,
            observed=observed,
            progress=progress,
        )

    @property
    def calendar(self) -> str:
        """CF name of the calendar that it was trained in, and forecasts in."""
        return self.normalizer.period.calendar

    def layout(self, init_time: str | np.datetime64, members: int) -> xr.Dataset:
        """Give one frame as :meth:`rollout` would yield it, of zeros: its layout without the work.

        Parameters
        ----------
        init_time : str or datetime64
            UTC.
        members : int
            Size of the ensemble.
        """
        init = parse_time(init_time, self.calendar)
        shape = (members, 1, len(self.channels), *self.grid.shape)
        zeros = np.broadcast_to(np.float32(0), shape)
        times = init + self.spec.lead_times[:1]
        return self._dataset(self.normalizer.fields(zeros, times), init, times)

    def schedule(self, sampling: Sampling) -> Schedule:
        """Say how members will be drawn.

        Raises
        ------
        ConfigError
            What has no meaning for this model: an ancestral sampler without a chain of steps, or
            guidance by a history that was never dropped.
        """
        schedule = sampling.schedule(self.objective.schedule)
        try:
            self.objective.require(schedule)
        except ValueError as error:
            raise ConfigError(f"Sampling: {error}.") from None
        if sampling.guidance != 1 and not self.history_dropout:
            raise ConfigError(
                f"guidance is {sampling.guidance}, but the model never saw a window without its "
                "history; train with objective.history_dropout."
            )
        return schedule

    def frames_until(self, lead_time: str | np.timedelta64) -> int:
        """Count the frames up to a lead time.

        Raises
        ------
        ConfigError
            Not a positive multiple of the model's step.
        """
        try:
            lead = pd.Timedelta(lead_time).total_seconds()
        except ValueError:
            raise ConfigError(f'Not a lead time: {lead_time!r}; write for example "24h".') from None
        frames, rest = divmod(lead, self.spec.step)
        if rest or frames < 1:
            raise ConfigError(
                f"The lead time {lead_time} is not a multiple of the model's step of "
                f"{self.spec.step / 3600:g} h."
            )
        return int(frames)

    def initial_state(self, ds: xr.Dataset, init: int) -> Array:
        """Read and check the history of one initial time.

        Parameters
        ----------
        ds : Dataset
            Canonical analysis.
        init : int
            Seconds since 1970-01-01 UTC.

        Returns
        -------
        (history, channel, latitude, longitude)
            Normalised; NaN where the model has no data.
        """
        return read_history(
            ds, init, channels=self.channels, grid=self.grid, normalizer=self.normalizer,
            spec=self.spec, mask=self.mask, fill=self.fill,
        )  # fmt: skip

    def _observed(
        self,
        observations: ObservationTable | LinearObservations | None,
        init: int,
        frames: int,
        sampling: Sampling,
    ) -> list[Assimilation | None]:
        """Give each block of frames the observations of its times."""
        spec, blocks = self.spec, -(-frames // self.spec.frames)
        if observations is None:
            return [None] * blocks
        require_posterior(self.objective, sampling)
        require_calendar(observations, self.calendar)
        seen = footprints(observations, channels=self.channels, grid=self.grid, mask=self.mask)
        parts = seen.by_block(init, spec, blocks, self.calendar)
        starts = init + spec.frames * spec.step * np.arange(blocks)
        return [
            None if part is None else Assimilation(part, start + spec.lead_times, self.normalizer)
            for start, part in zip(starts, parts, strict=True)
        ]

    def _noise_scale(self, sampling: Sampling) -> Array:
        factors = sampling.noise_factors(self.channels.labels, self.spec.frames)
        return (self.noise_scale * factors).astype(np.float32)

    def _dataset(self, fields: Array, init: int, times: npt.NDArray[np.int64]) -> xr.Dataset:
        return forecast_dataset(
            fields, init=init, times=times, channels=self.channels, grid=self.grid,
            calendar=self.calendar,
        )  # fmt: skip
