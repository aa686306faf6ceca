"""SIGTERM and Ctrl-C: an orderly end, and an exit code that is never 0."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["noted", "stop_if_asked", "terminable"]

_asked: list[int] = []


@contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM an exception, ``SystemExit(143)``, as Ctrl-C is ``KeyboardInterrupt``.

    What is staged is then removed, and locks are freed, before the process ends. Does nothing
    outside the main thread.
    """

    def stop(signum: int, _: FrameType | None) -> None:
        _asked.append(signum)
        raise SystemExit(128 + signum)

    _asked.clear()
    with _handled(stop, signal.SIGTERM):
        yield
        stop_if_asked()


def stop_if_asked() -> None:
    """End now if SIGTERM has come: its exception may be lost, in a destructor for instance."""
    if _asked:
        raise SystemExit(128 + _asked[0])


@contextmanager
def noted(react: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
    """Put off SIGTERM and Ctrl-C: what runs inside looks now and then whether one has come.

    A second Ctrl-C is not put off. Does nothing outside the main thread.

    Parameters
    ----------
    react : callable, optional
        Called when one has come.

    Yields
    ------
    list of int
        The signals that have come.
    """
    received: list[int] = []

    def note(signum: int, _: FrameType | None) -> None:
        if signum == signal.SIGINT and signum in received:
            raise KeyboardInterrupt
        received.append(signum)
        react()

    with _handled(note, signal.SIGTERM, signal.SIGINT):
        yield received


@contextmanager
def _handled(handler: signal._HANDLER, *signals: signal.Signals) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {signum: signal.signal(signum, handler) for signum in signals}
    try:
        yield
    finally:
        for signum, earlier in former.items():
            signal.signal(signum, earlier)
