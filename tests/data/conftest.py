"""A record that grows, and what is in a store."""

import json

import numpy as np
import pytest
import xarray as xr

FRAMES = 60
DIMS = ("time", "latitude", "longitude")


@pytest.fixture(scope="session")
def grown():
    """Temperature with a cell without data, and rain; six-hourly, with two frames absent."""
    rng = np.random.default_rng(0)
    temperature = 280 + rng.normal(size=(FRAMES + 2, 3, 5))
    temperature[:, 1, 2] = np.nan
    rain = np.maximum(rng.normal(size=(FRAMES + 2, 3, 5)), 0) * 1e-4
    start, hours = np.datetime64("2020-03-01", "ns"), np.timedelta64(6, "h")
    return (
        xr.Dataset(
            {
                "2m_temperature": (DIMS, temperature, {"units": "K"}),
                "precipitation_flux": (DIMS, rain, {"units": "kg m**-2 s**-1"}),
            },
            {
                "time": start + np.arange(FRAMES + 2) * hours,
                "latitude": [40.0, 42.0, 45.0],
                "longitude": np.arange(-2.0, 3.0),
            },
        )
        .astype(np.float32)
        .isel(time=np.delete(np.arange(FRAMES + 2), [20, 48]))
    )


@pytest.fixture(scope="session")
def content():
    def content(path):
        """All bytes of a store, but when it was made, what was planned, and what it cost."""
        found = {}
        for file in path.rglob("*"):
            if file.is_file() and file.suffix != ".lock":
                found[file.relative_to(path).as_posix()] = file.read_bytes()
        root = json.loads(found.pop("zarr.json"))
        for name in ("created", "plan"):
            root["attributes"]["weatherdiff"].pop(name)
        files = json.loads(found["fields/files.json"])  # it knows that of the root, too
        return found | {
            "zarr.json": json.dumps(root),
            "fields/files.json": [files["reaching"], files["files"] | {"zarr.json": None}],
        }

    return content


@pytest.fixture(scope="session")
def same():
    """Require that a store holds a data set."""

    def same(store, ds):
        np.testing.assert_array_equal(store.times, ds["time"].values.astype("M8[s]").astype(int))
        np.testing.assert_array_equal(
            store.read(np.arange(len(store.times))), store.channels.stack(ds)
        )

    return same
