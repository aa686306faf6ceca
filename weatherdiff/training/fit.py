"""One training run: Lightning's trainer, wired so that nothing it writes is a pickle."""

from __future__ import annotations

import logging
import math
import os
import signal
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch import callbacks
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from weatherdiff.errors import InputError
from weatherdiff.models import VideoDenoiser
from weatherdiff.signals import noted
from weatherdiff.staging import disk_errors, remove_leftovers
from weatherdiff.training.checkpoint import SafeCheckpointIO
from weatherdiff.training.datamodule import WindowDataModule
from weatherdiff.training.ema import ExponentialMovingAverage
from weatherdiff.training.module import FlowMatchingModule

__all__ = ["FitResult", "Schedule", "fit"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Schedule:
    """When to validate, save and stop.

    Parameters
    ----------
    validate_every : int
        Training steps between validations; the last step is validated too. A checkpoint is written
        at each.
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
    """The best network, how it was reached, and which of the training processes this is."""

    network: VideoDenoiser
    best_score: float
    best_step: int
    steps: int
    rank: int = 0


def fit(
    module: FlowMatchingModule,
    data: WindowDataModule,
    folder: str | os.PathLike[str],
    *,
    schedule: Schedule | None = None,
    resume: bool = True,
    progress: Progress | None = None,
) -> FitResult:
    """Train; keep the averaged weights with the best validation score.

    Parameters
    ----------
    module, data
        What to train, on what.
    folder : path
        For checkpoints (``last.ckpt``, ``best.ckpt``) and logs (``logs/version_N/metrics.csv``
        of the N-th start; TensorBoard's beside it where that is installed).
    schedule : Schedule, optional
    resume : bool
        Go on from ``last.ckpt`` if it is there.
    progress : callable, optional
        Called with (steps done, in all, a note on the last validation).

    Returns
    -------
    FitResult
        The network holds the averaged weights of the best validation.

    Raises
    ------
    InputError
        There is no training or validation window, or the loss is not finite.
    StorageError
        The disk is full, or not writable; the checkpoints that were there stay.
    """
    schedule = schedule or Schedule()
    folder = Path(folder)
    remove_leftovers(folder)  # of checkpoints, amid which a run was killed
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
        enable_version_counter=False,
        auto_insert_metric_name=False,
    )
    # Without a monitor it saves at each validation; save_last would only where the score improves.
    # It comes after ``best``, whose state it holds.
    latest = callbacks.ModelCheckpoint(
        dirpath=folder, filename="last", enable_version_counter=False
    )
    stop = _EarlyStopping("val_crps", mode="min", patience=schedule.patience, check_finite=True)
    last = folder / "last.ckpt"
    stop_when_asked = _StopWhenAsked(last)
    wanted: list[callbacks.Callback] = [
        ExponentialMovingAverage(schedule.ema_decay),
        _WriteLog(),
        best,
        latest,
        stop,
        callbacks.LearningRateMonitor("step"),
        _ValidateAtTheEnd(),
        stop_when_asked,
    ]
    if progress is not None:
        wanted.append(_ReportProgress(progress, module.optimization.steps))
    steps = module.optimization.steps
    module.train()  # a loaded network is in evaluation mode, and Lightning keeps that
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
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        with disk_errors(folder), noted(stop_when_asked.ask) as stop_when_asked.received:
            try:
                trainer.fit(
                    module,
                    datamodule=data,
                    ckpt_path=str(last) if resume and last.exists() else None,
                )
            except SIGTERMException:  # whose exit code would be 0
                pass
            except SystemExit:  # Lightning's answer to a second Ctrl-C
                raise KeyboardInterrupt from None
    if signal.SIGINT in stop_when_asked.received:
        raise KeyboardInterrupt
    if stop_when_asked.received:
        raise SystemExit(128 + signal.SIGTERM)
    score = math.nan if best.best_model_score is None else float(best.best_model_score)
    if not math.isfinite(score):
        raise InputError(
            f"Training diverged: the validation score is {score} after {trainer.global_step} "
            "steps. Lower the learning rate, and look for extreme values in the data."
        )
    state = SafeCheckpointIO().load_checkpoint(best.best_model_path)
    module.load_state_dict(state["state_dict"])
    return FitResult(
        network=module.network.eval(),
        best_score=score,
        best_step=int(state["global_step"]),
        steps=int(trainer.global_step),
        rank=trainer.global_rank,
    )


class _ReportProgress(callbacks.Callback):
    """Tell how far training is, with the last loss and validation score."""

    def __init__(self, progress: Progress, steps: int) -> None:
        self.progress, self.steps = progress, steps

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        names = {"loss": "loss", "val_crps": "validation CRPS"}
        known = trainer.callback_metrics
        note = ", ".join(f"{text} {float(known[k]):.3f}" for k, text in names.items() if k in known)
        self.progress(trainer.global_step, self.steps, note)


class _WriteLog(callbacks.Callback):
    """Write the log before each checkpoint: a run that is resumed there does not log it again.

    Lightning logs a validation after the checkpoint, and writes each hundredth step.
    """

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        score = float(trainer.callback_metrics["val_crps"])
        for log in trainer.loggers:
            log.log_metrics({"epoch": 0, "val_crps": score}, step=trainer.global_step - 1)

    def on_save_checkpoint(self, trainer: L.Trainer, *_: Any) -> None:
        for log in trainer.loggers:
            log.save()


class _EarlyStopping(callbacks.EarlyStopping):
    """Stop also when a run that had stopped is resumed."""

    def on_train_start(self, trainer: L.Trainer, _: Any) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class _ValidateAtTheEnd(callbacks.Callback):
    """Validate after the last step, which the interval need not meet."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True  # before it stops, Lightning validates


class _StopWhenAsked(callbacks.Callback):
    """Save and stop on SIGTERM and Ctrl-C, between two steps, or after the validation under way.

    Lightning stops for a SIGTERM that it receives itself, without saving, and amid a validation,
    which the resumed run would then lack.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.received: list[int] = []
        self._trainer: L.Trainer | None = None
        self._validating = False
        self._saved = -1  # the step of the last checkpoint

    def ask(self) -> None:
        """Have Lightning stop at the next occasion, if a signal has come."""
        if self._trainer is not None and self.received:
            self._trainer._signal_connector.received_sigterm = not self._validating

    def on_train_start(self, trainer: L.Trainer, _: Any) -> None:
        self._trainer = trainer
        self.ask()

    def on_validation_start(self, *_: Any) -> None:
        self._validating = True
        self.ask()

    def on_validation_end(self, *_: Any) -> None:
        self._validating = False
        self.ask()

    def on_save_checkpoint(self, trainer: L.Trainer, *_: Any) -> None:
        self._saved = trainer.global_step

    def on_load_checkpoint(self, _: L.Trainer, __: Any, checkpoint: dict[str, Any]) -> None:
        self._saved = checkpoint["global_step"]

    def on_exception(self, trainer: L.Trainer, _: Any, exception: BaseException) -> None:
        # One that was saved in a validation stays: Lightning takes a later one of the same step for
        # one in a validation, too, and would then count the steps of the log from one too many.
        if isinstance(exception, SIGTERMException) and self._saved != trainer.global_step:
            trainer.save_checkpoint(self.path, weights_only=False)


def _loggers(folder: Path) -> list[Logger]:
    # A version for each start: on a resumed run the logger would delete the metrics before it.
    metrics = CSVLogger(folder, name="logs")
    loggers: list[Logger] = [metrics]
    try:
        from lightning.pytorch.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(folder, name="logs", version=metrics.version))
    except ImportError:  # an extra
        logger.debug("tensorboard is not installed: metrics go to CSV alone")
    return loggers


def _quiet_lightning() -> None:
    """Silence advice that does not apply."""
    for message in (
        ".*isinstance.treespec, LeafSpec.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*number of training batches .* is smaller than the logging interval.*",
        ".*resuming from a checkpoint that ended before the epoch ended.*",
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
