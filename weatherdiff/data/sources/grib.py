"""Open GRIB: one index of all messages, from which each field is read when it is needed."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import xarray as xr

from weatherdiff.data.sources.trust import require_fits
from weatherdiff.errors import ConfigError, InputError

__all__ = ["open_grib"]


def open_grib(path: str) -> list[xr.Dataset]:
    """Open a file lazily.

    Parameters
    ----------
    path : str
        Of this machine.

    Returns
    -------
    list of xr.Dataset
        One for each kind of level.

    Raises
    ------
    ConfigError
        The package that reads it is not installed.
    InputError
        It is truncated or damaged, or a field is too large to be read at once.
    """
    try:
        import cfgrib
        import eccodes
    except ImportError as error:
        raise ConfigError(
            f"{path} is GRIB, which needs `pip install 'weatherdiff[grib]'`."
        ) from error
    try:
        with open(path, "rb") as file:  # constant fields of any size have no bytes of their own
            while message := eccodes.codes_grib_new_from_file(file, headers_only=True):
                points = eccodes.codes_get(message, "numberOfDataPoints")
                eccodes.codes_release(message)
                require_fits(path, "a field", 8 * points)
        # Without an index file cfgrib reads through all messages once more for each variable. Not
        # beside the user's data; and it is a pickle: one that we have written ourselves. A damaged
        # message is not to be passed over.
        with tempfile.TemporaryDirectory(prefix="weatherdiff-index-") as folder, _quiet():
            keys = {"indexpath": f"{folder}/{{short_hash}}.idx", "errors": "raise"}
            found = cfgrib.open_datasets(path, backend_kwargs=keys)
    except (eccodes.CodesInternalError, EOFError) as error:
        raise InputError(
            f"{path} is truncated or damaged GRIB: {error}; fetch it again."
        ) from error
    return list(found)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep cfgrib from telling at length of an index that it cannot make: the error follows."""
    log = logging.getLogger("cfgrib.messages")

    def nothing(record: logging.LogRecord) -> bool:
        return False

    log.addFilter(nothing)
    try:
        yield
    finally:
        log.removeFilter(nothing)
