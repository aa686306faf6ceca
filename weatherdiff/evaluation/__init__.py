"""Probabilistic verification with xarray and numpy alone: scores, references, tables.

``evaluate`` compares a forecast data set with analyses and returns a data set of scores;
``summary`` and ``score_table`` say it in short; ``write_scores`` and ``open_scores`` keep it.
"""

from weatherdiff.evaluation.aggregate import merge_statistics, scores_from
from weatherdiff.evaluation.baselines import ClimatologyEnsemble, Persistence, Reference
from weatherdiff.evaluation.evaluate import evaluate, statistics
from weatherdiff.evaluation.scorecard import score_table, summary
from weatherdiff.evaluation.scores import (
    absolute_error_of_mean,
    crps_ensemble,
    ensemble_variance,
    error_of_mean,
    rank_of_observation,
    squared_error_of_mean,
)
from weatherdiff.evaluation.storage import open_scores, write_scores

__all__ = [
    "ClimatologyEnsemble",
    "Persistence",
    "Reference",
    "absolute_error_of_mean",
    "crps_ensemble",
    "ensemble_variance",
    "error_of_mean",
    "evaluate",
    "merge_statistics",
    "open_scores",
    "rank_of_observation",
    "score_table",
    "scores_from",
    "squared_error_of_mean",
    "statistics",
    "summary",
    "write_scores",
]
