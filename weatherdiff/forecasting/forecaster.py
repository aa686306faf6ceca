"""Forecaster: a trained model, in physical units."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import xarray as xr

from weatherdiff import schema
from weatherdiff.data.channels import Channels
from weatherdiff.data.forcings import forcing_fields
from weatherdiff.data.formats import load
from weatherdiff.data.normalization import Normalizer
from weatherdiff.data.windows import WindowSpec, parse_time, seconds, to_datetime
from weatherdiff.errors import ConfigError, InputError, MissingInputError, UnitsError
from weatherdiff.flow import (
    NoiseStream,
    Objective,
    Predictor,
    Schedule,
    guided_by_history,
    keyed_noise,
)
from weatherdiff.grid import Grid
from weatherdiff.models import Condition, VideoDenoiser
from weatherdiff.models.arithmetic import bfloat16_is_fast
from weatherdiff.models.folder import load_model, save_model

__all__ = ["Forecaster", "Sampling"]

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sampling:
    """How members are drawn.

    Parameters
    ----------
    sampler, steps, grid : str, int, str, optional
        As in :class:`weatherdiff.flow.Schedule`; the model's own by default.
    member_block : int
        Members in one call of the network. Convolutions of different batch sizes differ in the
        last bits, so a forecast is bit-identical for a fixed block; the last one is filled up.
    precision : {"auto", "bf16", "fp32"}
        Of the network's arithmetic; ``"auto"`` takes bf16 where the device computes in it.
    noise : mapping, optional
        Factors on the initial noise of some channels, by label, at the first and the last frame
        of a block (linear between): a wider start gives a wider ensemble. They multiply what the
        model's own calibration found.
    guidance : float
        How far the history is believed: 1 as it was trained, 0 not at all, which gives samples of
        the climate. Other values than 1 need a model that was trained with dropped histories.
    """

    sampler: str | None = None
    steps: int | None = None
    member_block: int = 10
    precision: str = "auto"
    noise: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    grid: str | None = None
    guidance: float = 1.0

    def __post_init__(self) -> None:
        self.schedule(Schedule())
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ConfigError(f"Unknown precision {self.precision!r}; known: auto, bf16, fp32.")
        if self.member_block < 1:
            raise ConfigError("The member block must be at least 1.")
        if any(min(ends) <= 0 for ends in self.noise.values()):
            raise ConfigError(f"Factors on the noise must be positive, found {dict(self.noise)}.")

    @property
    def arithmetic(self) -> str:
        """``"bf16"`` or ``"fp32"``."""
        if self.precision == "auto":
            return "bf16" if bfloat16_is_fast() else "fp32"
        return self.precision

    def schedule(self, default: Schedule) -> Schedule:
        """Fill in what was left open.

        Raises
        ------
        ConfigError
            A sampler or grid that is not known, or less than one step.
        """
        wanted = {"sampler": self.sampler, "steps": self.steps, "grid": self.grid}
        try:
            return replace(default, **{k: v for k, v in wanted.items() if v is not None})  # type: ignore[arg-type]
        except ValueError as error:
            raise ConfigError(f"Sampling: {error}.") from None


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
        network, arrays, metadata = load_model(folder)
        generative: dict[str, Any] = {}
        try:
            if metadata["version"] > 1:
                generative = {
                    "objective": Objective.from_dict(metadata["objective"]),
                    "history_dropout": metadata["history_dropout"],
                }
            return cls(
                network=network,
                channels=Channels.from_dict(metadata["channels"]),
                grid=Grid.from_dict(metadata["grid"]),
                normalizer=Normalizer.from_dict(metadata["normalizer"], arrays),
                spec=WindowSpec(**metadata["window"]),
                forcings=tuple(metadata["forcings"]),
                mask=arrays["mask"].astype(bool),
                static=arrays["static"],
                noise_scale=arrays["noise_scale"],
                fill=metadata["fill"],
                provenance=metadata["provenance"],
                **generative,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"The model in {folder} lacks a part: {error}.") from error

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write a model folder, visible only when whole.

        Raises
        ------
        StorageError
            The folder exists, or cannot be written.
        """
        save_model(
            folder,
            network=self.network,
            arrays={
                **self.normalizer.arrays(),
                "mask": self.mask,
                "static": self.static,
                "noise_scale": self.noise_scale,
            },
            metadata={
                "channels": self.channels.to_dict(),
                "grid": self.grid.to_dict(),
                "normalizer": self.normalizer.to_dict(),
                "window": {
                    "history": self.spec.history,
                    "frames": self.spec.frames,
                    "step": self.spec.step,
                },
                "forcings": list(self.forcings),
                "fill": self.fill,
                "objective": self.objective.to_dict(),
                "history_dropout": self.history_dropout,
                "provenance": dict(self.provenance),
            },
            overwrite=overwrite,
        )

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

        Returns
        -------
        Dataset
            (init_time, lead_time, number[, level], latitude, longitude), physical units.

        Raises
        ------
        MissingInputError
            A frame of the history is not in ``ds``.
        InputError
            Missing values in the initial state, another grid, other units, an absent variable.
        ConfigError
            A lead time or number of members that cannot be.
        """
        frames = self.frames_until(lead_time)
        blocks = self.rollout(
            ds, init_time=init_time, frames=frames, members=members, seed=seed,
            sampling=sampling, progress=progress,
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
    ) -> Iterator[xr.Dataset]:
        """Yield a forecast block of frames by block of frames, all members in lockstep.

        Beyond the first block the model goes on from its own last frames. Memory holds the
        members of one block, however long the forecast. The last block is cut to ``frames``.
        The input is read and checked at the call, before the first block is asked for.

        Parameters and errors are those of :meth:`forecast`, with ``frames`` the number of steps.
        ``members`` may also be the range of the numbers of a part of the ensemble: one that starts
        at a multiple of the member block is bit-identical to that part of the whole.
        """
        numbers = range(members) if isinstance(members, int) else members
        if len(numbers) < 1 or frames < 1:
            raise ConfigError(f"members ({members}) and frames ({frames}) must be at least 1.")
        sampling = sampling or Sampling()
        self._noise_scale(sampling)  # refuses what it does not know before anything is read
        self.schedule(sampling)
        init = parse_time(init_time)
        history = self.initial_state(ds, init)
        return self._blocks(history, init, frames, numbers, seed, sampling, progress)

    def layout(self, init_time: str | np.datetime64, members: int) -> xr.Dataset:
        """Give one frame as :meth:`rollout` would yield it, of zeros: its layout without the work.

        Parameters
        ----------
        init_time : str or datetime64
            UTC.
        members : int
            Size of the ensemble.
        """
        init = parse_time(init_time)
        shape = (members, 1, len(self.channels), *self.grid.shape)
        zeros = np.broadcast_to(np.float32(0), shape)
        return self._dataset(zeros, init, init + self.spec.lead_times[:1])

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
        self.grid.require_same(Grid.from_dataset(ds))
        if "time" not in ds.coords or ds["time"].dtype.kind != "M":
            raise InputError("The data have no standard time coordinate; use open_fields.")
        times = seconds(ds["time"].values)
        wanted = init + self.spec.offsets[: self.spec.history]
        where = np.searchsorted(times, wanted).clip(max=len(times) - 1)
        absent = wanted[times[where] != wanted]
        if len(absent):
            first, last = to_datetime(times[[0, -1]]).astype("datetime64[m]")
            raise MissingInputError(
                f"A forecast from {_iso(init)} needs the frame of {_iso(absent[0])}, which is not "
                f"in the data ({first} to {last}, {len(times)} times)."
            )
        # A slice reaches through dask to the file; for a list of positions all of a chunk is read.
        steps = np.unique(np.diff(where))
        even = slice(where[0], where[-1] + 1, steps[0] if len(steps) else None)
        frames = load(ds[self._present(ds)].isel(time=even if len(steps) < 2 else where))
        schema.validate(frames)
        self._require_units(frames)
        stacked = self.channels.stack(frames)
        fields = np.where(self.mask, stacked.to_numpy(), np.nan)
        missing = ~np.isfinite(fields) & self.mask
        if missing.any() and not (self.fill and not np.isinf(fields).any()):
            t, c = np.argwhere(missing.any(axis=(2, 3)))[0]
            raise InputError(
                f"The initial state has missing values: {self.channels.labels[c]} at "
                f"{_iso(wanted[t])} in {missing[t, c].sum()} of {self.mask[c].sum()} cells. "
                'Complete the data, or prepare and train with fill: "climatology".'
            )
        return self.normalizer.state(fields, wanted)

    def _present(self, ds: xr.Dataset) -> list[str]:
        absent = [name for name in self.channels.variables if name not in ds]
        if absent:
            raise InputError(
                f"The model needs {', '.join(dict.fromkeys(absent))}; the data have "
                f"{', '.join(map(str, ds.data_vars))}."
            )
        return list(dict.fromkeys(self.channels.variables))

    def _require_units(self, frames: xr.Dataset) -> None:
        """Refuse units other than the model's, which the schema knows of common variables alone."""
        for name, values in frames.data_vars.items():
            known = self.channels.attributes[str(name)]["units"]
            if values.attrs["units"] != known:
                raise UnitsError(
                    f"{name} is in {values.attrs['units']!r}, the model was trained in {known!r}; "
                    "convert it."
                )

    def _blocks(
        self,
        history: Array,
        init: int,
        frames: int,
        members: range,
        seed: int,
        sampling: Sampling,
        progress: Callable[[int, int], None] | None,
    ) -> Iterator[xr.Dataset]:
        """Run the loop of :meth:`rollout`; its inputs are checked."""
        spec, size = self.spec, sampling.member_block
        groups = [range(a, a + size) for a in range(members.start, members.stop, size)]
        # (number, history, channel, lat, lon), padded to whole member blocks
        past = np.broadcast_to(history, (len(groups) * size, *history.shape))
        for block in range(-(-frames // spec.frames)):
            start = init + block * spec.frames * spec.step
            times = start + spec.lead_times
            forcings = torch.from_numpy(
                forcing_fields(self.forcings, start + spec.offsets, self.grid)
            )
            new = np.empty((len(past), spec.frames, *history.shape[1:]), np.float32)
            for done, numbers in enumerate(groups, start=1):
                rows = slice(numbers.start - members.start, numbers.stop - members.start)
                key: dict[str, Any] = {
                    "seed": seed, "init_time": init, "numbers": list(numbers), "block": block
                }  # fmt: skip
                noise, fresh = keyed_noise(new.shape[1:], **key), NoiseStream(**key)
                new[rows] = self._sample(past[rows], forcings, noise, fresh, sampling)
                if progress is not None:
                    progress(done, len(groups))
            keep = min(spec.frames, frames - block * spec.frames)
            part = self._dataset(new[: len(members), :keep], init, times[:keep])
            yield part.assign_coords(number=("number", np.array(members), part["number"].attrs))
            past = np.concatenate([past, new], axis=1)[:, -spec.history :]

    def _sample(
        self,
        past: Array,
        forcings: torch.Tensor,
        noise: torch.Tensor,
        fresh: NoiseStream,
        sampling: Sampling,
    ) -> Array:
        """One call of the sampler; normalised in, normalised out, NaN where no data."""
        count = len(past)
        mask = torch.from_numpy(self.mask)
        condition = Condition(
            history=torch.from_numpy(np.nan_to_num(past)),
            forcings=forcings.expand(count, *forcings.shape),
            static=torch.from_numpy(self.static).expand(count, *self.static.shape),
        )
        scale = torch.from_numpy(self._noise_scale(sampling))[:, :, None, None]
        device = next(self.network.parameters()).device
        condition = Condition(*(x.to(device) for x in condition))
        valid = mask.to(device)
        objective = self.objective

        def predictor(given: Condition) -> Predictor:
            return objective.predictor(lambda x, tau: self.network(x, tau, given).float() * valid)

        model = predictor(condition)
        if sampling.guidance != 1:
            without = condition._replace(history=torch.zeros_like(condition.history))
            std = torch.from_numpy(self.normalizer.tendency_std).to(condition.history)
            model = guided_by_history(
                model,
                predictor(without).network,
                weight=sampling.guidance,
                shift=condition.history[:, -1:] / std[..., None, None],
            )
        with (
            torch.inference_mode(),
            torch.autocast(device.type, torch.bfloat16, enabled=sampling.arithmetic == "bf16"),
        ):
            tendency = objective.sample(
                model,
                (objective.colour(noise) * scale).to(device) * valid,
                schedule=self.schedule(sampling),
                fresh=lambda x: objective.colour(fresh(x)) * valid,
            )
        last = past[:, -1]
        out = self.normalizer.add_tendency(tendency.cpu().numpy(), np.nan_to_num(last))
        return np.where(self.mask, out, np.float32(np.nan))

    def _noise_scale(self, sampling: Sampling) -> Array:
        unknown = [label for label in sampling.noise if label not in self.channels.labels]
        if unknown:
            raise ConfigError(
                f"There is no channel {unknown[0]!r} to widen the noise of; the model has "
                f"{', '.join(self.channels.labels)}."
            )
        ends = [sampling.noise.get(label, (1.0, 1.0)) for label in self.channels.labels]
        first, last = np.array(ends).T
        factors = np.linspace(first, last, self.spec.frames)
        return (self.noise_scale * factors).astype(np.float32)

    def _dataset(self, state: Array, init: int, times: npt.NDArray[np.int64]) -> xr.Dataset:
        fields = self.normalizer.fields(state, times)
        init_time = to_datetime([init])
        lead_time = (times - init).astype("timedelta64[s]").astype("timedelta64[ns]")
        array = xr.DataArray(
            fields.swapaxes(0, 1)[None],
            dims=("init_time", "lead_time", "number", "channel", "latitude", "longitude"),
            coords={
                "init_time": ("init_time", init_time, schema_attrs("init_time")),
                "lead_time": ("lead_time", lead_time, schema_attrs("lead_time")),
                "number": ("number", np.arange(len(state)), schema_attrs("number")),
                "latitude": ("latitude", self.grid.latitude, schema_attrs("latitude")),
                "longitude": ("longitude", self.grid.longitude, schema_attrs("longitude")),
                "valid_time": (
                    ("init_time", "lead_time"),
                    to_datetime(times)[None],
                    schema_attrs("valid_time"),
                ),
            },
        )
        ds = self.channels.unstack(array)
        if "level" in ds.coords:
            ds["level"].attrs = schema_attrs("level")
        return ds


def schema_attrs(name: str) -> dict[str, str]:
    """CF attributes of a forecast coordinate."""
    return dict(_COORDINATES[name])


_COORDINATES = {
    "init_time": {"standard_name": "forecast_reference_time", "long_name": "initial time"},
    "lead_time": {"standard_name": "forecast_period", "long_name": "time since the initial time"},
    "number": {"standard_name": "realization", "long_name": "ensemble member", "units": "1"},
    "level": {"standard_name": "air_pressure", "units": "hPa", "positive": "down"},
    "latitude": {"standard_name": "latitude", "units": "degrees_north"},
    "longitude": {"standard_name": "longitude", "units": "degrees_east"},
    "valid_time": {"standard_name": "time", "long_name": "time for which the forecast is valid"},
}


def _iso(time: int | np.int64) -> str:
    return f"{np.datetime64(int(time), 's').astype('datetime64[m]')}Z"
