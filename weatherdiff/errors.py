"""The errors weatherdiff raises, each with the exit code the command line gives it.

The codes are those of BSD ``sysexits.h``, so that a scheduler can tell bad input (do not retry)
from input that is not there yet (retry later).
"""

__all__ = [
    "ConfigError",
    "DimensionError",
    "GridMismatchError",
    "InputError",
    "LockedError",
    "MissingInputError",
    "StorageError",
    "UnitsError",
    "WeatherdiffError",
]


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
