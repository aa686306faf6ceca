"""Small networks without the zeros they start from, and random inputs for them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from weatherdiff.models import Condition, VideoDenoiser

TINY = {"width": 8, "blocks": 1, "levels": 2}
FRAMES, CHANNELS, HISTORY, FORCINGS, STATIC = 3, 2, 2, 1, 4


@pytest.fixture(scope="session")
def make_network() -> Callable[..., VideoDenoiser]:
    """Every parameter random, so that no branch is switched off."""

    def make(seed: int = 0, **arguments: Any) -> VideoDenoiser:
        network = VideoDenoiser(
            **{
                "frames": FRAMES,
                "channels": CHANNELS,
                "history": HISTORY,
                "forcings": FORCINGS,
                "static": STATIC,
                "size": TINY,
                **arguments,
            }
        )
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in network.parameters():
                scale = 0.5 * parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        return network.eval()

    return make


@pytest.fixture(scope="session")
def make_inputs() -> Callable[..., tuple[torch.Tensor, torch.Tensor, Condition]]:
    """Noisy frames, tau and condition for a grid."""

    def make(lat: int, lon: int, *, batch: int = 2, forcings: int = FORCINGS, static: int = STATIC):
        generator = torch.Generator().manual_seed(1)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(batch, *shape, lat, lon, generator=generator)

        condition = Condition(
            history=normal(HISTORY, CHANNELS),
            forcings=normal(HISTORY + FRAMES, forcings),
            static=normal(static),
        )
        return normal(FRAMES, CHANNELS), torch.rand(batch, generator=generator), condition

    return make
