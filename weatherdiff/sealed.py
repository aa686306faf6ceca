"""What was written, known again: JSON documents and folders of files, by their SHA-256."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from weatherdiff.containment import leads_out, lies_in
from weatherdiff.errors import StorageError

__all__ = [
    "MANIFEST",
    "SEAL",
    "Entry",
    "entry_of",
    "find_damage",
    "find_extra",
    "listed",
    "seal",
    "unseal",
    "write_manifest",
]

#: Of a folder, in it: what it consists of.
MANIFEST = "manifest.json"

#: Key of the checksum; the last one of a sealed document.
SEAL = "sha256_of_the_rest"


def seal(document: Mapping[str, Any]) -> str:
    """Write a document as text that :func:`unseal` can check.

    Parameters
    ----------
    document : mapping
        What JSON can hold. An earlier seal is replaced.

    Examples
    --------
    >>> unseal(seal({"answer": 42}))
    {'answer': 42}
    >>> unseal(seal({"answer": 42}).replace("42", "43"))
    Traceback (most recent call last):
    ValueError: it was altered (its own SHA-256 differs)
    """
    rest = {key: value for key, value in document.items() if key != SEAL}
    digest = hashlib.sha256(json.dumps(rest).encode()).hexdigest()
    return json.dumps({**rest, SEAL: digest}, indent=1) + "\n"


def unseal(text: str) -> dict[str, Any]:
    """Read a sealed document.

    Raises
    ------
    ValueError
        It is not JSON, has no seal, or differs from what was written in any byte.
    """
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(document, dict) or SEAL not in document:
        raise ValueError(f"it has no {SEAL}")
    if seal(document) != text:
        raise ValueError("it was altered (its own SHA-256 differs)")
    del document[SEAL]
    return document


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


def listed(document: Mapping[str, Any]) -> dict[str, Entry]:
    """Give the files that a manifest lists, by name.

    Raises
    ------
    AttributeError, KeyError, TypeError
        It lists none.
    ValueError
        A name leads out of the folder.
    """
    for name in document["files"]:
        if leads_out(name):
            raise ValueError(f"the name {name!r} leads out of the folder")
    return {
        str(name): Entry(entry["bytes"], entry["sha256"])
        for name, entry in document["files"].items()
    }


def find_damage(
    path: Path, files: Mapping[str, Entry], *, read: Callable[[str], bool] = lambda name: True
) -> list[str]:
    """Compare a folder with its manifest; return a part of a sentence for each difference.

    Parameters
    ----------
    path : path
        The folder.
    files : mapping
        From :func:`listed`.
    read : callable, optional
        Which files to read and hash; the others are checked by size alone.

    Raises
    ------
    StorageError
        A file cannot be read.
    """
    found = []
    root = os.path.realpath(path)
    for name, (size, sha256) in files.items():
        file = path / name
        try:
            if not lies_in(os.path.realpath(file), root):
                found.append(f"{name} is a link that leads out of the folder")
            elif not file.is_file():
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
