"""Power spectra, against spherical harmonics of scipy, single waves and Parseval's theorem."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
import xarray as xr
from scipy.special import sph_harm_y

from weatherdiff.errors import DimensionError, GridMismatchError, InputError
from weatherdiff.evaluation import spectra
from weatherdiff.evaluation.spectra import Spectrum, power_ratio, power_spectra, power_spectrum
from weatherdiff.grid import Grid

GAUSSIAN = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(16)[0]))
GLOBAL = {
    "poles": (np.linspace(-90, 90, 17), np.arange(0, 360, 10.0)),
    "poles, even number": (np.linspace(-90, 90, 16), np.arange(0, 360, 10.0)),
    "southward": (np.linspace(90, -90, 17), np.arange(0, 360, 10.0)),
    "from the date line": (np.linspace(-90, 90, 17), np.arange(-180, 180, 10.0)),
    "between poles": (np.arange(-84.375, 90, 11.25), np.arange(0, 360, 10.0)),
    "Gaussian": (GAUSSIAN, np.arange(0, 360, 10.0)),
    "few longitudes": (np.linspace(-90, 90, 25), np.arange(0, 360, 24.0)),
}
REGION = Grid(np.arange(40, 58.0), np.arange(-10.0, 14.0))


def harmonics(grid: Grid, degrees: range, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A field of random harmonics, and its power at each of the degrees."""
    rng = np.random.default_rng(seed)
    theta = np.deg2rad(90 - grid.latitude)[:, np.newaxis]
    phi = np.deg2rad(grid.longitude)
    field, power = np.zeros(grid.shape), np.zeros(len(degrees))
    for k, degree in enumerate(degrees):
        for order in range(degree + 1):
            c = rng.normal() + 1j * rng.normal()
            field += (c * sph_harm_y(degree, order, theta, phi)).real
            power[k] += (abs(c) ** 2 / 2 if order else c.real**2) / (4 * np.pi)
    return field, power


@pytest.mark.parametrize("name", GLOBAL)
def test_power_is_that_of_the_harmonics_to_the_last_degree(name):
    grid = Grid(*GLOBAL[name])
    spectrum = Spectrum(grid)
    poles = int((np.abs(grid.latitude) == 90).sum())
    last = min(grid.shape[0] - max(1, poles), (grid.shape[1] - 1) // 2)
    np.testing.assert_array_equal(spectrum.wavenumber, np.arange(1, last + 1))
    field, expected = harmonics(grid, range(1, last + 1))
    np.testing.assert_allclose(spectrum.power(field)[0], expected, rtol=1e-10)
    np.testing.assert_allclose(spectrum.power(5e4 - 3 * field)[0], 9 * expected, rtol=1e-9)


def test_a_single_harmonic_has_power_at_its_degree_alone():
    grid = Grid(*GLOBAL["between poles"])
    theta, phi = np.deg2rad(90 - grid.latitude)[:, np.newaxis], np.deg2rad(grid.longitude)
    power = Spectrum(grid).power(sph_harm_y(9, 4, theta, phi).imag)[0]
    assert power[8] == pytest.approx(1 / (8 * np.pi))
    assert np.delete(power, 8).max() < 1e-25


def test_powers_add_up_to_the_variance_about_the_mean():
    quadrature = np.polynomial.legendre.leggauss(16)[1]
    grid = Grid(*GLOBAL["Gaussian"])
    field, _ = harmonics(grid, range(16), seed=1)
    mean = np.average(field.mean(axis=1), weights=quadrature)
    variance = np.average(((field - mean) ** 2).mean(axis=1), weights=quadrature)
    assert Spectrum(grid).power(field).sum() == pytest.approx(variance)


@pytest.mark.parametrize("name", ["poles", "Gaussian", "southward"])
def test_order_and_origin_of_the_coordinates_do_not_matter(name):
    latitude, longitude = GLOBAL[name]
    field = np.random.default_rng(2).normal(size=(latitude.size, longitude.size))
    power = Spectrum(Grid(latitude, longitude)).power(field)
    flipped = Spectrum(Grid(latitude[::-1], longitude)).power(field[::-1])
    np.testing.assert_allclose(flipped, power, rtol=1e-9)
    west = Spectrum(Grid(latitude, longitude - 180)).power(np.roll(field, 18, axis=1))
    np.testing.assert_allclose(west, power, rtol=1e-9)
    rolled = Spectrum(Grid(latitude, longitude)).power(np.roll(field, 5, axis=1))
    np.testing.assert_allclose(rolled, power, rtol=1e-9)


def test_noise_of_each_cell_has_equal_power_in_each_wave():
    grid = Grid(*GLOBAL["Gaussian"])
    noise = np.random.default_rng(3).normal(size=(400, *grid.shape))
    noise /= np.sqrt(grid.area_weights().values)  # white on the sphere: variance inverse to area
    spectrum = Spectrum(grid)
    density = spectrum.power(noise).mean(axis=0) / spectrum.modes
    np.testing.assert_allclose(density / density.mean(), 1, atol=0.15)


@pytest.mark.parametrize("name", ["poles", "region"])
def test_blocks_and_kept_functions_do_not_matter(name, monkeypatch):
    grid = REGION if name == "region" else Grid(*GLOBAL[name])
    fields = np.random.default_rng(4).normal(size=(21, *grid.shape)).astype(np.float32)
    whole = Spectrum(grid).power(fields)
    monkeypatch.setattr(spectra, "_BLOCK_VALUES", 1)
    monkeypatch.setattr(spectra, "_KEPT_VALUES", 0)
    np.testing.assert_allclose(Spectrum(grid).power(fields), whole, rtol=1e-12)
    np.testing.assert_allclose(Spectrum(grid).power(fields[20]), whole[20:], rtol=1e-12)


@pytest.mark.parametrize("name", ["poles", "region"])
def test_a_field_with_a_gap_has_nan_power_and_the_others_theirs(name):
    grid = REGION if name == "region" else Grid(*GLOBAL[name])
    fields = np.random.default_rng(5).normal(size=(3, *grid.shape))
    expected = Spectrum(grid).power(fields)
    fields[1, 2, 3] = np.nan
    power = Spectrum(grid).power(fields)
    assert np.isnan(power[1]).all()
    np.testing.assert_array_equal(power[::2], expected[::2])


# Regions


def test_a_plane_has_no_power_on_a_region():
    north, east = np.indices(REGION.shape)
    assert Spectrum(REGION).power(5e4 + 3.0 * north - 2.0 * east).max() < 1e-15


@pytest.mark.parametrize(("north", "east"), [(0, 6), (5, 0), (4, 5)])
def test_a_regional_wave_has_its_power_at_its_length(north, east):
    spectrum = Spectrum(REGION)
    rows, columns = np.indices(REGION.shape)
    wave = 2 * np.cos(2 * np.pi * (north * rows / 18 + east * columns / 24))
    power = spectrum.power(wave)[0]
    degree = np.deg2rad(1) * 6371
    wavenumber = np.hypot(north / (18 * degree), east / (24 * degree * np.cos(np.deg2rad(48.5))))
    spacing = spectrum.wavenumber[1] - spectrum.wavenumber[0]
    assert abs(spectrum.wavenumber[power.argmax()] - wavenumber) <= spacing
    assert power.sum() == pytest.approx(2, rel=0.05)


def test_regional_noise_has_equal_power_in_each_wave_and_keeps_its_variance():
    noise = np.random.default_rng(6).normal(size=(500, *REGION.shape))
    spectrum = Spectrum(REGION)
    density = spectrum.power(noise).mean(axis=0) / spectrum.modes
    # The trend takes some of the longest waves.
    np.testing.assert_allclose(density[2:] * 18 * 24, 1, atol=0.12)


def test_a_band_round_the_globe_is_not_tapered_in_longitude():
    grid = Grid(np.linspace(-30, 30, 13), np.arange(0, 360, 15.0))
    spectrum = Spectrum(grid)
    assert spectrum.units == "km**-1"
    wave = np.tile(np.cos(np.deg2rad(4 * grid.longitude)), (13, 1))
    rolled = np.roll(wave, 2, axis=1)
    np.testing.assert_allclose(spectrum.power(wave), spectrum.power(rolled), atol=1e-14)
    assert spectrum.power(wave).sum() == pytest.approx(0.5, rel=0.05)


# Data arrays


def ensemble(seed: int = 0) -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(seed)
    coords = {"latitude": REGION.latitude, "longitude": REGION.longitude}
    dims = ("init_time", "number", "latitude", "longitude")
    x = xr.DataArray(rng.normal(size=(2, 5, *REGION.shape)), coords, dims)
    return x, x.isel(number=0, drop=True) * 2


def test_spectra_compare_members_and_mean_with_the_observation():
    x, y = ensemble()
    ratio = power_ratio(power_spectra(x, y), over="init_time")
    of_all = power_spectrum(x).mean(("number", "init_time")) / power_spectrum(y).mean("init_time")
    np.testing.assert_allclose(ratio["members"], of_all)
    # The mean of unrelated members has a fifth of their power.
    assert float((ratio["ensemble_mean"] / ratio["members"]).mean()) == pytest.approx(0.2, rel=0.3)


def test_lazy_fields_stay_lazy():
    x, y = ensemble()
    lazy = power_spectra(x.chunk(init_time=1, latitude=5), y.chunk())
    assert isinstance(lazy["members"].data, dask.array.Array)
    xr.testing.assert_allclose(lazy.compute(), power_spectra(x, y))


def test_dimensions_may_come_in_any_order():
    x, _ = ensemble()
    power = power_spectrum(x.transpose("longitude", "number", "latitude", "init_time"))
    xr.testing.assert_allclose(power.transpose("init_time", "number", ...), power_spectrum(x))


def test_gaps_uneven_grids_and_swapped_arguments_are_refused():
    x, y = ensemble()
    with pytest.raises(DimensionError, match="order"):
        power_spectra(y, x)
    with pytest.raises(GridMismatchError):
        power_spectra(x, y.isel(latitude=slice(3, None)))
    x[0, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="missing cells"):
        power_spectrum(x)
    with pytest.raises(InputError, match="longitudes"):
        Spectrum(Grid(np.arange(4.0), np.array([0.0, 1.0, 3.0, 4.0])))
    with pytest.raises(InputError, match="latitudes"):
        Spectrum(Grid(np.array([0.0, 1.0, 3.0, 4.0]), np.arange(4.0)))
    with pytest.raises(InputError, match="Gaussian or evenly spaced"):
        Spectrum(Grid(np.r_[-80.0, -40:41:1, 80.0], np.arange(0, 360, 4.0)))
    with pytest.raises(DimensionError, match="shape"):
        Spectrum(REGION).power(np.zeros((2, 3)))
