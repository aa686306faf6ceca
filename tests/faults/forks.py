"""A process that has imported everything and forks a child for each run it is asked for.

It reads one JSON object a line and answers with one. ``{"run": [arguments], "program": module,
"log": path, "fault": {...}}`` starts the module's ``main`` (the command line's, unless named) in a
child and gives its ``pid``; ``{"wait": pid}`` gives its ``code``, negative for a signal; ``{"load":
[modules]}`` imports what later children would else each import. Faults, all optional, are put
around functions of the system in the child alone; the product knows nothing of them:

``count``
    Path of a file for a list of the points at which the child might be killed, by what is done
    there: before each fsync, rename, removal and creation of a folder, before each write and in its
    midst, before, amid and after the tensors of a model or checkpoint, and before each call of the
    network.
``kill``
    At which of these to be killed, from 1.
``signal``
    By which signal; 9 unless given.
``room``
    Bytes that may be written before the disk is full.
``start``
    Reading of ``time.monotonic`` at which to begin.
``slow``
    Seconds that each call of the network takes longer.
``hang``
    At which call of the network, from 1, to do nothing more but wait for a signal.
"""

from __future__ import annotations

import builtins
import errno
import gc
import importlib
import io
import itertools
import json
import os
import signal
import sys
import time
from typing import Any

from safetensors import SafetensorError


class _Points:
    """Count the points; die at one of them."""

    def __init__(self, fatal: int | None, signum: int) -> None:
        self.names: list[str] = []
        self.fatal, self.signum = fatal, signum

    def here(self, name: str) -> None:
        self.names.append(name)
        if len(self.names) == self.fatal:
            os.kill(os.getpid(), self.signum)

    @property
    def fatal_is_next(self) -> bool:
        return self.signum == signal.SIGKILL and len(self.names) + 1 == self.fatal


class _File:
    """A file whose writes are points, and may find the disk full."""

    def __init__(self, file: Any, points: _Points, room: list[int]) -> None:
        self._file, self._points, self._room = file, points, room

    def write(self, content: Any) -> int:
        size = len(content)
        if self._room and self._room[0] < size:
            self._file.write(content[: max(0, self._room[0])])
            self._room[0] = 0
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._room:
            self._room[0] -= size
        self._points.here("write")
        done = self._file.write(content[: size // 2])
        self._file.flush()
        self._points.here("write")
        return done + self._file.write(content[size // 2 :])

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __iter__(self) -> Any:
        return iter(self._file)


def _saved(save_file: Any, points: _Points, room: list[int]) -> Any:
    """Save tensors, which is done in Rust: killed in its midst, half of the file is there."""

    def saved(tensors: Any, path: Any, **options: Any) -> None:
        points.here("save")
        save_file(tensors, path, **options)
        size = os.path.getsize(path)
        if room and room[0] < size:
            os.truncate(path, max(0, room[0]))
            room[0] = 0
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        if room:
            room[0] -= size
        if points.fatal_is_next:
            os.truncate(path, size // 2)
        points.here("save")
        points.here("save")

    return saved


def _of_compiler(path: Any) -> bool:
    """Tell a cache of compiled functions, which the first run alone writes."""
    return isinstance(path, str | os.PathLike) and "__pycache__" in os.fspath(path)


def _counted(function: Any, points: _Points, name: str) -> Any:
    def called(*args: Any, **options: Any) -> Any:
        if not any(map(_of_compiler, args)):
            points.here(name)
        return function(*args, **options)

    return called


def _inject(fault: dict[str, Any], points: _Points) -> None:
    room = [fault["room"]] if "room" in fault else []
    if "count" in fault or "kill" in fault or room:
        plain = io.open

        def opened(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            handle = plain(file, mode, *rest, **options)
            if _of_compiler(file) or not set(mode) & set("wax+"):
                return handle
            return _File(handle, points, room)

        io.open = opened
        for name in ("fsync", "rename", "replace", "unlink", "mkdir", "rmdir"):
            setattr(os, name, _counted(getattr(os, name), points, name))
        for name in ("weatherdiff.training.checkpoint", "weatherdiff.models.folder"):
            if name in sys.modules:
                module: Any = sys.modules[name]
                module.save_file = _saved(module.save_file, points, room)
        from weatherdiff.models import VideoDenoiser

        VideoDenoiser.forward = _counted(VideoDenoiser.forward, points, "forward")  # type: ignore[method-assign]
    if {"slow", "hang"} & fault.keys():
        from weatherdiff.models import VideoDenoiser

        forward, calls = VideoDenoiser.forward, itertools.count(1)

        def slowly(self: Any, *args: Any, **options: Any) -> Any:
            time.sleep(600 if next(calls) == fault.get("hang") else fault.get("slow", 0))
            return forward(self, *args, **options)

        VideoDenoiser.forward = slowly  # type: ignore[method-assign]


def _child(request: dict[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    fault = request.get("fault", {})
    points, code = _Points(fault.get("kill"), fault.get("signal", signal.SIGKILL)), 70
    try:
        main = importlib.import_module(request["program"]).main
        time.sleep(max(0.0, fault.get("start", 0) - time.monotonic()))
        _inject(fault, points)
        code = main(request["run"])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    finally:
        if "count" in fault:
            with builtins.open(fault["count"], "w") as file:
                json.dump(points.names, file)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Do as asked until the input ends."""
    # What every child would else import: dask looks for a client of the former at any computation.
    import distributed  # noqa: F401
    import netCDF4  # noqa: F401
    import xarray as xr
    from xarray.namedarray.parallelcompat import list_chunkmanagers

    import weatherdiff.cli
    import weatherdiff.data.open
    import weatherdiff.data.sources.reading
    import weatherdiff.evaluation
    import weatherdiff.forecasting.forecaster
    import weatherdiff.forecasting.work
    import weatherdiff.workflow  # noqa: F401
    from weatherdiff.workflow.record import versions

    for found_out_once in (xr.backends.list_engines, list_chunkmanagers, versions):
        found_out_once()
    gc.collect()
    gc.freeze()  # no child looks through all of this for garbage
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = {"code": os.waitstatus_to_exitcode(status)}
        elif "load" in request:
            answer = {
                "loaded": [importlib.import_module(name).__name__ for name in request["load"]]
            }
        else:
            pid = os.fork()
            if not pid:
                _child(request)
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
    os._exit(0)  # what was imported takes its time to end
