"""The stores that ``loader.py`` reads: the same GRIB-like fields in several layouts."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec, BloscShuffle, Crc32cCodec

__all__ = ["SHARD", "forget", "make_stores"]

Float = npt.NDArray[np.float32]

SHARD = 64  # frames


def make_stores(folder: Path, shape: tuple[int, ...]) -> None:
    """Write the same fields as a raw file, as shards with and without LZ4, and one file a chunk."""
    folder.mkdir(parents=True)
    group = zarr.create_group(folder, zarr_format=3)
    lz4 = [BloscCodec(cname="lz4", clevel=5, shuffle=BloscShuffle.shuffle), Crc32cCodec()]
    layouts = {"lz4": (SHARD, lz4), "raw": (SHARD, [Crc32cCodec()]), "unprepared": (None, lz4[:1])}
    arrays = [
        group.create_array(
            name,
            shape=shape,
            chunks=(1, *shape[1:]),
            shards=None if shard is None else (shard, *shape[1:]),
            dtype="float32",
            compressors=codecs,
            fill_value=np.inf,
            dimension_names=("time", "channel", "latitude", "longitude"),
        )
        for name, (shard, codecs) in layouts.items()
    ]
    raw = np.lib.format.open_memmap(folder.with_suffix(".npy"), "w+", np.float32, shape)
    for start, block in fields(shape):
        stop = start + len(block)
        raw[start:stop] = block
        for array in arrays:
            array[start:stop] = block
    raw.flush()


def fields(shape: tuple[int, ...]) -> Iterator[tuple[int, Float]]:
    """Smooth waves with a large mean, rounded to 16 bits and a power of two as GRIB does."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(16, *shape[1:])).astype(np.float32)
    keep = np.hypot.outer(np.fft.fftfreq(shape[2]), np.fft.rfftfreq(shape[3])) < 0.12
    patterns = np.fft.irfft2(np.fft.rfft2(noise) * keep, s=shape[2:], axes=(-2, -1)).astype(
        np.float32
    )
    patterns /= patterns.std()
    mean = np.geomspace(1, 1e5, shape[1], dtype=np.float32)[:, None, None]
    for start in range(0, shape[0], SHARD):
        block = np.empty((min(SHARD, shape[0] - start), *shape[1:]), np.float32)
        for frame in block:
            one, two = rng.integers(16, size=2)
            angle = np.float32(rng.uniform(0, 6))
            x = mean + mean / 30 * (patterns[one] * np.cos(angle) + patterns[two] * np.sin(angle))
            low = x.min(axis=(1, 2), keepdims=True)
            span = x.max(axis=(1, 2), keepdims=True) - low
            scale = np.exp2(np.ceil(np.log2(span / 65535)))
            frame[...] = low + np.rint((x - low) / scale) * scale
        yield start, block


def forget(folder: Path) -> None:
    """Take the files out of the page cache."""
    gc.collect()  # memory maps hold their pages
    for file in [folder.with_suffix(".npy"), *folder.rglob("*")]:
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            try:
                os.fsync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)
