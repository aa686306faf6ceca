"""The fast reader gives what zarr-python gives, or says which frame is damaged."""

import os
import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, BloscShuffle, BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec

from weatherdiff.data.loading.reader import BlockReader, FunctionReader
from weatherdiff.data.store import FieldStore
from weatherdiff.data.storing.inventory import Inventory
from weatherdiff.data.storing.stored_array import UnknownLayoutError
from weatherdiff.errors import StorageError

CODECS = {
    "lz4": [BloscCodec(cname="lz4", clevel=5, shuffle=BloscShuffle.shuffle), Crc32cCodec()],
    "bitshuffled zstd": [BloscCodec(cname="zstd", shuffle=BloscShuffle.bitshuffle)],
    "zstd": [ZstdCodec(level=1)],
    "zstd, checked": [ZstdCodec(level=1, checksum=True), Crc32cCodec()],
    "raw": [],
    "raw, checked": [Crc32cCodec()],
}


def make_array(path, frames=23, frame=(2, 3, 5), shard=7, codecs="lz4", **options):
    values = np.random.default_rng(frames).normal(size=(frames, *frame)).astype(np.float32)
    values[frames // 2] = np.nan
    array = zarr.create_array(
        path,
        shape=values.shape,
        chunks=(1, *frame),
        shards=None if shard is None else (shard, *frame),
        compressors=CODECS[codecs],
        overwrite=True,
        **{"dtype": "float32", "fill_value": np.inf, **options},
    )
    array[...] = values
    return array


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("arrays")


@settings(max_examples=40, deadline=None)
@given(
    codecs=st.sampled_from(sorted(CODECS)),
    frames=st.integers(1, 30),
    frame=st.sampled_from([(1,), (2, 3, 5), (4, 40, 50), (1, 300, 257)]),
    shard=st.sampled_from([None, 1, 4, 9, 30]),
    threads=st.integers(1, 3),
    data=st.data(),
)
def test_frames_are_those_of_zarr_python(folder, codecs, frames, frame, shard, threads, data):
    array = make_array(folder / "array", frames, frame, shard, codecs)
    indices = data.draw(st.lists(st.integers(0, frames - 1), max_size=40))
    reader = BlockReader(folder / "array", threads=threads)
    np.testing.assert_array_equal(reader.read(np.arange(frames)), array[...])
    np.testing.assert_array_equal(reader.read(indices), array[...][indices])


@pytest.mark.parametrize("codecs", sorted(CODECS))
def test_frames_are_put_where_the_caller_says(tmp_path, codecs):
    array = make_array(tmp_path, codecs=codecs)
    memory = np.full((6, 2, 3, 5), 7, np.float32)
    out = memory[1:5]
    assert BlockReader(tmp_path).read([8, 2, 8, 22], out=out) is out
    np.testing.assert_array_equal(out, array[...][[8, 2, 8, 22]])
    assert (memory[[0, 5]] == 7).all()


@pytest.mark.parametrize("start", [True, False])
def test_an_index_at_either_end_is_read(tmp_path, start):
    from zarr.codecs import ShardingCodec

    values = np.arange(24, dtype=np.float32).reshape(8, 3)
    sharding = ShardingCodec(
        chunk_shape=(1, 3),
        codecs=[BytesCodec(endian="little"), *CODECS["lz4"]],
        index_location="start" if start else "end",
    )
    array = zarr.create(
        store=str(tmp_path / "array"),
        shape=(8, 3),
        chunks=(4, 3),
        dtype="float32",
        codecs=[sharding],
        fill_value=0,
    )
    array[...] = values
    np.testing.assert_array_equal(BlockReader(tmp_path / "array").read(np.arange(8)), values)


def test_many_threads_may_read_at_once(tmp_path):
    array = make_array(tmp_path, frames=40, frame=(3, 30, 40))
    values, reader = array[...], BlockReader(tmp_path, threads=2)
    rng = np.random.default_rng(0)
    asked = [rng.integers(0, 40, size=9) for _ in range(60)]
    with ThreadPoolExecutor(6) as pool:
        for indices, found in zip(asked, pool.map(reader.read, asked), strict=True):
            np.testing.assert_array_equal(found, values[indices])


def test_a_reader_goes_to_another_process_without_its_threads(tmp_path):
    array = make_array(tmp_path)
    reader = BlockReader(tmp_path, threads=2, advice="Do something.")
    reader.read(np.arange(5))
    again = pickle.loads(pickle.dumps(reader))  # noqa: S301
    assert (again.array, again.threads, again.advice) == (reader.array, 2, "Do something.")
    np.testing.assert_array_equal(again.read([3, 1, 2]), array[...][[3, 1, 2]])


def test_a_forked_process_makes_threads_of_its_own(tmp_path):
    array = make_array(tmp_path)
    reader = BlockReader(tmp_path, threads=2)
    reader.read(np.arange(5))
    parent = reader._threads()
    reader._executor = (os.getpid() + 1, parent)  # as a fork would find it
    np.testing.assert_array_equal(reader.read(np.arange(9)), array[:9])
    assert reader._threads() is not parent


def test_wrong_memory_and_positions_outside_are_refused(tmp_path):
    make_array(tmp_path)
    reader = BlockReader(tmp_path)
    for out in (
        np.empty((1, 2, 3, 5), np.float32),
        np.empty((2, 2, 3, 5), np.float64),
        np.empty((2, 2, 3, 10), np.float32)[..., ::2],
    ):
        with pytest.raises(ValueError, match="expected contiguous float32"):
            reader.read([0, 1], out=out)
    for indices in ([-1], [0, 23]):
        with pytest.raises(IndexError):
            reader.read(indices)
    assert reader.read([]).shape == (0, 2, 3, 5)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("codecs", ["lz4", "zstd, checked", "raw, checked"])
def test_every_flipped_bit_is_found_and_the_frame_named(tmp_path, codecs, threads):
    array = make_array(tmp_path, codecs=codecs)
    values, reader = array[...], BlockReader(tmp_path, threads=threads)
    file = tmp_path / "c" / "1" / "0" / "0" / "0"
    content = file.read_bytes()
    rng = np.random.default_rng(1)
    for place in rng.integers(len(content), size=60):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        reader = BlockReader(tmp_path, threads=threads)
        with pytest.raises(StorageError, match=r"^Frame \d+ cannot be read from .*c/1/0") as caught:
            reader.read(np.arange(len(values)))
        frame = int(str(caught.value).split()[1])
        assert 7 <= frame < 14
        whole = [f for f in range(len(values)) if f < frame or f >= 14]
        np.testing.assert_array_equal(reader.read(whole), values[whole])
    file.write_bytes(content)
    np.testing.assert_array_equal(reader.read(np.arange(len(values))), values)


@pytest.mark.parametrize("cut", [0, 3, 40, 115, 116, 117, 400])
@pytest.mark.parametrize("codecs", ["lz4", "raw"])
def test_a_cut_shard_is_found(tmp_path, codecs, cut):
    make_array(tmp_path, codecs=codecs)
    file = tmp_path / "c" / "2" / "0" / "0" / "0"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(StorageError, match="Frame 14 "):
        BlockReader(tmp_path).read(np.arange(23))


@pytest.mark.parametrize("cut", [0, 10, 30])
@pytest.mark.parametrize("codecs", ["lz4", "zstd", "raw"])
def test_a_cut_file_of_one_chunk_is_found(tmp_path, codecs, cut):
    make_array(tmp_path, shard=None, codecs=codecs)
    file = tmp_path / "c" / "5" / "0" / "0" / "0"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(StorageError, match="Frame 5 "):
        BlockReader(tmp_path).read(np.arange(23))


@pytest.mark.parametrize("shard", [None, 7])
def test_a_chunk_that_is_not_there_is_lost_unless_it_stands_for_a_value(tmp_path, shard):
    array = make_array(tmp_path, shard=shard, fill_value=np.nan)
    assert np.isnan(array[11]).all()  # zarr-python leaves such a chunk out
    reader = BlockReader(tmp_path)
    with pytest.raises(StorageError, match=r"Frame 11 .* it is lost"):
        reader.read(np.arange(23))
    filled = BlockReader(tmp_path, absent=reader.array.fill_value)
    np.testing.assert_array_equal(filled.read(np.arange(23)), array[...])


@pytest.mark.parametrize("shard", [None, 7])
def test_a_file_that_is_not_there_is_lost_and_its_frame_named(tmp_path, shard):
    make_array(tmp_path, shard=shard)
    shutil.rmtree(tmp_path / "c" / "1")
    first = 1 if shard is None else 7
    with pytest.raises(StorageError, match=rf"Frame {first} .*c/1/0.* it is lost\. Do something"):
        BlockReader(tmp_path, advice="Do something.").read(np.arange(23))


def test_a_file_that_was_replaced_is_read_anew(tmp_path):
    make_array(tmp_path / "one")
    other = zarr.open_array(tmp_path / "one", mode="r")[...] + 1
    second = make_array(tmp_path / "two")
    second[...] = other
    reader = BlockReader(tmp_path / "one")
    reader.read([8, 9])
    place = "c/1/0/0/0"
    os.replace(tmp_path / "two" / place, tmp_path / "one" / place)
    np.testing.assert_array_equal(reader.read([8, 9, 13]), other[[8, 9, 13]])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dtype": "float64"}, "float64"),
        ({"chunks": (2, 3, 4)}, "not one frame"),
        ({"chunks": (1, 3, 2)}, "not one frame"),
        ({"compressors": [GzipCodec()]}, "gzip"),
        ({"serializer": BytesCodec(endian="big")}, "big-endian"),
        ({"zarr_format": 2}, None),
    ],
)
def test_an_array_that_is_stored_otherwise_is_left_to_zarr_python(tmp_path, options, reason):
    zarr.create_array(
        tmp_path,
        overwrite=True,
        **{"shape": (6, 3, 4), "chunks": (1, 3, 4), "dtype": "float32", **options},
    )
    if reason is None:
        with pytest.raises(FileNotFoundError):
            BlockReader(tmp_path)
    else:
        with pytest.raises(UnknownLayoutError, match=reason):
            BlockReader(tmp_path)


def test_metadata_with_keys_missing_are_left_to_zarr_python(tmp_path):
    make_array(tmp_path)
    file = tmp_path / "zarr.json"
    text = file.read_text()
    for key in ("chunk_grid", "codecs", "data_type", "fill_value"):
        file.write_text(text.replace(f'"{key}"', '"something"'))
        with pytest.raises(UnknownLayoutError):
            BlockReader(tmp_path)


def test_a_codec_releases_the_lock_of_the_interpreter(tmp_path):
    """While one thread decodes, this one goes on counting."""
    make_array(tmp_path, frames=8, frame=(8, 400, 500), shard=8)
    reader, done = BlockReader(tmp_path), threading.Event()

    def read():
        for _ in range(3):
            reader.read(np.arange(8))
        done.set()

    thread, count = threading.Thread(target=read), 0
    thread.start()
    while not done.wait(1e-4):
        count += 1
    thread.join()
    assert count > 20


def test_a_function_is_a_reader_too():
    reader = FunctionReader(lambda indices: np.float32(indices)[:, None] * 2)
    out = np.empty((2, 1), np.float32)
    assert reader.read([3, 4], out=out) is out
    assert out.ravel().tolist() == reader.read([3, 4]).ravel().tolist() == [6, 8]


def test_a_store_in_another_layout_is_read_through_zarr_python_and_says_so_once(
    small_store, tmp_path, caplog
):
    path = shutil.copytree(small_store.path, tmp_path / "fields.zarr")
    fields = zarr.open_array(path / "fields", mode="r")
    options = {"shape": fields.shape, "chunks": (1, *fields.shape[1:]), "dtype": "float32"}
    manifest = (path / "fields" / "manifest.json").read_bytes()
    shutil.rmtree(path / "fields")
    array = zarr.create_array(
        path / "fields", compressors=[GzipCodec()], fill_value=np.inf, **options
    )
    array[...] = small_store.read(np.arange(len(small_store.times)))
    (path / "fields" / "manifest.json").write_bytes(manifest)
    shutil.rmtree(path / "moments")
    Inventory.take(path, len(small_store.times)).write(path)
    store = FieldStore.open(path)
    for indices in ([3, 1], [5]):
        np.testing.assert_array_equal(store.read(indices), small_store.read(indices))
    assert caplog.text.count("through zarr-python") == 1
    assert "gzip" in caplog.text
    shutil.rmtree(path / "fields" / "c" / "5")
    with pytest.raises(StorageError, match=r"Frame 5 cannot be read from .*fields/c/5"):
        store.read([4, 5, 6])
