"""Whether what is on the disk is what was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from weatherdiff.errors import (
    InputError,
    MissingInputError,
    StorageError,
    WeatherdiffError,
)

__all__ = ["verify"]

FRAMES = 64


def verify(folder: Path) -> str:
    """Read every byte of forecasts, a model, scores or a field store; compare with checksums.

    Parameters
    ----------
    folder : path
        One of them, a folder of forecasts, or the output folder of a run, with all of these.

    Returns
    -------
    str
        A line for each that is sound.

    Raises
    ------
    MissingInputError
        There is nothing of ours.
    InputError
        Files are absent, extra, cut or altered; all are named.
    StorageError
        A file cannot be read.
    """
    folder = Path(folder)
    found = list(_parts(folder))
    if not found:
        raise MissingInputError(f"There is no forecast, model, score or field store at {folder}.")
    sound: list[str] = []
    damaged: list[str] = []
    kind_of: type[WeatherdiffError] = InputError
    for path, kind in found:
        try:
            sound.append(f"{path}: {_VERIFY[kind](path)}, sound")
        except (InputError, MissingInputError) as error:  # a file of a model that is absent
            damaged.append(str(error))
        except StorageError as error:  # of one: the others are to be named, too
            damaged.append(str(error))
            kind_of = StorageError
    if damaged:
        raise kind_of("\n".join(damaged))
    return "\n".join(sound)


def _parts(folder: Path) -> list[tuple[Path, str]]:
    kind = _kind(folder)
    if kind is not None:
        return [(folder, kind)]
    inside = sorted(folder.glob("[!.]*")) + sorted(folder.glob("forecasts/[!.]*"))
    return [(path, kind) for path in inside if (kind := _kind(path)) is not None]


def _kind(path: Path) -> str | None:
    from weatherdiff.evaluation.storage import is_scores
    from weatherdiff.forecasting.manifest import MANIFEST
    from weatherdiff.forecasting.writer import forecast_time

    if not path.is_dir():
        return None
    if is_scores(path):
        return "scores"
    if forecast_time(path.name) is not None or (path / MANIFEST).is_file():
        return "forecast"
    if (path / "model.json").is_file() or (path / "weights.safetensors").is_file():
        return "model"
    return "store" if (path / "fields").is_dir() else None


def _forecast(path: Path) -> str:
    from weatherdiff.forecasting.manifest import read_manifest
    from weatherdiff.forecasting.writer import verify_forecast

    verify_forecast(path)
    return f"forecast of {len(read_manifest(path)[1])} files"


def _model(path: Path) -> str:
    from weatherdiff.models.folder import load_model

    load_model(path)
    return "model"


def _scores(path: Path) -> str:
    from weatherdiff.evaluation import open_scores

    return f"scores of {len(open_scores(path).data_vars)} variables"


def _store(path: Path) -> str:
    from weatherdiff.data.store import FieldStore
    from weatherdiff.data.storing.inventory import require_all

    store = FieldStore.open(path)
    if store.metadata["version"] > 2:
        require_all(path)
    for start in range(0, len(store.times), FRAMES):
        store.read(np.arange(start, min(start + FRAMES, len(store.times))))
    return f"field store of {len(store.times)} times"


_VERIFY = {"forecast": _forecast, "model": _model, "scores": _scores, "store": _store}
