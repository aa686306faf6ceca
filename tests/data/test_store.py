"""A store gives back what was put in, or says which part is damaged."""

import json
import shutil
import warnings

import numpy as np
import pytest
import xarray as xr

from weatherdiff.data import prepare as module
from weatherdiff.data.prepare import prepare
from weatherdiff.data.store import FORMAT_VERSION, FieldStore
from weatherdiff.errors import InputError, MissingInputError, StorageError

FRAMES, SHARD = 44, 10
SINGLE = ("time", "latitude", "longitude")


@pytest.fixture(scope="module")
def source():
    """Two levels and a single-level field with a masked cell, six-hourly, with one frame absent."""
    rng = np.random.default_rng(0)
    time = np.arange(FRAMES + 1) * np.timedelta64(6, "h") + np.datetime64("1969-12-28", "ns")
    height = 5e4 + 100 * rng.normal(size=(FRAMES + 1, 2, 3, 4))
    temperature = 280 + rng.normal(size=(FRAMES + 1, 3, 4))
    temperature[:, 1, 2] = np.nan
    ds = xr.Dataset(
        {
            "geopotential": (("time", "level", *SINGLE[1:]), height, {"units": "m**2 s**-2"}),
            "2m_temperature": (SINGLE, temperature, {"units": "K"}),
            "orography": (SINGLE[1:], rng.normal(size=(3, 4)), {"units": "m"}),
            "soil": (SINGLE[1:], rng.normal(size=(3, 4)), {"units": "1"}),
        },
        {
            "time": time,
            "level": [850, 500],
            "latitude": [-10.0, 15.0, 30.0],
            "longitude": [0.0, 10.0, 20.0, 30.0],
        },
    )
    return ds.astype(np.float32).isel(time=np.delete(np.arange(FRAMES + 1), 20))


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", SHARD * 4 * 3 * 3 * 4)
        return prepare(
            source,
            tmp_path_factory.mktemp("store") / "fields.zarr",
            training_period=("1969-12-28", "1970-01-05"),
            step="6h",
            frames=2,
        )


@pytest.fixture
def path(whole, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(whole.path, tmp_path / "fields.zarr")


def rewrite(path, change):
    file = path / "zarr.json"
    document = json.loads(file.read_text())
    change(document["attributes"]["weatherdiff"])
    file.write_text(json.dumps(document))


def test_fields_come_back_bit_for_bit(whole, source):
    channels = whole.channels
    assert channels.labels == ("geopotential_850", "geopotential_500", "2m_temperature")
    np.testing.assert_array_equal(whole.read(np.arange(FRAMES)), channels.stack(source))
    assert whole.shape == (FRAMES, 3, 3, 4)
    assert whole.nbytes == 4 * FRAMES * 3 * 3 * 4


@pytest.mark.parametrize(
    "indices", [[0], [43, 0], [5, 6, 7, 9, 10, 11, 30], [12, 3, 12, 3], [9, 10], []]
)
def test_frames_come_in_the_order_asked_for(whole, source, indices):
    expected = whole.channels.stack(source).values[indices]
    np.testing.assert_array_equal(whole.read(np.array(indices, np.int64)), expected)


def test_the_data_set_of_a_store_is_the_source_and_lazy(whole, source):
    ds = whole.to_dataset()
    assert ds["geopotential"].chunks is not None
    xr.testing.assert_identical(
        ds.drop_attrs(), source.drop_vars(["orography", "soil"]).drop_attrs()
    )
    assert ds["geopotential"].attrs["units"] == "m**2 s**-2"


def test_plain_xarray_opens_a_store_without_a_warning(whole, source):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = xr.open_zarr(whole.path, consolidated=False)
    np.testing.assert_array_equal(ds["time"], source["time"])
    np.testing.assert_array_equal(ds["latitude"], source["latitude"])
    assert ds["fields"].dims == ("time", "channel", "latitude", "longitude")
    assert ds["channel"].values.tolist() == list(whole.channels.labels)
    labelled = ds["fields"].sel(channel="2m_temperature")
    np.testing.assert_array_equal(labelled, source["2m_temperature"])
    assert ds["static"].shape == (2, 3, 4)


def test_a_store_opened_again_is_the_same(whole, path):
    again = FieldStore.open(path)
    assert again.channels == whole.channels
    assert again.grid == whole.grid
    assert again.metadata == whole.metadata
    assert again.normalizer.to_dict() == whole.normalizer.to_dict()
    for name in ("times", "valid", "mask", "static"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    for name, values in again.normalizer.arrays().items():
        np.testing.assert_array_equal(values, whole.normalizer.arrays()[name])
    assert (again.times < 0).any()


@pytest.mark.parametrize("shard", range(5))
@pytest.mark.parametrize("loss", ["deleted", "empty", "cut"])
def test_a_lost_shard_is_found_and_named(path, shard, loss):
    file = path / "fields" / "c" / str(shard) / "0" / "0" / "0"
    if loss == "deleted":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-7] if loss == "cut" else b"")
    store = FieldStore.open(path)
    with pytest.raises(StorageError, match=f"Frame {SHARD * shard} .*fields/c/{shard}/0") as caught:
        store.read(np.arange(FRAMES))
    assert caught.value.exit_code == 74
    elsewhere = np.delete(
        np.arange(FRAMES), np.arange(SHARD * shard, min(SHARD * shard + SHARD, FRAMES))
    )
    assert store.read(elsewhere).shape[0] == len(elsewhere)


def test_every_flipped_bit_of_the_fields_is_found(path, whole):
    rng = np.random.default_rng(0)
    file = path / "fields" / "c" / "2" / "0" / "0" / "0"
    content = file.read_bytes()
    store = FieldStore.open(path)
    for place in rng.integers(len(content), size=40):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        with pytest.raises(StorageError, match=r"Frame 2\d cannot be read"):
            store.read(np.arange(FRAMES))
    file.write_bytes(content)
    np.testing.assert_array_equal(store.read(np.arange(FRAMES)), whole.read(np.arange(FRAMES)))


def test_one_damaged_frame_is_named_and_the_others_can_be_read(path, whole):
    file = path / "fields" / "c" / "1" / "0" / "0" / "0"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    store = FieldStore.open(path)
    bad = []
    for index in range(FRAMES):
        try:
            np.testing.assert_array_equal(store.read([index]), whole.read([index]))
        except StorageError:
            bad.append(index)
    assert len(bad) == 1
    with pytest.raises(StorageError, match=f"Frame {bad[0]} "):
        store.read(np.arange(FRAMES))


SMALL = ("time", "latitude", "longitude", "valid", "mask", "static")
SMALL += tuple(f"statistics/{name}" for name in ("climatology", "std", "tendency_std"))


@pytest.mark.parametrize("name", SMALL)
def test_damage_to_a_small_array_is_found_when_opening(path, name):
    (file,) = (f for f in (path / name / "c").rglob("*") if f.is_file())
    content = file.read_bytes()
    rng = np.random.default_rng(1)
    for place in rng.integers(len(content), size=5):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        with pytest.raises(InputError, match="is damaged"):
            FieldStore.open(path)
    for cut in (content[:-3], b""):
        file.write_bytes(cut)
        with pytest.raises(InputError, match="is damaged"):
            FieldStore.open(path)
    file.unlink()
    with pytest.raises(InputError, match=f"the values of {name} are lost"):
        FieldStore.open(path)


@pytest.mark.parametrize("name", ["", "fields", "mask", "statistics/std"])
@pytest.mark.parametrize("damage", [None, b"", b"{"])
def test_lost_or_damaged_metadata_are_found_when_opening(path, name, damage):
    file = path / name / "zarr.json"
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    with pytest.raises(InputError, match="damaged"):
        FieldStore.open(path)


@pytest.mark.parametrize("key", ["channels", "normalizer", "format"])
def test_a_missing_entry_is_found_when_opening(path, key):
    rewrite(path, lambda document: document.pop(key))
    with pytest.raises(InputError, match=r"damaged|not (of )?a weatherdiff field store"):
        FieldStore.open(path)


def test_fields_of_another_shape_are_refused(path):
    rewrite(path, lambda document: document["channels"]["variables"].pop())
    with pytest.raises(InputError, match="shape"):
        FieldStore.open(path)


def test_a_newer_version_is_refused_with_advice(path):
    rewrite(path, lambda document: document.update(version=FORMAT_VERSION + 1))
    with pytest.raises(InputError, match="Upgrade weatherdiff") as caught:
        FieldStore.open(path)
    assert caught.value.exit_code == 65


def test_nothing_there_may_come_later(tmp_path):
    with pytest.raises(MissingInputError, match="run prepare first") as caught:
        FieldStore.open(tmp_path / "absent.zarr")
    assert caught.value.exit_code == 66


def test_another_store_or_a_file_is_refused(tmp_path, source):
    source.to_zarr(tmp_path / "other.zarr", consolidated=False)
    (tmp_path / "file.zarr").write_text("no store")
    (tmp_path / "folder.zarr").mkdir()
    for name in ("other.zarr", "file.zarr", "folder.zarr"):
        with pytest.raises(InputError, match="is not a field store"):
            FieldStore.open(tmp_path / name)
