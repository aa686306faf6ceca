"""The measurement of a store's loading is bounded, leaves nothing, and reads what it should."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from weatherdiff.cli import main
from weatherdiff.data.loading import benchmark
from weatherdiff.data.loading.benchmark import loading_table, measure_loading
from weatherdiff.data.prepare import prepare
from weatherdiff.errors import ConfigError, InputError

CONFIGS = Path(__file__).parents[2] / "configs"
UNPREPARED = "\ndata:\n  prepare: false"
SETTINGS = {"training_period": ("2020-03-01", "2020-03-08"), "step": "6h", "frames": 3}


@pytest.fixture(scope="module")
def store(grown, tmp_path_factory):
    return prepare(grown, tmp_path_factory.mktemp("bench") / "fields.zarr", **SETTINGS)


def test_all_contenders_read_windows_of_the_store(store):
    frames = store.read(np.arange(10, 40))
    known = {row.tobytes() for row in np.stack([frames[s : s + 3] for s in range(28)])}
    for name, run in benchmark._runs(store, frames, 10, 3, 4, 2).items():
        for batch in run(5):
            assert batch.shape == (4, 3, *store.shape[1:]), name
            assert {window.tobytes() for window in batch} <= known, name


def test_figures_are_told_and_nothing_is_left(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    before = sorted(store.path.rglob("*"))
    figures = tmp_path / "figures.json"
    command = ["data", "bench", str(store.path), "--seconds", "1e-9", "--json", str(figures)]
    assert main(command) == 0
    told = json.loads(figures.read_text())
    assert capsys.readouterr().out.strip() == loading_table(told)
    assert sorted(store.path.rglob("*")) == before
    assert os.listdir(tmp_path / "temporary") == []
    assert told["turns"] == 1
    assert {"memmap", "pool", "exact", "xarray"} == {
        key.removesuffix("_MBps") for key in told if key.endswith("_MBps")
    }
    for name in ("pool", "exact", "xarray"):
        ratio = told[f"{name}_MBps"] / told["memmap_MBps"]
        assert told[name] == pytest.approx(ratio)
        assert told[f"{name}_cpu"] > 0
    assert told["memmap_windows_per_second"] * 4 * store.nbytes / 60 / 1e6 == pytest.approx(
        told["memmap_MBps"]
    )


def test_what_cannot_be_measured_is_refused(store, tmp_path, capsys):
    with pytest.raises(ConfigError, match="positive"):
        measure_loading(store, frames=0)
    with pytest.raises(InputError, match="smaller batch"):
        measure_loading(store, frames=30, batch=40)
    assert main(["data", "bench", str(tmp_path / "absent.zarr")]) == 66
    assert "no field store" in capsys.readouterr().err
    run = tmp_path / "run.yaml"
    run.write_text((CONFIGS / "daily_pressure.yaml").read_text().replace("\ndata:", UNPREPARED))
    assert main(["data", "bench", str(run)]) == 78
    assert "data.prepare is false, so there is no store" in capsys.readouterr().err
