"""Rows 11 to 14 of the faults for the commands: prepare and forecast meet them as batch does.

The commands run in this process; what they print and return is what a scheduler would see.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Iterable

import netCDF4
import numpy as np
import pytest
import xarray as xr
import yaml

from weatherdiff.cli import main
from weatherdiff.data.store import FieldStore
from weatherdiff.data.windows import WindowSpec
from weatherdiff.errors import MissingInputError
from weatherdiff.forecasting import open_forecasts
from weatherdiff.forecasting.initial_state import history_places

INIT = "2020-01-30T06"
Change = Callable[[xr.Dataset], xr.Dataset | None]


def poke(name: str, value: float, **place: object) -> Change:
    def change(ds: xr.Dataset) -> xr.Dataset:
        ds = ds.copy(deep=True)
        ds[name].loc[place] = value
        return ds

    return change


def scaled(name: str, factor: float, offset: float = 0.0) -> Change:
    def change(ds: xr.Dataset) -> xr.Dataset:
        ds = ds.copy(deep=True)
        ds[name].loc[{"time": INIT}] = ds[name].sel(time=INIT) * factor + offset
        return ds

    return change


def shuffled(ds: xr.Dataset) -> xr.Dataset:
    ds = ds.copy(deep=True)
    z = ds["geopotential"]
    z.loc[{"time": INIT}] = z.sel(time=INIT).values[::-1]
    return ds


ZONES = ("UTC", "America/New_York", "Asia/Kathmandu", "Pacific/Apia")


def some(names: Iterable[str], *quick: str) -> list:
    """All of them in a deep run, and these in every run."""
    return [n if n in quick else pytest.param(n, marks=pytest.mark.deep) for n in names]


CELL = {"time": INIT, "latitude": 51.0, "longitude": 0.0}
FIELDS = {
    "NaN": (poke("2m_temperature", np.nan, **CELL), "2m_temperature", "missing"),
    "Inf": (poke("2m_temperature", np.inf, **CELL), "2m_temperature", "infinite"),
    "minus Inf": (poke("geopotential", -np.inf, level=500, **CELL), "geopotential", "infinite"),
    "a fill value": (poke("2m_temperature", 1e20, **CELL), "2m_temperature", "out of the range"),
    "hPa as Pa": (scaled("mean_sea_level_pressure", 0.01), "mean_sea_level_pressure", "hPa"),
    "degC as K": (scaled("2m_temperature", 1, -273.15), "2m_temperature", "degC"),
    "levels shuffled": (shuffled, "geopotential", "levels"),
}


@pytest.fixture
def commands(site: Callable, session_analyses: xr.Dataset, capsys: pytest.CaptureFixture):
    """A folder with a model, all analyses, and both commands."""
    here = site(members=2)
    source = here.folder / "analyses.nc"

    class Commands:
        folder = here.folder
        config = here.config
        visible = staticmethod(lambda: here.visible)

        def change(self, change: Change) -> None:
            with xr.open_dataset(source) as opened:
                ds = opened.load()
            source.unlink()
            change(ds).to_netcdf(source)

        def __call__(self, *arguments: str) -> tuple[int, str]:
            capsys.readouterr()
            code = main([arguments[0], str(here.config), *arguments[1:]])
            captured = capsys.readouterr()
            return code, captured.out + captured.err

        def whole(self) -> None:
            source.unlink()
            session_analyses.to_netcdf(source)

        def store(self) -> FieldStore:
            return FieldStore.open(here.folder / "run" / "fields.zarr")

    return Commands()


# -- row 11 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", some(FIELDS, "Inf", "a fill value", "levels shuffled"))
def test_forecast_refuses_fields_that_no_atmosphere_has(commands, fault):
    change, variable, words = FIELDS[fault]
    commands.change(change)
    code, text = commands("forecast")
    assert code == 65, text
    assert variable in text
    assert "2020-01-30T06:00" in text
    assert words in text
    assert "%" in text or "of 34 cells" in text or "of 35 cells" in text
    assert commands.visible() == []


@pytest.mark.parametrize("fault", some(FIELDS, "Inf", "a fill value", "levels shuffled"))
def test_prepare_refuses_fields_that_no_atmosphere_has_when_asked(commands, fault):
    change, variable, words = FIELDS[fault]
    commands.whole()
    commands.change(change)
    code, text = commands("prepare", "--set", "data.quality=refuse")
    assert code == 65, text
    assert variable in text
    assert "2020-01-30T06:00Z" in text
    assert "%" in text
    assert words in text
    assert not (commands.folder / "run" / "fields.zarr").exists()


def test_prepare_tells_of_them_and_check_too(commands):
    commands.whole()
    commands.change(FIELDS["a fill value"][0])
    code, text = commands("check")
    assert code == 0, text
    assert "2m_temperature  range" in text
    code, text = commands("prepare")
    assert code == 0, text
    assert "2m_temperature  range" in text
    assert "1e+20 K" in text
    assert "2m_temperature  range" in commands("check")[1]  # now from the store


# -- row 12 --------------------------------------------------------------------------------------

SAME = {
    "flipped": lambda ds: ds.isel(latitude=slice(None, None, -1)),
    "from 0 to 360": lambda ds: ds.assign_coords(longitude=ds.longitude % 360).sortby("longitude"),
    "rolled": lambda ds: ds.roll(longitude=3, roll_coords=True),
    "transposed": lambda ds: ds.transpose("longitude", "latitude", ...),
    "jitter": lambda ds: ds.assign_coords(
        latitude=ds.latitude + 1e-7, longitude=ds.longitude - 1e-7
    ),
}
OTHER = {
    "offset by half a cell": lambda ds: ds.assign_coords(longitude=ds.longitude + 0.75),
    "offset by a thousandth": lambda ds: ds.assign_coords(latitude=ds.latitude + 1e-3),
    "a row less": lambda ds: ds.isel(latitude=slice(1, None)),
    "a column less": lambda ds: ds.isel(longitude=slice(0, -1)),
}  # fmt: skip


@pytest.mark.parametrize("form", some(SAME, "flipped", "jitter"))
def test_prepare_makes_the_same_store_of_another_form_of_the_grid(commands, form, session_analyses):
    commands.whole()
    commands.change(SAME[form])
    code, text = commands("prepare")
    assert code == 0, text
    store = commands.store()
    np.testing.assert_array_equal(
        store.read(np.arange(len(store.times))), store.channels.stack(session_analyses)
    )
    for own, known in (
        (store.grid.latitude, session_analyses.latitude),
        (store.grid.longitude, session_analyses.longitude),
    ):
        np.testing.assert_allclose(own, known, rtol=0, atol=2e-7)


def test_forecast_makes_the_same_forecast_of_another_form_of_the_grid(commands):
    assert commands("forecast")[0] == 0
    expected = open_forecasts(commands.folder / "run" / "forecasts").load()
    for form in ("flipped", "from 0 to 360", "jitter"):
        commands.change(SAME[form])
    code, text = commands("forecast", "--overwrite")
    assert code == 0, text
    got = open_forecasts(commands.folder / "run" / "forecasts")
    for name in expected.data_vars:
        np.testing.assert_array_equal(got[name], expected[name])


@pytest.mark.parametrize("form", some(OTHER, "offset by a thousandth"))
def test_another_grid_is_refused_by_forecast_and_when_dates_are_added(
    commands, form, session_analyses
):
    commands.change(OTHER[form])
    code, text = commands("forecast")
    assert code == 65, text
    assert "itude differs" in text
    assert commands.visible() == []
    commands.whole()
    commands.change(lambda ds: ds.isel(time=slice(0, 150)))
    assert commands("prepare")[0] == 0
    commands.whole()
    commands.change(OTHER[form])
    code, text = commands("prepare")
    assert code == 65, text
    assert "itude differs" in text
    assert len(commands.store().times) == 150


# -- row 13 --------------------------------------------------------------------------------------


def test_prepare_sorts_times_with_their_fields(commands, session_analyses):
    commands.whole()
    order = np.random.default_rng(0).permutation(session_analyses.sizes["time"])
    commands.change(lambda ds: ds.isel(time=order))
    assert commands("prepare")[0] == 0
    store = commands.store()
    np.testing.assert_array_equal(
        store.times, session_analyses["time"].values.astype("M8[s]").astype(int)
    )
    np.testing.assert_array_equal(
        store.read(np.arange(len(store.times))), store.channels.stack(session_analyses)
    )  # fmt: skip


@pytest.mark.parametrize("command", ["prepare", "forecast"])
def test_a_time_that_is_there_twice_is_refused(commands, command):
    commands.whole()
    commands.change(lambda ds: ds.isel(time=np.r_[0:150, 149:180]))
    code, text = commands(command)
    assert code == 65, text
    assert "occur twice" in text
    assert commands.visible() == []


def test_times_with_an_offset_are_prepared_in_utc(commands, session_analyses):
    commands.whole()
    with netCDF4.Dataset(commands.folder / "analyses.nc", "a") as nc:
        times = nc["time"]
        hours = (session_analyses["time"].values - np.datetime64("2019-12-20")) // np.timedelta64(
            1, "h"
        )
        times.units = "hours since 2019-12-20 03:00:00 +03:00"
        times[:] = hours.astype(times.dtype)
    assert commands("prepare")[0] == 0
    np.testing.assert_array_equal(
        commands.store().times, session_analyses["time"].values.astype("M8[s]").astype(int)
    )  # fmt: skip


def test_a_forecast_across_a_leap_day_has_each_day_once(commands):
    start = np.datetime64("2020-02-28", "ns")
    commands.change(
        lambda ds: ds.assign_coords(time=start + (ds["time"].values - ds["time"].values[0]))
    )
    code, text = commands("forecast", "--init", "2020-02-28T18")
    assert code == 0, text
    ds = open_forecasts(commands.folder / "run" / "forecasts")
    days = ds["valid_time"].values[0].astype("datetime64[h]").astype(str).tolist()
    assert days == ["2020-02-29T00", "2020-02-29T06", "2020-02-29T12", "2020-02-29T18",
                    "2020-03-01T00"]  # fmt: skip


def test_a_calendar_that_the_model_does_not_have_is_refused(commands):
    commands.change(lambda ds: ds.convert_calendar("noleap", use_cftime=True))
    for command in ("forecast", "batch"):
        code, text = commands(command, *(["--now", "2020-01-30T07"] if command == "batch" else []))
        assert code == 65, text
        assert "calendar" in text
    assert commands.visible() == []


@pytest.mark.parametrize("zone", some(ZONES, "Asia/Kathmandu"))
def test_the_time_zone_of_the_machine_changes_no_command(commands, monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    clock.tzset()
    try:
        code, text = commands("forecast")
    finally:
        monkeypatch.undo()
        clock.tzset()
    assert code == 0, text
    assert commands.visible() == ["2020-01-30T06.zarr"]
    ds = open_forecasts(commands.folder / "run" / "forecasts")
    assert str(ds["init_time"].values[0])[:16] == "2020-01-30T06:00"
    assert str(ds["valid_time"].values[0, 0])[:16] == "2020-01-30T12:00"


def test_asking_for_an_initial_time_twice_makes_it_once(commands):
    document = yaml.safe_load(commands.config.read_text())
    document["forecast"]["init_times"] = ["2020-01-30T06", "2020-01-30T08+02:00"]
    commands.config.write_text(yaml.safe_dump(document))
    code, text = commands("forecast")
    assert code == 0, text
    assert commands.visible() == ["2020-01-30T06.zarr"]


# -- row 14 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("absent", [["2020-01-30T06"], ["2020-01-30T00"], ["2020-01-30T00", INIT]])
def test_forecast_takes_no_other_frame_for_one_that_is_absent(commands, absent):
    commands.change(lambda ds: ds.drop_sel(time=np.array(absent, "datetime64[ns]")))
    code, text = commands("forecast")
    assert code == 66, text
    assert "2020-01-30T06:00Z" in text
    assert absent[0] in text
    assert commands.visible() == []


@pytest.mark.parametrize("absent", [0, 1, 2], ids=["first", "middle", "last"])
def test_each_frame_of_a_longer_history_is_needed(absent):
    times = np.datetime64("2020-01-01", "ns") + np.arange(10) * np.timedelta64(6, "h")
    ds = xr.Dataset(coords={"time": np.delete(times, 4 + absent)})
    init = int(times[6].astype("datetime64[s]").astype(int))
    with pytest.raises(MissingInputError) as caught:
        history_places(ds, init, WindowSpec(3, 1, 6 * 3600))
    assert str(times[4 + absent])[:16] in str(caught.value)
    assert caught.value.exit_code == 66


@pytest.mark.parametrize("command", ["check", "prepare", "forecast"])
def test_no_file_at_all_may_come_later(commands, command):
    (commands.folder / "analyses.nc").unlink()
    code, text = commands(command)
    assert code == 66, text
    assert "analyses.nc" in text
