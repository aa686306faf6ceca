"""From ensembles to scores and a report."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import xarray as xr

from weatherdiff.config import Config
from weatherdiff.progress import progress_bar
from weatherdiff.workflow.fields import open_source
from weatherdiff.workflow.record import seconds_spent, timed, write_json

__all__ = ["evaluate", "report"]


def evaluate(
    config: Config,
    *,
    forecasts: str | None = None,
    scores: str | None = None,
    scheduler: str | None = None,
) -> xr.Dataset:
    """Score forecasts beside the baselines; write the scores and the summary.

    What is scored already is not scored again; new initial times are added.

    Parameters
    ----------
    config : Config
    forecasts : str, optional
        Anybody's forecasts, see :func:`weatherdiff.scoring.open_any_forecasts`; those of the output
        folder unless given.
    scores : str, optional
        Where to write; the output folder's ``scores.zarr`` unless given.
    scheduler : str, optional
        Address of a dask scheduler; threads of this process unless given.

    Raises
    ------
    StorageError
        There is no cluster at the address, or it had no workers for ``worker_timeout``.
    """
    from weatherdiff import scoring
    from weatherdiff.evaluation import open_scores, statistics, summary

    options, period = config.evaluation, config.splits.training
    ds = open_source(config)
    opened = scoring.open_any_forecasts(forecasts or config.forecasts)
    path = Path(scores) if scores else config.scores
    config.output.mkdir(parents=True, exist_ok=True)
    with (
        timed(config, "evaluate"),
        progress_bar("evaluate", "initial times") as progress,
        scoring.executor_of(scheduler, options.workers, config.worker_timeout) as executor,
    ):
        statistics(
            opened,
            ds,
            reference=scoring.baselines(options, ds, period),
            settings=scoring.score_settings(options, ds, period, config.thresholds),
            store=path,
            # The output folder's own scores follow its forecasts.
            replace=path == config.scores,
            executor=executor,
            progress=progress,
        )
    result = open_scores(path)
    if path == config.scores:
        write_json(config.summary, {**summary(result), "seconds": seconds_spent(config)})
    return result


def report(config: Config) -> Path:
    """Write the HTML report, after evaluating if that has not been done."""
    from weatherdiff.evaluation import open_scores
    from weatherdiff.forecasting.writer import open_forecasts
    from weatherdiff.report import write_report
    from weatherdiff.scoring import comparisons

    if not config.scores.exists():
        evaluate(config)
    model = json.loads((config.model_folder / "model.json").read_text())
    ds = open_source(config)
    scores = open_scores(config.scores)
    write_report(
        config.report_page,
        scores=scores,
        references=comparisons(scores),
        forecasts=open_forecasts(config.forecasts),
        observations=ds,
        provenance={
            **model["provenance"],
            "seconds": seconds_spent(config),
            "computer": {"python": platform.python_version(), "machine": platform.platform()},
        },
        title=config.report.title or "Ensemble forecast",
        points=config.report.points or None,
    )
    return config.report_page
