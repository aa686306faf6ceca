"""References to chunks inside of other files, as kerchunk and VirtualiZarr write them.

Such a document (JSON, or a folder of Parquet) is a Zarr store whose chunks are parts of other
files. It can name any file of the machine and any host, so it is not handed to fsspec's reference
file system, which follows whatever it is told to. Here

- a local document may name files in its own folder and below, and URLs of http, s3 and gs;
- one that came from afar may name such URLs only;
- templates are names that are put in, nothing is evaluated, and generated references are refused;
- the metadata and every chunk are then looked at as those of any Zarr store are.

References
----------
The specification of the format: https://fsspec.github.io/kerchunk/spec.html
"""

from __future__ import annotations

import base64
import json
import os
import posixpath
import re
import stat
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from weatherdiff.containment import leads_out, lies_in
from weatherdiff.data.sources.remote import (
    Patience,
    file_system,
    require_length,
    require_no_secret,
)
from weatherdiff.data.sources.trust import require_fits
from weatherdiff.errors import ConfigError, InputError, MissingInputError

__all__ = ["ReferenceStore", "read_references"]

PROTOCOLS = ("http", "https", "s3", "s3a", "gs", "gcs")
_TEMPLATE = re.compile(r"\{\{\s*(\w+)\s*\}\}")

#: Bytes in the document itself, or (URL or path, offset or None, length or None).
Reference = bytes | tuple[str, int | None, int | None]


def read_references(document: str | os.PathLike[str], name: str) -> dict[str, Reference]:
    """Read a document of references.

    Parameters
    ----------
    document : path
        JSON, or a folder of Parquet, here on this machine.
    name : str
        Where it came from, for messages.

    Returns
    -------
    dict
        For each key of the store what it refers to, as the document says it.

    Raises
    ------
    InputError
        It is damaged, of another version, or has references that are generated.
    ConfigError
        It is Parquet, and no package that reads it is installed.
    """
    path = Path(document)
    if path.is_dir():
        return _parquet(path, name)
    require_fits(name, "the document of references", 8 * path.stat().st_size)
    try:
        content = json.loads(path.read_bytes())
        version = content.get("version", 1 if "refs" in content else 0)
        if version not in (0, 1):
            raise InputError(f"{name} is of version {version}; known are 0 and 1.")
        if content.get("gen"):
            raise InputError(f"{name} generates references by formulas, which are not evaluated.")
        entries = content["refs"] if version == 1 else content
        templates = content.get("templates", {}) if version == 1 else {}
        return {str(key): _reference(entry, templates) for key, entry in entries.items()}
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise InputError(
            f"{name} is no document of references, or damaged: {type(error).__name__}: {error}."
        ) from error


def _reference(entry: Any, templates: Mapping[str, str]) -> Reference:
    if isinstance(entry, dict):  # metadata that were not turned into text
        return json.dumps(entry).encode()
    if isinstance(entry, str):
        if entry.startswith("base64:"):
            return base64.b64decode(entry.removeprefix("base64:"), validate=True)
        return entry.encode()
    url, *where = entry
    if not isinstance(url, str) or len(where) not in (0, 2):
        raise ValueError(f"{entry!r} is neither [url] nor [url, offset, length]")
    if not all(type(number) is int and number >= 0 for number in where):
        raise ValueError(f"{entry!r} has no offset and length")
    url = _TEMPLATE.sub(lambda match: str(templates[match[1]]), url)
    return (url, *where) if where else (url, None, None)


def _parquet(folder: Path, name: str) -> dict[str, Reference]:
    """Give the references of a folder that holds a table for each part of each variable."""
    try:
        from fastparquet import ParquetFile

        metadata = json.loads((folder / ".zmetadata").read_bytes())
        size = int(metadata["record_size"])
        found: dict[str, Reference] = {}
        for key, document in metadata["metadata"].items():
            found[str(key)] = json.dumps(document).encode()
            variable, _, kind = str(key).rpartition("/")
            if kind != ".zarray":
                continue
            counts = [
                -(-whole // part)
                for whole, part in zip(document["shape"], document["chunks"], strict=True)
            ]
            chunks = 1
            for count in counts:
                chunks *= count
            for number in range(-(-chunks // size)):
                file = folder / variable / f"refs.{number}.parq"
                if not file.exists():
                    continue
                with file.open("rb") as opened:  # of a name it leaves the file open
                    table = ParquetFile(opened).to_pandas()
                for row, (url, offset, length, raw) in enumerate(
                    zip(table["path"], table["offset"], table["size"], table["raw"], strict=True)
                ):
                    place = _unravelled(number * size + row, counts)
                    if isinstance(raw, bytes):
                        found[f"{variable}/{place}"] = raw
                    elif isinstance(url, str):
                        whole = not length
                        found[f"{variable}/{place}"] = (
                            (url, None, None) if whole else (url, int(offset), int(length))
                        )
    except ImportError as error:
        raise ConfigError(
            f"{name} is Parquet, which needs `pip install 'weatherdiff[references]'`."
        ) from error
    except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError) as error:
        raise InputError(
            f"{name} is no folder of references, or damaged: {type(error).__name__}: {error}."
        ) from error
    return found


def _unravelled(number: int, counts: list[int]) -> str:
    """Give the key of a chunk by its number in C order.

    Examples
    --------
    >>> _unravelled(5, [2, 3]), _unravelled(0, [])
    ('1.2', '0')
    """
    places = []
    for count in reversed(counts):
        number, place = divmod(number, count)
        places.append(str(place))
    return ".".join(reversed(places)) or "0"


class ReferenceStore(Store):
    """A read-only store whose keys are parts of other files.

    Parameters
    ----------
    references : dict
        As :func:`read_references` gives them.
    name : str
        Path or URL of the document: names are relative to its folder.
    storage_options : mapping, optional
        Of the file systems of URLs, with ``patience`` as for any other.
    """

    supports_writes = False
    supports_deletes = False
    supports_partial_writes = False
    supports_listing = True

    def __init__(
        self,
        references: dict[str, Reference],
        name: str,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(read_only=True)
        self.references, self.name = references, name
        self.patience, self._options = Patience.taken_from(storage_options)
        self._folder = None if "://" in name else os.path.realpath(os.path.dirname(name) or ".")

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ReferenceStore)
            and self.name == other.name
            and self.references == other.references
        )

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Bytes of a key, wherever they are; None if it is absent."""
        if key not in self.references:
            return None
        found = self.references[key]
        content = found if isinstance(found, bytes) else await self._read(key, *found)
        prototype = prototype or default_buffer_prototype()
        return prototype.buffer.from_bytes(_part(content, byte_range))

    async def _read(self, key: str, url: str, offset: int | None, length: int | None) -> bytes:
        if length is not None:
            require_fits(self.name, key, length)
        place = self._place(key, url)
        if "://" not in place:
            return self._local(key, place, offset, length)
        fs, path = file_system(place, self._options, asynchronous=True)
        stop = None if offset is None or length is None else offset + length

        async def once() -> bytes:
            content = bytes(await fs._cat_file(path, start=offset, end=stop))
            if length is not None:
                require_length(len(content), length)
            return content

        try:
            return await self.patience.read_async(f"{self.name}: {key} at {place}", once)
        except FileNotFoundError as error:
            raise MissingInputError(
                f"{self.name}: {key} refers to {place}, which is not there."
            ) from error

    def _place(self, key: str, url: str) -> str:
        """Where a reference leads, if it may."""
        protocol, separator, rest = url.partition("://")
        if separator and protocol == "file":
            url, separator = rest, ""
        if separator:
            if protocol not in PROTOCOLS or "::" in url:
                raise InputError(
                    f"{self.name}: {key} refers to {protocol}://, which is not followed; only "
                    f"{', '.join(PROTOCOLS)} are."
                )
            require_no_secret(url)
            return url
        if self._folder is None:
            if leads_out(url) or "\\" in url or "::" in url:
                raise InputError(
                    f"{self.name}: {key} refers to {url}, out of the folder of the references; "
                    "refused."
                )
            return posixpath.join(self.name.rpartition("/")[0], url)
        path = os.path.realpath(os.path.join(self._folder, url))
        if not lies_in(path, self._folder):
            raise InputError(
                f"{self.name}: {key} refers to {path}, out of the folder of the references, which "
                "is not followed; put the files beside the references."
            )
        return path

    def _local(self, key: str, path: str, offset: int | None, length: int | None) -> bytes:
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"{self.name}: {key} refers to {path}, which is no file.")
            if length is None:
                require_fits(self.name, key, status.st_size)
            with open(path, "rb") as file:
                file.seek(offset or 0)
                content = file.read(-1 if length is None else length)
        except FileNotFoundError as error:
            raise MissingInputError(
                f"{self.name}: {key} refers to {path}, which is not there."
            ) from error
        if length is not None and len(content) != length:
            raise InputError(
                f"{self.name}: {key} refers to {length} bytes at {offset} of {path}, which has "
                f"{status.st_size}; it is truncated, or not the file that was referred to."
            )
        return content

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Bytes of several keys."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether there is a key."""
        return key in self.references

    async def list(self) -> AsyncIterator[str]:
        """All keys."""
        for key in self.references:
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Keys that begin so."""
        for key in self.references:
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names in a folder."""
        start = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        inside = (key[len(start) :] for key in self.references if key.startswith(start))
        for name in dict.fromkeys(key.partition("/")[0] for key in inside):
            yield name

    async def set(self, key: str, value: Buffer) -> None:
        """Refused: it is read-only."""
        self._check_writable()

    async def set_partial_values(self, key_start_values: Iterable[Any]) -> None:
        """Refused: it is read-only."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Refused: it is read-only."""
        self._check_writable()


def _part(content: bytes, byte_range: ByteRequest | None) -> bytes:
    match byte_range:
        case None:
            return content
        case RangeByteRequest(start, end):
            return content[start:end]
        case OffsetByteRequest(offset):
            return content[offset:]
        case SuffixByteRequest(suffix):
            return content[-suffix:]
    raise ValueError(byte_range)
