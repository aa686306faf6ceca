"""Training on data as they are, on several stores, and from a model that was trained before."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
import yaml

from weatherdiff import Forecaster, workflow
from weatherdiff.config import Config
from weatherdiff.data.loader import WindowDataset
from weatherdiff.data.loading.mixture import MixtureDataset
from weatherdiff.errors import ConfigError, InputError
from weatherdiff.training import WindowDataModule
from weatherdiff.workflow.fields import init_times_of

Make = Callable[..., Config]


@pytest.fixture(scope="module")
def make(session_analyses: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Build configurations of runs of a few steps on data in files, a frame absent, one with a gap.

    Each spoils four of the 117 training windows; one of those begins at the absent time itself.
    """
    folder = tmp_path_factory.mktemp("transfer")
    names = ["2m_temperature", "mean_sea_level_pressure"]
    analyses = session_analyses[names].copy(deep=True)
    analyses["2m_temperature"][50, 0, 0] = np.nan
    for number, part in enumerate((slice(0, 30), slice(31, None))):
        analyses.isel(time=part).to_netcdf(folder / f"{number}.nc")

    def make(name: str, data: dict[str, object] | None = None, **training: object) -> Config:
        document = {
            "output": str(folder / name),
            "data": {"source": str(folder / "*.nc"), "variables": names, **(data or {})},
            "window": {"step": "6h", "history": 2, "frames": 2},
            "splits": {
                "training": ["2019-12-20", "2020-01-18"],
                "validation": ["2020-01-20", "2020-01-27"],
                "test": ["2020-01-29", "2020-02-02"],
            },
            "forcings": ["time_of_day"],
            "model": {"size": "tiny"},
            "training": {
                "steps": 3, "batch_size": 4, "warmup": 1, "validate_every": 3, "devices": 1,
                "validation_windows": 4, "validation_members": 2, "precision": "32-true",
                "calibrate": False, **training,
            },
            "forecast": {"lead_time": "12h"},
        }  # fmt: skip
        return Config.model_validate(yaml.safe_load(yaml.safe_dump(document)))

    return make


@pytest.fixture(scope="module")
def base(make: Make) -> Forecaster:
    """A run on a prepared store."""
    config = make("base")
    workflow.prepare(config)
    return workflow.train(config)


def test_unprepared_training_gives_the_model_of_the_prepared_store(
    base: Forecaster, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    config = make("unprepared", {"prepare": False})
    with caplog.at_level(logging.WARNING):
        model = workflow.train(config)
    assert caplog.text.count("Reading unprepared") == 1
    assert "a prepared store would give about" in caplog.text
    left_out = "training: 109 windows; 3 left out for an absent frame, 4 for missing data."
    assert caplog.text.count(left_out) == 1
    record = model.provenance["training"]
    assert record["windows_without_a_frame"] == 3
    assert record["windows_with_missing_data"] == 4
    assert not config.store.exists()
    for name, values in base.network.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], values)
    np.testing.assert_array_equal(model.normalizer.climatology, base.normalizer.climatology)
    times = init_times_of(config, None)
    assert times == init_times_of(make("base"), None)
    assert len(times) > 3
    with pytest.raises(ConfigError, match=r"data\.prepare is false"):
        workflow.prepare(config)


def test_fine_tuning_keeps_the_normalisation_and_says_how_far_the_data_are_from_it(
    base: Forecaster, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    start = make("base").model_folder
    config = make("tuned", start_from=str(start), learning_rate=1e-12, weight_decay=0.0)
    config.output.mkdir()
    (config.output / "fields.zarr").symlink_to(make("base").store)
    with caplog.at_level(logging.INFO):
        model = workflow.train(config)
    np.testing.assert_array_equal(model.normalizer.std, base.normalizer.std)
    for name, values in base.network.state_dict().items():
        torch.testing.assert_close(model.network.state_dict()[name], values, atol=1e-6, rtol=1e-5)
    assert "anomalies of 2m_temperature have mean" in caplog.text
    record = model.provenance["training"]["started_from"]
    assert record["model"] == str(start)
    assert record["deviations"]["2m_temperature"]["std"] == pytest.approx(1, abs=0.2)


def test_a_model_of_another_make_is_not_gone_on_from(base: Forecaster, make: Make) -> None:
    start = str(make("base").model_folder)

    one = make("one", {"variables": ["2m_temperature"], "prepare": False}, start_from=start)
    with pytest.raises(InputError, match="has the channels 2m_temperature, mean_sea_level"):
        workflow.train(one)
    whole = make("whole", {"prepare": False}, start_from=start)
    longer = whole.window.model_copy(update={"history": 3})
    with pytest.raises(ConfigError, match="was trained with window"):
        workflow.train(whole.model_copy(update={"window": longer}))
    size = whole.model.model_copy(update={"size": "small"})
    with pytest.raises(ConfigError, match="size of its network is tiny"):
        workflow.train(whole.model_copy(update={"model": size}))
    objective = whole.objective.model_copy(update={"prediction": "data"})
    with pytest.raises(ConfigError, match="prediction of its objective is velocity"):
        workflow.train(whole.model_copy(update={"objective": objective}))


def test_a_mixture_trains_and_never_sees_what_is_held_out(
    base: Forecaster, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    companion = {"store": str(make("base").store), "weight": 3, "training": ["2019", "2020"]}
    config = make("mixed", {"prepare": False}, mixture=[companion])
    with caplog.at_level(logging.INFO):
        model = workflow.train(config)
    (record,) = model.provenance["training"]["mixture"]
    assert record["weight"] == 3
    own = model.provenance["training"]["windows"] - record["windows"]
    # 19 January is in no split but for its last frame, a history; 28 January is too short
    assert own == 117 - 8
    assert record["windows"] == 120 - 8
    assert "a time that is held out" in caplog.text


def test_a_resumed_mixture_gets_the_batches_that_it_would_have_got(
    small_windows: dict[str, WindowDataset],
) -> None:
    parts = [small_windows["training"], small_windows["validation"]]

    def batches(step: int, rank: int, ranks: int, order: str = "exact") -> list[torch.Tensor]:
        data = WindowDataModule(
            MixtureDataset(parts, (1.0, 2.5)), parts[1], batch_size=8, steps=12, seed=5, order=order
        )
        data.trainer = SimpleNamespace(global_rank=rank, world_size=ranks, global_step=step)
        assert data.state_dict()["order"]["order"] == "mixture"
        return [batch.target for batch in data.train_dataloader()]

    whole = batches(0, 0, 1)
    halves = [batches(7, rank, 2) for rank in (0, 1)]
    for together, *shares in zip(whole[7:], *halves, strict=True):
        torch.testing.assert_close(torch.cat(shares), together, rtol=0, atol=0)
