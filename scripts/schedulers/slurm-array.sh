#!/bin/bash
# `sbatch slurm-array.sh`: eight jobs share the units (initial time, block of members) of what is
# due; the one that finds all done publishes. The folder must be on a file system with working locks.
#SBATCH --job-name=weatherdiff-batch
#SBATCH --array=1-8
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --requeue
set -eu
cd "${WEATHERDIFF_FOLDER:-/srv/weatherdiff}"
# exec: the signal that SLURM sends to this shell (B:) before the time is up must reach Python.
exec "${WEATHERDIFF:-.venv/bin/weatherdiff}" batch batch.yaml \
    --shard "${SLURM_ARRAY_TASK_ID}/${SLURM_ARRAY_TASK_COUNT}"
