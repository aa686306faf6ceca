"""kill -9 at random points: readers see the old or the new, and the next run makes it whole.

A process that has imported everything, and nothing else, forks for each run; the child counts what
it does to files and kills itself at one of these.
"""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from weatherdiff.data import prepare
from weatherdiff.data.append import append
from weatherdiff.data.store import FieldStore
from weatherdiff.errors import MissingInputError

FRAMES, OLD, SHARD = 32, 17, 5
SETTINGS = {"training_period": ("2020-03-01", "2020-03-03"), "step": "6h", "frames": 2}
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link")


def record(frames):
    rng = np.random.default_rng(5)
    values = 280 + rng.normal(size=(FRAMES, 2, 3)).astype(np.float32)
    time = np.datetime64("2020-03-01", "ns") + np.arange(FRAMES) * np.timedelta64(6, "h")
    ds = xr.Dataset(
        {"2m_temperature": (("time", "latitude", "longitude"), values, {"units": "K"})},
        {"time": time, "latitude": [40.0, 42.0], "longitude": [1.0, 2.0, 3.0]},
    )
    return ds.isel(time=slice(frames))


def work(kind, path):
    if kind == "append":
        append(record(FRAMES), path)
    elif not path.exists():
        prepare.prepare(record(OLD), path, **SETTINGS)


def serve():
    """Do what comes on the standard input, each in a process of its own."""
    import distributed  # noqa: F401 - which dask would import at the first computation of each
    from xarray.namedarray.parallelcompat import list_chunkmanagers

    prepare.BLOCK_BYTES = SHARD * 4 * 2 * 3
    xr.backends.list_engines()
    list_chunkmanagers()
    gc.freeze()  # no child looks through all of this for garbage
    for line in sys.stdin:
        kind, name, kill_at = json.loads(line)
        path, done = Path(name), [0]

        def count(event, arguments, path=path, done=done, kill_at=kill_at):
            writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if (writes or event in CHANGES) and str(path.parent) in str(arguments[0]):
                here = kill_at in str(arguments[0]) if isinstance(kill_at, str) else None
                if here or done[0] == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                done[0] += 1

        child = os.fork()
        if not child:
            sys.addaudithook(count)
            work(kind, path)
            path.with_suffix(".count").write_text(str(done[0]))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


@pytest.fixture(scope="module")
def run():
    code = "import runpy, sys; runpy.run_path(sys.argv[1])['serve']()"
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:

        def run(kind, path, kill_at=None):
            server.stdin.write(json.dumps([kind, str(path), kill_at]) + "\n")
            server.stdin.flush()
            return int(server.stdout.readline())

        yield run
        server.stdin.close()


def killed_at_random(run, kind, folder, trials, content, same):
    whole = {OLD: record(OLD), FRAMES: record(FRAMES)}
    base, path = folder / "base.zarr", folder / "fields.zarr"
    assert run("prepare", base) == 0
    if kind == "append":
        shutil.copytree(base, path)
        old = FieldStore.open(path)
    assert run(kind, path) == 0
    count = int(path.with_suffix(".count").read_text())
    expected = content(path)
    assert count > 40
    points = np.random.default_rng(trials).choice(count, size=min(trials, count), replace=False)
    for kill_at in points:
        shutil.rmtree(path)
        if kind == "append":
            shutil.copytree(base, path)
        assert run(kind, path, int(kill_at)) == -signal.SIGKILL, kill_at
        try:
            store = FieldStore.open(path)
            same(store, whole[len(store.times)])
            if kind == "append":
                same(old, whole[OLD])  # opened long before
        except MissingInputError:
            assert kind == "prepare"
        assert run(kind, path) == 0, kill_at
        assert content(path) == expected, kill_at
        left = {p.name for p in folder.iterdir() if p.suffix != ".count"}
        assert left == {"base.zarr", "fields.zarr"}, kill_at


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", ["prepare", "append"])
def test_a_killed_run_changes_nothing_and_the_next_gives_the_same_bytes(
    run, kind, tmp_path, content, same
):
    killed_at_random(run, kind, tmp_path, 2, content, same)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("array", ["quality/looks", "moments/seen"])
def test_a_run_killed_before_an_array_is_made_makes_it_when_it_goes_on(
    run, array, tmp_path, content
):
    whole, path = tmp_path / "whole.zarr", tmp_path / "fields.zarr"
    assert run("prepare", whole) == 0
    assert run("prepare", path, f"{array}/") == -signal.SIGKILL
    assert run("prepare", path) == 0
    assert content(path) == content(whole)


@pytest.mark.deep
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", ["prepare", "append"])
def test_fifty_killed_runs(run, kind, tmp_path, content, same):
    killed_at_random(run, kind, tmp_path, 50, content, same)
