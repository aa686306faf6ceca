"""Fields of 16 bits come back within half a step, and bit for bit where they had 16 bits."""

import os
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import weatherdiff
from weatherdiff.config import load_config
from weatherdiff.data.append import append
from weatherdiff.data.loading.reader import BlockReader
from weatherdiff.data.open import open_fields
from weatherdiff.data.prepare import prepare
from weatherdiff.data.store import FieldStore
from weatherdiff.data.storing import packing
from weatherdiff.data.storing.packing import Packed16Codec, pack, unpack
from weatherdiff.data.storing.profiles import PROFILES, Profile
from weatherdiff.data.storing.statistics import field_statistics
from weatherdiff.errors import ConfigError, StorageError
from weatherdiff.workflow.fields import store_settings

SETTINGS = {"training_period": ("2020-03-01", "2020-03-08"), "step": "6h", "frames": 3}
DIMS = ("time", "latitude", "longitude")


def again(frame, sources=()):
    return unpack(pack(frame, sources), np.empty((len(frame), frame[0].size), np.float32)).reshape(
        frame.shape
    )


@settings(max_examples=60, deadline=None)
@given(
    frame=arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 6)),
        elements=st.floats(-(2.0**100), 2.0**100, width=32) | st.just(np.nan),
    )
)
def test_values_come_back_within_half_a_step_and_gaps_where_they_were(frame):
    found = again(frame)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(frame))
    for values, kept in zip(frame.astype(np.float64), found, strict=True):
        there = values[~np.isnan(values)]
        if len(there):
            # a step is at most twice the span over the codes; and values have 24 bits
            bound = np.ptp(there) / 65534 + np.abs(there).max() * 2**-23
            assert np.abs(kept[~np.isnan(values)] - there).max() <= bound


@pytest.mark.parametrize("bits", [1, 8, 12, 16])
def test_what_grib_has_packed_comes_back_bit_for_bit(bits):
    rng = np.random.default_rng(bits)
    codes = rng.integers(0, 2**bits, (3, 20, 30))
    codes[:, 0, :2] = 0, 2**bits - 1  # GRIB's reference value is the minimum
    reference = np.float32([273.15, 1e5, -1e-4])[:, None, None]
    step = 2.0 ** np.array([-9, 1, -30])[:, None, None]
    frame = (reference.astype(np.float64) + codes * step).astype(np.float32)
    np.testing.assert_array_equal(again(frame), frame)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_what_netcdf_has_packed_comes_back_bit_for_bit(dtype):
    rng = np.random.default_rng(0)
    scale, offset = 0.00173942, 287.61
    codes = rng.integers(0, 60000, (1, 30, 40)) - (30000 if dtype == np.int16 else 0)
    frame = (codes.astype(dtype) * np.float64(scale) + offset).astype(np.float32)
    frame[0, 3, 4] = np.nan
    assert not np.array_equal(again(frame), frame, equal_nan=True)
    np.testing.assert_array_equal(again(frame, [(scale, offset)]), frame)
    wrong = again(frame, [(scale * 1.37, offset)])  # which then is not taken
    np.testing.assert_array_equal(wrong, again(frame))


def test_the_compiled_loop_and_numpy_agree_bit_for_bit(monkeypatch):
    rng = np.random.default_rng(1)
    frame = (rng.normal(size=(4, 30, 50)) * [[[1e-6]], [[1]], [[300]], [[1e5]]]).astype(np.float32)
    frame[1, 3, :7] = np.nan
    sources = [None, (0.001, -3.0), None, None]
    compiled = again(frame, sources)
    monkeypatch.setattr(packing, "_unpacker", lambda: packing._unpack_by_numpy)
    np.testing.assert_array_equal(again(frame, sources), compiled)


def test_infinite_values_and_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="infinite"):
        pack(np.full((1, 2, 2), np.inf, np.float32))
    with pytest.raises(ValueError, match="bytes for 1 x 5"):
        unpack(pack(np.zeros((1, 2, 2), np.float32)), np.empty((1, 5), np.float32))
    with pytest.raises(ConfigError, match="lz4, raw, packed"):
        Profile("zip")


def test_zarr_python_writes_and_reads_what_the_fast_reader_reads(tmp_path):
    frame = (2, 4, 5)
    values = np.random.default_rng(2).normal(size=(9, *frame)).astype(np.float32)
    array = zarr.create_array(
        tmp_path / "array",
        shape=values.shape,
        chunks=(1, *frame),
        shards=(4, *frame),
        dtype="float32",
        fill_value=np.inf,
        **Profile("packed").codecs(),
    )
    array[...] = values
    expected = np.stack([again(one) for one in values])
    np.testing.assert_array_equal(array[...], expected)
    reader = BlockReader(tmp_path / "array")
    np.testing.assert_array_equal(reader.read(np.arange(9)), expected)


def test_a_process_that_knows_xarray_alone_finds_the_codec(grown, tmp_path):
    root = Path(__file__).parents[2]
    points = tomllib.loads((root / "pyproject.toml").read_text())["project"]["entry-points"]
    installed = tmp_path / "fields_codec-1.dist-info"  # the package itself may be an older one
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: fields-codec\nVersion: 1\n")
    lines = [f"{name} = {where}" for name, where in points["zarr.codecs"].items()]
    (installed / "entry_points.txt").write_text("\n".join(["[zarr.codecs]", *lines, ""]))
    store = prepare(grown, tmp_path / "fields.zarr", profile="packed", **SETTINGS)
    program = (
        "import sys, xarray; ds = xarray.open_zarr(sys.argv[1], consolidated=False); "
        "print(float(ds['fields'][17, 0].sum(dtype='f8')))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(store.path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)])},
        capture_output=True,
        check=True,
        text=True,
    )
    assert float(done.stdout) == np.nansum(store.read(np.array([17]))[0, 0], dtype="f8")
    assert Packed16Codec.from_dict(Packed16Codec().to_dict()) == Packed16Codec()


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr("weatherdiff.data.prepare.BLOCK_BYTES", 10 * 4 * 2 * 3 * 5)


@pytest.mark.parametrize("name", PROFILES)
def test_plain_xarray_opens_each_profile_with_the_values_of_the_store(grown, tmp_path, name):
    store = prepare(grown, tmp_path / "fields.zarr", profile=name, **SETTINGS)
    assert isinstance(store._reader, BlockReader)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = xr.open_zarr(store.path, consolidated=False)
    found = store.read(np.arange(len(store.times)))
    np.testing.assert_array_equal(opened["fields"], found)
    source = store.channels.stack(grown)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(source))
    error = np.nanmax(np.abs(found.astype(np.float64) - source), axis=(0, 2, 3))
    if name == "packed":
        told = store.metadata["packing"]
        assert [told[label]["max_error"] for label in store.channels.labels] == error.tolist()
        assert all(
            0 < one["rms_error_of_std"] < one["max_error_of_std"] < 1e-3 for one in told.values()
        )
        assert not any(one["lossless"] for one in told.values())
    else:
        assert not error.any()
        assert not store.metadata["packing"]


def test_a_configuration_chooses_the_profile():
    demo = Path(weatherdiff.__file__).parent / "data" / "sample" / "demo.yaml"
    assert store_settings(load_config(demo))["profile"] == "lz4"
    assert store_settings(load_config(demo, ["data.profile=packed"]))["profile"] == "packed"
    with pytest.raises(ConfigError, match="profile"):
        load_config(demo, ["data.profile=zip"])


def test_statistics_of_a_packed_store_are_of_what_is_read(grown, tmp_path):
    store = prepare(grown, tmp_path / "fields.zarr", profile="packed", **SETTINGS)
    found = store.read(np.arange(len(store.times))).astype(np.float64)
    told = field_statistics(store, "2020-03-01", "2020-04-01")
    np.testing.assert_allclose(told["mean"], np.nanmean(found, axis=(0, 2, 3)), rtol=1e-13)
    np.testing.assert_array_equal(told["maximum"], np.nanmax(found, axis=(0, 2, 3)))


@pytest.mark.parametrize("name", ["raw", "packed"])
def test_threads_and_additions_give_the_same_bytes(grown, tmp_path, content, small_shards, name):
    options = SETTINGS | {"profile": name}
    whole = prepare(grown, tmp_path / "one.zarr", **options)
    threads = prepare(grown, tmp_path / "two.zarr", scheduler="threads", **options)
    assert content(threads.path) == content(whole.path)
    prepare(grown.isel(time=slice(43)), tmp_path / "three.zarr", **options)
    longer = append(grown, tmp_path / "three.zarr")
    ours, theirs = content(longer.path), content(whole.path)
    assert ours.keys() >= {n for n in theirs if ".json" not in n}
    assert all(ours[n] == theirs[n] for n in theirs if ".json" not in n)
    for label, errors in whole.metadata["packing"].items():
        told = longer.metadata["packing"][label]
        assert told["max_error"] == errors["max_error"]
        assert told["rms_error"] == pytest.approx(errors["rms_error"], rel=1e-12)


def test_a_source_of_packed_netcdf_is_lossless_and_said_to_be(grown, tmp_path):
    packed = {"dtype": "int16", "scale_factor": 0.00137, "add_offset": 281.0, "_FillValue": -32767}
    grown[["2m_temperature"]].to_netcdf(tmp_path / "source.nc", encoding={"2m_temperature": packed})
    ds = open_fields(tmp_path / "source.nc")
    store = prepare(ds, tmp_path / "fields.zarr", profile="packed", **SETTINGS)
    told = FieldStore.open(store.path).metadata["packing"]["2m_temperature"]
    assert told["lossless"]
    assert told["max_error"] == 0
    np.testing.assert_array_equal(store.read(np.arange(60)), store.channels.stack(ds).compute())


@pytest.mark.parametrize("name", ["raw", "packed"])
def test_every_flipped_bit_of_a_frame_is_found(grown, tmp_path, name):
    store = prepare(grown, tmp_path / "fields.zarr", profile=name, **SETTINGS)
    file = store._reader.array.file(0)
    whole = file.read_bytes()
    size = len(store.profile.encode(np.zeros(store.shape[1:], np.float32)))
    for byte in range(0, size, 11):
        damaged = bytearray(whole)
        damaged[byte] ^= 16
        file.write_bytes(damaged)
        with pytest.raises(StorageError, match=r"Frame 0 .*checksum"):
            store.read(np.array([0]))
