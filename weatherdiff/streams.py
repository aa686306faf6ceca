"""Standard streams that are closed, full, or read by nobody: what is said is lost, and no more.

A job of cron may be started with ``2>&-``, its log may be on the disk that is full, and whoever
reads the output may have read enough (``| head -1``).
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from weatherdiff.errors import StorageError

__all__ = ["LineStream", "complain", "open_streams", "say"]


def open_streams() -> None:
    """Give a process the null device for each of its standard streams that is closed.

    The next files that are opened would else be given the numbers of these, and whatever is said
    would be written into them.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            _lead_nowhere(number)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def say(text: object) -> None:
    """Print a result to standard output, at once; nothing is wrong if nobody reads it.

    Raises
    ------
    StorageError
        It cannot be written: the disk is full.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        with suppress(OSError, ValueError):  # what is left would be written once more at the end
            _lead_nowhere(sys.stdout.fileno())
        if error.errno != errno.EPIPE:
            raise StorageError(f"Could not write the output: {error.strerror}.") from error


def complain(text: str) -> None:
    """Print to standard error, if that can be; that it cannot changes no exit code."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _lead_nowhere(number: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR)
    if opened == number:
        os.set_inheritable(number, True)
    else:
        os.dup2(opened, number)
        os.close(opened)


class LineStream(io.TextIOBase):
    r"""A stream that gives each line that is written to it to a function.

    Parameters
    ----------
    take : callable
        Given a line, without its end; empty ones are left out.
    number : int
        Of the file that stands behind it.

    Examples
    --------
    >>> stream = LineStream(print, 2)
    >>> _ = stream.write("one\ntw")
    one
    >>> stream.close()
    tw
    """

    def __init__(self, take: Callable[[str], object], number: int) -> None:
        self._take, self._number, self._rest = take, number, ""

    def write(self, text: str) -> int:
        """Take a text, which need not end with a line."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(None, lines):
            self._take(line)
        return len(text)

    def writable(self) -> bool:
        """Tell that it takes texts."""
        return True

    def fileno(self) -> int:
        """Give the number of the file, for other processes and for crashes."""
        return self._number

    def close(self) -> None:
        """Give what is left, which has no end."""
        if self._rest:
            self.write("\n")
        super().close()
