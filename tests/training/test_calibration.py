"""The noise scale makes the spread of the ensemble match its error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from weatherdiff.data.loader import Batch
from weatherdiff.training.calibration import calibrate_noise
from weatherdiff.training.module import sample_members

# (frames, channel): spread of the toy's ensembles where that of the truth is 1
WIDTH = torch.tensor([[0.6, 1.0], [0.8, 1.5], [1.25, 0.7]])


class _TooNarrow(torch.nn.Module):
    """The exact velocity that carries x to ``gain * x``, whose spread is WIDTH in few steps."""

    def __init__(self, width: Tensor, steps: int) -> None:
        super().__init__()
        # Euler's last step multiplies by 1 + rate / steps, Heun's others by 1 + r + r^2 / 2.
        rates = torch.linspace(-steps, steps, 20001, dtype=torch.float64) / steps
        gains = (1 + rates + rates**2 / 2) ** (steps - 1) * (1 + rates)
        self.rate = torch.from_numpy(np.interp(width, gains, rates)).float() * steps

    def forward(self, x: Tensor, tau: Tensor, condition: object) -> Tensor:
        return self.rate[:, :, None, None] * x


@pytest.fixture
def batches() -> list[Batch]:
    """Truth of variance 1, independent of everything; some cells without data."""
    generator = torch.Generator().manual_seed(8)
    shape = (40, *WIDTH.shape, 5, 7)
    weights = torch.rand(shape[1:], generator=generator) + 0.5
    weights[:, 1, :2] = 0
    target = torch.randn(shape, generator=generator)
    square = (target**2 * weights).sum(dim=(0, 3, 4)) / (40 * weights.sum(dim=(2, 3)))
    target = target / square.sqrt()[:, :, None, None]
    target[:, :, 1, :2] = 0
    return [
        Batch(
            history=torch.zeros(len(part), 2, 2, 5, 7),
            forcings=torch.zeros(len(part), 5, 0, 5, 7),
            static=torch.zeros(len(part), 3, 5, 7),
            target=part,
            weights=weights.expand(part.shape),
            init_times=torch.arange(len(part)) + 100 * number,
        )
        for number, part in enumerate(target.split(16))
    ]


def _spread_skill(network: torch.nn.Module, batches: list[Batch], scale: np.ndarray) -> np.ndarray:
    members, variance, error = 30, 0.0, 0.0
    for batch in batches:
        ensemble = sample_members(
            network, batch, members=members, seed=77, steps=3, noise_scale=torch.from_numpy(scale)
        )
        variance += (ensemble.var(dim=0) * batch.weights).sum(dim=(0, 3, 4))
        error += ((ensemble.mean(dim=0) - batch.target) ** 2 * batch.weights).sum(dim=(0, 3, 4))
    return torch.sqrt((members + 1) / members * variance / error).numpy()


def test_too_narrow_and_too_wide_ensembles_get_the_spread_of_their_error(
    batches: list[Batch],
) -> None:
    network = _TooNarrow(WIDTH, steps=3)
    untouched = _spread_skill(network, batches, np.ones(WIDTH.shape, np.float32))
    # The mean of 30 members errs by 1 + width^2 / 30.
    expected = WIDTH * torch.sqrt(31 / 30 / (1 + WIDTH**2 / 30))
    np.testing.assert_allclose(untouched, expected, rtol=0.03)

    scale = calibrate_noise(network, batches, members=20, seed=1, steps=3)
    np.testing.assert_allclose(scale, 1 / WIDTH, rtol=0.03)
    np.testing.assert_allclose(_spread_skill(network, batches, scale), 1, rtol=0.03)


def test_the_scale_stays_within_its_limits(batches: list[Batch]) -> None:
    width = torch.full_like(WIDTH, 0.1)
    width[1] = 4.0
    scale = calibrate_noise(_TooNarrow(width, steps=3), batches, members=5, seed=1, steps=3)
    expected = np.full(WIDTH.shape, 2.0)
    expected[1] = 0.5
    np.testing.assert_array_equal(scale, expected)


def test_calibration_is_the_same_again(batches: list[Batch]) -> None:
    first, again = (
        calibrate_noise(_TooNarrow(WIDTH, steps=2), batches, members=4, seed=3, steps=2)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
