"""Systems whose true predictive distribution is known, to prove forecasts against.

Whether an ensemble is calibrated can be tested on real data; whether it is *as good as possible*
only where the truth about the future's distribution is at hand. Two such systems emit gridded
fields that look like any other analysis:

- :class:`LinearStochasticField`: linear and Gaussian, so that predictive mean, standard
  deviation, predictability and the expected CRPS of the perfect forecast are closed forms;
- :class:`BetaPlaneChannel`: a chaotic flow with jets and eddies under random forcing, whose
  predictive distribution is sampled by restarting it from the emitted frame.

Both are Markov in what they emit: the last :attr:`Simulator.history` frames hold the whole state.
"""

from weatherdiff.data.simulator.channel import BetaPlaneChannel
from weatherdiff.data.simulator.linear import LinearStochasticField, SpectralVariable
from weatherdiff.data.simulator.simulation import Simulator, Variable

__all__ = [
    "BetaPlaneChannel",
    "LinearStochasticField",
    "Simulator",
    "SpectralVariable",
    "Variable",
]
