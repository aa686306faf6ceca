"""Sources of different formats, grids, chunks and times, joined by one configuration."""

import json
from pathlib import Path

import cfgrib
import eccodes
import numpy as np
import pytest
import xarray as xr

from weatherdiff import open_fields
from weatherdiff.config import load_config
from weatherdiff.data.sources.placement import Region, Regridding
from weatherdiff.data.sources.reading import Reading, open_sources
from weatherdiff.errors import ConfigError, InputError
from weatherdiff.workflow.fields import prepare

CONFIG = Path(__file__).parents[2] / "configs" / "mixed_sources.yaml"
TIMES = np.datetime64("2020-01-01", "ns") + np.arange(70) * np.timedelta64(12, "h")
LACKING = [8, 9, 45]
DIMS = ("time", "latitude", "longitude")


def write_grib(path, ds):
    """One message for each time, variable and level, north to south."""
    latitude, longitude = ds["latitude"].values, ds["longitude"].values
    assert latitude[0] > latitude[-1]
    keys = {
        "Nj": latitude.size,
        "Ni": longitude.size,
        "latitudeOfFirstGridPointInDegrees": latitude[0],
        "latitudeOfLastGridPointInDegrees": latitude[-1],
        "jDirectionIncrementInDegrees": latitude[0] - latitude[1],
        "longitudeOfFirstGridPointInDegrees": longitude[0],
        "longitudeOfLastGridPointInDegrees": longitude[-1],
        "iDirectionIncrementInDegrees": longitude[1] - longitude[0],
        "typeOfLevel": "isobaricInhPa",
        "bitsPerValue": 16,
    }
    with path.open("wb") as file:
        for time in ds["time"].values:
            keys["dataDate"] = int(np.datetime_as_string(time, "D").replace("-", ""))
            keys["dataTime"] = int(np.datetime_as_string(time, "h")[-2:]) * 100
            for name in ds.data_vars:
                for level in ds["level"].values:
                    message = eccodes.codes_grib_new_from_samples("regular_ll_pl_grib2")
                    for key, value in {**keys, "shortName": name, "level": int(level)}.items():
                        eccodes.codes_set(message, key, value)
                    values = ds[name].sel(time=time, level=level).values
                    eccodes.codes_set_values(message, values.ravel().astype(float))
                    eccodes.codes_write(message, file)
                    eccodes.codes_release(message)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that configs/mixed_sources.yaml names."""
    folder = tmp_path_factory.mktemp("sources") / "mixed"
    folder.mkdir()
    rng = np.random.default_rng(2)
    west_first = np.arange(-180.0, 180.0, 45.0)
    coords = {"time": TIMES, "latitude": np.arange(75.0, -76, -30), "longitude": west_first % 360}

    def field(low, units, *shape):
        return xr.Variable(
            (*DIMS[:1], *(("level",) if len(shape) == 4 else ()), *DIMS[1:]),
            (low + rng.normal(size=shape)).astype(np.float32),
            {"units": units},
        )

    shape = (len(TIMES), 6, 8)
    levels = xr.Dataset(
        {
            "t": field(250, "K", len(TIMES), 2, 6, 8),
            "z": field(5e4, "m**2 s**-2", len(TIMES), 2, 6, 8),
        },
        {**coords, "level": [850, 500]},
    ).sortby("longitude")
    write_grib(folder / "levels_2020-01.grib", levels.sel(time="2020-01"))
    write_grib(folder / "levels_2020-02.grib", levels.sel(time="2020-02"))
    surface = xr.Dataset({"t2m": field(280, "K", *shape), "skt": field(281, "K", *shape)}, coords)
    surface["t2m"][5, 2, 2] = np.nan
    packed = {"dtype": "int16", "scale_factor": 2**-10, "add_offset": 280.0, "_FillValue": -32768}
    surface.assign_coords(longitude=west_first).isel(
        time=np.delete(np.arange(len(TIMES)), LACKING), latitude=slice(None, None, -1)
    ).to_netcdf(
        folder / "surface.nc",
        encoding={"t2m": {**packed, "zlib": True, "chunksizes": (50, 6, 8)}},
        engine="netcdf4",
    )
    pressure = xr.Dataset({"pressure": field(1.01e5, "", *shape)}, coords).drop_attrs()
    pressure.transpose("longitude", "latitude", "time").chunk(
        time=13, latitude=4, longitude=5
    ).to_zarr(folder / "pressure.zarr", zarr_format=2, consolidated=True)
    mask = xr.Dataset({"lsm": surface["t2m"][0].drop_vars("time") % 1}, coords)
    mask["lsm"].attrs["units"] = "1"
    mask.drop_vars("time").to_netcdf(folder / "static.nc", format="NETCDF3_CLASSIC")
    return folder


@pytest.fixture
def config(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    return load_config(CONFIG, [f"output={tmp_path / 'run'}"])


def box(ds):
    """The region of the configuration, by xarray's own means."""
    ds = ds.rename({k: v for k, v in (("isobaricInhPa", "level"),) if k in ds.dims})
    ds = ds.assign_coords(longitude=(ds["longitude"] + 180) % 360 - 180)
    return ds.sortby(["latitude", "longitude"]).sel(
        latitude=slice(-60, 60), longitude=slice(-90, 90)
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_mixed_sources_are_prepared_by_one_configuration_value_by_value(config, folder):
    """Against plain xarray."""
    store = prepare(config)
    months = [
        xr.open_dataset(
            path, engine="cfgrib", backend_kwargs={"indexpath": ""}, decode_timedelta=False
        )
        for path in sorted(folder.glob("*.grib"))
    ]
    levels = box(xr.concat(months, "time"))
    surface = box(xr.open_dataset(folder / "surface.nc")).reindex(time=TIMES)
    pressure = box(xr.open_zarr(folder / "pressure.zarr"))
    plain = {"2m_temperature": surface["t2m"], "mean_sea_level_pressure": pressure["pressure"]}
    for level in (500, 850):
        plain[f"temperature@{level}"] = levels["t"].sel(level=level)
        plain[f"geopotential@{level}"] = levels["z"].sel(level=level)
    values = store.read(np.arange(len(TIMES)))
    names = [
        variable if level is None else f"{variable}@{level:g}"
        for variable, level in zip(store.channels.variables, store.channels.levels, strict=True)
    ]
    assert sorted(names) == sorted(plain)
    for number, name in enumerate(names):
        expected = plain[name].transpose("time", "latitude", "longitude")
        np.testing.assert_array_equal(store.grid.latitude, expected["latitude"])
        np.testing.assert_array_equal(store.grid.longitude, expected["longitude"])
        np.testing.assert_array_equal(values[:, number], expected.values.astype(np.float32))
    mask = box(xr.open_dataset(folder / "static.nc"))["lsm"].values
    np.testing.assert_allclose(store.static[0], (mask - mask.mean()) / mask.std(), rtol=1e-4)
    lost = np.flatnonzero(~store.valid).tolist()
    assert lost == sorted([*LACKING, 5])
    history = store.metadata["source"]["weatherdiff_history"]
    assert "2m_temperature: 3 of 70 times are missing, which other sources have" in history
    assert "a region was selected: from 6 latitudes -75 to 75" in history
    assert json.loads(store.metadata["source"]["weatherdiff_placed"])["region"] == {
        "latitude": [-60, 60],
        "longitude": [-90, 90],
    }


def test_times_that_differ_between_sources_are_refused_cut_or_marked_as_asked(folder):
    readings = [
        Reading(str(folder / "surface.nc"), variables=["t2m"]),
        Reading(
            str(folder / "pressure.zarr"),
            rename={"pressure": "mean_sea_level_pressure"},
            units={"pressure": "Pa"},
        ),
    ]
    with pytest.raises(InputError, match=r"they differ in time.*2m_temperature: 67 times.*join"):
        open_sources(readings)
    inner, outer = (open_sources(readings, join=join) for join in ("inner", "outer"))
    assert (inner.sizes["time"], outer.sizes["time"]) == (67, 70)
    there = np.delete(np.arange(70), LACKING)
    xr.testing.assert_equal(inner, outer.isel(time=there))
    assert outer["2m_temperature"].isel(time=LACKING).isnull().all()
    assert not outer["mean_sea_level_pressure"].isnull().any()
    told = "mean_sea_level_pressure: 3 of 70 times are left out, which other sources lack"
    assert told in inner.attrs["weatherdiff_history"]
    assert set(outer.encoding["weatherdiff_sources"]["files"]) == {r.paths for r in readings}


def test_sources_on_different_grids_are_joined_on_a_new_one(folder):
    first = Reading(str(folder / "surface.nc"), variables=["t2m"])
    coarse = open_fields(folder / "pressure.zarr", units={"pressure": "Pa"}).isel(
        latitude=slice(None, None, 2), longitude=slice(None, None, 2), drop=True
    )
    second = Reading(coarse)
    words = r"latitude differs.*region|latitude differs"
    with pytest.raises(InputError, match=words):
        open_sources([first, second], join="inner")
    new = Regridding("linear", latitude=(-40.0, 0.0, 10.0), longitude=(-50.0, 0.0, 50.0))
    ds = open_sources([first, second], regridding=new, join="inner")
    assert {name: field.shape[1:] for name, field in ds.items()} == {
        "2m_temperature": (3, 3),
        "pressure": (3, 3),
    }
    np.testing.assert_array_equal(ds["longitude"], [-50, 0, 50])


def test_a_key_that_is_unknown_in_one_of_several_sources_is_named(tmp_path):
    text = CONFIG.read_text().replace("rename: {pressure:", "renam: {pressure:")
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"'data.source.2.renam'; did you mean 'rename'\? \(line"):
        load_config(tmp_path / "a.yaml")
    for change, words in {
        "data.region={latitude: [60, 40]}": "the south first",
        "data.regrid={method: linear}": "either the resolution, or",
        "data.join=left": "data.join",
    }.items():
        with pytest.raises(ConfigError, match=words):
            load_config(CONFIG, [change])


def test_grib_is_indexed_once_and_then_read_message_by_message(folder, monkeypatch):
    scans, messages = [], []
    scan = cfgrib.messages.FileStreamItems.itervalues
    read = cfgrib.messages.FileStream.message_from_file

    def counted_scan(self):
        scans.append(self.filestream.path)
        return scan(self)

    def counted_read(self, file, offset=None, **kwargs):
        messages.append(offset)
        return read(self, file, offset, **kwargs)

    monkeypatch.setattr(cfgrib.messages.FileStreamItems, "itervalues", counted_scan)
    monkeypatch.setattr(cfgrib.messages.FileStream, "message_from_file", counted_read)
    ds = open_fields(folder / "levels_2020-02.grib", chunks={"time": 1})
    assert len(scans) == 1
    messages.clear()
    ds["temperature"].isel(time=3).load()
    assert len(messages) == 2  # levels
    assert not list(folder.glob("*.idx"))


def test_regions_that_hold_too_little_say_what_there_is(folder):
    with pytest.raises(InputError, match="holds 1 latitudes and 8 longitudes"):
        open_sources(
            [Reading(str(folder / "surface.nc"), variables=["t2m"])], region=Region((0, 20))
        )
