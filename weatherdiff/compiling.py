"""Loops that numba compiles, where it is and is wanted."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec

__all__ = ["compiled", "compiles"]

Loop = Callable[..., None]


def compiles() -> bool:
    """Tell whether numba does the work, rather than numpy.

    It does not where it is not installed, or with ``WEATHERDIFF_NUMBA=0`` in the environment.
    """
    return os.environ.get("WEATHERDIFF_NUMBA", "1") != "0" and find_spec("numba") is not None


@lru_cache(maxsize=16)
def compiled(loop: Loop, otherwise: Loop) -> Loop:
    """Compile a loop when it is first asked for, or give what does the same with numpy.

    Parameters
    ----------
    loop : callable
        It releases the interpreter's lock.
    otherwise : callable
    """
    if not compiles():
        return otherwise
    import numba

    made: Loop = numba.njit(nogil=True, cache=True, error_model="numpy")(loop)
    return made
