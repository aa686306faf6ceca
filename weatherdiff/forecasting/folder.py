"""A forecaster's parts in a model folder, and back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from weatherdiff.data.channels import Channels
from weatherdiff.data.normalization import Normalizer
from weatherdiff.data.windows import WindowSpec
from weatherdiff.errors import InputError
from weatherdiff.flow import Objective
from weatherdiff.grid import Grid
from weatherdiff.models.folder import load_model, save_model

if TYPE_CHECKING:
    from weatherdiff.forecasting.forecaster import Forecaster

__all__ = ["read_parts", "write_parts"]


def read_parts(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what :class:`weatherdiff.Forecaster` is made of.

    Raises
    ------
    MissingInputError
        There is no model.
    InputError
        It is damaged, or newer than this weatherdiff.
    """
    network, arrays, metadata = load_model(folder)
    generative: dict[str, Any] = {}
    try:
        if metadata["version"] > 1:
            generative = {
                "objective": Objective.from_dict(metadata["objective"]),
                "history_dropout": metadata["history_dropout"],
            }
        return {
            "network": network,
            "channels": Channels.from_dict(metadata["channels"]),
            "grid": Grid.from_dict(metadata["grid"]),
            "normalizer": Normalizer.from_dict(metadata["normalizer"], arrays),
            "spec": WindowSpec(**metadata["window"]),
            "forcings": tuple(metadata["forcings"]),
            "mask": arrays["mask"].astype(bool),
            "static": arrays["static"],
            "noise_scale": arrays["noise_scale"],
            "fill": metadata["fill"],
            "provenance": metadata["provenance"],
            **generative,
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"The model in {folder} lacks a part: {error}.") from error


def write_parts(
    forecaster: Forecaster, folder: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a model folder, visible only when whole.

    Raises
    ------
    StorageError
        The folder exists, or cannot be written.
    """
    spec = forecaster.spec
    save_model(
        folder,
        network=forecaster.network,
        arrays={
            **forecaster.normalizer.arrays(),
            "mask": forecaster.mask,
            "static": forecaster.static,
            "noise_scale": forecaster.noise_scale,
        },
        metadata={
            "channels": forecaster.channels.to_dict(),
            "grid": forecaster.grid.to_dict(),
            "normalizer": forecaster.normalizer.to_dict(),
            "window": {"history": spec.history, "frames": spec.frames, "step": spec.step},
            "forcings": list(forecaster.forcings),
            "fill": forecaster.fill,
            "objective": forecaster.objective.to_dict(),
            "history_dropout": forecaster.history_dropout,
            "provenance": dict(forecaster.provenance),
        },
        overwrite=overwrite,
    )
