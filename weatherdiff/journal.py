"""What a scheduled run tells of itself: JSON lines for a log, text for a terminal."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

from weatherdiff.streams import LineStream

__all__ = ["JsonLines", "reporting", "tell"]

_LOG = logging.getLogger("weatherdiff.journal")


def tell(event: str, *, level: int = logging.INFO, **facts: Any) -> None:
    """Report an event.

    Parameters
    ----------
    event : str
        One word or two: ``"published"``.
    level : int
        As in :mod:`logging`.
    **facts
        Plain types.
    """
    _LOG.log(level, event, extra={"facts": facts})


class JsonLines(logging.Formatter):
    """One JSON object a line; what other code logs has the event ``"log"``.

    Examples
    --------
    >>> record = logging.makeLogRecord({"msg": "published", "facts": {"init_time": "2018-07-20"}})
    >>> sorted(json.loads(JsonLines().format(record)))
    ['event', 'init_time', 'level', 'time']
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": moment, "level": record.levelname.lower()}
        facts = getattr(record, "facts", None)
        if facts is None:
            line |= {"event": "log", "logger": record.name, "message": record.getMessage()}
        else:
            line |= {"event": record.getMessage(), **facts}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Text(logging.Formatter):
    """The event and its facts in a row."""

    def format(self, record: logging.LogRecord) -> str:
        facts = getattr(record, "facts", {})
        parts = [record.getMessage()]
        for name, value in facts.items():
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            parts.append(f"{name.replace('_', ' ')}: {text}")
        if record.exc_info:
            parts.append(self.formatException(record.exc_info))
        return "  ".join(parts)


class _Unfailing(logging.StreamHandler[TextIO]):
    """That a log is full or gone is told to nobody: there is nowhere to tell it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Go on."""


@contextmanager
def reporting(*, verbose: bool = False) -> Iterator[bool]:
    """Send events and warnings to standard error; yield whether in lines of JSON.

    Where it is JSON, so is every line that other code of this process prints there.

    Parameters
    ----------
    verbose : bool
        Whether what the rest of the package logs is reported below the level of warnings.
    """
    stderr = sys.stderr
    lines = not stderr.isatty()
    handler: logging.Handler
    if lines:
        handler = _Unfailing(stderr)
        handler.setFormatter(JsonLines())
    else:
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False, markup=False)
        handler.setFormatter(_Text())
    logging.captureWarnings(True)
    loggers = [logging.getLogger(name) for name in ("weatherdiff", "py.warnings")]
    former = [(logger.propagate, logger.level) for logger in (*loggers, _LOG)]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.INFO if verbose else logging.WARNING)
    _LOG.setLevel(logging.INFO)
    if lines:
        sys.stderr = LineStream(lambda line: handler.handle(_printed(line)), 2)
    try:
        yield lines
    finally:
        if lines:
            sys.stderr.close()
            sys.stderr = stderr
        logging.captureWarnings(False)
        for logger, (propagate, level) in zip((*loggers, _LOG), former, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate
            logger.setLevel(level)


def _printed(line: str) -> logging.LogRecord:
    """Make a record of a line that is none of the log's: a traceback of a thread, say."""
    return logging.LogRecord("stderr", logging.WARNING, "", 0, line, None, None)
