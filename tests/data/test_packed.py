"""Windows that are unpacked on the device are those that are unpacked on the processor."""

import numpy as np
import pytest
import torch
import xarray as xr

from weatherdiff.data.loader import WindowDataset
from weatherdiff.data.loading.device import Transfer
from weatherdiff.data.loading.order import ExactOrder, PoolOrder
from weatherdiff.data.loading.packed import PackedReader, PackedWindows
from weatherdiff.data.prepare import prepare
from weatherdiff.data.storing.packing import pack, unpack
from weatherdiff.data.storing.stored_array import UnknownLayoutError
from weatherdiff.data.windows import Period, WindowSpec, find_windows
from weatherdiff.errors import InputError, StorageError

SPEC = WindowSpec(history=2, frames=2, step=6 * 3600)
DIMS = ("time", "latitude", "longitude")


def fields(*, sea):
    """A large mean, a small one, rain that is often zero, and a cover between its two bounds."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4, 60, 3, 5))
    pressure = 1e5 + 800 * noise[0].cumsum(axis=0) / 5 + np.linspace(-2e4, 2e4, 5)
    humidity = 8e-3 + 1e-3 * noise[1]
    rain, cover = np.maximum(noise[2], 0) * 1e-4, np.clip(0.5 + noise[3] / 2, 0, 1)
    if sea:
        humidity[:, 1, 2] = np.nan
    return xr.Dataset(
        {
            "surface_pressure": (DIMS, pressure, {"units": "Pa"}),
            "2m_specific_humidity": (DIMS, humidity, {"units": "kg kg**-1"}),
            "precipitation_flux": (DIMS, rain, {"units": "kg m**-2 s**-1"}),
            "total_cloud_cover": (DIMS, cover, {"units": "1"}),
        },
        {
            "time": np.datetime64("2020-03-01", "ns") + np.arange(60) * np.timedelta64(6, "h"),
            "latitude": [40.0, 42.0, 45.0],
            "longitude": np.arange(-2.0, 3.0),
        },
    ).astype(np.float32)


def prepared(ds, folder, profile="packed"):
    return prepare(
        ds, folder / "fields.zarr", training_period=("2020-03-01", "2020-03-12"), step="6h",
        frames=2, profile=profile,
    )  # fmt: skip


@pytest.fixture(scope="module", params=[False, True], ids=["complete", "sea"])
def windows(request, tmp_path_factory):
    store = prepared(fields(sea=request.param), tmp_path_factory.mktemp("packed"))
    found = find_windows(store.times, store.valid, SPEC, Period(0, 2**40))
    return WindowDataset(store, found, SPEC, ("time_of_day",), cache_bytes=0)


def moved(batch, dtype=None):
    return Transfer(dtype)(batch, torch.device("cpu"))


def require_close(found, expected):
    for name, one, other in zip(found._fields, found, expected, strict=True):
        assert one.dtype == other.dtype, name
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-4, msg=name)
    assert torch.equal(found.weights == 0, expected.weights == 0)
    assert torch.equal(found.init_times, expected.init_times)


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("pool", [False, True])
def test_batches_unpacked_on_the_device_are_those_of_the_processor(windows, threads, pool):
    count = len(windows)
    order = PoolOrder(count, 5, 1, block=7, blocks=3) if pool else ExactOrder(count, 5, 1)
    packed = PackedWindows(windows).stream(order, threads=threads).steps(3, 3 + 2 * count // 5)
    plain = windows.stream(order, threads=threads).steps(3, 3 + 2 * count // 5)
    for one, other in zip(packed, plain, strict=True):
        assert one.history.dtype == one.target.dtype == torch.int16
        require_close(moved(one), other)


def test_what_is_unpacked_in_float32_is_as_near_to_the_truth_as_the_processor(windows):
    normalizer, store = windows.store.normalizer, windows.store
    rows = np.arange(20)
    batch = moved(next(PackedWindows(windows).stream(ExactOrder(20, 20, 0)).steps(0, 1)))
    rows = ExactOrder(20, 20, 0).rows(0)
    indices = windows.windows.indices[rows, 0]
    values = store.read(indices).astype(np.float64)
    mean = np.einsum(
        "nk,kcyx->ncyx",
        normalizer.harmonics.evaluate(store.times[indices]),
        normalizer.climatology.astype(np.float64),
    )
    exact = (values - mean)[:, 0] / normalizer.std[0]
    # values of 1e5 are themselves rounded to 4e-3 in float32
    error = 2**-24 * 1.3e5 / normalizer.std[0]
    assert np.abs(batch.history[:, 0, 0].numpy() - exact).max() < 1.5 * error


def test_unpacked_fields_get_the_type_that_was_asked_for(windows):
    batch = next(PackedWindows(windows).stream(ExactOrder(9, 3, 0)).steps(0, 1))
    found = moved(batch, torch.bfloat16)
    assert found.history.dtype == found.target.dtype == torch.bfloat16
    assert found.weights.dtype == torch.float32


def test_a_packed_reader_gives_the_frames_as_they_are_stored(windows):
    store = windows.store
    reader = PackedReader(store.path / "fields", threads=2)
    rows = reader.read([7, 3, 7])
    for row, frame in zip(rows, store.read([7, 3, 7]), strict=True):
        np.testing.assert_array_equal(
            unpack(row.tobytes(), np.empty((4, 15), np.float32)), frame.reshape(4, 15)
        )


def test_a_damaged_packed_frame_is_named(windows, tmp_path):
    import shutil

    copy = tmp_path / "fields"
    shutil.copytree(windows.store.path / "fields", copy)
    shard = copy / "c" / "0" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[300] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StorageError, match="checksum does not match"):
        PackedReader(copy).read(np.arange(60))


def test_a_value_out_of_bounds_is_refused_before_it_reaches_the_device(windows, monkeypatch):
    packed = PackedWindows(windows)
    read = packed.reader.read

    def spoilt(indices, out=None):
        found = read(indices, out=out)
        frames = windows.store.read(indices)
        frames[:, 3, 0, 0] = 1.5
        found[...] = np.stack([np.frombuffer(pack(frame), np.uint16) for frame in frames])
        return found

    monkeypatch.setattr(packed.reader, "read", spoilt)
    with pytest.raises(InputError, match="outside the bounds"):
        next(packed.stream(ExactOrder(9, 3, 0)).steps(0, 1))


def test_fields_that_are_not_packed_are_unpacked_by_the_processor(tmp_path):
    store = prepared(fields(sea=False), tmp_path, profile="lz4")
    found = find_windows(store.times, store.valid, SPEC, Period(0, 2**40))
    with pytest.raises(UnknownLayoutError):
        PackedWindows(WindowDataset(store, found, SPEC, ()))
    with pytest.raises(UnknownLayoutError):
        PackedReader(store.path / "fields")
