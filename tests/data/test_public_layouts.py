"""Small imitations of the layouts of public collections."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from weatherdiff import open_fields
from weatherdiff.config import load_config
from weatherdiff.data.sources.placement import PLACED
from weatherdiff.errors import DimensionError, InputError, UnitsError

TIMES = np.datetime64("2020-01-01", "ns") + np.arange(8) * np.timedelta64(6, "h")
LATITUDE, LONGITUDE = np.array([60.0, 30.0, 0.0, -30.0]), np.arange(0.0, 360, 60)
NAMES = ["2t", "lsm", "q_500", "t_500", "t_850", "z_500", "z_850", "cos_latitude"]


def anemoi(path, *, members=1, names=NAMES, shape=(4, 6), **attributes):
    """As anemoi-datasets writes it: Zarr 2, one array."""
    values = 280 + np.random.default_rng(3).normal(size=(8, len(names), members, 24))
    for number, name in enumerate(names):
        short = name.partition("_")[0]
        values[:, number] *= {"lsm": 1 / 300, "q": 1e-5, "z": 100.0}.get(short, 1.0)
    values[:, 1, :, :5] = 0  # the sea; and the value that fills what is absent
    values = values.astype(np.float32)
    values[3] = np.nan
    group = zarr.open_group(path, mode="w", zarr_format=2)
    latitude, longitude = np.meshgrid(LATITUDE, LONGITUDE, indexing="ij")
    for name, content, dims in (
        ("data", values, ["time", "variable", "ensemble", "cell"]),
        ("dates", TIMES.astype("datetime64[s]"), ["time"]),
        ("latitudes", latitude.ravel(), ["cell"]),
        ("longitudes", longitude.ravel(), ["cell"]),
        ("mean", np.zeros(len(names)), ["variable"]),
    ):
        chunks = (1, *content.shape[1:]) if name == "data" else content.shape
        array = group.create_array(
            name, shape=content.shape, dtype=content.dtype, chunks=chunks, fill_value=0
        )
        array[...] = content
        array.attrs["_ARRAY_DIMENSIONS"] = dims
    group.attrs.update(
        {
            "variables": names,
            "field_shape": list(shape),
            "missing_dates": ["2020-01-01T18:00:00"],
            "frequency": "6h",
            **attributes,
        }
    )
    return values


def test_a_store_of_anemoi_datasets_is_read(tmp_path):
    values = anemoi(tmp_path / "a.zarr").reshape(8, len(NAMES), 4, 6)
    ds = open_fields(tmp_path / "a.zarr", variables=["t", "z", "2t", "lsm"], levels=[850, 500])
    there = [0, 1, 2, 4, 5, 6, 7]
    np.testing.assert_array_equal(ds["time"], TIMES[there])
    np.testing.assert_array_equal(ds["latitude"], LATITUDE[::-1])
    np.testing.assert_array_equal(ds["2m_temperature"], values[there, 0, ::-1])
    np.testing.assert_array_equal(ds["temperature"], values[there][:, [4, 3], ::-1])
    np.testing.assert_array_equal(ds["geopotential"], values[there][:, [6, 5], ::-1])
    np.testing.assert_array_equal(ds["land_sea_mask"], values[0, 1, ::-1])
    assert ds["geopotential"].attrs["units"] == "m**2 s**-2"
    one = ds["temperature"].isel(time=2, level=1, latitude=[3, 0], longitude=4)
    np.testing.assert_array_equal(one, values[2, 3, [0, 3], 4])


def test_metadata_of_anemoi_datasets_come_before_names(tmp_path):
    mars = {"t_850": {"mars": {"param": "t", "levtype": "pl", "levelist": 700}}}
    anemoi(tmp_path / "a.zarr", variables_metadata=mars)
    ds = open_fields(tmp_path / "a.zarr", variables=["t"])
    np.testing.assert_array_equal(ds["level"], [500, 700])
    with pytest.raises(UnitsError, match="cos_latitude has no units"):
        open_fields(tmp_path / "a.zarr", variables=["cos_latitude"])


def test_what_anemoi_datasets_hold_beside_regular_analyses_is_refused(tmp_path):
    anemoi(tmp_path / "a.zarr", shape=(24,))
    with pytest.raises(DimensionError, match=r"24 cells .*on no regular grid.*reduced"):
        open_fields(tmp_path / "a.zarr")
    anemoi(tmp_path / "b.zarr", shape=(6, 4))
    with pytest.raises(DimensionError, match="no regular grid"):
        open_fields(tmp_path / "b.zarr")
    anemoi(tmp_path / "c.zarr", members=3)
    with pytest.raises(DimensionError, match="ensemble of 3 members"):
        open_fields(tmp_path / "c.zarr")
    anemoi(tmp_path / "d.zarr", variables=["2t"])
    with pytest.raises(InputError, match="names 1 variables, and has 8"):
        open_fields(tmp_path / "d.zarr")


def test_the_layout_of_weatherbench_2_is_read(tmp_path):
    """Longitude before latitude, levels as integers, north last, no units in coordinates."""
    dims = ("time", "level", "longitude", "latitude")
    rng = np.random.default_rng(4)
    ds = xr.Dataset(
        {
            "temperature": (dims, rng.normal(250, 1, (8, 3, 6, 4)).astype("f4"), {"units": "K"}),
            "2m_temperature": (
                ("time", *dims[2:]), rng.normal(280, 1, (8, 6, 4)).astype("f4"), {"units": "K"},
            ),
            "land_sea_mask": (dims[2:], rng.uniform(size=(6, 4)).astype("f4")),
        },
        {
            "time": TIMES,
            "level": np.array([500, 700, 850], np.int32),
            "longitude": LONGITUDE,
            "latitude": LATITUDE[::-1],
        },
    )  # fmt: skip
    path = tmp_path / "1959-2023_01_10-6h-64x32_equiangular_conservative.zarr"
    ds.chunk(time=3).to_zarr(path, zarr_format=2, consolidated=True)
    result = open_fields(path, levels=[850, 500], units={"land_sea_mask": "1"})
    expected = ds.transpose("time", "level", "latitude", "longitude").sel(level=[850, 500])
    for name in ds:
        np.testing.assert_array_equal(result[name], expected[name])


def test_the_layout_of_arco_era5_is_read_as_far_as_it_is_valid(tmp_path, caplog):
    """One hour a chunk, north first, and a time axis that is longer than the data."""
    times = np.datetime64("2019-12-31", "ns") + np.arange(96) * np.timedelta64(1, "h")
    values = np.full((96, 4, 6), np.nan, np.float32)
    values[24:72] = np.random.default_rng(5).normal(280, 1, (48, 4, 6))
    ds = xr.Dataset(
        {"2m_temperature": (("time", "latitude", "longitude"), values, {"units": "K"})},
        {"time": times, "latitude": LATITUDE, "longitude": LONGITUDE},
        {"valid_time_start": "2020-01-01", "valid_time_stop": "2020-01-02"},
    )
    path = tmp_path / "full_37-1h-0p25deg-chunk-1.zarr-v3"
    ds.chunk(time=1).to_zarr(path, zarr_format=2, consolidated=True)
    with caplog.at_level(logging.INFO, "weatherdiff"):
        result = open_fields(path)
    np.testing.assert_array_equal(result["time"], times[24:72])
    np.testing.assert_array_equal(result["2m_temperature"], values[24:72, ::-1])
    assert "48 of 96 times are taken" in caplog.text


def test_the_configuration_for_arco_era5_selects_and_regrids_its_layout(tmp_path):
    from weatherdiff.workflow.fields import open_source

    latitude, longitude = np.linspace(90, -90, 73), np.arange(144) * 2.5
    field = np.broadcast_to(np.float32(280), (4, 73, 144))
    units = {
        "2m_temperature": "K",
        "mean_sea_level_pressure": "Pa",
        "10m_u_component_of_wind": "m s**-1",
        "10m_v_component_of_wind": "m s**-1",
    }
    factors = dict(zip(units, (1, 350, 0.01, -0.01), strict=True))
    ds = xr.Dataset(
        {
            name: (("time", "latitude", "longitude"), field * np.float32(factor), {"units": unit})
            for (name, unit), factor in zip(units.items(), factors.values(), strict=True)
        },
        {
            "time": TIMES[:4],
            "latitude": latitude.astype(np.float32),
            "longitude": longitude.astype(np.float32),
        },
        {"valid_time_start": "2020-01-01", "valid_time_stop": "2020-12-31"},
    )
    path = tmp_path / "full.zarr-v3"
    ds.chunk(time=1).to_zarr(path, zarr_format=2, consolidated=True)
    config = load_config(
        Path(__file__).parents[2] / "configs" / "arco_era5_europe.yaml", [f"data.source={path}"]
    )
    assert "anon" not in config.model_dump_json()
    result = open_source(config)
    assert dict(result.sizes) == {"time": 4, "latitude": 26, "longitude": 47}
    assert (result["latitude"][0], result["longitude"][0]) == (33.75, -24)
    assert json.loads(result.attrs[PLACED])["method"] == "conservative"
    for name, factor in factors.items():
        assert (result[name] == np.float32(280) * np.float32(factor)).all()
