"""Calendars of climate models, kept as they are: dates against cftime, fields against xarray."""

import cftime
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from weatherdiff import open_fields
from weatherdiff.config import load_config
from weatherdiff.data.append import append
from weatherdiff.data.calendars import CALENDARS, STANDARD, Calendar
from weatherdiff.data.forcings import forcing_fields
from weatherdiff.data.normalization import Harmonics
from weatherdiff.data.prepare import prepare
from weatherdiff.data.storing.plan import Plan
from weatherdiff.data.storing.statistics import field_statistics
from weatherdiff.data.windows import Period, WindowSpec, find_windows, parse_time, seconds
from weatherdiff.errors import ConfigError, InputError
from weatherdiff.grid import Grid

OTHERS = [name for name in CALENDARS if name != STANDARD]
DIMS = ("time", "latitude", "longitude")
SETTINGS = {"training_period": ("2000-02-20", "2000-03-10"), "step": "6h", "frames": 2}


def record(calendar, frames=120, start="2000-02-15"):
    """Six-hourly over the end of February, two frames absent."""
    rng = np.random.default_rng(0)
    time = xr.date_range(start, periods=frames, freq="6h", calendar=calendar, use_cftime=True)
    values = 280 + rng.normal(size=(frames, 3, 5)).cumsum(axis=2)
    return xr.Dataset(
        {"2m_temperature": (DIMS, values.astype("f4"), {"units": "K"})},
        {"time": time, "latitude": [40.0, 42.0, 45.0], "longitude": np.arange(-2.0, 3.0)},
    ).isel(time=np.delete(np.arange(frames), [50, 51]))


@pytest.fixture(params=["noleap", "360_day"])
def calendar(request):
    return request.param


@pytest.fixture
def opened(calendar, tmp_path):
    record(calendar).to_netcdf(tmp_path / "own.nc")
    return open_fields(tmp_path / "own.nc")


# -- dates ---------------------------------------------------------------------------------------


@given(st.sampled_from(OTHERS), st.integers(-(10**10), 10**10))
def test_seconds_and_dates_are_two_names_of_a_time(name, second):
    calendar = Calendar(name)
    (date,) = calendar.dates([second])
    assert date.calendar == name
    assert calendar.seconds(np.array([date])).tolist() == [second]
    epoch = cftime.datetime(1970, 1, 1, calendar=name)
    assert (date - epoch).total_seconds() == second
    assert calendar.parse(date) == second
    if date.year > 0:
        assert calendar.parse(calendar.text(second)) == second


@given(st.sampled_from(OTHERS), st.integers(1, 4000), st.integers(1, 12))
def test_a_month_is_as_long_as_its_calendar_says(name, year, month):
    calendar = Calendar(name)
    first, last = calendar.span(f"{year:04}-{month:02}")
    days = cftime.datetime(year, month, 1, calendar=name).daysinmonth
    assert last - first + 1 == days * 86_400
    assert calendar.span(f"{year:04}")[0] == calendar.parse(f"{year:04}-01-01")
    assert calendar.since_new_year(np.array([calendar.parse(f"{year:04}-01-01")])).tolist() == [0]


def test_dates_are_those_of_their_calendar():
    assert str(Period.parse("2001-02-30", "2001-02", "360_day")) == (
        "2001-02-30T00:00:00 to 2001-02-30T23:59:59"
    )
    assert parse_time("2001-03-01", "noleap") - parse_time("2001-02-28", "noleap") == 86_400
    assert parse_time("2000-03-01", "365_day") - parse_time("2000-02-28", "noleap") == 86_400
    for text, name in (
        ("2001-02-30", "noleap"), ("2000-02-29", "noleap"), ("2001-01-31", "360_day"),
        ("2001-13-01", "360_day"), ("tomorrow", "noleap"), ("2001-02-03T00:00+02:00", "noleap"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="Not a date of the calendar"):
            Period.parse(text, text, name)


def test_an_unknown_calendar_and_numbers_are_refused():
    with pytest.raises(InputError, match="Unknown calendar 'mayan'"):
        Calendar("mayan")
    with pytest.raises(InputError, match="no dates"):
        Calendar.of(np.arange(3.0))
    with pytest.raises(InputError, match="1678 and 2262"):
        Calendar.of(np.array([cftime.datetime(3000, 1, 1, calendar="standard")]))
    mixed = np.array([cftime.datetime(2000, 1, 1, calendar=c) for c in ("noleap", "360_day")])
    with pytest.raises(InputError, match="expected noleap"):
        seconds(mixed)


# -- from a file to a store ----------------------------------------------------------------------


def test_a_store_holds_the_fields_at_their_dates(opened, calendar, tmp_path):
    own = record(calendar)
    store = prepare(opened, tmp_path / "fields.zarr", **SETTINGS)
    assert store.calendar == calendar
    with xr.open_zarr(tmp_path / "fields.zarr", consolidated=False) as plain:
        assert plain["time"].dt.calendar == calendar
        assert plain["time"].values.tolist() == own["time"].values.tolist()
        for index in range(0, own.sizes["time"], 7):
            np.testing.assert_array_equal(
                plain["fields"][index, 0], own["2m_temperature"].isel(time=index)
            )
    again = store.to_dataset()
    xr.testing.assert_equal(again["time"], own["time"])
    np.testing.assert_array_equal(again["2m_temperature"], own["2m_temperature"])


def test_a_plan_says_which_calendar_it_is(opened, calendar):
    plan = Plan.of(opened, {})
    last = {"noleap": "2000-03-16T18:00:00", "360_day": "2000-03-14T18:00:00"}[calendar]
    assert (plan.calendar, plan.step, plan.last) == (calendar, 6 * 3600, last)
    assert (plan.absent, plan.irregular) == (2, 0)
    assert f"{calendar} calendar" in "\n".join(plan.describe())


def test_windows_go_by_the_dates_of_the_calendar(opened, calendar, tmp_path):
    store = prepare(opened, tmp_path / "fields.zarr", **SETTINGS)
    spec = WindowSpec(2, 3, 6 * 3600)
    period = Period.parse("2000-02-25", "2000-03-05", calendar)
    found = find_windows(store.times, store.valid, spec, period)
    dates = record(calendar)["time"].values
    six = np.timedelta64(6, "h").astype("timedelta64[s]").astype(object)
    first = cftime.datetime(2000, 2, 25, calendar=calendar)
    after = cftime.datetime(2000, 3, 6, calendar=calendar)
    known = {str(date): i for i, date in enumerate(dates)}
    expected = [
        [known[str(init + k * six)] for k in range(-1, 4)]
        for init in dates
        if first <= init and init + 3 * six < after
        and all(str(init + k * six) in known for k in range(-1, 4))
    ]  # fmt: skip
    assert found.indices.tolist() == expected
    assert found.absent > 0
    values = record(calendar)["2m_temperature"].values
    np.testing.assert_array_equal(store.read(found.indices[5])[:, 0], values[expected[5]])


def test_statistics_are_those_of_the_period_in_its_calendar(opened, calendar, tmp_path):
    store = prepare(opened, tmp_path / "fields.zarr", **SETTINGS)
    days = {"noleap": ("2000-02-26", "2000-02-28"), "360_day": ("2000-02-28", "2000-02-30")}
    part = record(calendar)["2m_temperature"].sel(time=slice(*days[calendar])).astype("f8")
    found = field_statistics(store, *days[calendar])
    assert float(found["count"][0]) == part.size
    np.testing.assert_allclose(found["mean"], part.mean(), rtol=1e-12)
    np.testing.assert_allclose(found["std"], part.std(), rtol=1e-9)


def test_a_store_grows_in_its_own_calendar_alone(opened, calendar, tmp_path):
    path = tmp_path / "fields.zarr"
    prepare(opened.isel(time=slice(100)), path, **SETTINGS)
    other = {"noleap": "360_day", "360_day": "noleap"}[calendar]
    with pytest.raises(InputError, match=f"has the calendar {calendar}, the data {other}"):
        append(open_fields(record(other)), path)
    standard = record(calendar).assign_coords(
        time=np.datetime64("2000-02-15", "ns") + np.arange(118) * np.timedelta64(6, "h")
    )
    with pytest.raises(InputError, match="proleptic_gregorian"):
        append(open_fields(standard), path)
    store = append(opened, path)
    assert len(store.times) == opened.sizes["time"]
    np.testing.assert_array_equal(
        store.read(np.arange(118))[:, 0], record(calendar)["2m_temperature"]
    )


# -- the sun -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CALENDARS)
def test_the_year_of_the_forcings_is_that_of_the_calendar(name):
    grid = Grid(np.array([0.0, 50.0]), np.array([0.0, 10.0]))
    calendar = Calendar(name)
    starts = np.array([calendar.parse(f"{year}-01-01") for year in (2001, 2002, 2003)])
    wave = forcing_fields(["time_of_year"], starts, grid, name)
    np.testing.assert_allclose(wave[:, 0], 1, atol=1e-6)
    sun = forcing_fields(["toa_solar_radiation"], starts + 43_200, grid, name)
    np.testing.assert_allclose(sun, np.broadcast_to(sun[0], sun.shape), atol=1e-6)
    summer = calendar.parse("2001-06-21T12")
    high = forcing_fields(["toa_solar_radiation"], np.array([summer]), grid, name)[0, 0, 1, 0]
    assert high == pytest.approx(np.cos(np.deg2rad(50 - 23.44)) * 0.9675, abs=0.01)


def test_the_climatology_has_the_year_of_the_calendar(calendar):
    year = int(CALENDARS[calendar] * 86_400)
    times = np.arange(0, 3 * year, 86_400)
    harmonics = Harmonics.resolved_by(times, calendar)
    assert harmonics.yearly == 2
    basis = harmonics.evaluate(times)
    np.testing.assert_allclose(basis[: year // 86_400], basis[year // 86_400 :][: year // 86_400],
                               atol=1e-9)  # fmt: skip


# -- configurations ------------------------------------------------------------------------------


def test_a_configuration_may_have_dates_of_any_calendar(tmp_path):
    text = """
output: {folder}/run
data: {{source: nothing.nc}}
window: {{step: 6h, frames: 2}}
splits:
  training: ["2000-01-01", "2000-02-30"]
  validation: ["2000-04-01", "2000-04-30"]
  test: ["2000-06-01", "2000-06-30"]
forecast: {{lead_time: 12h, members: 2, init_times: ["2000-02-30T06"]}}
"""
    file = tmp_path / "a.yaml"
    file.write_text(text.format(folder=tmp_path))
    assert load_config(file).splits.training == ("2000-01-01", "2000-02-30")
    file.write_text(text.format(folder=tmp_path).replace("2000-02-30", "2000-02-31"))
    with pytest.raises(ConfigError, match="2000-02-31"):
        load_config(file)
