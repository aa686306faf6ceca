"""Frames to the chunks of a shard, on a few threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weatherdiff.data.storing.profiles import Profile
from weatherdiff.data.storing.rounding import packing_errors
from weatherdiff.data.storing.shards import seal_of

__all__ = ["Chunk", "encode_frame", "encode_frames"]

Array = npt.NDArray[Any]
Chunk = tuple[bytes, ...]  # pieces of what is stored

ENCODERS = 2  # threads that compress the frames of one task


def encode_frames(block: Array, profile: Profile, path: Path) -> tuple[list[Chunk], list[Array]]:
    """Encode frames, and change them to what will be read, whose statistics are kept.

    Parameters
    ----------
    block : (time, channel, latitude, longitude)
    profile : Profile
    path : Path
        Where they belong, for messages.

    Returns
    -------
    list of Chunk
    list of (channel, 3)
        The errors, see :func:`~weatherdiff.data.storing.rounding.packing_errors`; none where the
        profile makes none.
    """

    def encoded(frames: Array) -> list[tuple[Chunk, Array | None]]:
        return [encode_frame(frame, profile, path) for frame in frames]

    with ThreadPoolExecutor(ENCODERS) as pool:
        pairs = list(chain.from_iterable(pool.map(encoded, np.array_split(block, ENCODERS))))
    return [chunk for chunk, _ in pairs], [errors for _, errors in pairs if errors is not None]


def encode_frame(frame: Array, profile: Profile, path: Path) -> tuple[Chunk, Array | None]:
    """Do the same with one."""
    content = profile.content(frame)
    chunk = content, seal_of(content)
    if profile.lossless:
        return chunk, None
    kept = profile.decode(b"".join(chunk), np.empty_like(frame), path)
    errors = packing_errors(kept, frame)
    frame[...] = kept
    return chunk, errors
