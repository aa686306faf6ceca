"""The errors weatherdiff raises, each with the exit code the command line gives it.

The codes are those of BSD ``sysexits.h``, so that a scheduler can tell bad input (do not retry)
from input that is not there yet (retry later).
"""

import errno

__all__ = [
    "DISK_ERRORS",
    "ConfigError",
    "DimensionError",
    "GridMismatchError",
    "InputError",
    "LockedError",
    "MissingInputError",
    "StorageError",
    "UnitsError",
    "WeatherdiffError",
    "exit_code_of",
]

#: What the system says when the trouble is with the disk or its limits, not with the data.
DISK_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EROFS,
    errno.EIO,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.EBUSY,
    errno.EFBIG,  # `ulimit -f`
    errno.EISDIR,
    errno.ELOOP,
    errno.EMFILE,  # `ulimit -n`
    errno.ENFILE,
    errno.ENOLCK,  # a network file system without locks
    errno.ENOTEMPTY,
    errno.EPERM,  # a file that may not be altered, even by root
    errno.ESTALE,  # a network file system whose server forgot the file
)


class WeatherdiffError(Exception):
    """Base of every error raised on purpose; its message is one clear sentence or two."""

    exit_code = 70


class InputError(WeatherdiffError):
    """The input was found and read, but cannot be used: NaN, truncated, wrong variable, ..."""

    exit_code = 65


class DimensionError(InputError):
    """A dimension is missing, unexpected, of the wrong size, or of unknown meaning."""


class UnitsError(InputError):
    """Units are absent, unknown, or not those of the variable."""


class GridMismatchError(InputError):
    """Two data sets that must share a grid do not."""


class MissingInputError(WeatherdiffError):
    """The input (a file, a store, a time) is not there; it may come later."""

    exit_code = 66


class StorageError(WeatherdiffError):
    """Reading or writing failed: disk full, permission, a checksum that does not match."""

    exit_code = 74


class LockedError(WeatherdiffError):
    """Another process is at work on the same output."""

    exit_code = 75


class ConfigError(WeatherdiffError):
    """The configuration or the command line is wrong."""

    exit_code = 78


def exit_code_of(error: BaseException) -> int:
    """Tell a scheduler what happened.

    Examples
    --------
    >>> exit_code_of(MissingInputError("Not yet.")), exit_code_of(KeyboardInterrupt())
    (66, 130)
    """
    match error:
        case WeatherdiffError():
            return error.exit_code
        case KeyboardInterrupt():
            return 130
        case SystemExit():
            return error.code if isinstance(error.code, int) else int(error.code is not None)
        case OSError() if error.errno in DISK_ERRORS:
            return StorageError.exit_code
        case _:
            return WeatherdiffError.exit_code
