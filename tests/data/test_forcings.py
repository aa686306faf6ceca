"""The sun and the clock, against what is known of them."""

import numpy as np
import pytest

from weatherdiff.data.forcings import FORCINGS, STATIC, forcing_fields, static_fields
from weatherdiff.data.windows import seconds
from weatherdiff.errors import ConfigError
from weatherdiff.grid import Grid

LATITUDE = np.array([-80.0, -23.4, 0.0, 23.4, 51.5, 80.0])
GLOBAL = Grid(LATITUDE, np.arange(0, 360, 15.0))


def times(start, stop, step):
    return seconds(np.arange(start, stop, np.timedelta64(step, "m"), dtype="datetime64[m]"))


def sun(start, days=1, grid=GLOBAL):
    """Fraction of the solar constant every 10 minutes; (time, latitude, longitude)."""
    day = np.datetime64(start)
    return forcing_fields(["toa_solar_radiation"], times(day, day + days, 10), grid)[:, 0]


def at(latitude):
    return int(np.flatnonzero(latitude == LATITUDE)[0])


@pytest.mark.parametrize("equinox", ["2018-03-20", "2018-09-23"])
def test_the_daily_mean_at_the_equator_at_equinox_is_the_solar_constant_over_pi(equinox):
    daily = sun(equinox).mean(axis=0)[at(0.0)]
    np.testing.assert_allclose(daily, 1 / np.pi, rtol=0.01)  # the distance to the sun


@pytest.mark.parametrize(
    ("date", "latitude", "declination", "distance"),
    [
        ("2018-06-21", 51.5, 23.44, 1.0163),
        ("2018-12-21", 51.5, -23.44, 0.9837),
        ("2018-06-21", 80.0, 23.44, 1.0163),
        ("2018-12-21", -23.4, -23.44, 0.9837),
    ],
)
def test_the_daily_mean_at_solstice_is_that_of_the_text_books(
    date, latitude, declination, distance
):
    # Hartmann (2016), Global physical climatology, equation 2.17; distance in astronomical units
    phi, delta = np.deg2rad([latitude, declination])
    h = np.arccos(np.clip(-np.tan(phi) * np.tan(delta), -1, 1))
    expected = (h * np.sin(phi) * np.sin(delta) + np.cos(phi) * np.cos(delta) * np.sin(h)) / np.pi
    daily = sun(date).mean(axis=0)[at(latitude)]
    np.testing.assert_allclose(daily, expected / distance**2, rtol=0.01)


@pytest.mark.parametrize(
    ("date", "dark", "light"), [("2018-06-21", -80.0, 80.0), ("2018-12-21", 80.0, -80.0)]
)
def test_one_pole_has_night_all_day_and_the_other_day_all_night(date, dark, light):
    field = sun(date)
    assert (field[:, at(dark)] == 0).all()
    assert (field[:, at(light)] > 0.1).all()


def test_the_sun_never_gives_less_than_nothing_and_its_year_has_the_right_mean():
    # A sphere receives a quarter of the solar constant; weights by area.
    grid = Grid(np.arange(-87.5, 90, 5), np.arange(0, 360, 45))
    stamps = times("2018-01-01", "2019-01-01", 60 * 5)
    field = forcing_fields(["toa_solar_radiation"], stamps, grid)[:, 0]
    assert field.min() == 0
    weights = grid.area_weights().values
    assert np.average(field.mean(axis=0), weights=weights) == pytest.approx(0.25, rel=0.002)


def test_half_of_the_equator_is_in_the_night():
    assert (sun("2018-03-20")[:, at(0.0)] == 0).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("time", "longitude"), [("00:00", 180), ("06:00", 90), ("12:00", 0), ("18:00", 270)]
)
def test_noon_is_where_the_sun_is_highest(time, longitude):
    stamp = seconds([np.datetime64(f"2018-04-15T{time}")])  # no equation of time on this day
    field = forcing_fields(["toa_solar_radiation"], stamp, GLOBAL)[0, 0]
    assert (GLOBAL.longitude[field[at(23.4)].argmax()]) == longitude
    assert field[at(23.4)].argmin() != field[at(23.4)].argmax()
    assert field[at(0.0), (np.abs(GLOBAL.longitude - longitude) == 180)] == 0  # midnight


def test_summer_is_in_the_north_in_june():
    north, south = at(51.5), at(-80.0)
    june, december = sun("2018-06-21").mean(axis=(0, 2)), sun("2018-12-21").mean(axis=(0, 2))
    assert june[north] > 3 * december[north]
    assert december[south] > june[south]


@pytest.mark.parametrize("name", list(FORCINGS))
def test_fields_are_continuous_round_the_globe(name):
    grid = Grid(LATITUDE, np.arange(-180, 180, 1.0))
    field = forcing_fields([name], times("2018-08-03T05", "2018-08-03T06", 60), grid)
    inner = np.abs(np.diff(field, axis=-1)).max()
    assert np.abs(field[..., 0] - field[..., -1]).max() <= 1.001 * inner + 1e-7
    shifted = Grid(LATITUDE, np.arange(0, 360, 1.0))
    turned = forcing_fields([name], times("2018-08-03T05", "2018-08-03T06", 60), shifted)
    np.testing.assert_allclose(np.roll(turned, 180, axis=-1), field, atol=1e-6)


@pytest.mark.parametrize("name", list(FORCINGS))
def test_fields_are_continuous_in_time(name):
    # At midnight and at new year, of common and of leap years, before and after 1970.
    for day in ("2017-12-31", "2020-12-31", "1968-12-31", "2018-05-05"):
        stamps = times(f"{day}T22", np.datetime64(day) + np.timedelta64(26, "h"), 10)
        field = forcing_fields([name], stamps, GLOBAL)
        assert np.abs(np.diff(field, axis=0)).max() < 0.05


def test_the_clock_is_that_of_the_place():
    grid = Grid(np.array([0.0, 10.0]), np.array([0.0, 90.0, 180.0, 270.0]))
    stamp = seconds([np.datetime64("2018-01-01T06:00")])
    cosine, sine = forcing_fields(["time_of_day"], stamp, grid)[0]
    hour = np.round(np.arctan2(sine, cosine) * 12 / np.pi, 4) % 24
    np.testing.assert_allclose(hour, [[6, 12, 18, 0]] * 2, atol=1e-3)


def test_the_season_turns_once_a_year():
    stamps = seconds(["2019-01-01", "2019-04-02", "2019-07-02", "2019-10-01", "2020-01-01"])
    cosine, sine = forcing_fields(["time_of_year"], stamps, GLOBAL)[:, :, 0, 0].T
    np.testing.assert_allclose(cosine, [1, 0, -1, 0, 1], atol=0.02)
    np.testing.assert_allclose(sine, [0, 1, 0, -1, 0], atol=0.02)


def test_fields_come_in_the_order_asked_for():
    stamps = times("2018-01-01", "2018-01-02", 360)
    names = ["toa_solar_radiation", "time_of_year", "time_of_day"]
    together = forcing_fields(names, stamps, GLOBAL)
    assert together.shape == (4, 5, 6, 24)
    assert together.dtype == np.float32
    apart = [forcing_fields([name], stamps, GLOBAL) for name in names]
    np.testing.assert_array_equal(together, np.concatenate(apart, axis=1))
    assert [a.shape[1] for a in apart] == [FORCINGS[name][0] for name in names]
    assert np.abs(together).max() < 1.04


def test_no_forcing_is_an_empty_field():
    assert forcing_fields([], times("2018-01-01", "2018-01-02", 360), GLOBAL).shape == (4, 0, 6, 24)


def test_an_unknown_forcing_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'moon'.*time_of_day"):
        forcing_fields(["moon"], np.array([0]), GLOBAL)


def test_static_fields_of_the_globe_have_no_seam():
    mask = np.ones((2, *GLOBAL.shape), bool)
    mask[1, 2, 3] = False
    fields = static_fields(GLOBAL, mask)
    assert fields.shape == (4, *GLOBAL.shape)
    north, x, y, share = fields
    np.testing.assert_allclose(
        north, np.sin(np.deg2rad(LATITUDE))[:, None].repeat(24, 1), rtol=1e-6
    )
    np.testing.assert_allclose(x**2 + y**2, 1, rtol=1e-6)
    assert np.hypot(*(f[:, 0] - f[:, -1] for f in (x, y))).max() < 0.27  # one step of 15 degrees
    assert share[2, 3] == 0.5
    assert (np.delete(share.ravel(), 2 * 24 + 3) == 1).all()


def test_static_fields_of_a_region_span_it():
    grid = Grid(np.array([50.0, 52.0, 58.0]), np.array([-10.0, -5.0, 0.0, 4.0]))
    latitude, longitude, share = static_fields(grid, np.ones((1, 3, 4), bool))
    assert latitude[:, 0].tolist() == [-1, -0.5, 1]
    np.testing.assert_allclose(longitude[0], [-1, -2 / 7, 3 / 7, 1], rtol=1e-6)
    assert (share == 1).all()
    assert len(STATIC) == 3
