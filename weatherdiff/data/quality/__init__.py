"""Quality control: fields that no atmosphere has, and frames unlike their neighbours."""

from weatherdiff.data.quality.control import control_quality
from weatherdiff.data.quality.examination import Examination, examine
from weatherdiff.data.quality.findings import (
    CHECKS,
    Finding,
    Quality,
    merge_findings,
    quality_table,
    refuse_findings,
)
from weatherdiff.data.quality.looks import Looker
from weatherdiff.data.quality.survey import looker_of, survey, without_infinite

__all__ = [
    "CHECKS",
    "Examination",
    "Finding",
    "Looker",
    "Quality",
    "control_quality",
    "examine",
    "looker_of",
    "merge_findings",
    "quality_table",
    "refuse_findings",
    "survey",
    "without_infinite",
]
