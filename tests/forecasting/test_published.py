"""A forecast that goes or changes while it is read is an error; so is one that leads elsewhere."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from weatherdiff.errors import InputError, MissingInputError
from weatherdiff.forecasting import open_forecasts, write_forecast
from weatherdiff.forecasting.manifest import read_manifest
from weatherdiff.forecasting.writer import verify_forecast
from weatherdiff.sealed import seal, unseal, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one small forecast, in two chunks."""
    return written(tmp_path / "forecasts", 1.0)


def written(folder: Path, value: float, **options: bool) -> Path:
    frames = 2
    init = np.datetime64("2020-01-30T06", "ns")
    leads = np.arange(1, frames + 1) * np.timedelta64(6, "h").astype("timedelta64[ns]")
    field = np.full((1, frames, 4, 2, 3), value, np.float32)
    block = xr.Dataset(
        {"t": (("init_time", "lead_time", "number", "latitude", "longitude"), field)},
        {
            "init_time": [init], "lead_time": leads, "number": np.arange(4),
            "latitude": [0.0, 1.0], "longitude": [0.0, 1.0, 2.0],
            "valid_time": (("init_time", "lead_time"), [init + leads]),
        },
    )  # fmt: skip
    write_forecast(folder, [block], frames=frames, member_block=2, **options)
    return folder


def test_a_forecast_that_is_removed_while_it_is_read_is_no_missing_values(folder: Path) -> None:
    ds = open_forecasts(folder)
    shutil.rmtree(folder / "2020-01-30T06.zarr")
    with pytest.raises(MissingInputError, match="removed while it was read"):
        ds.load()


def test_a_forecast_that_is_replaced_while_it_is_read_is_not_mixed(folder: Path) -> None:
    ds = open_forecasts(folder)
    half = ds.isel(number=slice(2)).load()
    assert (half["t"] == 1).all()
    written(folder, 2.0, overwrite=True)
    with pytest.raises(MissingInputError, match="replaced while it was read"):
        ds.load()
    assert (open_forecasts(folder)["t"].load() == 2).all()


def test_a_file_that_is_lost_after_opening_is_named(folder: Path) -> None:
    ds = pickle.loads(pickle.dumps(open_forecasts(folder)))  # noqa: S301 - as dask does
    (folder / "2020-01-30T06.zarr" / "t" / "c" / "0" / "0" / "1" / "0" / "0").unlink()
    ds.isel(number=slice(2)).load()
    with pytest.raises(InputError, match="t/c/0/0/1/0/0 is absent"):
        ds.load()


def declare(path: Path, size: int) -> None:
    """Say that there are so many members, of which none is stored."""
    root = json.loads((path / "zarr.json").read_text())
    for name, array in root["consolidated_metadata"]["metadata"].items():
        if "number" in array["dimension_names"]:
            array["shape"][array["dimension_names"].index("number")] = size
        if name == "number":
            array["chunk_grid"]["configuration"]["chunk_shape"] = [size]
        (path / name / "zarr.json").write_text(json.dumps(array))
    (path / "zarr.json").write_text(json.dumps(root))
    shutil.rmtree(path / "number" / "c")
    (path / "manifest.json").unlink()
    write_manifest(path)


def test_a_size_far_beyond_the_files_is_refused_before_it_is_allocated(folder: Path) -> None:
    declare(folder / "2020-01-30T06.zarr", 10**12)
    with pytest.raises(InputError, match="declares"):
        open_forecasts(folder)


@pytest.mark.parametrize("reader", [verify_forecast, open_forecasts])
@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "t/../../outside"])
def test_names_in_a_manifest_that_lead_out_are_refused_unread(
    folder: Path, reader: Callable[[Path], object], name: str
) -> None:
    path = folder / "2020-01-30T06.zarr"
    document = unseal((path / "manifest.json").read_text())
    document["files"][name] = {"bytes": 1, "sha256": "0"}
    (path / "manifest.json").write_text(seal(document))
    with pytest.raises(InputError, match="leads out of the folder"):
        reader(path)


def test_a_link_out_of_a_forecast_is_named_and_one_to_a_forecast_is_followed(folder: Path) -> None:
    path = folder / "2020-01-30T06.zarr"
    moved = folder.parent / "archive.zarr"
    path.rename(moved)
    path.symlink_to(moved)
    verify_forecast(path)
    assert (open_forecasts(folder)["t"].load() == 1).all()
    chunk = moved / "t" / "c" / "0" / "0" / "1" / "0" / "0"
    os.rename(chunk, folder.parent / "chunk")
    chunk.symlink_to(folder.parent / "chunk")
    for reader in (verify_forecast, open_forecasts):
        with pytest.raises(InputError, match="t/c/0/0/1/0/0 is a link that leads out"):
            reader(path)


@pytest.mark.parametrize("name", ["manifest.json", "zarr.json"])
def test_a_document_that_is_nested_too_deep_is_damage(folder: Path, name: str) -> None:
    path = folder / "2020-01-30T06.zarr"
    (path / name).write_text("[" * 200_000)
    if name == "zarr.json":
        (path / "manifest.json").unlink()
        write_manifest(path)
    with pytest.raises(InputError, match="is damaged"):
        verify_forecast(path)


def test_the_manifest_lists_what_is_there(folder: Path) -> None:
    assert "t/c/0/0/0/0/0" in read_manifest(folder / "2020-01-30T06.zarr")[1]
