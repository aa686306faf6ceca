"""From a trained model and an analysis to an ensemble forecast on disk."""

from weatherdiff._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Forecaster": "weatherdiff.forecasting.forecaster",
        "LinearObservations": "weatherdiff.forecasting.observations",
        "Sampling": "weatherdiff.forecasting.sampling",
        "open_forecasts": "weatherdiff.forecasting.writer",
        "open_observations": "weatherdiff.forecasting.observations",
        "open_products": "weatherdiff.forecasting.writer",
        "write_forecast": "weatherdiff.forecasting.writer",
    },
)
