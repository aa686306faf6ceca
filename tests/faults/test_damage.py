"""A file that is lost, cut or altered in one bit is named by ``verify`` and used by no reader."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr

from weatherdiff.errors import InputError, MissingInputError
from weatherdiff.forecasting import open_forecasts
from weatherdiff.models.folder import load_model
from weatherdiff.workflow import verify

INIT = "2020-01-30T06"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the one forecast and the model of these tests are kept."""
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def output(runs: Callable, site: Callable, whole: Path) -> Path:
    """An output folder with a model and a forecast."""
    here = whole / "run"
    if not here.exists():
        made = site()
        command = ("batch", made.config, "--init", INIT, "--now", "2020-01-30T07")
        assert runs(*command)[0] == 0
        shutil.copytree(made.folder / "run", here)
    return here


def read_forecast(path: Path) -> xr.Dataset:
    return open_forecasts(path).load()


def parts(output: Path) -> dict[Path, Callable]:
    return {output / "model": load_model, output / "forecasts" / f"{INIT}.zarr": read_forecast}


def files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


def test_what_is_whole_is_sound(output: Path) -> None:
    lines = verify(output).splitlines()
    assert len(lines) == 2
    assert all(line.endswith("sound") for line in lines)
    with pytest.raises(MissingInputError):
        verify(output / "absent")


def test_every_file_that_is_deleted_is_named_by_verify_and_by_the_reader(output: Path) -> None:
    for path, reader in parts(output).items():
        for file in files(path):
            kept = file.read_bytes()
            file.unlink()
            name = file.relative_to(path).as_posix()
            with pytest.raises(InputError) as error:
                verify(output)
            assert name in str(error.value)
            with pytest.raises((InputError, MissingInputError)) as missing:
                reader(path)
            assert name in str(missing.value)
            file.write_bytes(kept)
    verify(output)


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


@pytest.mark.parametrize("damage", ["a bit flipped", "a file cut"])
@pytest.mark.parametrize("count", [30, pytest.param(300, marks=pytest.mark.deep)])
def test_damage_is_found_before_use(output: Path, damage: str, count: int) -> None:
    rng = random.Random(count)  # noqa: S311
    choices = [(f, path, reader) for path, reader in parts(output).items() for f in files(path)]
    silent = []
    for _ in range(count):
        file, path, reader = rng.choice(choices)
        kept = file.read_bytes()
        changed = bytearray(kept)
        if damage == "a bit flipped":
            place = rng.randrange(len(kept))
            changed[place] ^= 1 << rng.randrange(8)
        else:
            place = rng.randrange(len(kept))
            del changed[place:]
        file.write_bytes(changed)
        name = file.relative_to(path).as_posix()
        try:
            with pytest.raises(InputError) as error:
                verify(path)
            assert name in str(error.value)
            reader(path)
            silent.append((name, place))
        except (InputError, MissingInputError, ValueError, RuntimeError):
            pass
        finally:
            file.write_bytes(kept)
    assert silent == []
