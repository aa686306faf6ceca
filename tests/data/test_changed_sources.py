"""A local Zarr whose chunks change: between plan and rerun, while it is read, or it grew."""

import numpy as np
import pytest

from weatherdiff import open_fields
from weatherdiff.data import prepare as module
from weatherdiff.data.append import append
from weatherdiff.data.prepare import prepare
from weatherdiff.data.sources import source
from weatherdiff.errors import ConfigError, InputError

SETTINGS = {"training_period": ("2020-03-01", "2020-03-08"), "step": "6h", "frames": 2}
AT_FIRST, AFTERWARDS = 50, 60


@pytest.fixture
def ds(layered):
    return layered(AFTERWARDS).drop_vars("temperature").sortby("latitude")


@pytest.fixture(params=[2, 3])
def own(ds, tmp_path, request, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", 10 * 4 * 4 * 6)
    raw = {"compressors": None, "chunks": (5, 4, 6)}
    first = ds.isel(time=slice(AT_FIRST))
    options = {"zarr_format": request.param, "consolidated": request.param == 2}
    first.to_zarr(tmp_path / "own.zarr", encoding={"2m_temperature": raw}, **options)
    return tmp_path / "own.zarr"


@pytest.fixture
def run(tmp_path):
    return lambda ds, **options: prepare(ds, tmp_path / "fields.zarr", **SETTINGS, **options)


def rewrite(store):
    """Write a chunk anew; neither its size nor any metadata change."""
    found = (p for p in store.glob("2m_temperature/**/*") if p.is_file())
    chunk = next(p for p in found if p.stat().st_size == 480)
    chunk.write_bytes(np.frombuffer(chunk.read_bytes(), "<f4")[::-1].tobytes())


def files(store):
    return open_fields(store).encoding[source.SOURCES]["files"][str(store)]


def test_what_was_begun_of_other_chunks_is_not_gone_on_with(run, own):
    def stopped(done, total):
        if done >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(open_fields(own), progress=stopped)
    opened = open_fields(own)
    rewrite(own)
    with pytest.raises(ConfigError, match="begun with another plan: source is"):
        run(open_fields(own))
    with pytest.raises(InputError, match=r"own\.zarr was changed while it was read"):
        run(opened, overwrite=True)
    store = run(open_fields(own), overwrite=True)
    expected = store.channels.stack(open_fields(own))
    np.testing.assert_array_equal(store.read(np.arange(AT_FIRST)), expected)


def test_a_store_may_grow_while_it_is_read_and_is_then_appended(run, ds, own):
    def grown(done, total):
        if done == 30:
            consolidated = (own / ".zmetadata").exists()
            later = ds.isel(time=slice(AT_FIRST, None))
            later.to_zarr(own, append_dim="time", consolidated=consolidated)

    assert run(open_fields(own), progress=grown).shape[0] == AT_FIRST
    assert files(own)[2] > 10
    store = append(open_fields(own), own.with_name("fields.zarr"))
    expected = store.channels.stack(open_fields(ds))
    np.testing.assert_array_equal(store.read(np.arange(AFTERWARDS)), expected)


def test_of_a_store_of_very_many_files_the_same_some_are_looked_at(own, monkeypatch):
    assert files(own)[2] >= 10 + 3  # and those of the coordinates
    monkeypatch.setattr(source, "MOST_FILES", 9)
    assert files(own) == files(own)
    assert 0 < files(own)[2] <= 9


def test_links_are_not_followed_and_what_is_absent_has_no_state(own):
    known = source._local_state(str(own))
    (own / "elsewhere").symlink_to(own.parent)
    assert source._local_state(str(own))[2] == known[2] + 1
    assert source._local_state(str(own / "absent")) is None
