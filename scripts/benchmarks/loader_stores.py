"""The stores that ``loader.py`` reads: the same GRIB-like fields in several layouts."""

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zarr

from weatherdiff.data.storing.profiles import PROFILES, Profile
from weatherdiff.data.storing.shards import CRC_BYTES, chunk_file, pack_shard

__all__ = ["SHARD", "forget", "frames_like_grib", "make_stores"]

Float = npt.NDArray[np.float32]

SHARD = 64  # frames
DISTINCT = 128  # frames; then they come again, in files of their own


def make_stores(folder: Path, shape: tuple[int, ...]) -> None:
    """Write the same fields in all profiles, one file a chunk, and as a raw file.

    What prepare writes is written here by the same code, without its statistics.
    """
    folder.mkdir(parents=True)
    group = zarr.create_group(folder, zarr_format=3)
    for name in (*PROFILES, "unprepared"):
        codecs = Profile("lz4" if name == "unprepared" else name).codecs()
        if name == "unprepared":
            codecs["compressors"] = codecs["compressors"][:1]  # without a checksum
        group.create_array(
            name,
            shape=shape,
            chunks=(1, *shape[1:]),
            shards=None if name == "unprepared" else (SHARD, *shape[1:]),
            dtype="float32",
            fill_value=np.inf,
            dimension_names=("time", "channel", "latitude", "longitude"),
            **codecs,
        )
    frames = frames_like_grib((min(DISTINCT, shape[0]), *shape[1:]))
    with ThreadPoolExecutor(2) as pool:
        encoded = {name: list(pool.map(Profile(name).encode, frames)) for name in PROFILES}
    raw = np.lib.format.open_memmap(folder.with_suffix(".npy"), "w+", np.float32, shape)
    tail = [0] * (len(shape) - 1)
    for start in range(0, shape[0], SHARD):
        places = [n % len(frames) for n in range(start, min(start + SHARD, shape[0]))]
        for number, place in enumerate(places, start):
            raw[number] = frames[place]
            file = chunk_file(folder / "unprepared", number, *tail)
            file.parent.mkdir(parents=True)
            file.write_bytes(encoded["lz4"][place][:-CRC_BYTES])
        for name in PROFILES:
            file = chunk_file(folder / name, start // SHARD, *tail)
            file.parent.mkdir(parents=True)
            file.write_bytes(pack_shard([encoded[name][place] for place in places], SHARD))
    raw.flush()


def frames_like_grib(shape: tuple[int, ...]) -> Float:
    """Smooth waves with a large mean, rounded to 16 bits and a power of two as GRIB does."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(16, *shape[1:])).astype(np.float32)
    keep = np.hypot.outer(np.fft.fftfreq(shape[2]), np.fft.rfftfreq(shape[3])) < 0.12
    patterns = np.fft.irfft2(np.fft.rfft2(noise) * keep, s=shape[2:], axes=(-2, -1)).astype(
        np.float32
    )
    patterns /= patterns.std()
    mean = np.geomspace(1, 1e5, shape[1], dtype=np.float32)[:, None, None]
    frames = np.empty(shape, np.float32)
    for frame in frames:
        one, two = rng.integers(16, size=2)
        angle = np.float32(rng.uniform(0, 6))
        x = mean + mean / 30 * (patterns[one] * np.cos(angle) + patterns[two] * np.sin(angle))
        low = x.min(axis=(1, 2), keepdims=True)
        span = x.max(axis=(1, 2), keepdims=True) - low
        scale = np.exp2(np.ceil(np.log2(span / 65535)))
        frame[...] = low + np.rint((x - low) / scale) * scale
    return frames


def forget(*paths: Path) -> None:
    """Take files, and those of folders, out of the page cache."""
    gc.collect()  # memory maps hold their pages
    for file in [found for path in paths for found in (path, *path.rglob("*"))]:
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            try:
                os.fsync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)
