"""A model is a folder: ``weights.safetensors`` and ``model.json``.

It loads without pickle, without the code that trained it and without its configuration.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode

from weatherdiff.errors import InputError, MissingInputError, StorageError
from weatherdiff.models.denoiser import VideoDenoiser
from weatherdiff.sealed import SEAL, seal, unseal
from weatherdiff.staging import staged

__all__ = ["FORMAT_VERSION", "SavedModel", "load_model", "save_model"]

FORMAT = "weatherdiff model"
# 1 has no record of the objective, which was flow matching; 2 none of a variance, and no seal.
FORMAT_VERSION = 3
WEIGHTS, METADATA = "weights.safetensors", "model.json"
NETWORK, ARRAYS = "network.", "arrays."
_DEEPEST = 64  # blocks and levels of a network that is built from a file


class SavedModel(NamedTuple):
    """What a model folder holds.

    Attributes
    ----------
    network : VideoDenoiser
        In evaluation mode, on the CPU.
    arrays : dict
        Arrays that belong to the model (statistics, mask, static fields, calibration).
    metadata : dict
        All else: channels, grid, window, forcings, training period, provenance.
    """

    network: VideoDenoiser
    arrays: dict[str, npt.NDArray[Any]]
    metadata: dict[str, Any]


def save_model(
    folder: str | os.PathLike[str],
    *,
    network: VideoDenoiser,
    arrays: Mapping[str, npt.NDArray[Any]],
    metadata: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """Write a model folder, visible only when whole.

    Parameters
    ----------
    folder : path
    network : VideoDenoiser
    arrays, metadata : mapping
        As in :class:`SavedModel`; metadata must be plain types.
    overwrite : bool
        Replace a model that is there.

    Raises
    ------
    StorageError
        The folder exists, or cannot be written.
    """
    tensors = {NETWORK + k: v.contiguous() for k, v in network.state_dict().items()}
    tensors |= {ARRAYS + k: torch.from_numpy(np.array(v, order="C")) for k, v in arrays.items()}
    with staged(folder, overwrite=overwrite) as temporary:
        temporary.mkdir()
        try:
            save_file(tensors, temporary / WEIGHTS)
        except SafetensorError as error:  # as which it reports a full disk, too
            raise StorageError(f"Could not write {folder}: {error}.") from error
        document = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "architecture": network.arguments,
            "weights_sha256": _sha256(temporary / WEIGHTS),
            **metadata,
        }
        (temporary / METADATA).write_text(seal(document))


def load_model(folder: str | os.PathLike[str]) -> SavedModel:
    """Load a model folder.

    Raises
    ------
    MissingInputError
        There is no model.
    InputError
        A file is damaged or altered, or was written by a newer version.
    """
    folder = Path(folder)
    for name in (METADATA, WEIGHTS):
        if not (folder / name).is_file():
            raise MissingInputError(f"There is no model in {folder}: {name} is absent.")
    try:
        text = (folder / METADATA).read_text()
        metadata = json.loads(text)
    except (RecursionError, ValueError) as error:
        raise InputError(f"{folder / METADATA} is damaged: {error}.") from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise InputError(f"{folder / METADATA} does not describe a {FORMAT}.")
    version, checksum = metadata.get("version"), metadata.get("weights_sha256")
    if not isinstance(version, int) or not isinstance(metadata.get("architecture"), dict):
        raise InputError(f"{folder / METADATA} is damaged: version or architecture is absent.")
    if version > FORMAT_VERSION:
        raise InputError(
            f"{folder / METADATA} has format version {version}; this weatherdiff reads up to "
            f"{FORMAT_VERSION}. Upgrade weatherdiff."
        )
    if version > 2 or SEAL in metadata:
        try:
            metadata = unseal(text)
        except ValueError as error:
            raise InputError(f"{folder / METADATA} is damaged: {error}.") from error
    if _sha256(folder / WEIGHTS) != checksum:
        raise InputError(
            f"{folder / WEIGHTS} is not the file that {METADATA} was written for: its SHA-256 "
            "differs. It is damaged or was replaced; copy the model folder again."
        )
    try:
        _require_same_shapes(metadata["architecture"], folder / WEIGHTS)
        tensors = load_file(folder / WEIGHTS)
        network = VideoDenoiser(**metadata["architecture"])
        network.load_state_dict(
            {k.removeprefix(NETWORK): v for k, v in tensors.items() if k.startswith(NETWORK)}
        )
    except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"The model in {folder} cannot be loaded: {error}.") from error
    arrays = {k.removeprefix(ARRAYS): v.numpy() for k, v in tensors.items() if k.startswith(ARRAYS)}
    return SavedModel(network.eval(), arrays, metadata)


class _Uninitialised(TorchFunctionMode):
    """Leave out the random numbers a new network starts from."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Do what is asked, unless it is to initialise a tensor."""
        given = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def _require_same_shapes(architecture: Mapping[str, Any], weights: Path) -> None:
    """Refuse an architecture that is not that of the weights, before any of it is allocated."""
    size = architecture.get("size")
    depth = [size.get(key) for key in ("blocks", "levels")] if isinstance(size, dict) else []
    if any(not isinstance(number, int) or number > _DEEPEST for number in depth):
        raise ValueError(f"blocks and levels are {depth}, expected numbers up to {_DEEPEST}")
    with torch.device("meta"), _Uninitialised():  # shapes, and no memory
        sketch = VideoDenoiser(**architecture).state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in sketch.items()}
    with safe_open(weights, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(NETWORK)]  # noqa: SIM118
        found = {
            name.removeprefix(NETWORK): tuple(file.get_slice(name).get_shape()) for name in names
        }
    for name in expected.keys() | found.keys():
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"{name} has shape {found.get(name)} in {WEIGHTS} and {expected.get(name)} by the "
                f"architecture in {METADATA}"
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
