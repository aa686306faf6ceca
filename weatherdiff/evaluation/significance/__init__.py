"""Is the difference real? Comparisons of scores with intervals that hold for persistent errors."""

from weatherdiff.evaluation.significance.bootstrap import block_bootstrap, block_length
from weatherdiff.evaluation.significance.comparison import compare
from weatherdiff.evaluation.significance.pooled import PooledScore
from weatherdiff.evaluation.significance.series import MeanDistribution, mean_distribution

__all__ = [
    "MeanDistribution",
    "PooledScore",
    "block_bootstrap",
    "block_length",
    "compare",
    "mean_distribution",
]
