"""Probabilistic verification with xarray and numpy alone: scores, references, tables.

``evaluate`` compares a forecast data set with analyses and returns a data set of scores;
``compare`` tells whether a difference is real; ``summary`` and ``score_table`` say it in short;
``open_scores`` reads what was kept. Functions of arrays, such as ``crps_ensemble``, take
``(forecast, observation)``.
"""

from weatherdiff.evaluation.aggregate import merge_statistics, scores_from
from weatherdiff.evaluation.baselines import (
    AnalogEnsemble,
    ClimatologyEnsemble,
    LinearInverseModel,
    Persistence,
    Reference,
    SmoothClimatology,
    StoredForecast,
)
from weatherdiff.evaluation.calibration import flatness_test, pit_histogram, reliability_index
from weatherdiff.evaluation.decomposition import (
    hersbach_decomposition,
    hersbach_distances,
    sample_climatology_crps,
)
from weatherdiff.evaluation.discrimination import (
    contingency_scores,
    contingency_table,
    relative_economic_value,
    roc_area,
    roc_curve,
)
from weatherdiff.evaluation.distributions import (
    crps_normal,
    log_score_normal,
    quantile_score,
    wasserstein_distance,
)
from weatherdiff.evaluation.estimators import crps_from_parts
from weatherdiff.evaluation.evaluate import evaluate, statistics
from weatherdiff.evaluation.events import Event
from weatherdiff.evaluation.exceedance import brier_score, event_probability, event_tables
from weatherdiff.evaluation.fields import (
    CRPSByScale,
    EnergyScore,
    FieldStatistic,
    FractionsSkillScore,
    PowerSpectra,
    VariogramScore,
)
from weatherdiff.evaluation.groups import hour_of, month_of, season_of
from weatherdiff.evaluation.multivariate import energy_score
from weatherdiff.evaluation.neighbourhood import fractions_skill_score
from weatherdiff.evaluation.percentiles import climatological_percentile, percentile_events
from weatherdiff.evaluation.ranks import pit, rank_of_observation
from weatherdiff.evaluation.regions import NAMED_REGIONS, latitude_bands, regions
from weatherdiff.evaluation.reliability import (
    brier_decomposition,
    brier_from_tables,
    corp_decomposition,
    reliability_diagram,
)
from weatherdiff.evaluation.scales import crps_by_scale
from weatherdiff.evaluation.scorecard import score_table, scorecard, scorecard_table, summary
from weatherdiff.evaluation.scores import (
    absolute_error_of_mean,
    crps_ensemble,
    crps_parts,
    ensemble_variance,
    error_of_mean,
    squared_error_of_mean,
    threshold_weighted_crps,
)
from weatherdiff.evaluation.settings import Settings
from weatherdiff.evaluation.significance import block_bootstrap, compare
from weatherdiff.evaluation.spectra import power_ratio, power_spectra
from weatherdiff.evaluation.storage import open_scores, write_scores
from weatherdiff.evaluation.variogram import variogram_score
from weatherdiff.evaluation.winds import vector_energy_score, vector_scores, with_wind_speed

__all__ = [
    "NAMED_REGIONS",
    "AnalogEnsemble",
    "CRPSByScale",
    "ClimatologyEnsemble",
    "EnergyScore",
    "Event",
    "FieldStatistic",
    "FractionsSkillScore",
    "LinearInverseModel",
    "Persistence",
    "PowerSpectra",
    "Reference",
    "Settings",
    "SmoothClimatology",
    "StoredForecast",
    "VariogramScore",
    "absolute_error_of_mean",
    "block_bootstrap",
    "brier_decomposition",
    "brier_from_tables",
    "brier_score",
    "climatological_percentile",
    "compare",
    "contingency_scores",
    "contingency_table",
    "corp_decomposition",
    "crps_by_scale",
    "crps_ensemble",
    "crps_from_parts",
    "crps_normal",
    "crps_parts",
    "energy_score",
    "ensemble_variance",
    "error_of_mean",
    "evaluate",
    "event_probability",
    "event_tables",
    "flatness_test",
    "fractions_skill_score",
    "hersbach_decomposition",
    "hersbach_distances",
    "hour_of",
    "latitude_bands",
    "log_score_normal",
    "merge_statistics",
    "month_of",
    "open_scores",
    "percentile_events",
    "pit",
    "pit_histogram",
    "power_ratio",
    "power_spectra",
    "quantile_score",
    "rank_of_observation",
    "regions",
    "relative_economic_value",
    "reliability_diagram",
    "reliability_index",
    "roc_area",
    "roc_curve",
    "sample_climatology_crps",
    "score_table",
    "scorecard",
    "scorecard_table",
    "scores_from",
    "season_of",
    "squared_error_of_mean",
    "statistics",
    "summary",
    "threshold_weighted_crps",
    "variogram_score",
    "vector_energy_score",
    "vector_scores",
    "wasserstein_distance",
    "with_wind_speed",
    "write_scores",
]
