"""Row 13 of the faults: times are UTC, sorted and there once, or refused."""

import time as clock

import netCDF4
import numpy as np
import pytest
import xarray as xr

from weatherdiff import open_fields
from weatherdiff.errors import DimensionError, InputError, WeatherdiffError


def write(path, values, units, calendar="standard", *, kind="f8", fill=None):
    with netCDF4.Dataset(path, "w") as nc:
        for name, coordinate in (("lat", [0.0, 1.0, 2.0]), ("lon", [0.0, 1.0, 2.0, 3.0])):
            nc.createDimension(name, len(coordinate))
            nc.createVariable(name, "f8", (name,))[:] = coordinate
        nc.createDimension("time", len(values))
        times = nc.createVariable("time", kind, ("time",), fill_value=fill)
        times.units = units
        if calendar is not None:
            times.calendar = calendar
        times[:] = values
        field = nc.createVariable("t2m", "f4", ("time", "lat", "lon"))
        field.units = "K"
        field[:] = 280 + np.arange(len(values))[:, None, None] + np.zeros((1, 3, 4))
    return path


def opened(path):
    ds = open_fields(path)
    return [str(t)[:16] for t in ds["time"].values], ds["2m_temperature"][:, 0, 0].values - 280


UNITS = {
    "hours": ([0, 6, 12], "hours since 2018-07-20"),
    "days": ([0, 0.25, 0.5], "days since 2018-07-20"),
    "minutes of an earlier day": ([1440, 1800, 2160], "minutes since 2018-07-19 00:00:00"),
    "seconds of the epoch": (
        [1532044800, 1532066400, 1532088000], "seconds since 1970-01-01 00:00:00",
    ),
    "Z": ([0, 6, 12], "hours since 2018-07-20T00:00:00Z"),
    "UTC offset +3": ([0, 6, 12], "hours since 2018-07-20 03:00:00 +03:00"),
    "UTC offset -5:30": ([0, 6, 12], "hours since 2018-07-19 18:30:00 -05:30"),
    "+0000": ([0, 6, 12], "hours since 2018-07-20 00:00:00 +0000"),
    "proleptic": ([0, 6, 12], "hours since 2018-07-20"),
    "since the year 1": ([736894.0, 736894.25, 736894.5], "days since 0001-01-01"),
}  # fmt: skip


@pytest.mark.parametrize("units", UNITS)
def test_offsets_and_units_give_utc(tmp_path, units):
    values, text = UNITS[units]
    calendar = "proleptic_gregorian" if units[:4] in ("prol", "sinc") else "standard"
    write(tmp_path / "a.nc", values, text, calendar)
    times, _ = opened(tmp_path / "a.nc")
    assert times == ["2018-07-20T00:00", "2018-07-20T06:00", "2018-07-20T12:00"]


@pytest.mark.parametrize(
    "units",
    ["hours since 2018-07-20 00:00 EST", "hours since 2018-07-20 00:00 Europe/Paris",
     "hours since yesterday", "hours", "fortnights since 2018-07-20", "months since 2018-07-20",
     "K", ""],
)  # fmt: skip
def test_units_that_are_not_understood_are_refused(tmp_path, units):
    write(tmp_path / "a.nc", [0, 6, 12], units)
    with pytest.raises(WeatherdiffError, match=r"a\.nc|time") as caught:
        opened(tmp_path / "a.nc")
    assert caught.value.exit_code == 65


def test_a_leap_day_is_one_day(tmp_path):
    write(tmp_path / "a.nc", [0, 1, 2, 3], "days since 2020-02-27")
    assert opened(tmp_path / "a.nc")[0] == [
        "2020-02-27T00:00", "2020-02-28T00:00", "2020-02-29T00:00", "2020-03-01T00:00",
    ]  # fmt: skip
    write(tmp_path / "b.nc", [0, 1, 2, 3], "days since 1900-02-27")
    assert opened(tmp_path / "b.nc")[0][2] == "1900-03-01T00:00"


@pytest.mark.parametrize("calendar", ["noleap", "365_day", "360_day", "all_leap"])
def test_other_calendars_are_kept_apart(tmp_path, calendar):
    write(tmp_path / "a.nc", [0, 1, 2, 3], "days since 2020-02-27", calendar)
    ds = open_fields(tmp_path / "a.nc")
    assert ds["time"].dtype == object
    assert ds["time"].values[0].calendar == {"365_day": "noleap"}.get(calendar, calendar)
    write(tmp_path / "b.nc", [4, 5], "days since 2020-02-27")
    with pytest.raises(InputError, match="calendar"):
        open_fields([tmp_path / "a.nc", tmp_path / "b.nc"])


def test_an_unknown_calendar_is_refused(tmp_path):
    write(tmp_path / "a.nc", [0, 1], "days since 2020-02-27", "mayan")
    with pytest.raises(InputError, match=r"a\.nc"):
        opened(tmp_path / "a.nc")


def test_unsorted_times_are_sorted_with_their_fields(tmp_path):
    write(tmp_path / "a.nc", [12, 0, 18, 6], "hours since 2018-07-20")
    times, values = opened(tmp_path / "a.nc")
    assert times == [f"2018-07-20T{hour:02}:00" for hour in (0, 6, 12, 18)]
    np.testing.assert_array_equal(values, [1, 3, 0, 2])


@pytest.mark.parametrize("values", [[0, 6, 6, 12], [0, 6, 12, 0], [0, 0, 0]])
def test_a_time_that_is_there_twice_is_refused(tmp_path, values):
    write(tmp_path / "a.nc", values, "hours since 2018-07-20")
    with pytest.raises(InputError, match=r"times? occurs? twice, the first is 2018-07-20"):
        opened(tmp_path / "a.nc")


def test_a_time_that_is_almost_there_twice_is_refused(tmp_path):
    write(tmp_path / "a.nc", [0, 6], "hours since 2018-07-20")
    write(tmp_path / "b.nc", [6.00001, 12], "hours since 2018-07-20")
    with pytest.raises(InputError, match="less than a second apart"):
        open_fields([tmp_path / "a.nc", tmp_path / "b.nc"])


def test_a_missing_time_is_refused(tmp_path):
    write(tmp_path / "a.nc", [0, -999, 12], "hours since 2018-07-20", fill=-999.0)
    with pytest.raises(InputError, match="1 of 3 times is missing"):
        opened(tmp_path / "a.nc")


@pytest.mark.parametrize("value", [1e30, -1e30, np.nan, np.inf, 9e15])
def test_times_beyond_all_calendars_are_refused(tmp_path, value):
    write(tmp_path / "a.nc", [0, value], "hours since 2018-07-20")
    with pytest.raises(WeatherdiffError) as caught:
        opened(tmp_path / "a.nc")
    assert caught.value.exit_code == 65


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kathmandu", "Pacific/Apia"])
def test_the_time_zone_of_the_machine_changes_nothing(tmp_path, monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    clock.tzset()
    try:
        write(tmp_path / "a.nc", [0, 6, 12], "hours since 2018-03-11")  # a change to summer time
        times, _ = opened(tmp_path / "a.nc")
        ds = open_fields(tmp_path / "a.nc").load()
        ds.to_zarr(tmp_path / "a.zarr", zarr_format=2)
        again = open_fields(tmp_path / "a.zarr")
    finally:
        monkeypatch.undo()
        clock.tzset()
    assert times == ["2018-03-11T00:00", "2018-03-11T06:00", "2018-03-11T12:00"]
    xr.testing.assert_equal(again.load(), ds)


def test_numbers_without_units_are_no_times(tmp_path):
    write(tmp_path / "a.nc", [0, 6, 12], "1")
    with pytest.raises(DimensionError, match="hours since"):
        opened(tmp_path / "a.nc")
