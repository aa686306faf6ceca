"""A process that has imported everything and forks a child for each run it is asked for.

It reads one JSON object a line and answers with one. ``{"run": [arguments], "log": path, "fault":
{...}}`` starts the command line in a child and gives its ``pid``; ``{"wait": pid}`` gives its
``code``, negative for a signal. Faults, all optional, are put around functions of the system in the
child alone; the product knows nothing of them:

``count``
    Path of a file for the number of points at which the child might be killed: before each fsync,
    rename, removal and creation of a folder, before each write and in its midst.
``kill``
    At which of these to be killed, from 1.
``room``
    Bytes that may be written before the disk is full.
``start``
    Reading of ``time.monotonic`` at which to begin.
``slow``
    Seconds that each call of the network takes longer.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import signal
import sys
import time
from typing import Any


class _Points:
    """Count the points; die at one of them."""

    def __init__(self, fatal: int | None) -> None:
        self.count, self.fatal = 0, fatal

    def here(self) -> None:
        self.count += 1
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


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
        self._points.here()
        done = self._file.write(content[: size // 2])
        self._file.flush()
        self._points.here()
        return done + self._file.write(content[size // 2 :])

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __iter__(self) -> Any:
        return iter(self._file)


def _counted(function: Any, points: _Points) -> Any:
    def called(*args: Any, **options: Any) -> Any:
        points.here()
        return function(*args, **options)

    return called


def _inject(fault: dict[str, Any], points: _Points) -> None:
    room = [fault["room"]] if "room" in fault else []
    if "count" in fault or "kill" in fault or room:
        plain = io.open

        def opened(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            handle = plain(file, mode, *rest, **options)
            return _File(handle, points, room) if set(mode) & set("wax+") else handle

        io.open = opened
        for name in ("fsync", "rename", "replace", "unlink", "mkdir", "rmdir"):
            setattr(os, name, _counted(getattr(os, name), points))
    if "slow" in fault:
        from weatherdiff.models import VideoDenoiser

        forward = VideoDenoiser.forward

        def slowly(self: Any, *args: Any, **options: Any) -> Any:
            time.sleep(fault["slow"])
            return forward(self, *args, **options)

        VideoDenoiser.forward = slowly  # type: ignore[method-assign]


def _child(request: dict[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    fault = request.get("fault", {})
    points, code = _Points(fault.get("kill")), 70
    try:
        from weatherdiff.cli import main

        time.sleep(max(0.0, fault.get("start", 0) - time.monotonic()))
        _inject(fault, points)
        code = main(request["run"])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    finally:
        if "count" in fault:
            with builtins.open(fault["count"], "w") as file:
                file.write(str(points.count))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Do as asked until the input ends."""
    import weatherdiff.evaluation
    import weatherdiff.forecasting.forecaster
    import weatherdiff.forecasting.work
    import weatherdiff.workflow  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = {"code": os.waitstatus_to_exitcode(status)}
        else:
            pid = os.fork()
            if not pid:
                _child(request)
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
