"""What a forecast on disk consists of: the size and SHA-256 of every file, and how it was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from weatherdiff.errors import InputError, MissingInputError
from weatherdiff.sealed import (
    MANIFEST,
    Entry,
    entry_of,
    find_damage,
    find_extra,
    listed,
    unseal,
    write_manifest,
)

__all__ = [
    "MANIFEST",
    "Entry",
    "entry_of",
    "find_damage",
    "find_extra",
    "read_manifest",
    "write_manifest",
]


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
        files = listed(document)
        del document["files"]
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{path} has no {MANIFEST}: it is not a whole forecast of weatherdiff."
        ) from None
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"{path / MANIFEST} is damaged: {error}.") from error
    return document, files
