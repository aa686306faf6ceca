"""Reference forecasts, each in the layout of any other ensemble forecast.

- :class:`Persistence`: the last analysis;
- :class:`ClimatologyEnsemble`: training days of the season;
- :class:`SmoothClimatology`: harmonics of the year and the day, deterministic or an ensemble;
- :class:`AnalogEnsemble`: what followed the nearest training states;
- :class:`LinearInverseModel`: linear stochastic dynamics of the leading patterns;
- :class:`StoredForecast`: somebody else's forecasts.
"""

from weatherdiff.evaluation.baselines.analog import AnalogEnsemble
from weatherdiff.evaluation.baselines.climatology import ClimatologyEnsemble
from weatherdiff.evaluation.baselines.linear_inverse_model import LinearInverseModel
from weatherdiff.evaluation.baselines.persistence import Persistence
from weatherdiff.evaluation.baselines.reference import Reference
from weatherdiff.evaluation.baselines.smooth_climatology import SmoothClimatology
from weatherdiff.evaluation.baselines.stored import StoredForecast

__all__ = [
    "AnalogEnsemble",
    "ClimatologyEnsemble",
    "LinearInverseModel",
    "Persistence",
    "Reference",
    "SmoothClimatology",
    "StoredForecast",
]
