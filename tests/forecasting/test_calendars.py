"""A model that was trained on a calendar forecasts in it."""

import cftime
import numpy as np
import pytest
import torch
import xarray as xr

from weatherdiff import open_fields
from weatherdiff.cli import main
from weatherdiff.data.loader import WindowDataset
from weatherdiff.data.prepare import prepare
from weatherdiff.data.windows import Period, WindowSpec, find_windows
from weatherdiff.errors import ConfigError, InputError, MissingInputError
from weatherdiff.forecasting.forecaster import Forecaster
from weatherdiff.forecasting.writer import open_forecasts, write_forecast
from weatherdiff.models import VideoDenoiser

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


@pytest.mark.deep
def test_the_commands_prepare_train_and_forecast_in_a_calendar(calendar, tmp_path, capsys):
    record(calendar).to_netcdf(tmp_path / "analyses.nc")
    file = tmp_path / "run.yaml"
    last = {"noleap": "2000-03-06", "360_day": "2000-03-04"}[calendar]
    file.write_text(f"""
output: {tmp_path}/run
data: {{source: {tmp_path}/analyses.nc}}
window: {{step: 6h, history: 2, frames: 3}}
splits:
  training: ["2000-02-01", "2000-02-18"]
  validation: ["2000-02-20", "2000-02-23"]
  test: ["2000-02-25", "{last}"]
forcings: [time_of_day, time_of_year]
model: {{size: tiny}}
training: {{steps: 4, batch_size: 2, validate_every: 2, calibrate: false, validation_windows: 2}}
forecast: {{lead_time: 18h, members: 2, steps: 1, init_times: test, every: 12}}
threads: 1
""")
    for verb in ("check", "prepare", "train", "forecast"):
        assert main([verb, str(file)]) == 0, capsys.readouterr()
    ds = open_forecasts(tmp_path / "run" / "forecasts")
    first = cftime.datetime(2000, 2, 25, 0, calendar=calendar)
    assert ds["init_time"].values[0] == first
    assert ds["init_time"].dt.calendar == calendar
    assert (np.diff(ds["init_time"].values) == np.timedelta64(72, "h")).all()
    assert main(["verify", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(file)]) == 65  # in the standard calendar alone
    assert calendar in capsys.readouterr().err
