"""What a worker of a cluster does, without a cluster."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from weatherdiff.errors import StorageError
from weatherdiff.forecasting import Forecaster
from weatherdiff.forecasting.fanout import Drawing, identity
from weatherdiff.forecasting.forecaster import Sampling
from weatherdiff.forecasting.work import Work

INIT = np.datetime64("2020-01-30T06", "ns")
FRAMES = 5


@pytest.fixture
def work(forecaster: Forecaster, tmp_path: Path) -> Work:
    """Announce five frames of five members, in units of two."""
    leads = forecaster.spec.step * np.arange(1, FRAMES + 1)
    return Work(
        folder=tmp_path / "forecasts",
        example=forecaster.layout(INIT, 5),
        lead_times=leads.astype("timedelta64[s]").astype("timedelta64[ns]"),
        block=(forecaster.spec.frames, 2),
        attributes={},
        valid={"2m_temperature": np.zeros(forecaster.grid.shape, bool)},  # which has a sea
    )


@pytest.fixture
def drawing(
    forecaster: Forecaster, small_analyses: xr.Dataset, work: Work, tmp_path: Path
) -> Drawing:
    """Give what a worker is sent."""
    forecaster.save(tmp_path / "model")
    times = slice("2020-01-29", "2020-01-30T06")
    return Drawing(
        model=tmp_path / "model",
        identity=identity(tmp_path / "model"),
        threads=1,
        analyses=small_analyses.drop_vars("orography").sel(time=times),
        init_time=INIT,
        frames=FRAMES,
        members=5,
        seed=0,
        sampling=Sampling(steps=1, member_block=2, precision="fp32"),
        writer=work.writer,
    )


def test_a_worker_loads_the_model_once(
    drawing: Drawing, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Any] = []
    load = Forecaster.load
    monkeypatch.setattr(Forecaster, "load", lambda folder: loads.append(folder) or load(folder))
    work.begin()
    for unit in work.due():
        sent = pickle.loads(pickle.dumps(drawing))  # noqa: S301
        work.take(sent.unit(unit))
    assert work.due() == []
    assert loads == [drawing.model]


def test_what_is_sent_to_a_worker_has_no_members(work: Work, forecaster: Forecaster) -> None:
    many = replace(work, example=forecaster.layout(INIT, 2000))
    size = sum(field.nbytes for field in many.example.data_vars.values())
    assert len(pickle.dumps(many.writer)) < size / 20


def test_a_worker_refuses_another_model(drawing: Drawing, forecaster: Forecaster) -> None:
    forecaster.noise_scale[0, 0] *= 2
    forecaster.save(drawing.model, overwrite=True)
    with pytest.raises(StorageError, match="another model"):
        drawing.rollout(range(2))
    assert identity(drawing.model) != drawing.identity


def test_a_folder_of_a_dead_worker_is_not_taken(drawing: Drawing, work: Work) -> None:
    work.begin()
    lost = drawing.unit(0)
    drawn = drawing.unit(0)  # by another one, which replaces what was not taken
    assert not lost.folder.exists()
    assert drawn.files == lost.files
    work.take(drawn)
    assert work.due() == [1, 2]
    assert not drawn.folder.exists()
