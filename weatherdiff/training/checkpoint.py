"""Lightning's training state as one safetensors file; no pickle is written or read."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from weatherdiff.errors import InputError, MissingInputError, StorageError
from weatherdiff.staging import staged

__all__ = ["SafeCheckpointIO"]

KEY = "weatherdiff_training_state"
SEAL = "sha256"


class SafeCheckpointIO(CheckpointIO):
    """Write a checkpoint as tensors plus JSON in one file, published by one rename.

    The nested training state keeps its shape: tensors are replaced by their names, tuples and
    dictionaries with other than string keys are tagged. Anything that is not a tensor, a number,
    a string, None or a container of these is refused when saving. The file carries the SHA-256 of
    all that is in it, so that training never goes on from an altered one.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write the state.

        Raises
        ------
        TypeError
            The state holds an object that has no safe form.
        StorageError
            The disk is full or not writable; the checkpoint that was there stays.
        """
        tensors: dict[str, Tensor] = {}
        document = json.dumps(_encode(checkpoint, tensors))
        with staged(path, overwrite=True) as temporary:
            try:
                metadata = {KEY: document, SEAL: _digest(document, tensors)}
                save_file(tensors, temporary, metadata=metadata)
            except SafetensorError as error:  # all that the system reports, a full disk too
                raise StorageError(f"Could not write {path}: {error}.") from error

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read the state.

        Raises
        ------
        MissingInputError
            No such local file; URLs are never followed.
        InputError
            The file is damaged, or not a checkpoint of weatherdiff (a pickle, for instance).
        """
        if not Path(path).is_file():
            raise MissingInputError(f"There is no checkpoint at {path}.")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                document = metadata[KEY]
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if SEAL in metadata and metadata[SEAL] != _digest(document, tensors):
                raise ValueError("its SHA-256 differs")
            return _decode(json.loads(document), tensors)
        except (SafetensorError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} is not a training checkpoint of weatherdiff, or is damaged: {error}."
            ) from error

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint; one that is gone already is fine."""
        Path(path).unlink(missing_ok=True)


def _digest(document: str, tensors: dict[str, Tensor]) -> str:
    total = hashlib.sha256(document.encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    match value:
        case Tensor():
            name = f"tensor_{len(tensors):06d}"
            tensors[name] = value.detach().cpu().clone().contiguous()
            return {"$tensor": name}
        case torch.dtype() | torch.device():
            return str(value)
        case None | bool() | int() | float() | str():
            return value
        case list():
            return [_encode(v, tensors) for v in value]
        case tuple():
            return {"$tuple": [_encode(v, tensors) for v in value]}
        case Path():
            return str(value)
        case dict() if all(isinstance(k, str) and not k.startswith("$") for k in value):
            return {k: _encode(v, tensors) for k, v in value.items()}
        case dict():
            return {"$dict": [[_encode(k, tensors), _encode(v, tensors)] for k, v in value.items()]}
        case _:
            raise TypeError(f"cannot store a {type(value).__name__} in a checkpoint: {value!r}")


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    match value:
        case {"$tensor": str(name)}:
            return tensors[name]
        case {"$tuple": list(items)}:
            return tuple(_decode(v, tensors) for v in items)
        case {"$dict": list(items)}:
            return {_decode(k, tensors): _decode(v, tensors) for k, v in items}
        case dict():
            return {k: _decode(v, tensors) for k, v in value.items()}
        case list():
            return [_decode(v, tensors) for v in value]
        case _:
            return value
