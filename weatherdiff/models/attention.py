"""Attention along one axis of a video at a time."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SpaceAttention", "TimeAttention"]


class _Attention(nn.Module):
    """Multi-head self-attention over the last-but-one axis, before a residual sum.

    References
    ----------
    Vaswani et al. (2017), arXiv:1706.03762, section 3.2.
    """

    def __init__(self, channels: int, *, head_width: int = 32) -> None:
        super().__init__()
        self.heads = max(1, channels // head_width)
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def attend(self, tokens: Float[Tensor, "batch token channel"]) -> Tensor:
        """Self-attention among the tokens."""
        q, k, v = rearrange(
            self.qkv(self.norm(tokens)), "b n (three h c) -> three b h n c", three=3, h=self.heads
        )
        return self.out(rearrange(F.scaled_dot_product_attention(q, k, v), "b h n c -> b n (h c)"))


class TimeAttention(_Attention):
    """Each grid point attends to itself in the other frames."""

    def forward(
        self, x: Float[Tensor, "batchtime channel lat lon"], frames: int
    ) -> Float[Tensor, "batchtime channel lat lon"]:
        """Mix over time; ``x`` holds ``frames`` consecutive rows for each sample."""
        _, _, lat, lon = x.shape
        tokens = rearrange(x, "(b t) c y x -> (b y x) t c", t=frames)
        mixed = self.attend(tokens)
        return x + rearrange(mixed, "(b y x) t c -> (b t) c y x", y=lat, x=lon)


class SpaceAttention(_Attention):
    """Each grid point attends to all others of its frame."""

    def forward(
        self, x: Float[Tensor, "batch channel lat lon"]
    ) -> Float[Tensor, "batch channel lat lon"]:
        """Mix over the grid."""
        _, _, lat, lon = x.shape
        mixed = self.attend(rearrange(x, "b c y x -> b (y x) c"))
        return x + rearrange(mixed, "b (y x) c -> b c y x", y=lat, x=lon)
