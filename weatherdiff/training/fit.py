"""One training run: Lightning's trainer, wired so that nothing it writes is a pickle."""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch import callbacks
from lightning.pytorch.loggers import CSVLogger, Logger

from weatherdiff.errors import InputError
from weatherdiff.models import VideoDenoiser
from weatherdiff.training.checkpoint import SafeCheckpointIO
from weatherdiff.training.datamodule import WindowDataModule
from weatherdiff.training.ema import ExponentialMovingAverage
from weatherdiff.training.module import FlowMatchingModule

__all__ = ["FitResult", "Schedule", "fit"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """When to validate, save and stop.

    Parameters
    ----------
    validate_every : int
        Training steps between validations; a checkpoint is written at each.
    patience : int
        Validations without improvement after which training stops.
    ema_decay : float
        Of the averaged weights.
    gradient_clip : float
        Largest norm of the gradient.
    precision : str
        As Lightning's: ``"32-true"``, ``"bf16-mixed"``.
    devices : int or str
        As Lightning's; several devices use distributed data parallel.
    """

    validate_every: int = 250
    patience: int = 10
    ema_decay: float = 0.999
    gradient_clip: float = 1.0
    precision: str = "bf16-mixed"
    devices: int | str = "auto"


@dataclass(frozen=True)
class FitResult:
    """The best network, and how it was reached."""

    network: VideoDenoiser
    best_score: float
    best_step: int
    steps: int


def fit(
    module: FlowMatchingModule,
    data: WindowDataModule,
    folder: str | os.PathLike[str],
    *,
    schedule: Schedule | None = None,
    resume: bool = True,
    progress: bool = True,
) -> FitResult:
    """Train; keep the averaged weights with the best validation score.

    Parameters
    ----------
    module, data
        What to train, on what.
    folder : path
        For checkpoints (``last.ckpt``, ``best.ckpt``) and logs (``metrics.csv``; TensorBoard's
        where it is installed).
    schedule : Schedule, optional
    resume : bool
        Go on from ``last.ckpt`` if it is there.
    progress : bool
        Show a progress bar.

    Returns
    -------
    FitResult
        The network holds the averaged weights of the best validation.

    Raises
    ------
    InputError
        There is no training or validation window, or the loss is not finite.
    """
    schedule = schedule or Schedule()
    folder = Path(folder)
    for name, windows in (("training", data.training), ("validation", data.validation)):
        if not len(windows):
            raise InputError(
                f"There is no {name} window: no initial time has all its history and target "
                "frames in the data. Check the period, the step and the gaps."
            )
    best = callbacks.ModelCheckpoint(
        dirpath=folder,
        filename="best",
        monitor="val_crps",
        mode="min",
        save_last=True,
        enable_version_counter=False,
        auto_insert_metric_name=False,
    )
    stop = callbacks.EarlyStopping(
        "val_crps", mode="min", patience=schedule.patience, check_finite=True
    )
    wanted: list[callbacks.Callback] = [
        ExponentialMovingAverage(schedule.ema_decay),
        best,
        stop,
        callbacks.LearningRateMonitor("step"),
    ]
    if progress:
        wanted.append(callbacks.RichProgressBar(refresh_rate=5))
    steps = module.optimization.steps
    with warnings.catch_warnings():
        _quiet_lightning()
        trainer = L.Trainer(
            max_steps=steps,
            max_epochs=1,
            accelerator="auto",
            devices=schedule.devices,
            precision=schedule.precision,  # type: ignore[arg-type]
            gradient_clip_val=schedule.gradient_clip,
            val_check_interval=min(schedule.validate_every, steps),
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            callbacks=wanted,
            logger=_loggers(folder),
            plugins=[SafeCheckpointIO()],
            enable_progress_bar=progress,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        last = folder / "last.ckpt"
        trainer.fit(
            module, datamodule=data, ckpt_path=str(last) if resume and last.exists() else None
        )
    if trainer.interrupted:
        raise KeyboardInterrupt
    state = SafeCheckpointIO().load_checkpoint(best.best_model_path)
    module.load_state_dict(state["state_dict"])
    score = float(best.best_model_score) if best.best_model_score is not None else float("nan")
    return FitResult(
        network=module.network.eval(),
        best_score=score,
        best_step=int(state["global_step"]),
        steps=int(trainer.global_step),
    )


def _loggers(folder: Path) -> list[Logger]:
    loggers: list[Logger] = [CSVLogger(folder, name="", version="logs")]
    try:
        from lightning.pytorch.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(folder, name="", version="logs"))
    except ImportError:  # an extra
        logger.debug("tensorboard is not installed: metrics go to CSV alone")
    return loggers


def _quiet_lightning() -> None:
    """Silence advice that does not apply: the loader has no workers on purpose."""
    for message in (
        ".*does not have many workers.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*number of training batches .* is smaller than the logging interval.*",
        ".*resumes from the checkpoint.*mid-epoch.*",
    ):
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)


def describe(result: FitResult) -> dict[str, Any]:
    """Plain types for provenance."""
    return {
        "best_validation_crps": result.best_score,
        "best_step": result.best_step,
        "steps": result.steps,
    }
