"""What else happens to the folders of scheduled runs: ledgers, models and links of others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weatherdiff.cli import main
from weatherdiff.config import Config, load_config
from weatherdiff.errors import StorageError
from weatherdiff.forecasting.forecaster import Forecaster
from weatherdiff.forecasting.manifest import read_manifest
from weatherdiff.sealed import seal
from weatherdiff.workflow import Request, status
from weatherdiff.workflow.ledger import read_ledger, record_runs
from weatherdiff.workflow.making import make_forecast
from weatherdiff.workflow.record import seconds_spent
from weatherdiff.workflow.retention import newest_sound
from weatherdiff.workflow.sampling import Sampler

INIT = "2020-01-30T06"
LEDGERS: dict[str, Any] = {
    "nested too deep": "[" * 200_000,
    "runs that are none": seal({"version": 1, "runs": {"2020-01-30T06:00Z": 7, "x": []}}),
    "no list of runs": seal({"version": 1, "runs": 5}),
    "a run of which nothing is said": seal({"version": 1, "runs": {"2020-01-30T06:00Z": {}}}),
    "not text": b"\xff\xfe",
}


@pytest.mark.parametrize("content", LEDGERS.values(), ids=LEDGERS)
def test_a_ledger_that_is_none_of_ours_is_made_up_anew(
    site: Callable, content: str | bytes
) -> None:
    here = site()
    (here.forecasts / f"{INIT}.zarr").mkdir(parents=True)
    ledger = here.forecasts / "ledger.json"
    ledger.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert "published  1" in status(load_config(here.config), Request(now=0))
    record_runs(here.forecasts, {})
    assert list(json.loads(ledger.read_text())["runs"]) == [f"{INIT}:00Z"]
    assert "damaged" in read_ledger(here.forecasts)[f"{INIT}:00Z"]


def test_a_link_that_leads_to_nothing_does_not_end_retention(tmp_path: Path) -> None:
    (tmp_path / f"{INIT}.zarr").symlink_to(tmp_path / "archive")
    assert newest_sound(tmp_path) is None


def test_a_forecast_tells_of_the_model_that_made_it_though_it_has_been_replaced(
    site: Callable,
) -> None:
    here = site()
    config = load_config(here.config)
    loaded = Sampler(config)
    own = json.loads((config.model_folder / "model.json").read_text())["weights_sha256"]
    shutil.rmtree(config.model_folder)
    path = make_forecast(loaded, np.datetime64(INIT))
    assert path is not None
    said = read_manifest(path)[0]["run"]["model"]
    assert said == {
        "folder": str(config.model_folder),
        "weights_sha256": own,
        "description_sha256": loaded.identity,
    }


def test_a_model_that_is_replaced_while_it_is_loaded_is_loaded_again(
    site: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(site().config)
    load, times = Forecaster.load, iter([True, False, False])

    def loading(folder: Path) -> Forecaster:
        found = load(folder)
        if next(times):
            found.save(folder, overwrite=True)
            document = json.loads((folder / "model.json").read_text())
            (folder / "model.json").write_text(seal({**document, "trained": "again"}))
        return found

    monkeypatch.setattr(Forecaster, "load", loading)
    assert Sampler(config).identity
    assert next(times) is False
    monkeypatch.setattr(Forecaster, "load", _renewing(load))
    with pytest.raises(StorageError, match="replaced again and again"):
        Sampler(config)


def _renewing(load: Callable[[Path], Forecaster]) -> Callable[[Path], Forecaster]:
    count = iter(range(9))

    def loading(folder: Path) -> Forecaster:
        document = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(seal({**document, "trained": next(count)}))
        return load(folder)

    return loading


@pytest.mark.parametrize("text", ["", "[1]", "{", "\x00"])
def test_a_note_of_times_that_is_damaged_costs_no_work(site: Callable, text: str) -> None:
    config = load_config(site().config)
    (config.output / "seconds.json").write_text(text)
    assert seconds_spent(config) == {}


def test_options_are_texts_whatever_yaml_makes_of_them(
    site: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Config] = []
    monkeypatch.setattr("weatherdiff.workflow.forecast", lambda config, **_: given.append(config))
    for name in ("my stations #2.csv", "stations: all.csv", "12:00", "no", "grün.csv"):
        assert main(["forecast", str(site().config), "--observations", name]) == 0
        assert given[-1].forecast.observations == name
