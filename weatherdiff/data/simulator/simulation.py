"""What the simulators share: the grid, the time loop, restarts, and the Datasets they emit."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import ConfigError, InputError, MissingInputError
from weatherdiff.grid import Grid

__all__ = ["ComplexArray", "FloatArray", "Simulator", "Stream", "Variable", "generator"]

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]
# Dimensions, values, attributes.
Coordinate = tuple[tuple[str, ...], npt.NDArray, dict[str, str]]


@dataclass(frozen=True)
class Variable:
    """An emitted variable.

    Parameters
    ----------
    name : str
        WeatherBench 2 name.
    standard_name : str
        CF standard name.
    units : str
        Canonical units.
    """

    name: str
    standard_name: str
    units: str


class Stream(IntEnum):
    """Purposes of random numbers; the same seed gives each its own, independent ones."""

    INITIAL = 0
    EVOLUTION = 1
    ENSEMBLE = 2


def generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """Random generator of one purpose and place, e.g. one step or one member.

    Parameters
    ----------
    seed : int
        At least 0.
    stream : Stream
        What the numbers are for.
    *key : int
        At least 0: step, or init time and member number.

    Returns
    -------
    numpy.random.Generator
        Independent of every other purpose and key, so that neither block lengths nor the number
        of members change a draw.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, *key)))


@dataclass(frozen=True, kw_only=True)
class Simulator(ABC):
    """A stochastic system on a zonally periodic latitude-longitude grid.

    Parameters
    ----------
    shape : (int, int)
        Number of latitudes and of longitudes; the longitudes go once round the globe from 0.
    latitudes : (float, float)
        Southern and northern edge, in degrees north; the rows are the centres of equal cells
        between them.
    step_hours : int
        Time between frames.

    Raises
    ------
    ConfigError
        Fewer than 2 x 4 cells, edges not ascending within [-90, 90], or a step that is not
        positive.
    """

    shape: tuple[int, int] = (32, 64)
    latitudes: tuple[float, float] = (-90.0, 90.0)
    step_hours: int = 6

    #: Number of consecutive frames that hold the whole state.
    history: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.shape[0] < 2 or self.shape[1] < 4:
            raise ConfigError(f"a grid of {self.shape} is too small, expected at least (2, 4).")
        south, north = self.latitudes
        if not -90 <= south < north <= 90:
            raise ConfigError(f"latitudes are {self.latitudes}, expected ascending in [-90, 90].")
        if self.step_hours < 1:
            raise ConfigError(f"step_hours is {self.step_hours}, expected at least 1.")

    @property
    def step(self) -> np.timedelta64:
        """Time between frames."""
        return np.timedelta64(self.step_hours, "h")

    @cached_property
    def grid(self) -> Grid:
        """Cell centres."""
        edges = np.linspace(*self.latitudes, self.shape[0] + 1)
        return Grid((edges[1:] + edges[:-1]) / 2, np.arange(self.shape[1]) * 360 / self.shape[1])

    @property
    @abstractmethod
    def emitted(self) -> tuple[Variable, ...]:
        """The variables, in the order of the array axis ``variable``."""

    @abstractmethod
    def _start(self, seed: int) -> ComplexArray:
        """State at step 0, drawn from the climate of the system."""

    @abstractmethod
    def _noise(self, rng: np.random.Generator) -> ComplexArray:
        """Random forcing of one step of one member."""

    @abstractmethod
    def _advance(self, state: ComplexArray, noise: ComplexArray) -> ComplexArray:
        """State one step later; leading (member) dimensions are alike and optional."""

    @abstractmethod
    def _emit(self, state: ComplexArray) -> FloatArray:
        """Fields (..., variable, latitude, longitude) of a state."""

    @abstractmethod
    def _absorb(self, frames: FloatArray) -> ComplexArray:
        """State of the last frame of (history, variable, latitude, longitude)."""

    def simulate(
        self, steps: int, *, seed: int, start: str | np.datetime64 = "2000-01-01"
    ) -> xr.Dataset:
        """Simulate consecutive frames.

        Parameters
        ----------
        steps : int
            Number of frames, at least 1.
        seed : int
            At least 0; the same seed gives the same bytes.
        start : datetime64 or str
            Time of the first frame.

        Returns
        -------
        xr.Dataset
            Each variable (time, latitude, longitude), float32, in memory.

        Raises
        ------
        ConfigError
            ``steps`` is below 1, or the simulation became unstable.
        """
        return next(self.simulate_blocks(steps, seed=seed, start=start, block_steps=max(steps, 1)))

    def simulate_blocks(
        self,
        steps: int,
        *,
        seed: int,
        start: str | np.datetime64 = "2000-01-01",
        block_steps: int = 512,
    ) -> Iterator[xr.Dataset]:
        """Simulate any number of frames in constant memory.

        Parameters
        ----------
        steps, seed, start
            As for :meth:`simulate`.
        block_steps : int
            Largest number of frames in memory. It does not change them.

        Yields
        ------
        xr.Dataset
            Consecutive parts of what :meth:`simulate` gives.

        Raises
        ------
        ConfigError
            ``steps`` or ``block_steps`` is below 1, or the simulation became unstable.
        """
        if steps < 1 or block_steps < 1:
            raise ConfigError(f"steps={steps} and block_steps={block_steps}, expected at least 1.")
        times = np.asarray(start, "datetime64[ns]") + np.arange(steps) * self.step
        state = self._start(seed)
        for first in range(0, steps, block_steps):
            last = min(first + block_steps, steps)
            frames = np.empty((len(self.emitted), last - first, *self.shape), np.float32)
            for step in range(first, last):
                if step > 0:
                    noise = self._noise(generator(seed, Stream.EVOLUTION, step))
                    state = self._advance(state, noise)
                frames[:, step - first] = self._emit(state)
            attributes = {"standard_name": "time", "axis": "T"}
            coords: dict[str, Coordinate] = {"time": (("time",), times[first:last], attributes)}
            ds = self._dataset(frames, ("time",), coords)
            ds.attrs["source"] = f"{self!r}, seed {seed}"
            yield ds

    def sample_predictive(
        self,
        analysis: xr.Dataset,
        *,
        init_times: npt.ArrayLike,
        leads: int,
        members: int,
        seed: int,
    ) -> xr.Dataset:
        """Draw ensembles from the true predictive distribution, given the emitted frames.

        Parameters
        ----------
        analysis : xr.Dataset
            Frames of this system, with at least the last :attr:`history` of each init time.
        init_times : datetime64 or sequence of datetime64
            Times of ``analysis`` to forecast from.
        leads : int
            Number of consecutive steps to forecast.
        members : int
            Number of members, each an independent draw of all leads and variables jointly.
        seed : int
            At least 0. A member depends on the seed, its init time and its number, not on the
            other members or init times.

        Returns
        -------
        xr.Dataset
            Each variable (init_time, lead_time, number, latitude, longitude), float32, in memory.

        Raises
        ------
        MissingInputError
            A frame that is needed is not in ``analysis``.
        InputError
            A variable is missing or has missing values.
        GridMismatchError
            ``analysis`` is on another grid.
        ConfigError
            ``leads`` or ``members`` is below 1, or the simulation became unstable.
        """
        if leads < 1 or members < 1:
            raise ConfigError(f"leads={leads} and members={members}, expected at least 1.")
        times = np.atleast_1d(np.asarray(init_times, dtype="datetime64[ns]"))
        shape = (len(self.emitted), times.size, leads, members, *self.shape)
        fields = np.empty(shape, np.float32)
        for i, (time, start) in enumerate(zip(times, self._states(analysis, times), strict=True)):
            state = np.broadcast_to(start, (members, *start.shape))
            # Modulo, because keys are not negative and init times before 1970 are.
            seconds = int(time.astype("datetime64[s]").astype(np.int64)) % 2**63
            draws = [generator(seed, Stream.ENSEMBLE, seconds, m) for m in range(members)]
            for lead in range(leads):
                state = self._advance(state, np.stack([self._noise(rng) for rng in draws]))
                fields[:, i, lead] = np.moveaxis(self._emit(state), -3, 0)
        dims = ("init_time", "lead_time", "number")
        number = (("number",), np.arange(members), {"standard_name": "realization"})
        coords = {**self._forecast_coords(times, leads), "number": number}
        ds = self._dataset(fields, dims, coords)
        ds.attrs["source"] = f"{self!r}, true predictive distribution, seed {seed}"
        return ds

    def _states(
        self, analysis: xr.Dataset, times: npt.NDArray[np.datetime64]
    ) -> Iterator[ComplexArray]:
        """State at each time; everything but the values is checked before the first."""
        names = [variable.name for variable in self.emitted]
        absent = [name for name in names if name not in analysis]
        if absent:
            raise InputError(f"the analysis lacks {', '.join(absent)}.")
        self.grid.require_same(Grid.from_dataset(analysis))
        needed = times[:, None] - np.arange(self.history)[::-1] * self.step
        rows = analysis.indexes["time"].get_indexer(needed.ravel()).reshape(needed.shape)
        if (rows < 0).any():
            time = times[(rows < 0).any(axis=1)][0]
            raise MissingInputError(
                f"forecasting from {time} needs the frame of {needed[rows < 0][0]}, "
                "not in the analysis."
            )
        fields = [analysis[name].transpose("time", "latitude", "longitude") for name in names]
        for time, frames in zip(times, rows, strict=True):
            values = np.stack([field[frames].values for field in fields], axis=1)
            if not np.isfinite(values).all():
                raise InputError(f"the frames up to {time} have missing values.")
            yield self._absorb(values.astype(np.float64))

    def _lead_coords(self, leads: int) -> dict[str, Coordinate]:
        if leads < 1:
            raise ConfigError(f"leads={leads}, expected at least 1.")
        lead_times = (np.arange(1, leads + 1) * self.step).astype("timedelta64[ns]")
        return {"lead_time": (("lead_time",), lead_times, {"standard_name": "forecast_period"})}

    def _forecast_coords(
        self, init_times: npt.NDArray[np.datetime64], leads: int
    ) -> dict[str, Coordinate]:
        lead_coords = self._lead_coords(leads)
        valid_times = init_times[:, None] + lead_coords["lead_time"][1]
        attributes = {"standard_name": "forecast_reference_time"}
        return {
            "init_time": (("init_time",), init_times, attributes),
            **lead_coords,
            "valid_time": (("init_time", "lead_time"), valid_times, {"standard_name": "time"}),
        }

    def _dataset(
        self, fields: npt.NDArray, dims: Sequence[str], coords: dict[str, Coordinate]
    ) -> xr.Dataset:
        """CF Dataset of fields (variable, *dims, latitude[, longitude])."""
        if not np.isfinite(fields).all():
            raise ConfigError(f"{self!r} blew up: its winds outran the time step.")
        space = ("latitude", "longitude")[: fields.ndim - 1 - len(dims)]
        axes = {
            "latitude": (
                "latitude",
                self.grid.latitude,
                {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"},
            ),
            "longitude": (
                "longitude",
                self.grid.longitude,
                {"standard_name": "longitude", "units": "degrees_east", "axis": "X"},
            ),
        }
        return xr.Dataset(
            {
                variable.name: (
                    (*dims, *space),
                    field,
                    {"standard_name": variable.standard_name, "units": variable.units},
                )
                for variable, field in zip(self.emitted, fields, strict=True)
            },
            coords={**coords, **{name: axes[name] for name in space}},
            attrs={
                "Conventions": "CF-1.11",
                "title": f"Simulated by a {type(self).__name__}",
                "comment": "Simulated, not observed.",
            },
        )
