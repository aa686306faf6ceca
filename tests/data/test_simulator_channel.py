"""The channel obeys the physics it claims: conservation, budgets, waves, chaos."""

import numpy as np
import pytest
import xarray as xr

from weatherdiff.data.simulator import BetaPlaneChannel
from weatherdiff.errors import ConfigError

U, V, Z, T = "u_component_of_wind", "v_component_of_wind", "geopotential", "temperature"
GRID = {"shape": (16, 36), "latitudes": (20.0, 70.0)}
FREE = {"energy_input": 0.0, "drag_days": np.inf, "dissipation_days": np.inf}
RADIUS, ROTATION = 6.371e6, 7.292e-5
CORIOLIS = 2 * ROTATION * np.sin(np.pi / 4)
BETA = 2 * ROTATION * np.cos(np.pi / 4) / RADIUS
WIDTH, LENGTH = RADIUS * np.deg2rad(50.0), 2 * np.pi * RADIUS * np.cos(np.pi / 4)


@pytest.fixture(scope="module")
def turbulent():
    """Developed turbulence, one frame."""
    return BetaPlaneChannel(**GRID).simulate(1, seed=2)


@pytest.fixture(scope="module")
def record():
    """Two months of it."""
    return BetaPlaneChannel(**GRID).simulate(250, seed=9)


def at_rest(frame):
    """Nothing but the mean wind of 8 m/s."""
    still = frame.copy(deep=True)
    still[U][:], still[V][:] = 8.0, 0.0
    return still


def energy(ds, mean_wind=8.0):
    """Kinetic energy of the eddies, mean over the channel, in m2/s2."""
    return 0.5 * ((ds[U] - mean_wind) ** 2 + ds[V] ** 2).mean(("latitude", "longitude"))


def enstrophy(ds):
    """From the geopotential, by a plain Fourier transform of its odd extension northwards."""
    psi = (ds[Z].values.astype(float) - 54_000) / CORIOLIS
    ny, nx = psi.shape[-2:]
    northward = ((np.arange(ny) + 0.5) / ny - 0.5) * WIDTH
    psi = psi + 8.0 * northward[:, None]
    waves = np.fft.fft2(np.concatenate([psi, -psi[..., ::-1, :]], axis=-2), norm="forward")
    ky = 2 * np.pi * np.fft.fftfreq(2 * ny, 1 / (2 * ny)) / (2 * WIDTH)
    kx = 2 * np.pi * np.fft.fftfreq(nx, 1 / nx) / LENGTH
    square = ky[:, None] ** 2 + kx**2
    return 0.5 * (np.abs(waves) ** 2 * square**2).sum((-2, -1))


def forecast(channel, frame, *, leads, members=1, seed=0):
    init = frame["time"].values[-1]
    ds = channel.sample_predictive(
        frame, init_times=init, leads=leads, members=members, seed=seed
    ).isel(init_time=0)
    return ds.isel(number=0) if members == 1 else ds


def test_energy_and_enstrophy_are_conserved_without_forcing_and_damping(turbulent):
    ds = forecast(BetaPlaneChannel(**GRID, **FREE), turbulent, leads=12)
    first, last = turbulent.isel(time=0), ds.isel(lead_time=-1)
    assert float(energy(first)) > 30  # not trivially
    assert float(energy(last)) == pytest.approx(float(energy(first)), rel=1e-5)
    assert float(enstrophy(last)) == pytest.approx(float(enstrophy(first)), rel=1e-4)
    # while the flow has changed altogether
    assert float(xr.corr(first[V], last[V])) < 0.5


def test_drag_alone_takes_energy_at_its_rate(turbulent):
    channel = BetaPlaneChannel(**GRID, **FREE | {"drag_days": 5.0})
    ds = forecast(channel, turbulent, leads=8)
    days = np.arange(1, 9) / 4
    expected = float(energy(turbulent)[0]) * np.exp(-2 * days / 5.0)
    np.testing.assert_allclose(energy(ds), expected, rtol=1e-4)


def test_hyperviscosity_takes_enstrophy_rather_than_energy(turbulent):
    channel = BetaPlaneChannel(**GRID, **FREE | {"dissipation_days": 0.1})
    ds = forecast(channel, turbulent, leads=8).isel(lead_time=-1)
    lost_energy = 1 - float(energy(ds)) / float(energy(turbulent)[0])
    lost_enstrophy = 1 - float(enstrophy(ds)) / float(enstrophy(turbulent)[0])
    assert 0 < 2 * lost_energy < lost_enstrophy


def test_the_noise_puts_in_energy_at_the_given_rate(turbulent):
    channel = BetaPlaneChannel(**GRID, **FREE | {"energy_input": 3e-4})
    ds = forecast(channel, at_rest(turbulent), leads=4, members=120)
    seconds = 21600.0 * np.arange(1, 5)
    np.testing.assert_allclose(energy(ds).mean("number"), 3e-4 * seconds, rtol=0.05)
    for component in (ds[U] - 8, ds[V]):  # unbiased everywhere
        error = component.mean("number") / (component.std("number") + 1e-9)
        assert float(np.abs(error).max()) < 6 / np.sqrt(120)


def test_energy_balances_input_and_drag():
    channel = BetaPlaneChannel(**GRID, drag_days=5.0)
    ds = channel.simulate(400, seed=4)
    mean = float(energy(ds).mean())
    # Drag alone would leave input x time / 2; hyperviscosity takes some of it.
    most = 1.5e-4 * 5 * 86400 / 2
    assert 0.7 * most < mean < 1.1 * most
    halves = energy(ds).values.reshape(2, -1).mean(1)
    assert halves[0] == pytest.approx(halves[1], rel=0.3)  # spun up at the first frame


def test_a_rossby_wave_travels_at_its_phase_speed(turbulent):
    k, ly = 3 * 2 * np.pi / LENGTH, 2 * np.pi / WIDTH
    y = ((np.arange(16) + 0.5) / 16 * WIDTH)[:, None]
    x = np.arange(36) / 36 * LENGTH

    def wave(seconds):
        phase = k * (x - (8.0 - BETA / (k**2 + ly**2)) * seconds)
        amplitude = 5e6  # m2/s: winds of several m/s, for a single wave is an exact solution
        return {
            U: 8.0 - amplitude * ly * np.cos(ly * y) * np.cos(phase),
            V: -amplitude * k * np.sin(ly * y) * np.sin(phase),
        }

    start = turbulent.copy(deep=True)
    for name, values in wave(0.0).items():
        start[name][0] = values
    ds = forecast(BetaPlaneChannel(**GRID, **FREE), start, leads=8)
    for lead in (0, 7):
        for name, values in wave(21600.0 * (lead + 1)).items():
            np.testing.assert_allclose(ds[name][lead], values, atol=2e-3)


def test_temperature_is_carried_by_the_mean_wind_alone_where_there_are_no_eddies(turbulent):
    # A cell in a step: 10 degrees in 6 hours.
    channel = BetaPlaneChannel(**GRID, **FREE, mean_wind=LENGTH / 36 / 21600)
    start = at_rest(turbulent)
    start[U][:] = channel.mean_wind
    ds = forecast(channel, start, leads=1)
    expected = start[T].isel(time=0).roll(longitude=1, roll_coords=False)
    np.testing.assert_allclose(ds[T][0], expected, atol=1e-3)


def test_temperature_is_warm_towards_the_equator_in_either_hemisphere():
    for sign, latitudes in ((1, (20.0, 70.0)), (-1, (-70.0, -20.0))):
        ds = BetaPlaneChannel(shape=(12, 24), latitudes=latitudes).simulate(1, seed=0)
        mean = ds.isel(time=0).mean("longitude")
        assert sign * float(mean[T][0] - mean[T][-1]) > 10
        assert sign * float(mean[Z][0] - mean[Z][-1]) > 0  # westerlies


def test_wind_and_geopotential_are_in_geostrophic_balance(turbulent):
    z = turbulent[Z].values.astype(float)
    waves = 1j * 2 * np.pi * np.arange(19) / LENGTH * np.fft.rfft(z, axis=-1)
    v = np.fft.irfft(waves, n=36, axis=-1) / CORIOLIS
    np.testing.assert_allclose(turbulent[V], v, atol=1e-3)


def test_the_emitted_frame_holds_the_whole_state(turbulent):
    channel = BetaPlaneChannel(**GRID, energy_input=0.0)
    through = forecast(channel, turbulent, leads=6)
    middle = through.isel(lead_time=2).drop_vars(["lead_time", "init_time", "number"])
    middle = middle.rename(valid_time="time").expand_dims("time")
    restarted = forecast(channel, middle, leads=3)
    for name in (U, V, Z, T):
        scale = float(through[name].std())
        np.testing.assert_allclose(
            restarted[name], through[name].isel(lead_time=slice(3, None)), atol=1e-5 * scale
        )


def test_nearby_states_under_the_same_noise_diverge(turbulent):
    channel = BetaPlaneChannel(**GRID)
    nearby = turbulent.copy(deep=True)
    nearby[V] *= 1 + 1e-4
    here, there = (forecast(channel, state, leads=80, seed=5) for state in (turbulent, nearby))
    error = np.sqrt(((here[V] - there[V]) ** 2).mean(("latitude", "longitude")))
    assert float(error[-1]) > 5 * float(error[:4].mean())


def test_the_ensemble_spreads_from_nearly_certain_towards_the_climate(turbulent, record):
    channel = BetaPlaneChannel(**GRID)
    ds = forecast(channel, turbulent, leads=60, members=12)
    spread = np.sqrt(ds.var("number", ddof=1).mean(("latitude", "longitude")))
    climate = np.sqrt(record.var("time").mean(("latitude", "longitude")))
    for name in (U, V, Z, T):
        ratio = spread[name] / climate[name]
        assert float(ratio[0]) < 0.35
        assert 0.7 < float(ratio[-20:].mean()) < 1.3
        assert float(ratio[11]) > 2 * float(ratio[0])


def test_the_simulated_truth_is_one_more_member_of_the_predictive_ensemble(record):
    channel, members = BetaPlaneChannel(**GRID), 6
    ds = channel.sample_predictive(
        record, init_times=record["time"].values[:240:8], leads=8, members=members, seed=1
    )
    truth = record.sel(time=ds["valid_time"]).drop_vars("time")
    everything = ("init_time", "latitude", "longitude")
    error = ((ds.mean("number") - truth) ** 2).mean(everything)
    variance = ds.var("number", ddof=1).mean(everything)
    for name in (U, V, Z, T):
        ratio = np.sqrt((1 + 1 / members) * variance[name] / error[name])
        np.testing.assert_allclose(ratio, 1.0, atol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latitudes": (-10.0, 40.0)}, "equator"),
        ({"latitudes": (0.0, 40.0)}, "equator"),
        ({"latitudes": (40.0, 90.0)}, "pole"),
        ({"drag_days": 0.0}, "drag_days"),
        ({"dissipation_days": -1.0}, "dissipation_days"),
        ({"forcing_wavelength": float("nan")}, "forcing_wavelength"),
        ({"energy_input": -1e-4}, "energy_input"),
        ({"forcing_wavelength": 300.0}, "no harmonic"),
    ],
)
def test_an_impossible_channel_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        BetaPlaneChannel(**GRID | options)


def test_a_flow_too_fast_for_the_time_step_is_refused(turbulent):
    storm = turbulent.copy(deep=True)
    storm[V] *= 40
    with pytest.raises(ConfigError, match="blew up"):
        forecast(BetaPlaneChannel(**GRID), storm, leads=8)
