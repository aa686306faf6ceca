"""What the metadata of a Zarr array say of its stored chunks, or why they are not accepted.

Only codecs whose output is bounded are: no pickle, and nothing that is found by a name in the
metadata but is not listed here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from weatherdiff.data.sources.frames import COMPRESSORS
from weatherdiff.errors import InputError

__all__ = ["ArrayLayout", "Stored", "array_layouts"]

_FILTERS = {
    "adler32", "astype", "bitround", "bytes", "cast_value", "crc32", "crc32c", "delta",
    "fixedscaleoffset", "fletcher32", "packbits", "quantize", "scale_offset", "shuffle",
    "transpose", "vlen-bytes", "vlen-utf8",
}  # fmt: skip
_SHARDING = "sharding_indexed"
_CHECKSUMS = {"crc32c": 4}
_STRING, _TEXT = 64, 1024  # bytes that a string has in the mean, and may have
_SLACK = 64 * 1024


@dataclass(frozen=True)
class Stored:
    """One stored chunk, or the part of a shard that is read by itself.

    Attributes
    ----------
    nbytes : int
        Bytes it has when decoded.
    limit : int
        Bytes it may have on the way there.
    compressor : str, optional
        One of :data:`~weatherdiff.data.sources.frames.COMPRESSORS`.
    tail : int
        Bytes of a checksum after the compressed ones.
    """

    nbytes: int
    limit: int
    compressor: str | None
    tail: int


@dataclass(frozen=True)
class ArrayLayout:
    """How an array is stored.

    Attributes
    ----------
    shape : tuple of int
    nbytes : int
        Of the whole array, decoded.
    chunk : Stored
        One object of the store.
    inner : Stored, optional
        A chunk within it, if it is a shard.
    index_bytes : int
        Of the index of a shard.
    index_first : bool
        Whether that is at the start.
    """

    shape: tuple[int, ...]
    nbytes: int
    chunk: Stored
    inner: Stored | None = None
    index_bytes: int = 0
    index_first: bool = False


def array_layouts(key: str, document: Any) -> Iterator[tuple[str, ArrayLayout]]:
    """Path and layout of each array that a document of metadata tells of.

    Parameters
    ----------
    key : str
        Where the document is in the store: ``zarr.json``, ``t2m/.zarray``, ``.zmetadata``, ...
    document : any
        What is there, as JSON.

    Raises
    ------
    InputError
        A codec or an extension is not accepted, or the document is no metadata.
    """
    folder, _, name = key.rpartition("/")
    try:
        if name == ".zarray":
            yield folder, _layout_2(document)
        elif name == ".zmetadata":
            for path, inner in document["metadata"].items():
                if path.rpartition("/")[2] == ".zarray":
                    yield _join(folder, path.rpartition("/")[0]), _layout_2(inner)
        elif name == "zarr.json":
            if document.get("node_type") == "array":
                yield folder, _layout_3(document)
            inside = (document.get("consolidated_metadata") or {}).get("metadata", {})
            for path, inner in inside.items():
                if inner.get("node_type") == "array":
                    yield _join(folder, path), _layout_3(inner)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{key} is no metadata of Zarr, or damaged ({type(error).__name__}: {error})."
        ) from error


def _join(folder: str, path: str) -> str:
    return f"{folder}/{path}" if folder else path


def _layout_2(document: Mapping[str, Any]) -> ArrayLayout:
    dtype = np.dtype(document["dtype"])
    itemsize = None if dtype.hasobject else dtype.itemsize
    shape, chunks = _sizes(document["shape"]), _sizes(document["chunks"])
    filters = [_name(codec, "id") for codec in document.get("filters") or []]
    compressor = document.get("compressor")
    chain = [*filters, *([_name(compressor, "id")] if compressor else [])]
    return ArrayLayout(
        shape, math.prod(shape) * (itemsize or _STRING), _stored(math.prod(chunks), itemsize, chain)
    )


def _layout_3(document: Mapping[str, Any]) -> ArrayLayout:
    if document.get("storage_transformers"):
        raise InputError("it has storage transformers, which are not accepted.")
    grid = document["chunk_grid"]
    if grid["name"] != "regular":
        raise InputError(f"its chunk grid is {grid['name']!r}, expected 'regular'.")
    itemsize = _itemsize_3(document["data_type"])
    shape, chunks = _sizes(document["shape"]), _sizes(grid["configuration"]["chunk_shape"])
    nbytes = math.prod(shape) * (itemsize or _STRING)
    codecs = document["codecs"]
    chain = [_name(codec, "name") for codec in codecs]
    if _SHARDING not in chain:
        return ArrayLayout(shape, nbytes, _stored(math.prod(chunks), itemsize, chain))
    if chain != [_SHARDING]:
        raise InputError(f"its shards are encoded again ({', '.join(chain)}): not accepted.")
    inside = codecs[0]["configuration"]
    parts = _sizes(inside["chunk_shape"])
    index_chain = [_name(codec, "name") for codec in inside.get("index_codecs", [])]
    if index_chain not in (["bytes"], ["bytes", "crc32c"]):
        raise InputError(f"the index of its shards is encoded by {', '.join(index_chain)}.")
    count = math.prod(-(-whole // part) for whole, part in zip(chunks, parts, strict=True))
    inner = _stored(
        math.prod(parts), itemsize, [_name(codec, "name") for codec in inside["codecs"]]
    )
    index_bytes = 16 * count + 4 * (len(index_chain) - 1)
    return ArrayLayout(
        shape,
        nbytes,
        Stored(count * inner.nbytes, count * inner.limit + index_bytes, None, 0),
        inner,
        index_bytes,
        inside.get("index_location", "end") == "start",
    )


def _stored(elements: int, itemsize: int | None, chain: list[str]) -> Stored:
    compressors = [name for name in chain if name in COMPRESSORS]
    unknown = [name for name in chain if name not in COMPRESSORS and name not in _FILTERS]
    if unknown:
        raise InputError(
            f"it is encoded by {', '.join(unknown)}: accepted are {', '.join(COMPRESSORS)} and "
            "codecs that change no more than the form of numbers. Write the store again with zstd."
        )
    tail, outer = 0, list(chain)
    while outer and outer[-1] in _CHECKSUMS:
        tail += _CHECKSUMS[outer.pop()]
    if len(compressors) > 1 or (compressors and outer[-1] != compressors[0]):
        raise InputError(
            f"it is encoded by {', '.join(chain)}: one compressor is accepted, after all filters."
        )
    # a filter may widen a number to eight bytes
    limit = elements * (_TEXT if itemsize is None else max(itemsize, 8)) + _SLACK
    nbytes = elements * (itemsize or _STRING)
    return Stored(nbytes, limit, compressors[0] if compressors else None, tail)


def _name(codec: Any, key: str) -> str:
    name = codec if isinstance(codec, str) else codec[key]
    return str(name).removeprefix("numcodecs.")


def _sizes(values: Any) -> tuple[int, ...]:
    sizes = tuple(values)
    if not all(type(size) is int and size >= 0 for size in sizes):
        raise ValueError(f"{values!r} are no sizes")
    return sizes


def _itemsize_3(data_type: Any) -> int | None:
    """Bytes of one value; None where they vary."""
    if isinstance(data_type, dict):
        configuration = data_type.get("configuration", {})
        return int(configuration["length_bytes"]) if "length_bytes" in configuration else 8
    if data_type in ("string", "bytes", "variable_length_bytes"):
        return None
    return np.dtype(str(data_type)).itemsize
