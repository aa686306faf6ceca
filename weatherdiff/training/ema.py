"""An exponential moving average of the weights, with which the model is validated and saved."""

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

__all__ = ["ExponentialMovingAverage"]


class ExponentialMovingAverage(WeightAveraging):
    """Average the weights over about ``1 / (1 - decay)`` steps, over fewer at the start.

    Parameters
    ----------
    decay : float
        Limit of the decay; step ``n`` uses ``min(decay, (1 + n) / (10 + n))``, so that the random
        initial weights are soon forgotten.

    References
    ----------
    Karras et al. (2024), arXiv:2312.02696, section 3, on why the average matters for diffusion
    models.
    """

    def __init__(self, decay: float) -> None:
        def average(mean: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
            n = float(updates)
            return mean.lerp(current, 1 - min(decay, (1 + n) / (10 + n)))

        super().__init__(avg_fn=average)
