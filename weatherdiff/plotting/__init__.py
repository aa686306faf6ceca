"""Pictures of forecasts and scores, each a :class:`matplotlib.figure.Figure` of its own.

No figure touches pyplot, so nothing global is changed and nothing needs closing. Save one with
``figure.savefig("plume.png")``. Missing observations and masked cells are left blank or grey;
nothing is filled in, and nothing is downloaded.
"""

from weatherdiff.plotting.maps import plot_forecast_maps
from weatherdiff.plotting.plume import plot_plume
from weatherdiff.plotting.scores import plot_rank_histogram, plot_scores
from weatherdiff.plotting.spectrum import plot_spectrum, zonal_power

__all__ = [
    "plot_forecast_maps",
    "plot_plume",
    "plot_rank_histogram",
    "plot_scores",
    "plot_spectrum",
    "zonal_power",
]
