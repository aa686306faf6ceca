"""Tasks: the same bytes whoever does them and however often they are stopped."""

import dask
import numpy as np
import pytest
import xarray as xr
from dask.distributed import Client, LocalCluster

from weatherdiff.data import prepare as module
from weatherdiff.data.append import append
from weatherdiff.data.prepare import make_plan, prepare
from weatherdiff.data.store import FieldStore
from weatherdiff.data.storing.tasks import Job
from weatherdiff.errors import ConfigError, LockedError, StorageError
from weatherdiff.staging import locked

FRAMES, SHARD = 60, 10
DIMS = ("time", "latitude", "longitude")
SETTINGS = {"training_period": ("2020-03-01", "2020-03-08"), "step": "6h", "frames": 3}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", SHARD * 4 * 2 * 3 * 5)


def test_threads_give_the_same_bytes(grown, tmp_path, content):
    reports = []
    one = prepare(grown, tmp_path / "one.zarr", **SETTINGS)
    other = prepare(
        grown.chunk(time=7),
        tmp_path / "other.zarr",
        scheduler="threads",
        progress=lambda n, total: reports.append((n, total)),
        **SETTINGS,
    )
    ours, theirs = content(one.path), content(other.path)
    assert ours.keys() == theirs.keys()
    assert {n for n in ours if ours[n] != theirs[n]} <= {
        n for n in ours if n.startswith("fields/") and n.endswith(".json")
    }  # the plan is of another source
    assert reports == [(n, FRAMES) for n in range(10, 70, 10)]


def test_a_cluster_gives_the_same_bytes(grown, tmp_path, content):
    one = content(prepare(grown, tmp_path / "one.zarr", **SETTINGS).path)
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        by_client = prepare(grown, tmp_path / "two.zarr", scheduler=client, **SETTINGS)
        assert content(by_client.path) == one


@pytest.mark.parametrize("scheduler", [3, "nonsense"])
def test_another_scheduler_is_refused(grown, tmp_path, scheduler):
    with pytest.raises(ConfigError, match="scheduler"):
        prepare(grown, tmp_path / "fields.zarr", scheduler=scheduler, **SETTINGS)
    assert not list(tmp_path.iterdir())


def interrupted(grown, path, at, monkeypatch):
    """Prepare until the task of number ``at`` begins."""
    write = Job.write_fields

    def stop(self, index):
        if index == at:
            raise KeyboardInterrupt
        return write(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Job, "write_fields", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(grown, path, **SETTINGS)
    return path.with_name(f".{path.name}.prepared.working")


def test_a_damaged_shard_is_written_again(grown, tmp_path, monkeypatch, content):
    whole = content(prepare(grown, tmp_path / "whole.zarr", **SETTINGS).path)
    working = interrupted(grown, tmp_path / "fields.zarr", 4, monkeypatch)
    for number, damage in enumerate((lambda b: b[:-1], lambda b: b[:9] + b"x" + b[10:])):
        file = working / f"fields/c/{number}/0/0/0"
        file.write_bytes(damage(file.read_bytes()))
    (working / "fields/c/2/0/0/0").unlink()
    (working / "fields/log/000003.fields.json").write_text("{")
    assert content(prepare(grown, tmp_path / "fields.zarr", **SETTINGS).path) == whole


def test_what_was_begun_with_another_plan_is_not_gone_on_with(grown, tmp_path, monkeypatch, same):
    path = tmp_path / "fields.zarr"
    interrupted(grown, path, 4, monkeypatch)
    with pytest.raises(ConfigError, match=r"another plan: settings is .*--overwrite"):
        prepare(grown, path, **{**SETTINGS, "frames": 2})
    changed = grown.copy(deep=True)
    changed["2m_temperature"][3] += 1
    with pytest.raises(ConfigError, match="another plan: source is"):
        prepare(changed, path, **SETTINGS)
    same(prepare(changed, path, overwrite=True, **SETTINGS), changed)


def test_an_interrupted_replacement_is_gone_on_with(grown, tmp_path, monkeypatch, same):
    path = tmp_path / "fields.zarr"
    working = interrupted(grown, path, 4, monkeypatch)
    file = working / "fields/c/0/0/0/0"
    before = file.stat().st_mtime_ns
    same(prepare(grown, path, overwrite=True, **SETTINGS), grown)
    assert (path / "fields/c/0/0/0/0").stat().st_mtime_ns == before
    assert not working.exists()


def test_two_processes_do_not_prepare_one_store(grown, tmp_path):
    path = tmp_path / "fields.zarr"
    working = tmp_path / ".fields.zarr.prepared.working"
    with locked(working / "fields/writing"), pytest.raises(LockedError):
        prepare(grown, path, **SETTINGS)
    prepare(grown, path, **SETTINGS)
    with locked(path / "fields/writing"), pytest.raises(LockedError):
        prepare(grown, path, overwrite=True, **SETTINGS)


def test_a_lost_frame_of_a_store_is_not_grown_over(grown, tmp_path):
    path = tmp_path / "fields.zarr"
    prepare(grown.isel(time=slice(43)), path, **SETTINGS)
    file = path / "fields/c/4/0/0/0"
    damaged = bytearray(file.read_bytes())
    damaged[3] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(StorageError, match="damaged"):
        append(grown, path)


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 60}, {"time": 7, "latitude": 2}])
def test_any_chunking_gives_the_same_fields(grown, tmp_path, chunks, same):
    store = prepare(grown.chunk(chunks), tmp_path / "fields.zarr", **SETTINGS)
    same(store, grown)


def test_no_task_computes_more_than_its_frames_of_one_variable(grown, tmp_path):
    sizes = []

    def read(block, block_info=None):
        if block_info:
            sizes.append(block.shape[0])
        return block

    lazy = {
        name: (DIMS, dask.array.from_array(v.values, chunks=(2, 3, 5)).map_blocks(
            read, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)), v.attrs)
        for name, v in grown.data_vars.items()
    }  # fmt: skip
    held = []
    compute = xr.Variable.compute

    def watched(self, **options):
        held.append(self.shape)
        return compute(self, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xr.Variable, "compute", watched)
        prepare(grown.assign(lazy), tmp_path / "fields.zarr", **SETTINGS)
    assert held == [(SHARD, 3, 5)] * 12
    assert sum(sizes[-60:]) == 120


def test_statistics_that_touch_validation_or_test_are_an_error(grown):
    make_plan(grown, **SETTINGS, held_out=[("2020-03-09", "2020-03-12")])
    for period in (("2020-03-08T18", "2020-03-12"), ("2020-02-01", "2020-03-01")):
        with pytest.raises(ConfigError, match="touches the period"):
            make_plan(grown, **SETTINGS, held_out=[period])


def test_the_store_says_how_far_it_is_valid(grown, tmp_path):
    store = prepare(grown, tmp_path / "fields.zarr", **SETTINGS)
    assert store.metadata["frames"] == FRAMES
    assert store.metadata["plan"]["absent"] == 2
    assert FieldStore.open(store.path).metadata == store.metadata
