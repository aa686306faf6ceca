"""Training with Lightning."""

from weatherdiff._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "FlowMatchingModule": "weatherdiff.training.module",
        "Optimization": "weatherdiff.training.module",
        "SafeCheckpointIO": "weatherdiff.training.checkpoint",
        "WindowDataModule": "weatherdiff.training.datamodule",
    },
)
