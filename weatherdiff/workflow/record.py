"""What all verbs share: what they note in the output folder, and of what they are made."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from weatherdiff.config import Config
from weatherdiff.staging import staged

__all__ = ["digest", "seconds_spent", "set_threads", "timed", "versions", "write_json"]


@cache
def versions() -> dict[str, str]:
    """Of the packages that the numbers depend on."""
    names = ("weatherdiff", "torch", "lightning", "numpy", "xarray", "zarr", "dask")
    return {name: version(name) for name in names}


def digest(content: Any) -> str:
    """Hash what JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write a file, visible only when whole."""
    with staged(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


@contextmanager
def timed(config: Config, verb: str) -> Iterator[None]:
    """Record the wall time of a verb in the output folder."""
    start = time.monotonic()
    yield
    path = config.output / "seconds.json"
    write_json(path, {**seconds_spent(config), verb: round(time.monotonic() - start, 1)})


def seconds_spent(config: Config) -> dict[str, float]:
    """Give the wall time of each verb in the output folder, as far as it is known."""
    try:
        return dict(json.loads((config.output / "seconds.json").read_bytes()))
    except (OSError, TypeError, ValueError):  # no reason for the work of hours to fail at its end
        return {}


def set_threads(config: Config) -> None:
    """Set the network's threads, if the configuration says how many."""
    import torch

    if config.threads is not None:
        torch.set_num_threads(config.threads)
