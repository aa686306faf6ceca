"""All verbs in a row."""

from __future__ import annotations

import os

from weatherdiff.config import Config
from weatherdiff.errors import ConfigError
from weatherdiff.workflow.fields import prepare
from weatherdiff.workflow.forecasting import forecast
from weatherdiff.workflow.training import train, training_settings
from weatherdiff.workflow.verification import evaluate, report

__all__ = ["run"]


def run(config: Config) -> str:
    """Do all of it, from the data to the report; return the table of scores.

    Raises
    ------
    ConfigError
        A store, model or forecast is there that was made with other settings.
    """
    from weatherdiff.evaluation import open_scores, score_table
    from weatherdiff.models.folder import load_model

    if config.data.prepare:
        prepare(config)
    if not config.model_folder.exists():
        train(config)
        if int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))):
            return ""  # this process was started to train
    known = load_model(config.model_folder).metadata["provenance"]["configuration"]
    try:  # what there was no choice of when it was trained has its default
        then = training_settings(Config.model_validate({**known, "output": config.output}))
    except ValueError:
        then = {}
    if then != training_settings(config):
        raise ConfigError(
            f"{config.model_folder} was trained with other settings; run train with --overwrite, "
            "or choose another output folder."
        )
    forecast(config)
    evaluate(config)
    report(config)
    return score_table(open_scores(config.scores))
