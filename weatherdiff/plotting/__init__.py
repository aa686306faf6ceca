"""Pictures of forecasts and scores, each a :class:`matplotlib.figure.Figure` of its own.

No figure touches pyplot, so nothing global is changed and nothing needs closing. Save one with
``figure.savefig("plume.png")``. Missing observations and masked cells are left blank or grey;
nothing is filled in, and nothing is downloaded.
"""

from weatherdiff.plotting.breakdown import plot_scores_by
from weatherdiff.plotting.events import plot_economic_value, plot_reliability, plot_roc
from weatherdiff.plotting.maps import plot_forecast_maps
from weatherdiff.plotting.neighbourhoods import plot_fractions_skill
from weatherdiff.plotting.parts import plot_crps_parts
from weatherdiff.plotting.plume import plot_plume
from weatherdiff.plotting.power import plot_power
from weatherdiff.plotting.score_maps import plot_score_maps
from weatherdiff.plotting.scorecard import plot_scorecard
from weatherdiff.plotting.scores import plot_rank_histogram, plot_scores
from weatherdiff.plotting.spectrum import plot_spectrum
from weatherdiff.plotting.structure import plot_crps_by_scale, plot_joint_scores

__all__ = [
    "plot_crps_by_scale",
    "plot_crps_parts",
    "plot_economic_value",
    "plot_forecast_maps",
    "plot_fractions_skill",
    "plot_joint_scores",
    "plot_plume",
    "plot_power",
    "plot_rank_histogram",
    "plot_reliability",
    "plot_roc",
    "plot_score_maps",
    "plot_scorecard",
    "plot_scores",
    "plot_scores_by",
    "plot_spectrum",
]
