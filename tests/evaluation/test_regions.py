"""Regions hold the cells they say, on any arrangement of the same grid."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.errors import ConfigError, DimensionError, GridMismatchError, InputError
from weatherdiff.evaluation.regions import NAMED_REGIONS, latitude_bands, regions
from weatherdiff.grid import Grid

CELLS = ("latitude", "longitude")
GLOBE = Grid(np.linspace(-90, 90, 37), np.arange(0, 360, 7.5))

# As in WeatherBench 2's scripts/evaluate.py: slices of latitude and longitude in [0, 360).
ALL = [slice(None)]
WEATHERBENCH = {
    "global": (ALL, ALL),
    "tropics": ([slice(-20, 20)], ALL),
    "extra-tropics": ([slice(None, -20), slice(20, None)], ALL),
    "northern-hemisphere": ([slice(20, None)], ALL),
    "southern-hemisphere": ([slice(None, -20)], ALL),
    "europe": ([slice(35, 75)], [slice(360 - 12.5, None), slice(0, 42.5)]),
    "north-america": ([slice(25, 60)], [slice(360 - 120, 360 - 75)]),
    "north-atlantic": ([slice(25, 65)], [slice(360 - 70, 360 - 10)]),
    "north-pacific": ([slice(25, 60)], [slice(145, 360 - 130)]),
    "east-asia": ([slice(25, 60)], [slice(102.5, 150)]),
    "ausnz": ([slice(-45, -12.5)], [slice(120, 175)]),
    "arctic": ([slice(60, 90)], ALL),
    "antarctic": ([slice(-90, -60)], ALL),
}


def field(grid, seed=1):
    """A field that belongs to the places, not to the order of rows and columns."""
    latitude = np.round(grid.latitude, 6)[:, None]
    longitude = np.round(np.mod(grid.longitude, 360), 6)[None]
    values = np.sin(latitude * 1.7 + seed) * np.cos(longitude * 0.9) + longitude / 360
    return xr.DataArray(values, dict(grid.to_dict()), CELLS)


def sums(grid, weights):
    area = grid.area_weights() / grid.area_weights().sum()
    return (weights * area * field(grid)).sum(CELLS)


def test_named_regions_are_the_slices_of_weatherbench():
    assert set(NAMED_REGIONS) == set(WEATHERBENCH)
    weights = regions(GLOBE, named=list(NAMED_REGIONS))
    for name, (rows, columns) in WEATHERBENCH.items():
        grid = weights["latitude"].to_series(), weights["longitude"].to_series()
        inside = [np.concatenate([axis.loc[s] for s in slices]) for axis, slices in zip(
            grid, (rows, columns), strict=True
        )]  # fmt: skip
        expected = xr.zeros_like(weights[0])
        expected.loc[dict(zip(CELLS, inside, strict=True))] = 1
        np.testing.assert_array_equal(weights.sel(region=name), expected, err_msg=name)


def test_everything_comes_first_and_the_order_is_that_of_the_arguments():
    mask = xr.ones_like(field(GLOBE), dtype=bool)
    weights = regions(
        GLOBE,
        named=["sea", "arctic"],
        boxes={"b": (0, 10, 0, 10), "a": (0, 90, 0, 10)},
        masks={"m": mask},
        land_sea_mask=field(GLOBE) * 0,
    )
    assert weights["region"].values.tolist() == ["all", "sea", "arctic", "b", "a", "m"]
    assert weights.dims == ("region", *CELLS)
    assert weights.dtype == np.float64
    assert (weights.sel(region="all") == 1).all()
    assert regions(GLOBE)["region"].values.tolist() == ["all"]


def brute_force(grid, box):
    south, north, west, east = box
    while east < west:
        east += 360
    result = np.zeros(grid.shape)
    for i, latitude in enumerate(grid.latitude):
        for j, longitude in enumerate(grid.longitude):
            turned = [longitude + 360 * k for k in range(-4, 5)]
            result[i, j] = south <= latitude <= north and any(west <= x <= east for x in turned)
    return result


@given(
    south=st.integers(-90, 80), height=st.integers(5, 100), west=st.integers(-360, 360),
    east=st.integers(-360, 360),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_box_holds_the_cells_whose_centres_lie_eastward_from_west_to_east(
    south, height, west, east
):
    box = (south, min(90, south + height), west, east)
    grid = Grid(np.linspace(-75, 75, 6), np.arange(0, 360, 40))
    expected = brute_force(grid, box)
    if not expected.any():
        with pytest.raises(InputError, match="'box' has no cell"):
            regions(grid, boxes={"box": box})
        return
    np.testing.assert_array_equal(regions(grid, boxes={"box": box}).sel(region="box"), expected)


@given(
    shift=st.integers(0, 47), western=st.booleans(), flipped=st.booleans(),
    single=st.booleans(), turns=st.sampled_from([-360, 0, 360]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_any_arrangement_of_the_grid_gives_the_same_sums(shift, western, flipped, single, turns):
    longitude = np.roll(GLOBE.longitude, shift)
    longitude[: shift % 48] -= 360  # contiguous, from anywhere
    if western:
        longitude = np.sort((GLOBE.longitude + 180) % 360 - 180)
    if single:
        longitude = longitude.astype(np.float32)
    latitude = GLOBE.latitude[::-1] if flipped else GLOBE.latitude
    grid = Grid(latitude, longitude)
    boxes = {"seam": (-30, 30, 170, -170), "greenwich": (40, 60, -10, 10)}
    boxes = {k: (s, n, w + turns * (w * turns <= 0), e) for k, (s, n, w, e) in boxes.items()}
    lsm = (field(GLOBE, seed=2) > 0).astype(float)
    arguments = {
        "named": ["tropics", "europe", "land", "north-pacific-sea"],
        "masks": {"mask": field(GLOBE, seed=3) > 0.2},
        "land_sea_mask": lsm,
    }
    plain = {"seam": (-30, 30, 170, -170), "greenwich": (40, 60, -10, 10)}
    expected = sums(GLOBE, regions(GLOBE, boxes=plain, **arguments))
    found = sums(grid, regions(grid, boxes=boxes, **arguments))
    xr.testing.assert_allclose(found, expected, rtol=1e-6)


def test_land_and_sea_are_parted_at_one_half():
    shares = np.array([[0.0, 0.5, 0.51], [1.0, 0.49, 0.2]])
    grid = Grid(np.array([10.0, 30.0]), np.array([0.0, 1.0, 2.0]))
    mask = xr.DataArray(shares, dict(grid.to_dict()), CELLS)
    names = ["land", "sea", "tropics_land", "extra-tropics-sea"]
    weights = regions(grid, named=names, land_sea_mask=mask.transpose())
    assert weights["region"].values.tolist() == ["all", *names]
    np.testing.assert_array_equal(
        weights[1:],
        [
            [[0, 0, 1], [1, 0, 0]],
            [[1, 1, 0], [0, 1, 1]],
            [[0, 0, 1], [0, 0, 0]],
            [[0, 0, 0], [0, 1, 1]],
        ],
    )


def test_masks_may_be_weights_in_any_order():
    grid = Grid(np.array([10.0, 30.0]), np.array([-1.0, 0.0, 1.0]))
    mask = xr.DataArray([[0.0, 0.25, 0.5], [0.75, 1.0, 0.0]], dict(grid.to_dict()), CELLS)
    turned = mask.assign_coords(longitude=mask.longitude % 360).sortby("longitude")
    turned = turned.isel(latitude=[1, 0]).transpose()
    weights = regions(grid, masks={"m": turned})
    np.testing.assert_array_equal(weights.sel(region="m"), mask)


@given(width=st.sampled_from([10, 15, 20, 30, 45, 60, 90, 180]), flipped=st.booleans())
@settings(max_examples=20, deadline=None)
def test_bands_of_latitude_hold_each_cell_once(width, flipped):
    grid = Grid(GLOBE.latitude[::-1], GLOBE.longitude) if flipped else GLOBE
    weights = regions(grid, masks=latitude_bands(grid, width))
    assert (weights[1:].sum("region") == 1).all()
    assert weights.sizes["region"] == 1 + 180 / width
    found = sums(grid, weights).values
    np.testing.assert_allclose(found[1:].sum(), found[0], rtol=0, atol=1e-12)


def test_bands_have_the_names_and_bounds_of_their_edges():
    bands = latitude_bands(GLOBE, 60)
    assert list(bands) == ["90S-30S", "30S-30N", "30N-90N"]
    rows = GLOBE.latitude[bands["30S-30N"].values[:, 0]]
    assert (rows[0], rows[-1]) == (-30, 25)


SMALL = Grid(np.array([50.0, 51.0, 52.0]), np.array([-2.0, -1.0, 0.0, 1.0]))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"named": ["tropics"]}, InputError, "'tropics' has no cell on this grid.* 50 to 52"),
        ({"boxes": {"sliver": (50.1, 50.9, -2, 1)}}, InputError, "'sliver' has no cell"),
        ({"named": ["asia"]}, ConfigError, "'asia' is unknown; there are global, tropics"),
        ({"named": ["asia-land"]}, ConfigError, "'asia-land' is unknown"),
        ({"named": ["europe", "europe"]}, ConfigError, "'europe' is given twice"),
        ({"boxes": {"all": (50, 52, -2, 1)}}, ConfigError, "'all' is given twice"),
        ({"named": ["land"]}, ConfigError, "'land' needs a land_sea_mask"),
        ({"boxes": {"b": (52, 50, -2, 1)}}, ConfigError, "south <= north"),
        ({"boxes": {"b": (50, 52, -2)}}, ConfigError, "expected .south, north, west, east"),
        ({"boxes": {"b": (50, np.nan, -2, 1)}}, ConfigError, "expected .south, north, west, east"),
        ({"boxes": {"b": (50, 52, -400, 1)}}, ConfigError, "-360 to 360"),
        ({"masks": {"m": field(SMALL)[0]}}, DimensionError, "mask 'm' has dimensions"),
        ({"masks": {"m": field(GLOBE) > 0}}, GridMismatchError, "latitude differs"),
        ({"masks": {"m": field(SMALL) * 0 + 2}}, InputError, "12 values .* the first is 2;"),
        ({"masks": {"m": (field(SMALL) * 0) * np.nan }}, InputError,
         "missing"),
        ({"masks": {"m": field(SMALL) > 1e9}}, InputError, "'m' has no cell"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_what_makes_no_region_is_refused_by_name(arguments, error, words):
    with pytest.raises(error, match=words) as caught:
        regions(SMALL, **arguments)
    assert type(caught.value) is error


@pytest.mark.parametrize("width", [0, -30, 50, 200, np.nan])
def test_bands_that_do_not_divide_the_globe_are_refused(width):
    with pytest.raises(ConfigError, match="do not divide 180"):
        latitude_bands(GLOBE, width)
