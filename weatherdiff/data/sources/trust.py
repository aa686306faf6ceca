"""What a file of unknown origin may claim to hold.

A few bytes can declare terabytes. Two bounds are kept before anything of the size declared is
allocated:

*What is read at once* (a coordinate, one field on all its levels, one stored chunk) must fit into
half of the memory that is free, and into 4 GiB, which is as large as a chunk of HDF5 can be.

*What is declared in all* must be possible for the bytes that are stored. No deflate stream grows
to more than 1032 times its size, and zstd's densest block, one byte repeated 128 KiB long, takes
four bytes: a ratio of 32768, which also bounds blosc and lz4. So a constant field passes however
well it was compressed, and so does a file that is for the most part not written yet. Up to 64 MiB
may be declared by any file: reading that harms nobody.

References
----------
Deflate: https://zlib.net/zlib_tech.html, "Maximum Compression Factor". Zstandard: RFC 8878,
section 3.1.1.2.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from weatherdiff.errors import InputError

__all__ = [
    "DEFLATE_RATIO",
    "LARGEST_RATIO",
    "SMALL",
    "memory_available",
    "require_fits",
    "require_possible",
]

#: Bytes that any file may declare.
SMALL = 64 * 2**20
#: Largest ratio of decoded to stored bytes of deflate, and of everything that is accepted.
DEFLATE_RATIO, LARGEST_RATIO = 1032, 32768
_AT_ONCE = 4 * 2**30


def require_fits(source: str, name: str, nbytes: int) -> None:
    """Refuse what cannot be held in memory, though it must be read at once.

    Parameters
    ----------
    source, name : str
        The file, and what in it.
    nbytes : int
        Its size when decoded.

    Raises
    ------
    InputError
        More than 4 GiB, or than half of the memory that is available.
    """
    limit = _at_once()
    if nbytes > limit:
        raise InputError(
            f"{source}: {name} declares {_size(nbytes)} that must be read at once; {_size(limit)} "
            "is the most that is read here (4 GiB, or half of the free memory). The file is "
            "damaged or hostile, or it must be divided into smaller chunks."
        )


def require_possible(source: str, claims: Iterable[tuple[int, int]], stored: int) -> None:
    """Refuse a file that declares more than its bytes can hold.

    Parameters
    ----------
    source : str
        The file or store.
    claims : iterable of (bytes, ratio)
        Size of each variable when decoded, and the largest ratio of its compression.
    stored : int
        Bytes of the file.

    Raises
    ------
    InputError
        The claims are more than 64 MiB, and no compression makes them of the bytes there are.

    Examples
    --------
    >>> require_possible("small.nc", [(8 * 10**9, DEFLATE_RATIO)], 6000)
    Traceback (most recent call last):
    ...
    weatherdiff.errors.InputError: small.nc declares 7.5 GiB, and has 5.9 KiB: ...
    """
    claims = list(claims)
    declared = sum(nbytes for nbytes, _ in claims)
    if declared > SMALL and sum(nbytes / ratio for nbytes, ratio in claims) > stored:
        raise InputError(
            f"{source} declares {_size(declared)}, and has {_size(stored)}: no compression is that "
            "dense. It is damaged or hostile, or most of it was never written; fetch it again."
        )


def _at_once() -> int:
    """Bytes that may be read at once."""
    return min(_AT_ONCE, memory_available() // 2)


def memory_available() -> int:
    """Bytes of memory that this process may still use, as far as the system tells."""
    known = [2 * _AT_ONCE]
    with contextlib.suppress(OSError, ValueError, StopIteration):
        with Path("/proc/meminfo").open() as file:
            line = next(line for line in file if line.startswith("MemAvailable:"))
        known.append(1024 * int(line.split()[1]))
    with contextlib.suppress(OSError, ValueError):  # a container's own limit; "max" is none
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        known.append(max(0, limit - int((group / "memory.current").read_text())))
    with contextlib.suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            known.append(max(0, limit - pages * os.sysconf("SC_PAGE_SIZE")))
    return min(known)


def _size(nbytes: float) -> str:
    """Bytes for people.

    Examples
    --------
    >>> _size(6144), _size(8e9)
    ('6.0 KiB', '7.5 GiB')
    """
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    power = min(max(int(nbytes).bit_length() - 1, 0) // 10, 4)
    return f"{nbytes / 1024**power:.{min(power, 1)}f} {units[power]}"
