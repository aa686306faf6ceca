"""Zarr stores that reach out of themselves, or declare what they cannot hold, are refused."""

import bz2
import gzip
import json
import os
import pickle
import struct
import zipfile
import zlib

import google_crc32c
import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr

from weatherdiff import open_fields
from weatherdiff.data.sources import trust
from weatherdiff.data.sources.formats import open_raw
from weatherdiff.data.sources.frames import decoded_size
from weatherdiff.data.sources.zarr_guard import guarded_store
from weatherdiff.errors import InputError, WeatherdiffError


def fields():
    values = 280 + np.arange(24, dtype="f4").reshape(2, 3, 4) / 8
    return xr.Dataset(
        {"t2m": (("time", "lat", "lon"), values, {"units": "K"})},
        {
            "time": np.array(["2001-01-01", "2001-01-02"], "datetime64[ns]"),
            "lat": [0.0, 1.0, 2.0],
            "lon": [0.0, 1.0, 2.0, 3.0],
        },
    )


def write(path, form, **encoding):
    fields().to_zarr(
        path, zarr_format=form, consolidated=False, encoding={"t2m": encoding} if encoding else None
    )
    return path


FIRST = {2: "t2m/0.0.0", 3: "t2m/c/0/0/0"}
ARRAY = {2: ".zarray", 3: "zarr.json"}


@pytest.fixture(params=[2, 3], ids=["Zarr 2", "Zarr 3"])
def form(request):
    return request.param


@pytest.fixture
def store(tmp_path, form):
    return write(tmp_path / "a.zarr", form)


def rewrite(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def read(path, **arguments):
    return open_fields(path, **arguments).load()


def refused(words, path, error=InputError, **arguments):
    with pytest.raises(error, match=words) as caught:
        read(path, **arguments)
    assert caught.value.exit_code in (65, 74)
    assert os.path.basename(path) in str(caught.value)


@pytest.mark.parametrize("where", ["chunk", "array", "metadata"])
def test_a_symbolic_link_out_of_the_store_is_not_followed(tmp_path, store, form, where):
    twin = write(tmp_path / "twin", form)
    name = {"chunk": FIRST[form], "array": "t2m", "metadata": f"t2m/{ARRAY[form]}"}[where]
    (store / name).rename(tmp_path / "aside")
    (store / name).symlink_to(twin / name)
    assert float(xr.open_zarr(store, consolidated=False)["t2m"][0, 0, 0]) == 280  # it works
    refused("is a link to .*twin.*, out of the store", store)


def test_links_within_a_store_and_to_a_store_are_fine(tmp_path, store, form):
    (store / FIRST[form]).rename(store / "t2m/elsewhere")
    (store / FIRST[form]).symlink_to(store / "t2m/elsewhere")
    (tmp_path / "alias.zarr").symlink_to(store)
    np.testing.assert_array_equal(read(tmp_path / "alias.zarr")["2m_temperature"], fields()["t2m"])


def test_a_device_or_a_pipe_in_place_of_a_chunk_is_refused(store, form):
    (store / FIRST[form]).unlink()
    os.mkfifo(store / FIRST[form])
    refused("t2m/.* is no file", store)


@pytest.mark.parametrize("name", ["../twin/t2m", "t2m/../../twin/t2m", "/etc/t2m"])
def test_names_that_lead_out_of_the_store_are_refused(tmp_path, store, form, name):
    write(tmp_path / "twin", form)
    if form == 2:
        zarr.consolidate_metadata(store, zarr_format=2)
        rewrite(
            store / ".zmetadata",
            lambda d: d["metadata"].update({f"{name}/.zarray": d["metadata"]["t2m/.zarray"]}),
        )
    else:
        inner = json.loads((store / "t2m/zarr.json").read_text())
        rewrite(
            store / "zarr.json",
            lambda d: d.update(
                consolidated_metadata={
                    "kind": "inline", "must_understand": False, "metadata": {name: inner},
                }
            ),
        )  # fmt: skip
    refused("leads out of the store", store)


@pytest.mark.parametrize("key", ["../secret", "/etc/hostname", "t2m/../../secret", "a\\..\\b"])
def test_no_key_leads_out_of_the_store(tmp_path, store, key):
    (tmp_path / "secret").write_text("secret")
    guard = guarded_store(str(store))
    for call in (guard.get, guard.exists):
        with pytest.raises(InputError, match="leads out of the store"):
            zarr.core.sync.sync(call(key))


def test_storage_transformers_are_refused(tmp_path):
    store = write(tmp_path / "a.zarr", 3)
    rewrite(
        store / "t2m/zarr.json",
        lambda d: d.update(storage_transformers=[{"name": "chunk_manifest"}]),
    )
    refused("storage transformers", store)


class Exploit:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return (os.mkdir, (self.canary,))


def test_a_pickle_in_a_chunk_is_not_read(tmp_path):
    store, canary = write(tmp_path / "a.zarr", 2), tmp_path / "canary"
    bomb = np.empty(24, object)
    bomb[:] = [Exploit(str(canary))] * 24
    content = pickle.dumps([bomb, "|O", (2, 3, 4)])
    (store / FIRST[2]).write_bytes(content)
    rewrite(
        store / "t2m/.zarray",
        lambda d: d.update(dtype="|O", filters=[{"id": "pickle"}], compressor=None, fill_value=0),
    )
    refused("encoded by pickle", store)
    rewrite(
        store / "t2m/.zarray",
        lambda d: d.update(dtype="<f4", filters=None, compressor={"id": "pickle", "protocol": 4}),
    )
    refused("encoded by pickle", store)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["numcodecs.pickle", "pickle", "os.system", "a.b:C", "bz2"])
def test_a_codec_by_another_name_is_refused(tmp_path, name):
    store = write(tmp_path / "a.zarr", 3)
    rewrite(
        store / "t2m/zarr.json",
        lambda d: d.update(codecs=[d["codecs"][0], {"name": name, "configuration": {}}]),
    )
    refused("is encoded by", store)
    store = write(tmp_path / "b.zarr", 2)
    rewrite(store / "t2m/.zarray", lambda d: d.update(compressor={"id": name}))
    refused("is encoded by", store)


@pytest.mark.parametrize("shape", [[10**12, 3, 4], [2, 10**6, 10**6], [2, 3, 10**12]])
def test_a_shape_that_no_store_holds_is_refused(store, form, shape):
    own = ["x", "y", "z"]  # dimensions, so that no other array contradicts
    names = {2: ".zattrs", 3: "zarr.json"}[form]
    rewrite(store / "t2m" / ARRAY[form], lambda d: d.update(shape=shape))
    rewrite(
        store / "t2m" / names,
        lambda d: d.update({2: {"_ARRAY_DIMENSIONS": own}, 3: {"dimension_names": own}}[form]),
    )
    with pytest.raises(InputError, match=r"a\.zarr declares"):
        open_raw(str(store))
    refused(r"a\.zarr declares", store)


@pytest.mark.parametrize("length", [10**8, 10**12])
def test_a_coordinate_that_no_store_holds_is_refused_before_it_is_read(store, form, length):
    rewrite(store / "time" / ARRAY[form], lambda d: d.update(shape=[length]))
    refused("declares", store)


def chunked(document, shape):
    if "chunks" in document:
        document["chunks"] = shape
    else:
        document["chunk_grid"]["configuration"]["chunk_shape"] = shape


def test_a_chunk_that_does_not_fit_into_memory_is_refused(store, form):
    rewrite(store / "t2m" / ARRAY[form], lambda d: chunked(d, [2, 10**5, 10**5]))
    refused("a chunk of t2m declares", store)


def test_the_bound_follows_the_memory_there_is(store, form, monkeypatch):
    rewrite(store / "t2m" / ARRAY[form], lambda d: chunked(d, [2, 1000, 1000]))
    monkeypatch.setattr(trust, "memory_available", lambda: 10**7)
    refused("a chunk of t2m declares 7.6 MiB that must be read at once", store)


def zeros_of_zstd(count):
    """A frame of `count` bytes in blocks of one repeated byte: four bytes make 128 KiB."""
    full, rest = divmod(count, 2**17)
    frame = struct.pack("<IBQ", 0xFD2FB528, 0b11100000, count)
    for i in range(full + bool(rest)):
        last = i == full + bool(rest) - 1
        size = rest if last and rest else 2**17
        frame += ((size << 3) | (1 << 1) | last).to_bytes(3, "little") + b"\0"
    return frame


def without_size(frame):
    return frame[:4] + bytes([0, 0x58]) + frame[13:]


BOMBS = {
    "blosc": struct.pack("<BBBBIII", 2, 1, 0x21, 4, 2**31 - 100, 2**18, 100) + bytes(84),
    "zstd": zeros_of_zstd(2**31),
    "zstd, size not stated": without_size(zeros_of_zstd(2**28)),
    "zstd, size stated only": struct.pack("<IBQ", 0xFD2FB528, 0b11100000, 2**40) + b"\1\0\0",
    "zlib": zlib.compress(bytes(3 * 10**7), 9),
    "gzip": gzip.compress(bytes(3 * 10**7), 9),
    "gzip, in many members": gzip.compress(bytes(10**5), 9) * 300,
    "lz4": struct.pack("<I", 2**31 - 1) + bytes(10),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_chunk_that_grows_beyond_its_declared_size_is_refused(tmp_path, kind):
    codec = kind.partition(",")[0]
    store = write(tmp_path / "a.zarr", 2)
    rewrite(store / "t2m/.zarray", lambda d: d.update(compressor={"id": codec}))
    (store / FIRST[2]).write_bytes(BOMBS[kind])
    refused("t2m/0.0.0 becomes more than", store)
    if codec in ("blosc", "zstd", "gzip"):
        store = write(tmp_path / "b.zarr", 3)
        settings = {
            "blosc": {
                "typesize": 4, "cname": "lz4", "clevel": 5, "shuffle": "shuffle", "blocksize": 0,
            },
            "zstd": {"level": 3, "checksum": False},
            "gzip": {"level": 5},
        }[codec]  # fmt: skip
        rewrite(
            store / "t2m/zarr.json",
            lambda d: d.update(codecs=[d["codecs"][0], {"name": codec, "configuration": settings}]),
        )
        (store / FIRST[3]).write_bytes(BOMBS[kind])
        refused("t2m/c/0/0/0 becomes more than", store)


@pytest.mark.parametrize("outer", ["zlib", "zstd"])
def test_what_is_compressed_twice_is_refused(tmp_path, outer):
    store = write(tmp_path / "a.zarr", 2)
    rewrite(
        store / "t2m/.zarray",
        lambda d: d.update(filters=[{"id": "zlib", "level": 9}], compressor={"id": outer}),
    )
    refused("one compressor is accepted", store)


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_bomb_in_a_shard_is_refused(tmp_path, location, whole):
    store = tmp_path / "a.zarr"
    group = zarr.open_group(store, mode="w", zarr_format=3)
    array = group.create_array(
        "t2m",
        shape=(2, 3, 4),
        shards=(2, 3, 4),
        chunks=(1, 3, 4),
        dtype="f4",
        dimension_names=("time", "lat", "lon"),
    )
    array[:] = 280
    rewrite(
        store / "t2m/zarr.json",
        lambda d: d["codecs"][0]["configuration"].update(index_location=location),
    )
    bomb = zeros_of_zstd(2**31)
    index_bytes = 2 * 16 + 4
    first = index_bytes if location == "start" else 0
    entries = struct.pack("<4Q", first, len(bomb), first, len(bomb))
    index = entries + struct.pack("<I", google_crc32c.value(entries))
    shard = index + bomb if location == "start" else bomb + index
    (store / "t2m/c/0/0/0").write_bytes(shard)
    guard = zarr.open_group(guarded_store(str(store)), mode="r")
    with pytest.raises(InputError, match=r"a\.zarr: t2m/c/0/0/0 becomes more than"):
        guard["t2m"][...] if whole else guard["t2m"][0]


@pytest.mark.parametrize("whole", [True, False])
def test_an_honest_shard_is_read(tmp_path, whole):
    values = fields()["t2m"].values
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    group.create_array("t2m", data=values, shards=(2, 3, 4), chunks=(1, 3, 4))
    guard = zarr.open_group(guarded_store(str(tmp_path / "a.zarr")), mode="r")["t2m"]
    np.testing.assert_array_equal(guard[...] if whole else guard[1], values if whole else values[1])


HONEST = {
    "zstd": numcodecs.Zstd(9),
    "blosc zstd": numcodecs.Blosc("zstd", 9),
    "blosc lz4": numcodecs.Blosc("lz4"),
    "zlib": numcodecs.Zlib(9),
    "gzip": numcodecs.GZip(9),
    "lz4": numcodecs.LZ4(),
}


@pytest.mark.parametrize("codec", HONEST)
@pytest.mark.parametrize("size", [1, 1000, 3 * 2**17, 2 * 10**6])
def test_the_size_of_honest_bytes_is_known(codec, size):
    name = codec.partition(" ")[0]
    for data in (bytes(size), np.random.default_rng(0).bytes(size)):
        assert decoded_size(name, bytes(HONEST[codec].encode(data)), 10**9) == size


def test_a_constant_field_opens_however_well_it_was_compressed(tmp_path):
    values = np.broadcast_to(np.float32(280), (40, 1000, 1000))  # 160 MB in a few KB
    ds = xr.Dataset(
        {"t2m": (("time", "lat", "lon"), values, {"units": "K"})},
        {
            "time": np.datetime64("2001-01-01", "ns") + np.arange(40) * np.timedelta64(1, "D"),
            "lat": np.linspace(-80, 80, 1000),
            "lon": np.linspace(0, 300, 1000),
        },
    )
    encoding = {"t2m": {"chunks": (20, 1000, 1000)}}
    ds.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False, encoding=encoding)
    assert sum(f.stat().st_size for f in (tmp_path / "a.zarr/t2m").rglob("*")) < 50000
    assert float(open_raw(str(tmp_path / "a.zarr"))[0]["t2m"][-1, 0, 0]) == 280


def test_filters_and_text_are_read(tmp_path):
    ds = fields().assign_coords(name=("time", np.array(["a", "bc"], object)))
    ds["t2m"].encoding = {
        "filters": [numcodecs.FixedScaleOffset(offset=280, scale=8, dtype="f4", astype="u1")],
        "compressor": numcodecs.Blosc("zstd", shuffle=1),
    }
    ds.to_zarr(tmp_path / "a.zarr", zarr_format=2)
    (raw,) = open_raw(str(tmp_path / "a.zarr"))
    np.testing.assert_array_equal(raw["t2m"], fields()["t2m"])
    assert list(raw["name"].values) == ["a", "bc"]


def test_a_zip_file_is_read_unless_it_is_compressed_itself(tmp_path):
    folder = write(tmp_path / "folder", 3)
    for name, compression in (("a.zip", zipfile.ZIP_STORED), ("b.zip", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(tmp_path / name, "w", compression) as file:
            for part in sorted(folder.rglob("*")):
                file.write(part, part.relative_to(folder))
    np.testing.assert_array_equal(
        read(tmp_path / "a.zip", engine="zarr")["2m_temperature"], fields()["t2m"]
    )
    refused("is compressed by zip", tmp_path / "b.zip", engine="zarr")


def test_metadata_that_contradict_the_consolidated_ones_are_refused(tmp_path):
    store = write(tmp_path / "a.zarr", 2)
    guard = guarded_store(str(store))
    zarr.open_group(guard, mode="r")["t2m"]
    rewrite(store / "t2m/.zarray", lambda d: d.update(chunks=[2, 3000, 4000]))
    with pytest.raises(InputError, match="differ from its own"):
        zarr.open_group(guard, mode="r")["t2m"]


@pytest.mark.parametrize("content", ["", "[]", "{}", "nonsense", "[" * 100000, '{"shape": [1e99]}'])
def test_metadata_that_are_none_are_refused(store, form, content):
    (store / "t2m" / ARRAY[form]).write_text(content)
    with pytest.raises(WeatherdiffError, match=r"a\.zarr") as caught:
        read(store)
    assert caught.value.exit_code == 65


def test_a_guarded_store_can_be_sent_to_another_process(store, form):
    guard = guarded_store(str(store))
    array = zarr.open_group(guard, mode="r")["t2m"]
    again = pickle.loads(pickle.dumps(array))  # noqa: S301
    np.testing.assert_array_equal(again[...], fields()["t2m"])
    (store / FIRST[form]).unlink()
    (store / FIRST[form]).symlink_to("/etc/hostname")
    with pytest.raises(InputError, match="out of the store"):
        again[...]


def test_bz2_is_not_bounded_and_so_not_accepted():
    with pytest.raises(ValueError, match="'bz2' is unknown"):
        decoded_size("bz2", bz2.compress(b"a"), 10)
