import cftime
import numpy as np
import pytest
import xarray as xr

from weatherdiff.errors import DimensionError, InputError, UnitsError
from weatherdiff.schema import (
    DIMENSIONS,
    VARIABLES,
    canonical_names,
    check_plausible,
    convert_units,
    validate,
)
from weatherdiff.units import unit_conversion

TIMES = np.datetime64("2001-01-01", "ns") + np.arange(4) * np.timedelta64(6, "h")


def analysis():
    """A canonical data set with a surface, a levelled and a static variable."""
    coords = {
        "time": TIMES,
        "level": [500.0, 850.0],
        "latitude": [50.0, 51.0, 52.0],
        "longitude": [-2.0, -1.0, 0.0, 1.0, 2.0],
    }
    surface = ("time", "latitude", "longitude")
    levels = ("time", "level", "latitude", "longitude")
    return xr.Dataset(
        {
            "2m_temperature": (surface, np.full((4, 3, 5), 285.0, "f4"), {"units": "K"}),
            "temperature": (levels, np.full((4, 2, 3, 5), 255.0, "f4"), {"units": "K"}),
            "land_sea_mask": (surface[1:], np.full((3, 5), 0.5, "f4"), {"units": "1"}),
        },
        coords,
    )


def labelled(ds, units):
    return ds.assign({name: field.assign_attrs(units=units) for name, field in ds.items()})


def field(name, dims=("lat", "lon"), **attrs):
    return xr.Dataset({name: (dims, np.ones((2,) * len(dims)), attrs)})


def test_every_known_variable_has_consistent_entries():
    for name, variable in VARIABLES.items():
        assert variable.name == name
        assert unit_conversion(variable.units, variable.units) == (1, 0)
        assert variable.low < variable.high
        assert variable.place in ("surface", "2 m", "10 m", "level", "static")


def test_no_alias_means_two_variables_in_the_same_place():
    on_levels, elsewhere = [], []
    for variable in VARIABLES.values():
        aliases = [*variable.aliases.split(), variable.name]
        (on_levels if variable.place == "level" else elsewhere).extend(aliases)
    assert len(set(on_levels)) == len(on_levels)
    assert len(set(elsewhere)) == len(elsewhere)
    dimensions = [name for aliases in DIMENSIONS.values() for name in aliases]
    assert len(set(dimensions)) == len(dimensions)


@pytest.mark.parametrize(
    ("own", "canonical"),
    [
        ("t2m", "2m_temperature"),
        ("Tair", "2m_temperature"),
        ("tas", "2m_temperature"),
        ("Qair", "2m_specific_humidity"),
        ("PSurf", "surface_pressure"),
        ("sp", "surface_pressure"),
        ("msl", "mean_sea_level_pressure"),
        ("slp", "mean_sea_level_pressure"),
        ("u10", "10m_u_component_of_wind"),
        ("SWdown", "surface_downwelling_shortwave_flux"),
        ("tp", "total_precipitation"),
        ("lsm", "land_sea_mask"),
        ("z", "geopotential_at_surface"),
        ("mean_sea_level_pressure", "mean_sea_level_pressure"),
        ("my_index", "my_index"),
        ("air", "air"),
    ],
)
def test_a_surface_variable_is_known_by_its_common_names(own, canonical):
    ds = field(own)
    assert canonical_names(ds) == {
        "lat": "latitude",
        "lon": "longitude",
        **({own: canonical} if own != canonical else {}),
    }


@pytest.mark.parametrize(
    ("own", "canonical"),
    [
        ("t", "temperature"),
        ("air", "temperature"),
        ("z", "geopotential"),
        ("hgt", "geopotential_height"),
        ("q", "specific_humidity"),
        ("uwnd", "u_component_of_wind"),
    ],
)
@pytest.mark.parametrize("level", ["isobaricInhPa", "plev", "pressure_level", "level"])
def test_a_variable_on_levels_is_known_by_its_common_names(own, canonical, level):
    names = canonical_names(field(own, (level, "lat", "lon")))
    assert names[own] == canonical
    assert names.get(level, level) == "level"


def test_names_that_are_already_canonical_need_no_change():
    assert canonical_names(analysis()) == {}


@pytest.mark.parametrize(
    ("coords", "attrs", "expected"),
    [
        ({}, {"standard_name": "surface_air_pressure"}, "surface_pressure"),
        ({}, {"standard_name": "air_pressure_at_sea_level"}, "mean_sea_level_pressure"),
        ({"height": 2.0}, {"standard_name": "air_temperature"}, "2m_temperature"),
        ({"height": 10.0}, {"standard_name": "eastward_wind"}, "10m_u_component_of_wind"),
        ({"plev": 5e4}, {"standard_name": "air_temperature"}, "temperature"),
        # where the place is not told, neither is the variable
        ({}, {"standard_name": "air_temperature"}, None),
        ({"height": 100.0}, {"standard_name": "eastward_wind"}, None),
        # CMIP's tasmax has the standard name of the temperature
        (
            {"height": 2.0},
            {"standard_name": "air_temperature", "cell_methods": "time: maximum"},
            None,
        ),
        ({}, {}, None),
    ],
)
def test_a_standard_name_counts_where_it_is_unambiguous(coords, attrs, expected):
    ds = field("theirs", **attrs).assign_coords(coords)
    assert canonical_names(ds).get("theirs") == expected


def test_coordinates_are_known_by_their_cf_attributes():
    ds = xr.Dataset(
        {"slp": (("rows", "columns"), np.ones((2, 3)))},
        {
            "rows": ("rows", [1.0, 2.0], {"standard_name": "latitude"}),
            "columns": ("columns", [1.0, 2.0, 3.0], {"units": "degrees_east"}),
        },
    )
    names = canonical_names(ds)
    assert (names["rows"], names["columns"]) == ("latitude", "longitude")


def test_forecast_dimensions_are_known_by_other_names():
    names = canonical_names(field("x", ("step", "realization", "lat", "lon")))
    assert (names["step"], names["realization"]) == ("lead_time", "number")


def test_the_users_own_choice_of_names_comes_first():
    ds = field("t2m", ("y", "lon"))
    names = canonical_names(ds, {"t2m": "hut_temperature", "y": "latitude", "absent": "z"})
    assert names == {"t2m": "hut_temperature", "y": "latitude", "lon": "longitude"}


def test_two_variables_of_one_canonical_name_are_refused():
    ds = field("t2m").merge(field("Tair"))
    with pytest.raises(InputError, match="t2m and Tair are both 2m_temperature") as caught:
        canonical_names(ds)
    assert caught.value.exit_code == 65
    assert canonical_names(ds, {"Tair": "wfde5_temperature"})["t2m"] == "2m_temperature"


def test_units_are_converted_lazily_to_float32_and_remembered():
    ds = analysis().assign(own=(("latitude", "longitude"), np.arange(15).reshape(3, 5)))
    ds["own"].attrs["units"] = "widgets"
    ds["2m_temperature"] = (ds["2m_temperature"] - 273.15).assign_attrs(units="degC")
    ds["level"] = ("level", [50000, 85000], {"units": "Pa"})
    converted, had = convert_units(ds.chunk())
    assert converted["2m_temperature"].chunks is not None
    assert (had["2m_temperature"], had["own"]) == ("degC", "widgets")
    np.testing.assert_allclose(converted["2m_temperature"], 285, rtol=1e-6)
    assert {str(v.dtype) for v in converted.data_vars.values()} == {"float32"}
    np.testing.assert_array_equal(converted["level"], [500, 850])
    assert converted["2m_temperature"].attrs["units"] == "K"
    assert converted["own"].attrs["units"] == "widgets"


def test_missing_units_are_refused_unless_given():
    ds = analysis()
    del ds["temperature"].attrs["units"]
    ds["level"].attrs["units"] = "hPa"
    with pytest.raises(
        UnitsError, match=r"temperature has no units; pass them as units="
    ) as caught:
        convert_units(ds)
    assert caught.value.exit_code == 65
    _, had = convert_units(ds, {"temperature": "K"})
    assert had["temperature"] == "K"


def test_units_given_replace_wrong_ones():
    ds = analysis()[["2m_temperature"]] - 273.15
    ds["2m_temperature"].attrs["units"] = "K"
    converted, _ = convert_units(ds, {"2m_temperature": "degC"})
    np.testing.assert_allclose(converted["2m_temperature"], 285, rtol=1e-6)


def test_unknown_units_of_a_known_variable_are_refused_by_its_name():
    ds = analysis()
    ds["2m_temperature"].attrs["units"] = "furlong"
    with pytest.raises(UnitsError, match=r"2m_temperature: units 'furlong' cannot"):
        convert_units(ds)


def test_levels_without_units_are_pressures_if_all_are_levels_of_era5():
    converted, had = convert_units(analysis())
    assert had["level"] == "hPa"
    assert converted["level"].attrs["units"] == "hPa"
    with pytest.raises(UnitsError, match="level has no units"):
        convert_units(analysis().assign_coords(level=[1, 2]))
    with pytest.raises(UnitsError, match="level has no units"):
        convert_units(analysis().assign_coords(level=[137, 850]))


@pytest.mark.parametrize(
    ("name", "values", "advice"),
    [
        ("2m_temperature", 15.0, "it looks like degC"),
        ("mean_sea_level_pressure", 1013.0, "it looks like hPa"),
        ("2m_specific_humidity", 8.0, "it looks like g kg-1"),
        ("total_cloud_cover", 45.0, "it looks like %"),
        ("2m_temperature", 1e9, "the units or the name are wrong"),
        ("10m_wind_speed", -3.0, "the units or the name are wrong"),
    ],
)
def test_values_that_belie_their_units_are_refused_with_the_likely_ones(name, values, advice):
    ds = xr.Dataset({name: (("time", "latitude"), np.full((2, 3), values))})
    with pytest.raises(UnitsError, match=advice) as caught:
        check_plausible(ds)
    assert caught.value.exit_code == 65


def test_infinite_values_are_not_taken_for_other_units():
    ds = analysis()
    ds["2m_temperature"][0, 1, 2] = np.inf
    check_plausible(ds)


def test_a_field_of_missing_values_and_an_unknown_variable_are_plausible():
    ds = analysis()
    ds["2m_temperature"][0] = np.nan
    ds["own"] = ds["temperature"] * 1e9
    check_plausible(ds)


def test_a_canonical_analysis_is_valid():
    validate(analysis())
    validate(analysis()[["land_sea_mask"]])
    noleap = [cftime.DatetimeNoLeap(2001, 1, day) for day in range(1, 5)]
    validate(analysis().assign_coords(time=noleap))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda ds: ds[[]], InputError, "no variable"),
        (lambda ds: ds.transpose("longitude", ...), DimensionError, "expected one of"),
        (lambda ds: ds.rename(level="model_level"), DimensionError, "expected one of"),
        (lambda ds: ds.expand_dims("number"), DimensionError, "expected one of"),
        (lambda ds: ds.drop_vars("longitude"), DimensionError, "longitude has no coordinate"),
        (lambda ds: ds.assign_coords(time=np.arange(4)), DimensionError, "expected dates"),
        (
            lambda ds: ds.isel(latitude=slice(None, None, -1)),
            InputError,
            "latitude is not strictly",
        ),
        (lambda ds: ds.isel(time=[0, 1, 1, 2]), InputError, "time is not strictly"),
        (lambda ds: ds.isel(time=[1, 0, 2, 3]), InputError, "time is not strictly"),
        (lambda ds: ds.isel(level=[0, 0]), InputError, "level is not strictly"),
        (lambda ds: ds.drop_attrs(), UnitsError, "has no units"),
        (lambda ds: labelled(ds, "degC"), UnitsError, "expected 'K'"),
        (lambda ds: ds.astype(int, keep_attrs=True), InputError, "expected floating"),
        (lambda ds: labelled(ds[["temperature"]] - 273.15, "K"), UnitsError, "is labelled K but"),
    ],
)
def test_what_is_not_a_canonical_analysis_is_refused(change, error, words):
    with pytest.raises(error, match=words) as caught:
        validate(change(analysis()))
    assert type(caught.value) is error
    assert caught.value.exit_code == 65


def test_levels_may_come_in_any_order():
    validate(analysis().isel(level=[1, 0]))
