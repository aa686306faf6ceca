"""Open GRIB: one index of all messages, from which each field is read when it is needed."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import xarray as xr

from weatherdiff.data.sources.trust import require_fits
from weatherdiff.errors import ConfigError, InputError

__all__ = ["REPEATED", "open_grib"]

#: Attribute of a variable with fields that are in the file more than once; it says which.
REPEATED = "weatherdiff_repeated"

_KIND = ("paramId", "typeOfLevel", "stepType")


def open_grib(path: str) -> list[xr.Dataset]:
    """Open a file lazily.

    Parameters
    ----------
    path : str
        Of this machine.

    Returns
    -------
    list of xr.Dataset
        One for each kind of level. Of fields that are there more than once, any may be what a
        variable has: it then has the attribute :data:`REPEATED`.

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
            repeated = _repeated(path, keys["indexpath"])
    except (eccodes.CodesInternalError, EOFError) as error:
        raise InputError(
            f"{path} is truncated or damaged GRIB: {error}; fetch it again."
        ) from error
    for ds in found:
        for field in ds.data_vars.values():
            text = repeated.get(tuple(field.attrs.get(f"GRIB_{key}") for key in _KIND))
            if text is not None:
                field.attrs[REPEATED] = text
    return list(found)


def _repeated(path: str, index: str) -> dict[tuple[Any, ...], str]:
    """Kinds of fields of which some have the same time and place, and the first of these."""
    from cfgrib.dataset import open_fileindex
    from cfgrib.messages import FileStream

    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    known = open_fileindex(FileStream(path, errors="raise"), index)  # read: it is there by now
    for values, fields in known.field_ids_index:
        if len(fields) > 1:
            header = dict(zip(known.index_keys, values, strict=True))
            found.setdefault(tuple(header[key] for key in _KIND), []).append(header)
    return {
        kind: f"more than once are there {len(headers)}, the first that of "
        f"{headers[0]['dataDate']} at {headers[0]['dataTime']:04d}, step "
        f"{headers[0]['endStep']:g}, level {headers[0]['level:float']:g}"
        for kind, headers in found.items()
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep cfgrib from telling at length of what it cannot do: the error follows.

    Nor is what it will have to change for a later xarray of any use to who reads a file.
    """
    log = logging.getLogger("cfgrib.messages")

    def nothing(record: logging.LogRecord) -> bool:
        return False

    log.addFilter(nothing)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"cfgrib\.")
            yield
    finally:
        log.removeFilter(nothing)
