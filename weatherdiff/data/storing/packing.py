r"""Fields of 16 bits: each channel of each frame in steps of its own.

A frame is stored as a table of (scale, offset, missing) in float64, one row for each channel, and
then its codes, 16 bits without sign, all little-endian:

.. math:: x = \text{float32}(\text{code} \cdot \text{scale} + \text{offset})

and NaN where the code is ``missing`` (-1: nowhere). The scale is that of the source, where it was
packed itself and its values come back bit for bit; else the power of two that just spans the
channel's values in this frame, which is how GRIB packs, so that GRIB of 16 bits or less comes back
as it was. The error is at most half a step.

Why a codec, rather than ``scale_factor`` and ``add_offset`` of CF: xarray decodes one pair an
array. It would take an array for each channel, so 69 small files for each block of a global
data set, one scale for all times, which is coarser and which the next record breaks, and a pass
over the source to find it. As a codec of Zarr v3 the array stays float32 in physical units for
everything that reads Zarr where this package is installed (it is found by its entry point); without
it the array is refused by name, and never misread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from zarr.abc.codec import ArrayBytesCodec
from zarr.registry import register_codec

from weatherdiff.compiling import compiled

if TYPE_CHECKING:
    import xarray as xr
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer

__all__ = [
    "CODEC_NAME",
    "Packed16Codec",
    "PackedSource",
    "pack",
    "packed_size",
    "packing_of",
    "unpack",
]

CODEC_NAME = "weatherdiff.packed16"

HEADER = 3 * 8  # bytes of the table for each channel
TOP = 2**16 - 1  # the highest code
NOWHERE = -1.0  # is missing

Array = npt.NDArray[Any]

#: (scale, offset) with which a channel was packed in the source, or None.
PackedSource = tuple[float, float] | None


def pack(frame: Array, sources: Sequence[PackedSource] = ()) -> bytes:
    """Pack one frame.

    Parameters
    ----------
    frame : (channel, latitude, longitude)
        float32; NaN where there are no data.
    sources : sequence, optional
        How each channel was packed in the source; tried first.

    Raises
    ------
    ValueError
        A value is infinite.

    Examples
    --------
    >>> frame = np.array([[[271.25, np.nan]], [[0.5, 0.75]]], np.float32)
    >>> unpack(pack(frame), np.empty((2, 2), np.float32))
    array([[271.25,    nan],
           [  0.5 ,   0.75]], dtype=float32)
    """
    rows = frame.reshape(len(frame), -1)
    header = np.empty((len(rows), 3), "<f8")
    codes = np.zeros(rows.shape, "<u2")
    for number, (row, head, code) in enumerate(zip(rows, header, codes, strict=True)):
        _pack_row(row, head, code, sources[number] if sources else None)
    return header.tobytes() + codes.tobytes()


def _pack_row(row: Array, head: Array, code: Array, source: PackedSource) -> None:
    missing = np.isnan(row)
    some = bool(missing.any())
    x = row[~missing].astype(np.float64) if some else row.astype(np.float64)
    top = TOP - some
    if not len(x):
        head[:] = 0, 0, 0
        return
    low, high = float(x.min()), float(x.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("infinite values cannot be packed")
    span = high - low
    steps = None
    if source is not None:
        steps = _steps_of_source(x, top, source, head)
    if steps is None:
        scale = 2.0 ** np.ceil(np.log2(span / top)) if span else 0.0
        steps = np.rint((x - low) / scale) if span else np.zeros_like(x)
        head[:2] = scale, low
    head[2] = TOP if some else NOWHERE
    if some:
        code[~missing], code[missing] = steps, TOP
    else:
        code[:] = steps


def _steps_of_source(x: Array, top: int, source: tuple[float, float], head: Array) -> Array | None:
    """Give the steps from the lowest value, if the values come back bit for bit."""
    scale, offset = source
    steps = np.rint((x - offset) / scale)
    first = steps.min()
    steps -= first
    start = offset + first * scale
    if steps.max() > top or ((steps * scale + start).astype(np.float32) != x).any():
        return None
    head[:2] = scale, start
    return steps


def packing_of(
    parts: Iterable[tuple[str, xr.Dataset, Mapping[str, str]]],
) -> dict[str, PackedSource]:
    """Tell how variables were packed in the source, where all its parts agree.

    Parameters
    ----------
    parts : iterable of (source, Dataset, names)
        As opened, with CF decoding; ``names`` maps own names to canonical ones.
    """
    found: dict[str, set[PackedSource]] = {}
    for _, ds, names in parts:
        for own, field in ds.data_vars.items():
            code, pair = field.encoding, None
            dtype: np.dtype[Any] = np.dtype(code.get("dtype") or "f8")
            if dtype.kind in "iu" and dtype.itemsize <= 2:
                pair = (float(code.get("scale_factor", 1)), float(code.get("add_offset", 0)))
            found.setdefault(names.get(str(own), str(own)), set()).add(pair)
    return {name: pairs.pop() for name, pairs in found.items() if len(pairs) == 1}


def packed_size(channels: int, cells: int) -> int:
    """Bytes of a packed frame."""
    return channels * (HEADER + 2 * cells)


def unpack(chunk: bytes | memoryview | Array, out: Array) -> Array:
    """Undo :func:`pack`.

    Parameters
    ----------
    chunk : bytes, memoryview or array of bytes
    out : (channel, cell)
        float32 and contiguous; it is filled.

    Raises
    ------
    ValueError
        There are not as many bytes as the values need.
    """
    channels, cells = out.shape
    if len(chunk) != packed_size(channels, cells):
        raise ValueError(f"it has {len(chunk)} bytes for {channels} x {cells} packed values")
    # The table is copied, as it may begin anywhere; codes begin at an even place of the file.
    header = np.frombuffer(chunk, "<f8", 3 * channels).copy().reshape(channels, 3)
    codes = np.frombuffer(chunk, "<u2", offset=HEADER * channels).reshape(channels, cells)
    _unpacker()(codes, header, out)
    return out


def _unpacker() -> Callable[[Array, Array, Array], None]:
    """Give the compiled loop, where numba is; numpy's arithmetic is the same, and slower."""
    return compiled(_unpack_rows, _unpack_by_numpy)


def _unpack_rows(codes: Array, header: Array, out: Array) -> None:
    for c in range(codes.shape[0]):
        scale, offset, missing = header[c, 0], header[c, 1], header[c, 2]
        if missing < 0:
            for i in range(codes.shape[1]):
                out[c, i] = np.float32(np.float64(codes[c, i]) * scale + offset)
        else:
            for i in range(codes.shape[1]):
                value = np.float32(np.float64(codes[c, i]) * scale + offset)
                out[c, i] = np.float32(np.nan) if codes[c, i] == missing else value


def _unpack_by_numpy(codes: Array, header: Array, out: Array) -> None:
    for code, (scale, offset, missing), row in zip(codes, header, out, strict=True):
        row[:] = code * scale + offset
        if missing >= 0:
            row[code == missing] = np.nan


@dataclass(frozen=True)
class Packed16Codec(ArrayBytesCodec):
    """The same for everything that reads and writes through zarr-python."""

    is_fixed_size = True

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Packed16Codec:
        """Make one of an array's metadata."""
        if data.get("configuration"):
            raise ValueError(f"{CODEC_NAME} knows no configuration; found {data['configuration']}")
        return cls()

    def to_dict(self) -> dict[str, Any]:
        """Give what is written to an array's metadata."""
        return {"name": CODEC_NAME}

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        out = np.empty(chunk_spec.shape, np.float32)
        unpack(chunk_bytes.to_bytes(), out.reshape(-1, _cells(chunk_spec.shape)))
        return chunk_spec.prototype.nd_buffer.from_numpy_array(out)

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        values = chunk_array.as_numpy_array().astype(np.float32, copy=False)
        packed = pack(values.reshape(-1, _cells(chunk_spec.shape)))
        return chunk_spec.prototype.buffer.from_bytes(packed)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Size of a chunk of so many bytes."""
        cells = _cells(chunk_spec.shape)
        return packed_size(input_byte_length // 4 // cells, cells)


def _cells(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape[-2:]))


register_codec(CODEC_NAME, Packed16Codec)
