r"""A linear stochastic field, whose predictive distribution is a closed form.

In harmonics, Fourier in longitude and cosine in latitude (reflecting at both edges), each pair
of wavenumbers :math:`(k, l)` evolves by itself. Its standardised amplitudes of the :math:`V`
variables, :math:`z_t\in\mathbb C^V`, follow a second-order autoregression

.. math:: z_{t+1} = 2r\cos\varphi\,U z_t - r^2 U^2 z_{t-1} + s\,\varepsilon_t,
          \qquad U = e^{-ik c}\,Q, \quad r = e^{-1/\tau(n)},

of decay time :math:`\tau(n) = \tau_0 (1+(n/n_\tau)^2)^{-1/4}`, shorter for larger total
wavenumber :math:`n`: harmonics travel east by :math:`c` a step, while the rotation :math:`Q`
turns variables into each other. Emitted is :math:`x = \mu + a(n) M z` with the spectrum
:math:`a_v^2\propto(1+(n/n_v)^2)^{-p_v/2}` and a Cholesky factor :math:`M` that correlates the
variables.

Since :math:`U` is unitary, the impulse response is :math:`\psi_i U^i` with a scalar
:math:`\psi_i = r^i\sin((i+1)\varphi)/\sin\varphi`. Hence per harmonic, whatever the state, the
predictive covariance is :math:`s^2\sum_{i<j}\psi_i^2` times the climatological one, where

.. math:: s^2 = \frac{(1-r^2)\,((1+r^2)^2 - 4r^2\cos^2\varphi)}{1+r^2}.

Second order, because forecasts jointly of few leads should range from nearly certain to nearly
climatological: a first-order autoregression with 90% of predictability after a step needs 22
steps to fall to 10%, this one 6. The noise enters the tendency first and shows in the field
later, as errors of a growing wave do.

References
----------
Box, Jenkins, Reinsel & Ljung (2015), Time Series Analysis, 5th ed., section 3.2 (second-order
autoregressions), ISBN 978-1-118-67502-1.
Penland & Sardeshmukh (1995), doi:10.1175/1520-0442(1995)008<1999:TOGOTS>2.0.CO;2 (linear
stochastic dynamics as a model of predictability).
Gneiting & Raftery (2007), doi:10.1198/016214506000001437 (CRPS of a Gaussian).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import scipy.linalg
import xarray as xr

from weatherdiff.data.simulator.harmonics import Harmonics
from weatherdiff.data.simulator.simulation import (
    ComplexArray,
    FloatArray,
    Simulator,
    Stream,
    Variable,
    generator,
)
from weatherdiff.errors import ConfigError

__all__ = ["LinearStochasticField", "SpectralVariable"]

# Of the dependence of the decay time on the total wavenumber, and the phase by which a harmonic
# turns in a step apart from travelling. Chosen, with the default memory, for 90% to 10% in 6 steps.
_DECAY_WAVENUMBER = 1.5
_OSCILLATION = 0.25


@dataclass(frozen=True)
class SpectralVariable(Variable):
    """A variable of the linear field.

    Parameters
    ----------
    mean : float
        Climatological mean, everywhere.
    std : float
        Climatological standard deviation, root mean square over the cells.
    wavenumber : float
        Total wavenumber (waves round the globe) below which the variance spectrum is flat.
    slope : float
        Power by which the variance of a harmonic falls beyond it.
    """

    mean: float
    std: float
    wavenumber: float
    slope: float


TEMPERATURE = SpectralVariable("2m_temperature", "air_temperature", "K", 280.0, 6.0, 3.0, 4.0)
PRESSURE = SpectralVariable(
    "mean_sea_level_pressure", "air_pressure_at_mean_sea_level", "Pa", 101325.0, 900.0, 4.0, 5.0
)


@dataclass(frozen=True, kw_only=True)
class LinearStochasticField(Simulator):
    """A linear, Gaussian, stationary system, equivariant under zonal translation.

    With the defaults, predictability averaged over the domain is, at leads of 1 to 6 steps, 0.897,
    0.703, 0.493, 0.314, 0.183, 0.097 for temperature and 0.901, 0.708, 0.496, 0.315, 0.183, 0.096
    for pressure: from 90% to 10% within a forecast of 6 frames, given the last 2.

    Parameters
    ----------
    shape, latitudes, step_hours
        As for :class:`Simulator`.
    variables : tuple of SpectralVariable
        At least one.
    memory : float
        Decay time of the largest scale, in steps.
    phase_speed : float
        Eastward, in degrees of longitude per day.
    coupling : float
        Angle by which neighbouring variables turn into each other in a step, in radians.
    correlation : float
        Between neighbouring variables, per harmonic, within (-1, 1).

    Raises
    ------
    ConfigError
        No variables, a memory that is not positive, a correlation out of range, or a grid that
        :class:`Simulator` refuses.

    Examples
    --------
    >>> field = LinearStochasticField(shape=(8, 16))
    >>> analysis = field.simulate(20, seed=0)
    >>> init = analysis["time"].values[5]
    >>> mean = field.predictive_mean(analysis, init_times=init, leads=6)
    >>> dict(mean["2m_temperature"].sizes)
    {'init_time': 1, 'lead_time': 6, 'latitude': 8, 'longitude': 16}
    >>> bool((field.predictive_std(6) < field.climatological_std()).to_dataarray().all())
    True
    """

    variables: tuple[SpectralVariable, ...] = (TEMPERATURE, PRESSURE)
    memory: float = 5.5
    phase_speed: float = 12.0
    coupling: float = 0.2
    correlation: float = -0.4

    history: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.variables:
            raise ConfigError("a linear field needs at least one variable.")
        if not self.memory > 0:
            raise ConfigError(f"memory is {self.memory} steps, expected a positive number.")
        if not -1 < self.correlation < 1:
            raise ConfigError(f"correlation is {self.correlation}, expected within (-1, 1).")

    @property
    def emitted(self) -> tuple[SpectralVariable, ...]:
        """The variables, in the order of the array axis ``variable``."""
        return self.variables

    def predictive_mean(
        self, analysis: xr.Dataset, *, init_times: npt.ArrayLike, leads: int
    ) -> xr.Dataset:
        """Mean of the true predictive distribution: the best forecast in the square.

        Parameters
        ----------
        analysis, init_times, leads
            As for :meth:`sample_predictive`.

        Returns
        -------
        xr.Dataset
            Each variable (init_time, lead_time, latitude, longitude), float64.

        Raises
        ------
        MissingInputError, InputError, GridMismatchError
            As :meth:`sample_predictive` does.
        """
        times = np.atleast_1d(np.asarray(init_times, dtype="datetime64[ns]"))
        coords = self._forecast_coords(times, leads)
        fields = np.empty((len(self.variables), times.size, leads, *self.shape))
        for i, state in enumerate(self._states(analysis, times)):
            for lead in range(leads):
                state = self._advance(state, np.zeros_like(state[0]))
                fields[:, i, lead] = self._emit(state)
        return self._dataset(fields, ("init_time", "lead_time"), coords)

    def predictive_std(self, leads: int) -> xr.Dataset:
        """Give the standard deviation of the true predictive distribution, whatever the state.

        Parameters
        ----------
        leads : int
            Number of consecutive steps.

        Returns
        -------
        xr.Dataset
            Each variable (lead_time, latitude), in its unit.
        """
        spectra = self._amplitude[:, None] ** 2 * self._error_variance(leads)
        std = np.sqrt(self._harmonics.variance(spectra))
        return self._dataset(std, ("lead_time",), self._lead_coords(leads))

    def climatological_std(self) -> xr.Dataset:
        """Give the standard deviation at any time, the predictive one of infinite lead.

        Returns
        -------
        xr.Dataset
            Each variable (latitude), in its unit.
        """
        return self._dataset(np.sqrt(self._harmonics.variance(self._amplitude**2)), (), {})

    def predictability(self, leads: int) -> xr.Dataset:
        """One minus the ratio of predictive to climatological variance, both area means.

        Parameters
        ----------
        leads : int
            Number of consecutive steps.

        Returns
        -------
        xr.Dataset
            Each variable (lead_time), between 0 and 1.
        """
        weights = self._area_weights
        variance = (self.predictive_std(leads) ** 2).weighted(weights).mean("latitude")
        climate = (self.climatological_std() ** 2).weighted(weights).mean("latitude")
        explained = 1 - variance / climate
        for name, part in explained.items():
            part.attrs = {"long_name": f"predictability of {name}", "units": "1"}
        return explained

    def expected_crps(self, leads: int) -> xr.Dataset:
        r"""Area mean of the CRPS that the true predictive distribution has on average.

        No forecast has a lower one. For a Gaussian, it is :math:`\sigma/\sqrt\pi`.

        Parameters
        ----------
        leads : int
            Number of consecutive steps.

        Returns
        -------
        xr.Dataset
            Each variable (lead_time), in its unit.
        """
        with xr.set_options(keep_attrs=True):
            return (
                (self.predictive_std(leads) / np.sqrt(np.pi))
                .weighted(self._area_weights)
                .mean("latitude")
            )

    # -- one step of standardised harmonics (variable, l, k) -------------------------------------

    @cached_property
    def _harmonics(self) -> Harmonics:
        return Harmonics(self.shape, self.latitudes)

    @cached_property
    def _decay(self) -> FloatArray:
        """Factor by which an amplitude decays, (l, k)."""
        time = self.memory * (1 + (self._harmonics.total / _DECAY_WAVENUMBER) ** 2) ** -0.25
        return np.exp(-1 / time)

    @cached_property
    def _noise_std(self) -> FloatArray:
        """Noise that keeps the variance at one, (l, k)."""
        square = self._decay**2
        resonance = (1 + square) ** 2 - 4 * square * np.cos(_OSCILLATION) ** 2
        return np.sqrt((1 - square) * resonance / (1 + square))

    @cached_property
    def _phase(self) -> ComplexArray:
        """Travel eastward, (k)."""
        degrees = self.phase_speed * self.step_hours / 24
        return np.exp(-1j * self._harmonics.zonal * np.deg2rad(degrees))

    @cached_property
    def _rotation(self) -> FloatArray:
        """Turn of neighbouring variables into each other, (variable, variable), orthogonal."""
        skew = np.eye(len(self.variables), k=-1) - np.eye(len(self.variables), k=1)
        return scipy.linalg.expm(self.coupling * skew)

    def _turn(self, z: ComplexArray) -> ComplexArray:
        """Apply the unitary part of the dynamics, U."""
        return self._phase * np.einsum("vw,...wlk->...vlk", self._rotation, z)

    # -- from standardised harmonics to fields ----------------------------------------------------

    @cached_property
    def _mean(self) -> FloatArray:
        return np.array([v.mean for v in self.variables])[:, None, None]

    @cached_property
    def _mixing(self) -> FloatArray:
        """Cholesky factor of the correlation of the variables, (variable, variable)."""
        order = np.arange(len(self.variables))
        return np.linalg.cholesky(self.correlation ** np.abs(order[:, None] - order))

    @cached_property
    def _amplitude(self) -> FloatArray:
        """Standard deviation of each harmonic, (variable, l, k)."""
        total, travelling = self._harmonics.total, self._harmonics.travelling
        spectra = np.stack(
            [
                travelling * (1 + (total / v.wavenumber) ** 2) ** (-v.slope / 2)
                for v in self.variables
            ]
        )
        over_cells = self._harmonics.variance(spectra).mean(-1)
        std = np.array([v.std for v in self.variables])
        return (std / np.sqrt(over_cells))[:, None, None] * np.sqrt(spectra)

    # -- the system: state (2 frames, variable, l, k) ------------------------------------------

    def _start(self, seed: int) -> ComplexArray:
        first = self._noise(generator(seed, Stream.INITIAL, 0))
        second = self._noise(generator(seed, Stream.INITIAL, 1))
        # Correlation at one step of a second-order autoregression.
        lagged = 2 * self._decay * np.cos(_OSCILLATION) / (1 + self._decay**2)
        return np.stack([first, lagged * self._turn(first) + np.sqrt(1 - lagged**2) * second])

    def _noise(self, rng: np.random.Generator) -> ComplexArray:
        return self._harmonics.analyse(rng.standard_normal((len(self.variables), *self.shape)))

    def _advance(self, state: ComplexArray, noise: ComplexArray) -> ComplexArray:
        previous, current = state[..., 0, :, :, :], state[..., 1, :, :, :]
        turned = self._turn(
            2 * self._decay * np.cos(_OSCILLATION) * current - self._decay**2 * self._turn(previous)
        )
        return np.stack([current, turned + self._noise_std * noise], axis=-4)

    def _emit(self, state: ComplexArray) -> FloatArray:
        mixed = np.einsum("vw,...wlk->...vlk", self._mixing, state[..., 1, :, :, :])
        return self._mean + self._harmonics.synthesise(self._amplitude * mixed)

    def _absorb(self, frames: FloatArray) -> ComplexArray:
        harmonics = self._harmonics.analyse(frames - self._mean)
        present = self._amplitude > 0
        scaled = np.divide(harmonics, self._amplitude, where=present, out=np.zeros_like(harmonics))
        return np.einsum("vw,...wlk->...vlk", np.linalg.inv(self._mixing), scaled)

    # -- closed forms --------------------------------------------------------------------------

    def _error_variance(self, leads: int) -> FloatArray:
        """Predictive variance of unit-variance harmonics, (lead, l, k)."""
        steps = np.arange(leads)[:, None, None]
        response = self._decay**steps * np.sin((steps + 1) * _OSCILLATION) / np.sin(_OSCILLATION)
        return np.cumsum((self._noise_std * response) ** 2, axis=0)

    @property
    def _area_weights(self) -> xr.DataArray:
        return self.grid.area_weights().isel(longitude=0, drop=True)
