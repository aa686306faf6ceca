"""A Zarr store that gives out nothing from outside of it, and no chunk larger than declared.

Zarr reads whatever a name leads to: a symbolic link to another file of the machine, or ``../`` in
consolidated metadata. Its decoders allocate what the first bytes of a chunk say.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import LocalStore, WrapperStore, ZipStore

from weatherdiff.containment import leads_out, lies_in
from weatherdiff.data.sources.frames import decoded_size
from weatherdiff.data.sources.remote import remote_store
from weatherdiff.data.sources.trust import (
    DEFLATE_RATIO,
    LARGEST_RATIO,
    SMALL,
    require_fits,
    require_possible,
)
from weatherdiff.data.sources.zarr_layout import ArrayLayout, Stored, array_layouts
from weatherdiff.errors import InputError

__all__ = ["GuardedStore", "guarded_store"]

_LOG = logging.getLogger(__name__)
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
_ABSENT = 2**64 - 1  # offset and size of a chunk that a shard does not hold


def guarded_store(
    path: str, storage_options: Mapping[str, Any] | None = None, *, tell_absent: bool = False
) -> GuardedStore:
    """Open a Zarr store read-only, local (a folder or a zip file) or remote.

    Parameters
    ----------
    path : str
        A local path, or a URL that fsspec knows.
    storage_options : mapping, optional
        Options of the file system of a URL.
    tell_absent : bool
        See :class:`GuardedStore`.

    Raises
    ------
    InputError
        A zip file has compressed members, which nothing bounds; chunks are compressed already.
    """
    if "://" in path:
        store: Store = remote_store(path, storage_options)
    elif Path(path).is_file():
        store = _zip_store(path)
    else:
        store = LocalStore(path, read_only=True)
    return GuardedStore(store, name=path, tell_absent=tell_absent)


def _zip_store(path: str) -> ZipStore:
    try:
        with zipfile.ZipFile(path) as file:
            packed = [i.filename for i in file.infolist() if i.compress_type != zipfile.ZIP_STORED]
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is no Zarr store: neither a folder nor a zip file.") from error
    if packed:
        raise InputError(f"{path}: {packed[0]} is compressed by zip; unpack it into a folder.")
    return ZipStore(path, mode="r")


class GuardedStore(WrapperStore[Store]):
    """A read-only store of unknown origin.

    Every name is checked when it is asked for, so that opening costs nothing for chunks that are
    never read: a chunk costs a look at its path and at its first bytes; if it was compressed by
    gzip or zlib, it is decoded twice.

    Parameters
    ----------
    store : zarr.abc.store.Store
        To read from.
    name : str
        For messages.
    tell_absent : bool
        Log which arrays lack chunks; for what has no manifest.
    """

    def __init__(self, store: Store, *, name: str, tell_absent: bool = False) -> None:
        super().__init__(store)
        self.name, self.tell_absent = name, tell_absent
        self._root = os.path.realpath(store.root) if isinstance(store, LocalStore) else None
        self._layouts: dict[str, ArrayLayout] = {}
        self._sparse: list[ArrayLayout] = []  # that chunks were missed of

    def _with_store(self, store: Store) -> GuardedStore:
        return type(self)(store, name=self.name, tell_absent=self.tell_absent)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Bytes of a key, if they may be given out."""
        layout = self._layout(key)
        self._admit(key, layout)
        prototype = prototype or default_buffer_prototype()
        data = await self._store.get(key, prototype, byte_range)
        if data is None:
            self._tell_absent(key, layout)
            return None
        if key.rpartition("/")[2] in _METADATA:
            self._learn(key, data.to_bytes())
        elif layout is not None and layout.inner is not None:
            await self._check_shard(key, layout, layout.inner, data, byte_range)
        elif layout is not None:
            if layout.chunk.compressor and byte_range is not None:
                raise InputError(f"{self.name}: {key} was asked for in parts; it is compressed.")
            if layout.chunk.compressor:
                self._check_frame(key, layout.chunk, layout.chunk.compressor, data.to_bytes())
        return data

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Bytes of several keys, one after the other."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]
    ) -> AsyncGenerator[tuple[str, Buffer | None], None]:
        for key, prototype, part in requests:
            yield key, await self.get(key, prototype, part)

    async def exists(self, key: str) -> bool:
        """Whether there is a key, inside of the store."""
        self._admit(key, None)
        return await self._store.exists(key)

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names in a folder, inside of the store."""
        self._admit(prefix, None)
        return self._store.list_dir(prefix)

    def require_possible(self) -> None:
        """Refuse a local store whose arrays are larger than its files can hold.

        Files are counted only until they suffice, which one chunk in a thousand does.
        """
        if self._root is not None:
            self._require_stored(self._root, self._layouts.values())

    def _tell_absent(self, key: str, layout: ArrayLayout | None) -> None:
        """Say of each array once that a chunk of it is not there.

        It is no error: chunks of nothing but the fill value are often left out. But a chunk that
        was lost looks the same, and a fill value of 0 is no mark of missing data.
        """
        if not self.tell_absent or layout is None or len(layout.shape) < 2:
            return
        if key.rpartition("/")[2] in _METADATA:
            return
        if all(layout is not known for known in self._sparse):
            self._sparse.append(layout)
            _LOG.warning(
                "%s: %s is not there, and is read as the fill value of its array, as is any other "
                "that is absent. Nothing tells a chunk that was lost from one that was left out.",
                self.name, key,
            )  # fmt: skip

    def _layout(self, key: str) -> ArrayLayout | None:
        """Layout of the array that a chunk belongs to."""
        while key:
            key = key.rpartition("/")[0]
            if key in self._layouts:
                return self._layouts[key]
        return None

    def _admit(self, key: str, layout: ArrayLayout | None) -> None:
        """Refuse a key that leads out of the store, or to no plain file of a fitting size."""
        if leads_out(key) or "\\" in key:
            raise InputError(f"{self.name}: the name {key!r} leads out of the store; refused.")
        if self._root is None:
            return
        path = os.path.realpath(os.path.join(self._root, key))
        if path != self._root and not lies_in(path, self._root):
            raise InputError(
                f"{self.name}: {key} is a link to {path}, out of the store, which is not followed."
            )
        try:
            status = os.stat(path)
        except OSError:
            return  # absent; whoever asks is told so
        if stat.S_ISDIR(status.st_mode):
            return
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{self.name}: {key} is no file.")
        limit = SMALL
        if layout is not None and key.rpartition("/")[2] not in _METADATA:
            limit = layout.chunk.limit + layout.chunk.limit // 8
        if status.st_size > limit:
            raise InputError(
                f"{self.name}: {key} has {status.st_size} bytes, where at most {limit} make sense."
            )

    def _learn(self, key: str, document: bytes) -> None:
        """Take the layout of arrays from their metadata."""
        try:
            found = list(array_layouts(key, json.loads(document)))
        except InputError as error:
            raise InputError(f"{self.name}: {key}: {error}") from error
        except (RecursionError, ValueError) as error:
            raise InputError(f"{self.name}: {key} is damaged: {error}.") from error
        for path, layout in found:
            self._admit(path, None)
            known = self._layouts.get(path, layout)
            if (known.chunk, known.inner) != (layout.chunk, layout.inner):
                raise InputError(
                    f"{self.name}: the consolidated metadata of {path} differ from its own; "
                    "consolidate them again."
                )
            if path in self._layouts:
                continue
            self._layouts[path] = layout
            place = path or "the array"
            require_fits(self.name, f"a chunk of {place}", (layout.inner or layout.chunk).nbytes)
            if len(layout.shape) < 2:  # a coordinate, which is read whole when a store is opened
                require_fits(self.name, place, layout.nbytes)
                if self._root is not None:
                    self._require_stored(os.path.join(self._root, path), [layout])

    def _require_stored(self, folder: str, layouts: Iterable[ArrayLayout]) -> None:
        claims = [
            (
                layout.nbytes,
                DEFLATE_RATIO
                if (layout.inner or layout.chunk).compressor in (None, "gzip", "zlib")
                else LARGEST_RATIO,
            )
            for layout in layouts
        ]
        needed = sum(nbytes / ratio for nbytes, ratio in claims)
        stored = 0
        if sum(nbytes for nbytes, _ in claims) > SMALL:
            for size in _file_sizes(folder):
                stored += size
                if stored >= needed:
                    return
        require_possible(self.name, claims, stored)

    def _check_frame(self, key: str, chunk: Stored, compressor: str, data: bytes) -> None:
        try:
            size = decoded_size(compressor, data[: len(data) - chunk.tail], chunk.limit)
        except ValueError as error:
            raise InputError(f"{self.name}: {key} is damaged: {error}.") from error
        if size > chunk.limit:
            raise InputError(
                f"{self.name}: {key} becomes more than {chunk.limit} bytes when decoded, where its "
                f"metadata say {chunk.nbytes}. It is damaged or hostile."
            )

    async def _check_shard(
        self,
        key: str,
        layout: ArrayLayout,
        inner: Stored,
        data: Buffer,
        byte_range: ByteRequest | None,
    ) -> None:
        """Check the chunks of a shard that were asked for."""
        if inner.compressor is None:
            return
        size = layout.index_bytes
        where: ByteRequest = SuffixByteRequest(size)
        if layout.index_first:
            where = RangeByteRequest(0, size)
        if byte_range == where:
            return
        content = data.to_bytes()
        if byte_range is None:
            start = 0
            index = content[:size] if layout.index_first else content[-size:]
        elif isinstance(byte_range, RangeByteRequest):
            start = byte_range.start
            found = await self._store.get(key, default_buffer_prototype(), where)
            index = found.to_bytes() if found is not None else b""
        else:
            raise InputError(f"{self.name}: {key} was asked for in parts that are no chunks.")
        if len(index) != size:
            raise InputError(f"{self.name}: {key} is cut off: the index of the shard is not there.")
        entries = np.frombuffer(index[: size // 16 * 16], "<u8").reshape(-1, 2).tolist()
        stop = start + len(content)
        for offset, length in entries:
            if offset != _ABSENT and start <= offset and offset + length <= stop:
                piece = content[offset - start : offset - start + length]
                self._check_frame(key, inner, inner.compressor, piece)


def _file_sizes(folder: str) -> Iterator[int]:
    """Sizes of the files below a folder, links not followed."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if name not in _METADATA:
                yield os.lstat(os.path.join(parent, name)).st_size
