"""The video denoiser: noisy future frames, jointly, given the past, the known ahead and tau."""

from typing import NamedTuple

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from weatherdiff.models.attention import SpaceAttention, TimeAttention
from weatherdiff.models.layers import FourierEmbedding, GridConv, ResidualBlock

__all__ = ["SIZES", "Condition", "VideoDenoiser"]

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"width": 32, "blocks": 1, "levels": 2},
    "small": {"width": 64, "blocks": 2, "levels": 2},
    "base": {"width": 128, "blocks": 2, "levels": 2},
    "large": {"width": 192, "blocks": 3, "levels": 3},
}
"""Channels of the first level (each further level doubles them), residual blocks at each level on
the way down and again on the way up, and levels."""

PATCH = 2  # grid points a side that the first level folds into channels


class Condition(NamedTuple):
    """What is known when a forecast starts, all normalised.

    Attributes
    ----------
    history : (batch, history, channel, lat, lon)
        Past frames, the last one at the initial time.
    forcings : (batch, time, forcing, lat, lon)
        Fields known ahead, at the times of the history and the target frames.
    static : (batch, static, lat, lon)
        Fields that do not change.
    """

    history: Tensor
    forcings: Tensor
    static: Tensor


class VideoDenoiser(nn.Module):
    """A residual U-Net over all target frames at once.

    The grid is padded to whole patches inside and cropped again, so that any size works. A global
    grid is periodic in longitude: rolling all inputs by a whole number of coarse cells
    (``self.multiple`` grid points) rolls the output, if the grid is a multiple of that; if it is
    not, each side of the seam sees that many columns of the other, which leaves an error of
    about 1% there.

    Parameters
    ----------
    frames : int
        Target frames predicted jointly.
    channels : int
        State variables (and levels) of a frame.
    history : int
        Past frames given.
    forcings : int
        Forcing channels of each of the ``history + frames`` frames; may be 0.
    static : int
        Static channels; may be 0.
    periodic : bool
        Whether the longitudes close.
    size : {"tiny", "small", "base", "large"} or dict
        A row of :data:`SIZES`, or such a row.
    mixing : {"joint", "factorised", "attention"}
        ``"joint"`` stacks the frames as channels, so that each convolution mixes space and time;
        ``"factorised"`` convolves each frame and lets grid points attend to the other frames
        after each block (dearer, for long blocks of frames); ``"attention"`` is ``"joint"`` with
        attention over the whole coarsest grid.

    Other Parameters
    ----------------
    dropout : float
        Inside the residual blocks, while training.
    outputs : int
        Values given for each value of the state: 1, the prediction, or more, which are then
        stacked along a new first axis, the prediction the first of them.

    Raises
    ------
    ValueError
        A size or mixing that does not exist.
    """

    def __init__(
        self,
        *,
        frames: int,
        channels: int,
        history: int,
        forcings: int = 0,
        static: int = 0,
        periodic: bool = False,
        size: str | dict[str, int] = "small",
        mixing: str = "joint",
        dropout: float = 0.0,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.arguments = {
            "frames": frames,
            "channels": channels,
            "history": history,
            "forcings": forcings,
            "static": static,
            "periodic": periodic,
            "size": size,
            "mixing": mixing,
            "dropout": dropout,
            "outputs": outputs,
        }
        if isinstance(size, str):
            if size not in SIZES:
                raise ValueError(f"size {size!r} is none of {', '.join(SIZES)}")
            size = SIZES[size]
        if mixing not in ("joint", "factorised", "attention"):
            raise ValueError(f"mixing {mixing!r} is none of joint, factorised, attention")
        width, blocks, levels = size["width"], size["blocks"], size["levels"]
        self.frames, self.channels, self.periodic = frames, channels, periodic
        self.factorised = mixing == "factorised"
        self.multiple = PATCH * 2 ** (levels - 1)

        context = history * channels + (history + frames) * forcings + static
        rows = 1 if self.factorised else frames
        self.tau_embedding = FourierEmbedding(4 * width)
        self.frame_embedding = nn.Embedding(frames, 4 * width) if self.factorised else None
        self.stem = nn.Conv2d(rows * channels + context, width, kernel_size=PATCH, stride=PATCH)

        def stage(level: int) -> nn.ModuleList:
            stages = [
                _Stage(width * 2**level, 4 * width, periodic, dropout, self.factorised)
                for _ in range(blocks)
            ]
            return nn.ModuleList(stages)

        self.down = nn.ModuleList(stage(level) for level in range(levels))
        self.up = nn.ModuleList(stage(level) for level in reversed(range(levels - 1)))
        self.shrink = nn.ModuleList(
            nn.Conv2d(width * 2**level, width * 2 ** (level + 1), kernel_size=2, stride=2)
            for level in range(levels - 1)
        )
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(width * 2 ** (level + 1), width * 2**level, kernel_size=2, stride=2)
            for level in reversed(range(levels - 1))
        )
        self.attention = (
            SpaceAttention(width * 2 ** (levels - 1)) if mixing == "attention" else None
        )
        self.outputs = outputs
        self.head = GridConv(
            width, outputs * rows * channels * PATCH**2, periodic=periodic, zero=True
        )
        # The part of the prediction that is proportional to the noisy frame itself would have to
        # pass the narrow stem otherwise; a gain for each frame and channel carries it past.
        self.gain = nn.Linear(4 * width, frames * channels)
        nn.init.zeros_(self.gain.weight)
        nn.init.zeros_(self.gain.bias)

    def forward(
        self,
        x: Float[Tensor, "batch time channel lat lon"],
        tau: Float[Tensor, " batch"],
        condition: Condition,
    ) -> Float[Tensor, "*output batch time channel lat lon"]:
        """Predict (the velocity, for flow matching) at the noisy frames ``x`` and flow time tau.

        Parameters
        ----------
        x : (batch, time, channel, lat, lon)
            Noisy target frames.
        tau : (batch,)
            Flow time, 0 = noise, 1 = data.
        condition : Condition
            History, forcings and static fields.

        Returns
        -------
        (batch, time, channel, lat, lon)
            With several outputs, (output, batch, time, channel, lat, lon).
        """
        frames = self.frames
        embedding = self.tau_embedding(tau)
        gain = rearrange(self.gain(embedding), "b (t c) -> b t c 1 1", t=frames)
        context = torch.cat(
            [
                rearrange(condition.history, "b t c y x -> b (t c) y x"),
                rearrange(condition.forcings, "b t f y x -> b (t f) y x"),
                condition.static,
            ],
            dim=1,
        )
        if self.frame_embedding is not None:
            noisy = rearrange(x, "b t c y x -> (b t) c y x")
            context = repeat(context, "b c y x -> (b t) c y x", t=frames)
            embedding = repeat(embedding, "b w -> (b t) w", t=frames)
            embedding = embedding + self.frame_embedding.weight.repeat(len(x), 1)
        else:
            noisy = rearrange(x, "b t c y x -> b (t c) y x")

        padded, crop = self._pad(torch.cat([noisy, context], dim=1))
        h = self._unet(padded.contiguous(memory_format=torch.channels_last), embedding)
        h = rearrange(h, "b (c py px) y x -> b c (y py) (x px)", py=PATCH, px=PATCH)
        h = h[..., crop[0], crop[1]]
        rows = "(b t) (o c) y x" if self.factorised else "b (o t c) y x"
        first, *others = rearrange(h, f"{rows} -> o b t c y x", t=frames, o=self.outputs)
        prediction = gain * x + first
        return torch.stack([prediction, *others]) if others else prediction

    def _unet(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.stem(x)
        skips = []
        for level, stages in enumerate(self.down):
            if level > 0:
                skips.append(h)
                h = self.shrink[level - 1](h)
            for stage in stages.children():
                h = stage(h, embedding, self.frames)
        if self.attention is not None:
            h = self.attention(h)
        for grow, stages in zip(self.grow, self.up, strict=True):
            h = grow(h) + skips.pop()
            for stage in stages.children():
                h = stage(h, embedding, self.frames)
        return self.head(F.silu(h))

    def _pad(self, x: Tensor) -> tuple[Tensor, tuple[slice, slice]]:
        """Pad to a multiple of the coarsest cell; also return where the grid is in the result."""
        lat, lon = x.shape[-2:]
        north, east = -lat % self.multiple, -lon % self.multiple
        if east and self.periodic:
            # A seam that does not close on whole cells: give both sides true neighbours first.
            west = self.multiple
            columns = torch.arange(-west, lon + east + self.multiple, device=x.device) % lon
            x = F.pad(x[..., columns], (0, 0, 0, north))
            return x, (slice(0, lat), slice(west, west + lon))
        return F.pad(x, (0, east, 0, north)), (slice(0, lat), slice(0, lon))


class _Stage(nn.Module):
    """A residual block, and attention over the frames where they are kept apart."""

    def __init__(
        self, channels: int, embedding: int, periodic: bool, dropout: float, factorised: bool
    ) -> None:
        super().__init__()
        self.block = ResidualBlock(channels, embedding, periodic=periodic, dropout=dropout)
        self.time = TimeAttention(channels) if factorised else None

    def forward(self, x: Tensor, embedding: Tensor, frames: int) -> Tensor:
        x = self.block(x, embedding)
        return x if self.time is None else self.time(x, frames)
