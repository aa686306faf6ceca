"""The layers of the denoiser: padding that knows the grid, residual blocks, embeddings."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FourierEmbedding", "GridConv", "ResidualBlock"]


class GridConv(nn.Module):
    """A 3 x 3 convolution on a latitude-longitude grid.

    Latitude is padded with zeros. Longitude is padded with the other side of the grid where it is
    periodic, and with zeros where it is regional, so that what leaves a global domain in the east
    enters it in the west, and what leaves a regional one is gone.

    Parameters
    ----------
    channels_in, channels_out : int
        Channels.
    periodic : bool
        Whether the first and last longitude are neighbours.
    zero : bool
        Start from zero weights, so that a residual branch starts as the identity.
    """

    def __init__(
        self, channels_in: int, channels_out: int, *, periodic: bool, zero: bool = False
    ) -> None:
        super().__init__()
        self.periodic = periodic
        self.conv = nn.Conv2d(
            channels_in, channels_out, kernel_size=3, padding=(1, 0) if periodic else 1
        )
        if zero:
            nn.init.zeros_(self.conv.weight)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Float[Tensor, "batch in lat lon"]) -> Float[Tensor, "batch out lat lon"]:
        """Convolve; the grid keeps its size."""
        if self.periodic:
            x = F.pad(x, (1, 1, 0, 0), mode="circular")
        return self.conv(x)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, modulated by an embedding of ``tau``.

    There is no normalisation layer: inputs are normalised, the residual branches start at zero,
    and on small data it bought nothing for a third of the time.

    References
    ----------
    Perez et al. (2018), FiLM, arXiv:1709.07871, equation 2 (scale and shift).
    """

    def __init__(self, channels: int, embedding: int, *, periodic: bool, dropout: float) -> None:
        super().__init__()
        self.conv1 = GridConv(channels, channels, periodic=periodic)
        self.film = nn.Linear(embedding, 2 * channels)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = GridConv(channels, channels, periodic=periodic, zero=True)

    def forward(
        self, x: Float[Tensor, "batch channel lat lon"], embedding: Float[Tensor, "batch width"]
    ) -> Float[Tensor, "batch channel lat lon"]:
        """Add the modulated branch to ``x``."""
        scale, shift = self.film(embedding)[..., None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(x))
        h = h * (1 + scale) + shift
        return x + self.conv2(self.dropout(F.silu(h)))


class FourierEmbedding(nn.Module):
    """Embed a scalar in [0, 1] by sines and cosines of fixed frequencies, then a small network.

    References
    ----------
    Vaswani et al. (2017), arXiv:1706.03762, section 3.5, with frequencies for [0, 1].
    """

    frequencies: Tensor

    def __init__(self, width: int, *, frequencies: int = 16) -> None:
        super().__init__()
        self.register_buffer(
            "frequencies",
            math.pi * torch.logspace(0, 6, frequencies, base=2.0, device="cpu"),
            persistent=False,
        )
        self.network = nn.Sequential(
            nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )

    def forward(self, tau: Float[Tensor, " batch"]) -> Float[Tensor, "batch width"]:
        """Embed each value."""
        angle = tau[:, None] * self.frequencies
        return self.network(torch.cat([angle.sin(), angle.cos()], dim=1))
