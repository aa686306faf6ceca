"""The configuration of a run: one small YAML file, checked before anything starts."""

from weatherdiff.config.loading import load_config
from weatherdiff.config.run import Config
from weatherdiff.config.sections import Evaluation

__all__ = ["Config", "Evaluation", "load_config"]
