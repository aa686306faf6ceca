"""How fast a user's own store is loaded."""

from __future__ import annotations

import json
from pathlib import Path

from weatherdiff.data.store import FieldStore
from weatherdiff.errors import ConfigError
from weatherdiff.staging import disk_errors

__all__ = ["bench_loading"]

WINDOW_FRAMES = 4  # where no configuration says how many


def bench_loading(
    target: str | Path, *, seconds: float = 15.0, json_file: str | Path | None = None
) -> str:
    """Measure the loading of a prepared store; see :mod:`weatherdiff.data.loading.benchmark`.

    Parameters
    ----------
    target : path
        A field store, or the YAML file of a run whose store is prepared: then windows are those of
        the run.
    seconds : float
        About how long to measure.
    json_file : path, optional
        Where to write the figures.

    Returns
    -------
    str
        A short table.

    Raises
    ------
    MissingInputError
        There is no such file, or the store is not prepared.
    InputError
        It is not a field store.
    ConfigError
        The run has no store, as its data are not to be prepared.
    """
    from weatherdiff.data.loading.benchmark import loading_table, measure_loading

    target, frames = Path(target), WINDOW_FRAMES
    if target.suffix in (".yaml", ".yml"):
        from weatherdiff.config import load_config

        config = load_config(target)
        if not config.data.prepare:
            raise ConfigError(
                f"{target}: data.prepare is false, so there is no store to measure; leave it out "
                "and prepare one, or train, which says what preparing would gain."
            )
        target, frames = config.store, config.window.history + config.window.frames
    told = measure_loading(FieldStore.open(target), frames=frames, seconds=seconds)
    if json_file is not None:
        with disk_errors(Path(json_file)):
            Path(json_file).write_text(json.dumps(told, indent=2) + "\n")
    return loading_table(told)
