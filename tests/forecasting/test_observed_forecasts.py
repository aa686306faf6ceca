"""Observations on the command line: one key, recorded with the forecast, refused where in vain."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr

import weatherdiff
from weatherdiff.cli import main
from weatherdiff.forecasting import Forecaster

CONFIG = """
output: {output}
data: {{source: {output}/source.nc}}
window: {{step: 6h, frames: 3}}
splits:
  training: [2019-12-20, 2020-01-18]
  validation: [2020-01-20, 2020-01-27]
  test: [2020-01-29, 2020-02-02]
forecast:
  lead_time: 18h
  init_times: [2020-01-30T06, 2020-01-31T06]
  members: 2
  member_block: 2
  steps: 1
  precision: fp32
"""
TABLE = "variable,level,latitude,longitude,valid_time,value,error\n"
ROW = "geopotential,500,51,0,2020-01-30T18Z,50300,20\n"
Call = Callable[..., int]


@pytest.fixture
def call(forecaster: Forecaster, small_analyses: xr.Dataset, tmp_path: Path) -> Call:
    small_analyses["level"].attrs["units"] = "hPa"
    small_analyses.to_netcdf(tmp_path / "source.nc")
    forecaster.save(tmp_path / "model")
    (tmp_path / "config.yaml").write_text(CONFIG.format(output=tmp_path))

    def run(*options: str) -> int:
        return main(["forecast", str(tmp_path / "config.yaml"), *options])

    return run


def test_forecasts_are_guided_and_say_by_what(call: Call, tmp_path: Path) -> None:
    table = tmp_path / "stations.csv"
    table.write_text(TABLE + ROW)
    observed = ("--observations", str(table))
    assert call(*observed) == 0
    guided = weatherdiff.open_forecasts(tmp_path / "forecasts").load()
    settings = json.loads(guided.attrs["weatherdiff_made_with"])
    assert guided.attrs["observations"] == str(table)
    assert settings["observations"] == str(table)
    assert settings["guidance_method"] == "auto"
    assert len(settings["observations_sha256"]) == 64
    assert call("--overwrite") == 0
    free = weatherdiff.open_forecasts(tmp_path / "forecasts").load()
    assert not {"observations", "guidance_method"} & set(
        json.loads(free.attrs["weatherdiff_made_with"])
    )
    # The other initial time has no observation.
    assert not guided["geopotential"][0].equals(free["geopotential"][0])
    assert guided["geopotential"][1].equals(free["geopotential"][1])


def test_a_table_that_changed_makes_another_forecast(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "stations.csv"
    table.write_text(TABLE + ROW)
    observed = ("--observations", str(table))
    assert call(*observed) == 0
    assert call(*observed) == 0
    table.write_text(TABLE + ROW.replace("50300", "50200"))
    assert call(*observed) == 78
    assert "made with another model or other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "row", "code", "sentence"),
    [
        ([], ROW.replace("T18", "T19"), 78, "no observation at a frame of any of the forecasts"),
        ([], ROW.replace("geopotential,500", "rain,"), 65, "is of rain, which the model has not"),
        ([], "", 65, "no observations in the table"),
        (["--set", "forecast.guidance_method=best"], ROW, 78, "guidance_method"),
        (["--set", "forecast.guidance=0.5"], ROW, 78, "history_dropout"),
        (["--sampler", "ancestral"], ROW, 78, "chain of noising steps, which the linear path has"),
        (["--sampler", "rk4"], ROW, 78, "forecast.sampler: Input should be 'euler'"),
        (["--steps", "0"], ROW, 78, "forecast.steps: Input should be greater than or equal to 1"),
        (["--observations", "absent.csv"], ROW, 66, "absent.csv does not exist"),
    ],
)
def test_what_has_no_meaning_is_refused(
    call: Call,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    row: str,
    code: int,
    sentence: str,
) -> None:
    table = tmp_path / "stations.csv"
    table.write_text(TABLE + row)
    assert call("--observations", str(table), *options) == code
    assert sentence in capsys.readouterr().err
    assert not list((tmp_path / "forecasts").glob("*.zarr"))


def test_a_method_without_observations_is_refused(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--guidance-method", "exact") == 78
    assert "guidance_method exact is for observations" in capsys.readouterr().err


def test_any_sampler_and_number_of_steps_may_be_asked_for(call: Call) -> None:
    assert call("--sampler", "heun", "--steps", "4") == 0
