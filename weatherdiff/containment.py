"""Whether names and paths of a stranger's folder stay inside of it."""

from __future__ import annotations

import os

__all__ = ["leads_out", "lies_in", "opened_in"]


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


def opened_in(file: int, name: str, folder: str) -> bool:
    """Tell whether an open file lies below a folder; what it was opened by may be a link.

    Parameters
    ----------
    file : int
        Its descriptor.
    name : str
        By which it was opened. It is followed link by link where the system does not tell what it
        opened, which costs twenty times as much.
    folder : str
        Without links.
    """
    try:
        place = os.readlink(f"/proc/self/fd/{file}")
    except OSError:
        place = ""
    return lies_in(place if place.startswith(os.sep) else os.path.realpath(name), folder)
