"""Whether names and paths of a stranger's folder stay inside of it."""

from __future__ import annotations

import os

__all__ = ["leads_out", "lies_in"]


def leads_out(name: str) -> bool:
    """Tell whether a name may lead out of the folder that it is given in.

    Examples
    --------
    >>> [leads_out(name) for name in ("a/b", "/a", "a/../../b", "a..b")]
    [False, True, True, False]
    """
    return name.startswith("/") or ".." in name.split("/") or "\0" in name


def lies_in(path: str, folder: str) -> bool:
    """Tell whether a path lies below a folder; both without links (:func:`os.path.realpath`).

    Examples
    --------
    >>> [lies_in(path, "/a") for path in ("/a/b", "/ab", "/a")]
    [True, False, False]
    """
    return path.startswith(folder.rstrip(os.sep) + os.sep)
