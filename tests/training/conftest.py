"""Training runs of a second on the small region."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weatherdiff.data.loader import WindowDataset
from weatherdiff.models import VideoDenoiser
from weatherdiff.training.datamodule import WindowDataModule
from weatherdiff.training.fit import FitResult, Schedule, fit
from weatherdiff.training.module import FlowMatchingModule, Optimization, Score
from weatherdiff.workflow import fair_crps


@pytest.fixture(scope="session")
def small_data(small_windows: dict[str, WindowDataset]) -> Callable[..., WindowDataModule]:
    """Build the data of a run of so many steps."""

    def make(steps: int, *, batch_size: int = 8) -> WindowDataModule:
        return WindowDataModule(
            small_windows["training"],
            small_windows["validation"],
            batch_size=batch_size,
            steps=steps,
            seed=5,
            validation_every=4,
        )

    return make


@pytest.fixture(scope="session")
def fit_small(
    small_data: Callable[..., WindowDataModule], make_network: Callable[..., VideoDenoiser]
) -> Callable[..., FitResult]:
    """Train, with dropout and shuffling, in one thread's second or so."""

    def run(
        folder: Path,
        *,
        steps: int,
        score: Score = fair_crps,
        learning_rate: float = 1e-3,
        patience: int = 10,
        validate_every: int = 4,
        **options: Any,
    ) -> FitResult:
        module = FlowMatchingModule(
            make_network(dropout=0.2),
            Optimization(steps=steps, learning_rate=learning_rate, warmup=3),
            score,
            seed=11,
            members=3,
            sampler_steps=2,
        )
        schedule = Schedule(
            validate_every=validate_every,
            patience=patience,
            ema_decay=0.9,
            precision="32-true",
            devices=1,
        )
        return fit(module, small_data(steps), folder, schedule=schedule, **options)

    return run


@pytest.fixture
def scripted_score() -> Callable[[list[float]], Score]:
    """Build a score that gives the listed values, one for each validation of one batch."""

    def make(values: list[float]) -> Score:
        remaining = iter(values)

        def score(forecast: np.ndarray, observation: np.ndarray, weights: np.ndarray) -> float:
            return next(remaining)

        return score

    return make
