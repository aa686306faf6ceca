"""The stores that ``loader.py`` reads: the same GRIB-like fields in several layouts."""

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from loader_peers import OWN, OWN_STORE

from weatherdiff.data.storing.profiles import PROFILES, Profile
from weatherdiff.data.storing.shards import CRC_BYTES, chunk_file, pack_shard

__all__ = ["SHARD", "UNITS", "forget", "frames_like_grib", "make_stores"]

Float = npt.NDArray[np.float32]

SHARD = 64  # frames
UNITS = {f"channel_{number:02d}": "m" for number in range(99)}
DISTINCT = 128  # frames; then they come again, in files of their own


def make_stores(folder: Path, shape: tuple[int, ...]) -> None:
    """Write the same fields in all profiles, as a user's own store, and as a raw file.

    What prepare writes is written here by the same code, without its statistics; the user's own,
    :data:`OWN`, has one file a chunk, without checksums, and coordinates.
    """
    folder.mkdir(parents=True)
    group = zarr.create_group(folder, zarr_format=3)
    plain = Profile("lz4").codecs()["compressors"][:1]
    for name in (*PROFILES, OWN):
        group.create_array(
            name,
            shape=shape,
            chunks=(1, *shape[1:]),
            shards=None if name == OWN else (SHARD, *shape[1:]),
            dtype="float32",
            fill_value=np.inf,
            dimension_names=("time", "channel", "latitude", "longitude"),
            **({"compressors": plain} if name == OWN else Profile(name).codecs()),
        )
    add_coordinates(folder / OWN_STORE, shape)
    frames = frames_like_grib((min(DISTINCT, shape[0]), *shape[1:]))
    with ThreadPoolExecutor(2) as pool:
        encoded = {name: list(pool.map(Profile(name).encode, frames)) for name in PROFILES}
    raw = np.lib.format.open_memmap(folder.with_suffix(".npy"), "w+", np.float32, shape)
    tail = [0] * (len(shape) - 1)
    for start in range(0, shape[0], SHARD):
        places = [n % len(frames) for n in range(start, min(start + SHARD, shape[0]))]
        for number, place in enumerate(places, start):
            raw[number] = frames[place]
            file = chunk_file(folder / OWN, number, *tail)
            file.parent.mkdir(parents=True)
            file.write_bytes(encoded["lz4"][place][:-CRC_BYTES])
        for name in PROFILES:
            file = chunk_file(folder / name, start // SHARD, *tail)
            file.parent.mkdir(parents=True)
            file.write_bytes(pack_shard([encoded[name][place] for place in places], SHARD))
    raw.flush()


def add_coordinates(store: Path, shape: tuple[int, ...]) -> None:
    """Make an array of fields one that a stranger understands."""
    height, width = shape[2:]
    latitude = (np.arange(height) + 0.5) * 180 / height - 90
    hours = np.arange(shape[0]) * np.timedelta64(6, "h")
    coordinates = {
        "time": np.datetime64("2015-01-01", "ns") + hours,
        "channel": np.array(list(UNITS)[: shape[1]], np.dtypes.StringDType()),
        "latitude": ("latitude", latitude, {"units": "degrees_north"}),
        "longitude": ("longitude", np.arange(width) * 360 / width, {"units": "degrees_east"}),
    }
    xr.Dataset(coords=coordinates).to_zarr(store, mode="a", consolidated=False)


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
