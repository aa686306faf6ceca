"""The climatology as smooth harmonics of the year and the day: a mean, or an ensemble about it."""

from __future__ import annotations

import math

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.data.calendars import CALENDARS, after, is_cftime, on_axis, written
from weatherdiff.errors import DimensionError, InputError
from weatherdiff.evaluation.alignment import Leads, Times, analysis_times, gather, positions
from weatherdiff.evaluation.baselines.harmonics import HarmonicMoments, Harmonics, least_squares
from weatherdiff.evaluation.baselines.record import TrainingRecord
from weatherdiff.evaluation.baselines.reference import (
    BLOCK_INITS,
    FORECAST_DIMS,
    Index,
    in_nanoseconds,
    with_coordinates,
)
from weatherdiff.evaluation.baselines.training import (
    calendar_of,
    day_of_year,
    days_of_year,
    hour_of_day,
    refuse_seen,
    refuse_unknown_season,
    season_distance,
    spans_a_year,
)

__all__ = ["SmoothClimatology"]

FloatArray = npt.NDArray[np.float64]

# The variance is noisier than the mean: it is given no faster season than this.
_ANNUAL_OF_VARIANCE = 1
# Least part of a cell's mean variance that its smooth variance falls to.
_LEAST_VARIANCE = 1e-3


class SmoothClimatology:
    r"""Mean and standard deviation by day of the year and hour, smooth, from training years only.

    In every cell, the mean is fitted to the training analyses by least squares on products of
    annual and diurnal harmonics, the variance likewise to the squared residuals (with at most one
    annual harmonic). A record of less than a year has no season: diurnal harmonics only.

    With one member the forecast is the mean. With more, each member is the residual of a stretch
    of training analyses that starts at the hour and within ``window`` days of the season of the
    initial time, rescaled by the ratio of the standard deviations at the two times, on top of the
    mean: a member is a possible field, and its lead times a possible sequence. The starts are
    spread evenly over those there are, with nothing random.

    Parameters
    ----------
    analyses : xr.Dataset
        Variables over ``(time, ...)``, ascending in time; lazy ones are read by blocks of time,
        three times over. In memory stay the coefficients, one field for each harmonic. Of a
        variable, an analysis that lacks values in cells that others have is left out.
    period : (start, end)
        Training period, both ends included, as anything ``analyses.sel(time=slice(...))`` takes.
    harmonics : (int, int)
        Annual and diurnal; those that the times of the record do not resolve are left out.
    members : int
        One for the mean; more for an ensemble.
    window : int
        Half-width in days of the season the members start in, and distance in days to the nearest
        training day beyond which a valid time is refused.

    Attributes
    ----------
    members : int
        Number of members.
    record : TrainingRecord
        The training analyses.
    moments : dict of HarmonicMoments
        The fit of each variable, over cells in a row.

    Raises
    ------
    DimensionError
        ``time`` is missing or is not made of dates.
    InputError
        No analysis lies in the period, times are not ascending, or no analysis is complete.
    ValueError
        Less than one member, or a negative number of harmonics.

    References
    ----------
    Narapusetty, DelSole & Tippett (2009), doi:10.1175/2009JCLI2944.1 (smooth climatologies by
    harmonics, and why they are better than daily means).

    Examples
    --------
    >>> time = np.arange("2020-01-01", "2020-01-11", 12, dtype="datetime64[h]")
    >>> ds = xr.Dataset(
    ...     {"t": ("time", np.tile([1.0, 5.0], 10))}, {"time": time.astype("datetime64[ns]")}
    ... )
    >>> climatology = SmoothClimatology(ds, period=("2020-01-01", "2020-01-10"))
    >>> inits = np.array(["2020-01-14T00"], dtype="datetime64[ns]")
    >>> leads = np.array([12, 24], dtype="timedelta64[h]")
    >>> climatology.forecast(inits, leads)["t"].values.round(6)
    array([[[5.],
            [1.]]])
    """

    def __init__(
        self,
        analyses: xr.Dataset,
        *,
        period: tuple[object, object],
        harmonics: tuple[int, int] = (2, 4),
        members: int = 1,
        window: int = 15,
    ) -> None:
        annual, diurnal = harmonics
        if members < 1 or annual < 0 or diurnal < 0:
            raise ValueError(
                f"members is {members} and harmonics are {harmonics}, expected at least 1 and 0."
            )
        self.members = members
        self.record = TrainingRecord.read(analyses, period)
        self._window, self._harmonics = window, harmonics
        self.moments = {name: self._fit(name) for name in self.record.names}
        # The same numbers as lazy fields, in the chunks of the analyses.
        self._mean = {n: self._fields(n, m.mean, "term") for n, m in self.moments.items()}
        self._variance = {n: self._fields(n, m.variance, "term") for n, m in self.moments.items()}
        self._least = {n: self._fields(n, m.least) for n, m in self.moments.items()}

    def forecast(self, init_times: Times, lead_times: Leads) -> xr.Dataset:
        """Climatological forecast for the valid times.

        Parameters
        ----------
        init_times : (init_time,)
            Initial times, ``datetime64`` or dates of cftime.
        lead_times : (lead_time,)
            Lead times, ``timedelta64``.

        Returns
        -------
        xr.Dataset
            Lazy forecasts over ``(init_time, lead_time, number, ...)``, in the analyses' units;
            NaN in cells never observed.

        Raises
        ------
        DimensionError
            The times have no unit.
        InputError
            A valid time lies within the training period, whose climatology has seen the outcome,
            or at an hour or season that has no training data, or there are fewer training starts
            than members.
        """
        init_times, lead_times = in_nanoseconds(init_times, lead_times)
        valid = after(init_times[:, np.newaxis], lead_times)
        refuse_seen(self.record.times, valid, "climatology")
        refuse_unknown_season(self.record.times, valid, self._window)
        if self.members == 1:
            mean = self.mean(valid).expand_dims(number=1, axis=2)
            return with_coordinates(
                {str(n): f.astype(self._dtype(str(n))) for n, f in mean.data_vars.items()},
                init_times,
                lead_times,
                1,
            )
        index = self._starts_and_leads(init_times, lead_times)
        blocks = [slice(i, i + BLOCK_INITS) for i in range(0, len(valid), BLOCK_INITS)]
        parts = [self._members(index[block], valid[block]) for block in blocks]
        variables = {
            name: xr.concat(
                [part[name] for part in parts],
                "init_time",
                coords="minimal",
                compat="override",
                join="exact",
            )
            for name in self.record.names
        }
        return with_coordinates(variables, init_times, lead_times, self.members)

    def mean(self, valid_times: xr.DataArray | Times) -> xr.Dataset:
        """Climatological mean at any times, those of the training period among them.

        Parameters
        ----------
        valid_times : (...)
            ``datetime64`` or dates of cftime. The result has the dimensions of an array with
            names, ``time`` for a vector without and ``(init_time, lead_time)`` for a matrix
            without.

        Returns
        -------
        (..., [level], latitude, longitude)
            Every variable, lazy, float64; NaN in cells never observed.
        """
        means = {}
        for name, coefficients in self._mean.items():
            design = _design(self.moments[name].of_mean, valid_times)
            attrs = self.record.analyses[name].attrs
            means[name] = _dot(design, coefficients).assign_attrs(attrs)
        return xr.Dataset(means)

    def standard_deviation(self, valid_times: xr.DataArray | Times) -> xr.Dataset:
        """Climatological standard deviation about the mean; arguments and result as :meth:`mean`.

        It is held above 3% of its root mean square over time.
        """
        spreads = {}
        for name, coefficients in self._variance.items():
            design = _design(self.moments[name].of_variance, valid_times)
            variance = _dot(design, coefficients).clip(min=self._least[name])
            spreads[name] = (variance**0.5).assign_attrs(self.record.analyses[name].attrs)
        return xr.Dataset(spreads)

    def standardised_states(self, analyses: xr.Dataset) -> FloatArray:
        """Bring anomalies in standard deviations into memory, (time, state).

        Where the standard deviation is zero, anomalies keep their unit.

        Parameters
        ----------
        analyses : (time, ...)
            The variables of the record, at any times.
        """
        times = analysis_times(analyses)
        return np.concatenate(
            [
                moments.standardised(self.record.rows(analyses, name), times)[
                    :, self.record.observed[name]
                ]
                for name, moments in self.moments.items()
            ],
            axis=1,
        )

    def _fit(self, name: str) -> HarmonicMoments:
        """Two passes over one variable."""
        record, annual, diurnal = self.record, *self._harmonics
        of_mean = Harmonics.resolved_by(record.times, annual, diurnal)
        of_variance = Harmonics.resolved_by(record.times, min(annual, _ANNUAL_OF_VARIANCE), diurnal)
        mean = least_squares(
            (of_mean.design(record.times[at]), rows) for at, rows in record.complete_rows(name)
        )
        variance = least_squares(
            (
                of_variance.design(record.times[at]),
                (rows - of_mean.design(record.times[at]) @ mean) ** 2,
            )
            for at, rows in record.complete_rows(name)
        )
        times = record.times[record.complete[name]]
        # Unbiased, were the times independent.
        variance *= times.size / max(1, times.size - len(mean))
        average = of_variance.design(times).mean(axis=0) @ variance
        return HarmonicMoments(of_mean, of_variance, mean, variance, _LEAST_VARIANCE * average)

    def _fields(self, name: str, values: FloatArray, *dims: str) -> xr.DataArray:
        """Arrays over cells as lazy fields."""
        field = self.record.analyses[name]
        frame = field.isel(time=0, drop=True)
        coords = {key: c for key, c in frame.coords.items() if c.dims}
        chunks = {dim: field.chunksizes.get(dim, -1) for dim in frame.dims}
        values = values.reshape((*values.shape[:-1], *frame.shape))
        return xr.DataArray(values, coords, (*dims, *frame.dims)).chunk(chunks)

    def _starts_and_leads(self, inits: Times, leads: Leads) -> Index:
        """Training positions of the members, (init_time, lead_time, number)."""
        times, complete = self.record.times, self.record.all_complete
        axis = on_axis(times)
        along = np.stack([positions(axis, after(axis, lead)) for lead in leads], axis=1)
        usable = np.all((along >= 0) & complete[along], axis=1)
        seasonal, hours, days = spans_a_year(times), hour_of_day(times), day_of_year(times)
        year = days_of_year(times)
        index = np.empty((len(inits), len(leads), self.members), dtype=np.int64)
        for i, init in enumerate(inits):
            near = usable & (hours == hour_of_day(init))
            if seasonal:
                near &= season_distance(days, day_of_year(init), year) <= self._window
            starts = np.flatnonzero(near)
            if starts.size < self.members:
                raise InputError(
                    f"the climatology has {starts.size} training stretches of {len(leads)} lead "
                    f"times at the hour and season of {written(init, 'h')}, fewer "
                    f"than {self.members} members."
                )
            chosen = starts[(2 * np.arange(self.members) + 1) * starts.size // (2 * self.members)]
            index[i] = along[chosen].T
        return index

    def _members(self, index: Index, valid: Times) -> xr.Dataset:
        """Members with the residuals at training positions (init_time, lead_time, number)."""
        needed, inverse = np.unique(index, return_inverse=True)
        stretches = self.record.analyses.isel(time=needed)
        mean, spread = self.mean(valid), self.standard_deviation(valid)
        theirs = self.mean(stretches["time"]), self.standard_deviation(stretches["time"])
        variables = {}
        for name in self.record.names:
            scale = theirs[1][name]
            residual = (stretches[name] - theirs[0][name]) / scale.where(scale != 0, 1.0)
            drawn = gather(residual, inverse.reshape(index.shape), FORECAST_DIMS)
            members = (mean[name] + spread[name] * drawn).transpose(*FORECAST_DIMS, ...)
            variables[name] = members.astype(self._dtype(name)).assign_attrs(mean[name].attrs)
        return xr.Dataset(variables)

    def _dtype(self, name: str) -> npt.DTypeLike:
        return np.result_type(self.record.analyses[name].dtype, np.float32)


def _design(harmonics: Harmonics, valid_times: xr.DataArray | Times) -> xr.DataArray:
    """Harmonics at times, in blocks of the first dimension, (..., term)."""
    if not isinstance(valid_times, xr.DataArray):
        values = np.asarray(valid_times)
        if values.ndim > 2:
            raise DimensionError(f"times of shape {values.shape} need names of dimensions.")
        dims = ((), ("time",), FORECAST_DIMS[:2])[values.ndim]
        valid_times = xr.DataArray(values, {"time": values} if dims == ("time",) else None, dims)
    if valid_times.dtype.kind != "M" and not is_cftime(valid_times.values):
        raise DimensionError(f"valid times are {valid_times.dtype}, expected dates.")
    if CALENDARS[calendar_of(valid_times.values).name] != harmonics.year:
        raise InputError(
            f"the valid times are in the calendar {calendar_of(valid_times.values).name}, the "
            f"climatology has years of {harmonics.year:g} days."
        )
    terms = harmonics.design(valid_times.values)
    design = xr.DataArray(terms, valid_times.coords, (*valid_times.dims, "term"))
    per_row = math.prod(design.shape[1:-1])
    return design.chunk({dim: max(1, BLOCK_INITS**2 // per_row) for dim in design.dims[:-1][:1]})


def _dot(design: xr.DataArray, coefficients: xr.DataArray) -> xr.DataArray:
    """Sum over the terms, by blocks of times and cells: (..., [level], latitude, longitude)."""
    outer, dims = design.dims[:-1], coefficients.dims[1:]
    data = da.blockwise(
        _sum_over_terms,
        (*outer, *dims),
        design.data,
        design.dims,
        coefficients.data,
        coefficients.dims,
        dtype=np.float64,
        concatenate=True,
    )
    return xr.DataArray(data, {**coefficients.coords, **design.coords}, (*outer, *dims))


def _sum_over_terms(design: FloatArray, coefficients: FloatArray) -> FloatArray:
    return np.tensordot(design, coefficients, axes=1)
