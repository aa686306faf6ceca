"""Regions and regridding: closed forms, conservation, xarray's own selection, interpolation."""

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff import open_fields
from weatherdiff.data.sources.placement import PLACED, Region, Regridding, placed
from weatherdiff.data.sources.regrid import lattice, regridded
from weatherdiff.errors import ConfigError, InputError
from weatherdiff.grid import Grid
from weatherdiff.layout import LAYOUT, Layout

GRIDS = {
    "cells": lattice(22.5),
    "finer": lattice(7.5),
    "with poles": Grid(np.linspace(-90, 90, 13), np.arange(0, 360, 30.0)),
    "Gaussian": Grid(
        np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(16)[0])), np.arange(32) * 11.25
    ),
    "shifted": Grid(np.arange(-87.0, 90, 6), np.arange(3.0, 360, 6)),
}


def fields(grid, values, units="K"):
    return xr.Dataset(
        {"2m_temperature": (("time", "latitude", "longitude"), values, {"units": units})},
        {
            "time": np.datetime64("2020-01-01", "ns")
            + np.arange(len(values)) * np.timedelta64(6, "h"),
            "latitude": grid.latitude,
            "longitude": grid.longitude,
        },
    )


def noise(grid, count=2, seed=0):
    return 280 + np.random.default_rng(seed).normal(size=(count, *grid.shape))


@pytest.mark.parametrize("method", ["conservative", "linear"])
@pytest.mark.parametrize("target", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("source", GRIDS.values(), ids=GRIDS)
def test_a_constant_field_stays_constant(source, target, method):
    ds = regridded(fields(source, np.full((1, *source.shape), 287.3, np.float32)), target, method)
    np.testing.assert_array_equal(
        ds["2m_temperature"], np.full((1, *target.shape), np.float32(287.3))
    )


@pytest.mark.parametrize("target", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("source", GRIDS.values(), ids=GRIDS)
def test_conservative_regridding_keeps_the_area_mean(source, target):
    before = fields(source, noise(source) - 280)["2m_temperature"]
    after = regridded(before.to_dataset(), target, "conservative")["2m_temperature"].astype("f8")
    np.testing.assert_allclose(
        (after * target.area_weights()).mean(("latitude", "longitude")),
        (before * source.area_weights()).mean(("latitude", "longitude")),
        rtol=0,
        atol=2e-8,
    )


def test_conservative_weights_are_areas_of_intersections():
    """Against a sum over small cells that lie in one cell of each grid."""
    source, target = GRIDS["cells"], lattice(30)
    small = lattice(7.5)
    values = noise(source, 1)
    nearest_row = np.abs(small.latitude[:, None] - source.latitude).argmin(1)
    turned = np.abs((small.longitude[:, None] - source.longitude + 180) % 360 - 180)
    fine = np.zeros((1, *small.shape))
    share = np.isclose(turned, turned.min(1, keepdims=True))  # on an edge: half of each
    fine[0] = (values[0][nearest_row] @ share.T) / share.sum(1)
    ours = regridded(fields(source, values), target, "conservative")["2m_temperature"]
    theirs = regridded(fields(small, fine), target, "conservative")["2m_temperature"]
    edges = np.deg2rad(np.linspace(-90, 90, 7))
    for j in range(6):
        rows = (small.latitude > np.rad2deg(edges[j])) & (small.latitude < np.rad2deg(edges[j + 1]))
        area = small.area_weights().values[rows, :1]
        inside = np.abs((small.longitude - 60 + 180) % 360 - 180) <= 15
        weight = np.where(np.isclose(np.abs(small.longitude[inside] - 60), 15), 0.5, 1.0)
        mean = (fine[0][rows][:, inside] * area * weight).sum() / (area * weight).sum()
        assert float(theirs[0, j, 2]) == pytest.approx(mean, abs=1e-4)
        assert float(ours[0, j, 2]) == pytest.approx(mean, abs=1e-4)


def test_a_field_that_is_linear_is_kept_by_linear_interpolation():
    source = Grid(np.arange(30.0, 71, 5), np.arange(-20.0, 41, 4))
    target = Grid(np.arange(31.0, 69, 1.7), np.arange(-19.0, 39, 2.3))

    def linear(grid):
        return (2 * grid.latitude[:, None] - 0.5 * grid.longitude + 3)[None]

    ds = regridded(fields(source, linear(source)), target, "linear")
    np.testing.assert_allclose(ds["2m_temperature"], linear(target), rtol=1e-6)


def test_linear_interpolation_is_that_of_xarray_and_goes_round_the_globe():
    source, target = GRIDS["cells"], GRIDS["shifted"]
    ds = fields(source, noise(source))
    inside = np.abs(target.latitude) < 78
    ours = regridded(ds, target, "linear").isel(latitude=inside)
    wrapped = xr.concat(
        [ds, ds.isel(longitude=[0]).assign_coords(longitude=[360.0])], "longitude", join="outer"
    )
    theirs = wrapped.interp(latitude=target.latitude[inside], longitude=target.longitude)
    np.testing.assert_allclose(ours["2m_temperature"], theirs["2m_temperature"], rtol=1e-6)


def test_a_cell_into_which_a_missing_value_enters_is_missing_and_no_other():
    source, target = lattice(15), lattice(30)
    values = noise(source)
    values[1, 5, 9] = np.nan
    ds = regridded(fields(source, values), target, "conservative")["2m_temperature"]
    clean = regridded(fields(source, noise(source)), target, "conservative")["2m_temperature"]
    missing = np.argwhere(np.isnan(ds.values))
    assert missing.tolist() == [[1, 2, 4], [1, 2, 5]]  # at 135 degrees, the edge between them
    np.testing.assert_array_equal(ds.fillna(0), clean.where(ds.notnull(), 0))


def test_regridding_reads_nothing_before_it_must_and_not_more_than_a_chunk_at_once():
    source = lattice(15)
    ds = fields(source, noise(source, 12)).chunk(time=3, latitude=4)
    result = placed(ds, regridding=Regridding("conservative", resolution=30))
    assert result["2m_temperature"].chunks == ((3, 3, 3, 3), (6,), (12,))
    assert result["2m_temperature"].dtype == np.float32
    whole = placed(ds.compute(), regridding=Regridding("conservative", resolution=30))
    xr.testing.assert_equal(result.compute(), whole)


@settings(max_examples=12, deadline=None)
@given(
    west=st.integers(-360, 359),
    width=st.integers(45, 359),
    south=st.integers(-90, 30),
    convention=st.sampled_from([0, -180]),
)
def test_a_region_is_what_xarray_selects_in_any_convention(west, width, south, convention):
    grid = lattice(15)
    ds = fields(grid, noise(grid, 1))
    theirs = ds.assign_coords(longitude=(ds["longitude"] - convention) % 360 + convention)
    theirs = theirs.sortby("longitude")
    ours = open_fields(theirs.isel(latitude=slice(None, None, -1)))
    east = west + width if west + width <= 360 else west + width - 360
    part = placed(ours, region=Region((south, south + 45), (west, east)))
    turned = ds.assign_coords(longitude=(ds["longitude"] - west) % 360).sortby("longitude")
    plain = turned.sel(latitude=slice(south, south + 45), longitude=slice(0, width))
    seen = part.assign_coords(longitude=(part["longitude"] - west) % 360).sortby("longitude")
    xr.testing.assert_equal(
        seen["2m_temperature"].load(), plain["2m_temperature"].astype(np.float32)
    )
    assert (np.diff(part["longitude"]) > 0).all()
    layout = Layout.from_dict(json.loads(part.attrs[LAYOUT]))
    back = layout.restore(part)
    assert (np.diff(back["latitude"]) < 0).all()
    assert sorted(np.round(back["longitude"].values % 360)) == sorted(
        np.round(part["longitude"].values % 360)
    )


def test_what_was_done_is_written_down_and_the_own_order_and_convention_stay():
    grid = lattice(15)
    ds = open_fields(fields(grid, noise(grid)).isel(latitude=slice(None, None, -1)))
    result = placed(
        ds,
        region=Region((-60, 60), (180, 300)),
        regridding=Regridding("conservative", resolution=30),
    )
    done = json.loads(result.attrs[PLACED])
    assert done == {
        "from": "12 latitudes -82.5 to 82.5 x 24 longitudes 0 to 345",
        "region": {"latitude": [-60, 60], "longitude": [180, 300]},
        "method": "conservative",
        "to": "4 latitudes -45 to 45 x 5 longitudes -180 to -60",
    }
    assert "regridded by conservative weights" in result.attrs["weatherdiff_history"]
    layout = Layout.from_dict(json.loads(result.attrs[LAYOUT]))
    assert layout.latitude == (45, 15, -15, -45)
    assert layout.longitude == (180, 210, 240, 270, 300)
    assert layout.restore(result).sizes["latitude"] == 4


def test_a_grid_beyond_the_data_is_refused_and_a_resolution_takes_what_they_cover():
    region = Grid(np.arange(30.0, 71, 2.5), np.arange(-20.0, 41, 2.5))
    ds = fields(region, noise(region))
    with pytest.raises(
        InputError, match="regrid: latitude 25 is beyond the data, which go from 30"
    ):
        placed(ds, regridding=Regridding("linear", latitude=(25.0, 40.0), longitude=(0.0, 10.0)))
    part = placed(ds, regridding=Regridding("conservative", resolution=10))
    np.testing.assert_array_equal(part["latitude"], [35, 45, 55, 65])
    np.testing.assert_array_equal(part["longitude"], [-10, 0, 10, 20, 30])
    with pytest.raises(InputError, match="the data cover 1 latitudes"):
        placed(ds, regridding=Regridding("conservative", resolution=30))
    with pytest.raises(ConfigError, match="does not divide 180"):
        placed(ds, regridding=Regridding("conservative", resolution=7))


@pytest.mark.deep
def test_nested_cells_agree_with_xarray_regrid():
    pytest.importorskip("xarray_regrid")
    source = Grid(np.arange(-58.75, 60, 2.5), np.arange(1.25, 90, 2.5))
    target = Grid(np.arange(-57.5, 60, 5), np.arange(2.5, 90, 5))
    ds = fields(source, noise(source))
    coordinates = xr.Dataset(coords={"latitude": target.latitude, "longitude": target.longitude})
    theirs = ds.regrid.conservative(coordinates, latitude_coord="latitude")
    ours = regridded(ds, target, "conservative")
    np.testing.assert_allclose(ours["2m_temperature"], theirs["2m_temperature"], rtol=1e-6)
