"""Calibrated ensemble forecasts from anyone's gridded data, by flow matching.

The names below are imported when first used, so ``import weatherdiff`` is fast and loads no torch.
"""

from weatherdiff._lazy import lazy_names

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "FieldStore": "weatherdiff.data.store",
        "Forecaster": "weatherdiff.forecasting.forecaster",
        "compare": "weatherdiff.evaluation.significance.comparison",
        "evaluate": "weatherdiff.evaluation.evaluate",
        "load_config": "weatherdiff.config",
        "open_ensembles": "weatherdiff.data.ensembles",
        "open_fields": "weatherdiff.data.open",
        "open_forecasts": "weatherdiff.forecasting.writer",
        "plotting": "weatherdiff.plotting",
        "prepare": "weatherdiff.data.prepare",
        "train": "weatherdiff.workflow",
        "write_report": "weatherdiff.report",
    },
)
