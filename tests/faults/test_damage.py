"""A file that is lost, cut or altered in one bit is named by ``verify`` and used by no reader."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weatherdiff.data.store import FieldStore
from weatherdiff.data.storing.statistics import field_statistics
from weatherdiff.errors import InputError, MissingInputError, WeatherdiffError
from weatherdiff.evaluation import open_scores
from weatherdiff.forecasting import open_forecasts
from weatherdiff.models.folder import load_model
from weatherdiff.workflow import verify

INIT = "2020-01-30T06"


@pytest.fixture(scope="module")
def whole(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with a store, a model, a forecast and scores."""
    here = workshop.place(
        tmp_path_factory.mktemp("whole") / "site", "prepare", "forecast", "evaluate"
    )
    shutil.copytree(workshop.template / "run" / "model", here.folder / "run" / "model")
    return here.folder / "run"


@pytest.fixture
def output(whole: Path) -> Path:
    """The same; a test that damages it repairs it."""
    return whole


def read_forecast(path: Path) -> None:
    open_forecasts(path).load()


def read_store(path: Path) -> None:
    store = FieldStore.open(path)
    store.read(np.arange(len(store.times)))
    field_statistics(store, "2019-12-20", "2020-02-02")


READERS = {
    "fields.zarr": read_store,
    "model": load_model,
    f"forecasts/{INIT}.zarr": read_forecast,
    "scores.zarr": open_scores,
}


def files(path: Path) -> list[Path]:
    """All files but the lock, which is empty."""
    found = (file for file in path.rglob("*") if file.is_file())
    return sorted(file for file in found if file.suffix != ".lock")


def test_what_is_whole_is_sound(output: Path) -> None:
    lines = verify(output).splitlines()
    assert len(lines) == len(READERS)
    assert all(line.endswith("sound") for line in lines)
    with pytest.raises(MissingInputError):
        verify(output / "absent")


@pytest.mark.parametrize("part", READERS)
def test_every_file_that_is_deleted_is_named_by_verify_and_by_the_reader(
    output: Path, part: str
) -> None:
    path = output / part
    # A manifest names all that is lost, which then need not be lost one by one.
    bunch = 10 if (path / "manifest.json").exists() else 1
    found = [file for file in files(path) if file != path / "manifest.json"]
    bunches = [found[start : start + bunch] for start in range(0, len(found), bunch)]
    if bunch > 1:
        bunches.append([path / "manifest.json"])
    for files_lost in bunches:
        lost = {file: file.read_bytes() for file in files_lost}
        names = [file.relative_to(path).as_posix() for file in lost]
        for file in lost:
            file.unlink()
        for look in looking(part, names[0]):
            with pytest.raises(WeatherdiffError) as error:
                look(path)
            assert [name for name in names if name not in str(error.value)] == []
            assert error.value.exit_code in (65, 66, 74)
        for file, content in lost.items():
            file.write_bytes(content)
    verify(path)


def test_all_that_is_wrong_is_named_at_once(output: Path, tmp_path: Path) -> None:
    shutil.copytree(output, tmp_path / "run")
    forecast = tmp_path / "run" / "forecasts" / f"{INIT}.zarr"
    first, second, third = [f for f in files(forecast) if "/c/" in f.as_posix()][:3]
    first.unlink()
    second.write_bytes(second.read_bytes() + b"x")
    third.write_bytes(third.read_bytes()[::-1])
    (forecast / "extra").touch()
    (forecast / "link").symlink_to("/etc/passwd")
    with pytest.raises(InputError) as error:
        verify(forecast)
    for name in (first, second, third, forecast / "extra", forecast / "link"):
        assert name.relative_to(forecast).as_posix() in str(error.value)


def looking(part: str, name: str) -> list[Callable[[Path], Any]]:
    """What looks at a file: some are of use only where dates are added."""
    unread = ("/log/" in name) or name.startswith(("moments/seen/c/", "quality/looks/c/"))
    return [verify] if unread else [verify, READERS[part]]


def complaint(look: Callable[[Path], Any], path: Path) -> str:
    """What is said of damage; nothing if it is not found."""
    try:
        look(path)
    except WeatherdiffError as error:
        return str(error)
    except (RuntimeError, ValueError) as error:
        if look is not read_forecast:  # whose chunks xarray reads
            raise
        return str(error) or "damaged"
    return ""


@pytest.mark.parametrize("damage", ["a bit flipped", "a file cut"])
@pytest.mark.parametrize("count", [8, pytest.param(300, marks=pytest.mark.deep)])
@pytest.mark.parametrize("part", READERS)
def test_damage_is_found_before_use(output: Path, part: str, count: int, damage: str) -> None:
    rng = random.Random(f"{part} {damage}")  # noqa: S311
    path = output / part
    choices = files(path)
    silent = []
    for _ in range(count):
        file = rng.choice(choices)
        kept = file.read_bytes()
        changed = bytearray(kept)
        place = rng.randrange(len(kept))
        if damage == "a bit flipped":
            changed[place] ^= 1 << rng.randrange(8)
        else:
            del changed[place:]
        file.write_bytes(changed)
        name = file.relative_to(path).as_posix()
        for look in looking(part, name):
            found = complaint(look, path)
            if not found or (look is verify and name not in found):
                silent.append((look.__name__, name, place, found))
        file.write_bytes(kept)
    assert silent == []
