"""The templates for schedulers, as far as can be told without the schedulers.

What is not tested: that cron, systemd and SLURM do as their manuals say. For jobs of dask-jobqueue,
where that is installed, ``sbatch`` and ``scancel`` are stood in for by a shell that runs the job at
once on this machine: queues, limits of time and memory, and networks between nodes are not tested.
"""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from weatherdiff.cli import _parser

TEMPLATES = Path(__file__).parents[2] / "scripts" / "schedulers"


def parse(command: str) -> str:
    """Let the command line read what a template calls; return the configuration it names."""
    _, *arguments = shlex.split(command)
    options = _parser().parse_args(arguments)
    assert options.verb == "batch"
    return options.config


def test_the_crontab_calls_batch() -> None:
    lines = (TEMPLATES / "crontab").read_text().splitlines()
    jobs = [line for line in lines if re.match(r"[*\d]", line)]
    assert len(jobs) == 1
    *when, command = jobs[0].split(maxsplit=5)
    assert all(re.fullmatch(r"[*/\d,-]+", field) for field in when)
    folder, call = command.split(" && ")
    assert folder.startswith("cd /")
    assert "%" not in command  # which cron takes for the end of the line
    assert parse(call.partition(" 2>>")[0]) == "batch.yaml"


def test_the_systemd_units_call_batch() -> None:
    units = {}
    for name in ("service", "timer"):
        units[name] = configparser.ConfigParser(interpolation=None)
        units[name].optionxform = str  # type: ignore[assignment,method-assign]
        units[name].read(TEMPLATES / f"weatherdiff-batch.{name}")
    service = units["service"]["Service"]
    assert parse(service["ExecStart"]) == "batch.yaml"
    assert service["ExecStart"].startswith(service["WorkingDirectory"] + "/")
    assert service["SuccessExitStatus"].split() == ["66", "75"]
    assert units["timer"]["Timer"]["OnCalendar"] == "*:0/10"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_no_fault_with_the_units(tmp_path: Path) -> None:
    for kind in ("service", "timer"):
        text = (TEMPLATES / f"weatherdiff-batch.{kind}").read_text()
        text = text.replace("/srv/weatherdiff/.venv/bin/weatherdiff", "/bin/true")
        text = text.replace("/srv/weatherdiff", str(tmp_path))
        (tmp_path / f"weatherdiff-batch.{kind}").write_text(text)
    command = ["systemd-analyze", "verify", tmp_path / "weatherdiff-batch.timer"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_job_of_the_slurm_array_makes_its_share(tmp_path: Path) -> None:
    script = TEMPLATES / "slurm-array.sh"
    subprocess.run(["bash", "-n", script], check=True)
    heads = re.findall(r"^#SBATCH (--[a-z-]+)(?:=(\S+))?$", script.read_text(), re.MULTILINE)
    assert dict(heads)["--array"] == "1-8"
    environment = {
        **os.environ,
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_ARRAY_TASK_COUNT": "8",
        "WEATHERDIFF": "/bin/echo",
        "WEATHERDIFF_FOLDER": str(tmp_path),
    }
    done = subprocess.run([script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "batch batch.yaml --shard 3/8\n"
    assert parse(f"weatherdiff {done.stdout}") == "batch.yaml"


JOBQUEUE = importlib.util.find_spec("dask_jobqueue") is not None

STAND_IN = """
from pathlib import Path
class SLURMCluster:
    def __init__(self, **job):
        Path("asked").write_text(repr(sorted(job)))
        self.scheduler_address = "tcp://10.0.0.1:8786"
    def __enter__(self):
        return self
    def __exit__(self, *_):
        Path("asked").write_text(Path("asked").read_text() + " closed")
    def scale(self, jobs):
        Path("asked").write_text(Path("asked").read_text() + f" {jobs}")
"""


@pytest.mark.parametrize(
    ("plan", "code"), [("due       2018-07-20T06:00Z", 66), ("nothing is due", 0)]
)
def test_the_dask_template_starts_jobs_only_for_what_is_due(
    tmp_path: Path, plan: str, code: int
) -> None:
    program = tmp_path / ".venv" / "bin" / "weatherdiff"
    program.parent.mkdir(parents=True)
    program.write_text(
        f'#!/bin/sh\necho "$@" >> calls\n[ "$3" = --dry-run ] && echo "{plan}" || exit {code}\n'
    )
    program.chmod(0o755)
    (tmp_path / "dask_jobqueue.py").write_text(STAND_IN)
    done = subprocess.run(
        [sys.executable, TEMPLATES / "slurm-dask.py"], cwd=tmp_path,
        env={**os.environ, "WEATHERDIFF_FOLDER": str(tmp_path), "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    first, second = (tmp_path / "calls").read_text().splitlines()
    assert done.returncode == code
    assert parse(f"weatherdiff {first}") == parse(f"weatherdiff {second}") == "batch.yaml"
    asked = tmp_path / "asked"
    if code:
        assert second == "batch batch.yaml --scheduler tcp://10.0.0.1:8786"
        assert asked.read_text().endswith(" 8 closed")
    else:
        assert second == "batch batch.yaml"
        assert not asked.exists()


@pytest.mark.skipif(not JOBQUEUE, reason="dask-jobqueue is not installed")
def test_the_job_of_the_dask_template_is_a_script_that_starts_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dask_jobqueue.slurm import SLURMJob

    monkeypatch.setenv("WEATHERDIFF_FOLDER", str(tmp_path))
    spec = importlib.util.spec_from_file_location("template", TEMPLATES / "slurm-dask.py")
    assert spec is not None
    assert spec.loader is not None
    template = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(template)
    text = SLURMJob("tcp://10.0.0.1:8786", "0", **template.JOB).job_script()
    (tmp_path / "job.sh").write_text(text)
    subprocess.run(["bash", "-n", tmp_path / "job.sh"], check=True)
    assert "#SBATCH --cpus-per-task=1\n" in text
    assert "#SBATCH -t 01:00:00\n" in text
    command = text.splitlines()[-1]
    assert command.startswith(f"{tmp_path}/.venv/bin/python -m distributed.cli.dask_worker tcp:")
    assert "--nthreads 1" in command
    assert "--lifetime 55m" in command
    assert f"\ncd {tmp_path}\n" in text


@pytest.mark.deep
@pytest.mark.skipif(not JOBQUEUE, reason="dask-jobqueue is not installed")
def test_jobs_of_the_dask_template_draw_what_is_due(
    site: Callable, runs: Callable, hashes: Callable, tmp_path: Path
) -> None:
    expected, here = site(), site()
    now = ("--now", "2020-01-30T07:00", "--max-lateness", "2h")
    assert runs("batch", expected.config, *now)[0] == 0
    tools = here.folder / ".venv" / "bin"
    tools.mkdir(parents=True)
    programs = {
        "sbatch": 'setsid bash "$1" > /dev/null 2>&1 &\necho Submitted batch job $!',
        "scancel": 'kill -- -"$1"',
        "python": f'exec {sys.executable} "$@"',
        "weatherdiff": f'exec {sys.executable} -m weatherdiff.cli "$@" {" ".join(now)}',
    }
    for name, text in programs.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    template = (TEMPLATES / "slurm-dask.py").read_text().replace("JOBS = 8", "JOBS = 1")
    (here.folder / "slurm-dask.py").write_text(template)
    done = subprocess.run(
        [sys.executable, here.folder / "slurm-dask.py"], cwd=here.folder, text=True,
        stderr=subprocess.PIPE, timeout=600,
        env={
            **os.environ, "WEATHERDIFF_FOLDER": str(here.folder),
            "PATH": f"{tools}:{os.environ['PATH']}",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert here.visible == expected.visible
    for name in here.visible:
        assert hashes(here.forecasts / name) == hashes(expected.forecasts / name)


def test_slurm_signals_the_shell_that_became_the_run_not_its_steps_alone() -> None:
    text = (TEMPLATES / "slurm-array.sh").read_text()
    assert re.search(r"^#SBATCH --signal=B:TERM@\d+$", text, re.MULTILINE)
    assert re.search(r"^exec ", text, re.MULTILINE)


def test_a_folder_of_the_dask_template_may_have_spaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my forecasts"
    monkeypatch.setenv("WEATHERDIFF_FOLDER", str(folder))
    monkeypatch.setitem(sys.modules, "dask_jobqueue", SimpleNamespace(SLURMCluster=None))
    job = runpy.run_path(str(TEMPLATES / "slurm-dask.py"), run_name="template")["JOB"]
    assert shlex.split(job["python"]) == [f"{folder}/.venv/bin/python"]
    assert [shlex.split(line) for line in job["job_script_prologue"]] == [["cd", str(folder)]]
