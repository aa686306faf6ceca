"""The libraries that a user could read windows with instead, for ``loader.py``.

Each peer is a function of (folder of the stores, starts of the windows, frames of a window) that
gives batches, read as its documentation says is fast. What is not installed is None.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata, util
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

__all__ = [
    "BATCH",
    "OWN",
    "OWN_STORE",
    "PEERS",
    "SLOW",
    "memory_map",
    "start_workers",
    "tensorstore_gather",
    "versions",
]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]
Peer = Callable[[Path, Int, int], Iterator[Float]]

BATCH = 8
WORKERS = 2
OWN_STORE, OWN = "own.zarr", "own.zarr/fields"  # of a user, whom no package of ours has served


def memory_map(source: Float, starts: Int, frames: int) -> Iterator[Float]:
    """Copy windows from a memory map to batches whose memory is used again."""
    ring = np.empty((4, BATCH, frames, *source.shape[1:]), np.float32)
    for number, batch in enumerate(starts.reshape(-1, BATCH)):
        out = ring[number % len(ring)]
        for window, start in zip(out, batch.tolist(), strict=True):
            window[...] = source[start : start + frames]
        yield out


def zarr_python(array: str, folder: Path, starts: Int, frames: int) -> Iterator[Float]:
    """Slices of the array."""
    source = zarr.open_array(folder / array, mode="r")
    for batch in starts.reshape(-1, BATCH):
        out = np.empty((BATCH, frames, *source.shape[1:]), np.float32)
        for window, start in zip(out, batch.tolist(), strict=True):
            window[...] = source[start : start + frames]
        yield out


def xarray_isel(array: str, folder: Path, starts: Int, frames: int) -> Iterator[Float]:
    """``isel`` of one stacked array, without dask, which is faster."""
    source = _opened(folder, array)
    for batch in starts.reshape(-1, BATCH):
        windows = [source.isel(time=slice(s, s + frames)).to_numpy() for s in batch.tolist()]
        yield np.stack(windows)


def xbatcher_generator(array: str, folder: Path, starts: Int, frames: int) -> Iterator[Float]:
    """Random access to a generator of overlapping windows."""
    import xbatcher

    source = _opened(folder, array)
    generator = xbatcher.BatchGenerator(
        source, {"time": frames, **{str(d): source.sizes[d] for d in source.dims[1:]}},
        input_overlap={"time": frames - 1},
    )  # fmt: skip
    for batch in starts.reshape(-1, BATCH):
        yield np.stack([generator[s].to_numpy() for s in batch.tolist()])


def tensorstore_gather(array: str, folder: Path, starts: Int, frames: int) -> Iterator[Float]:
    """One gather of a whole batch, which it decodes in its own threads."""
    import tensorstore

    kvstore = {"driver": "file", "path": str(folder / array)}
    source = tensorstore.open(
        {"driver": "zarr3", "kvstore": kvstore, "recheck_cached_data": "open"}, open=True
    ).result()
    for batch in starts.reshape(-1, BATCH):
        yield source[batch[:, None] + np.arange(frames)].read().result()


def start_workers() -> None:
    """Start what forks the worker processes, whose imports are then made once and meanwhile."""
    multiprocessing.set_forkserver_preload(
        ["torch.utils.data", "xarray", "zarr", "weatherdiff.data.loader"]
    )
    forkserver.ensure_running()


class _Windows:
    """A map-style data set over zarr-python; each worker opens the array itself."""

    def __init__(self, path: Path, frames: int) -> None:
        self.path, self.frames = path, frames
        self.source: zarr.Array | None = None

    def __getitem__(self, start: int) -> Float:
        if self.source is None:
            self.source = zarr.open_array(self.path, mode="r")
        return np.asarray(self.source[start : start + self.frames])


def torch_workers(array: str, folder: Path, starts: Int, frames: int) -> Iterator[Float]:
    """``DataLoader`` with worker processes."""
    from torch.utils.data import DataLoader

    loader = DataLoader(
        _Windows(folder / array, frames),  # type: ignore[arg-type]
        batch_sampler=[batch.tolist() for batch in starts.reshape(-1, BATCH)],
        num_workers=WORKERS,
        multiprocessing_context="forkserver",
    )
    for batch in loader:
        yield batch.numpy()


def _opened(folder: Path, array: str) -> xr.DataArray:
    return xr.open_zarr(folder, consolidated=False, chunks=None, group=None)[array]


def _present(package: str, function: Callable[..., Iterator[Float]], array: str) -> Peer | None:
    return partial(function, array) if util.find_spec(package) else None


#: Name -> (what it reads, how); None where the package is not installed.
PEERS: dict[str, tuple[str, Peer | None]] = {
    "zarr_lz4": ("lz4", _present("zarr", zarr_python, "lz4")),
    "zarr_raw": ("raw", _present("zarr", zarr_python, "raw")),
    "xarray_lz4": ("lz4", _present("xarray", xarray_isel, "lz4")),
    "xbatcher_lz4": ("lz4", _present("xbatcher", xbatcher_generator, "lz4")),
    "tensorstore_lz4": ("lz4", _present("tensorstore", tensorstore_gather, "lz4")),
    "tensorstore_raw": ("raw", _present("tensorstore", tensorstore_gather, "raw")),
    "zarr_unprepared": ("unprepared", _present("zarr", zarr_python, OWN)),
    "tensorstore_unprepared": (
        "unprepared",
        _present("tensorstore", tensorstore_gather, OWN),
    ),
    "torch_workers_lz4": ("lz4", _present("torch", torch_workers, "lz4")),
}

#: Peers that are given few batches: they need many seconds for more.
SLOW = ("xbatcher_lz4", "xarray_lz4", "zarr_lz4", "zarr_raw", "zarr_unprepared")


def versions() -> dict[str, str | None]:
    """Of the peers and of what we stand on; None is not installed."""
    names = ("numpy", "numcodecs", "numba", "zarr", "xarray", "dask", "xbatcher", "tensorstore",
             "torch")  # fmt: skip
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found
