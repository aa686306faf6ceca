"""Reading over the network, from a real object store behind a server that fails when it is told."""

import logging
import pickle

import pytest
import xarray as xr

from weatherdiff import open_fields
from weatherdiff.data import prepare as module
from weatherdiff.data.prepare import prepare
from weatherdiff.data.sources import formats, remote_files
from weatherdiff.data.sources.remote import Patience
from weatherdiff.data.sources.remote_files import RemoteFiles
from weatherdiff.data.store import FieldStore
from weatherdiff.errors import ConfigError, InputError, MissingInputError, StorageError

QUICK = {"attempts": 4, "timeout": 20, "wait": 0.001}
SETTINGS = {"training_period": ("2020-03-01", "2020-03-10"), "step": "6h", "frames": 2}

BOTH_WHEN_DEEP = pytest.mark.parametrize(
    "place", ["s3", pytest.param("http", marks=pytest.mark.deep)], indirect=True
)


@pytest.fixture(scope="module")
def stored(served, grown, tmp_path_factory):
    """The record as Zarr and as NetCDF in the bucket, for all to read."""
    folder = tmp_path_factory.mktemp("stored")
    grown.to_netcdf(folder / "a.nc")
    grown.chunk(time=20).to_zarr(folder / "a.zarr", zarr_format=2, consolidated=True)
    for name in ("a.nc", "a.zarr"):
        served[0].put(str(folder / name), f"weather/{name}", recursive=True, ACL="public-read")
    return grown


@pytest.fixture(params=["s3", "http"])
def place(request, unreliable):
    """Address of the bucket by each protocol, and the options it takes."""
    if request.param == "s3":
        return "s3://weather", {"endpoint_url": unreliable.url, "patience": QUICK}
    return f"{unreliable.url}/weather", {"patience": QUICK}


@pytest.mark.parametrize("name", ["a.zarr", "a.nc"])
def test_failures_that_pass_change_nothing(stored, unreliable, place, name, caplog):
    """Busy, broken, hung up, cut off in the middle: each in turn, at once with others."""
    unreliable.where = "2m_temperature/" if name == "a.zarr" else name
    unreliable.faults = [503, "drop", "cut", 500, "cut", 502]
    options = {**place[1], "patience": {**QUICK, "attempts": 8}}
    with caplog.at_level(logging.WARNING, "weatherdiff"):
        ds = open_fields(f"{place[0]}/{name}", storage_options=options).load()
    xr.testing.assert_equal(ds, stored)
    assert not unreliable.faults
    told = sum("of 8 failed" in record.getMessage() for record in caplog.records)
    assert told in (5, 6)  # aiohttp itself asks again when a kept connection was hung up


@pytest.mark.parametrize("name", ["a.zarr", "a.nc"])
def test_a_server_that_is_too_slow_is_asked_again(
    stored, unreliable, place, name, tmp_path, monkeypatch
):
    # Not the copy that an earlier test has made.
    monkeypatch.setattr(formats, "_remote", lambda options: RemoteFiles(options, str(tmp_path)))
    options = {**place[1], "patience": {**QUICK, "timeout": 3}}
    unreliable.where = "2m_temperature/" if name == "a.zarr" else name
    unreliable.faults, unreliable.slowness = ["slow"], 5
    xr.testing.assert_equal(
        open_fields(f"{place[0]}/{name}", storage_options=options).load(), stored
    )
    assert not unreliable.faults


@pytest.mark.parametrize("name", ["a.zarr", "a.nc"])
def test_what_never_answers_is_given_up_with_what_where_and_how_often(
    stored, unreliable, place, name
):
    unreliable.where = "2m_temperature/" if name == "a.zarr" else name
    unreliable.always = 503
    words = rf"{name}.* could not be read: 4 attempts in \d+ s failed, the last with .*run the same"
    with pytest.raises(StorageError, match=words) as caught:
        open_fields(f"{place[0]}/{name}", storage_options=place[1]).load()
    assert caught.value.exit_code == 74
    failed = [path for path in unreliable.asked if unreliable.where in path]
    assert len(failed) <= 4 * 6  # chunks that are read at once: no client tries by itself


@BOTH_WHEN_DEEP
def test_prepare_goes_on_where_the_network_failed(
    stored, unreliable, place, tmp_path, monkeypatch, content
):
    monkeypatch.setattr(module, "BLOCK_BYTES", 10 * 4 * 2 * 3 * 5)
    path, url = tmp_path / "fields.zarr", f"{place[0]}/a.zarr"
    options = (
        {**place[1], "key": "testing", "secret": "KEEP-ME-SECRET"}
        if url.startswith("s3")
        else place[1]
    )
    prepare(open_fields(url, storage_options=options), path, **SETTINGS)
    expected = content(path)
    again = tmp_path / "again.zarr"
    ds = open_fields(url, storage_options=options)
    unreliable.where, unreliable.always = "2m_temperature/2.", 503
    with pytest.raises(StorageError, match=r"a.zarr/2m_temperature/2.0.0 .* 4 attempts"):
        prepare(ds, again, **SETTINGS)
    assert not again.exists()
    unreliable.reset()
    prepare(open_fields(url, storage_options=options), again, **SETTINGS)
    read = [path for path in unreliable.asked if "2m_temperature/" in path and "/." not in path]
    assert {path.rpartition("/")[2].partition("?")[0] for path in read} <= {"0.0.0", "2.0.0"}
    assert content(again) == expected
    assert b"SECRET" not in b"".join(f.read_bytes() for f in again.rglob("*") if f.is_file())
    plan = FieldStore.open(again).metadata["plan"]
    assert plan["times"] == 60


@BOTH_WHEN_DEEP
def test_a_source_that_has_changed_meanwhile_is_another_one(stored, bucket, place):
    bucket.copy("weather/a.zarr", "weather/b.zarr", recursive=True, ACL="public-read")
    before = open_fields(f"{place[0]}/b.zarr", storage_options=place[1])
    known = before.encoding["weatherdiff_sources"]["files"]
    assert isinstance(known[f"{place[0]}/b.zarr"][0], int)
    text = bucket.cat_file("weather/b.zarr/.zmetadata")
    bucket.pipe_file("weather/b.zarr/.zmetadata", text + b" ", ACL="public-read")
    after = open_fields(f"{place[0]}/b.zarr", storage_options=place[1])
    assert after.encoding["weatherdiff_sources"]["files"] != known


def test_endpoint_and_credentials_come_from_the_environment(
    stored, unreliable, monkeypatch, object_store
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", unreliable.url)
    ds = open_fields("s3://weather/a.zar*", storage_options={"patience": QUICK})
    xr.testing.assert_equal(ds.load(), stored)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    options = {"patience": QUICK, "use_listings_cache": False}
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(ConfigError, match=r"needs credentials.*AWS_ACCESS_KEY_ID.*anon"):
        open_fields("s3://weather/a.zarr", storage_options=options)
    xr.testing.assert_equal(
        open_fields("s3://weather/a.zarr", storage_options={**options, "anon": True}).load(), stored
    )


def test_what_is_absent_or_refused_is_not_asked_for_again(stored, unreliable, place):
    for name in ("x.zarr", "x.nc"):
        with pytest.raises(MissingInputError, match=name):
            open_fields(f"{place[0]}/{name}", storage_options=place[1])
    asked = [path for path in unreliable.asked if "x.nc" in path and "/x.nc?" not in path]
    assert 0 < len(asked) <= 3
    unreliable.reset()
    unreliable.where, unreliable.always = "a.nc", 403
    with pytest.raises(StorageError, match=r"the server refuses it .*check the credentials"):
        open_fields(f"{place[0]}/a.nc", storage_options=place[1])
    assert len(unreliable.asked) <= 2


def test_a_server_that_is_not_there_is_named(place):
    options = {k: v for k, v in place[1].items() if k != "endpoint_url"}
    url = "http://127.0.0.1:9/weather/a.nc"
    if place[0].startswith("s3"):
        options["endpoint_url"], url = "http://127.0.0.1:9", "s3://weather/a.nc"
    with pytest.raises(StorageError, match=r"a\.nc could not be read: 4 attempts"):
        open_fields(url, storage_options=options)


def test_a_url_that_holds_credentials_is_refused_without_repeating_them():
    for url in (
        "https://me:hunter2@example.org/a.nc",
        "https://example.org/a.nc?X-Amz-Signature=hunter2&x=1",
        "s3://b/a.zarr?token=hunter2",
    ):
        with pytest.raises(ConfigError, match="holds credentials") as caught:
            open_fields(url)
        assert "hunter2" not in str(caught.value)


def test_a_copy_that_was_broken_off_is_gone_on_with(
    stored, unreliable, place, tmp_path, monkeypatch
):
    monkeypatch.setattr(remote_files, "PIECE", 4096)
    url, files = f"{place[0]}/a.nc", RemoteFiles(place[1], tmp_path)
    unreliable.where, unreliable.faults = "a.nc", [None, None, None, *[503] * 4]
    with pytest.raises(StorageError):
        files.copy(url)
    (part,) = tmp_path.glob("*.part")
    assert part.stat().st_size == 3 * 4096
    unreliable.reset()
    unreliable.where, unreliable.faults = "a.nc", [None, "short"]  # fewer bytes than asked for
    copied = files.copy(url)
    reads = [path for path in unreliable.asked if path.startswith("GET") and "list" not in path]
    whole, _ = files.version(url)
    assert copied.stat().st_size == whole
    assert len(reads) <= 1 + -(-whole // 4096) - 3 + 1
    xr.testing.assert_equal(xr.load_dataset(copied), stored)
    assert files.copy(url) == copied


@BOTH_WHEN_DEEP
def test_a_damaged_chunk_is_not_taken_for_a_failure_that_passes(stored, bucket, place):
    bucket.copy("weather/a.zarr", "weather/c.zarr", recursive=True, ACL="public-read")
    bucket.pipe_file("weather/c.zarr/2m_temperature/1.0.0", b"\x02\x01", ACL="public-read")
    ds = open_fields(f"{place[0]}/c.zarr", storage_options=place[1])
    with pytest.raises(InputError, match=r"2m_temperature/1\.0\.0 is damaged"):
        ds.load()


@pytest.mark.parametrize(
    "place", ["http", pytest.param("s3", marks=pytest.mark.deep)], indirect=True
)
def test_a_lazy_remote_dataset_can_be_sent_to_another_process(stored, place):
    ds = open_fields(f"{place[0]}/a.zarr", storage_options=place[1])
    xr.testing.assert_equal(pickle.loads(pickle.dumps(ds)).load(), stored)  # noqa: S301


@pytest.mark.parametrize(
    "given", [{"attempts": 0}, {"timeout": "long"}, {"retries": 3}, {"wait": True}]
)
def test_patience_that_cannot_be_is_refused(given):
    with pytest.raises(ConfigError, match="patience"):
        Patience.taken_from({"patience": given})


def test_pauses_grow_to_half_a_minute():
    patience = Patience(wait=1)
    for failures, longest in enumerate((1, 2, 4, 8, 16, 30, 30), 1):
        pauses = [patience.pause(failures) for _ in range(20)]
        assert longest / 2 <= min(pauses) <= max(pauses) <= longest
    assert len(set(pauses)) > 1


@pytest.mark.deep  # gcsfs is large, and its emulator not needed otherwise: the extra "peers"
def test_google_storage_is_read_as_the_others_are(grown, tmp_path, monkeypatch):
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    # else gcsfs asks Google itself, without end, what kind of bucket it is
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    gcsfs = pytest.importorskip("gcsfs")
    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="weather")
    server.start()
    try:
        port = server._api._httpd.server_address[1]
        options = {"token": "anon", "endpoint_url": f"http://127.0.0.1:{port}"}
        grown.to_netcdf(tmp_path / "a.nc")
        grown.chunk(time=20).to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=True)
        files = gcsfs.GCSFileSystem(**options)
        for name in ("a.nc", "a.zarr"):
            files.put(str(tmp_path / name), f"weather/{name}", recursive=True)
            ds = open_fields(f"gs://weather/{name}", storage_options=options)
            xr.testing.assert_equal(ds.load(), grown)
        with pytest.raises(MissingInputError, match="no file or Zarr store here"):
            open_fields("gs://weather/other.zarr", storage_options=options)
    finally:
        server.stop()


@pytest.mark.parametrize("url", ["s3://weather/a.zarr", "s3://weather/a.nc", "s3://weather/*.nc"])
def test_an_option_that_the_file_system_does_not_know_is_one_of_the_configuration(url):
    with pytest.raises(ConfigError, match=r"storage_options has a key.*nonsense"):
        open_fields(url, storage_options={"nonsense": 1, "patience": QUICK})


@pytest.mark.parametrize("value", [0, -1, "many", True])
def test_patience_is_above_nothing(value):
    with pytest.raises(ConfigError, match="give a number above 0"):
        open_fields("s3://weather/a.zarr", storage_options={"patience": {"attempts": value}})
