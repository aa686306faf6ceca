"""A model that was trained on a calendar forecasts in it."""

import re
import shutil

import cftime
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
import yaml

from weatherdiff import open_fields
from weatherdiff.cli import main
from weatherdiff.data.calendars import Calendar
from weatherdiff.data.loader import WindowDataset
from weatherdiff.data.prepare import prepare
from weatherdiff.data.windows import Period, WindowSpec, find_windows
from weatherdiff.errors import ConfigError, InputError, MissingInputError
from weatherdiff.evaluation import open_scores
from weatherdiff.forecasting.fallback import with_later_start
from weatherdiff.forecasting.footprints import footprints
from weatherdiff.forecasting.forecaster import Forecaster
from weatherdiff.forecasting.observations import LinearObservations, require_calendar
from weatherdiff.forecasting.writer import open_forecasts, write_forecast
from weatherdiff.models import VideoDenoiser
from weatherdiff.plotting import plot_forecast_maps, plot_plume
from weatherdiff.report.cases import spectrum_inits
from weatherdiff.workflow.ledger import read_ledger
from weatherdiff.workflow.retention import prune

SPEC = WindowSpec(2, 3, 6 * 3600)
TRAINING = ("2000-02-01", "2000-02-20")


def record(calendar):
    time = xr.date_range("2000-02-01", periods=140, freq="6h", calendar=calendar, use_cftime=True)
    rng = np.random.default_rng(0)
    return xr.Dataset(
        {
            "2m_temperature": (
                ("time", "latitude", "longitude"),
                (280 + rng.normal(size=(140, 4, 6))).astype("f4"),
                {"units": "K"},
            )
        },
        {"time": time, "latitude": np.arange(40.0, 48.0, 2), "longitude": np.arange(6.0)},
    )


@pytest.fixture(params=["noleap", "360_day"])
def calendar(request):
    return request.param


@pytest.fixture
def made(calendar, tmp_path):
    """Analyses and a model of random weights, from its folder."""
    ds = open_fields(record(calendar))
    store = prepare(
        ds, tmp_path / "fields.zarr", training_period=TRAINING, step="6h", frames=SPEC.frames
    )
    period = Period.parse(*TRAINING, calendar)
    windows = WindowDataset(
        store,
        find_windows(store.times, store.valid, SPEC, period),
        SPEC,
        ("time_of_day", "time_of_year", "toa_solar_radiation"),
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = VideoDenoiser(
            frames=3, channels=1, history=2, forcings=windows[0].forcings.shape[2],
            static=3, size={"width": 8, "blocks": 1, "levels": 1},
        )  # fmt: skip
        for weights in network.parameters():
            torch.nn.init.normal_(weights, std=0.1)
    Forecaster(
        network=network.eval(), channels=store.channels, grid=store.grid,
        normalizer=store.normalizer, spec=SPEC, forcings=tuple(windows.forcings),
        mask=store.mask, static=windows[0].static[0].numpy(),
        noise_scale=np.ones((3, 1), np.float32), fill=False, provenance={},
    ).save(tmp_path / "model")  # fmt: skip
    return ds, Forecaster.load(tmp_path / "model")


def test_a_forecast_has_the_dates_of_its_calendar_also_when_read_again(made, calendar, tmp_path):
    ds, forecaster = made
    last = {"noleap": 28, "360_day": 30}[calendar]
    init = f"2000-02-{last}T18"
    assert forecaster.calendar == calendar
    blocks = forecaster.rollout(ds, init_time=init, frames=3, members=2)
    path = write_forecast(tmp_path / "forecasts", blocks, frames=3)
    assert path.name == f"2000-02-{last}T18.zarr"
    again = open_forecasts(tmp_path / "forecasts")
    expected = cftime.datetime(2000, 2, last, 18, calendar=calendar)
    assert again["init_time"].values.tolist() == [expected]
    valid = [cftime.datetime(2000, 3, 1, hour, calendar=calendar) for hour in (0, 6, 12)]
    assert again["valid_time"].values.tolist() == [valid]
    with xr.open_zarr(path, decode_timedelta=True) as plain:
        assert plain["valid_time"].values.tolist() == [valid]
    direct = forecaster.forecast(ds, init_time=init, lead_time="18h", members=2)
    np.testing.assert_array_equal(again["2m_temperature"], direct["2m_temperature"])


def test_another_calendar_or_date_is_refused(made, calendar):
    ds, forecaster = made
    other = {"noleap": "360_day", "360_day": "noleap"}[calendar]
    with pytest.raises(InputError, match=f"no {calendar} time coordinate but .* {other}"):
        forecaster.forecast(
            open_fields(record(other)), init_time="2000-02-20", lead_time="6h", members=1
        )
    with pytest.raises(ConfigError, match=f"calendar {calendar}"):
        forecaster.forecast(ds, init_time="2000-02-31", lead_time="6h", members=1)
    with pytest.raises(MissingInputError, match="1999-12-30T00:00Z"):
        forecaster.forecast(ds, init_time="1999-12-30", lead_time="6h", members=1)


def configuration(folder, calendar, evaluation, **batch):
    """A run of a few forecasts over the end of February, and what is scored."""
    record(calendar).to_netcdf(folder / "analyses.nc")
    last = {"360_day": "2000-03-04"}.get(calendar, "2000-03-06")
    settings = {
        "output": str(folder / "run"),
        "data": {"source": str(folder / "analyses.nc")},
        "window": {"step": "6h", "history": 2, "frames": 3},
        "splits": {
            "training": ["2000-02-01", "2000-02-18"],
            "validation": ["2000-02-20", "2000-02-23"],
            "test": ["2000-02-25", last],
        },
        "forcings": ["time_of_day", "time_of_year", "toa_solar_radiation"],
        "model": {"size": "tiny"},
        "training": {
            "steps": 4, "batch_size": 2, "validate_every": 2, "calibrate": False,
            "validation_windows": 2,
        },
        "forecast": {
            "lead_time": "18h", "members": 2, "steps": 1, "init_times": "test", "every": 12,
        },
        "evaluation": {"workers": 1, **evaluation},
        "batch": batch,
        "threads": 1,
    }  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    return folder / "run.yaml"


@pytest.fixture
def run(made, calendar, tmp_path):
    """The command line on that model, which returns what is printed."""
    scored = {"baselines": ["climatology", "persistence"], "scores": ["anomaly_correlation"]}
    batch = {"cycle": ["00", "06", "12", "18"], "max_lateness": "12h"}
    file = configuration(tmp_path, calendar, scored, **batch)
    (tmp_path / "run").mkdir()
    (tmp_path / "model").rename(tmp_path / "run" / "model")
    (tmp_path / "fields.zarr").rename(tmp_path / "run" / "fields.zarr")
    return lambda *arguments: main([arguments[0], str(file), *arguments[1:]])


@pytest.mark.parametrize("calendar", ["360_day"], indirect=True)  # noleap in the deep ones
def test_forecasts_in_a_calendar_are_scored_by_the_commands(run, calendar, tmp_path, capsys):
    last = {"noleap": "2000-02-28T18", "360_day": "2000-02-30T18"}[calendar]
    assert run("forecast", "--init", f"2000-02-25,{last}") == 0, capsys.readouterr()
    assert run("evaluate") == 0, capsys.readouterr()
    with xr.open_zarr(tmp_path / "run" / "scores.zarr", decode_timedelta=True) as scores:
        assert scores["init_time"].dt.calendar == calendar
        found = [date.strftime("%Y-%m-%dT%H") for date in scores["init_time"].values]
        assert found == ["2000-02-25T00", last]
        assert scores.attrs["period"] == f"2000-02-25T00:00:00/{last}:00:00"
        assert scores["valid_time_found"].all()
        assert np.isfinite(scores["crps"]).all()


@pytest.mark.parametrize("calendar", ["360_day"], indirect=True)
def test_figures_show_dates_of_the_calendar_and_plumes_lead_times(made, calendar):
    ds, forecaster = made
    last = {"noleap": "2000-02-28", "360_day": "2000-02-30"}[calendar]
    forecast = forecaster.forecast(ds, init_time=last, lead_time="36h", members=2)
    place = {"variable": "2m_temperature", "latitude": 42, "longitude": 3}
    (axes,) = plot_plume(forecast, ds, **place).axes
    assert axes.get_title(loc="left").endswith(f"forecast from {last} 00:00 UTC")
    assert axes.get_xlabel() == "lead time [hours]"
    members, observed = axes.lines[0].get_xdata(), axes.lines[-2].get_xdata()
    np.testing.assert_array_equal(members, np.arange(6, 37, 6))
    np.testing.assert_array_equal(observed, np.arange(-18, 37, 6))
    figure = plot_forecast_maps(forecast, ds, variable="2m_temperature")
    assert "2000-03-01" in " ".join(axes.get_ylabel() for axes in figure.axes)
    other = {"noleap": "360_day", "360_day": "noleap"}[calendar]
    with pytest.raises(InputError, match=f"forecasts are in the calendar {calendar}, .*{other}"):
        plot_plume(forecast, open_fields(record(other)), **place)
    assert spectrum_inits(forecast, ds).tolist() == forecast["init_time"].values.tolist()


def test_scheduled_runs_in_a_calendar_take_the_newest_data_for_now(run, calendar, tmp_path, capsys):
    first, newest = {
        "noleap": ("2000-02-28T18", "2000-03-07"), "360_day": ("2000-02-30T18", "2000-03-05"),
    }[calendar]  # fmt: skip
    folder = tmp_path / "run" / "forecasts"
    assert run("batch", "--init", first) == 0, capsys.readouterr()
    assert (folder / f"{first}.zarr").is_dir()
    capsys.readouterr()
    assert run("batch", "--init", first, "--dry-run") == 0
    assert capsys.readouterr().out == f"published {first}:00Z\n"
    assert run("status") == 0
    told = capsys.readouterr().out
    assert f"none in the calendar {calendar}" in told
    assert f"newest     {first}:00Z, made" in told
    assert f"due        {newest}T18:00Z, {newest}T12:00Z, {newest}T06:00Z\n" in told
    assert run("batch", "--init", "2000-04-01") == 66  # its input is not there
    assert f"the data reach to {newest}T18:00Z" in capsys.readouterr().err
    for verb, code in (("batch", 65), ("status", 0)):
        assert run(verb, "--now", "2000-02-28") == code
        told = capsys.readouterr()
        assert f"calendar {calendar}, where no time of the clock" in told.out + told.err
    assert run("batch") == 0
    names = sorted(path.stem for path in folder.glob("[!.]*.zarr"))
    assert names == [first, *(f"{newest}T{hour}" for hour in ("06", "12", "18"))]
    ledger = read_ledger(folder)
    assert list(ledger) == [f"{name}:00Z" for name in names]
    assert not any("lateness_seconds" in facts for facts in ledger.values())
    (folder / "ledger.json").unlink()
    assert list(read_ledger(folder)) == list(ledger)
    removed = prune(folder, keep=6 * 3600, at_least=1)
    assert [Calendar(calendar).iso(time) for time in removed] == [
        f"{name}:00Z" for name in names[:2]
    ]


@pytest.mark.parametrize("calendar", ["360_day"], indirect=True)
def test_scheduled_runs_refuse_forecasts_of_another_calendar(run, calendar, tmp_path, capsys):
    assert run("batch", "--init", "2000-02-20") == 0, capsys.readouterr()
    record("julian").to_netcdf(tmp_path / "analyses.nc")
    assert run("batch") == 65
    assert f"in the calendar {calendar}; choose another" in capsys.readouterr().err


def test_observations_of_another_calendar_are_refused(made, calendar):
    ds, forecaster = made
    table = pd.DataFrame(
        {
            "variable": ["2m_temperature"], "latitude": [43.0], "longitude": [2.0],
            "valid_time": ["2000-02-20T06"], "value": [281.0], "error": [1.0],
        }
    )  # fmt: skip
    with pytest.raises(InputError, match=f"proleptic_gregorian, the model .* {calendar}"):
        forecaster.forecast(
            ds, init_time="2000-02-20", lead_time="6h", members=1, observations=table
        )


def test_observations_in_the_calendar_are_of_the_frame_of_their_date(made, calendar):
    ds, forecaster = made
    last = {"noleap": "2000-02-28T18", "360_day": "2000-02-30T18"}[calendar]
    weights = xr.zeros_like(ds["2m_temperature"].isel(time=[0])).astype(float)
    weights[0, 1, 2] = 1.0
    weights = weights.to_dataset().rename(time="valid_time").expand_dims(observation=1)
    start = cftime.datetime(2000, 3, 1, 6, calendar=calendar)
    seen = LinearObservations(weights.assign_coords(valid_time=[start]), [281.0], [1.0])
    found = footprints(
        seen, channels=forecaster.channels, grid=forecaster.grid, mask=forecaster.mask
    )
    init = Calendar(calendar).parse(last)
    (block,) = found.by_block(init, forecaster.spec, 1, calendar)
    assert block.time.tolist() == [init + 12 * 3600]
    require_calendar(seen, calendar)


def test_a_forecast_from_an_older_analysis_counts_leads_in_the_calendar(made, calendar):
    ds, forecaster = made
    last = {"noleap": 28, "360_day": 30}[calendar]
    older, init = (cftime.datetime(2000, 2, last, hour, calendar=calendar) for hour in (12, 18))
    blocks = forecaster.rollout(ds, init_time=older, frames=4, members=1)
    (first, *_) = with_later_start(blocks, init, frames=3)
    assert first["init_time"].values.tolist() == [init]
    np.testing.assert_array_equal(first["lead_time"], [np.timedelta64(h, "h") for h in (6, 12, 18)])


@pytest.mark.deep
@pytest.mark.parametrize("calendar", ["noleap", "360_day", "julian", "all_leap"], indirect=True)
def test_the_commands_go_all_the_way_from_data_to_a_report(calendar, tmp_path, capsys):
    scored = {
        "baselines": ["climatology", "persistence", "smooth_climatology", "analogs"],
        "scores": ["anomaly_correlation", "maps", "spectra", "energy_variable"],
        "events": [{"variable": "2m_temperature", "above_percentile": 90}],
        "baseline_members": 2,
    }
    file = configuration(tmp_path, calendar, scored)
    for verb in ("check", "prepare", "train", "forecast", "evaluate", "report"):
        assert main([verb, str(file)]) == 0, capsys.readouterr()
    ds = open_forecasts(tmp_path / "run" / "forecasts")
    assert ds["init_time"].values[0] == cftime.datetime(2000, 2, 25, 0, calendar=calendar)
    assert ds["init_time"].dt.calendar == calendar
    assert (np.diff(ds["init_time"].values) == np.timedelta64(72, "h")).all()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "The forecast from 2000-" in page
    assert not re.findall(r"No (?:maps|plume|spectra)[^<]*", page)
    assert main(["verify", str(tmp_path / "run")]) == 0, capsys.readouterr()
    whole = open_scores(tmp_path / "run" / "scores.zarr")
    shutil.rmtree(tmp_path / "run" / "scores.zarr")
    shutil.rmtree(tmp_path / "run" / "forecasts")
    assert main(["forecast", str(file), "--evaluate-only"]) == 0, capsys.readouterr()
    at_once = open_scores(tmp_path / "run" / "scores.zarr")
    xr.testing.assert_identical(at_once["crps"], whole["crps"])
