"""Augmented windows are rotations of windows at the same time of day, with a blurred history."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from weatherdiff.data.loader import Batch, WindowDataset
from weatherdiff.flow import keyed_generator
from weatherdiff.training import WindowDataModule
from weatherdiff.training.augmentation import Augmentation, smooth_noise


@pytest.fixture
def batch(small_data: Callable[..., WindowDataModule]) -> Batch:
    """Eight training windows."""
    return next(iter(small_data(1).train_dataloader()))


def _all(batch: Batch, row: int) -> torch.Tensor:
    return torch.cat([batch.history[row].flatten(), batch.target[row].flatten()])


def test_without_rotation_and_noise_a_batch_stays_as_it_is(
    batch: Batch, small_windows: dict[str, WindowDataset]
) -> None:
    same = Augmentation(small_windows["training"])(batch, keyed_generator(1))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(same, batch, strict=True))


def test_a_rotated_window_is_the_circle_of_two_windows_of_one_time_of_day(
    batch: Batch, small_windows: dict[str, WindowDataset]
) -> None:
    windows = small_windows["training"]
    rotated = Augmentation(windows, rotation=1.0)(batch, keyed_generator(1))
    everything = windows.__getitems__(list(range(len(windows))))
    for row, time in enumerate(batch.init_times.tolist()):
        own, new = _all(batch, row), _all(rotated, row)
        fits = []
        for other, other_time in enumerate(everything.init_times.tolist()):
            pair = torch.stack([own, _all(everything, other)], dim=1)
            weights = torch.linalg.lstsq(pair, new).solution
            if torch.allclose(pair @ weights, new, atol=1e-4) and other_time != time:
                fits.append((other_time, float(weights.square().sum())))
        ((partner, length),) = fits
        assert (partner - time) % 86400 == 0
        assert length == pytest.approx(1, abs=1e-4)
    assert torch.equal(rotated.forcings, batch.forcings)
    assert torch.equal(rotated.weights, batch.weights)


def test_the_probability_leaves_some_windows_untouched(
    batch: Batch, small_windows: dict[str, WindowDataset]
) -> None:
    augment = Augmentation(small_windows["training"], rotation=0.4)
    touched = sum(
        (augment(batch, keyed_generator(n)).target != batch.target).flatten(1).any(1).sum().item()
        for n in range(50)
    )
    assert 0.3 < touched / 400 < 0.5


def test_the_amplitude_scales_whole_windows_by_factors_around_one(
    batch: Batch, small_windows: dict[str, WindowDataset]
) -> None:
    augment = Augmentation(small_windows["training"], amplitude=0.3)
    logarithms = []
    for n in range(40):
        scaled = augment(batch, keyed_generator(n))
        for row in range(len(batch.target)):
            own, new = _all(batch, row), _all(scaled, row)
            factor = (own @ new) / (own @ own)
            torch.testing.assert_close(new, factor * own)
            logarithms.append(float(factor.log()))
    assert torch.tensor(logarithms).mean() == pytest.approx(0, abs=0.06)
    assert torch.tensor(logarithms).std() == pytest.approx(0.3, abs=0.04)


def test_noise_blurs_the_history_where_there_are_data_and_nothing_else(
    batch: Batch, small_windows: dict[str, WindowDataset]
) -> None:
    noisy = Augmentation(small_windows["training"], history_noise=0.5)(batch, keyed_generator(1))
    masked = (batch.weights[:, :1] == 0).expand(batch.history.shape)
    assert torch.equal(noisy.history[masked], batch.history[masked])
    assert (noisy.history != batch.history)[~masked].all()
    assert torch.equal(noisy.target, batch.target)


def test_augmentation_is_a_function_of_its_generator(
    batch: Batch, small_windows: dict[str, WindowDataset]
) -> None:
    augment = Augmentation(small_windows["training"], rotation=0.5, history_noise=0.5)
    first, again, other = (augment(batch, keyed_generator(n)) for n in (1, 1, 2))
    assert torch.equal(first.history, again.history)
    assert not torch.equal(first.history, other.history)


def test_smooth_noise_is_smooth_and_independent_between_fields() -> None:
    noise = smooth_noise((200, 2, 3, 31, 42), keyed_generator(3)).flatten(0, 2)
    assert noise.std() == pytest.approx(0.7, abs=0.1)
    steps = torch.diff(noise, dim=-1)
    assert steps.std() < 0.3 * noise.std()
    correlation = torch.corrcoef(noise[:, 3, [5, 6, 41]].T)
    assert correlation[0, 1] > 0.9
    assert abs(correlation[0, 2]) < 0.15
    assert abs((noise[:-1] * noise[1:]).mean()) < 0.05


@pytest.mark.parametrize(
    "options", [{"rotation": 1.2}, {"rotation": -0.1}, {"amplitude": -1}, {"history_noise": -1}]
)
def test_impossible_options_are_refused(
    small_windows: dict[str, WindowDataset], options: dict[str, float]
) -> None:
    with pytest.raises(ValueError, match="impossible"):
        Augmentation(small_windows["training"], **options)
