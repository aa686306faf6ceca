"""How the fields of a store are kept: compressed, as they are, or in 16 bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from zarr.codecs import BloscCodec, BloscShuffle, Crc32cCodec

from weatherdiff.data.storing.packing import Packed16Codec, PackedSource, pack, unpack
from weatherdiff.data.storing.shards import compress, decode, seal, unseal
from weatherdiff.errors import ConfigError

__all__ = ["LZ4", "PROFILES", "Profile", "ProfileName"]

ProfileName = Literal["lz4", "raw", "packed"]
PROFILES: tuple[ProfileName, ...] = get_args(ProfileName)

#: Codecs of the small arrays, and of the fields by default.
LZ4 = [BloscCodec(cname="lz4", clevel=5, shuffle=BloscShuffle.shuffle), Crc32cCodec()]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Profile:
    """One way to keep fields; a CRC32C follows each frame in all of them.

    Parameters
    ----------
    name : {"lz4", "raw", "packed"}
        Blosc's LZ4 of shuffled bytes, without loss; float32 as they are; or 16 bits a value, with a
        measured error (:mod:`weatherdiff.data.storing.packing`).
    sources : tuple, optional
        For ``packed``: how each channel was packed in the source, (scale, offset) or None.

    Raises
    ------
    ConfigError
        There is no such profile.

    Examples
    --------
    >>> frame = np.array([[[1, 2.5]]], np.float32)
    >>> [len(Profile(name).encode(frame)) for name in ("raw", "packed")]
    [12, 32]
    >>> Profile("raw").decode(Profile("raw").encode(frame), np.empty_like(frame), Path("here"))
    array([[[1. , 2.5]]], dtype=float32)
    """

    name: ProfileName = "lz4"
    sources: tuple[PackedSource, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in PROFILES:
            raise ConfigError(f"The profile is {self.name!r}; give one of {', '.join(PROFILES)}.")

    @classmethod
    def of(cls, name: ProfileName, source: Mapping[str, Any], variables: Sequence[str]) -> Profile:
        """Make the profile of a store to be.

        Parameters
        ----------
        name : {"lz4", "raw", "packed"}
        source : mapping
            What :func:`~weatherdiff.open_fields` says of what it has read.
        variables : sequence of str
            Of each channel.
        """
        if name != "packed":
            return cls(name)
        known = source.get("packed", {})
        return cls(name, tuple(known.get(variable) for variable in variables))

    @property
    def lossless(self) -> bool:
        """Whether all values come back bit for bit, whatever they are."""
        return self.name != "packed"

    def encode(self, frame: Array) -> bytes:
        """Encode a frame (channel, latitude, longitude) of float32, and append its CRC32C."""
        return seal(self.content(frame))

    def content(self, frame: Array) -> bytes:
        """Encode a frame, without the checksum."""
        match self.name:
            case "lz4":
                return compress(frame)
            case "raw":
                return np.ascontiguousarray(frame, "<f4").tobytes()
            case _:
                return pack(frame, self.sources)

    def decode(self, chunk: bytes, out: Array, path: Path) -> Array:
        """Undo :meth:`encode` into ``out``; ``path`` is named in errors.

        Raises
        ------
        StorageError
            The checksum does not match.
        ValueError
            The size is wrong.
        """
        if self.name == "lz4":
            return decode(chunk, out, path)
        content = unseal(chunk, path)
        if self.name == "raw":
            out[...] = np.frombuffer(content, "<f4").reshape(out.shape)
        else:
            unpack(content, out.reshape(len(out), -1))
        return out

    def codecs(self) -> dict[str, Any]:
        """Give the arguments of :func:`zarr.create_array` that say the same."""
        if self.name == "packed":
            return {"serializer": Packed16Codec(), "compressors": [Crc32cCodec()]}
        return {"compressors": LZ4 if self.name == "lz4" else [Crc32cCodec()]}
