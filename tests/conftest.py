"""Small analyses with unequal sizes, masked cells and levels, and what is made of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import settings

from weatherdiff.data.forcings import forcing_fields
from weatherdiff.data.loader import WindowDataset
from weatherdiff.data.prepare import prepare
from weatherdiff.data.store import FieldStore
from weatherdiff.data.windows import Period, WindowSpec, find_windows
from weatherdiff.forecasting.forecaster import Forecaster
from weatherdiff.models import VideoDenoiser

HOURS = 6
SPEC = WindowSpec(history=2, frames=3, step=HOURS * 3600)
FORCINGS = ("time_of_day",)
TRAINING = ("2019-12-20", "2020-01-18")
VALIDATION = ("2020-01-20", "2020-01-27")
TEST = ("2020-01-29", "2020-02-02")
# How long an example takes tells of what else the machine does; and what fails today has to fail
# tomorrow, so the examples are the same in every run.
settings.register_profile("any machine", deadline=None, derandomize=True, database=None)
settings.load_profile("any machine")

MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes a folder there that is closed to others
# A file goes to one process as a whole: what takes long comes first, and doctests come last.
LONG = ("tests/faults/test_verbs.py", "tests/test_workflow.py", "tests/test_notebooks.py")


def pytest_configure(config: pytest.Config) -> None:
    """Let xdist hand out files in our order, and keep what is written where no disk is waited for.

    Many thousand small files are written, forced to the disk, and removed: where memory may hold
    them (half a gigabyte a run) and programs may be started from it, that takes no time.
    """
    if MEMORY.is_dir():
        there = os.statvfs(MEMORY)
        if there.f_bavail * there.f_frsize > 4 * 2**30 and not there.f_flag & os.ST_NOEXEC:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take long before all others."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


def make_analyses(latitude: np.ndarray, longitude: np.ndarray, days: int = 45) -> xr.Dataset:
    """Noisy waves of about 60 hours and a daily cycle, every six hours from 20 December 2019."""
    rng = np.random.default_rng(7)
    count = days * 24 // HOURS
    start = np.datetime64("2019-12-20", "ns")
    time = start + np.arange(count) * np.timedelta64(HOURS, "h")
    noise = rng.normal(size=(count, 4, latitude.size, longitude.size))
    wave = np.zeros_like(noise)
    for t in range(2, count):
        wave[t] = 1.58 * wave[t - 1] - 0.95 * wave[t - 2] + noise[t] + np.roll(noise[t], 1, axis=-1)
    wave /= wave.std()
    hour = np.arange(count)[:, None, None] * HOURS
    day = np.cos(2 * np.pi * hour / 24)
    dims = ("time", "latitude", "longitude")
    temperature = 280 + 2 * wave[:, 0] - 3 * day
    temperature[:, 1, 2] = np.nan  # the sea
    sun = np.maximum(-200 * day + 60 * wave[:, 1], 0)
    height = np.array([5.4e4, 1.4e4])[:, None, None] + 300 * wave[:, 2:]
    pressure = 1.01e5 + 800 * wave[:, 0, ::-1]
    return xr.Dataset(
        {
            "2m_temperature": (dims, temperature, {"units": "K"}),
            "geopotential": (
                ("time", "level", "latitude", "longitude"),
                height,
                {"units": "m**2 s**-2"},
            ),
            "surface_downwelling_shortwave_flux": (dims, sun, {"units": "W m**-2"}),
            "mean_sea_level_pressure": (dims, pressure, {"units": "Pa"}),
            "orography": (dims[1:], rng.normal(size=noise.shape[2:]), {"units": "m"}),
        },
        {"time": time, "level": [500, 850], "latitude": latitude, "longitude": longitude},
    ).astype(np.float32)


@pytest.fixture(scope="session")
def session_analyses() -> xr.Dataset:
    """A region of 5 latitudes and 7 longitudes, astride the Greenwich meridian."""
    latitude = np.array([48.0, 49.5, 51.0, 52.5, 54.0])
    longitude = np.arange(-4.5, 6.0, 1.5)
    return make_analyses(latitude, longitude)


@pytest.fixture
def small_analyses(session_analyses: xr.Dataset) -> xr.Dataset:
    """A copy that a test may change."""
    return session_analyses.copy(deep=True)


@pytest.fixture(scope="session")
def small_store(
    session_analyses: xr.Dataset, tmp_path_factory: pytest.TempPathFactory
) -> FieldStore:
    """The region, prepared."""
    return prepare(
        session_analyses,
        tmp_path_factory.mktemp("store") / "fields.zarr",
        training_period=TRAINING,
        step=f"{HOURS}h",
        frames=SPEC.frames,
    )


@pytest.fixture(scope="session")
def small_windows(small_store: FieldStore) -> dict[str, WindowDataset]:
    """Windows of each split."""
    return {
        name: WindowDataset(
            small_store,
            find_windows(small_store.times, small_store.valid, SPEC, Period.parse(*period)),
            SPEC,
            FORCINGS,
        )
        for name, period in (("training", TRAINING), ("validation", VALIDATION))
    }


@pytest.fixture(scope="session")
def make_network(small_store: FieldStore) -> Callable[..., VideoDenoiser]:
    """Build networks for the small windows: a few thousand random weights, none of them zero."""

    def make(*, seed: int = 3, dropout: float = 0.0) -> VideoDenoiser:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = VideoDenoiser(
                frames=SPEC.frames,
                channels=len(small_store.channels),
                history=SPEC.history,
                forcings=forcing_fields(FORCINGS, small_store.times[:1], small_store.grid).shape[1],
                static=3 + len(small_store.static),
                size={"width": 8, "blocks": 1, "levels": 1},
                dropout=dropout,
            )
            for weights in network.parameters():
                torch.nn.init.normal_(weights, std=0.1)
        return network.eval()

    return make


@pytest.fixture
def forecaster(
    small_windows: dict[str, WindowDataset], make_network: Callable[..., VideoDenoiser]
) -> Forecaster:
    """A model with random weights and unequal noise scales."""
    windows = small_windows["training"]
    store = windows.store
    channels = len(store.channels)
    return Forecaster(
        network=make_network(),
        channels=store.channels,
        grid=store.grid,
        normalizer=store.normalizer,
        spec=SPEC,
        forcings=FORCINGS,
        mask=store.mask,
        static=windows[0].static[0].numpy(),
        noise_scale=np.linspace(0.6, 1.4, SPEC.frames * channels, dtype=np.float32).reshape(
            SPEC.frames, channels
        ),
        fill=False,
        provenance={"source": {"licence": "CC0"}},
    )


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the layout and drawing of a page's pictures away, where it is not they that matter."""
    monkeypatch.setattr("weatherdiff.report.exhibits.picture", lambda figure, **_: "")
