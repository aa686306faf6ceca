r"""A chaotic flow: stochastically forced barotropic turbulence in a beta-plane channel.

Vorticity :math:`\zeta=\nabla^2\psi` and temperature :math:`\theta`, both as departures from a
uniform westerly wind :math:`U` with its meridional temperature gradient, are advected by the
nondivergent wind :math:`u=U-\psi_y,\ v=\psi_x` between walls:

.. math::
    \partial_t\zeta + U\zeta_x + J(\psi,\zeta) + \beta\psi_x
        &= -\zeta/\tau - \nu\,\zeta + \dot W \\
    \partial_t\theta + U\theta_x + J(\psi,\theta) - \Gamma\psi_x
        &= -\theta/\tau - \nu\,\theta

with :math:`\beta` and the Coriolis parameter of the channel's central latitude, drag
:math:`1/\tau`, a hyperviscosity :math:`\nu\propto(-\nabla^2)^4` that removes what cascades to the
smallest scales, and white noise :math:`\dot W` about a synoptic wavelength, which puts in energy
at a given rate. Storms form, shed filaments of temperature and drift along jets; their errors
grow by chaos and by the noise to come.

Spectral: Fourier in longitude, sines in latitude (:math:`\psi=\theta=0` at the walls), products on
the grid with the upper third of the wavenumbers left empty, so that without drag, hyperviscosity
and noise kinetic energy :math:`\langle|\nabla\psi|^2\rangle/2` and enstrophy
:math:`\langle\zeta^2\rangle/2` are conserved by the discrete advection. In time: fourth-order
Runge-Kutta with the linear terms exact, then the noise of the substep.

References
----------
Vallis (2017), Atmospheric and Oceanic Fluid Dynamics, doi:10.1017/9781107588417, chapters 11-12.
Vallis & Maltrud (1993), doi:10.1175/1520-0485(1993)023<1346:GOMFAJ>2.0.CO;2 (forced turbulence on a
beta plane).
Orszag (1971), doi:10.1175/1520-0469(1971)028<1074:OTEOAI>2.0.CO;2 (the two-thirds rule).
Cox & Matthews (2002), doi:10.1006/jcph.2002.6995 (Runge-Kutta with an integrating factor).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.fft

from weatherdiff.data.simulator.simulation import (
    ComplexArray,
    FloatArray,
    Simulator,
    Stream,
    Variable,
    generator,
)
from weatherdiff.errors import ConfigError

__all__ = ["BetaPlaneChannel"]

_EARTH_RADIUS = 6.371e6  # m
_EARTH_ROTATION = 7.292e-5  # rad/s
_HOUR = 3600.0  # s
_DAY = 24 * _HOUR

_MEAN_GEOPOTENTIAL = 54_000.0  # m2/s2, of the 500 hPa surface
_MEAN_TEMPERATURE = 260.0  # K
_TEMPERATURE_GRADIENT = 6e-6  # K/m, warm at the equator
_SPINUP_DAYS = 60.0
# Wind beyond the mean wind up to which the time step is stable, with a margin.
_FASTEST_EDDY = 60.0  # m/s
_BAND_WIDTH = 0.15  # of the forced wavenumbers, relative to their centre


@dataclass(frozen=True, kw_only=True)
class BetaPlaneChannel(Simulator):
    """Turbulent winds, geopotential and temperature of a zonal channel.

    The emitted frame holds the whole state: vorticity is the curl of the winds, temperature is
    emitted, and the noise has no memory. So :meth:`sample_predictive`, which restarts the channel
    from a frame with fresh noise, samples the true predictive distribution given that frame, to
    the rounding of float32: 1e-7 of the winds, which chaos doubles about every 3 days.

    With the defaults, eddies blow at 11 m/s (root mean square of a component), and the
    predictability at 6 hours, 2, 4, 6 and 10 days is about 0.99, 0.90, 0.74, 0.57 and 0.32 for
    geopotential and 1.00, 0.56, 0.27, 0.17 and 0.08 for temperature. On 32 x 64 cells a core
    simulates about 100 frames a second.

    Parameters
    ----------
    shape, latitudes, step_hours
        As for :class:`Simulator`; both edges in one hemisphere.
    mean_wind : float
        Uniform zonal wind :math:`U`, in m/s.
    drag_days : float
        Damping time of the large scales; infinite for none.
    dissipation_days : float
        Damping time of the smallest scales by hyperviscosity; infinite for none.
    energy_input : float
        Rate at which the noise puts in kinetic energy, in m2/s3; 0 for none.
    forcing_wavelength : float
        Of the noise, in km.

    Raises
    ------
    ConfigError
        A time or the wavelength is not positive, the energy input is negative, no harmonic lies
        near the wavelength, the channel touches the equator or a pole, or the grid is one that
        :class:`Simulator` refuses.

    Examples
    --------
    >>> channel = BetaPlaneChannel(shape=(16, 32), latitudes=(20, 70))
    >>> analysis = channel.simulate(4, seed=0)
    >>> list(analysis)
    ['u_component_of_wind', 'v_component_of_wind', 'geopotential', 'temperature']
    >>> forecast = channel.sample_predictive(
    ...     analysis, init_times=analysis["time"].values[-1], leads=2, members=3, seed=1
    ... )
    >>> forecast["temperature"].shape
    (1, 2, 3, 16, 32)
    """

    latitudes: tuple[float, float] = (10.0, 80.0)
    mean_wind: float = 8.0
    drag_days: float = 20.0
    dissipation_days: float = 0.1
    energy_input: float = 1.5e-4
    forcing_wavelength: float = 3000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        south, north = self.latitudes
        if south * north <= 0 or max(abs(south), abs(north)) == 90:
            raise ConfigError(
                f"the channel {self.latitudes} touches the equator or a pole; choose edges within "
                "one hemisphere."
            )
        for name in ("drag_days", "dissipation_days", "forcing_wavelength"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected a positive number.")
        if self.energy_input < 0:
            raise ConfigError(f"energy_input is {self.energy_input}, expected at least 0.")
        if self.energy_input > 0 and not self._band.max() > np.exp(-2):
            raise ConfigError(
                f"no harmonic of the grid {self.shape} has a wavelength near "
                f"{self.forcing_wavelength} km."
            )

    @property
    def emitted(self) -> tuple[Variable, ...]:
        """The variables, in the order of the array axis ``variable``."""
        return (
            Variable("u_component_of_wind", "eastward_wind", "m s**-1"),
            Variable("v_component_of_wind", "northward_wind", "m s**-1"),
            Variable("geopotential", "geopotential", "m**2 s**-2"),
            Variable("temperature", "air_temperature", "K"),
        )

    # -- geometry ------------------------------------------------------------------------------

    @cached_property
    def _central_latitude(self) -> float:
        return float(np.deg2rad(np.mean(self.latitudes)))

    @cached_property
    def _coriolis(self) -> float:
        return 2 * _EARTH_ROTATION * np.sin(self._central_latitude)

    @cached_property
    def _width(self) -> float:
        return _EARTH_RADIUS * float(np.deg2rad(self.latitudes[1] - self.latitudes[0]))

    @cached_property
    def _length(self) -> float:
        return 2 * np.pi * _EARTH_RADIUS * float(np.cos(self._central_latitude))

    @cached_property
    def _zonal(self) -> FloatArray:
        """Zonal wavenumbers kept, (k), in rad/m."""
        return 2 * np.pi * np.arange(-(-self.shape[1] // 3), dtype=float) / self._length

    @cached_property
    def _meridional(self) -> FloatArray:
        """Meridional wavenumbers kept, (l), in rad/m."""
        return np.pi * np.arange(1.0, -(-2 * self.shape[0] // 3)) / self._width

    @cached_property
    def _square(self) -> FloatArray:
        """Squared total wavenumber, (l, k)."""
        return self._meridional[:, None] ** 2 + self._zonal**2

    @cached_property
    def _northward(self) -> FloatArray:
        """Distance of the rows from the southern wall, (latitude), in m."""
        return (np.arange(self.shape[0]) + 0.5) * self._width / self.shape[0]

    @cached_property
    def _sines(self) -> FloatArray:
        return np.sin(self._northward[:, None] * self._meridional)

    @cached_property
    def _cosines(self) -> FloatArray:
        return np.cos(self._northward[:, None] * self._meridional)

    @cached_property
    def _background(self) -> FloatArray:
        """Northward gradients of planetary vorticity and of mean temperature, (2, 1, 1)."""
        beta = 2 * _EARTH_ROTATION * np.cos(self._central_latitude) / _EARTH_RADIUS
        # Warm at the equator in either hemisphere.
        warmth = -np.sign(self._central_latitude) * _TEMPERATURE_GRADIENT
        return np.array([beta, warmth])[:, None, None]

    def _synthesise(self, harmonics: ComplexArray, basis: FloatArray) -> FloatArray:
        """Values on the grid of harmonics (..., l, k) in a meridional basis."""
        return basis @ scipy.fft.irfft(harmonics, n=self.shape[1], norm="forward")

    def _analyse(self, fields: FloatArray, basis: FloatArray) -> ComplexArray:
        """Harmonics kept of fields (..., latitude, longitude)."""
        meridional = (2 / self.shape[0]) * basis.T @ fields
        return scipy.fft.rfft(meridional, norm="forward")[..., : self._zonal.size]

    # -- dynamics: state (vorticity and temperature, l, k), sines ------------------------------

    @cached_property
    def _substeps(self) -> int:
        cell = min(self._width / self.shape[0], self._length / self.shape[1])
        return int(np.ceil(self.step_hours * _HOUR * (abs(self.mean_wind) + _FASTEST_EDDY) / cell))

    @cached_property
    def _substep(self) -> float:
        """Duration in s."""
        return self.step_hours * _HOUR / self._substeps

    @cached_property
    def _half(self) -> ComplexArray:
        """Advection by the mean wind, drag and hyperviscosity over half a substep, (l, k)."""
        smallest = (self._square / self._square.max()) ** 4
        rate = 1 / (self.drag_days * _DAY) + smallest / (self.dissipation_days * _DAY)
        return np.exp(-self._substep / 2 * (rate + 1j * self.mean_wind * self._zonal))

    @cached_property
    def _band(self) -> FloatArray:
        """Relative strength of the noise by harmonic, (l, k); none on the zonal mean."""
        centre = 2e-3 * np.pi / self.forcing_wavelength
        band = np.exp(-(((np.sqrt(self._square) / centre - 1) / _BAND_WIDTH) ** 2) / 2)
        return band * (self._zonal > 0)

    @cached_property
    def _kick(self) -> FloatArray:
        """Standard deviation of the noise of a substep, (l, k), in 1/s."""
        # Mean energy of harmonics: 1/2 for the square of sines, 2 for the conjugate ones.
        energy = 0.5 * np.sum(self._band**2 / self._square)
        if self.energy_input == 0:
            return np.zeros_like(self._band)
        return self._band * np.sqrt(self.energy_input * self._substep / energy)

    def _tendency(self, state: ComplexArray) -> ComplexArray:
        streamfunction = -state[..., :1, :, :] / self._square
        u = self._synthesise(-self._meridional[:, None] * streamfunction, self._cosines)
        v = self._synthesise(1j * self._zonal * streamfunction, self._sines)
        eastward = self._synthesise(1j * self._zonal * state, self._sines)
        northward = self._synthesise(self._meridional[:, None] * state, self._cosines)
        return self._analyse(-u * eastward - v * (northward + self._background), self._sines)

    def _advance(self, state: ComplexArray, noise: ComplexArray) -> ComplexArray:
        half, duration = self._half, self._substep
        # Should it become unstable, this is found out where the fields are emitted.
        with np.errstate(over="ignore", invalid="ignore"):
            for substep in range(self._substeps):
                first = self._tendency(state)
                second = self._tendency(half * (state + duration / 2 * first))
                third = self._tendency(half * state + duration / 2 * second)
                fourth = self._tendency(half * (half * state + duration * third))
                state = half**2 * (state + duration / 6 * first) + duration / 6 * (
                    2 * half * (second + third) + fourth
                )
                state[..., 0, :, :] += self._kick * noise[..., substep, :, :]
        return state

    def _noise(self, rng: np.random.Generator) -> ComplexArray:
        parts = rng.standard_normal((self._substeps, *self._square.shape, 2)) / np.sqrt(2)
        return parts.view(np.complex128)[..., 0]

    def _start(self, seed: int) -> ComplexArray:
        state = np.zeros((2, *self._square.shape), np.complex128)
        for step in range(int(np.ceil(_SPINUP_DAYS * 24 / self.step_hours))):
            state = self._advance(state, self._noise(generator(seed, Stream.INITIAL, step)))
        return state

    def _emit(self, state: ComplexArray) -> FloatArray:
        streamfunction = -state[..., 0, :, :] / self._square
        from_centre = (self._northward - self._width / 2)[:, None]
        u = self._synthesise(-self._meridional[:, None] * streamfunction, self._cosines)
        v = self._synthesise(1j * self._zonal * streamfunction, self._sines)
        psi = self._synthesise(streamfunction, self._sines) - self.mean_wind * from_centre
        theta = self._synthesise(state[..., 1, :, :], self._sines)
        warmth = self._background[1] * from_centre
        fields = [
            self.mean_wind + u,
            v,
            _MEAN_GEOPOTENTIAL + self._coriolis * psi,
            _MEAN_TEMPERATURE + warmth + theta,
        ]
        return np.stack(fields, axis=-3)

    def _absorb(self, frames: FloatArray) -> ComplexArray:
        u, v, _, temperature = frames[-1]
        curl = 1j * self._zonal * self._analyse(v, self._sines) + self._meridional[
            :, None
        ] * self._analyse(u - self.mean_wind, self._cosines)
        from_centre = (self._northward - self._width / 2)[:, None]
        theta = temperature - _MEAN_TEMPERATURE - self._background[1] * from_centre
        return np.stack([curl, self._analyse(theta, self._sines)])
