"""Frames to the chunks of a shard, on a few threads."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
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
AT_ONCE = 2**19  # bytes of small frames that a thread takes

_own = threading.local()


def encode_frames(
    block: Array, profile: Profile, path: Path
) -> Iterator[tuple[Chunk, Array | None]]:
    """Encode frames, and change them to what will be read, whose statistics are kept.

    They are given as they are done, in order; who lets go of one before the next has its memory
    used again, instead of some of the system's, which clears it.

    Parameters
    ----------
    block : (time, channel, latitude, longitude)
    profile : Profile
    path : Path
        Where they belong, for messages.

    Yields
    ------
    Chunk
    (channel, 3) or None
        The errors, see :func:`~weatherdiff.data.storing.rounding.packing_errors`; None where the
        profile makes none.
    """

    def encoded(frames: Array) -> list[tuple[Chunk, Array | None]]:
        return [encode_frame(frame, profile, path) for frame in frames]

    size = max(1, AT_ONCE // max(1, block[:1].nbytes))
    pool = _threads()
    doing = deque(
        pool.submit(encoded, block[start : start + size]) for start in range(0, len(block), size)
    )
    try:
        while doing:
            yield from doing.popleft().result()
    finally:
        for one in doing:
            one.cancel()
        wait(doing)  # they change the block


def _threads() -> ThreadPoolExecutor:
    """Give the encoders of this thread. New ones for each task would each keep freed memory."""
    pool: tuple[int, ThreadPoolExecutor] | None = getattr(_own, "pool", None)
    if pool is None or pool[0] != os.getpid():  # a fork has none of its parent's
        pool = _own.pool = os.getpid(), ThreadPoolExecutor(ENCODERS, "encode")
    return pool[1]


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
