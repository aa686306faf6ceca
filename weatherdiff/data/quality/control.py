"""Quality control of fields that have just been written: tell, refuse, or make missing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from weatherdiff.data.calendars import Calendar
from weatherdiff.data.quality.examination import examine
from weatherdiff.data.quality.findings import Finding, Quality, quality_table, refuse_findings

if TYPE_CHECKING:
    from weatherdiff.data.storing.tasks import Job

__all__ = ["control_quality"]

logger = logging.getLogger(__name__)

COMPARED = 1024  # frames of a store that those that are added are compared with


def control_quality(job: Job, store: Path, quality: Quality, *, filled: bool) -> list[Finding]:
    """Look for faults in the new frames, tell of them, and refuse or mark them.

    Parameters
    ----------
    job : Job
        Whose fields are written.
    store : path
        Where they will be, for the message.
    quality : {"report", "refuse", "mark"}
    filled : bool
        Whether missing values are to be filled.

    Raises
    ------
    InputError
        There are faults, and they are to be refused.
    """
    if job.looker is None:
        return []
    first = max(0, job.kept - COMPARED)
    found = examine(
        lambda start, stop: job.looks(first + start, first + stop),
        job.times[first:],
        job.source.channels,
        job.looker,
        name_time=Calendar(job.calendar).iso,
        since=job.kept - first,
    )
    # missing values are told of elsewhere
    if any(finding.check != "missing" for finding in found.findings):
        logger.warning(
            "%s: quality control has found (data.quality is %s):\n%s",
            store, quality, "\n".join(quality_table(found.findings)),
        )  # fmt: skip
    if quality == "refuse":
        refuse_findings(found.findings, filled=filled)
    if quality == "mark":
        bad = np.concatenate([np.zeros((first, len(job.source.channels)), bool), found.bad])
        for index in job.indices:
            job.make_missing(index, bad)
    return found.findings
