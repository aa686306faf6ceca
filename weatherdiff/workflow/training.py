"""From a field store to a trained model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.config import Config
from weatherdiff.errors import ConfigError
from weatherdiff.progress import progress_bar
from weatherdiff.workflow.fields import open_store, window_spec, windows_of
from weatherdiff.workflow.record import digest, set_threads, timed, versions

if TYPE_CHECKING:
    from weatherdiff.flow import Objective
    from weatherdiff.forecasting.forecaster import Forecaster
    from weatherdiff.grid import Grid

__all__ = ["fair_crps", "objective_of", "train", "training_settings"]


def train(config: Config, *, resume: bool = True, overwrite: bool = False) -> Forecaster:
    """Train on the prepared store; write the model folder.

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
    """
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
    store = open_store(config)
    objective = objective_of(config, store.grid)
    training, validation = (windows_of(config, store, name) for name in ("training", "validation"))
    options = config.training
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
    key = digest([settings, store.metadata["created"]])[:12]
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
        (folder / "last.ckpt").unlink()  # done: to train again is to begin again
    return forecaster


def training_settings(config: Config) -> dict[str, Any]:
    """Give what a model depends on beside the contents of the source."""
    return config.model_dump(
        mode="json", exclude={"output", "forecast", "evaluation", "report", "batch", "threads"}
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
