r"""Power spectra: whether forecasts have the detail of the truth, scale by scale.

The power at a wavenumber is the variance the field has there, so that powers add up to the
variance about the mean.

On a global grid it is a function of the total wavenumber :math:`l` (the degree of the spherical
harmonics, waves round the globe in any direction):

.. math::
    f_l^m = \tfrac12\int_{-1}^1 \bar P_l^m(\mu)\, F_m(\mu)\,\mathrm d\mu, \qquad
    C_l = \sum_{m=-l}^{l} |f_l^m|^2

where :math:`F_m` are the Fourier coefficients of the rows and :math:`\bar P_l^m` the normalised
associated Legendre functions. The rows are first interpolated to Gaussian latitudes: exactly for
a field that the truncation holds, as :math:`F_m` is a polynomial in :math:`\mu=\sin\phi`, times
:math:`\cos\phi` if m is odd. The truncation is triangular, at the number of latitudes less one
(less two if both poles are among them), or below half the number of longitudes if that is less.

On a regional grid it is a function of the wavenumber in 1/km, of the two-dimensional Fourier
transform, summed over rings. A plane is subtracted and the field tapered with a Hann window in each
direction (not in longitude if it goes round the globe), and divided by the window's mean square.
The spacing in longitude is that at the middle latitude.

A field with missing cells has no spectrum: filled, it would be one of its coast.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.errors import DimensionError, InputError
from weatherdiff.grid import Grid

__all__ = ["Spectrum", "power_ratio", "power_spectra", "power_spectrum"]

FloatArray = npt.NDArray[np.float64]

_RADIUS = 6371.0  # km
# Values transformed at a time: 8 MiB of float64, or eight fields.
_BLOCK_VALUES = 2**20
# Legendre functions kept between calls: 256 MiB; those of larger grids are made again.
_KEPT_VALUES = 2**25
# How much an error of a row may grow by the interpolation to Gaussian latitudes; it is 1 on these
# and about 6 on 721 equally spaced ones.
_GROWTH = 50.0


class Spectrum:
    """Transform of the fields of one grid to power at each wavenumber.

    Parameters
    ----------
    grid : Grid
        Global (evenly spaced all round, to both poles, Gaussian or evenly spaced latitudes), or
        else regional with even spacing. Order and convention of the coordinates do not matter.

    Attributes
    ----------
    wavenumber : (wavenumber,)
        Total wavenumber from 1 on a global grid; else centres of the rings, in 1/km.
    modes : (wavenumber,)
        Number of independent waves in each: white noise has power in proportion.
    units : str
        ``"1"`` on a global grid, else ``"km**-1"``.

    Raises
    ------
    InputError
        Uneven spacing, or latitudes that do not resolve a global field.

    Examples
    --------
    >>> grid = Grid(np.linspace(90, -90, 19), np.arange(-180, 180, 10.0))
    >>> spectrum = Spectrum(grid)
    >>> spectrum.wavenumber[[0, -1]], spectrum.units
    (array([ 1, 17]), '1')
    >>> mu = np.sin(np.deg2rad(grid.latitude))[:, np.newaxis] * np.ones(36)
    >>> print(spectrum.power(5e4 + mu)[0, :3].round(6))
    [0.333333 0.       0.      ]
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        steps = np.abs(np.diff(grid.longitude))
        if np.ptp(steps) > 1e-2 * steps.min():
            raise InputError("a spectrum needs evenly spaced longitudes.")
        self._transform: _Sphere | _Plane
        heights = grid.area_weights().values[:, 0]
        if grid.is_periodic and _reaches_poles(grid, heights):
            self._transform = _Sphere(grid)
            self.units = "1"
        else:
            self._transform = _Plane(grid)
            self.units = "km**-1"
        self.wavenumber = self._transform.wavenumber
        self.modes = self._transform.modes
        self._weights = heights / heights.sum() / grid.shape[1]

    def power(self, values: npt.NDArray[Any]) -> FloatArray:
        """Power of some fields.

        Parameters
        ----------
        values : (field, latitude, longitude) or (latitude, longitude)
            In the order of the grid. A field with a NaN has NaN power.

        Returns
        -------
        (field, wavenumber)
            In the square of the values' unit.

        Raises
        ------
        DimensionError
            The values are not of the shape of the grid.
        """
        values = np.asarray(values)
        if values.shape[-2:] != self.grid.shape or values.ndim not in (2, 3):
            raise DimensionError(
                f"fields of shape {values.shape} are not on the grid of {self.grid.shape}."
            )
        fields = values.reshape(-1, *self.grid.shape)
        step = max(8, _BLOCK_VALUES // self._weights.size // self.grid.shape[1])
        result = np.empty((len(fields), self.wavenumber.size))
        for start in range(0, len(fields), step):
            block = fields[start : start + step].astype(np.float64)
            gaps = ~np.isfinite(block).all(axis=(1, 2))
            block[gaps] = 0
            # Without its mean, a large offset costs no digits.
            block -= np.einsum("nij,i->n", block, self._weights)[:, np.newaxis, np.newaxis]
            result[start : start + step] = self._transform.power(block)
            result[start : start + step][gaps] = np.nan
        return result


class _Sphere:
    def __init__(self, grid: Grid) -> None:
        rows, columns = grid.shape
        inner = np.abs(grid.latitude) < 90 - 1e-6  # rows of odd m vanish at the poles
        self.truncation = min(rows - 1, int(inner.sum()), (columns - 1) // 2)
        self.wavenumber = np.arange(1, self.truncation + 1)
        self.modes = 2 * self.wavenumber + 1
        self.columns = columns
        nodes, self.quadrature = np.polynomial.legendre.leggauss(rows)
        self.cosine = np.sqrt((1 - nodes) * (1 + nodes))
        self.nodes = nodes
        mu = np.sin(np.deg2rad(grid.latitude))
        even = _interpolation(mu, nodes)
        odd = np.zeros_like(even)
        odd[:, inner] = (
            self.cosine[:, np.newaxis]
            * _interpolation(mu[inner], nodes)
            / np.cos(np.deg2rad(grid.latitude[inner]))
        )
        growth = max(np.abs(even).sum(axis=1).max(), np.abs(odd).sum(axis=1).max())
        if not growth < _GROWTH:
            raise InputError(
                "a global spectrum needs Gaussian or evenly spaced latitudes from pole to pole."
            )
        self.interpolation = even, odd
        self.kept: list[FloatArray] | None = None
        if (self.truncation + 1) * (self.truncation + 2) // 2 * rows <= _KEPT_VALUES:
            self.kept = list(self.legendre())

    def legendre(self) -> Iterator[FloatArray]:
        """Weighted functions of order m = 0, 1, ..., each (degree from m on, node).

        The three-term recurrence in degree of Holmes and Featherstone (2002),
        doi:10.1007/s00190-002-0216-2, eq. 11.
        """
        first = np.ones_like(self.nodes)
        for m in range(self.truncation + 1):
            if m:
                first = np.sqrt((2 * m + 1) / (2 * m)) * self.cosine * first
            functions = np.zeros((self.truncation + 1 - m, self.nodes.size))
            functions[0] = first
            for k in range(1, len(functions)):
                n = m + k
                step = self.nodes * functions[k - 1]
                if k > 1:
                    back = (n + m - 1) * (n - m - 1) / ((2 * n - 3) * (2 * n - 1))
                    step -= np.sqrt(back) * functions[k - 2]
                functions[k] = np.sqrt((2 * n - 1) * (2 * n + 1) / ((n - m) * (n + m))) * step
            yield functions * (self.quadrature / 2)

    def power(self, fields: FloatArray) -> FloatArray:
        waves = np.fft.rfft(fields, axis=-1)[..., : self.truncation + 1] / self.columns
        power = np.zeros((len(fields), self.truncation + 1))
        for m, functions in enumerate(self.kept or self.legendre()):
            rows = waves[:, :, m].T  # (row, field)
            both = np.concatenate([rows.real, rows.imag], axis=1)
            squares = (functions @ (self.interpolation[m % 2] @ both)) ** 2
            total = squares[:, : len(fields)] + squares[:, len(fields) :]
            power[:, m:] += (2 if m else 1) * total.T  # m and -m
        return power[:, 1:]


class _Plane:
    def __init__(self, grid: Grid) -> None:
        steps = np.diff(grid.latitude)
        if np.ptp(steps) > 2e-2 * np.abs(steps).min():
            raise InputError("a regional spectrum needs evenly spaced latitudes.")
        rows, columns = grid.shape
        middle = np.deg2rad((grid.latitude[0] + grid.latitude[-1]) / 2)
        degree = np.deg2rad(1) * _RADIUS
        height = degree * np.abs(steps.mean())
        width = degree * np.abs(np.diff(grid.longitude).mean()) * np.cos(middle)
        north, east = np.fft.fftfreq(rows, height), np.fft.rfftfreq(columns, width)
        ring = 1 / min(rows * height, columns * width)
        number = np.rint(np.hypot(north[:, np.newaxis], east) / ring).astype(int)
        last = int(np.rint(max(0.5 / height, 0.5 / width) / ring))
        # Waves to the east stand for those to the west too, but the mean and the shortest.
        count = np.where((east == 0) | (2 * np.arange(east.size) == columns), 1.0, 2.0)
        counts = np.broadcast_to(count, number.shape)
        modes = np.bincount(number.ravel(), counts.ravel(), last + 1)[1 : last + 1]
        self.rings = np.flatnonzero(modes) + 1
        self.modes = modes[self.rings - 1]
        self.wavenumber = self.rings * ring
        self.number, self.counts, self.last = number.ravel(), count, last
        # The window that does not repeat its zero: no point of a row is lost.
        windows = [np.hanning(size + 2)[1:-1] for size in (rows, columns)]
        if grid.is_periodic:
            windows[1] = np.ones(columns)
        position = np.indices(grid.shape, np.float64)
        self.slopes = list(position - position.mean(axis=(1, 2), keepdims=True))
        self.slopes = self.slopes[:1] if grid.is_periodic else self.slopes
        self.window = np.outer(*windows)

    def power(self, fields: FloatArray) -> FloatArray:
        fields = fields - fields.mean(axis=(1, 2), keepdims=True)
        for slope in self.slopes:
            gradient = np.einsum("nij,ij->n", fields, slope) / max(1, (slope**2).sum())
            fields -= gradient[:, np.newaxis, np.newaxis] * slope
        fields = fields * self.window
        # The mean that the taper leaves would leak from wavenumber zero.
        left = fields.sum(axis=(1, 2), keepdims=True) / self.window.sum()
        fields = (fields - left * self.window) / np.sqrt(np.mean(self.window**2))
        squares = np.abs(np.fft.rfft2(fields) / self.window.size) ** 2 * self.counts
        sums = [np.bincount(self.number, each.ravel(), self.last + 1) for each in squares]
        return np.array(sums, np.float64).reshape(len(fields), -1)[:, self.rings]


def power_spectrum(field: xr.DataArray) -> xr.DataArray:
    """Power of a field at each wavenumber: of the sphere on global grids, else of the plane.

    Parameters
    ----------
    field : (..., latitude, longitude)
        Without missing cells, on a global or an evenly spaced regional grid.

    Returns
    -------
    (..., wavenumber)
        In the square of the field's unit; ``wavenumber`` is the total one, or in 1/km, as its unit
        says. Float64, lazy if the field is.

    Raises
    ------
    InputError
        Missing values (of a lazy field, when computed), or a grid without a spectrum.

    See Also
    --------
    Spectrum : The definition, and the transform of numpy arrays.

    Examples
    --------
    >>> cells = {"latitude": np.arange(50, 60.0), "longitude": np.arange(0, 12.0)}
    >>> field = xr.DataArray(np.random.default_rng(1).normal(size=(10, 12)), cells)
    >>> power = power_spectrum(field)
    >>> power.dims, power["wavenumber"].attrs["units"]
    (('wavenumber',), 'km**-1')
    """
    spectrum = Spectrum(Grid.from_dataset(field))

    def transform(values: npt.NDArray[Any]) -> FloatArray:
        if not np.isfinite(values).all():
            raise InputError("a spectrum needs a field without missing cells.")
        power = spectrum.power(values.reshape(-1, *values.shape[-2:]))
        return power.reshape(*values.shape[:-2], -1)

    power = xr.apply_ufunc(
        transform,
        field,
        input_core_dims=[["latitude", "longitude"]],
        output_core_dims=[["wavenumber"]],
        keep_attrs=False,
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={
            "output_sizes": {"wavenumber": spectrum.wavenumber.size},
            "allow_rechunk": True,
        },
    )
    name = "total wavenumber" if spectrum.units == "1" else "wavenumber"
    attrs = {"long_name": name, "units": spectrum.units}
    return power.assign_coords(wavenumber=("wavenumber", spectrum.wavenumber, attrs))


def power_spectra(
    forecast: xr.DataArray, observation: xr.DataArray, *, dim: str = "number"
) -> xr.Dataset:
    """Power of the members, of their mean and of the observation.

    Parameters
    ----------
    forecast : (number, ..., latitude, longitude)
        Ensemble without missing cells.
    observation : (..., latitude, longitude)
        On the same grid, without ``dim``.
    dim : str
        The ensemble dimension.

    Returns
    -------
    xr.Dataset
        ``members`` (the mean of their powers), ``ensemble_mean`` and ``observation``, each
        (..., wavenumber); lazy if the inputs are.

    Raises
    ------
    DimensionError
        ``dim`` missing from the forecast or present in the observation.
    GridMismatchError
        The grids differ.
    InputError
        See :func:`power_spectrum`.
    """
    if dim not in forecast.dims or dim in observation.dims:
        raise DimensionError(
            f"expected the dimension {dim!r} in the forecast and not in the observation; "
            "the order is (forecast, observation)."
        )
    Grid.from_dataset(forecast).require_same(Grid.from_dataset(observation))
    mean = forecast.astype(np.float64).mean(dim, skipna=False)
    return xr.Dataset(
        {
            "members": power_spectrum(forecast).mean(dim, skipna=False),
            "ensemble_mean": power_spectrum(mean),
            "observation": power_spectrum(observation),
        }
    )


def power_ratio(spectra: xr.Dataset, *, over: str | None = None) -> xr.Dataset:
    """Power of members and ensemble mean relative to the observation's: 1 is its detail.

    Parameters
    ----------
    spectra : xr.Dataset
        Result of :func:`power_spectra`.
    over : str, optional
        Dimension the powers are averaged over before they are divided, such as ``init_time``.

    Returns
    -------
    xr.Dataset
        ``members`` and ``ensemble_mean``, dimensionless; NaN where the observation has no power.

    Examples
    --------
    >>> powers = {"members": ("init_time", [2.0, 4.0]), "observation": ("init_time", [1.0, 5.0])}
    >>> float(power_ratio(xr.Dataset(powers), over="init_time")["members"])
    1.0
    """
    if over is not None:
        spectra = spectra.mean(over, skipna=False)
    observed = spectra["observation"]
    return spectra.drop_vars("observation") / observed.where(observed > 0)


def _reaches_poles(grid: Grid, heights: FloatArray) -> bool:
    """Tell whether the outer cells reach the poles."""
    edges = np.deg2rad(grid.latitude)
    low, high = np.sin(edges.min()), np.sin(edges.max())
    # Half an outer cell, at most, lies between its centre and the pole.
    outer = heights[[edges.argmin(), edges.argmax()]] / heights.sum() * 2
    return bool(low - outer[0] <= -1 + 1e-9 and high + outer[1] >= 1 - 1e-9)


def _interpolation(known: FloatArray, wanted: FloatArray) -> FloatArray:
    """Matrix (wanted, known) of polynomial interpolation, in the second barycentric form."""
    apart = known[:, np.newaxis] - known
    np.fill_diagonal(apart, 1.0)
    logs = -np.log(np.abs(apart)).sum(axis=1)
    weights = np.prod(np.sign(apart), axis=1) * np.exp(logs - logs.max())
    distance = wanted[:, np.newaxis] - known
    hit = np.abs(distance) < 1e-13
    terms = weights / np.where(hit, 1.0, distance)
    matrix = terms / terms.sum(axis=1, keepdims=True)
    same = hit.any(axis=1)
    matrix[same] = hit[same]
    return matrix
