"""A tiny model, prepared once, and runs of it that can be hurt."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import yaml

from weatherdiff.data.loader import WindowDataset
from weatherdiff.data.store import FieldStore
from weatherdiff.forecasting.forecaster import Forecaster
from weatherdiff.models import VideoDenoiser


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat a test: a few times in every run, more often in the deep ones."""
    for marker in metafunc.definition.iter_markers("attempts"):
        name, quick, deep = marker.args
        more = [pytest.param(i, marks=pytest.mark.deep) for i in range(quick, deep)]
        metafunc.parametrize(name, [*range(quick), *more])


class Runs:
    """The command line in processes of their own, which fork in an instant."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "log"
        self._server = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "forks.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            # Of the runs, few compute much: numba would take each longer to load than to use.
            env={**os.environ, "no_proxy": "127.0.0.1", "WEATHERDIFF_NUMBA": "0"},
        )  # fmt: skip

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def start(
        self,
        *arguments: object,
        log: Path | None = None,
        program: str = "weatherdiff.cli",
        **fault: Any,
    ) -> int:
        """Start a run, or another program with a function ``main``; return its process."""
        run = [str(a) for a in arguments]
        log = log or self._log
        return self._ask(run=run, program=program, log=str(log), fault=fault)["pid"]

    def wait(self, pid: int) -> int:
        """Wait for the end of a run; return its exit code, or the negative signal."""
        return self._ask(wait=pid)["code"]

    def __call__(self, *arguments: object, **fault: Any) -> tuple[int, str]:
        """Run to the end; return the exit code and what was printed."""
        self._log.unlink(missing_ok=True)
        code = self.wait(self.start(*arguments, **fault))
        return code, self._log.read_text() if self._log.exists() else ""

    def load(self, *modules: str) -> None:
        """Import modules before there is a run that needs them."""
        self._ask(load=modules)

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(120)
        self._server.stdout.close()


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Start runs in child processes."""
    server = Runs(tmp_path_factory.mktemp("runs"))
    yield server
    server.close()


@dataclass(frozen=True)
class Site:
    """An output folder with a model, its configuration and its input."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "batch.yaml"

    @property
    def forecasts(self) -> Path:
        return self.folder / "run" / "forecasts"

    @property
    def visible(self) -> list[str]:
        """Names of what a reader sees of the forecasts."""
        names = (p.name for p in self.forecasts.glob("[!.]*")) if self.forecasts.exists() else ()
        return sorted(name for name in names if name != "ledger.json")

    @property
    def hidden(self) -> list[str]:
        """Names of what killed runs have left, but for locks, which stay."""
        found = (p.name for p in self.forecasts.glob(".*"))
        return sorted(name for name in found if not name.endswith(".lock"))

    def set(self, **batch: Any) -> None:
        """Change the section on scheduled runs."""
        document = yaml.safe_load(self.config.read_text())
        document["batch"] |= batch
        self.config.write_text(yaml.safe_dump(document))


NEEDS = {"prepare": (), "train": ("prepare",), "forecast": (), "evaluate": ("forecast",)}
MAKES = {
    "prepare": "fields.zarr", "train": "model", "forecast": "forecasts", "evaluate": "scores.zarr"
}  # fmt: skip


@dataclass
class Workshop:
    """What each verb makes, once and unhurt, and new places in which it is due."""

    runs: Runs
    template: Path
    folder: Path
    points: dict[str, list[str]] = field(default_factory=dict)

    def place(self, place: Path, *done: str) -> Site:
        """Lay out a folder in which these verbs are done."""
        place.mkdir()
        for verb in done:
            name = MAKES[verb]
            shutil.copytree(self.output(verb, self.whole(verb)), place / "run" / name)
        if "train" not in done and "prepare" not in done:  # these need no training
            shutil.copytree(self.template / "run" / "model", place / "run" / "model")
        document = configuration(
            place,
            self.folder / "analyses.nc",
            model={"size": "tiny", "dropout": 0.2},
            objective={"history_dropout": 0.3},
            evaluation={"baselines": ["persistence"]},
            training={
                "steps": 12, "batch_size": 6, "warmup": 3, "validate_every": 5, "ema_decay": 0.9,
                "validation_members": 2, "validation_windows": 6, "calibrate": False,
                "precision": "32-true", "devices": 1, "rotation": 0.4, "history_noise": 0.1,
            },
        )  # fmt: skip
        (place / "batch.yaml").write_text(yaml.safe_dump(document))
        return Site(place)

    def due(self, verb: str, place: Path, *, again: bool = False) -> Site:
        """Lay out a folder in which a verb is due; or has been, with what it made."""
        return self.place(place, *NEEDS[verb], *([verb] if again else ()))

    def output(self, verb: str, here: Site) -> Path:
        """Name what a verb makes."""
        return here.folder / "run" / MAKES[verb]

    def whole(self, verb: str) -> Site:
        """Give the folder of a run of a verb that was not hurt."""
        place = self.folder / verb
        if verb not in self.points:
            here = self.due(verb, place)
            count = self.folder / f"{verb}.points"
            code, text = self.runs(verb, here.config, count=str(count))
            assert code == 0, text
            self.points[verb] = json.loads(count.read_text())
        return Site(place)

    def made(self, verb: str, here: Site) -> dict[str, str]:
        """Hash what a verb has made, but for when, and of what it was made."""
        made = self.output(verb, here)
        but = ("zarr.json", "fields/files.json") if verb == "prepare" else ("model.json",)
        files = ((file.relative_to(made).as_posix(), file) for file in made.rglob("*"))
        return {
            name: hashlib.sha256(file.read_bytes()).hexdigest()
            for name, file in files
            if file.is_file() and name not in but
        }


def content(path: Path) -> dict[str, str]:
    """Hashes of all files of a forecast, but for what tells of folders, times and machines."""
    files = {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name != "manifest.json"
    }
    for name in {"zarr.json", "products/zarr.json"} & files.keys():
        root = json.loads(files[name])
        assert root["attributes"].pop("model")
        files[name] = json.dumps(root).encode()
    return {name: hashlib.sha256(text).hexdigest() for name, text in files.items()}


@pytest.fixture(scope="session")
def template(
    small_windows: dict[str, WindowDataset],
    small_store: FieldStore,
    session_analyses: xr.Dataset,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Give a model of random weights, an input file and a configuration to copy."""
    folder = tmp_path_factory.mktemp("template")
    windows = small_windows["training"]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = VideoDenoiser(
            frames=3,
            channels=len(small_store.channels),
            history=2,
            forcings=windows[0].forcings.shape[2],
            static=3 + len(small_store.static),
            size={"width": 8, "blocks": 1, "levels": 1},
        )
        for weights in network.parameters():
            torch.nn.init.normal_(weights, std=0.1)
    Forecaster(
        network=network.eval(),
        channels=small_store.channels,
        grid=small_store.grid,
        normalizer=small_store.normalizer,
        spec=windows.spec,
        forcings=("time_of_day",),
        mask=small_store.mask,
        static=windows[0].static[0].numpy(),
        noise_scale=np.ones((3, len(small_store.channels)), np.float32),
        fill=False,
        provenance={},
    ).save(folder / "run" / "model")
    session_analyses.sel(time=slice("2020-01-28", None)).to_netcdf(folder / "analyses.nc")
    return folder


def configuration(place: Path, source: Path, **sections: Any) -> dict[str, Any]:
    """What a run in a folder is asked for."""
    return {
        "output": str(place / "run"),
        "data": {"source": str(source)},
        "window": {"step": "6h", "history": 2, "frames": 3},
        "splits": {
            "training": ["2019-12-20", "2020-01-18"],
            "validation": ["2020-01-20", "2020-01-27"],
            "test": ["2020-01-29", "2020-02-02"],
        },
        "forcings": ["time_of_day"],
        "forecast": {
            "members": 5, "member_block": 2, "lead_time": "30h", "steps": 1,
            "precision": "fp32", "init_times": ["2020-01-30T06"],
        },
        "threads": 1,
        **sections,
    }  # fmt: skip


@pytest.fixture
def site(template: Path, tmp_path: Path) -> Callable[..., Site]:
    """Lay out an output folder."""
    count = iter(range(10**6))

    def make(folder: Path | None = None, *, members: int = 5, **batch: Any) -> Site:
        place = folder or tmp_path / f"site{next(count)}"
        shutil.copytree(template, place, dirs_exist_ok=True)
        batch = {"max_lateness": "8h", **batch}
        document = configuration(place, place / "analyses.nc", batch=batch)
        document["forecast"]["members"] = members
        (place / "batch.yaml").write_text(yaml.safe_dump(document))
        return Site(place)

    return make


@pytest.fixture(scope="session")
def workshop(
    runs: Runs, template: Path, session_analyses: xr.Dataset, tmp_path_factory: Any
) -> Workshop:
    """What each verb makes, and places to hurt it in."""
    folder = tmp_path_factory.mktemp("workshop")
    session_analyses.to_netcdf(folder / "analyses.nc")
    return Workshop(runs, template, folder)


@pytest.fixture(scope="session")
def hashes() -> Callable[[Path], dict[str, str]]:
    """Hash what is the same in every run."""
    return content


@pytest.fixture
def soon() -> Callable[[], float]:
    """Tell a moment at which all that start may begin at once."""
    return lambda: time.monotonic() + 1.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount file systems of so many kB; skip where that is not allowed."""
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", place]
        try:
            done = subprocess.run(command, capture_output=True).returncode == 0
        except FileNotFoundError:
            done = False
        if not done:
            pytest.skip("no file system may be mounted here")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    """What the tests of a file find out once."""
    return {}
