"""How large compressed bytes become, read from their headers before a decoder allocates it.

References
----------
Blosc: https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst. Zstandard: RFC 8878,
sections 3.1.1.1 and 3.1.1.2. Deflate has no size in its header: it is decoded piece by piece and
counted, up to the limit.
"""

import struct
import zlib

__all__ = ["COMPRESSORS", "decoded_size"]

#: The compressors whose output can be bounded.
COMPRESSORS = ("blosc", "gzip", "lz4", "zlib", "zstd")

_BLOCK = 128 * 1024  # most that one block of zstd can become
_PIECE = 2**20


def decoded_size(compressor: str, data: bytes, limit: int) -> int:
    """Bytes that compressed data become, or a number above ``limit`` if that is exceeded.

    Parameters
    ----------
    compressor : {"blosc", "gzip", "lz4", "zlib", "zstd"}
        How numcodecs and Zarr name it.
    data : bytes
        All of the compressed bytes of a chunk.
    limit : int
        Where to stop counting.

    Raises
    ------
    ValueError
        The bytes are not what this compressor makes.

    Examples
    --------
    >>> decoded_size("zlib", zlib.compress(bytes(1000)), 10**6)
    1000
    >>> decoded_size("zlib", zlib.compress(bytes(10**8)), 10**6) > 10**6
    True
    """
    try:
        match compressor:
            case "blosc":
                return int(struct.unpack_from("<I", data, 4)[0])
            case "lz4":  # with the header of numcodecs
                return int(struct.unpack_from("<I", data)[0])
            case "zstd":
                return _zstd(data)
            case "gzip" | "zlib":
                return _deflate(data, limit, zlib.MAX_WBITS + (16 if compressor == "gzip" else 0))
    except (struct.error, IndexError, zlib.error) as error:
        raise ValueError(f"these are not bytes of {compressor}: {error}") from error
    raise ValueError(f"{compressor!r} is unknown; there are {', '.join(COMPRESSORS)}.")


def _deflate(data: bytes, limit: int, window: int) -> int:
    total = 0
    while data:  # gzip may hold several members
        decoder = zlib.decompressobj(window)
        while not decoder.eof:
            piece = decoder.decompress(data, _PIECE)
            total += len(piece)
            data = decoder.unconsumed_tail
            if total > limit or not (piece or data):
                return total
        data = decoder.unused_data.lstrip(b"\0")
    return total


def _zstd(data: bytes) -> int:
    """Sum over the frames; the blocks bound a frame that does not state its size."""
    total = position = 0
    while position < len(data):
        (magic,) = struct.unpack_from("<I", data, position)
        position += 4
        if 0x184D2A50 <= magic <= 0x184D2A5F:  # to be skipped
            position += 4 + struct.unpack_from("<I", data, position)[0]
            continue
        if magic != 0xFD2FB528:
            raise ValueError("these are not bytes of zstd")
        descriptor = data[position]
        single = descriptor >> 5 & 1
        width = (single, 2, 4, 8)[descriptor >> 6]
        position += 1 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
        stated = int.from_bytes(data[position : position + width], "little")
        stated += 256 if width == 2 else 0
        position += width
        bound, last = 0, False
        while not last:
            header = int.from_bytes(data[position : position + 3], "little")
            if position + 3 > len(data):
                raise ValueError("these bytes of zstd are cut off")
            last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
            bound += size if kind < 2 else _BLOCK
            position += 3 + (1 if kind == 1 else size)
        position += 4 * (descriptor >> 2 & 1)
        total += stated if width else bound
    return total
