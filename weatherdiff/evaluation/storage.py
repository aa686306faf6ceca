"""Scores in a Zarr folder that is whole or not there, and runs that go on where they stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from weatherdiff.data.calendars import Calendar, on_axis
from weatherdiff.data.sources.zarr_guard import guarded_store
from weatherdiff.errors import InputError, MissingInputError, StorageError
from weatherdiff.evaluation.aggregate import merge_statistics, scores_from
from weatherdiff.evaluation.parts import read_part, write_part
from weatherdiff.sealed import MANIFEST, find_damage, find_extra, listed, unseal, write_manifest
from weatherdiff.staging import locked, remove_leftovers, staged

if TYPE_CHECKING:
    from weatherdiff.evaluation.alignment import Times
    from weatherdiff.evaluation.matching import Match

__all__ = ["StatisticsStore", "is_scores", "open_scores", "write_scores"]

_FORMAT = "weatherdiff scores"
_VERSION = 3  # 2 has no manifest
_FINGERPRINT = "scored_with"
_AGAIN = "again-"
_NEVER_NEGATIVE = ("sum_over", "sum_under", "sum_dispersion", "sum_weight", "sum_complete",
                   "sum_event_count", "sum_event_occurred")  # fmt: skip
# Attributes of forecasts that may differ from file to file.
_VOLATILE = ("history", "date")

logger = logging.getLogger(__name__)


def write_scores(scores: xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Write scores, or statistics, to a Zarr (version 3) folder.

    A reader never sees part of it, and finds whatever is lost or altered later: a manifest has the
    SHA-256 of every file. Scores that are there already are replaced; a failure leaves them as they
    were.

    Parameters
    ----------
    scores : xr.Dataset
        Result of :func:`~weatherdiff.evaluation.evaluate`.
    path : path
        Folder to make.

    Raises
    ------
    StorageError
        Writing failed, or ``path`` is something other than scores and is not replaced.
    """
    path = Path(path)
    if path.exists() and not is_scores(path):
        raise StorageError(f"{path} exists and does not hold scores; it is not replaced.")
    # The checksum after compression finds a flipped bit, which Zarr's default would read as data.
    codecs = {"compressors": [ZstdCodec(level=3), Crc32cCodec()]}
    # Encodings of a file the scores were read from do not apply; Zarr 3 has no fixed-width strings.
    marked = _strings_as(scores.drop_encoding(), object)
    marked = marked.assign_attrs(format=_FORMAT, format_version=_VERSION)
    with staged(path, overwrite=True) as temporary:
        marked.to_zarr(
            temporary,
            zarr_format=3,
            consolidated=False,
            encoding=dict.fromkeys(marked.variables, codecs),
        )
        with warnings.catch_warnings():
            # Without, zarr looks at all names in the folder, and warns of the manifest. That Zarr
            # v3 has no word on it is what it warns of here.
            warnings.simplefilter("ignore", UserWarning)
            zarr.consolidate_metadata(str(temporary))
        write_manifest(temporary, {"format": _FORMAT})


class StatisticsStore:
    """Statistics on disk while they are made: what is there is not made again.

    Each block's sums are a file beside the store, under a hidden name; the store itself is replaced
    once, when all are there. One process at a time may add to a store. Initial times that were
    scored before all their observations had come are scored again when more have.

    Parameters
    ----------
    path : path
        Zarr folder of the scores.
    matched : Match
        What is scored: sums that were made otherwise are refused.
    replace : bool
        Put new scores in the place of such sums, once they are whole, instead.

    Raises
    ------
    InputError
        ``path`` holds other scores.
    LockedError
        Another process adds to it.
    """

    def __init__(
        self, path: str | os.PathLike[str], matched: Match, *, replace: bool = False
    ) -> None:
        self.path, self._replace = Path(path), replace
        self._matched = matched
        self._fingerprint = _fingerprint(matched)
        self._parts = self.path.with_name(f".{self.path.name}.{self._fingerprint[:12]}.parts")
        self._stored: xr.Dataset | None = None

    def __enter__(self) -> Self:
        self._lock = locked(self.path)
        self._lock.__enter__()
        try:
            remove_leftovers(self.path.parent, of=self.path.name)
            self._stored = self._same_sums()
            self._tidy()
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def _same_sums(self) -> xr.Dataset | None:
        """Statistics that are stored, if they may be added to."""
        if not self.path.exists():
            return None
        try:
            stored = _statistics_of(open_scores(self.path))
            if stored.attrs.get(_FINGERPRINT) == self._fingerprint:
                return stored
        except InputError:  # of another version, say
            if not self._replace:
                raise
        self._refuse_unless_replaced()
        return None

    def _refuse_unless_replaced(self) -> None:
        if not self._replace:
            raise InputError(
                f"{self.path} holds scores of other forecasts or with other settings; remove it, "
                "or write to another folder."
            )

    def _tidy(self) -> None:
        """Remove parts that were merged before a run was killed, or lack observations by now."""
        stored, now = self._found(), _found(self._matched.inits, self._matched.index >= 0)
        for path in self._files():
            part = _found_in(read_part(path))
            merged = not any(_gains(stored.get(init), found) for init, found in part.items())
            late = any(_gains(found, now.get(init, found)) for init, found in part.items())
            # Maps of what was scored again have only what is new.
            alone = path.name.startswith(_AGAIN) and not set(part) <= set(stored)
            if merged or late or alone:
                path.unlink()

    def _found(self, *, parts: bool = False) -> dict[int, npt.NDArray[np.bool_]]:
        """Tell which valid times had observations, by initial time of what is stored."""
        found = {} if self._stored is None else _found_in(self._stored)
        for path in self._files() if parts else ():
            found |= _found_in(read_part(path))
        return found

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.__exit__(kind, error, trace)

    def confirm(self, score: Callable[[Match], xr.Dataset]) -> None:
        """Make sure that what is there is of the same forecasts, observations and references.

        One channel of one initial time is scored again, and must give the same. Parts of a run of
        other forecasts that was stopped are removed.

        Parameters
        ----------
        score : callable
            Sums of a match.

        Raises
        ------
        InputError
            The scores are others, and are not to be replaced.
        """
        if self._stored is not None and not self._reproduces(self._stored, score):
            self._refuse_unless_replaced()
            self._stored = None
            self._tidy()
        files = self._files()
        if files and not self._reproduces(read_part(files[0]), score):
            logger.warning("%s is of other forecasts and is removed.", self._parts)
            shutil.rmtree(self._parts)

    def _reproduces(self, known: xr.Dataset, score: Callable[[Match], xr.Dataset]) -> bool:
        matched, before = self._matched, _found_in(known)
        now = _found(matched.inits, matched.index >= 0)
        comparable = [
            position
            for position, (init, found) in enumerate(now.items())
            if init in before and np.array_equal(found, before[init])
        ]
        if not comparable:
            return True
        again = score(matched.sample(comparable[0]))
        # Sums in which nothing cancels, so that another processor's last digit does not matter.
        names = [n for n in map(str, again.data_vars) if n.startswith(_NEVER_NEGATIVE)]
        for name in names:
            labels = {d: again[d] for d in ("variable", "init_time", "event")
                      if d in again[name].dims}  # fmt: skip
            stored = known[name].sel(labels)
            if not np.allclose(stored, again[name], rtol=1e-6, atol=0, equal_nan=True):
                return False
        return True

    @property
    def notes(self) -> Path:
        """Folder for what a cluster notes of blocks that are begun."""
        return self._parts / "begun"

    def due(self) -> Match:
        """Give what is to be scored: initial times without sums, or with more observations now."""
        matched = self._matched
        known, stored = self._found(parts=True), self._found()
        now = _found(matched.inits, matched.index >= 0)
        due = np.array([_gains(known.get(init), found) for init, found in now.items()], bool)
        mapped = [stored.get(init, np.zeros_like(found)) for init, found in now.items()]
        return dataclasses.replace(matched, mapped=np.stack(mapped)).select(np.flatnonzero(due))

    def add(self, part: xr.Dataset) -> None:
        """Keep the sums of a block."""
        first = _on_axis(part["init_time"].values[:1], "s")[0]
        again = _AGAIN if self._found().keys() & _found_in(part).keys() else ""
        name = f"{again}{first}-{part.sizes['init_time']}.npz"
        with staged(self._parts / name, overwrite=True) as path:
            write_part(part, path)

    def publish(self) -> xr.Dataset:
        """Merge all sums, replace the store by them and their scores, and give them."""
        files, stored = self._files(), self._stored
        if not files and stored is not None:
            return stored
        kept = []
        if stored is not None:  # but for what was scored again
            again = set().union(*(_found_in(read_part(path)) for path in files))
            inits = _on_axis(stored["init_time"].values, "ns")
            kept = [stored.isel(init_time=[i for i, t in enumerate(inits) if t not in again])]
        merged = merge_statistics(chain(kept, map(read_part, files)))
        merged.attrs[_FINGERPRINT] = self._fingerprint
        estimator = "fair" if merged.attrs["members"] > 1 else "standard"
        write_scores(scores_from(merged, estimator=estimator), self.path)
        shutil.rmtree(self._parts, ignore_errors=True)
        return merged

    def _files(self) -> list[Path]:
        return sorted(self._parts.glob("[!.]*.npz"))


def _on_axis(times: Times, unit: str) -> list[int]:
    """Give times as integers, those of a climate model's calendar always in seconds."""
    axis = on_axis(times)
    if axis.dtype.kind == "M":
        axis = axis.astype(f"datetime64[{unit}]")
    return list(axis.astype(np.int64).tolist())


def _found(inits: Times, found: npt.NDArray[np.bool_]) -> dict[int, npt.NDArray[np.bool_]]:
    return dict(zip(_on_axis(inits, "ns"), found, strict=True))


def _found_in(sums: xr.Dataset) -> dict[int, npt.NDArray[np.bool_]]:
    return _found(sums["init_time"].values, sums["valid_time_found"].values)


def _gains(before: npt.NDArray[np.bool_] | None, now: npt.NDArray[np.bool_]) -> bool:
    """Tell whether an initial time has more valid times than before, or had none."""
    return before is None or bool((now & ~before).any())


def open_scores(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read scores into memory.

    Parameters
    ----------
    path : path
        Folder made by :func:`write_scores`.

    Returns
    -------
    xr.Dataset
        The scores written.

    Raises
    ------
    MissingInputError
        There is no such folder.
    InputError
        The folder does not hold scores, or those of another version of this package.
    StorageError
        Files are absent, extra, cut or altered; all are named.
    """
    path = Path(path)
    if not path.exists():
        raise MissingInputError(f"there are no scores at {path}.")
    if not is_scores(path):
        raise InputError(f"{path} does not hold scores.")
    sealed = _require_sound(path, _version(path))
    try:
        store = guarded_store(os.fspath(path))  # they may be a stranger's
        with xr.open_zarr(store, consolidated=sealed, chunks=None, decode_timedelta=True) as ds:
            store.require_possible()
            scores = _strings_as(ds.load().drop_encoding(), str)
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise StorageError(f"scores could not be read from {path}: {error}.") from error
    for name in ("format", "format_version"):
        del scores.attrs[name]
    return scores


def _version(path: Path) -> int | None:
    """Read the version of the format, if it can be read; refuse all but the two that are known."""
    try:
        version = json.loads((path / "zarr.json").read_text())["attributes"]["format_version"]
    except (KeyError, OSError, RecursionError, TypeError, ValueError):
        return None
    if version not in (2, _VERSION):
        raise InputError(
            f"{path / 'zarr.json'} says that the scores are of format version {version}, this "
            f"package reads {_VERSION}; install a newer one, or evaluate again."
        )
    return int(version)


def _require_sound(path: Path, version: int | None) -> bool:
    """Compare all files with the manifest; tell whether there is one."""
    try:
        if version == 2 and not (path / MANIFEST).exists():
            return False
        files = listed(unseal((path / MANIFEST).read_text()))
        damage = find_damage(path, files)
        damage += [f"{name} was not there when it was written" for name in find_extra(path, files)]
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        damage = [f"{MANIFEST} ({error})"]
    if damage:
        raise StorageError(f"scores could not be read from {path}: {'; '.join(damage)}.")
    return True


def _strings_as(ds: xr.Dataset, dtype: type) -> xr.Dataset:
    """Store texts as variable-length objects, or give them back as numpy's fixed-width ones."""
    # Through objects, because numpy casts no variable-length string to a fixed-width one.
    texts = {
        name: text.astype(object).astype(dtype)
        for name, text in ds.coords.items()
        if text.dtype.kind in "OTU" and name != "init_time"  # which may be dates of cftime
    }
    return ds.assign_coords(texts)


def is_scores(path: str | os.PathLike[str]) -> bool:
    """Tell whether a folder holds scores, also if one of its files is damaged."""
    for name in ("zarr.json", MANIFEST):
        try:
            document = json.loads(Path(path, name).read_text())
            if _FORMAT in (document.get("format"), document.get("attributes", {}).get("format")):
                return True
        except (AttributeError, OSError, RecursionError, ValueError):
            pass
    return False


def _statistics_of(scores: xr.Dataset) -> xr.Dataset:
    """Statistics alone, without the scores that follow from them."""
    kept = [
        name
        for name in scores.data_vars
        if str(name).startswith(("sum_", "map_", "cell_")) or name == "valid_time_found"
    ]
    attrs = {k: v for k, v in scores.attrs.items() if k not in ("inits", "period", "estimator")}
    return scores[kept].drop_attrs(deep=False).assign_attrs(attrs)


def _fingerprint(matched: Match) -> str:
    """Hash of all that must be the same for sums to be added, the fields' values apart."""
    settings = matched.settings
    content = {
        "channels": {channel.label: unit for channel, unit in matched.units.items()},
        "leads": matched.leads.astype(np.int64).tolist(),
        "members": matched.members,
        "regions": matched.regions,
        "weights": hashlib.sha256(matched.weights.tobytes()).hexdigest(),
        "references": {name: [type(reference).__name__, reference.members]
                       for name, reference in matched.references.items()},
        "nan": settings.nan,
        "events": [[event.label, event.variable, event.above] for event in settings.events],
        "climatology": settings.climatology is not None,
        "decomposition": settings.decomposition,
        "maps": settings.maps,
        "fields": [repr(statistic) for statistic in settings.fields],
        "forecasts": {
            str(name): str(value)
            for name, value in matched.forecasts.attrs.items()
            if not any(word in str(name).lower() for word in _VOLATILE)
        },
    }  # fmt: skip
    own = Calendar.of(matched.inits)
    if not own.standard:
        content["calendar"] = own.name
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
