"""Data: anyone's gridded fields in, normalised windows out.

The functions are imported from their modules when first used, so that ``import weatherdiff.data``
loads no torch.
"""

from weatherdiff._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Channels": "weatherdiff.data.channels",
        "FieldStore": "weatherdiff.data.store",
        "Normalizer": "weatherdiff.data.normalization",
        "Period": "weatherdiff.data.windows",
        "WindowSpec": "weatherdiff.data.windows",
        "open_ensembles": "weatherdiff.data.ensembles",
        "open_fields": "weatherdiff.data.open",
        "samples": "weatherdiff.data.samples",
        "simulator": "weatherdiff.data.simulator",
    },
)
