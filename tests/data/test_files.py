"""Frames of a file each, read some at once: the same values and the same errors."""

import shutil

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from weatherdiff.data.loading import files
from weatherdiff.data.loading import reader as module
from weatherdiff.data.loading.reader import BlockReader
from weatherdiff.errors import StorageError

COMPRESSORS = {
    "blosc": [BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")],
    "checked": [BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"), Crc32cCodec()],
    "zstd": [ZstdCodec()],
    "raw": None,
}


@pytest.fixture(params=COMPRESSORS)
def stored(request, tmp_path):
    values = np.random.default_rng(0).normal(size=(23, 2, 5, 7)).astype(np.float32)
    array = zarr.create_array(
        tmp_path / "a", shape=values.shape, chunks=(1, 2, 5, 7), dtype="float32",
        compressors=COMPRESSORS[request.param],
    )  # fmt: skip
    array[...] = values
    return tmp_path / "a", values


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(module, "LARGE", 0)
    monkeypatch.setattr(module, "FILES", 3 * (4 * 70 + module.SLACK))


@pytest.fixture
def calls(monkeypatch):
    """How many files each call was asked for."""
    found = []

    def told(names, memory):
        found.append(len(names))
        return files.read_files(names, memory)

    monkeypatch.setattr(module, "read_files", told)
    return found


def test_frames_are_those_of_the_array(stored, calls):
    path, values = stored
    wanted = [7, 3, 3, 22, 0, 8, 9, 7]
    for threads in (1, 2):
        np.testing.assert_array_equal(
            BlockReader(path, threads=threads).read(wanted), values[wanted]
        )
    assert max(calls, default=3) == 3
    assert bool(calls) == (BlockReader(path).array.compressor is not None)


def test_what_is_lost_or_damaged_is_named(stored):
    path, values = stored
    (path / "c/4/0/0/0").unlink()
    file = path / "c/5/0/0/0"
    file.write_bytes(file.read_bytes()[:-9])
    reader = BlockReader(path)
    with pytest.raises(StorageError, match=r"Frame 4 .*lost"):
        reader.read([3, 4])
    with pytest.raises(StorageError, match="Frame 5 "):
        reader.read([5, 6])
    np.testing.assert_array_equal(BlockReader(path, absent=-1.0).read([4, 3])[1], values[3])
    file.write_bytes(bytes(4096))
    with pytest.raises(StorageError, match="Frame 5 "):
        reader.read([5, 6])
    file.unlink()
    file.mkdir()
    with pytest.raises(StorageError, match="Frame 5 "):
        reader.read([5, 6])


def test_without_a_compiler_files_are_read_one_by_one(stored, monkeypatch):
    path, values = stored
    monkeypatch.setenv("WEATHERDIFF_NUMBA", "0")
    assert files.read_files([str(path / "zarr.json")], np.empty((1, 9), np.uint8)) is None
    np.testing.assert_array_equal(BlockReader(path).read([2, 1]), values[[2, 1]])


def test_a_file_fills_its_row_and_no_more(tmp_path):
    for name, size in (("a", 5), ("b", 9), ("ü", 0)):
        (tmp_path / name).write_bytes(b"x" * size)
    memory = np.zeros((4, 7), np.uint8)
    names = [str(tmp_path / name) for name in ("a", "b", "ü", "none")]
    assert files.read_files(names, memory) == [5, 7, 0, -1]
    assert [row.tobytes().rstrip(b"\0") for row in memory] == [b"x" * 5, b"x" * 7, b"", b""]
    shutil.rmtree(tmp_path)
