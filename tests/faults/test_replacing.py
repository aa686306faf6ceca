"""A folder that replaces another: at every moment one of the two is there, and whole.

A process that has imported little forks a child for each replacement; the child kills itself at one
of the things that it does to files. While none is killed, another process looks all the time.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NAME = "2020-01-30T06.zarr"
CALLS = ("fsync", "rename", "replace", "unlink", "rmdir")
FILES = ("a", "b", "c")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def put(folder: Path, content: str) -> None:
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(content)


def told(folder: Path) -> str:
    """What a reader finds: the content of all files, or that there is none."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)  # one folder, whatever its name becomes
    except FileNotFoundError:
        return "nothing"
    try:
        found = set()
        for name in FILES:
            file = os.open(name, os.O_RDONLY, dir_fd=descriptor)
            found.add(os.read(file, 100).decode())
            os.close(file)
        return " and ".join(sorted(found))
    except FileNotFoundError:
        return "being removed"  # it was replaced since we opened it
    finally:
        os.close(descriptor)


def in_child(work: Callable[[], None]) -> int:
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at_each_point(folder: Path, *, at_once: bool) -> None:
    """Print for each point what was there after the kill, and after cleaning up."""
    from weatherdiff import staging

    path, counted = folder / "x.zarr", folder / "count"

    def replace(fatal: int) -> None:
        done = 0

        def point(function: Callable) -> Callable:
            def called(*args: Any, **options: Any) -> Any:
                nonlocal done
                if done == fatal:
                    os.kill(os.getpid(), signal.SIGKILL)
                done += 1
                return function(*args, **options)

            return called

        if not at_once:
            staging._exchange_at_once = cannot
        with staging.staged(path, overwrite=True) as temporary:
            put(temporary, "new")
            for name in CALLS:
                setattr(os, name, point(getattr(os, name)))
            staging._exchange = point(staging._exchange)
        counted.write_text(str(done))

    put(path, "old")
    assert in_child(lambda: replace(-1)) == 0
    for fatal in range(int(counted.read_text())):
        in_child(lambda: staging._remove(path))
        put(path, "old")
        assert in_child(lambda fatal=fatal: replace(fatal)) == -signal.SIGKILL
        seen = told(path)
        staging.remove_leftovers(folder)
        left = sorted(p.name for p in folder.iterdir())
        print(json.dumps([seen, told(path), left]), flush=True)


def cannot(*_: object) -> None:
    raise OSError(22, "Invalid argument")


def looked_at_all_the_time(folder: Path, *, times: int) -> None:
    """Replace a folder again and again; print all that another process has found."""
    from weatherdiff import staging

    path, ended, found = folder / "x.zarr", folder / "ended", folder / "found"
    put(path, "old")

    def look() -> None:
        seen = set()
        while not ended.exists():
            seen.add(told(path))
        found.write_text(json.dumps(sorted(seen)))

    reader = os.fork()
    if not reader:
        look()
        os._exit(0)
    for _ in range(times):
        with staging.staged(path, overwrite=True) as temporary:
            put(temporary, "new")
    ended.touch()
    os.waitpid(reader, 0)
    print(found.read_text())


def apart(what: str, folder: Path, **options: Any) -> list[Any]:
    """Call a function of this file in a process that is free of threads."""
    code = "import json, pathlib, runpy, sys; a = json.loads(sys.argv[1]); "
    code += "runpy.run_path(a[0])[a[1]](pathlib.Path(a[2]), **a[3])"
    call = json.dumps([__file__, what, str(folder), options])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, call], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_kill_at_any_point_leaves_the_old_or_the_new(tmp_path: Path, *, at_once: bool) -> None:
    ends = apart("killed_at_each_point", tmp_path, at_once=at_once)
    seen = [seen for seen, _, _ in ends]
    assert len(seen) > 10
    assert seen == sorted(seen, key=["old", "nothing", "new"].index)
    assert seen.count("nothing") == (0 if at_once else 1)
    assert {"old", "new"} <= set(seen)
    for now, then, left in ends:
        assert then == {"nothing": "old"}.get(now, now)
        assert left == ["count", "x.zarr"]


@pytest.mark.parametrize("times", [50, pytest.param(2000, marks=pytest.mark.deep)])
def test_a_reader_finds_one_of_them_whenever_it_looks(tmp_path: Path, times: int) -> None:
    assert "nothing" not in apart("looked_at_all_the_time", tmp_path, times=times)[0]


AGAIN = ("--overwrite", "--set", "forecast.seed=1")


@pytest.fixture
def both(
    runs: Callable,
    site: Callable,
    hashes: Callable,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    kept: dict[str, Any],
) -> dict[str, Any]:
    """Content of a forecast and of the one that replaces it, and the points of a run of this."""
    if not kept:
        folder = kept["forecasts"] = tmp_path_factory.mktemp("old") / "forecasts"
        here, count = site(), tmp_path / "count"
        assert runs("forecast", here.config)[0] == 0
        kept["old"] = hashes(here.forecasts / NAME)
        shutil.copytree(here.forecasts, folder)
        code, text = runs("forecast", here.config, *AGAIN, count=str(count))
        assert code == 0, text
        kept["new"] = hashes(here.forecasts / NAME)
        assert kept["new"] != kept["old"]
        kept["points"] = json.loads(count.read_text())
    return kept


@pytest.mark.attempts("seed", 2, 60)
def test_a_forecast_is_there_while_it_is_replaced(
    runs: Callable, site: Callable, hashes: Callable, both: dict[str, Any], seed: int
) -> None:
    from weatherdiff.forecasting.writer import verify_forecast  # not in the processes of this file

    here, points = site(), both["points"]
    shutil.copytree(both["forecasts"], here.forecasts)
    renames = [n for n, name in enumerate(points, 1) if name == "rename"]
    # The last is that of the new one, to be exchanged.
    near = [renames[-1], renames[-1] + 1, renames[-1] + 2]
    place = near[seed] if seed < len(near) else random.Random(seed).randint(1, len(points))  # noqa: S311
    assert runs("forecast", here.config, *AGAIN, kill=place)[0] == -signal.SIGKILL
    assert here.visible == [NAME]
    verify_forecast(here.forecasts / NAME)
    assert hashes(here.forecasts / NAME) == both["new" if place > renames[-1] else "old"]
    code, text = runs("forecast", here.config, *AGAIN)
    assert code == 0, text
    assert here.hidden == []
    assert hashes(here.forecasts / NAME) == both["new"]
