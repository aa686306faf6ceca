"""The verbs: from a configuration to stores, a model, forecasts, scores and a report.

This is the composition root. Each function builds the parts that a configuration asks for, passes
them plain values, and leaves its result under the configuration's ``output`` folder; the parts
below never see the configuration.
"""

from weatherdiff.workflow.batch import Request, batch, plan_text
from weatherdiff.workflow.benchmarking import bench_loading
from weatherdiff.workflow.checking import check, quality_lines
from weatherdiff.workflow.fields import open_source, prepare
from weatherdiff.workflow.forecasting import forecast, forecast_and_score
from weatherdiff.workflow.making import Share
from weatherdiff.workflow.running import run
from weatherdiff.workflow.status import status
from weatherdiff.workflow.training import fair_crps, train
from weatherdiff.workflow.verification import evaluate, report
from weatherdiff.workflow.verifying import verify

__all__ = [
    "Request",
    "Share",
    "batch",
    "bench_loading",
    "check",
    "evaluate",
    "fair_crps",
    "forecast",
    "forecast_and_score",
    "open_source",
    "plan_text",
    "prepare",
    "quality_lines",
    "report",
    "run",
    "status",
    "train",
    "verify",
]
