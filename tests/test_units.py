import pytest

from weatherdiff.errors import UnitsError
from weatherdiff.units import likely_units, unit_conversion


@pytest.mark.parametrize(
    ("units", "canonical", "value", "expected"),
    [
        ("degC", "K", 20, 293.15),
        ("°C", "K", -273.15, 0),
        ("degF", "K", 32, 273.15),
        ("kelvin", "K", 280, 280),
        ("hPa", "Pa", 1013.25, 101325),
        ("millibars", "Pa", 1000, 100000),
        ("Pa", "hPa", 85000, 850),
        ("g/kg", "kg kg**-1", 8, 0.008),
        ("g kg^-1", "kg kg**-1", 8, 0.008),
        ("%", "1", 45, 0.45),
        ("(0 - 1)", "1", 0.45, 0.45),
        ("km/h", "m s**-1", 36, 10),
        ("knots", "m s**-1", 3600, 1852),
        ("mm", "m", 5, 0.005),
        ("kg m-2", "m", 5, 0.005),
        ("mm/day", "kg m**-2 s**-1", 86400, 1),
        ("m2/s2", "m**2 s**-2", 7, 7),
        ("W/m^2", "W m**-2", 7, 7),
    ],
)
def test_values_keep_their_meaning_when_units_change(units, canonical, value, expected):
    factor, offset = unit_conversion(units, canonical)
    assert value * factor + offset == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    "spelling", ["kg kg**-1", "kg kg-1", "kg/kg", "kg kg^-1", " kg  kg-1 ", "kg.kg-1", "kg*kg**-1"]
)
def test_every_spelling_of_the_same_units_is_the_same(spelling):
    assert unit_conversion(spelling, "kg kg**-1") == (1, 0)


@pytest.mark.parametrize("units", ["furlong", "Pa", "k", "KG"])
def test_units_of_something_else_are_refused_with_those_known(units):
    with pytest.raises(UnitsError, match=r"cannot be turned into K; known are: K, degC") as caught:
        unit_conversion(units, "K")
    assert caught.value.exit_code == 65


def test_case_matters_since_milli_is_not_mega():
    with pytest.raises(UnitsError):
        unit_conversion("MPA", "Pa")


def test_accumulated_energy_is_refused_with_the_way_to_a_flux():
    with pytest.raises(UnitsError, match=r"divide by that time in seconds \(3600 for hourly"):
        unit_conversion("J m**-2", "W m**-2")


def test_unknown_canonical_units_are_refused():
    with pytest.raises(UnitsError, match="none others"):
        unit_conversion("K", "widgets")


def test_a_value_betrays_its_units_by_its_size():
    assert likely_units(1013.0, "Pa", 3e4, 1.1e5) == "hPa"
    assert likely_units(45.0, "1", 0, 1) == "%"
    assert likely_units(1e9, "K", 170, 340) is None
