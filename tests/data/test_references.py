"""Documents that refer to chunks inside of other files, the honest and the hostile."""

import base64
import json

import numpy as np
import pytest
import xarray as xr

from weatherdiff import open_fields
from weatherdiff.data.sources.references import ReferenceStore, read_references
from weatherdiff.errors import ConfigError, InputError, MissingInputError


@pytest.fixture
def referred(grown, tmp_path):
    """All chunks of a store in one file, and a document that says where."""
    grown.chunk(time=20).to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=False)
    references, place = {}, 0
    with (tmp_path / "blob.bin").open("wb") as blob:
        for file in sorted((tmp_path / "a.zarr").rglob("*")):
            key = file.relative_to(tmp_path / "a.zarr").as_posix()
            if file.name in (".zarray", ".zattrs", ".zgroup", ".zmetadata"):
                references[key] = file.read_text()
            elif file.is_file() and "/" in key:
                content = file.read_bytes()
                if key.startswith("latitude"):
                    references[key] = "base64:" + base64.b64encode(content).decode()
                    continue
                blob.write(b"something else")
                place += 14
                references[key] = ["blob.bin", place, len(content)]
                place += blob.write(content)
    return references


def written(path, references, **more):
    path.write_text(json.dumps({"version": 1, "refs": references, **more}))
    return path


def changed(references, **entries):
    return {
        **references,
        **{k.replace("__", "/").replace("_0", "/0"): v for k, v in entries.items()},
    }


def test_references_read_as_the_store_they_were_made_of(referred, grown, tmp_path):
    written(tmp_path / "a.json", referred)
    xr.testing.assert_equal(open_fields(tmp_path / "a.json").load(), grown)
    (tmp_path / "old.json").write_text(json.dumps(referred))  # version 0
    xr.testing.assert_equal(open_fields(tmp_path / "old.json").load(), grown)


def test_they_read_as_fsspec_reads_them(referred, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "a.json", referred)
    store = ReferenceStore(read_references(tmp_path / "a.json", "a.json"), "a.json")
    import asyncio

    import fsspec

    theirs = fsspec.filesystem("reference", fo=str(tmp_path / "a.json"), asynchronous=False)
    for key in referred:
        ours = asyncio.run(store.get(key)).to_bytes()
        assert ours == theirs.cat_file(key), key


def test_templates_are_put_in_and_formulas_refused(referred, grown, tmp_path):
    named = {k: ["{{u}}", *v[1:]] if isinstance(v, list) else v for k, v in referred.items()}
    written(tmp_path / "a.json", named, templates={"u": "blob.bin"})
    xr.testing.assert_equal(open_fields(tmp_path / "a.json").load(), grown)
    written(tmp_path / "b.json", referred, gen=[{"key": "a{{i}}", "url": "b", "dimensions": {}}])
    with pytest.raises(InputError, match="formulas, which are not evaluated"):
        open_fields(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("/etc/passwd", "out of the folder"),
        ("../secret.bin", "out of the folder"),
        ("file:///etc/passwd", "out of the folder"),
        ("link.bin", "out of the folder"),
        ("ftp://example.org/a", "ftp://, which is not followed"),
        ("memory://a", "memory://, which is not followed"),
        ("simplecache::http://example.org/a", "which is not followed"),
        ("reference://a", "reference://, which is not followed"),
        ("https://me:secret@example.org/a", "holds credentials"),
    ],
)
def test_references_to_elsewhere_are_refused(referred, tmp_path, url, words):
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"0" * 10_000)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "blob.bin").write_bytes((tmp_path / "blob.bin").read_bytes())
    entry = referred["2m_temperature/1.0.0"]
    document = written(folder / "a.json", {**referred, "2m_temperature/1.0.0": [url, 0, entry[2]]})
    ds = open_fields(document)
    with pytest.raises((InputError, ConfigError), match=words):
        ds.load()


def test_damaged_references_are_refused(referred, tmp_path):
    key = "2m_temperature/1.0.0"
    for entry, error, words in (
        (["gone.bin", 0, 10], MissingInputError, "gone.bin, which is not there"),
        (["blob.bin", 10**9, 10], InputError, "refers to 10 bytes at 1000000000"),
        (["blob.bin", 0, 2**40], InputError, "must be read at once"),
    ):
        ds = open_fields(written(tmp_path / "a.json", {**referred, key: entry}))
        with pytest.raises(error, match=words):
            ds.load()
    for entry in (["blob.bin", -1, 5], ["blob.bin", 3], [1, 2, 3], 7):
        with pytest.raises(InputError, match=r"a\.json is no document of references"):
            open_fields(written(tmp_path / "a.json", {**referred, key: entry}))
    (tmp_path / "a.json").write_text('{"version": 1, "refs": {')
    with pytest.raises(InputError, match="no document of references"):
        open_fields(tmp_path / "a.json")
    with pytest.raises(InputError, match="is of version 3"):
        open_fields(written(tmp_path / "a.json", referred, version=3))


def test_codecs_are_looked_at_as_those_of_any_store(referred, tmp_path):
    metadata = json.loads(referred["2m_temperature/.zarray"])
    metadata["filters"] = [{"id": "pickle"}]
    referred["2m_temperature/.zarray"] = json.dumps(metadata)
    with pytest.raises(InputError, match="pickle"):
        open_fields(written(tmp_path / "a.json", referred))


def test_references_in_parquet_are_read(referred, grown, tmp_path):
    fastparquet = pytest.importorskip("fastparquet")
    import pandas as pd

    folder = tmp_path / "a.parq"
    folder.mkdir()
    metadata = {k: json.loads(v) for k, v in referred.items() if k.rpartition("/")[2][:2] == ".z"}
    (folder / ".zmetadata").write_text(json.dumps({"metadata": metadata, "record_size": 2}))
    for name in {k.partition("/")[0] for k in metadata if "/" in k}:
        array = metadata[f"{name}/.zarray"]
        counts = [-(-a // b) for a, b in zip(array["shape"], array["chunks"], strict=True)]
        rows = []
        for place in np.ndindex(*counts):
            entry = referred[f"{name}/" + ".".join(map(str, place))]
            if isinstance(entry, str):
                rows.append((None, 0, 0, base64.b64decode(entry[7:])))
            else:
                rows.append(("blob.bin", *entry[1:], None))
        (folder / name).mkdir()
        for number in range(-(-len(rows) // 2)):
            table = pd.DataFrame(
                rows[2 * number : 2 * number + 2], columns=["path", "offset", "size", "raw"]
            )
            fastparquet.write(
                str(folder / name / f"refs.{number}.parq"),
                table,
                object_encoding={"path": "utf8", "raw": "bytes"},
                has_nulls=["path", "raw"],
                stats=False,
            )
    xr.testing.assert_equal(open_fields(folder).load(), grown)


def test_remote_references_are_followed_to_urls_only(bucket, unreliable, referred, grown, tmp_path):
    fs = bucket
    fs.put_file(str(tmp_path / "blob.bin"), "weather/refs/blob.bin", ACL="public-read")
    fs.put_file(
        str(written(tmp_path / "a.json", referred)), "weather/refs/a.json", ACL="public-read"
    )
    options = {
        "endpoint_url": unreliable.url,
        "patience": {"attempts": 3, "wait": 0.001, "timeout": 20},
    }
    unreliable.where, unreliable.faults = "blob.bin", [503, "cut"]
    ds = open_fields("s3://weather/refs/a.json", storage_options=options)
    xr.testing.assert_equal(ds.load(), grown)
    assert not unreliable.faults
    away = {k: ["s3://weather/refs/blob.bin", *v[1:]] if isinstance(v, list) else v
            for k, v in referred.items()}  # fmt: skip
    written(tmp_path / "here.json", away)
    xr.testing.assert_equal(
        open_fields(tmp_path / "here.json", storage_options=options).load(), grown
    )
    away["2m_temperature/0.0.0"] = ["/etc/passwd", 0, 10]
    fs.put_file(str(written(tmp_path / "b.json", away)), "weather/refs/b.json", ACL="public-read")
    with pytest.raises(InputError, match="out of the folder"):
        open_fields("s3://weather/refs/b.json", storage_options=options).load()
