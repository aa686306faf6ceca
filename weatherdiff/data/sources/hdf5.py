"""Refuse HDF5 files (netCDF-4) that reach for other files, claim the impossible, or do not end.

HDF5 can keep a variable's bytes in any other file of the machine (external storage, external
links, virtual data sets): whoever opens such a file hands its owner that other file's content.
Measured with HDF5 2.2 and netCDF 4.10: both are followed without a word, and one byte changed in
the global heap makes opening go on for ever. So a child process looks first, for all the files of
a call together: 0.07 s for the child and 4 ms for each file.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weatherdiff.data.sources.trust import (
    DEFLATE_RATIO,
    LARGEST_RATIO,
    memory_available,
    require_fits,
    require_possible,
)
from weatherdiff.errors import ConfigError, InputError, StorageError

__all__ = ["require_harmless"]

_PROBE = Path(__file__).with_name("hdf5_probe.py")
_SECONDS = 5  # of computing; a file of 10,000 variables takes one
_WAITING = 60  # seconds that a slow disk may take, for each file
_NO_DENSER_THAN_DEFLATE = {1, 2, 3}  # deflate, shuffle, Fletcher's checksum
_INSTEAD = "if you trust it, open it with xarray and pass the data set, or copy it whole"


def require_harmless(paths: Sequence[str]) -> None:
    """Let a child process look into HDF5 files.

    What HDF5 cannot open at all is passed over: whoever opens it tells what is wrong.

    Raises
    ------
    InputError
        A file holds links or storage outside of itself, declares more than it can hold, or makes
        the HDF5 library crash or run on.
    StorageError
        The disk did not answer for a minute.
    ConfigError
        netCDF4's library cannot be asked.
    """
    if not paths:
        return
    lines, ended = _ask(paths)
    begun = sum(line.startswith("begin ") for line in lines)
    answers = [json.loads(line) for line in lines if line.startswith("{")]
    for path, answer in zip(paths, answers, strict=False):
        _judge(path, answer)
    if len(answers) == len(paths):
        return
    if not begun:
        raise ConfigError(
            "the HDF5 library of netCDF4 cannot be asked about untrusted files "
            f"({ended}); install netCDF4 from its wheel: pip install --force-reinstall netCDF4."
        )
    raise InputError(
        f"{paths[begun - 1]} is damaged or hostile: {ended} while the HDF5 library opened it; "
        "fetch it again."
    )


def _ask(paths: Sequence[str]) -> tuple[list[str], str]:
    """Lines of the probe, and how it ended."""
    extension = importlib.util.find_spec("netCDF4._netCDF4")
    if extension is None or extension.origin is None:
        raise ConfigError("netCDF needs `pip install netCDF4`.")
    memory = max(2**30, memory_available() // 2)
    questions = "\0".join([extension.origin, str(_SECONDS), str(memory), *map(os.fspath, paths)])
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-I", "-S", str(_PROBE)],
            input=os.fsencode(questions),
            capture_output=True,
            timeout=_WAITING * (1 + len(paths)),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StorageError(
            f"opening {', '.join(paths[:3])} took longer than {error.timeout:.0f} s; is the disk "
            "at work?"
        ) from error
    lines = done.stdout.decode().splitlines()
    if done.returncode == -getattr(signal, "SIGXCPU", 0):
        return lines, f"{_SECONDS} s of computing were not enough"
    if done.returncode < 0:
        return lines, f"the process died of {signal.Signals(-done.returncode).name}"
    return lines, done.stderr.decode(errors="replace").strip().rpartition("\n")[2]


def _judge(path: str, answer: dict[str, Any]) -> None:
    for name, kind in answer.get("links", []):
        goes = "to another file" if kind == "external" else "out of its group"
        raise InputError(f"{path}: {name} is a link {goes}, which is not followed; {_INSTEAD}.")
    claims = []
    for entry in answer.get("datasets", []):
        for kind in ("external", "virtual"):
            if entry[kind]:
                raise InputError(
                    f"{path}: the values of {entry['name']} are kept in other files ({kind} "
                    f"storage of HDF5), which are not read; {_INSTEAD}."
                )
        shape, chunk = entry["shape"], entry["chunk"]
        nbytes = math.prod(shape) * entry["itemsize"]
        # one field of three dimensions or more; which of them is time is not known yet
        field = nbytes // max(1, *shape) if len(shape) > 2 else nbytes
        require_fits(path, entry["name"], field)
        if chunk:
            require_fits(path, f"a chunk of {entry['name']}", math.prod(chunk) * entry["itemsize"])
        plain = set(entry["filters"]) <= _NO_DENSER_THAN_DEFLATE
        claims.append((nbytes, DEFLATE_RATIO if plain else LARGEST_RATIO))
    require_possible(path, claims, Path(path).stat().st_size)
