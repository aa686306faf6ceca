"""Reading from where a reading may fail for a while: object stores and web servers.

Every request may be tried several times, with a growing pause, and none is waited for without end.
This is done here and not left to the many clients below (s3fs, gcsfs, aiohttp): each of them has
rules of its own, and none says at the end how often it has tried.

What is not there, or is refused, is not asked for again. Credentials come from the environment, or
from the options of the file system; neither they nor a signed URL are ever written down.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from random import SystemRandom
from typing import Any, TypeVar

import fsspec
from zarr.abc.store import ByteRequest, RangeByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import FsspecStore, WrapperStore

from weatherdiff.errors import ConfigError, StorageError, WeatherdiffError

__all__ = [
    "Patience",
    "RetryingStore",
    "file_system",
    "refused",
    "remote_store",
    "require_length",
    "require_no_secret",
]

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

_LONGEST = 30.0  # seconds of a pause
_PASSING = {408, 425, 429}  # answers that may be others later, beside those from 500 on
_CLIENTS = ("aiohttp", "aiobotocore", "botocore", "gcsfs", "google", "http", "requests", "urllib3")
_SECRET = re.compile(
    r"[?&](x-amz-(signature|security-token|credential)|x-goog-(signature|credential)|"
    r"awsaccesskeyid|signature|sig|token|access_token|api_?key|password)=",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Parameters
    ----------
    attempts : int
        Of one request.
    timeout : float
        Seconds that one attempt may take.
    wait : float
        Seconds after the first failure; twice as many after each further one, up to half a minute,
        and a random part of it less, so that many readers do not come back at once.

    Raises
    ------
    ConfigError
        One of them is not positive.

    Examples
    --------
    >>> Patience.taken_from({"anon": True, "patience": {"attempts": 3}})
    (Patience(attempts=3, timeout=120.0, wait=1.0), {'anon': True})
    """

    attempts: int = 5
    timeout: float = 120.0
    wait: float = 1.0

    def __post_init__(self) -> None:
        for name in ("attempts", "timeout", "wait"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ConfigError(
                    f"storage_options: patience.{name} is {value!r}; give a number above 0."
                )

    @classmethod
    def taken_from(
        cls, storage_options: Mapping[str, Any] | None
    ) -> tuple[Patience, dict[str, Any]]:
        """Part the key ``patience`` from the options of the file system."""
        options = dict(storage_options or {})
        given = options.pop("patience", {})
        try:
            return cls(**given), options
        except TypeError as error:
            raise ConfigError(
                "storage_options: patience has the keys attempts, timeout and wait."
            ) from error

    def pause(self, failures: int) -> float:
        """Seconds to wait after so many failures."""
        whole = min(self.wait * 2 ** (failures - 1), _LONGEST)
        return whole * SystemRandom().uniform(0.5, 1)

    def read(self, what: str, once: Callable[[], _T]) -> _T:
        """Call until it succeeds.

        Raises
        ------
        StorageError
            Every attempt failed, or the first was refused.
        MissingInputError
            There is no such host.
        """
        started = time.monotonic()
        for attempt in range(1, self.attempts + 1):
            try:
                return once()
            except Exception as error:
                self._judge(what, error, attempt, started)
            time.sleep(self.pause(attempt))
        raise AssertionError  # the last attempt has returned or raised

    async def read_async(self, what: str, once: Callable[[], Awaitable[_T]]) -> _T:
        """Await until it succeeds; see :meth:`read`."""
        started = time.monotonic()
        for attempt in range(1, self.attempts + 1):
            try:
                return await asyncio.wait_for(once(), self.timeout)
            except Exception as error:
                self._judge(what, error, attempt, started)
            await asyncio.sleep(self.pause(attempt))
        raise AssertionError  # the last attempt has returned or raised

    def _judge(self, what: str, error: Exception, attempt: int, started: float) -> None:
        """Raise what will not be otherwise by waiting, or after the last attempt."""
        cause = error.__cause__
        if isinstance(error, FileNotFoundError) and isinstance(cause, Exception):
            http = type(cause).__module__.partition(".")[0] == "aiohttp"
            # fsspec says that a file is absent of whatever a web server answers
            error = cause if http and _status(cause) not in (404, 410) else error
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
            raise ConfigError(
                f"{what} needs credentials ({error}): give them by the environment "
                "(AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, ...), or, for what is public, "
                'storage_options {"anon": true} (for gs {"token": "anon"}).'
            ) from error
        if refused(error):
            raise StorageError(
                f"{what} could not be read: the server refuses it ({said}); check the credentials "
                "and the name."
            ) from error
        if not _passing(error):
            raise error
        if attempt < self.attempts:
            _LOG.warning("%s: attempt %d of %d failed: %s", what, attempt, self.attempts, said)
            return
        raise StorageError(
            f"{what} could not be read: {attempt} attempts in "
            f"{time.monotonic() - started:.0f} s failed, the last with {said}. Check the network "
            "and the server, and run the same again: what is finished is kept."
        ) from error


def _status(error: BaseException | None) -> int | None:
    """Give the answer's code, wherever a client keeps it."""
    for name in ("status", "code"):
        try:
            return int(getattr(error, name))
        except (AttributeError, TypeError, ValueError):
            continue
    return None


def refused(error: BaseException | None) -> bool:
    """Tell whether a server has refused to give what it was asked for."""
    return isinstance(error, PermissionError) or _status(error) in (401, 403)


def _passing(error: Exception) -> bool:
    """Tell whether it may be otherwise later."""
    if isinstance(error, WeatherdiffError | FileNotFoundError | IsADirectoryError):
        return False
    status = _status(error)
    if status is not None and 400 <= status < 500:
        return status in _PASSING
    if isinstance(error, OSError | TimeoutError | EOFError | asyncio.TimeoutError):
        return True
    return any(kind.__module__.partition(".")[0] in _CLIENTS for kind in type(error).__mro__[:-2])


def require_no_secret(url: str) -> None:
    """Refuse a URL that holds credentials: the names of sources are written into what is made.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> require_no_secret("https://me:secret@example.org/a.nc")
    Traceback (most recent call last):
    ...
    weatherdiff.errors.ConfigError: a URL at example.org holds credentials, ...
    """
    place = url.partition("://")[2].partition("/")[0]
    if "@" in place or _SECRET.search(url):
        host = place.rpartition("@")[2]
        raise ConfigError(
            f"a URL at {host} holds credentials, and would be written into the provenance of all "
            "that is made of it; give them by the environment or in storage_options."
        )


def file_system(url: str, options: Mapping[str, Any], *, asynchronous: bool) -> tuple[Any, str]:
    """Give the file system of a URL and the path in it; s3's own attempts are not added to ours."""
    options = dict(options)
    if url.startswith(("s3://", "s3a://")):
        config = dict(options.get("config_kwargs") or {})
        config.setdefault("retries", {"total_max_attempts": 1})
        options["config_kwargs"] = config
        options.setdefault("max_concurrency", 1)  # else it asks for the size before each reading
    if asynchronous:
        options["asynchronous"] = True
    fs, path = fsspec.core.url_to_fs(url, **options)
    _once(fs)
    return fs, str(path)


def _once(fs: Any) -> None:
    if getattr(fs, "retries", 1) != 1:
        fs.retries = 1


def remote_store(url: str, storage_options: Mapping[str, Any] | None = None) -> RetryingStore:
    """Open a folder of keys far away, read-only.

    Parameters
    ----------
    url : str
        That fsspec knows.
    storage_options : mapping, optional
        Of its file system; ``patience`` is ours, see :class:`Patience`.
    """
    patience, options = Patience.taken_from(storage_options)
    fs, path = file_system(url, options, asynchronous=True)
    if not fs.async_impl or not fs.asynchronous:
        from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

        fs = AsyncFileSystemWrapper(fs, asynchronous=True)
    return RetryingStore(FsspecStore(fs, read_only=True, path=path), url, patience)


class RetryingStore(WrapperStore[FsspecStore]):
    """A store whose requests are made again when they fail.

    An answer shorter than what was asked for is a failure too.

    Parameters
    ----------
    store : FsspecStore
    name : str
        For messages.
    patience : Patience
    """

    def __init__(self, store: FsspecStore, name: str, patience: Patience) -> None:
        super().__init__(store)
        self.name, self.patience = name, patience

    def _with_store(self, store: FsspecStore) -> RetryingStore:
        return type(self)(store, self.name, self.patience)

    async def _read(self, key: str, once: Callable[[], Awaitable[_T]]) -> _T:
        _once(self._store.fs)  # an unpickled one is as its makers made it
        return await self.patience.read_async(f"{self.name.rstrip('/')}/{key}", once)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Bytes of a key; None if it is absent."""

        async def once() -> Buffer | None:
            found = await self._store.get(key, prototype or default_buffer_prototype(), byte_range)
            if isinstance(byte_range, RangeByteRequest) and found is not None:
                require_length(len(found), byte_range.end - byte_range.start)
            return found

        return await self._read(key, once)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Bytes of several keys."""
        return list(
            await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges))
        )

    async def exists(self, key: str) -> bool:
        """Whether there is a key."""
        return await self._read(key, lambda: self._store.exists(key))

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names in a folder."""

        async def once() -> list[str]:
            return [name async for name in self._store.list_dir(prefix)]

        for name in await self._read(prefix, once):
            yield name


def require_length(found: int, expected: int) -> None:
    """Refuse an answer that is not as long as it should be: such a one is asked for again."""
    if found != expected:
        raise EOFError(f"{found} of {expected} bytes came")
