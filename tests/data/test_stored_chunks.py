"""Fields are read from the files of a local Zarr, to the values that xarray gives."""

import json
import pickle

import numpy as np
import pytest
import zarr.codecs

from weatherdiff.data.channels import Channels
from weatherdiff.data.open import open_fields
from weatherdiff.data.prepare import prepare
from weatherdiff.data.sources.source import Source
from weatherdiff.errors import WeatherdiffError

FRAMES = 23


@pytest.fixture(scope="module")
def fields(layered):
    return layered(FRAMES)


def straight(fields):
    """The same in canonical order."""
    return open_fields(fields).drop_attrs(deep=False).compute()


def write(ds, path, version, chunks, compressor):
    codecs = {
        ("none", 2): {"compressors": None},
        ("none", 3): {"compressors": None},
        ("zstd", 3): {"compressors": zarr.codecs.ZstdCodec()},
        ("raw crc", 3): {"compressors": zarr.codecs.Crc32cCodec()},
        ("crc", 3): {"compressors": [zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()]},
        ("blosc", 3): {"compressors": zarr.codecs.BloscCodec(cname="lz4", typesize=4)},
    }.get((compressor, version), {})
    encoding = {name: {"chunks": chunks(ds[name]), **codecs} for name in ds.data_vars}
    ds.to_zarr(path, zarr_format=version, encoding=encoding, consolidated=False)
    return path


def whole(times):
    return lambda field: (times, *field.shape[1:])


def both(path, **options):
    ds = open_fields(path, **options)
    channels = Channels.from_dataset(ds)
    return Source.past_xarray(ds, channels), Source(ds, channels)


def require_same(source, ordinary):
    for start, stop in ((0, 23), (3, 4), (4, 18), (20, 23), (16, 99)):
        np.testing.assert_array_equal(source.read(start, stop), ordinary.read(start, stop))
    out = np.full((5, *ordinary.read(0, 1).shape[1:]), -1, np.float32)
    assert source.read(7, 12, out) is out
    np.testing.assert_array_equal(out, ordinary.read(7, 12))


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize(
    ("version", "compressor"),
    [(2, "none"), (3, "none"), (3, "zstd"), (3, "raw crc"), (3, "crc"), (3, "blosc"), (2, "")],
)
def test_blocks_are_those_that_xarray_gives(fields, tmp_path, version, compressor, turned):
    ds = fields if turned else straight(fields)
    source, ordinary = both(write(ds, tmp_path / "own.zarr", version, whole(5), compressor))
    if (version, compressor) != (2, ""):  # whatever xarray's default is, the values are right
        assert set(source.stored) == {"temperature", "2m_temperature"}
    require_same(source, ordinary)
    sent = pickle.loads(pickle.dumps(source))  # noqa: S301  (it is ours)
    require_same(sent, ordinary)


@pytest.mark.parametrize("compressor", ["none", "zstd"])
def test_levels_and_fields_may_be_divided_and_transposed(fields, tmp_path, compressor):
    ds = fields.transpose("time", "longitude", "latitude", "level")
    source, ordinary = both(
        write(ds, tmp_path / "own.zarr", 3, lambda f: (4, 4, 3, 1)[: f.ndim], compressor)
    )
    assert set(source.stored) == {"temperature", "2m_temperature"}
    require_same(source, ordinary)


def test_variables_of_several_stores_are_found(fields, tmp_path):
    paths = [
        str(write(fields[[name]], tmp_path / f"{name}.zarr", 3, whole(6), "none"))
        for name in fields.data_vars
    ]
    source, ordinary = both(paths)
    assert set(source.stored) == {"temperature", "2m_temperature"}
    require_same(source, ordinary)


def test_what_is_done_to_a_variable_is_seen(fields, tmp_path):
    path = write(fields, tmp_path / "own.zarr", 3, whole(5), "none")
    ds = open_fields(path)
    changes = {
        "a value": ds.assign({"2m_temperature": ds["2m_temperature"].where(ds.time != ds.time[3])}),
        "times": ds.isel(time=slice(2, None)),
        "order": ds.isel(time=slice(None, None, -1)),
        "region": ds.isel(latitude=slice(1, None)),
    }
    for what, changed in changes.items():
        changed.encoding = ds.encoding
        source = Source.past_xarray(changed, Channels.from_dataset(ds))
        assert "2m_temperature" not in source.stored, what
        ordinary = Source(changed, Channels.from_dataset(ds))
        np.testing.assert_array_equal(source.read(0, 20), ordinary.read(0, 20))


@pytest.mark.parametrize("what", ["levels", "units", "scaled", "masked", "float64", "sharded"])
def test_what_is_not_stored_as_it_is_meant_is_read_through_xarray(fields, tmp_path, what):
    options, encoding, ds = {}, {}, fields
    match what:
        case "levels":
            options = {"levels": [850, 500]}
        case "units":
            ds = fields.copy()
            ds["2m_temperature"] = (ds["2m_temperature"] - 273.15).assign_attrs(units="degC")
        case "scaled":
            encoding = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 280.0,
                        "_FillValue": -32767}  # fmt: skip
        case "masked":
            encoding = {"_FillValue": float(fields["2m_temperature"][8, 0, 0])}
        case "float64":
            encoding = {"dtype": "float64"}
        case "sharded":
            encoding = {"chunks": (1, 4, 6), "shards": (4, 4, 6)}
    path = tmp_path / "own.zarr"
    ds.to_zarr(path, zarr_format=3, encoding={"2m_temperature": encoding}, consolidated=False)
    source, ordinary = both(path, **options)
    name = "temperature" if what == "levels" else "2m_temperature"
    assert name not in source.stored
    np.testing.assert_array_equal(source.read(0, FRAMES), ordinary.read(0, FRAMES))


def test_metadata_that_say_what_is_not_so_are_found_out_by_the_first_look(fields, tmp_path):
    path = write(fields, tmp_path / "own.zarr", 3, whole(5), "none")
    ds = open_fields(path)
    file = path / "2m_temperature" / "zarr.json"
    document = json.loads(file.read_text())
    document["dimension_names"] = ["time", "longitude", "latitude"]
    document["shape"][1:] = document["shape"][:0:-1]
    document["chunk_grid"]["configuration"]["chunk_shape"][1:] = [6, 4]
    file.write_text(json.dumps(document))
    source = Source.past_xarray(ds, Channels.from_dataset(ds))
    assert set(source.stored) == {"temperature"}


@pytest.mark.parametrize("damage", ["absent", "short", "link", "garbage", "bit"])
def test_a_file_that_is_not_as_it_should_be_is_left_to_xarray(fields, tmp_path, damage):
    compressor = {"garbage": "zstd", "bit": "raw crc"}.get(damage, "none")
    path = write(straight(fields), tmp_path / "own.zarr", 3, whole(5), compressor)
    source, ordinary = both(path)
    assert "2m_temperature" in source.stored
    file = path / "2m_temperature" / "c" / "3" / "0" / "0"
    content = file.read_bytes()
    file.unlink()
    match damage:
        case "short":
            file.write_bytes(content[:-8])
        case "garbage":
            file.write_bytes(b"\0" * len(content))
        case "bit":
            file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        case "link":
            (tmp_path / "elsewhere").write_bytes(content)
            file.symlink_to(tmp_path / "elsewhere")
    if damage == "absent":  # what a chunk that is not there stands for is xarray's to say
        found, expected = source.read(10, 20), ordinary.read(10, 20)
        np.testing.assert_array_equal(found, expected)
        channel = source.channels.labels.index("2m_temperature")
        assert np.isnan(found[5:, channel]).all()
        return
    with pytest.raises(WeatherdiffError, match=r"own\.zarr"):
        source.read(10, 20)


def test_a_store_is_the_same_whichever_way_its_source_is_read(
    fields, tmp_path, content, monkeypatch
):
    path = write(fields, tmp_path / "own.zarr", 3, whole(5), "none")
    settings = {"training_period": ("2020-03-01", "2020-03-04"), "step": "6h", "frames": 2}
    monkeypatch.setattr("weatherdiff.data.prepare.BLOCK_BYTES", 6 * 3 * 24 * 4)
    one = prepare(open_fields(path), tmp_path / "one.zarr", scheduler="threads", **settings)
    monkeypatch.setattr("weatherdiff.data.sources.source.stored_field", lambda *_: None)
    two = prepare(open_fields(path), tmp_path / "two.zarr", **settings)
    assert content(one.path) == content(two.path)
