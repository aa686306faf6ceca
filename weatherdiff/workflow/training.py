"""From a field store to a trained model."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.config import Config
from weatherdiff.errors import ConfigError
from weatherdiff.progress import progress_bar
from weatherdiff.staging import locked, remove_leftovers
from weatherdiff.workflow.fields import open_training_fields, window_spec, windows_of
from weatherdiff.workflow.record import digest, set_threads, timed, versions
from weatherdiff.workflow.transfer import (
    load_start,
    mixed,
    on_terms_of,
    plain_deviations,
    report_deviations,
    start_weights,
)

if TYPE_CHECKING:
    from weatherdiff.data.loader import WindowDataset
    from weatherdiff.flow import Objective
    from weatherdiff.forecasting.forecaster import Forecaster
    from weatherdiff.grid import Grid

__all__ = ["fair_crps", "objective_of", "train", "training_settings"]

logger = logging.getLogger(__name__)


def train(config: Config, *, resume: bool = True, overwrite: bool = False) -> Forecaster:
    """Train on the prepared store, or the source as it is; write the model folder.

    Parameters
    ----------
    config : Config
    resume : bool
        Go on from the last checkpoint of the same configuration, if there is one.
    overwrite : bool
        Replace a trained model.

    Raises
    ------
    ConfigError
        There is a model already, or the store was prepared with other settings.
    InputError
        A period holds no window.
    LockedError
        Another process trains in the same output folder.
    """
    with ExitStack() as stack:
        first = not int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))
        if first and config.output.exists():
            stack.enter_context(locked(config.model_folder))
            remove_leftovers(config.output, of=config.model_folder.name)
        return _train(config, resume=resume, overwrite=overwrite)


def _train(config: Config, *, resume: bool, overwrite: bool) -> Forecaster:
    import torch

    from weatherdiff.forecasting.forecaster import Forecaster
    from weatherdiff.models import VideoDenoiser
    from weatherdiff.models.arithmetic import bfloat16_is_fast
    from weatherdiff.training.augmentation import Augmentation
    from weatherdiff.training.calibration import calibrate_noise
    from weatherdiff.training.datamodule import WindowDataModule
    from weatherdiff.training.fit import Schedule, describe, fit
    from weatherdiff.training.module import FlowMatchingModule, Optimization

    if config.model_folder.exists() and not overwrite:
        raise ConfigError(
            f"{config.model_folder} holds a trained model; run train with --overwrite, or choose "
            "another output folder."
        )
    set_threads(config)
    store, start = open_training_fields(config), load_start(config)
    if start is not None:
        store = on_terms_of(start, store, config)
    objective = objective_of(config, store.grid)
    own, validation = (windows_of(config, store, name) for name in ("training", "validation"))
    options = config.training
    if not config.data.prepare:
        _report_gain(own, options.batch_size)
    training, others = mixed(config, own)
    precision = options.precision
    if precision == "auto":
        precision = "bf16-mixed" if bfloat16_is_fast() else "32-true"
    if options.batches == "bf16" and precision != "bf16-mixed":
        raise ConfigError(
            f"training.batches bf16 needs training.precision bf16-mixed; here it is {precision}."
        )
    example = training[0]
    network = _seeded(
        options.seed,
        lambda: VideoDenoiser(
            frames=config.window.frames,
            channels=len(store.channels),
            history=config.window.history,
            forcings=example.forcings.shape[2],
            static=example.static.shape[1],
            periodic=store.grid.is_periodic,
            size=config.model.size,
            mixing=config.model.mixing,
            dropout=config.model.dropout,
            outputs=objective.outputs,
        ),
    )
    if start is not None:
        start_weights(network, start, objective, options.start_from)
    module = FlowMatchingModule(
        network,
        Optimization(
            steps=options.steps,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            warmup=min(options.warmup, options.steps),
        ),
        fair_crps,
        seed=options.seed,
        objective=objective,
        members=options.validation_members,
        augment=Augmentation(
            training,
            rotation=options.rotation,
            amplitude=options.amplitude,
            history_noise=options.history_noise,
            history_dropout=config.objective.history_dropout,
        ),
    )
    data = WindowDataModule(
        training,
        validation,
        batch_size=options.batch_size,
        steps=options.steps,
        seed=options.seed,
        validation_every=max(1, -(-len(validation) // options.validation_windows)),
        order=options.order,
        dtype=torch.bfloat16 if options.batches == "bf16" else None,
    )
    # A store that was prepared again may hold other data: a run on it starts anew.
    settings = training_settings(config)
    del settings["training"]["devices"]  # a run goes on on any number of them
    contents = [store.metadata["created"], *(other["created"] for other in others)]
    transfer: dict[str, Any] = {"mixture": others} if others else {}
    if start is not None:
        transfer["started_from"] = _describe_start(config, start, own)
        contents.append(transfer["started_from"]["weights_sha256"])
    key = digest([settings, *contents])[:12]
    folder = config.output / "training" / key
    with timed(config, "train"), progress_bar("train", "steps") as progress:
        result = fit(
            module,
            data,
            folder,
            schedule=Schedule(
                validate_every=options.validate_every,
                patience=options.patience,
                ema_decay=options.ema_decay,
                gradient_clip=options.gradient_clip,
                precision=precision,
                devices=options.devices,
            ),
            resume=resume,
            progress=progress,
        )
        scale = np.ones((config.window.frames, len(store.channels)), np.float32)
        if options.calibrate:
            data.trainer = None  # all windows, not this process's share
            scale = calibrate_noise(
                result.network,
                data.val_dataloader(),
                members=20,
                seed=options.seed,
                steps=objective.schedule.steps,
                objective=objective,
            )
    forecaster = Forecaster(
        network=result.network,
        channels=store.channels,
        grid=store.grid,
        normalizer=store.normalizer,
        spec=window_spec(config),
        forcings=tuple(config.forcings),
        mask=store.mask,
        static=example.static[0].numpy(),
        noise_scale=scale,
        fill=config.data.fill is not None,
        provenance={
            "training": {
                **describe(result),
                "windows": len(training),
                "windows_without_a_frame": training.windows.absent,
                "windows_with_missing_data": training.windows.invalid,
                **transfer,
            },
            "configuration": config.model_dump(mode="json", exclude={"output"}),
            "source": store.metadata["source"],
            "versions": versions(),
        },
        objective=objective,
        history_dropout=config.objective.history_dropout,
    )
    if result.rank == 0:  # of several processes that trained together, one writes
        forecaster.save(config.model_folder, overwrite=overwrite)
        (folder / "last.ckpt").unlink(missing_ok=True)  # done: to train again is to begin again
    return forecaster


def _report_gain(windows: WindowDataset, batch_size: int) -> None:
    """Say once how much faster a prepared store would be."""
    from weatherdiff.data.loading.gain import measure_gain
    from weatherdiff.data.loading.unprepared import SourceFields

    if os.environ.get("RANK", "0") != "0" or not len(windows):
        return
    assert isinstance(windows.store, SourceFields)  # noqa: S101  (for the type checker)
    gain = measure_gain(windows.store, windows.windows.indices, batch_size=batch_size)
    logger.warning(
        "Reading unprepared: %s.%s",
        gain,
        " All windows are in memory by now, so only the start would be faster."
        if windows.in_memory
        else " Set data.prepare, and run prepare, if steps wait for data.",
    )


def _describe_start(config: Config, start: Forecaster, own: WindowDataset) -> dict[str, Any]:
    """Report and record what the training starts from, and how far the data are from it."""
    from weatherdiff.data.loading.mixture import deviations
    from weatherdiff.models.folder import load_model

    folder = config.training.start_from
    assert folder is not None  # noqa: S101  (for the type checker)
    found = deviations(own.store, own.windows.indices, start.normalizer)
    report_deviations(f"{config.store.name} beside {folder}", found)
    return {
        "model": str(folder),
        "weights_sha256": load_model(folder).metadata["weights_sha256"],
        "source": start.provenance.get("source"),
        "training": start.provenance.get("training"),
        "deviations": plain_deviations(found),
    }


def training_settings(config: Config) -> dict[str, Any]:
    """Give what a model depends on beside the contents of the source."""
    others = ("output", "forecast", "evaluation", "report", "batch", "threads")
    # prepared or not, the windows are the same
    return config.model_dump(
        mode="json", exclude={**dict.fromkeys(others, True), "data": {"prepare"}}
    )


def objective_of(config: Config, grid: Grid) -> Objective:
    """Give the rung asked for, with what the configuration changes of it.

    Raises
    ------
    ConfigError
        The parts do not go together.
    """
    from weatherdiff.flow import RUNGS, SpectralNoise, Times

    options, rung = config.objective, RUNGS[config.objective.rung]

    def wanted(*names: str) -> dict[str, Any]:
        found = {name: getattr(options, name) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    try:
        times = rung.times
        if options.times not in (None, times.name):
            times = Times(options.times, *((-1.2, 1.2) if options.times == "log_normal" else ()))
        if config.training.tau is not None:
            times = replace(times, mean=config.training.tau[0], std=config.training.tau[1])
        noise = None
        if options.noise == "isotropic":
            noise = SpectralNoise(
                tuple(grid.latitude.tolist()),
                tuple(grid.longitude.tolist()),
                options.noise_wavenumber,
                options.frame_correlation,
            )
        elif options.frame_correlation:
            raise ValueError("frame_correlation is of isotropic noise; set objective.noise")
        return replace(
            rung,
            **wanted("path", "prediction", "loss", "variance", "weighting", "coupling"),
            times=times,
            schedule=replace(rung.schedule, **wanted("sampler", "steps", "grid")),
            noise=noise,
        )
    except ValueError as error:
        raise ConfigError(f"objective: {error}.") from None


def fair_crps(
    forecast: npt.NDArray[np.floating],
    observation: npt.NDArray[np.floating],
    weights: npt.NDArray[np.floating],
) -> float:
    """Weighted mean fair CRPS of arrays (number, ...), (...) and (...)."""
    from weatherdiff.evaluation import crps_ensemble

    dims = [f"axis_{i}" for i in range(observation.ndim)]
    scores = crps_ensemble(
        xr.DataArray(forecast, dims=["number", *dims]), xr.DataArray(observation, dims=dims)
    )
    return float((scores.to_numpy() * weights).sum() / weights.sum())


def _seeded(seed: int, build: Any) -> Any:
    """Build with weights that depend on the seed, leaving the global generator as it was."""
    import torch

    from weatherdiff.flow import keyed_generator

    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(keyed_generator(seed).get_state())
        return build()
