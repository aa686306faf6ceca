#!/usr/bin/env python
"""`.venv/bin/python slurm-dask.py` from cron: SLURM jobs draw the members of what is due.

The run itself stays here, and publishes; each job is a worker of dask. That needs `pip install
dask-jobqueue` (0.9), and a folder that the jobs see under the same name. A job that ends too early
costs the unit it was at, which another draws again. Change the folder, and what a job has.
"""

import os
import shlex
import signal
import subprocess
import sys

from dask_jobqueue import SLURMCluster

FOLDER = os.environ.get("WEATHERDIFF_FOLDER", "/srv/weatherdiff")
JOBS = 8
JOB = {
    "job_name": "weatherdiff-worker",
    "cores": 1,
    "processes": 1,
    "memory": "8GB",
    "walltime": "01:00:00",
    # In its own time, before SLURM ends it.
    "worker_extra_args": ["--lifetime", "55m", "--lifetime-stagger", "4m"],
    "python": shlex.quote(f"{FOLDER}/.venv/bin/python"),
    "job_script_prologue": [f"cd {shlex.quote(FOLDER)}"],
    "log_directory": f"{FOLDER}/log",
    # "queue": "short", "account": "weather", "interface": "ib0",
}


def main() -> int:
    """Make what is due; return the exit code of `weatherdiff batch`."""
    batch = [f"{FOLDER}/.venv/bin/weatherdiff", "batch", "batch.yaml"]
    plan = subprocess.run([*batch, "--dry-run"], cwd=FOLDER, stdout=subprocess.PIPE, text=True)
    if not any(line.startswith("due ") for line in plan.stdout.splitlines()):
        return run(batch)  # no job for nothing
    with SLURMCluster(**JOB) as cluster:
        cluster.scale(jobs=JOBS)
        return run([*batch, "--scheduler", cluster.scheduler_address])


def run(command: list[str]) -> int:
    """Run a command that is told of SIGTERM, and keeps what is done."""
    with subprocess.Popen(command, cwd=FOLDER) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        return process.wait()


if __name__ == "__main__":
    sys.exit(main())
