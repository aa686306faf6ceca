"""JSON documents that carry their own SHA-256, so that a flipped bit in one is found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["SEAL", "seal", "unseal"]

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
    document = json.loads(text)
    if not isinstance(document, dict) or SEAL not in document:
        raise ValueError(f"it has no {SEAL}")
    if seal(document) != text:
        raise ValueError("it was altered (its own SHA-256 differs)")
    del document[SEAL]
    return document
