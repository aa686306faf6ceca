"""Small analyses and forecasts with unequal dimension sizes on an unequally weighted grid."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import xarray as xr

from weatherdiff.evaluation import ClimatologyEnsemble, Persistence, evaluate

with pytest.MonkeyPatch.context() as patch:
    # The oracle in numpy: where there is numba, its import compiles for 10 seconds.
    patch.setitem(sys.modules, "numba", None)
    import scoringrules  # noqa: F401

CELLS = {
    "latitude": np.array([-62.0, -31.0, 4.0, 40.0, 71.0]),
    "longitude": np.array([-9.0, -4.0, 0.0, 8.0]),
}
LEADS = np.array([6, 12, 18], dtype="timedelta64[h]").astype("timedelta64[ns]")


def make_analyses() -> xr.Dataset:
    """Two variables, one with levels, every 6 hours from 1 to 20 January 2020."""
    rng = np.random.default_rng(1)
    time = np.arange("2020-01-01", "2020-01-21", 6, dtype="datetime64[h]").astype("datetime64[ns]")
    dims = ("time", "latitude", "longitude")
    return xr.Dataset(
        {
            "2m_temperature": (dims, 280 + rng.normal(size=(80, 5, 4)), {"units": "K"}),
            "geopotential": (
                ("time", "level", "latitude", "longitude"),
                5e4 + 100 * rng.normal(size=(80, 2, 5, 4)),
                {"units": "m**2 s**-2"},
            ),
        },
        {"time": time, "level": [500, 850], **CELLS},
    ).astype(np.float32)


def forecast_from(
    analyses: xr.Dataset, inits: int = 7, members: int = 3, seed: int = 2
) -> xr.Dataset:
    """Noise around a first guess, for given initial times and members."""
    rng = np.random.default_rng(seed)
    init_time = analyses["time"].values[48 : 48 + inits]
    dims = ("init_time", "lead_time", "number")
    coords = {"init_time": init_time, "lead_time": LEADS, "number": np.arange(members)}
    return xr.Dataset(
        {
            "2m_temperature": (
                (*dims, "latitude", "longitude"),
                280.3 + rng.normal(size=(inits, 3, members, 5, 4)),
                {"units": "K"},
            ),
            "geopotential": (
                (*dims, "level", "latitude", "longitude"),
                5e4 + 100 * rng.normal(size=(inits, 3, members, 2, 5, 4)),
                {"units": "m**2 s**-2"},
            ),
        },
        {**coords, "level": [500, 850], **CELLS},
    ).astype(np.float32)


@pytest.fixture
def analyses() -> xr.Dataset:
    """Those of two variables, which a test may change."""
    return make_analyses()


@pytest.fixture
def make_forecasts(analyses: xr.Dataset) -> Callable[..., xr.Dataset]:
    """Forecasts of the analyses for other numbers of initial times and members."""
    return partial(forecast_from, analyses)


@pytest.fixture
def forecasts(make_forecasts: Callable[..., xr.Dataset]) -> xr.Dataset:
    """Seven initial times, three leads, three members."""
    return make_forecasts()


@pytest.fixture(scope="session")
def scored_once() -> xr.Dataset:
    """The scores of the forecasts beside climatology and persistence: a test copies them."""
    analyses = make_analyses()
    climatology = ClimatologyEnsemble(analyses, period=("2020-01-01", "2020-01-12"))
    references = {"climatology": climatology, "persistence": Persistence(analyses)}
    return evaluate(forecast_from(analyses), analyses, reference=references)
