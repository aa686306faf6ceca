"""A linear inverse model: linear stochastic dynamics of the leading patterns of the anomalies."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from weatherdiff.data.calendars import after, on_axis
from weatherdiff.errors import InputError
from weatherdiff.evaluation.alignment import Leads, Times, positions
from weatherdiff.evaluation.baselines.linear_dynamics import LinearDynamics
from weatherdiff.evaluation.baselines.reference import (
    BLOCK_INITS,
    FORECAST_DIMS,
    Index,
    in_nanoseconds,
    with_coordinates,
)
from weatherdiff.evaluation.baselines.smooth_climatology import SmoothClimatology
from weatherdiff.evaluation.baselines.state_space import StateSpace
from weatherdiff.evaluation.baselines.training import refuse_seen, refuse_unknown_season

__all__ = ["LinearInverseModel"]

FloatArray = npt.NDArray[np.float64]

# Patterns beyond the truncation that are kept as red noise, for each one within it.
_RED_PATTERNS = 2
# Values of a variable made at once, unless one initial and lead time have more: 16 MiB of float32.
_BLOCK_VALUES = 2**22
_WINDOW = 15
_PATHS, _UNRESOLVED = 0, 1  # streams of random numbers


class LinearInverseModel:
    r"""Ensemble of a linear inverse model (LIM).

    Anomalies from a :class:`SmoothClimatology`, in local standard deviations (so that spread
    follows the season) and weighted by area, are projected on their leading EOFs, all variables
    and levels together. Their components :math:`y` follow

    .. math:: y_{t+1} = G\,y_t + \varepsilon_t, \qquad G = C_1 C_0^{-1},\quad
              \varepsilon_t\sim\mathcal N(0, Q),\quad Q = C_0 - G C_0 G^\top

    with the lag-0 and lag-1 covariances of the training period; with ``history`` above one, also
    earlier times. Members are stepped through the lead times one after the other: each is a
    sequence, right jointly in lead time. The next EOFs, twice as many again, are red noise, each
    by itself from the initial state on; what variance then remains is added in each cell as white
    noise. So the unresolved part keeps most of its coherence in space and what is predictable of it
    (daily sea-level pressure, 20 EOFs, one day ahead: an energy score 1% below that of residual
    fields of training days or of white noise; the same within 0.1% at three days and beyond).

    Random numbers depend on the seed, initial time and member alone: neither blocks of initial
    times, nor other lead times, nor the number of members change a member.

    Parameters
    ----------
    analyses : xr.Dataset
        Variables over ``(time, ...)``, ascending in time, covering the initial times; lazy ones
        are read by blocks of time, seven times over for the fit.
    period : (start, end)
        Training period, both ends included, as anything ``analyses.sel(time=slice(...))`` takes.
    members : int
        Number of members.
    truncation : int
        EOFs in the dynamics; choose it on validation years, see :meth:`truncated`.
    step : timedelta or str, optional
        Training lag; the shortest step of the analyses unless given. Lead times must be multiples.
    history : int
        Number of analyses, ``step`` apart, that a forecast starts from; choose it as the
        truncation. One is the classical model; daily sea-level pressure is forecast 2 to 14%
        better from three (``scripts/benchmarks/baselines.py``).
    harmonics : (int, int)
        Of the climatology, annual and diurnal.
    seed : int
        Seed of the noise.

    Attributes
    ----------
    members : int
        Number of members.

    Raises
    ------
    DimensionError
        ``time`` is missing or is not made of dates.
    InputError
        No analysis lies in the period, times are not ascending, or the period is too short for
        the truncation.
    ValueError
        Members, truncation or history below one.

    Notes
    -----
    In memory stay the EOFs, three times ``truncation`` numbers for each cell and channel, and the
    climatology's coefficients. Cells never observed in the period are left out and come back NaN;
    an initial state that is missing or lacks a value elsewhere gives a NaN forecast.

    References
    ----------
    Penland & Sardeshmukh (1995), doi:10.1175/1520-0442(1995)008<1999:TOGOTS>2.0.CO;2.

    Examples
    --------
    >>> time = np.arange("2020-01-01", "2020-07-01", dtype="datetime64[D]")
    >>> rng = np.random.default_rng(0)
    >>> walk = np.zeros((len(time), 3))
    >>> for i in range(1, len(time)):
    ...     walk[i] = 0.8 * walk[i - 1] + 0.6 * rng.normal(size=3)
    >>> ds = xr.Dataset({"t": (("time", "x"), walk)}, {"time": time.astype("datetime64[ns]")})
    >>> lim = LinearInverseModel(
    ...     ds, period=("2020-01-01", "2020-05-31"), members=20, truncation=2
    ... )
    >>> inits = ds["time"].values[-10:-5]
    >>> dict(lim.forecast(inits, np.array([1, 3], "timedelta64[D]")).sizes)
    {'init_time': 5, 'lead_time': 2, 'number': 20, 'x': 3}
    """

    def __init__(
        self,
        analyses: xr.Dataset,
        *,
        period: tuple[object, object],
        members: int,
        truncation: int,
        step: Any = None,
        history: int = 1,
        harmonics: tuple[int, int] = (2, 4),
        seed: int = 0,
    ) -> None:
        if members < 1 or truncation < 1 or history < 1:
            raise ValueError(
                f"members is {members}, truncation {truncation} and history {history}, expected "
                "at least one."
            )
        self.members = members
        self._analyses, self._history, self._seed = analyses, history, seed
        climatology = SmoothClimatology(
            analyses, period=period, harmonics=harmonics, window=_WINDOW
        )
        self._times = climatology.record.times
        self._step = _training_lag(self._times, step)
        self._full = StateSpace.fit(climatology, truncation * (1 + _RED_PATTERNS))
        self._fit(truncation)

    def truncated(self, truncation: int) -> LinearInverseModel:
        """Give the model with fewer EOFs, without reading the analyses again.

        Parameters
        ----------
        truncation : int
            At most that of this model.

        Raises
        ------
        ValueError
            ``truncation`` is below one or above this model's.
        """
        if not 1 <= truncation <= self._truncation:
            raise ValueError(f"truncation is {truncation}, expected 1 to {self._truncation}.")
        model = copy.copy(self)
        model._fit(truncation)
        return model

    def forecast(self, init_times: Times, lead_times: Leads) -> xr.Dataset:
        """Ensemble of linear stochastic paths from the analyses at the initial times.

        Parameters
        ----------
        init_times : (init_time,)
            Initial times, ``datetime64`` or dates of cftime.
        lead_times : (lead_time,)
            Lead times, ``timedelta64``, positive multiples of the training lag.

        Returns
        -------
        xr.Dataset
            Forecasts over ``(init_time, lead_time, number, ...)``, in the analyses' units. The
            initial states are read at once, by blocks; the members are lazy.

        Raises
        ------
        DimensionError
            The times have no unit.
        InputError
            A lead time is not a multiple of the training lag, or a valid time lies within the
            training period or at an hour or season that has no training data.
        """
        return self._forecast(init_times, lead_times, _Fields.members, with_members=True)

    def marginals(self, init_times: Times, lead_times: Leads) -> tuple[xr.Dataset, xr.Dataset]:
        """Mean and standard deviation of the Gaussian that the members of :meth:`forecast` sample.

        Arguments and errors are those of :meth:`forecast`.

        Returns
        -------
        mean, standard_deviation : (init_time, lead_time, ...)
            Lazy, in the analyses' units.
        """
        return (
            self._forecast(init_times, lead_times, _Fields.mean, with_members=False),
            self._forecast(init_times, lead_times, _Fields.spread, with_members=False),
        )

    def _fit(self, truncation: int) -> None:
        self._truncation = min(truncation, self._full.count)
        self._space = self._full.leading(truncation * (1 + _RED_PATTERNS))
        lags = np.arange(self._history, -1, -1) * self._step
        axis = on_axis(self._times)
        sequences = positions(axis, after(axis[:, np.newaxis], -lags))
        complete = self._space.climatology.record.all_complete
        usable = np.all((sequences >= 0) & complete[sequences], axis=1)
        self._dynamics = LinearDynamics.fit(
            self._space.components, sequences[usable], self._truncation, self._history
        )
        unresolved = self._space.variance - self._space.explained_variance()
        self._unresolved = np.sqrt(unresolved.clip(min=0))  # rounding may leave it below zero

    def _forecast(
        self,
        init_times: Times,
        lead_times: Leads,
        make: Callable[[_Fields, str], npt.NDArray[Any]],
        *,
        with_members: bool,
    ) -> xr.Dataset:
        """Forecasts lazily made of blocks of initial and lead times."""
        inits, leads = in_nanoseconds(init_times, lead_times)
        valid = after(inits[:, np.newaxis], leads)
        refuse_seen(self._times, valid, "linear inverse model")
        refuse_unknown_season(self._times, valid, _WINDOW)
        steps = self._steps(leads)
        past = self._space.project(
            self._analyses,
            after(inits[:, np.newaxis], -np.arange(self._history) * self._step).ravel(),
        ).reshape(len(inits), self._history, -1)
        record = self._space.climatology.record
        lazy = dask.delayed(self, traverse=False)
        number = (self.members,) if with_members else ()
        variables = {}
        for name in record.names:
            shape = record.frame_shape(name)
            each = self.members * int(np.prod(shape))
            some_leads = min(len(leads), max(1, _BLOCK_VALUES // each))
            some_inits = min(BLOCK_INITS, max(1, _BLOCK_VALUES // (each * some_leads)))
            dtype = np.result_type(record.analyses[name].dtype, np.float32)
            rows = []
            for i in range(0, len(inits), some_inits):
                row = []
                for j in range(0, len(leads), some_leads):
                    at = slice(i, i + some_inits), slice(j, j + some_leads)
                    fields = dask.delayed(_Fields)(lazy, past[at[0]], inits[at[0]], steps[at[1]])
                    values = dask.delayed(_made)(make, fields, name, dtype)
                    size = (*valid[at].shape, *number, *shape)
                    row.append(da.from_delayed(values, size, dtype))
                rows.append(row)
            frame = record.analyses[name].isel(time=0, drop=True)
            coords = {key: c for key, c in frame.coords.items() if c.dims}
            data = da.concatenate([da.concatenate(row, axis=1) for row in rows], axis=0)
            dims = (*FORECAST_DIMS[: 2 + len(number)], *frame.dims)
            variables[name] = xr.DataArray(data, coords, dims, attrs=frame.attrs)
        return with_coordinates(variables, inits, leads, self.members)

    def _steps(self, leads: Leads) -> Index:
        """Lead times in steps."""
        steps, rest = np.divmod(leads.astype(np.int64), self._step.astype(np.int64))
        if (rest != 0).any() or (steps < 1).any():
            raise InputError(
                f"lead times must be positive multiples of the step {pd.Timedelta(self._step)}, "
                f"{pd.Timedelta(leads[(rest != 0) | (steps < 1)][0])} is not."
            )
        return steps


class _Fields:
    """What one block of initial and lead times gives, variable by variable."""

    def __init__(self, model: LinearInverseModel, past: FloatArray, inits: Times, steps: Index):
        self._model, self._past, self._inits, self._steps = model, past, inits, steps
        self._valid = after(inits[:, np.newaxis], steps * model._step)

    def members(self, name: str) -> npt.NDArray[np.float32]:
        """Members (init_time, lead_time, number, ...)."""
        model, longest = self._model, self._steps.max()
        size = model._space.count
        noise = np.empty((len(self._inits), model.members, longest, size))
        for i, init in enumerate(self._inits):
            for number in range(model.members):
                rng = _generator(model._seed, init, _PATHS, number)
                noise[i, number] = rng.standard_normal((longest, size))
        paths = model._dynamics.paths(self._past[:, np.newaxis], noise)
        paths = np.moveaxis(paths[:, :, self._steps - 1], 1, 2).astype(np.float32)
        record = model._space.climatology.record
        part = record.part(name)
        anomalies = paths @ model._space.maps[:, part]
        unresolved = model._unresolved[part].astype(np.float32)
        for i, init in enumerate(self._inits):
            for j, step in enumerate(self._steps):
                # Members in turn, so that the first ones are the same whatever their number.
                rng = _generator(model._seed, init, _UNRESOLVED, step, record.names.index(name))
                white = rng.standard_normal(anomalies.shape[2:], dtype=np.float32)
                anomalies[i, j] += white * unresolved
        mean, spread = self._climate(name)
        return mean[:, :, np.newaxis] + spread[:, :, np.newaxis] * record.frames(name, anomalies)

    def mean(self, name: str) -> FloatArray:
        """Predictive mean (init_time, lead_time, ...)."""
        space = self._model._space
        quiet = np.zeros((len(self._inits), self._steps.max(), space.count))
        paths = self._model._dynamics.paths(self._past, quiet)[:, self._steps - 1]
        record = space.climatology.record
        mean, spread = self._climate(name)
        return mean + spread * record.frames(name, paths @ space.maps[:, record.part(name)])

    def spread(self, name: str) -> FloatArray:
        """Predictive standard deviation (init_time, lead_time, ...)."""
        space = self._model._space
        record = space.climatology.record
        maps = space.maps[:, record.part(name)]
        covariances = self._model._dynamics.covariances(self._steps.max())[self._steps - 1]
        variance = np.stack([((c @ maps) * maps).sum(axis=0) for c in covariances])
        variance += self._model._unresolved[record.part(name)] ** 2
        unknown = np.isnan(self._past).any(axis=(1, 2), keepdims=True)
        whole = np.where(unknown, np.nan, np.sqrt(variance))
        return self._climate(name)[1] * record.frames(name, whole)

    def _climate(self, name: str) -> tuple[FloatArray, FloatArray]:
        """Climatological mean and standard deviation (init_time, lead_time, ...)."""
        record = self._model._space.climatology.record
        moments = self._model._space.climatology.moments[name]
        shape = (*self._valid.shape, *record.frame_shape(name))
        return (
            moments.mean_at(self._valid).reshape(shape),
            moments.spread_at(self._valid).reshape(shape),
        )


def _made(
    make: Callable[[_Fields, str], npt.NDArray[Any]],
    fields: _Fields,
    name: str,
    dtype: npt.DTypeLike,
) -> npt.NDArray[Any]:
    return make(fields, name).astype(dtype, copy=False)


def _training_lag(times: Times, step: Any) -> np.timedelta64:
    if times.size < 2:
        raise InputError("the training period holds one analysis; a linear model needs many.")
    lag = np.diff(on_axis(times)).min() if step is None else pd.Timedelta(step).to_timedelta64()
    lag = lag.astype("timedelta64[ns]")
    if lag <= np.timedelta64(0):
        raise InputError(f"step is {pd.Timedelta(lag)}, expected a positive duration.")
    return lag


def _generator(seed: int, init: Any, *key: int) -> np.random.Generator:
    """Random numbers of one purpose and place, the same in whatever block they are drawn."""
    axis = on_axis(init)
    since = axis.astype("datetime64[s]") if axis.dtype.kind == "M" else axis
    when = int(since.astype(np.int64)) % 2**64  # before 1970 is negative
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(when, *map(int, key))))
