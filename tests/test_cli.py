"""The command line: its verbs and options, and an exit code for each kind of trouble."""

from __future__ import annotations

import errno
import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from weatherdiff import errors
from weatherdiff.cli import VERBS, main
from weatherdiff.config import Config

CONFIG = str(Path(__file__).parents[1] / "configs" / "demo.yaml")
workflow = importlib.import_module("weatherdiff.workflow")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Config, dict[str, Any]]]:
    """Record what the command line calls instead of doing it."""
    calls: list[tuple[str, Config, dict[str, Any]]] = []

    def recorder(verb: str) -> Callable[..., str]:
        def call(config: Config, **options: Any) -> str:
            calls.append((verb, config, options))
            return f"result of {verb}"

        return call

    for verb in ("check", "train", "forecast", "report", "run"):
        monkeypatch.setattr(workflow, verb, recorder(verb))
    return calls


def test_help_names_every_verb_and_exit_code_and_loads_nothing_that_takes_long() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "weatherdiff.cli", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in loaded
    assert not loaded & {"torch", "xarray", "lightning", "pydantic"}
    for word in (*VERBS, "demo", "exit codes", "65", "66", "70", "74", "75", "78", "130/143"):
        assert re.search(rf"\b{word}\b", done.stdout), word


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert "--set KEY=VALUE" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["check", "forecast", "report", "run"])
def test_results_go_to_standard_output(
    called: list, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert main([verb, CONFIG, "--set", "output=runs/elsewhere"]) == 0
    ((name, config, _),) = called
    assert (name, config.output) == (verb, Path("runs/elsewhere"))
    assert f"result of {verb}" in capsys.readouterr().out


def test_options_of_forecast_replace_the_configuration(called: list) -> None:
    options = ["--members", "7", "--seed", "3", "--lead-time", "12h", "--sampler", "euler"]
    arguments = ["--steps", "9", "--init", "2018-07-20T06:00", "--overwrite"]
    assert main(["forecast", CONFIG, *options, *arguments]) == 0
    ((_, config, given),) = called
    found = config.forecast
    assert (found.members, found.seed, found.lead_time) == (7, 3, "12h")
    assert (found.sampler, found.steps, found.init_times) == ("euler", 9, ["2018-07-20T06:00"])
    assert given == {"overwrite": True}


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ([], {"resume": True, "overwrite": False}),
        (["--no-resume"], {"resume": False, "overwrite": False}),
        (["--overwrite"], {"resume": True, "overwrite": True}),
    ],
)
def test_options_of_train(called: list, options: list[str], given: dict[str, bool]) -> None:
    assert main(["train", CONFIG, *options]) == 0
    assert called[0][2] == given


def test_the_demo_runs_the_configuration_in_the_package(
    called: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--output", "here"]) == 0
    ((verb, config, _),) = called
    assert (verb, config.output, config.data.source) == ("run", Path("here"), "sample:uk-2018")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (errors.InputError("The sea is missing."), 65, "weatherdiff: The sea is missing."),
        (errors.UnitsError("Not kelvin."), 65, "Not kelvin."),
        (errors.DimensionError("No latitude."), 65, "No latitude."),
        (errors.GridMismatchError("Another grid."), 65, "Another grid."),
        (errors.MissingInputError("Not yet."), 66, "Not yet."),
        (errors.StorageError("Disk full."), 74, "Disk full."),
        (errors.LockedError("Busy."), 75, "Busy."),
        (errors.ConfigError("Wrong."), 78, "Wrong."),
        (OSError(errno.ENOSPC, "No space left on device"), 74, "No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_trouble_is_one_sentence_and_an_exit_code(
    error: BaseException,
    code: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(config: Config) -> str:
        raise error

    monkeypatch.setattr(workflow, "run", fail)
    assert main(["run", CONFIG]) == code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert sentence in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), OSError(errno.ENOENT, "oops")])
def test_a_bug_of_ours_shows_its_traceback_and_exits_with_70(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(config: Config) -> str:
        raise error

    monkeypatch.setattr(workflow, "run", fail)
    assert main(["run", CONFIG]) == 70
    captured = capsys.readouterr()
    assert "Traceback" in captured.err
    assert "bug of ours" in captured.err


def test_termination_keeps_its_own_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: Config, **options: Any) -> None:
        raise SystemExit(143)

    monkeypatch.setattr(workflow, "train", fail)
    with pytest.raises(SystemExit) as stop:
        main(["train", CONFIG])
    assert stop.value.code == 143


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "required: VERB"),
        (["run"], "required: config"),
        (["run", CONFIG, "--members", "3"], "unrecognized arguments"),
        (["forecast", CONFIG, "--members", "few"], "invalid int value"),
    ],
)
def test_wrong_usage_exits_with_78(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 78
    assert sentence in capsys.readouterr().err


def test_a_wrong_override_exits_with_78(called: list, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", CONFIG, "--set", "training.stepz=3"]) == 78
    assert "did you mean 'steps'?" in capsys.readouterr().err
    assert main(["forecast", CONFIG, "--lead-time", "25h"]) == 78
    assert "not a multiple" in capsys.readouterr().err
    assert main(["forecast", CONFIG, "--init", "noon"]) == 78
    assert called == []
