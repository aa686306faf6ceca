"""Scores in a Zarr folder that is whole or not there."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import xarray as xr
from zarr.codecs import Crc32cCodec, ZstdCodec

from weatherdiff.errors import InputError, MissingInputError, StorageError

__all__ = ["open_scores", "write_scores"]

_FORMAT = "weatherdiff scores"
_VERSION = 1


def write_scores(scores: xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Write scores, or statistics, to a Zarr (version 3) folder.

    The folder is written beside ``path`` under a hidden name and then renamed, so that a reader
    never sees part of it. Scores that are there already are replaced: a failure leaves them as
    they were, and a crash between the two renames leaves them, whole, under a hidden name.

    Parameters
    ----------
    scores : xr.Dataset
        Result of :func:`~weatherdiff.evaluation.evaluate`.
    path : path
        Folder to make; its parent exists.

    Raises
    ------
    StorageError
        Writing failed, or ``path`` is something other than scores and is not replaced.
    """
    path = Path(path)
    if path.exists() and not _is_scores(path):
        raise StorageError(f"{path} exists and does not hold scores; it is not replaced.")
    # The checksum after compression finds a flipped bit, which Zarr's default would read as data.
    codecs = {"compressors": [ZstdCodec(level=3), Crc32cCodec()]}
    # Encodings of a file the scores were read from do not apply; Zarr 3 has no fixed-width strings.
    marked = _strings_as(scores.drop_encoding(), object)
    marked = marked.assign_attrs(format=_FORMAT, format_version=_VERSION)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
            staged = Path(scratch, "new")
            # Outside the scratch folder, whose removal must not take the former scores along.
            former = Path(f"{scratch}.former")
            marked.to_zarr(
                staged,
                zarr_format=3,
                consolidated=False,
                encoding=dict.fromkeys(marked.variables, codecs),
            )
            if path.exists():
                path.rename(former)
            try:
                staged.rename(path)
            except OSError:
                if former.exists():
                    former.rename(path)
                raise
            if former.exists():
                shutil.rmtree(former)
    except OSError as error:
        raise StorageError(f"scores could not be written to {path}: {error}.") from error


def open_scores(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read scores into memory.

    Parameters
    ----------
    path : path
        Folder made by :func:`write_scores`.

    Returns
    -------
    xr.Dataset
        The scores written.

    Raises
    ------
    MissingInputError
        There is no such folder.
    InputError
        The folder does not hold scores, or those of a newer version of this package.
    StorageError
        A stored value does not match its checksum.
    """
    path = Path(path)
    if not path.exists():
        raise MissingInputError(f"there are no scores at {path}.")
    if not _is_scores(path):
        raise InputError(f"{path} does not hold scores.")
    try:
        with xr.open_zarr(path, consolidated=False, chunks=None, decode_timedelta=True) as ds:
            version = ds.attrs["format_version"]
            if version > _VERSION:
                raise InputError(
                    f"{path} has scores of format version {version}, this package reads up to "
                    f"{_VERSION}; install a newer one."
                )
            scores = _strings_as(ds.load().drop_encoding(), str)
    except (OSError, RuntimeError, ValueError) as error:
        raise StorageError(f"scores could not be read from {path}: {error}.") from error
    for name in ("format", "format_version"):
        del scores.attrs[name]
    return scores


def _strings_as(ds: xr.Dataset, dtype: type) -> xr.Dataset:
    """Store texts as variable-length objects, or give them back as numpy's fixed-width ones."""
    # Through objects, because numpy casts no variable-length string to a fixed-width one.
    texts = {
        name: text.astype(object).astype(dtype)
        for name, text in ds.coords.items()
        if text.dtype.kind in "OTU"
    }
    return ds.assign_coords(texts)


def _is_scores(path: Path) -> bool:
    try:
        root = json.loads(Path(path, "zarr.json").read_text())
    except (OSError, ValueError):
        return False
    return bool(root.get("attributes", {}).get("format") == _FORMAT)
