"""The averaged weights follow their recurrence."""

from __future__ import annotations

from types import SimpleNamespace

import lightning as L
import pytest
import torch

from weatherdiff.training.ema import ExponentialMovingAverage


class _OneWeight(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.0, 10.0]))


def _averages(decay: float, values: list[float]) -> list[float]:
    """Average after each step of a weight that takes these values; the other one is constant."""
    module, average = _OneWeight(), ExponentialMovingAverage(decay)
    average.setup(None, module, "fit")
    found = []
    for step, value in enumerate(values, start=1):
        with torch.no_grad():
            module.weight[0] = value
        average.on_train_batch_end(SimpleNamespace(global_step=step), module, None, None, step - 1)
        state: dict = {"state_dict": module.state_dict()}
        average.on_save_checkpoint(None, module, state)
        mean = state["state_dict"]["weight"]
        assert mean[1] == 10
        found.append(float(mean[0]))
    return found


def test_the_first_average_forgets_the_random_initial_weights() -> None:
    assert _averages(0.9, [5.0]) == [5.0]


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_the_decay_grows_with_the_updates_up_to_its_limit(decay: float) -> None:
    values = [3.0, -1.0, 4.0, 1.0, -5.0, 9.0, 2.0]
    mean = values[0]
    expected = [mean]
    for n, value in enumerate(values[1:], start=1):
        kept = min(decay, (1 + n) / (10 + n))
        mean = kept * mean + (1 - kept) * value
        expected.append(mean)
    torch.testing.assert_close(torch.tensor(_averages(decay, values)), torch.tensor(expected))
    if decay == 0:
        assert expected == values


def test_a_constant_weight_is_its_own_average() -> None:
    assert _averages(0.99, [2.0] * 5) == [2.0] * 5
