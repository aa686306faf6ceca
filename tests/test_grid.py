import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from weatherdiff.errors import DimensionError, GridMismatchError, InputError
from weatherdiff.grid import Grid, canonical_grid, grid_coordinates

GAUSSIAN = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(16)[0]))
LATITUDES = {
    "with poles": np.linspace(-90, 90, 13),
    "without poles": np.linspace(-82.5, 82.5, 12),
    "north to south": np.linspace(90, -90, 13),
    "Gaussian": GAUSSIAN,
    "irregular": np.array([-80.0, -35.0, -30.0, 12.0, 50.0, 85.0]),
}


@pytest.mark.parametrize("latitude", LATITUDES.values(), ids=LATITUDES)
def test_each_row_of_a_global_grid_weighs_as_the_points_nearest_to_it(latitude):
    weights = Grid(latitude, np.arange(0, 360, 40)).area_weights().values[:, 0]
    points = (np.arange(200_000) + 0.5) / 200_000 * 180 - 90
    nearest = np.abs(points[:, None] - latitude).argmin(axis=1)
    areas = np.bincount(nearest, weights=np.cos(np.deg2rad(points)))
    np.testing.assert_allclose(weights, areas / areas.mean(), rtol=1e-3)


def test_weights_have_mean_one_and_the_coordinates_of_the_grid():
    grid = Grid(GAUSSIAN, [0.0, 10.0, 30.0])
    weights = grid.area_weights()
    assert weights.dims == ("latitude", "longitude")
    np.testing.assert_array_equal(weights["longitude"], grid.longitude)
    assert float(weights.mean()) == pytest.approx(1, abs=1e-14)


def test_the_pole_row_of_a_fine_grid_weighs_an_eighth_of_its_neighbour():
    weights = Grid(np.linspace(-90, 90, 181), np.arange(360)).area_weights().values[:, 0]
    assert weights[0] / weights[1] == pytest.approx(1 / 8, rel=1e-3)
    assert weights[-1] == pytest.approx(weights[0], rel=1e-12)


def test_a_regional_grid_weighs_by_the_cosine_of_latitude_at_its_edges_too():
    latitude = np.arange(49.25, 60, 0.5)
    weights = Grid(latitude, [-9.75, -9.25, -8.75]).area_weights().values[:, 1]
    cosine = np.cos(np.deg2rad(latitude))
    np.testing.assert_allclose(weights, cosine / cosine.mean(), rtol=1e-12)


def test_wider_columns_weigh_more_in_proportion():
    weights = Grid([10.0, 20.0], [-10.0, -9.0, -7.0, -3.0]).area_weights().values[0]
    np.testing.assert_allclose(weights / weights[0], [1, 1.5, 3, 4])


def test_unequal_columns_round_the_globe_share_360_degrees():
    weights = Grid([0.0, 10.0], [0.0, 90.0, 300.0]).area_weights().values[0]
    np.testing.assert_allclose(weights / weights.sum(), [75 / 360, 150 / 360, 135 / 360])


def test_turning_rows_and_columns_round_turns_the_weights_round():
    latitude, longitude = [10.0, 20.0, 40.0], [-10.0, -9.0, -7.0]
    weights = Grid(latitude, longitude).area_weights().values
    turned = Grid(latitude[::-1], longitude[::-1]).area_weights().values
    np.testing.assert_allclose(turned[::-1, ::-1], weights, rtol=1e-14)


@pytest.mark.parametrize(
    ("longitude", "periodic"),
    [
        (np.arange(0, 360, 2.5), True),
        (np.arange(-180, 180, 2.5), True),
        (np.arange(357.5, -1, -2.5), True),
        (np.arange(0.125, 360, 0.25, dtype=np.float32), True),
        (np.arange(0, 357.5, 2.5), False),
        (np.arange(-9.75, 4, 0.5), False),
        (np.array([0.0, 90.0, 300.0]), False),
    ],
)
def test_a_grid_is_periodic_when_its_spacing_goes_on_across_the_seam(longitude, periodic):
    assert Grid([0.0, 1.0], longitude).is_periodic is periodic


@pytest.mark.parametrize(
    ("latitude", "longitude", "error", "words"),
    [
        ([50.0], [0.0, 1.0], DimensionError, "at least two; give fields, not a point"),
        ([[50.0, 51.0]], [0.0, 1.0], DimensionError, "regridded"),
        ([50.0, np.nan], [0.0, 1.0], InputError, "missing or infinite"),
        ([50.0, 51.0], [0.0, np.inf], InputError, "missing or infinite"),
        ([50.0, 52.0, 51.0], [0.0, 1.0], InputError, "latitude neither"),
        ([50.0, 50.0], [0.0, 1.0], InputError, "latitude neither"),
        ([50.0, 51.0], [358.0, 359.0, 0.0, 1.0], InputError, "longitude neither"),
        ([50.0, 120.0], [0.0, 1.0], InputError, "swapped"),
        ([50.0, 51.0], [0.0, 90.0, 180.0, 270.0, 360.0], InputError, "same meridian; drop one"),
        ([50.0, 51.0], [-180.0, 0.0, 180.0], InputError, "-180 and 180 are the same"),
        ([50.0, 51.0], [0.0, 200.0, 400.0], InputError, "more than once"),
    ],
)
def test_a_broken_grid_is_refused(latitude, longitude, error, words):
    with pytest.raises(error, match=words) as caught:
        Grid(latitude, longitude)
    assert type(caught.value) is error
    assert caught.value.exit_code == 65


def test_a_dataset_without_longitude_is_refused():
    ds = xr.Dataset(coords={"latitude": [0.0, 1.0], "x": [1, 2, 3]})
    with pytest.raises(DimensionError, match="no coordinate longitude; there are: latitude, x"):
        Grid.from_dataset(ds)


def test_float32_coordinates_mean_the_decimals_they_were_written_as():
    grid = Grid(np.float32([0.1, 0.2]), np.float32([280.1, 280.2, 280.3]))
    np.testing.assert_array_equal(grid.longitude, [280.1, 280.2, 280.3])


def test_a_grid_survives_json_and_compares_by_value():
    grid = Grid(GAUSSIAN, [0.0, 0.1, 0.3])
    again = Grid.from_dict(json.loads(json.dumps(grid.to_dict())))
    assert again == grid
    assert hash(again) == hash(grid)
    assert grid.shape == (16, 3)
    assert grid != Grid(GAUSSIAN, [0.0, 0.1, 0.4])
    assert grid != "grid"


def test_a_grid_cannot_be_changed_through_its_arrays():
    source = np.array([0.0, 1.0])
    grid = Grid(source, [5.0, 6.0, 7.0])
    source[0] = 9
    assert grid.latitude[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        grid.latitude[0] = 9


def test_another_grid_is_refused_and_a_rounding_error_is_not():
    grid = Grid([50.0, 51.0], [0.0, 1.0, 2.0])
    grid.require_same(Grid([50.0, 51.00001], [0.0, 1.0, 2.0]))
    with pytest.raises(GridMismatchError, match="latitude differs: 2 values from 50 to 51"):
        grid.require_same(Grid([50.0, 51.1], [0.0, 1.0, 2.0]))
    with pytest.raises(GridMismatchError, match="longitude differs") as caught:
        grid.require_same(Grid([50.0, 51.0], [0.0, 1.0]))
    assert caught.value.exit_code == 65
    with pytest.raises(GridMismatchError):
        grid.require_same(Grid([50.0, 51.00001], [0.0, 1.0, 2.0]), tolerance=1e-6)


@given(
    count=st.integers(3, 40),
    offset=st.floats(-400, 400),
    roll=st.integers(0, 39),
    flip=st.booleans(),
    wrap=st.sampled_from([0, -180, -360]),
)
def test_every_convention_of_a_global_grid_has_one_canonical_form(count, offset, roll, flip, wrap):
    canonical = np.mod(np.round(offset, 3) + 360 / count * np.arange(count), 360)
    longitude = np.roll(np.mod(canonical - wrap, 360) + wrap, roll)
    longitude = longitude[::-1] if flip else longitude
    grid, rows, columns = canonical_grid([60.0, 50.0], longitude)
    plain, _, _ = canonical_grid([50.0, 60.0], np.sort(canonical))
    grid.require_same(plain, tolerance=2e-9)
    assert grid.is_periodic
    assert 0 <= grid.longitude[0] < 360 / count + 1e-9
    np.testing.assert_allclose(np.mod(longitude[columns] - grid.longitude + 1, 360), 1, atol=1e-8)
    np.testing.assert_array_equal(rows, [1, 0])


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        (np.arange(-9.75, 4, 0.5), np.arange(-9.75, 4, 0.5)),
        ([350.0, 355.0, 0.0, 5.0, 10.0], [-10.0, -5.0, 0.0, 5.0, 10.0]),
        ([0.0, 5.0, 10.0, 350.0, 355.0], [-10.0, -5.0, 0.0, 5.0, 10.0]),
        ([350.0, 355.0, 360.0, 365.0], [-10.0, -5.0, 0.0, 5.0]),
        ([280.0, 300.0, 320.0], [-80.0, -60.0, -40.0]),
        ([120.0, 200.0, 290.0], [120.0, 200.0, 290.0]),
        ([175.0, 179.0, -177.0], [175.0, 179.0, 183.0]),
        (np.float32([280.1, 280.2, 280.3]), [-79.9, -79.8, -79.7]),
    ],
)
def test_a_region_is_contiguous_and_starts_between_minus_180_and_180(given, canonical):
    grid, _, columns = canonical_grid([0.0, 1.0], given)
    np.testing.assert_array_equal(grid.longitude, canonical)
    np.testing.assert_allclose(
        np.mod(np.asarray(given)[columns] - canonical + 1, 360), 1, atol=1e-4
    )


def test_a_repeated_meridian_is_refused_in_any_order():
    with pytest.raises(InputError, match="0 and 360 are the same meridian"):
        canonical_grid([0.0, 1.0], [180.0, 360.0, 0.0, 90.0])
    with pytest.raises(InputError, match="keep each value once"):
        canonical_grid([0.0, 1.0, 0.0], [180.0, 190.0])


def test_coordinates_are_given_as_they_are():
    ds = xr.Dataset(coords={"latitude": [2.0, 1.0], "longitude": [359.0, 0.0, 1.0]})
    latitude, longitude = grid_coordinates(ds)
    np.testing.assert_array_equal(latitude, [2, 1])
    np.testing.assert_array_equal(longitude, [359, 0, 1])
