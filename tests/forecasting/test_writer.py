"""A forecast on disk is whole, checked and readable by anyone, or it is not there."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import xarray as xr

from weatherdiff.data.open import open_fields
from weatherdiff.errors import InputError, MissingInputError, StorageError
from weatherdiff.forecasting import Forecaster, open_forecasts, write_forecast
from weatherdiff.forecasting.forecaster import Sampling
from weatherdiff.forecasting.writer import FORMAT_VERSION, forecast_name, verify_forecast
from weatherdiff.layout import LAYOUT
from weatherdiff.sealed import seal

SAMPLING = Sampling(steps=1, member_block=2, precision="fp32")
Write = Callable[..., Path]


@pytest.fixture
def write(forecaster: Forecaster, small_analyses: xr.Dataset, tmp_path: Path) -> Write:
    """Forecast five frames in blocks of three with three members, and write them."""

    def run(
        init_time: str = "2020-01-30T06", *, members: int = 3, frames: int = 5, **options: Any
    ) -> Path:
        blocks = forecaster.rollout(
            small_analyses, init_time=init_time, frames=frames, members=members, sampling=SAMPLING
        )
        return write_forecast(
            tmp_path / "forecasts", blocks, frames=frames, member_block=2, **options
        )

    return run


@pytest.fixture
def expected(forecaster: Forecaster, small_analyses: xr.Dataset) -> xr.Dataset:
    """What :func:`write` writes, in memory."""
    return forecaster.forecast(
        small_analyses, init_time="2020-01-30T06", lead_time="30h", members=3, sampling=SAMPLING
    )


def _visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# Reading it


def test_what_is_written_is_read_back(write: Write, expected: xr.Dataset) -> None:
    path = write(attributes={"seed": 5, "licence": "CC0"})
    assert path.name == "2020-01-30T06.zarr"
    ds = open_forecasts(path.parent)
    own = {"format": "weatherdiff forecast", "format_version": 1}
    assert ds.attrs == {"seed": 5, "licence": "CC0", **own}
    ds.attrs = {}
    xr.testing.assert_identical(ds.load(), expected)
    assert list(ds["geopotential"].dims) == list(expected["geopotential"].dims)
    verify_forecast(path)


@pytest.mark.parametrize("opener", ["open_zarr", "open_dataset"])
def test_plain_xarray_opens_it_without_warnings_or_options(
    write: Write, expected: xr.Dataset, opener: str
) -> None:
    # Warnings are errors in these tests.
    with getattr(xr, opener)(write()) as ds:
        ds.attrs = {}
        xr.testing.assert_identical(ds.load(), expected)


def test_it_opens_where_weatherdiff_is_not_imported(write: Write) -> None:
    path = write()
    code = f"""
import xarray as xr, numpy as np, sys
ds = xr.open_zarr({str(path)!r})
assert ds.lead_time.dtype == "timedelta64[ns]", ds.lead_time.dtype
assert (ds.valid_time == ds.init_time + ds.lead_time).all()
assert ds["2m_temperature"].attrs["units"] == "K"
assert not any(name.startswith("weatherdiff") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_it_can_be_copied_to_netcdf(write: Write, expected: xr.Dataset, tmp_path: Path) -> None:
    ds = xr.open_zarr(write(attributes={"seed": 5}))
    ds.drop_encoding().to_netcdf(tmp_path / "copy.nc")
    with xr.open_dataset(tmp_path / "copy.nc", decode_timedelta=True) as copy:
        xr.testing.assert_equal(copy.load(), expected)


def test_opening_reads_no_fields(write: Write) -> None:
    path = write(members=5)
    ds = open_forecasts(path)
    for name, field in ds.data_vars.items():
        assert isinstance(field.data, dask.array.Array), name
    chunks = dict(zip(ds["geopotential"].dims, ds["geopotential"].chunks, strict=True))
    # A block of frames and a block of members make a chunk; the last ones are shorter.
    assert (chunks["lead_time"], chunks["number"]) == ((3, 2), (2, 2, 1))


def test_many_initial_times_open_as_one_in_order(write: Write, expected: xr.Dataset) -> None:
    times = ["2020-01-31T00", "2020-01-30T06", "2020-01-29T18"]
    for time in times:
        folder = write(time, attributes={"seed": 5, "made": time}).parent
    (folder / ".2020-01-01T00.zarr.abcd.partial").mkdir()
    (folder / "notes.txt").write_text("not a forecast")
    ds = open_forecasts(folder)
    assert ds["init_time"].values.tolist() == sorted(np.array(times, "datetime64[ns]").tolist())
    assert ds["valid_time"].shape == (3, 5)
    assert (ds["valid_time"] == ds["init_time"] + ds["lead_time"]).all()
    assert (ds.attrs["seed"], "made" in ds.attrs) == (5, False)
    assert isinstance(ds["geopotential"].data, dask.array.Array)
    one = ds.sel(init_time=["2020-01-30T06"]).load()
    one.attrs = {}
    xr.testing.assert_identical(one, expected)


def test_forecasts_come_back_in_the_layout_of_their_source(
    write: Write, small_analyses: xr.Dataset
) -> None:
    small_analyses["level"].attrs["units"] = "hPa"
    raw = small_analyses.isel(latitude=slice(None, None, -1)).rename(
        {"2m_temperature": "t2m", "latitude": "lat", "longitude": "lon"}
    )
    raw = raw.assign(t2m=(raw["t2m"] - 273.15).assign_attrs(units="degC"))
    path = write(attributes={LAYOUT: open_fields(raw).attrs[LAYOUT]})
    canonical, own = open_forecasts(path), open_forecasts(path, layout="source")
    np.testing.assert_array_equal(own["lat"], raw["lat"])
    assert own["t2m"].attrs["units"] == "degC"
    np.testing.assert_allclose(
        own["t2m"].values[..., ::-1, :] + 273.15, canonical["2m_temperature"].values, rtol=1e-6
    )
    assert own["valid_time"].equals(canonical["valid_time"])


def test_forecasts_that_do_not_tell_their_source_have_no_other_layout(write: Write) -> None:
    with pytest.raises(InputError, match="do not tell the layout"):
        open_forecasts(write(), layout="source")


# Writing it


def test_an_existing_forecast_is_kept_unless_it_is_to_be_replaced(
    write: Write, expected: xr.Dataset
) -> None:
    path = write()
    with pytest.raises(StorageError, match="exists already") as error:
        write(members=4)
    assert error.value.exit_code == 74
    assert _visible(path.parent) == [path.name]
    assert open_forecasts(path).sizes["number"] == 3
    write(members=4, overwrite=True)
    assert _visible(path.parent) == [path.name]
    assert open_forecasts(path).sizes["number"] == 4


class _KilledError(Exception):
    pass


@pytest.mark.parametrize("after", [0, 1])
def test_a_model_that_fails_midway_leaves_nothing(
    forecaster: Forecaster, small_analyses: xr.Dataset, tmp_path: Path, after: int
) -> None:
    def failing() -> Iterator[xr.Dataset]:
        blocks = forecaster.rollout(
            small_analyses, init_time="2020-01-30T06", frames=5, members=3, sampling=SAMPLING
        )
        for _ in range(after):
            yield next(blocks)
        raise _KilledError

    with pytest.raises(_KilledError):
        write_forecast(tmp_path / "forecasts", failing(), frames=5)
    assert _visible(tmp_path / "forecasts") == []


def test_a_failed_replacement_keeps_the_earlier_forecast(
    write: Write, expected: xr.Dataset
) -> None:
    path = write()

    def failing() -> Iterator[xr.Dataset]:
        yield expected.isel(lead_time=slice(0, 3))
        raise _KilledError

    with pytest.raises(_KilledError):
        write_forecast(path.parent, failing(), frames=5, overwrite=True)
    assert _visible(path.parent) == [path.name]
    verify_forecast(path)


@pytest.mark.parametrize(
    ("announced", "sentence"),
    [(6, "has 5 frames, 6 were announced"), (3, "has more than 3 frames, 3 were announced"),
     (4, "has more than 3 frames, 4 were announced")],
)  # fmt: skip
def test_blocks_that_do_not_add_up_are_refused(
    expected: xr.Dataset, tmp_path: Path, announced: int, sentence: str
) -> None:
    blocks = [expected.isel(lead_time=slice(0, 3)), expected.isel(lead_time=slice(3, 5))]
    with pytest.raises(InputError, match=sentence):
        write_forecast(tmp_path / "forecasts", blocks, frames=announced)
    assert _visible(tmp_path / "forecasts") == []


def test_no_block_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no frames"):
        write_forecast(tmp_path / "forecasts", [], frames=3)


def test_names_sort_as_the_times_do() -> None:
    times = np.arange("2018-07-20T00:00", "2018-07-20T03:00", 30, dtype="datetime64[m]")
    names = [forecast_name(time) for time in times]
    assert names == sorted(names)
    assert len(set(names)) == len(names)
    assert names[:2] == ["2018-07-20T00.zarr", "2018-07-20T0030.zarr"]


# Damage


def _files(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def test_every_file_is_missed_if_it_is_deleted_or_cut(write: Write) -> None:
    path = write()
    names = _files(path)
    assert sum("/c" in name for name in names) > 12
    for name in names:
        content = (path / name).read_bytes()
        for left in (None, content[: len(content) // 2]):
            (path / name).unlink()
            if left is not None:
                (path / name).write_bytes(left)
            for reader in (open_forecasts, verify_forecast):
                with pytest.raises(InputError) as error:
                    reader(path)
                assert name in str(error.value)
                assert error.value.exit_code == 65
            (path / name).write_bytes(content)
    verify_forecast(path)


def test_every_altered_file_is_named(write: Write, tmp_path: Path) -> None:
    path = write()
    for name in _files(path):
        if name == "manifest.json":
            continue
        content = bytearray((path / name).read_bytes())
        content[len(content) // 2] ^= 1
        (path / name).write_bytes(content)
        with pytest.raises(InputError, match="was altered") as error:
            verify_forecast(path)
        assert name in str(error.value)
        content[len(content) // 2] ^= 1
        (path / name).write_bytes(content)
    verify_forecast(path)


def test_a_flipped_bit_in_a_field_is_never_read_as_a_value(write: Write) -> None:
    path = write()
    for name in _files(path):
        if not name.startswith("geopotential/c/"):
            continue
        content = bytearray((path / name).read_bytes())
        for place in range(0, len(content), 157):
            content[place] ^= 4
            (path / name).write_bytes(content)
            with pytest.raises((ValueError, RuntimeError)):
                open_forecasts(path)["geopotential"].load()
            content[place] ^= 4
        (path / name).write_bytes(content)
    open_forecasts(path)["geopotential"].load()


def test_an_extra_file_is_named(write: Write) -> None:
    path = write()
    (path / "geopotential" / "c" / "9").write_text("intruder")
    with pytest.raises(InputError, match="geopotential/c/9 was not there"):
        verify_forecast(path)


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "[]",
        "{}",
        '{"files": []}',
        '{"files": {"zarr.json": 3}}',
        '{"files": {"zarr.json": {}}}',
    ],
)
def test_a_damaged_manifest_is_refused(write: Write, manifest: str) -> None:
    path = write()
    (path / "manifest.json").write_text(manifest)
    for reader in (open_forecasts, verify_forecast):
        with pytest.raises(InputError, match=r"manifest\.json is damaged"):
            reader(path)


def _set_root(path: Path, content: str) -> None:
    """Replace zarr.json and its entry in the manifest."""
    (path / "zarr.json").write_text(content)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["zarr.json"] = {
        "bytes": len(content), "sha256": hashlib.sha256(content.encode()).hexdigest(),
    }  # fmt: skip
    (path / "manifest.json").write_text(seal(manifest))


def test_a_newer_version_is_refused(write: Write) -> None:
    path = write()
    root = json.loads((path / "zarr.json").read_text())
    root["attributes"]["format_version"] = FORMAT_VERSION + 1
    _set_root(path, json.dumps(root))
    with pytest.raises(InputError, match=f"version {FORMAT_VERSION + 1}; upgrade weatherdiff"):
        open_forecasts(path)


@pytest.mark.parametrize("root", ["{", "{}", "[1]"])
def test_a_store_of_something_else_is_refused(write: Write, root: str) -> None:
    path = write()
    _set_root(path, root)
    with pytest.raises(InputError, match=r"zarr\.json"):
        open_forecasts(path)


def test_no_forecast_is_missing_input(tmp_path: Path) -> None:
    (tmp_path / ".2020-01-30T06.zarr.abcd.partial").mkdir()
    for folder in (tmp_path, tmp_path / "absent", tmp_path / "absent.zarr"):
        with pytest.raises(MissingInputError) as error:
            open_forecasts(folder)
        assert error.value.exit_code == 66
    with pytest.raises(MissingInputError):
        verify_forecast(tmp_path / "absent.zarr")


@pytest.mark.parametrize("options", [{"members": 4}, {"frames": 4}])
def test_forecasts_of_different_shape_are_not_joined(write: Write, options: dict[str, int]) -> None:
    write("2020-01-30T06")
    folder = write("2020-01-30T12", **options).parent
    with pytest.raises(InputError, match="do not fit together"):
        open_forecasts(folder)


def test_forecasts_of_different_variables_or_grids_are_not_joined(
    write: Write, expected: xr.Dataset
) -> None:
    folder = write("2020-01-30T12").parent
    others = (
        expected.drop_vars("2m_temperature"),
        expected.assign_coords(latitude=expected["latitude"] + 0.25),
        expected.isel(level=[0]),
    )
    for other in others:
        write_forecast(folder, [other], frames=5, overwrite=True)
        with pytest.raises(InputError, match="do not fit together"):
            open_forecasts(folder)
