"""The verbs: from a configuration to stores, a model, forecasts, scores and a report.

This is the composition root. Each function builds the parts that a configuration asks for, passes
them plain values, and leaves its result under the configuration's ``output`` folder; the parts
below never see the configuration.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.config import Config
from weatherdiff.data.prepare import parse_step
from weatherdiff.data.prepare import prepare as prepare_store
from weatherdiff.data.store import FieldStore
from weatherdiff.data.windows import (
    Period,
    WindowSpec,
    find_windows,
    parse_time,
    seconds,
    to_datetime,
)
from weatherdiff.errors import ConfigError, MissingInputError
from weatherdiff.layout import LAYOUT
from weatherdiff.progress import progress_bar
from weatherdiff.staging import remove_leftovers, staged

if TYPE_CHECKING:
    from weatherdiff.data.loader import WindowDataset
    from weatherdiff.flow import Objective
    from weatherdiff.forecasting.forecaster import Forecaster
    from weatherdiff.grid import Grid

__all__ = ["check", "evaluate", "forecast", "open_source", "prepare", "report", "run", "train"]

logger = logging.getLogger(__name__)

PREPARED_WITH = "weatherdiff_prepared_with"
MADE_WITH = "weatherdiff_made_with"


def open_source(config: Config) -> xr.Dataset:
    """Open the configured data as a canonical Dataset."""
    from weatherdiff.data.open import open_fields

    data = config.data
    return open_fields(
        data.source,
        variables=data.variables,
        levels=data.levels,
        rename=data.rename,
        units=data.units,
        engine=data.engine,
    )


def prepare(config: Config, *, overwrite: bool = False) -> FieldStore:
    """Prepare the field store; one that was prepared with the same settings is kept.

    Raises
    ------
    ConfigError
        There is a store that was prepared with other settings.
    """
    if config.store.exists() and not overwrite:
        store = _open_store(config)
        logger.info("%s is there already.", config.store)
        return store
    config.output.mkdir(parents=True, exist_ok=True)
    remove_leftovers(config.output)
    with _timed(config, "prepare"), progress_bar("prepare", "times") as progress:
        return prepare_store(
            open_source(config).assign_attrs({PREPARED_WITH: _prepare_settings(config)}),
            config.store,
            training_period=config.splits.training,
            step=config.window.step,
            frames=config.window.frames,
            fill=config.data.fill,
            overwrite=overwrite,
            progress=progress,
        )


def _prepare_settings(config: Config) -> str:
    """Give what a store depends on beside the source's contents; it is kept in the store."""
    settings = {
        "data": config.data.model_dump(mode="json"),
        "step": config.window.step,
        "frames": config.window.frames,
        "training": config.splits.training,
    }
    return json.dumps(settings, sort_keys=True)


def _open_store(config: Config) -> FieldStore:
    store = FieldStore.open(config.store)
    if store.metadata["source"].get(PREPARED_WITH) != _prepare_settings(config):
        raise ConfigError(
            f"{config.store} was prepared with other settings; run prepare with --overwrite, or "
            "choose another output folder."
        )
    return store


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
    from weatherdiff.forecasting.forecaster import Forecaster
    from weatherdiff.models import VideoDenoiser
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
    _set_threads(config)
    store = _open_store(config)
    objective = _objective(config, store.grid)
    training, validation = (_windows(config, store, name) for name in ("training", "validation"))
    options = config.training
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
    )
    # A store that was prepared again may hold other data: a run on it starts anew.
    key = _digest([_training_settings(config), store.metadata["created"]])[:12]
    folder = config.output / "training" / key
    with _timed(config, "train"), progress_bar("train", "steps") as progress:
        result = fit(
            module,
            data,
            folder,
            schedule=Schedule(
                validate_every=options.validate_every,
                patience=options.patience,
                ema_decay=options.ema_decay,
                gradient_clip=options.gradient_clip,
                precision=options.precision,
                devices=options.devices,
            ),
            resume=resume,
            progress=progress,
        )
        scale = np.ones((config.window.frames, len(store.channels)), np.float32)
        if options.calibrate:
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
        spec=_spec(config),
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
    forecaster.save(config.model_folder, overwrite=overwrite)
    (folder / "last.ckpt").unlink()  # done: to train again is to begin again
    return forecaster


def _training_settings(config: Config) -> dict[str, Any]:
    """Give what a model depends on beside the contents of the source."""
    return config.model_dump(mode="json", exclude={"output", "forecast", "report", "threads"})


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


def forecast(config: Config, *, overwrite: bool = False) -> Path:
    """Make the configured forecasts that are not there yet; return their folder.

    Raises
    ------
    ConfigError
        A forecast that is there was made with another model or other settings.
    """
    from weatherdiff.forecasting.forecaster import Forecaster, Sampling
    from weatherdiff.forecasting.writer import forecast_attributes, forecast_name, write_forecast

    _set_threads(config)
    forecaster = Forecaster.load(config.model_folder)
    ds = open_source(config)
    options = config.forecast
    sampling = Sampling(
        sampler=options.sampler,
        steps=options.steps,
        member_block=options.member_block,
        precision=options.precision,
        noise=options.noise,
        grid=options.grid,
        guidance=options.guidance,
    )
    schedule = forecaster.schedule(sampling)  # refuses what has no meaning for the model
    frames = forecaster.frames_until(options.lead_time)
    init_times = _init_times(config, frames)
    settings = _forecast_settings(config, asdict(schedule))
    config.forecasts.mkdir(parents=True, exist_ok=True)
    remove_leftovers(config.forecasts)
    due = []
    for init_time in init_times:
        path = config.forecasts / forecast_name(init_time)
        if overwrite or not path.exists():
            due.append(init_time)
        elif forecast_attributes(path).get(MADE_WITH) != settings:
            raise ConfigError(
                f"{path} was made with another model or other settings; run forecast with "
                "--overwrite, or choose another output folder."
            )
    if not due:
        logger.info("All %d forecasts are there already.", len(init_times))
        return config.forecasts
    attributes = {
        "title": "weatherdiff ensemble forecast",
        "history": f"weatherdiff {versions()['weatherdiff']}",
        "seed": options.seed,
        "model": str(config.model_folder),
        "licence_of_source": str(ds.attrs.get("licence", ds.attrs.get("license", ""))),
        LAYOUT: ds.attrs[LAYOUT],
        MADE_WITH: settings,
    }
    with _timed(config, "forecast"), progress_bar("forecast", "initial times") as progress:
        for done, init_time in enumerate(due, start=1):
            blocks = forecaster.rollout(
                ds,
                init_time=init_time,
                frames=frames,
                members=options.members,
                seed=options.seed,
                sampling=sampling,
            )
            write_forecast(
                config.forecasts,
                blocks,
                frames=frames,
                member_block=options.member_block,
                attributes=attributes,
                overwrite=overwrite,
            )
            progress(done, len(due))
    return config.forecasts


def _forecast_settings(config: Config, schedule: dict[str, Any]) -> str:
    """Give what forecasts depend on beside initial times and the contents of the source."""
    model = json.loads((config.model_folder / "model.json").read_text())
    options = config.forecast.model_dump(mode="json", exclude={"init_times", "every"})
    options |= schedule
    # As forecasts were described before there was a choice, so that those that are there stay.
    for key, only in (("grid", "uniform"), ("guidance", 1.0)):
        if options[key] == only:
            del options[key]
    return json.dumps({**options, "weights_sha256": model["weights_sha256"]}, sort_keys=True)


def _objective(config: Config, grid: Grid) -> Objective:
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
            **wanted("path", "prediction", "loss", "weighting", "coupling"),
            times=times,
            schedule=replace(rung.schedule, **wanted("sampler", "steps", "grid")),
            noise=noise,
        )
    except ValueError as error:
        raise ConfigError(f"objective: {error}.") from None


def evaluate(config: Config) -> xr.Dataset:
    """Score all forecasts of the output folder; write the scores and the summary."""
    from weatherdiff.evaluation import (
        ClimatologyEnsemble,
        Persistence,
        evaluate,
        summary,
        write_scores,
    )
    from weatherdiff.forecasting.writer import open_forecasts

    ds = open_source(config)
    with _timed(config, "evaluate"), progress_bar("evaluate", "initial times") as progress:
        scores = evaluate(
            open_forecasts(config.forecasts),
            ds,
            reference={
                "climatology": ClimatologyEnsemble(ds, period=config.splits.training),
                "persistence": Persistence(ds),
            },
            progress=progress,
        )
        write_scores(scores, config.scores)
    _write_json(config.summary, {**summary(scores), "seconds": _seconds(config)})
    return scores


def report(config: Config) -> Path:
    """Write the HTML report, after evaluating if that has not been done."""
    from weatherdiff.evaluation import open_scores
    from weatherdiff.forecasting.writer import open_forecasts
    from weatherdiff.report import write_report

    if not config.scores.exists():
        evaluate(config)
    model = json.loads((config.model_folder / "model.json").read_text())
    ds = open_source(config)
    write_report(
        config.report_page,
        scores=open_scores(config.scores),
        forecasts=open_forecasts(config.forecasts),
        observations=ds,
        provenance={
            **model["provenance"],
            "seconds": _seconds(config),
            "computer": {"python": platform.python_version(), "machine": platform.platform()},
        },
        title=config.report.title or "Ensemble forecast",
        points=config.report.points or None,
    )
    return config.report_page


def check(config: Config) -> str:
    """Open the data and say what the run would do; train nothing, write nothing."""
    from weatherdiff.data.channels import Channels
    from weatherdiff.data.forcings import forcing_fields
    from weatherdiff.grid import Grid
    from weatherdiff.models import VideoDenoiser

    ds = open_source(config)
    channels, grid = Channels.from_dataset(ds), Grid.from_dataset(ds)
    _objective(config, grid)
    times = seconds(ds["time"].values)
    spec = _spec(config)
    static = [n for n in ds.data_vars if "time" not in ds[n].dims]
    forcings = forcing_fields(config.forcings, times[:1], grid).shape[1]
    network = VideoDenoiser(
        frames=spec.frames,
        channels=len(channels),
        history=spec.history,
        forcings=forcings,
        static=(4 if grid.is_periodic else 3) + len(static),
        periodic=grid.is_periodic,
        size=config.model.size,
        mixing=config.model.mixing,
    )
    frame = 4 * len(channels) * grid.shape[0] * grid.shape[1]
    parameters = sum(p.numel() for p in network.parameters())
    members = config.forecast.members
    first, last = to_datetime(times[[0, -1]]).astype("datetime64[m]")
    lines = [
        f"times        {len(times)}, {first} to {last}",
        f"grid         {grid.shape[0]} latitudes x {grid.shape[1]} longitudes, "
        + ("global" if grid.is_periodic else "regional"),
        f"channels     {len(channels)}: {', '.join(channels.labels)}",
        f"static       {', '.join(map(str, static)) or 'none of the data'}",
        f"window       {spec.history} frames in, {spec.frames} out, {spec.step / 3600:g} h apart",
    ]
    present = np.ones(len(times), bool)
    for name in ("training", "validation", "test"):
        period = Period.parse(*getattr(config.splits, name))
        found = find_windows(times, present, spec, period)
        gaps = f" ({found.absent} more lack a frame)" if found.absent else ""
        lines.append(f"{name:12} {len(found)} windows{gaps}, {period}")
    network_bytes = 4 * 4 * parameters  # weights, gradients, two moments
    block = (spec.frames + spec.history) * frame
    lines += [
        f"network      {config.model.size}, {parameters / 1e6:.2f} million parameters",
        f"field store  {_size(frame * len(times))} before compression",
        "memory       about "
        f"{_size(network_bytes + 60 * block * config.training.batch_size)} to train, "
        f"{_size(8 * block * members + 4 * parameters)} to forecast",
        f"forecasts    {len(_init_times(config, None, ds))} x {members} members, "
        f"{_size(members * frame * spec.frames)} a block of {spec.frames} frames",
    ]
    return "\n".join(lines)


def run(config: Config) -> str:
    """Do all of it, from the data to the report; return the table of scores.

    Raises
    ------
    ConfigError
        A store, model or forecast is there that was made with other settings.
    """
    from weatherdiff.evaluation import open_scores, score_table
    from weatherdiff.models.folder import load_model

    prepare(config)
    if not config.model_folder.exists():
        train(config)
    known = load_model(config.model_folder).metadata["provenance"]["configuration"]
    if any(known.get(key) != value for key, value in _training_settings(config).items()):
        raise ConfigError(
            f"{config.model_folder} was trained with other settings; run train with --overwrite, "
            "or choose another output folder."
        )
    forecast(config)
    evaluate(config)
    report(config)
    return score_table(open_scores(config.scores))


def versions() -> dict[str, str]:
    """Of the packages that the numbers depend on."""
    names = ("weatherdiff", "torch", "lightning", "numpy", "xarray", "zarr", "dask")
    return {name: version(name) for name in names}


def _spec(config: Config) -> WindowSpec:
    window = config.window
    return WindowSpec(window.history, window.frames, parse_step(window.step))


def _windows(config: Config, store: FieldStore, split: str) -> WindowDataset:
    from weatherdiff.data.loader import WindowDataset

    spec = _spec(config)
    period = Period.parse(*getattr(config.splits, split))
    windows = find_windows(store.times, store.valid, spec, period)
    if windows.absent or windows.invalid:
        logger.warning(
            "%s: %d windows; %d left out for an absent frame, %d for missing data.",
            split, len(windows), windows.absent, windows.invalid,
        )  # fmt: skip
    return WindowDataset(store, windows, spec, config.forcings)


def _init_times(
    config: Config, frames: int | None, ds: xr.Dataset | None = None
) -> list[np.datetime64]:
    """Give the initial times asked for, or all that the test period can verify."""
    wanted = config.forecast.init_times
    if wanted != "test":
        return list(to_datetime([parse_time(t) for t in wanted]))
    if ds is not None:
        times = seconds(ds["time"].values)
        valid = np.ones(len(times), bool)
    else:
        store = FieldStore.open(config.store)
        times, valid = store.times, store.valid
    window = config.window
    spec = WindowSpec(window.history, frames or window.frames, parse_step(window.step))
    found = find_windows(times, valid, spec, Period.parse(*config.splits.test))
    if not len(found):
        raise MissingInputError(
            "No initial time of the test period has all its frames in the data."
        )
    return list(to_datetime(found.init_times)[:: config.forecast.every])


def _seeded(seed: int, build: Any) -> Any:
    """Build with weights that depend on the seed, leaving the global generator as it was."""
    import torch

    from weatherdiff.flow import keyed_generator

    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(keyed_generator(seed).get_state())
        return build()


def _set_threads(config: Config) -> None:
    import torch

    if config.threads is not None:
        torch.set_num_threads(config.threads)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write_json(path: Path, content: Any) -> None:
    with staged(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


@contextmanager
def _timed(config: Config, verb: str) -> Iterator[None]:
    """Record the wall time of a verb in the output folder."""
    start = time.monotonic()
    yield
    path = config.output / "seconds.json"
    _write_json(path, {**_seconds(config), verb: round(time.monotonic() - start, 1)})


def _seconds(config: Config) -> dict[str, float]:
    path = config.output / "seconds.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
