import json

import eccodes
import numpy as np
import pytest
import xarray as xr

from weatherdiff.data.ensembles import open_ensembles, to_cfgrib_layout, to_weatherbench
from weatherdiff.errors import (
    ConfigError,
    DimensionError,
    GridMismatchError,
    InputError,
    MissingInputError,
    UnitsError,
)
from weatherdiff.forecasting.writer import write_forecast
from weatherdiff.layout import Layout

HOUR = np.timedelta64(1, "h")
INITS = np.datetime64("2020-02-28", "ns") + np.arange(3) * 12 * HOUR
LEADS = (np.array([6, 12, 24, 48]) * HOUR).astype("timedelta64[ns]")
DIMS = ("init_time", "lead_time", "number", "latitude", "longitude")
LEVELS = (*DIMS[:3], "level", *DIMS[3:])


def canonical():
    """Forecasts of unequal sizes; float32 holds the values exactly."""
    coords = {
        "init_time": INITS,
        "lead_time": LEADS,
        "number": np.arange(1, 6),
        "level": ("level", [850.0, 500.0], {"units": "hPa"}),
        "latitude": [-45.0, 0.0, 45.0],
        "longitude": [0.0, 60.0, 120.0, 180.0, 240.0, 300.0],
    }
    rng = np.random.default_rng(1)

    def values(low, *shape):
        return (low + rng.integers(0, 200, shape) / 8).astype("float32")

    ds = xr.Dataset(
        {
            "2m_temperature": (DIMS, values(270, 3, 4, 5, 3, 6), {"units": "K"}),
            "mean_sea_level_pressure": (DIMS, values(1e5, 3, 4, 5, 3, 6), {"units": "Pa"}),
            "temperature": (LEVELS, values(250, 3, 4, 5, 2, 3, 6), {"units": "K"}),
        },
        coords,
    )
    return ds.assign_coords(valid_time=ds.init_time + ds.lead_time)


def assert_canonical(result, expected):
    assert all(field.chunks is not None for field in result.values())
    xr.testing.assert_equal(result, expected[list(result)])
    for name in result:
        assert result[name].dims == expected[name].dims
        assert result[name].attrs["units"] == expected[name].attrs["units"]
        assert result[name].dtype == np.float32
    assert result["init_time"].dtype == "datetime64[ns]"
    assert result["lead_time"].dtype == "timedelta64[ns]"
    assert result["valid_time"].dims == ("init_time", "lead_time")


def in_hours(ds, name, dtype="int64"):
    hours = (ds[name].values / HOUR).astype(dtype)
    return ds.assign_coords({name: (ds[name].dims, hours, {"units": "hours"})})


def with_scalar_cf_times(ds):
    """The CF conventions' own names: a valid ``time`` beside the time of reference."""
    ds = ds.isel(init_time=0).swap_dims(lead_time="valid_time")
    return ds.rename(init_time="forecast_reference_time", lead_time="forecast_period").rename(
        valid_time="time"
    )


CONVENTIONS = {
    "canonical": lambda ds: ds,
    "without valid times": lambda ds: ds.drop_vars("valid_time"),
    "WeatherBench 2": to_weatherbench,
    "WeatherBench 2, realizations": lambda ds: to_weatherbench(ds).rename(number="realization"),
    "WeatherBench 2, integer hours": lambda ds: in_hours(
        to_weatherbench(ds), "prediction_timedelta"
    ),
    "WeatherBench 2, float32 hours": lambda ds: in_hours(
        to_weatherbench(ds), "prediction_timedelta", "float32"
    ),
    "WeatherBench 2, nanoseconds with their units": lambda ds: (
        to_weatherbench(ds)
        .drop_vars("prediction_timedelta")
        .assign_coords(
            prediction_timedelta=(
                "prediction_timedelta",
                LEADS.astype(int),
                {"units": "nanoseconds", "dtype": "timedelta64[ns]"},
            )
        )
    ),
    "cfgrib": to_cfgrib_layout,
    "transposed": lambda ds: ds.transpose("longitude", "number", "latitude", "level", ...),
    "-180 to 180": lambda ds: ds.assign_coords(longitude=(ds.longitude + 180) % 360 - 180).sortby(
        "longitude"
    ),
    "all in disorder": lambda ds: ds.isel(
        init_time=[2, 0, 1], lead_time=[3, 1, 2, 0], number=[4, 0, 2, 1, 3], latitude=[1, 0, 2]
    ),
    "microseconds": lambda ds: ds.assign_coords(
        init_time=ds.init_time.astype("datetime64[us]"),
        lead_time=ds.lead_time.astype("timedelta64[s]"),
    ),
    "dask": lambda ds: ds.chunk(number=2, init_time=1),
    "spare coordinates and dimensions": lambda ds: ds.expand_dims(batch=1).assign_coords(
        surface=0.0, expver="0001"
    ),
    "coordinates named otherwise than their dimensions": lambda ds: ds.rename_dims(
        init_time="i", lead_time="j", number="k"
    ).reset_index(["init_time", "lead_time", "number"]),
    "times as variables": lambda ds: ds.reset_coords("valid_time"),
    "attributes that name the initial time a time": lambda ds: ds.assign_coords(
        init_time=ds.init_time.assign_attrs(standard_name="time", axis="T")
    ),
}


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS)
def test_every_convention_gives_the_same_canonical_forecasts(convention):
    result = open_ensembles(convention(canonical()))
    assert set(result) == set(canonical())
    if "number" not in result.indexes or list(result.number) == list(range(5)):
        result = result.assign_coords(number=canonical().number)
    assert_canonical(result, canonical())


@pytest.mark.parametrize("write", [to_weatherbench, to_cfgrib_layout])
def test_writers_and_reader_are_inverse(write):
    ours = open_ensembles(canonical())
    again = open_ensembles(write(ours))
    xr.testing.assert_identical(again.drop_attrs(deep=False), ours.drop_attrs(deep=False))
    assert "init_time" not in write(ours).variables
    assert all(field.chunks is not None for field in write(ours).values())


def test_writers_give_the_names_of_their_layouts():
    ds = canonical()
    assert to_weatherbench(ds)["temperature"].dims == (
        "time", "prediction_timedelta", "number", "level", "latitude", "longitude",
    )  # fmt: skip
    theirs = to_cfgrib_layout(ds)
    assert theirs["t"].dims == (
        "number", "time", "step", "isobaricInhPa", "latitude", "longitude",
    )  # fmt: skip
    assert set(theirs) == {"t2m", "msl", "t"}
    assert theirs["valid_time"].dims == ("time", "step")
    np.testing.assert_array_equal(theirs["latitude"], [45, 0, -45])
    np.testing.assert_array_equal(
        theirs["t"].isel(latitude=0).transpose("time", "step", "number", ...),
        ds["temperature"].isel(latitude=2),
    )


WRITERS = {
    "NetCDF": lambda ds, path: ds.to_netcdf(path),
    "Zarr 2": lambda ds, path: ds.to_zarr(path, zarr_format=2, consolidated=True),
    "Zarr 3": lambda ds, path: ds.to_zarr(path, zarr_format=3, consolidated=False),
}


@pytest.mark.parametrize("layout", [lambda ds: ds, to_weatherbench, to_cfgrib_layout])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_every_format_and_layout_gives_the_same_forecasts(tmp_path, write, layout):
    write(layout(canonical()), tmp_path / "forecasts")
    assert_canonical(open_ensembles(tmp_path / "forecasts"), canonical())


def test_lead_times_stored_as_plain_hours_are_read_by_their_units(tmp_path):
    ds = in_hours(to_weatherbench(canonical()), "prediction_timedelta", "int32")
    ds.to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=True)
    assert_canonical(open_ensembles(tmp_path / "a.zarr"), canonical())


def test_a_deterministic_forecast_is_an_ensemble_of_one():
    ds = canonical().isel(number=0, drop=True)
    result = open_ensembles(to_weatherbench(ds))
    assert_canonical(result, ds.expand_dims(number=[0], axis=2)[list(result)].transpose(
        *DIMS[:3], ...
    ))  # fmt: skip
    assert "ensemble of one" in result.attrs["weatherdiff_history"]


def test_scalar_times_members_and_levels_become_dimensions():
    whole = canonical()
    place = {"init_time": [1], "lead_time": [2], "number": [3]}
    for name in ("t", "t2m"):
        ds = to_cfgrib_layout(whole.isel(**place, level=[0]))[[name]].squeeze()
        assert ds[name].dims == ("latitude", "longitude")
        assert_canonical(open_ensembles(ds), whole.isel(**place, level=[0]))
    steps = to_cfgrib_layout(whole).isel(time=1)
    assert_canonical(open_ensembles(steps), whole.isel(init_time=[1]))
    times = to_cfgrib_layout(whole).isel(step=2)
    assert_canonical(open_ensembles(times), whole.isel(lead_time=[2]))


def test_a_valid_time_beside_the_time_of_reference_is_understood():
    ds = with_scalar_cf_times(canonical())
    assert ds["2m_temperature"].dims[0] == "time"
    assert_canonical(open_ensembles(ds), canonical().isel(init_time=[0]))


def write_grib(path, ds):
    """Write GRIB 2 messages of ensemble members, north to south as is usual."""
    keys = {
        "productDefinitionTemplateNumber": 1,
        "Nj": 3,
        "Ni": 6,
        "latitudeOfFirstGridPointInDegrees": 45,
        "latitudeOfLastGridPointInDegrees": -45,
        "jDirectionIncrementInDegrees": 45,
        "longitudeOfFirstGridPointInDegrees": 0,
        "longitudeOfLastGridPointInDegrees": 300,
        "iDirectionIncrementInDegrees": 60,
        "bitsPerValue": 24,
        "numberOfForecastsInEnsemble": 5,
    }
    kinds = {
        "2m_temperature": ("2t", "heightAboveGround", [2]),
        "temperature": ("t", "isobaricInhPa", ds["level"].values),
    }
    ds = ds.isel(latitude=slice(None, None, -1))
    with path.open("wb") as file:
        for name, (short_name, kind, levels) in kinds.items():
            for init, lead, number in np.ndindex(*ds[name].shape[:3]):
                frame = ds[name].isel(init_time=init, lead_time=lead, number=number)
                time = frame["init_time"].values
                for i, level in enumerate(levels):
                    message = eccodes.codes_grib_new_from_samples("regular_ll_pl_grib2")
                    for key, value in {
                        **keys,
                        "perturbationNumber": int(frame["number"]),
                        "shortName": short_name,
                        "typeOfLevel": kind,
                        "level": int(level),
                        "dataDate": int(np.datetime_as_string(time, "D").replace("-", "")),
                        "dataTime": int(np.datetime_as_string(time, "h")[-2:]) * 100,
                        "endStep": int(frame["lead_time"].values / HOUR),
                    }.items():
                        eccodes.codes_set(message, key, value)
                    values = frame.isel({"level": i}, missing_dims="ignore").values
                    eccodes.codes_set_values(message, values.ravel().astype(float))
                    eccodes.codes_write(message, file)
                    eccodes.codes_release(message)


def test_grib_of_members_is_read_from_all_its_kinds_of_level(tmp_path):
    ds = canonical()[["2m_temperature", "temperature"]]
    ds = ds.isel(init_time=[0, 2], lead_time=[0, 1, 3], number=[1, 4])
    write_grib(tmp_path / "a.grib", ds)
    result = open_ensembles(tmp_path / "a.grib")
    xr.testing.assert_allclose(result, ds, rtol=0, atol=1e-5)
    assert result["temperature"].dims == LEVELS
    assert not list(tmp_path.glob("*.idx"))
    one = open_ensembles(tmp_path / "a.grib", engine="cfgrib", variables=["t2m"])
    assert list(one) == ["2m_temperature"]


def test_grib_of_one_start_step_and_member_has_all_dimensions(tmp_path):
    ds = canonical()[["2m_temperature", "temperature"]]
    ds = ds.isel(init_time=[1], lead_time=[2], number=[3], level=[1])
    write_grib(tmp_path / "a.grib", ds)
    result = open_ensembles(tmp_path / "a.grib")
    xr.testing.assert_allclose(result, ds, rtol=0, atol=1e-5)


def test_a_forecast_of_ours_is_read_like_any_other(tmp_path):
    blocks = [canonical().isel(init_time=[1], lead_time=frames) for frames in ([0, 1], [2, 3])]
    path = write_forecast(tmp_path, blocks, frames=4, member_block=2)
    assert_canonical(open_ensembles(path), canonical().isel(init_time=[1]))


@pytest.mark.parametrize("dim", ["init_time", "lead_time", "number"])
def test_files_of_each_start_lead_or_member_join_whatever_their_order(tmp_path, dim):
    ds = canonical()
    count = ds.sizes[dim]
    for i in range(count):
        to_cfgrib_layout(ds.isel({dim: [i]})).to_netcdf(tmp_path / f"{(7 * i + 3) % count}.nc")
    assert_canonical(open_ensembles(f"{tmp_path}/*.nc"), ds)


def test_files_of_each_start_lead_variable_and_level_join(tmp_path):
    ds = canonical().isel(init_time=[0, 2], lead_time=[1, 3])
    for init, lead in np.ndindex(2, 2):
        part = ds.isel(init_time=init, lead_time=lead)
        name = tmp_path / f"{init}{lead}"
        part[["2m_temperature", "mean_sea_level_pressure"]].to_netcdf(f"{name}.nc")
        for level in (0, 1):
            part[["temperature"]].isel(level=level).to_netcdf(f"{name}{level}.nc")
    assert_canonical(open_ensembles(f"{tmp_path}/*.nc", levels=[850, 500]), ds)
    one = open_ensembles(f"{tmp_path}/*.nc", variables=["temperature"], levels=[500])
    assert_canonical(one, ds[["temperature"]].sel(level=[500]))


def test_many_files_make_a_graph_that_grows_with_chunks_alone(tmp_path):
    ds = canonical()[["2m_temperature"]].isel(init_time=[0])
    for i in range(12):
        later = ds.assign_coords(init_time=ds.init_time + i * 12 * HOUR)
        later.drop_vars("valid_time").to_netcdf(tmp_path / f"{i:02}.nc")
    result = open_ensembles(f"{tmp_path}/*.nc")
    assert result["2m_temperature"].data.npartitions == 12
    assert len(dict(result["2m_temperature"].__dask_graph__())) <= 12 * 10


def test_opening_reads_one_field_of_each_variable_and_no_more(tmp_path, monkeypatch):
    ds = to_weatherbench(canonical())
    for i in (0, 1, 2):
        ds.isel(time=[i]).to_netcdf(tmp_path / f"{i}.nc")
    read = []
    indexing = xr.backends.netCDF4_.NetCDF4ArrayWrapper.__getitem__

    def spy(self, key):
        result = indexing(self, key)
        if result.ndim > 2:
            read.append(result.size)
        return result

    monkeypatch.setattr(xr.backends.netCDF4_.NetCDF4ArrayWrapper, "__getitem__", spy)
    result = open_ensembles(f"{tmp_path}/*.nc", chunks={"number": 1, "lead_time": 1})
    assert sorted(read) == [18, 18, 36]
    result["2m_temperature"].isel(init_time=2, lead_time=3, number=1).load()
    assert read[3:] == [18]


def test_chunks_are_whole_fields_in_multiples_of_those_stored(tmp_path):
    encoding = {"temperature": {"chunks": (1, 1, 2, 2, 2, 6)}}
    to_weatherbench(canonical()[["temperature"]]).to_zarr(
        tmp_path / "a.zarr", zarr_format=2, consolidated=True, encoding=encoding
    )
    result = open_ensembles(tmp_path / "a.zarr")
    assert result["temperature"].chunks == ((3,), (4,), (5,), (2,), (3,), (6,))
    result = open_ensembles(tmp_path / "a.zarr", chunks={"number": 2, "init_time": 1})
    assert result["temperature"].chunks == ((1, 1, 1), (4,), (2, 2, 1), (2,), (3,), (6,))


def test_large_forecasts_are_divided_into_lead_times_of_whole_fields():
    shape = (1, 2, 40, 361, 720)
    ds = xr.Dataset(
        {"2m_temperature": (DIMS, np.broadcast_to(np.float32(280), shape), {"units": "K"})},
        {
            "init_time": INITS[:1],
            "lead_time": LEADS[:2],
            "number": np.arange(40),
            "latitude": np.linspace(-90, 90, 361),
            "longitude": np.arange(720) / 2,
        },
    )
    assert open_ensembles(ds)["2m_temperature"].data.chunksize == (1, 1, 40, 361, 720)


def test_a_missing_member_stays_missing_values():
    ds = canonical()
    ds["2m_temperature"][0, :, 0] = np.nan
    ds["2m_temperature"][1, 2, 3] = np.nan
    result = open_ensembles(to_weatherbench(ds))
    assert_canonical(result, ds)
    assert int(result["2m_temperature"].isnull().sum()) == 5 * 18


def test_static_fields_stay_fields():
    ds = canonical()
    mask = xr.DataArray(np.ones((3, 6), "f4"), dims=DIMS[3:], attrs={"units": "1"})
    ds["land_sea_mask"] = mask.expand_dims(init_time=ds.init_time)
    ds["land_sea_mask"].attrs["units"] = "1"
    ds["my_mask"] = mask
    result = open_ensembles(ds)
    assert result["land_sea_mask"].dims == result["my_mask"].dims == DIMS[3:]
    assert result["2m_temperature"].dims == DIMS


def test_other_units_and_names_can_be_given():
    ds = canonical()[["2m_temperature"]]
    theirs = (ds - 273.15).rename({"2m_temperature": "hut", "number": "sample"}).drop_attrs()
    theirs = theirs.assign_coords(lead_time=[6, 12, 24, 48]).drop_vars("valid_time")
    result = open_ensembles(
        theirs,
        rename={"hut": "2m_temperature", "sample": "number"},
        units={"hut": "degC", "lead_time": "hours"},
    )
    xr.testing.assert_allclose(result, ds, rtol=1e-6)


def test_what_is_not_chosen_cannot_be_in_the_way():
    ds = canonical()
    ds["no_units"] = ds["2m_temperature"].drop_attrs()
    ds["mean"] = ds["2m_temperature"].mean("number")
    assert_canonical(open_ensembles(ds, variables=["2m_temperature"]), canonical())


def test_the_recorded_layout_gives_the_users_own_data_back():
    theirs = to_weatherbench(canonical()).isel(latitude=slice(None, None, -1))
    ours = open_ensembles(theirs)
    layout = Layout.from_dict(json.loads(ours.attrs["weatherdiff_layout"]))
    xr.testing.assert_equal(layout.restore(ours), theirs)


def refused(error, words, source, **arguments):
    with pytest.raises(error, match=words) as caught:
        open_ensembles(source, **arguments)
    assert type(caught.value) is error
    return caught.value.exit_code


def numbers(ds, values, **attrs):
    """Lead times as plain numbers; without valid times, which would not be their sums."""
    return ds.drop_vars("valid_time").assign_coords(lead_time=("lead_time", values, attrs))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda ds: numbers(ds, [6, 12, 24, 48]), DimensionError, "int64 and has no units"),
        (lambda ds: numbers(ds, [6.0, 12, 24, 48]), DimensionError, "float64 and has no units"),
        (
            lambda ds: numbers(ds, [6, 12, 24, 48], units="fortnights"),
            DimensionError,
            "units 'fortnights', expected units such as 'hours'",
        ),
        (
            lambda ds: numbers(ds, np.array([6, 12, 24, 48], "timedelta64[ns]")),
            DimensionError,
            "holds 6e-09 s, expected whole seconds",
        ),
        (
            lambda ds: numbers(ds, LEADS.astype(int), units="hours"),
            DimensionError,
            "from 0 to 100 years",
        ),
        (lambda ds: numbers(ds, -LEADS), DimensionError, "holds -21600 s"),
        (
            lambda ds: numbers(ds, np.array(["NaT", 1, 2, 3], "timedelta64[h]").astype("m8[ns]")),
            DimensionError,
            "holds nan s",
        ),
        (
            lambda ds: numbers(ds, np.array(list("abcd"))),
            DimensionError,
            "expected durations",
        ),
        (
            lambda ds: ds.isel(lead_time=0, drop=True).drop_vars("valid_time"),
            DimensionError,
            "no lead time among the dimensions .*init_time",
        ),
        (
            lambda ds: (
                ds.isel(lead_time=0, drop=True).drop_vars("valid_time").rename(init_time="time")
            ),
            DimensionError,
            "no lead time.* and time may be the start or the valid time",
        ),
        (
            lambda ds: ds.drop_vars("valid_time").rename(init_time="valid_time"),
            DimensionError,
            "a valid time and a lead time but no initial time",
        ),
        (
            lambda ds: ds.isel(init_time=0, drop=True).drop_vars("valid_time"),
            DimensionError,
            "a lead time but no initial time",
        ),
        (
            lambda ds: ds.rename(init_time="time").assign_coords(
                valid_time=ds.valid_time.rename(init_time="time") + HOUR
            ),
            InputError,
            "valid_time is 2020-02-28T07:00:00 where init_time is 2020-02-28T00:00:00 and "
            "lead_time 21600 seconds, expected their sum",
        ),
        (
            lambda ds: ds.assign_coords(valid_time=("number", INITS[[0, 1, 2, 0, 1]])),
            DimensionError,
            "valid_time is of type .* with dimensions",
        ),
        (
            lambda ds: ds.drop_vars("valid_time").assign_coords(init_time=[0, 12, 24]),
            DimensionError,
            "init_time is of type int64, expected dates",
        ),
        (
            lambda ds: ds.assign_coords(
                init_time=xr.date_range("2001", periods=3, calendar="noleap", use_cftime=True)
            ),
            InputError,
            "initial times are in the calendar noleap, the valid times in .* proleptic_gregorian",
        ),
        (
            lambda ds: ds.drop_vars(["valid_time", "lead_time"]),
            DimensionError,
            "dimension lead_time has no coordinate",
        ),
        (
            lambda ds: (
                ds.drop_vars("valid_time")
                .rename(init_time="time")
                .assign_coords(
                    init_time=(("time", "lead_time"), (ds.init_time - ds.lead_time).values)
                )
            ),
            DimensionError,
            "init_time has dimensions .*arrange the forecasts by initial time",
        ),
        (
            lambda ds: ds.rename(number="sample"),
            DimensionError,
            "unexpected dimension sample of size 5.*rename={'sample': 'number'}",
        ),
        (
            lambda ds: ds.assign(mean=ds["2m_temperature"].mean("number", keep_attrs=True)),
            DimensionError,
            "mean has dimensions .* without number",
        ),
        (
            lambda ds: ds.isel(init_time=[0, 1, 1]),
            InputError,
            "1 values of init_time occur twice, the first is 2020-02-28 12:00",
        ),
        (lambda ds: ds.isel(lead_time=[0, 1, 1, 1]), InputError, "2 values of lead_time"),
        (lambda ds: ds.isel(number=[0, 0]), InputError, "1 values of number occur twice"),
        (lambda ds: ds.drop_vars("latitude"), DimensionError, "no coordinate latitude"),
        (lambda ds: ds.drop_attrs(), UnitsError, "has no units"),
        (
            lambda ds: ds.assign({"2m_temperature": ds["2m_temperature"] - 273}),
            UnitsError,
            "it looks like degC",
        ),
        (lambda ds: ds.drop_vars(list(ds)).assign(crs=0), InputError, "no variable on latitude"),
    ],
)
def test_what_cannot_be_understood_is_refused(change, error, words):
    with xr.set_options(keep_attrs=True):
        ds = change(canonical())
    assert refused(error, words, ds) == 65


@pytest.mark.parametrize("dim", ["init_time", "lead_time", "number", "level"])
def test_an_empty_selection_is_refused(dim):
    with pytest.raises(InputError, match=f"nothing along {dim}"):
        open_ensembles(canonical()[["temperature"]].isel({dim: []}))


def test_an_absent_variable_level_or_name_is_refused():
    ds = canonical()
    assert refused(InputError, "no variable '2m_temp', do you mean", ds, variables=["2m_temp"])
    assert refused(InputError, r"no level \[300\] hPa", ds, levels=[300]) == 65
    assert refused(ConfigError, "rename names 'ensmble'", ds, rename={"ensmble": "number"}) == 78
    assert refused(ConfigError, "units names 'q'", ds, units={"q": "K"}) == 78


def test_what_does_not_exist_is_refused_with_the_code_to_try_again(tmp_path):
    assert refused(MissingInputError, "nothing matches", f"{tmp_path}/*.nc") == 66


def test_files_that_do_not_fit_together_are_refused_by_name(tmp_path):
    ds = canonical()[["2m_temperature"]]
    ds.isel(init_time=[0]).to_netcdf(tmp_path / "a.nc")
    second = ds.isel(init_time=[1])

    def other(ds):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.nc"
        ds.to_netcdf(path)
        return [tmp_path / "a.nc", path]

    words = r"a\.nc has 4 lead_time from .* in .*1\.nc has 2 lead_time .* the same lead_time"
    assert refused(InputError, words, other(second.isel(lead_time=[0, 1]))) == 65
    words = r"a\.nc has 5 number from 1 to 5 .* 3 number from 1"
    assert refused(InputError, words, other(second.isel(number=[0, 1, 2]))) == 65
    moved = second.assign_coords(latitude=[-44.0, 0, 44])
    words = r"a\.nc and .*3\.nc: latitude differs"
    assert refused(GridMismatchError, words, other(moved)) == 65
    assert refused(InputError, "occur twice", other(ds.isel(init_time=[0]))) == 65
    bare = second.drop_vars("valid_time").assign_coords(lead_time=[6, 12, 24, 48])
    assert refused(DimensionError, r"5\.nc: lead_time is of type int64", other(bare)) == 65


def test_a_variable_without_the_first_lead_time_is_refused_until_variables_are_chosen(tmp_path):
    ds = canonical()
    ds[["2m_temperature"]].to_netcdf(tmp_path / "a.nc")
    ds[["mean_sea_level_pressure"]].isel(lead_time=[1, 2, 3]).to_netcdf(tmp_path / "b.nc")
    words = "2m_temperature in .*a.nc has 4 lead_time .*mean_sea_level_pressure in .* has 3"
    assert refused(InputError, words, f"{tmp_path}/*.nc") == 65
    one = open_ensembles(f"{tmp_path}/*.nc", variables=["2m_temperature"])
    assert_canonical(one, ds)
