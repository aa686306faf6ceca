"""Row 11 of the faults: fields that no atmosphere has are refused, with variable and time."""

import numpy as np
import pytest
import xarray as xr

from weatherdiff import open_fields
from weatherdiff.data.soundness import require_sound
from weatherdiff.errors import InputError, UnitsError

LEVELS = [1000.0, 850.0, 700.0, 500.0, 300.0, 250.0, 50.0]
TIMES = np.datetime64("2018-07-20", "ns") + np.arange(3) * np.timedelta64(6, "h")


def fields():
    """A standard atmosphere with waves."""
    rng = np.random.default_rng(0)
    pressure = np.array(LEVELS)
    height = 44331 * (1 - (pressure / 1013.25) ** 0.1903)
    warmth = np.maximum(288 - 0.0065 * height, 216.65)
    noise = rng.normal(size=(3, 7, 5, 8))

    def aloft(column, spread):
        values = column[:, None, None] + spread * noise
        return (("time", "level", "latitude", "longitude"), values.astype("f4"))

    surface = ("time", "latitude", "longitude")
    ds = xr.Dataset(
        {
            "temperature": aloft(warmth, 5),
            "geopotential": aloft(9.81 * height, 300),
            "specific_humidity": aloft(0.01 * (pressure / 1000) ** 3, 1e-5),
            "u_component_of_wind": aloft(np.linspace(2, 30, 7), 5),
            "mean_sea_level_pressure": (surface, (1.013e5 + 500 * noise[:, 0]).astype("f4")),
            "2m_temperature": (surface, (285 + 5 * noise[:, 1]).astype("f4")),
            "total_cloud_cover": (surface, np.clip(0.5 + 0.4 * noise[:, 2], 0, 1).astype("f4")),
        },
        {
            "time": TIMES,
            "level": LEVELS,
            "latitude": np.linspace(-60, 60, 5),
            "longitude": np.arange(8) * 45.0,
        },
    )
    units = {
        "temperature": "K", "geopotential": "m**2 s**-2", "specific_humidity": "kg kg**-1",
        "u_component_of_wind": "m s**-1", "mean_sea_level_pressure": "Pa", "2m_temperature": "K",
        "total_cloud_cover": "1",
    }  # fmt: skip
    for name, unit in units.items():
        ds[name].attrs["units"] = unit
    ds["level"].attrs["units"] = "hPa"
    return ds


def poke(name, value, where):
    def change(ds):
        ds[name][where] = value

    return change


def scale(name, factor, offset=0.0, when=slice(None)):
    def change(ds):
        ds[name][when] = ds[name][when] * factor + offset

    return change


def shuffle(name, order):
    def change(ds):
        ds[name].values[:] = ds[name].values[:, order]

    return change


SWAPPED = [0, 3, 2, 1, 4, 5, 6]
FAULTS = {
    "one NaN": (
        poke("2m_temperature", np.nan, (1, 2, 3)),
        InputError, r"2m_temperature at 2018-07-20T06:00: 2\.5% of its values are missing",
    ),
    "a field of NaN": (
        poke("temperature", np.nan, (2, 4)),
        InputError, r"temperature at 2018-07-20T12:00: 14\.3% of its values are missing",
    ),
    "Inf": (
        poke("mean_sea_level_pressure", np.inf, (0, 0, 0)),
        InputError, r"mean_sea_level_pressure at 2018-07-20T00:00: 2\.5% of its .* infinite",
    ),
    "minus Inf aloft": (
        poke("u_component_of_wind", -np.inf, (1, 6, 4, 7)),
        InputError, r"u_component_of_wind at 2018-07-20T06:00: 0\.4% of its values are infinite",
    ),
    "hPa as Pa": (
        scale("mean_sea_level_pressure", 0.01),
        UnitsError, r"mean_sea_level_pressure.*looks like hPa",
    ),
    "hPa as Pa at a later time": (
        scale("mean_sea_level_pressure", 0.01, when=2),
        UnitsError, r"mean_sea_level_pressure at 2018-07-20T12:00.*100\.0%.*looks like hPa",
    ),
    "degC as K": (
        scale("2m_temperature", 1, -273.15),
        UnitsError, r"2m_temperature.*looks like degC",
    ),
    "degC as K at a later time": (
        scale("temperature", 1, -273.15, when=1),
        UnitsError, r"temperature at 2018-07-20T06:00: its mean is .*100\.0%",
    ),
    "percent as fraction": (
        scale("total_cloud_cover", 100, when=1),
        UnitsError, r"total_cloud_cover at 2018-07-20T06:00: its mean is .*100\.0%.*looks like %",
    ),
    "more cloud than sky": (
        poke("total_cloud_cover", 1.5, (1, 2, 3)),
        InputError, r"total_cloud_cover at 2018-07-20T06:00: 2\.5% .* out of .*-0\.01 to 1\.01 1",
    ),
    "a fill value": (
        poke("2m_temperature", -999.0, (2, 2, 3)),
        InputError, r"2m_temperature at 2018-07-20T12:00: 2\.5% .* out of .* the worst is -999",
    ),
    "negative humidity": (
        poke("specific_humidity", -0.5, (1, 0, 0, 0)),
        InputError, r"specific_humidity at 2018-07-20T06:00: 0\.4% of .* the worst is -0\.5",
    ),
    "geopotential shuffled": (
        shuffle("geopotential", SWAPPED),
        InputError, r"geopotential at 2018-07-20T00:00: .*% of its levels are not in the order",
    ),
    "temperature shuffled": (
        shuffle("temperature", SWAPPED),
        InputError, r"temperature at 2018-07-20T00:00: .*% of its levels are not in the order",
    ),
    "humidity shuffled": (
        shuffle("specific_humidity", SWAPPED),
        InputError, r"specific_humidity at 2018-07-20T00:00: .* of its levels are not in the order",
    ),
    "geopotential upside down": (
        shuffle("geopotential", [6, 5, 4, 3, 2, 1, 0]),
        InputError, r"geopotential at 2018-07-20T00:00: 85\.7% of its levels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_fields_that_no_atmosphere_has_are_refused(fault):
    change, error, words = FAULTS[fault]
    ds = fields()
    change(ds)
    with pytest.raises(error, match=words) as caught:
        require_sound(ds)
    assert caught.value.exit_code == 65


@pytest.mark.parametrize("fault", FAULTS)
def test_the_same_faults_are_found_in_files(tmp_path, fault):
    change, error, words = FAULTS[fault]
    ds = fields()
    change(ds)
    ds.to_netcdf(tmp_path / "a.nc")
    with pytest.raises(error) as caught:
        require_sound(open_fields(tmp_path / "a.nc"))
    assert str(caught.value).count(words.partition(" ")[0].partition(".")[0])


def test_a_sound_atmosphere_passes_unchanged(tmp_path):
    xr.testing.assert_identical(require_sound(fields()), fields())
    fields().to_netcdf(tmp_path / "a.nc")
    opened = require_sound(open_fields(tmp_path / "a.nc", levels=[50, 500, 850]))
    np.testing.assert_array_equal(
        opened["temperature"], fields()["temperature"].sel(level=[50, 500, 850])
    )


def test_the_order_in_which_levels_are_stored_does_not_matter():
    require_sound(fields().isel(level=[3, 0, 6, 1, 5, 2, 4]))


def test_cells_that_are_always_missing_may_be_declared():
    ds = fields()[["2m_temperature"]]
    ds["2m_temperature"][:, 0] = np.nan
    sea = ds.isel(time=0, drop=True).isnull()
    require_sound(ds, missing=sea)
    ds["2m_temperature"][1, 1, 1] = np.nan
    with pytest.raises(InputError, match=r"2m_temperature at 2018-07-20T06:00: 2\.5%"):
        require_sound(ds, missing=sea)
