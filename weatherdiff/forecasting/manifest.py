"""What a forecast on disk consists of: the size and SHA-256 of every file, and how it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from weatherdiff.errors import InputError, MissingInputError, StorageError
from weatherdiff.sealed import seal, unseal

__all__ = [
    "MANIFEST",
    "Entry",
    "entry_of",
    "find_damage",
    "find_extra",
    "read_manifest",
    "write_manifest",
]

MANIFEST = "manifest.json"


class Entry(NamedTuple):
    """What is known of a file."""

    size: int
    sha256: str


def entry_of(file: Path) -> Entry:
    """Read a file for its size and hash."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return Entry(opened.tell(), digest)


def write_manifest(
    path: Path, record: Mapping[str, Any] | None = None, known: Mapping[str, Entry] | None = None
) -> None:
    """Write the manifest into a folder that is whole.

    Parameters
    ----------
    path : path
        The folder.
    record : mapping, optional
        How it was made, plain types; ``files`` is added.
    known : mapping, optional
        The files by their names relative to the folder; all are read unless given.
    """
    if known is None:
        known = {name: entry_of(path / name) for name in _names(path)}
    files = {name: {"bytes": e.size, "sha256": e.sha256} for name, e in sorted(known.items())}
    (path / MANIFEST).write_text(seal({**(record or {}), "files": files}))


def read_manifest(path: Path) -> tuple[dict[str, Any], dict[str, Entry]]:
    """Read the manifest of a folder: how it was made, and its files by name.

    Raises
    ------
    MissingInputError
        There is no such folder.
    InputError
        The manifest is absent, or damaged.
    """
    if not path.exists():
        raise MissingInputError(f"There is no forecast at {path}.")
    try:
        text = (path / MANIFEST).read_text(encoding="utf-8")
        document = json.loads(text)
        if set(document) != {"files"}:  # all there was before manifests were sealed
            document = unseal(text)
        files = {
            str(name): Entry(entry["bytes"], entry["sha256"])
            for name, entry in document.pop("files").items()
        }
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{path} has no {MANIFEST}: it is not a whole forecast of weatherdiff."
        ) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path / MANIFEST} is damaged: {error}.") from error
    return document, files


def find_damage(
    path: Path, files: Mapping[str, Entry], *, read: Callable[[str], bool] = lambda name: True
) -> list[str]:
    """Compare a folder with its manifest; return a sentence part for each difference.

    Parameters
    ----------
    path : path
        The folder.
    files : mapping
        From :func:`read_manifest`.
    read : callable, optional
        Which files to read and hash; the others are checked by size alone.

    Raises
    ------
    StorageError
        A file cannot be read.
    """
    found = []
    for name, (size, sha256) in files.items():
        file = path / name
        try:
            if not file.is_file():
                found.append(f"{name} is absent")
            elif file.stat().st_size != size:
                found.append(f"{name} has {file.stat().st_size} bytes, {size} were written")
            elif read(name) and entry_of(file).sha256 != sha256:
                found.append(f"{name} was altered (its SHA-256 differs)")
        except OSError as error:
            raise StorageError(f"Could not read {file}: {error.strerror}.") from error
    return found


def find_extra(path: Path, files: Mapping[str, Entry]) -> list[str]:
    """Name the files that were not there when the manifest was written."""
    return sorted(_names(path) - files.keys() - {MANIFEST})


def _names(path: Path) -> set[str]:
    return {
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_file() or file.is_symlink()
    }
