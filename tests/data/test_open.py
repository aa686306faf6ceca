import json
import logging
import warnings

import cftime
import eccodes
import fsspec
import numpy as np
import pytest
import xarray as xr

from weatherdiff import open_fields
from weatherdiff.data.sources.formats import open_raw
from weatherdiff.errors import (
    ConfigError,
    DimensionError,
    GridMismatchError,
    InputError,
    MissingInputError,
    StorageError,
    UnitsError,
)
from weatherdiff.layout import Layout
from weatherdiff.schema import validate

TIMES = np.datetime64("2001-02-27", "ns") + np.arange(6) * np.timedelta64(12, "h")
DIMS = ("time", "latitude", "longitude")


def canonical():
    """Two surface variables, one on levels and a static one; float32 holds the values exactly."""
    coords = {
        "time": TIMES,
        "level": ("level", [850.0, 500.0], {"units": "hPa"}),
        "latitude": [-45.0, 0.0, 45.0],
        "longitude": [0.0, 72.0, 144.0, 216.0, 288.0],
    }
    rng = np.random.default_rng(1)

    def values(low, *shape):
        return (low + rng.integers(0, 200, shape) / 8).astype("float32")

    units = {"units": "K"}
    return xr.Dataset(
        {
            "2m_temperature": (DIMS, values(270, 6, 3, 5), units),
            "mean_sea_level_pressure": (DIMS, values(1e5, 6, 3, 5), {"units": "Pa"}),
            "temperature": (("time", "level", *DIMS[1:]), values(250, 6, 2, 3, 5), units),
            "land_sea_mask": (DIMS[1:], values(0, 3, 5) / 25, {"units": "1"}),
        },
        coords,
    )


def assert_canonical(result, expected):
    validate(result)
    assert all(field.chunks is not None for field in result.values())
    xr.testing.assert_equal(result, expected[list(result)])
    for name in result:
        assert result[name].dims == expected[name].dims
        assert result[name].attrs["units"] == expected[name].attrs["units"].replace("degC", "K")
        assert result[name].dtype == np.float32
    if "time" in result.coords and result["time"].dtype.kind == "M":
        assert result["time"].dtype == "datetime64[ns]"


def western(ds):
    return ds.assign_coords(longitude=(ds.longitude + 180) % 360 - 180).sortby("longitude")


def in_other_units(ds):
    ds = ds.copy()
    ds["2m_temperature"] = (ds["2m_temperature"].astype("f8") - 273.15).assign_attrs(units="degC")
    ds["mean_sea_level_pressure"] = (ds["mean_sea_level_pressure"].astype("f8") / 100).assign_attrs(
        units="hPa"
    )
    ds["land_sea_mask"] = (ds["land_sea_mask"].astype("f8") * 100).assign_attrs(units="%")
    ds["level"] = ("level", ds["level"].values * 100, {"units": "Pa"})
    return ds


def with_standard_names(ds):
    names = {"mean_sea_level_pressure": "p", "temperature": "x", "latitude": "j", "longitude": "i"}
    ds = ds.rename(names)
    ds["p"].attrs["standard_name"] = "air_pressure_at_mean_sea_level"
    ds["x"].attrs["standard_name"] = "air_temperature"
    ds["j"].attrs["standard_name"] = "latitude"
    ds["i"].attrs["units"] = "degrees_east"
    return ds


CONVENTIONS = {
    "north to south": lambda ds: ds.isel(latitude=slice(None, None, -1)),
    "-180 to 180": western,
    "transposed": lambda ds: ds.transpose("longitude", "time", "latitude", "level"),
    "ECMWF's names": lambda ds: ds.rename(
        {
            "2m_temperature": "t2m",
            "mean_sea_level_pressure": "msl",
            "temperature": "t",
            "land_sea_mask": "lsm",
            "level": "isobaricInhPa",
            "time": "valid_time",
        }
    ),
    "CF standard names": with_standard_names,
    "float64": lambda ds: ds.astype("float64"),
    "float32 coordinates": lambda ds: ds.assign_coords(
        latitude=ds.latitude.astype("f4"), longitude=ds.longitude.astype("f4")
    ),
    "times in disorder": lambda ds: ds.isel(time=[3, 0, 5, 1, 2, 4]),
    "microseconds": lambda ds: ds.assign_coords(time=ds.time.astype("datetime64[us]")),
    "spare dimension": lambda ds: ds.expand_dims(height=[2.0]),
    "spare coordinate": lambda ds: ds.assign_coords(number=0, step=np.timedelta64(0, "h")),
    "valid times beside equal times": lambda ds: ds.assign_coords(valid_time=ds.time),
    "coordinates named otherwise than their dimensions": lambda ds: ds.rename_dims(
        latitude="j", longitude="i"
    ).reset_index(["latitude", "longitude"]),
    "mask at every time": lambda ds: ds.assign(
        land_sea_mask=ds["land_sea_mask"].expand_dims(time=ds.time)
    ),
    "time bounds": lambda ds: ds.assign(time_bnds=(("time", "bnds"), np.zeros((6, 2)))),
}


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS)
def test_every_convention_gives_the_same_canonical_dataset(convention):
    result = open_fields(convention(canonical()))
    assert set(result) == set(canonical())
    assert_canonical(result, canonical())


def test_other_units_give_the_same_values_to_rounding():
    result = open_fields(in_other_units(canonical()))
    xr.testing.assert_allclose(result, canonical(), rtol=2e-7)
    np.testing.assert_array_equal(result["level"], [850, 500])
    assert {name: field.attrs["units"] for name, field in result.items()} == {
        "2m_temperature": "K",
        "mean_sea_level_pressure": "Pa",
        "temperature": "K",
        "land_sea_mask": "1",
    }


WRITERS = {
    "netCDF-4": lambda ds, path: ds.to_netcdf(path, engine="netcdf4"),
    "netCDF-3": lambda ds, path: ds.to_netcdf(path, format="NETCDF3_CLASSIC"),
    "netCDF-3, unlimited": lambda ds, path: ds.to_netcdf(
        path, format="NETCDF3_64BIT", unlimited_dims=["time"]
    ),
    "Zarr 2": lambda ds, path: ds.to_zarr(path, zarr_format=2, consolidated=True),
    "Zarr 2, not consolidated": lambda ds, path: ds.to_zarr(
        path, zarr_format=2, consolidated=False
    ),
    "Zarr 3": lambda ds, path: ds.to_zarr(path, zarr_format=3, consolidated=False),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_every_format_gives_the_same_canonical_dataset(tmp_path, write):
    ds = CONVENTIONS["north to south"](canonical())
    write(ds, tmp_path / "fields")
    assert_canonical(open_fields(tmp_path / "fields"), canonical())


def test_an_engine_can_be_named(tmp_path):
    canonical().to_netcdf(tmp_path / "a.nc")
    assert_canonical(open_fields(tmp_path / "a.nc", engine="netcdf4"), canonical())
    canonical().to_netcdf(tmp_path / "b.nc", format="NETCDF3_CLASSIC")
    assert_canonical(open_fields(tmp_path / "b.nc", engine="scipy"), canonical())
    canonical().to_zarr(tmp_path / "c", zarr_format=2)
    assert_canonical(open_fields(tmp_path / "c", engine="zarr"), canonical())


def test_packed_integers_are_unpacked(tmp_path):
    packing = {"dtype": "int16", "scale_factor": 0.125, "add_offset": 280.0, "_FillValue": -32768}
    ds = canonical()[["2m_temperature"]]
    ds["2m_temperature"][2, 1, 3] = np.nan
    ds.to_netcdf(tmp_path / "a.nc", encoding={"2m_temperature": packing})
    result = open_fields(tmp_path / "a.nc")
    assert_canonical(result, ds)
    result.to_netcdf(tmp_path / "b.nc")  # and written plainly again: no packing is left over
    xr.testing.assert_equal(open_fields(tmp_path / "b.nc"), result)


def write_grib(path, ds, *, step=0):
    """Write one GRIB 2 message for each field, north to south as is usual."""
    ds = ds.isel(latitude=slice(None, None, -1))
    kinds = {
        "2m_temperature": ("2t", "heightAboveGround", [2]),
        "mean_sea_level_pressure": ("msl", "meanSea", [0]),
        "temperature": ("t", "isobaricInhPa", ds["level"].values if "level" in ds else []),
    }
    kinds = {name: kind for name, kind in kinds.items() if name in ds}
    keys = {
        "Nj": 3,
        "Ni": 5,
        "latitudeOfFirstGridPointInDegrees": 45,
        "latitudeOfLastGridPointInDegrees": -45,
        "jDirectionIncrementInDegrees": 45,
        "longitudeOfFirstGridPointInDegrees": 0,
        "longitudeOfLastGridPointInDegrees": 288,
        "iDirectionIncrementInDegrees": 72,
        "bitsPerValue": 24,
        "endStep": step,
    }
    with path.open("wb") as file:
        for time in ds["time"].values:
            keys["dataDate"] = int(np.datetime_as_string(time, "D").replace("-", ""))
            keys["dataTime"] = int(np.datetime_as_string(time, "h")[-2:]) * 100
            for name, (short_name, kind, levels) in kinds.items():
                for i, level in enumerate(levels):
                    values = ds[name].sel(time=time).isel({"level": i}, missing_dims="ignore")
                    message = eccodes.codes_grib_new_from_samples("regular_ll_pl_grib2")
                    place = {"shortName": short_name, "typeOfLevel": kind, "level": int(level)}
                    for key, value in {**place, **keys}.items():
                        eccodes.codes_set(message, key, value)
                    eccodes.codes_set_values(message, values.values.ravel().astype(float))
                    eccodes.codes_write(message, file)
                    eccodes.codes_release(message)


def test_grib_gives_the_same_canonical_dataset_from_all_its_kinds_of_level(tmp_path):
    write_grib(tmp_path / "a.grib", canonical())
    result = open_fields(tmp_path / "a.grib")
    assert set(result) == {"2m_temperature", "mean_sea_level_pressure", "temperature"}
    packing = 1e-5
    xr.testing.assert_allclose(result, canonical()[list(result)], rtol=0, atol=packing)
    assert not list(tmp_path.glob("*.idx"))
    one = open_fields(tmp_path / "a.grib", variables=["t"], levels=[500])
    assert one["temperature"].shape == (6, 1, 3, 5)
    assert not any(key.startswith("GRIB") for key in one["temperature"].attrs)


def test_grib_of_a_single_time_and_level_still_has_these_dimensions(tmp_path):
    ds = canonical().isel(time=[2], level=[1])
    write_grib(tmp_path / "a.grib", ds)
    result = open_fields(tmp_path / "a.grib")
    xr.testing.assert_allclose(result, ds[list(result)], rtol=0, atol=1e-5)


def test_a_forecast_in_grib_is_refused(tmp_path):
    write_grib(tmp_path / "a.grib", canonical(), step=6)
    with pytest.raises(DimensionError, match=r"a\.grib: this is a forecast, expected an analysis"):
        open_fields(tmp_path / "a.grib")


def test_a_field_that_is_twice_in_grib_is_refused_where_it_is_used(tmp_path):
    """As where files that overlap were put together: cfgrib takes one of them, and says nothing."""
    path = tmp_path / "a.grib"
    write_grib(tmp_path / "one.grib", canonical().isel(time=[3])[["2m_temperature"]] + 1)
    write_grib(path, canonical())
    path.write_bytes(path.read_bytes() + (tmp_path / "one.grib").read_bytes())
    words = r"2m_temperature is not one field for each time: .* 1, the first that of \d{8} at \d{4}"
    with pytest.raises(InputError, match=words):
        open_fields(path)
    ds = open_fields(path, variables=["temperature"])
    xr.testing.assert_allclose(ds, canonical()[["temperature"]], rtol=0, atol=1e-5)


def test_of_analyses_and_forecasts_in_one_grib_the_first_can_be_chosen(tmp_path):
    path = tmp_path / "a.grib"
    write_grib(tmp_path / "later.grib", canonical()[["2m_temperature"]], step=6)
    write_grib(path, canonical()[["temperature"]])
    path.write_bytes(path.read_bytes() + (tmp_path / "later.grib").read_bytes())
    with pytest.raises(DimensionError, match=r"other variables than 2m_temperature"):
        open_fields(path)
    assert list(open_fields(path, variables=["temperature"])) == ["temperature"]


def test_grib_is_read_without_a_word_of_what_its_library_will_have_to_change(tmp_path):
    write_grib(tmp_path / "a.grib", canonical())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_fields(tmp_path / "a.grib")
    assert not caught


def test_the_two_releases_of_era5_are_not_cut_to_one_of_them(tmp_path):
    """In a dimension ``expver`` each time has data in one of both."""
    ds = canonical()[["2m_temperature"]]
    first = (ds["time"] < ds["time"][4]).astype(bool)
    two = xr.concat([ds.where(first), ds.where(~first)], xr.Variable("expver", [1, 5]))
    with pytest.raises(DimensionError, match=r"unexpected dimension expver") as caught:
        open_fields(two)
    advice = str(caught.value).partition(" as in ")[2].partition(", and give")[0]
    xr.testing.assert_equal(open_fields(eval(advice, {"ds": two})), open_fields(ds))  # noqa: S307


def test_grib_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    write_grib(tmp_path / "a.grib", canonical())
    monkeypatch.setitem(__import__("sys").modules, "cfgrib", None)
    with pytest.raises(ConfigError, match=r"pip install 'weatherdiff\[grib\]'") as caught:
        open_fields(tmp_path / "a.grib")
    assert caught.value.exit_code == 78


def test_calendars_other_than_the_standard_one_are_kept(tmp_path):
    times = xr.date_range("2001-02-27", periods=6, freq="12h", calendar="noleap", use_cftime=True)
    ds = canonical().assign_coords(time=times)
    ds.to_netcdf(tmp_path / "a.nc")
    result = open_fields(tmp_path / "a.nc")
    assert_canonical(result, ds)
    assert isinstance(result["time"].values[0], cftime.DatetimeNoLeap)


def test_many_files_join_in_time_whatever_their_order_and_conventions(tmp_path):
    ds = canonical()
    CONVENTIONS["north to south"](ds.isel(time=slice(0, 2))).to_netcdf(tmp_path / "z.nc")
    western(ds.isel(time=[2])).to_netcdf(tmp_path / "y.nc", format="NETCDF3_CLASSIC")
    CONVENTIONS["ECMWF's names"](ds.isel(time=slice(3, 6))).to_zarr(
        tmp_path / "x.zarr", zarr_format=2
    )
    paths = [tmp_path / name for name in ("x.zarr", "z.nc", "y.nc")]
    assert_canonical(open_fields(paths), ds)
    assert_canonical(open_fields(str(tmp_path / "[xyz].*")), ds)


def test_files_of_each_variable_year_and_level_join(tmp_path):
    ds = canonical()
    for start in (0, 3):
        period = ds.isel(time=slice(start, start + 3))
        for name in ("2m_temperature", "mean_sea_level_pressure"):
            period[[name]].to_netcdf(tmp_path / f"{name}_{start}.nc")
        for i in (0, 1):
            period[["temperature"]].isel(level=i).to_netcdf(tmp_path / f"t{i}_{start}.nc")
    ds[["land_sea_mask"]].to_netcdf(tmp_path / "mask.nc")
    result = open_fields(f"{tmp_path}/*.nc", levels=[850, 500])
    assert set(result) == set(ds)
    assert_canonical(result, ds)


def test_static_fields_may_come_with_any_of_the_files(tmp_path):
    ds = canonical()
    ds.isel(time=slice(0, 1)).to_netcdf(tmp_path / "a.nc")
    ds.isel(time=slice(1, 2)).to_netcdf(tmp_path / "b.nc")
    ds.isel(time=slice(2, 6)).drop_vars("land_sea_mask").to_netcdf(tmp_path / "c.nc")
    assert_canonical(open_fields(f"{tmp_path}/*.nc"), ds)


def test_files_are_joined_without_a_look_for_a_cluster(tmp_path, monkeypatch):
    for number in (0, 1):
        canonical().isel(time=slice(number, number + 1)).to_netcdf(tmp_path / f"{number}.nc")
    asked = []

    def look():  # which imports dask.distributed, for half a second
        asked.append(1)
        raise ValueError("no client")

    monkeypatch.setattr("distributed.get_client", look)
    open_fields(f"{tmp_path}/*.nc")
    assert not asked


def test_a_file_without_a_time_is_passed_over_and_said(tmp_path, caplog):
    """As of a month that has only begun."""
    for name, times in (("a", slice(3)), ("b", slice(0)), ("c", slice(3, None))):
        canonical().isel(time=times).to_netcdf(
            tmp_path / f"{name}.nc", encoding={"time": {"units": "hours since 2001-01-01"}}
        )
    with caplog.at_level(logging.INFO):
        ds = open_fields(tmp_path / "*.nc")
    xr.testing.assert_equal(ds, canonical())
    assert f"there is no time in {tmp_path / 'b.nc'}, which is passed over" in caplog.text
    with pytest.raises(InputError, match=r"no time is in .*b\.nc; fetch it again"):
        open_fields(tmp_path / "b.nc")


def test_times_that_interleave_between_files_are_sorted(tmp_path):
    for start in (0, 1):
        canonical().isel(time=slice(start, None, 2)).to_netcdf(tmp_path / f"{start}.nc")
    assert_canonical(open_fields(f"{tmp_path}/*.nc"), canonical())


def test_coordinates_that_differ_by_a_rounding_error_lose_no_field(tmp_path):
    ds = canonical()
    ds.isel(time=slice(0, 3)).to_netcdf(tmp_path / "a.nc")
    off = ds.isel(time=slice(3, 6)).assign_coords(latitude=ds.latitude + 1e-7)
    off.to_netcdf(tmp_path / "b.nc")
    assert_canonical(open_fields([tmp_path / "a.nc", tmp_path / "b.nc"]), ds)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_remote_files_and_stores_are_read(suffix, tmp_path):
    if suffix == ".nc":
        canonical().to_netcdf(tmp_path / "a.nc")
        with fsspec.open("memory://open_fields/a.nc", "wb") as file:
            file.write((tmp_path / "a.nc").read_bytes())
    else:
        canonical().to_zarr("memory://open_fields/a.zarr", zarr_format=2, consolidated=True)
    assert_canonical(open_fields(f"memory://open_fields/a{suffix}"), canonical())
    assert_canonical(open_fields(f"memory://open_fields/*{suffix}"), canonical())
    with pytest.raises(MissingInputError) as caught:
        open_fields(f"memory://open_fields/absent{suffix}")
    assert caught.value.exit_code == 66


def test_the_embedded_sample_has_canonical_names_and_keeps_its_region():
    ds = open_fields("sample:uk-2018")
    assert set(ds) == {
        "2m_temperature",
        "2m_specific_humidity",
        "surface_pressure",
        "surface_downwelling_shortwave_flux",
    }
    assert (ds.longitude[0], ds.longitude[-1], ds.sizes["time"]) == (-9.75, 3.75, 1464)
    assert "Copernicus" in ds.attrs["licence"]
    with pytest.raises(ConfigError, match="no sample is named"):
        open_fields("sample:mars")


def test_variables_are_chosen_by_either_name_in_the_order_asked():
    ds = CONVENTIONS["ECMWF's names"](canonical())
    result = open_fields(ds, variables=["temperature", "t2m"])
    assert list(result) == ["temperature", "2m_temperature"]


def test_one_own_name_may_mean_a_variable_on_levels_and_one_at_the_surface(tmp_path):
    ds = canonical()
    aloft = ds[["temperature"]].rename(temperature="z")
    aloft["z"].attrs["units"] = "m**2 s**-2"
    surface = ds[["land_sea_mask"]].rename(land_sea_mask="z")
    surface["z"].attrs["units"] = "m**2 s**-2"
    aloft.to_netcdf(tmp_path / "a.nc")
    surface.to_netcdf(tmp_path / "b.nc")
    result = open_fields(f"{tmp_path}/*.nc", variables=["z"])
    assert list(result) == ["geopotential", "geopotential_at_surface"]


def test_variables_on_different_levels_join_on_the_levels_chosen(tmp_path):
    ds = canonical()
    ds[["temperature"]].to_netcdf(tmp_path / "a.nc")
    humidity = (ds["temperature"] * 1e-5).assign_attrs(units="kg kg**-1").isel(level=[1])
    humidity.to_dataset(name="q").to_netcdf(tmp_path / "b.nc")
    assert refused(InputError, "choose levels they all have", f"{tmp_path}/*.nc") == 65
    result = open_fields(f"{tmp_path}/*.nc", levels=[500])
    assert {name: field.shape for name, field in result.items()} == {
        "temperature": (6, 1, 3, 5),
        "specific_humidity": (6, 1, 3, 5),
    }


def test_what_is_not_chosen_cannot_be_in_the_way():
    ds = canonical().assign(no_units=canonical()["2m_temperature"].drop_attrs())
    ds["other"] = (("y", "x"), np.ones((2, 2)))
    assert_canonical(open_fields(ds, variables=["2m_temperature"]), canonical())
    with pytest.raises(UnitsError, match=r"no_units has no units.*variables=\["):
        open_fields(ds)


def test_levels_are_chosen_in_hpa_in_the_order_asked():
    ds = in_other_units(canonical())
    result = open_fields(ds, variables=["temperature"], levels=[500, 850])
    np.testing.assert_array_equal(result["level"], [500, 850])
    np.testing.assert_array_equal(
        result["temperature"][:, 0], canonical()["temperature"].sel(level=500)
    )


def test_names_and_units_of_unknown_data_can_be_given():
    ds = canonical()[["2m_temperature"]].rename({"2m_temperature": "hut", "latitude": "row"})
    ds = (ds - 273.15).drop_attrs()
    rename = {"hut": "2m_temperature", "row": "latitude"}
    for name in ("hut", "2m_temperature"):
        result = open_fields(ds, rename=rename, units={name: "degC"})
        xr.testing.assert_allclose(result, canonical()[["2m_temperature"]], rtol=1e-6)


def test_an_unknown_variable_keeps_its_name_its_units_and_its_bounds():
    ds = canonical()[["2m_temperature"]].rename({"2m_temperature": "fAPAR"})
    ds["fAPAR"].attrs = {"units": "widgets", "valid_min": 0.0, "grid_mapping": "crs"}
    result = open_fields(ds)
    assert result["fAPAR"].attrs == {"units": "widgets", "valid_min": 0.0}


def test_opening_reads_one_time_and_no_more(tmp_path, monkeypatch):
    canonical().to_netcdf(tmp_path / "a.nc")
    read = []
    indexing = xr.backends.netCDF4_.NetCDF4ArrayWrapper.__getitem__

    def spy(self, key):
        result = indexing(self, key)
        if result.ndim > 1:
            read.append(result.size)
        return result

    monkeypatch.setattr(xr.backends.netCDF4_.NetCDF4ArrayWrapper, "__getitem__", spy)
    ds = open_fields(tmp_path / "a.nc", chunks={"time": 1})
    assert sorted(read) == [15, 15, 15, 30]  # one field of each of the four variables
    ds["2m_temperature"].isel(time=4).load()
    assert read[4:] == [15]


def test_chunks_are_whole_fields_and_multiples_of_those_stored(tmp_path):
    encoding = {"temperature": {"chunks": (4, 1, 3, 3)}}
    canonical()[["temperature"]].to_zarr(tmp_path / "a.zarr", zarr_format=2, encoding=encoding)
    assert open_fields(tmp_path / "a.zarr")["temperature"].chunks == ((6,), (2,), (3,), (5,))
    result = open_fields(tmp_path / "a.zarr", chunks={"time": 4, "level": 1})
    assert result["temperature"].chunks == ((4, 2), (1, 1), (3,), (5,))
    ours = canonical().chunk(time=5)
    assert open_fields(ours)["2m_temperature"].chunks == ((5, 1), (3,), (5,))


def test_a_large_record_is_divided_in_time():
    fields = xr.Variable(DIMS, np.broadcast_to(np.float32(280), (40, 721, 1440)), {"units": "K"})
    ds = xr.Dataset(
        {"2m_temperature": fields},
        {
            "time": TIMES[0] + np.arange(40) * np.timedelta64(6, "h"),
            "latitude": np.linspace(90, -90, 721),
            "longitude": np.arange(1440) / 4,
        },
    )
    chunks = open_fields(ds)["2m_temperature"].data.chunksize
    assert chunks[1:] == (721, 1440)
    assert 32e6 < np.prod(chunks) * 4 <= 64e6


def test_every_reinterpretation_is_logged_and_recorded(caplog):
    ds = western(in_other_units(CONVENTIONS["times in disorder"](canonical())))
    ds = ds.isel(latitude=slice(None, None, -1), time=slice(0, 5)).rename(latitude="lat")
    ds = ds.rename({"2m_temperature": "t2m"}).assign_coords(number=3)
    with caplog.at_level(logging.INFO, "weatherdiff"):
        result = open_fields(ds)
    history = result.attrs["weatherdiff_history"]
    assert history.splitlines() == [record.getMessage() for record in caplog.records]
    for words in (
        "t2m is read as 2m_temperature",
        "2m_temperature is turned from degC into K",
        "latitude went from 45 to -45 and goes from -45 to 45",
        "longitude went from -144 to 144 and goes from 0 to 288",
        "times were not in order",
        "time has 1 gaps",
        "dropped coordinates that are no dimensions: number",
    ):
        assert words in history


def test_nothing_is_logged_of_data_that_need_no_change(caplog):
    with caplog.at_level(logging.INFO, "weatherdiff"):
        assert open_fields(canonical()).attrs["weatherdiff_history"] == ""
    assert not caplog.records


def test_the_recorded_layout_gives_the_users_own_data_back(tmp_path):
    theirs = CONVENTIONS["ECMWF's names"](western(CONVENTIONS["north to south"](canonical())))
    for start in (0, 3):
        theirs.isel(valid_time=slice(start, start + 3)).to_netcdf(tmp_path / f"{start}.nc")
    ours = open_fields(f"{tmp_path}/*.nc")
    layout = Layout.from_dict(json.loads(ours.attrs["weatherdiff_layout"]))
    xr.testing.assert_equal(layout.restore(ours), theirs)


def refused(error, words, source, **arguments):
    with pytest.raises(error, match=words) as caught:
        open_fields(source, **arguments)
    assert type(caught.value) is error
    return caught.value.exit_code


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda ds: ds.expand_dims(step=[6, 12]), DimensionError, "this is a forecast"),
        (lambda ds: ds.expand_dims(prediction_timedelta=2), DimensionError, "this is a forecast"),
        (lambda ds: ds.rename(time="init_time"), DimensionError, "this is a forecast"),
        (
            lambda ds: ds.assign_coords(step=np.timedelta64(6, "h")),
            DimensionError,
            "this is a forecast",
        ),
        (
            lambda ds: ds.assign_coords(valid_time=ds.time + np.timedelta64(6, "h")),
            DimensionError,
            "this is a forecast",
        ),
        (lambda ds: ds.expand_dims(number=10), DimensionError, "ensemble of 10 members"),
        (lambda ds: ds.expand_dims(expver=[1, 5]), DimensionError, "unexpected dimension expver"),
        (lambda ds: ds.drop_vars("time"), DimensionError, "time has no coordinate"),
        (lambda ds: ds.assign_coords(time=np.arange(6)), DimensionError, "expected dates"),
        (lambda ds: ds.drop_vars("latitude"), DimensionError, "no coordinate latitude"),
        (
            lambda ds: (
                ds.rename_dims(latitude="y", longitude="x")
                .drop_vars(["latitude", "longitude"])
                .assign_coords(latitude=(("y", "x"), np.ones((3, 5))), longitude=("x", np.ones(5)))
            ),
            DimensionError,
            "curvilinear",
        ),
        (
            lambda ds: ds.stack(cell=("latitude", "longitude")).reset_index("cell"),
            DimensionError,
            "reduced or unstructured",
        ),
        (lambda ds: ds.isel(latitude=[0]), DimensionError, "at least two"),
        (
            lambda ds: ds.assign_coords(longitude=[0, 90, 180, 270, 360]),
            InputError,
            "0 and 360 are the same meridian",
        ),
        (lambda ds: ds.isel(time=[0, 1, 2, 2, 5]), InputError, "1 times occur twice"),
        (
            lambda ds: ds.drop_vars(list(ds)).assign(crs=0),
            InputError,
            "no variable on latitude and longitude",
        ),
        (
            lambda ds: ds.assign(t2m=ds["2m_temperature"]),
            InputError,
            "2m_temperature and t2m are both",
        ),
        (lambda ds: ds.drop_attrs(), UnitsError, "has no units"),
        (
            lambda ds: ds.assign(ssrd=ds["2m_temperature"].assign_attrs(units="J m**-2")),
            UnitsError,
            "energy gathered over some time",
        ),
        (
            lambda ds: ds.assign(t2m=ds["2m_temperature"] - 273.15).drop_vars("2m_temperature"),
            UnitsError,
            "it looks like degC",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused(change, error, words):
    assert refused(error, words, change(canonical())) == 65


def test_an_absent_variable_is_refused_with_the_nearest_one():
    ds = canonical()
    words = r"no variable '2m_temperatur', do you mean '2m_temperature'\? There are: 2m_temp"
    assert refused(InputError, words, ds, variables=["2m_temperatur"]) == 65
    assert refused(InputError, r"'q'\. There are", ds, variables=["2m_temperature", "q"]) == 65


def test_a_chosen_variable_that_is_not_on_the_grid_is_refused():
    ds = canonical().assign(index=("time", np.arange(6)), name=(DIMS[1:], np.full((3, 5), "a")))
    assert refused(DimensionError, "no coordinate latitude", ds, variables=["index"]) == 65
    assert refused(DimensionError, "expected numbers on", ds, variables=["name"]) == 65
    assert_canonical(open_fields(ds), canonical())


def test_an_absent_level_is_refused():
    ds = canonical()
    words = r"temperature has no level \[300\] hPa; there are: \[850.0, 500.0\]"
    assert refused(InputError, words, ds, levels=[500, 300]) == 65
    assert refused(InputError, "no level", ds[["2m_temperature"]], levels=[500]) == 65


def test_arguments_that_name_nothing_are_refused():
    ds = canonical()
    words = "rename names '2m_tmperature', which is not there, do you mean '2m_temperature'"
    assert refused(ConfigError, words, ds, rename={"2m_tmperature": "x"}) == 78
    assert refused(ConfigError, "units names 'q'", ds, units={"q": "K"}) == 78


def test_what_does_not_exist_is_refused_with_the_code_to_try_again(tmp_path):
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "a.nc", f"{tmp_path}/*.nc", tmp_path / "b.zarr", tmp_path / "empty"):
        assert refused(MissingInputError, str(tmp_path), source) == 66
    assert refused(MissingInputError, "no path", []) == 66


def test_an_unknown_engine_or_protocol_is_refused(tmp_path):
    canonical().to_netcdf(tmp_path / "a.nc")
    assert refused(ConfigError, "'iris' is unknown", tmp_path / "a.nc", engine="iris") == 78
    assert refused(ConfigError, "Protocol not known", "carrier-pigeon://a.nc") == 78
    fsspec.register_implementation("pigeon", "loft.Pigeon", errtxt="Install loft", clobber=True)
    assert refused(ConfigError, r"Install loft; .*weatherdiff\[remote\]", "pigeon://a.nc") == 78


@pytest.mark.parametrize("lost", [1, 50, 1000])
@pytest.mark.parametrize(
    "write", [WRITERS[k] for k in WRITERS if "netCDF" in k], ids=[k for k in WRITERS if "net" in k]
)
def test_a_truncated_netcdf_file_is_refused(tmp_path, write, lost):
    path = tmp_path / "a.nc"
    write(canonical().drop_vars("land_sea_mask"), path)
    path.write_bytes(path.read_bytes()[:-lost])
    assert refused(InputError, r"a\.nc is truncated", path) == 65


@pytest.mark.parametrize("kept", [20, 300, -10])
def test_a_truncated_grib_file_is_refused(tmp_path, kept):
    path = tmp_path / "a.grib"
    write_grib(path, canonical())
    path.write_bytes(path.read_bytes()[:kept])
    assert refused(InputError, "truncated or damaged", path) == 65


@pytest.mark.parametrize("content", [b"", b"a,b,c\n1,2,3\n"])
def test_a_file_of_another_format_is_refused(tmp_path, content):
    (tmp_path / "a.nc").write_bytes(content)
    assert refused(InputError, "neither NetCDF nor GRIB", tmp_path / "a.nc") == 65


def test_times_that_cannot_be_decoded_are_refused(tmp_path):
    ds = canonical().assign_coords(time=("time", np.arange(6), {"units": "days since yesterday"}))
    ds.to_netcdf(tmp_path / "a.nc")
    assert refused(InputError, "could not be opened", tmp_path / "a.nc") == 65


def test_a_failing_disk_is_not_blamed_on_the_file(tmp_path, monkeypatch):
    canonical().to_netcdf(tmp_path / "a.nc")

    def fail(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(xr, "open_dataset", fail)
    with pytest.raises(StorageError, match="could not be read") as caught:
        open_raw(str(tmp_path / "a.nc"))
    assert caught.value.exit_code == 74


def test_files_on_two_grids_are_refused(tmp_path):
    ds = canonical()
    ds.isel(time=slice(0, 3)).to_netcdf(tmp_path / "a.nc")
    ds.isel(time=slice(3, 6), longitude=slice(0, 4)).to_netcdf(tmp_path / "b.nc")
    words = r"a\.nc and .*b\.nc: longitude differs: 5 values"
    assert refused(GridMismatchError, words, f"{tmp_path}/*.nc") == 65


def test_a_time_in_two_files_is_refused(tmp_path):
    ds = canonical()
    ds.isel(time=slice(0, 4)).to_netcdf(tmp_path / "a.nc")
    ds.isel(time=slice(3, 6)).to_netcdf(tmp_path / "b.nc")
    words = "1 times occur twice, the first is 2001-02-28 12:00:00"
    assert refused(InputError, words, f"{tmp_path}/*.nc") == 65


def test_variables_with_other_times_are_refused_rather_than_cut(tmp_path):
    ds = canonical()
    ds[["2m_temperature"]].to_netcdf(tmp_path / "a.nc")
    ds[["mean_sea_level_pressure"]].isel(time=slice(0, 5)).to_netcdf(tmp_path / "b.nc")
    words = "2m_temperature: 6 times from .*; mean_sea_level_pressure: 5 times"
    assert refused(InputError, words, f"{tmp_path}/*.nc") == 65


@pytest.mark.parametrize("units", ["days since 0001-01-01", "hours since 1900-01-01"])
def test_times_as_fractions_of_days_are_the_hours_that_they_mean(tmp_path, units):
    time = np.datetime64("2001-02-27T00", "ns") + np.arange(50) * np.timedelta64(1, "h")
    ds = canonical().isel(time=0, drop=True).expand_dims(time=time)
    ds[["2m_temperature"]].to_netcdf(
        tmp_path / "a.nc", encoding={"time": {"units": units, "dtype": "f8"}}
    )
    ds[["mean_sea_level_pressure"]].to_netcdf(tmp_path / "b.nc")
    opened = open_fields(f"{tmp_path}/*.nc")  # which must hold the same times
    np.testing.assert_array_equal(opened["time"].values, time)


def test_levels_that_differ_in_time_are_refused_rather_than_filled(tmp_path):
    ds = canonical()[["temperature"]]
    ds.isel(level=[0]).to_netcdf(tmp_path / "a.nc")
    ds.isel(level=[1], time=slice(0, 5)).to_netcdf(tmp_path / "b.nc")
    assert refused(InputError, "cannot be joined along level", f"{tmp_path}/*.nc") == 65


def test_static_fields_that_differ_between_files_are_refused(tmp_path):
    ds = canonical()[["land_sea_mask"]]
    ds.to_netcdf(tmp_path / "a.nc")
    (ds * 0.5).assign(land_sea_mask=(ds * 0.5)["land_sea_mask"].assign_attrs(units="1")).to_netcdf(
        tmp_path / "b.nc"
    )
    assert refused(InputError, "do not fit together", f"{tmp_path}/*.nc") == 65


def test_an_unknown_variable_with_two_units_is_refused(tmp_path):
    ds = canonical()[["2m_temperature"]].rename({"2m_temperature": "own"})
    ds.isel(time=slice(0, 3)).to_netcdf(tmp_path / "a.nc")
    ds["own"].attrs["units"] = "degC"
    ds.isel(time=slice(3, 6)).to_netcdf(tmp_path / "b.nc")
    assert refused(UnitsError, r"own is in 'K' in .*a\.nc", f"{tmp_path}/*.nc") == 65


def test_a_zarr_gives_its_variables_in_one_order_whenever_it_is_opened(tmp_path):
    names = ["temperature", "sea_surface_temperature", "2m_temperature", "skin_temperature"]
    field = np.full((3, 2, 4), 280, np.float32)
    coords = {
        "time": np.datetime64("2020-03-01", "ns") + np.arange(3) * np.timedelta64(6, "h"),
        "latitude": [10.0, 20.0],
        "longitude": [0.0, 10.0, 20.0, 30.0],
    }
    units = {"units": "K"}
    ds = xr.Dataset({name: (tuple(coords), field, units) for name in names}, coords)
    ds.to_zarr(tmp_path / "own.zarr", zarr_format=3, consolidated=False)
    ds.to_zarr(tmp_path / "consolidated.zarr", zarr_format=2, consolidated=True)
    orders = {
        tuple(open_fields(tmp_path / name).data_vars)
        for name in ["own.zarr"] * 10 + ["consolidated.zarr"]
    }
    assert orders == {tuple(sorted(names))}


def test_a_chunk_that_is_not_there_is_told_once_for_each_array(tmp_path, caplog):
    coords = {
        "time": np.datetime64("2020-03-01", "ns") + np.arange(6) * np.timedelta64(6, "h"),
        "latitude": [10.0, 20.0],
        "longitude": [0.0, 10.0, 20.0, 30.0],
    }
    wind = np.random.default_rng(0).normal(size=(6, 2, 4)).astype(np.float32)
    names = ("10m_u_component_of_wind", "10m_v_component_of_wind")
    ds = xr.Dataset({name: (tuple(coords), wind, {"units": "m s**-1"}) for name in names}, coords)
    path = tmp_path / "own.zarr"
    ds.chunk(time=1).to_zarr(path, zarr_format=3, consolidated=False)
    for time in (2, 4):
        (path / names[0] / "c" / str(time) / "0" / "0").unlink()
    with caplog.at_level(logging.WARNING, "weatherdiff"):
        open_fields(path).load()
    told = [m for m in caplog.messages if "is not there, and is read as the fill value" in m]
    assert len(told) == 1
    assert f"own.zarr: {names[0]}/c/" in told[0]
