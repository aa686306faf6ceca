"""The templates for schedulers, as far as can be told without the schedulers.

What is not tested: that cron, systemd and SLURM do as their manuals say.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

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
