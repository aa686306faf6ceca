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
    from weatherdiff.forecasting.forecaster import Forecaster

__all__ = [
    "check",
    "evaluate",
    "forecast",
    "forecast_and_score",
    "open_source",
    "prepare",
    "report",
    "run",
    "train",
]

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
        tau=options.tau,
        members=options.validation_members,
        augment=Augmentation(
            training,
            rotation=options.rotation,
            amplitude=options.amplitude,
            history_noise=options.history_noise,
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
                result.network, data.val_dataloader(), members=20, seed=options.seed, steps=4
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
    )
    forecaster.save(config.model_folder, overwrite=overwrite)
    (folder / "last.ckpt").unlink()  # done: to train again is to begin again
    return forecaster


def _training_settings(config: Config) -> dict[str, Any]:
    """Give what a model depends on beside the contents of the source."""
    return config.model_dump(
        mode="json", exclude={"output", "forecast", "evaluation", "report", "threads"}
    )


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
    from weatherdiff.forecasting.writer import forecast_attributes, forecast_name, write_forecast

    sampling = _Sampler(config)
    init_times = _init_times(config, sampling.frames)
    config.forecasts.mkdir(parents=True, exist_ok=True)
    remove_leftovers(config.forecasts)
    due = []
    for init_time in init_times:
        path = config.forecasts / forecast_name(init_time)
        if overwrite or not path.exists():
            due.append(init_time)
        elif forecast_attributes(path).get(MADE_WITH) != sampling.attributes[MADE_WITH]:
            raise ConfigError(
                f"{path} was made with another model or other settings; run forecast with "
                "--overwrite, or choose another output folder."
            )
    if not due:
        logger.info("All %d forecasts are there already.", len(init_times))
        return config.forecasts
    with _timed(config, "forecast"), progress_bar("forecast", "initial times") as progress:
        for done, init_time in enumerate(due, start=1):
            write_forecast(
                config.forecasts,
                sampling.blocks(init_time),
                frames=sampling.frames,
                member_block=config.forecast.member_block,
                attributes=sampling.attributes,
                overwrite=overwrite,
            )
            progress(done, len(due))
    return config.forecasts


def forecast_and_score(config: Config) -> xr.Dataset:
    """Score the configured forecasts while they are made, and keep no member.

    The members of an initial time advance in lockstep, a block of frames at a time: memory is that
    of the members of one block. The scores are those of forecasting first and evaluating then. A
    run that was stopped goes on with the next initial time.
    """
    from weatherdiff import scoring
    from weatherdiff.evaluation import scores_from
    from weatherdiff.evaluation.lockstep import match_blocks, score_blocks
    from weatherdiff.evaluation.storage import StatisticsStore

    sampling = _Sampler(config)
    ds, options, period = sampling.analyses, config.evaluation, config.splits.training
    init_times = np.array(_init_times(config, sampling.frames)).astype("datetime64[ns]")
    config.output.mkdir(parents=True, exist_ok=True)
    with _timed(config, "forecast"), progress_bar("forecast", "initial times") as progress:
        matched = match_blocks(
            sampling.example(init_times[0]),
            ds,
            init_times=init_times,
            lead_times=sampling.lead_times,
            reference=scoring.baselines(options, ds, period),
            settings=scoring.score_settings(options, ds, period, config.thresholds),
        )
        with StatisticsStore(config.scores, matched, replace=True) as kept:
            due = np.flatnonzero(kept.missing(init_times))
            for done, position in enumerate(due, start=1):
                blocks = sampling.blocks(init_times[position])
                kept.add(score_blocks(matched.select(slice(position, position + 1)), blocks))
                progress(done, len(due))
            result = scores_from(kept.publish())
    _write_json(config.summary, {**_summary(result), "seconds": _seconds(config)})
    return result


class _Sampler:
    """The model and how a configuration draws from it."""

    def __init__(self, config: Config) -> None:
        from weatherdiff.forecasting.forecaster import Forecaster, Sampling

        _set_threads(config)
        options = config.forecast
        self._forecaster = Forecaster.load(config.model_folder)
        self._options = options
        self._sampling = Sampling(
            options.sampler, options.steps, options.member_block, options.precision, options.noise
        )
        self.analyses = ds = open_source(config)
        self.frames = self._forecaster.frames_until(options.lead_time)
        self.attributes = {
            "title": "weatherdiff ensemble forecast",
            "history": f"weatherdiff {versions()['weatherdiff']}",
            "seed": options.seed,
            "model": str(config.model_folder),
            "licence_of_source": str(ds.attrs.get("licence", ds.attrs.get("license", ""))),
            LAYOUT: ds.attrs[LAYOUT],
            MADE_WITH: _forecast_settings(config),
        }

    @property
    def lead_times(self) -> npt.NDArray[np.timedelta64]:
        """Of all frames."""
        step = self._forecaster.spec.step
        leads = step * np.arange(1, self.frames + 1)
        return leads.astype("timedelta64[s]").astype("timedelta64[ns]")

    def blocks(self, init_time: np.datetime64) -> Iterator[xr.Dataset]:
        """Draw the members of an initial time, a block of frames at a time."""
        return self._forecaster.rollout(
            self.analyses,
            init_time=init_time,
            frames=self.frames,
            members=self._options.members,
            seed=self._options.seed,
            sampling=self._sampling,
        )

    def example(self, init_time: np.datetime64) -> xr.Dataset:
        """Give a block as :meth:`blocks` gives it, without drawing: for its layout alone."""
        return self._forecaster.layout(init_time, self._options.members).assign_attrs(
            self.attributes
        )


def _forecast_settings(config: Config) -> str:
    """Give what forecasts depend on beside initial times and the contents of the source."""
    model = json.loads((config.model_folder / "model.json").read_text())
    options = config.forecast.model_dump(mode="json", exclude={"init_times", "every"})
    return json.dumps({**options, "weights_sha256": model["weights_sha256"]}, sort_keys=True)


def evaluate(
    config: Config,
    *,
    forecasts: str | None = None,
    scores: str | None = None,
    scheduler: str | None = None,
) -> xr.Dataset:
    """Score forecasts beside the baselines; write the scores and the summary.

    What is scored already is not scored again; new initial times are added.

    Parameters
    ----------
    config : Config
    forecasts : str, optional
        Anybody's forecasts, see :func:`weatherdiff.scoring.open_any_forecasts`; those of the output
        folder unless given.
    scores : str, optional
        Where to write; the output folder's ``scores.zarr`` unless given.
    scheduler : str, optional
        Address of a dask scheduler; threads of this process unless given.
    """
    from weatherdiff import scoring
    from weatherdiff.evaluation import scores_from, statistics

    options, period = config.evaluation, config.splits.training
    ds = open_source(config)
    opened = scoring.open_any_forecasts(forecasts or config.forecasts)
    path = Path(scores) if scores else config.scores
    config.output.mkdir(parents=True, exist_ok=True)
    with (
        _timed(config, "evaluate"),
        progress_bar("evaluate", "initial times") as progress,
        scoring.executor_of(scheduler, options.workers) as executor,
    ):
        sums = statistics(
            opened,
            ds,
            reference=scoring.baselines(options, ds, period),
            settings=scoring.score_settings(options, ds, period, config.thresholds),
            store=path,
            # The output folder's own scores follow its forecasts.
            replace=path == config.scores,
            executor=executor,
            progress=progress,
        )
    result = scores_from(sums)
    if path == config.scores:
        _write_json(config.summary, {**_summary(result), "seconds": _seconds(config)})
    return result


def _summary(scores: xr.Dataset) -> dict[str, object]:
    from weatherdiff.evaluation import summary

    return summary(scores)


def report(config: Config) -> Path:
    """Write the HTML report, after evaluating if that has not been done."""
    from weatherdiff.evaluation import open_scores
    from weatherdiff.forecasting.writer import open_forecasts
    from weatherdiff.report import write_report
    from weatherdiff.scoring import comparisons

    if not config.scores.exists():
        evaluate(config)
    model = json.loads((config.model_folder / "model.json").read_text())
    ds = open_source(config)
    scores = open_scores(config.scores)
    write_report(
        config.report_page,
        scores=scores,
        references=comparisons(scores),
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
        "scores       "
        f"with forecast --evaluate-only {_size(members * frame * spec.frames)} of members are held "
        "at once, one block of one initial time, and none stored",
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
