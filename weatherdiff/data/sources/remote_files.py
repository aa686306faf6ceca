"""Single files far away: found, looked at, and copied here, where libraries can read them."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from weatherdiff.data.sources.remote import Patience, file_system, refused, require_length
from weatherdiff.errors import MissingInputError, StorageError

__all__ = ["RemoteFiles"]

_LOG = logging.getLogger(__name__)

PIECE = 16 * 2**20  # bytes of a file in one request


class RemoteFiles:
    """The files of a file system far away.

    Parameters
    ----------
    storage_options : mapping, optional
        Of the file system; ``patience`` is ours.
    folder : path
        Where copies go. What is there already, of the same size and version, is not copied again,
        and a copy that was broken off is gone on with.
    """

    def __init__(
        self, storage_options: Mapping[str, Any] | None, folder: str | os.PathLike[str]
    ) -> None:
        self.patience, self.options = Patience.taken_from(storage_options)
        self.folder = Path(folder)

    def glob(self, pattern: str) -> list[str]:
        """Give the URLs that match."""
        fs, inner = file_system(pattern, self.options, asynchronous=False)

        def once() -> list[str]:
            fs.invalidate_cache()
            return [str(fs.unstrip_protocol(path)) for path in fs.glob(inner)]

        return sorted(self.patience.read(pattern, once))

    def exists(self, url: str) -> bool:
        """Tell whether there is a file."""
        return self.version(url) is not None

    def version(self, url: str) -> tuple[int | None, str] | None:
        """Give size and version of a file, as the server tells them; None if it tells nothing.

        Without the right to list a bucket, what is absent is refused there.
        """
        try:
            return self._version(url)
        except FileNotFoundError:
            return None
        except StorageError as error:
            if refused(error.__cause__):
                return None
            raise

    def _version(self, url: str) -> tuple[int | None, str] | None:
        fs, path = file_system(url, self.options, asynchronous=False)

        def once() -> dict[str, Any]:
            fs.invalidate_cache()
            return dict(fs.info(path, **self._limit(fs)))

        info = self.patience.read(url, once)
        if info.get("type") == "directory":
            return None
        known = (info.get(k) for k in ("ETag", "etag", "md5Hash", "LastModified", "mtime"))
        return info.get("size"), next((str(value) for value in known if value), "")

    def copy(self, url: str) -> Path:
        """Copy a file here, piece by piece.

        Raises
        ------
        MissingInputError
            There is none.
        StorageError
            Reading failed after all attempts; what has come stays for the next time.
        """
        try:
            version = self._version(url)
        except FileNotFoundError:
            version = None
        if version is None:
            raise MissingInputError(f"{url}: there is no file or Zarr store here.")
        size, label = version
        token = hashlib.sha256(f"{url}\n{size}\n{label}".encode()).hexdigest()[:16]
        local = self.folder / f"{token}-{url.rstrip('/').rpartition('/')[2][-100:] or 'file'}"
        if local.exists():
            return local
        self.folder.mkdir(parents=True, exist_ok=True)
        part = local.with_name(local.name + ".part")
        fs, path = file_system(url, self.options, asynchronous=False)
        if size is None:
            part.write_bytes(self._bytes(fs, path, url, None, None))
        else:
            self._append(part, size, lambda a, b: self._bytes(fs, path, url, a, b, size))
        part.replace(local)
        _LOG.info("%s was copied to %s", url, local)
        return local

    @staticmethod
    def _append(part: Path, size: int, read: Callable[[int, int], bytes]) -> None:
        with part.open("ab") as file:
            if file.tell() > size:
                file.truncate(0)
            while (start := file.tell()) < size:
                content = read(start, min(start + PIECE, size))
                if len(content) == size:  # all of it, perhaps of a server that knows of no parts
                    file.truncate(0)
                file.write(content)

    def _bytes(
        self, fs: Any, path: str, url: str, start: int | None, stop: int | None, size: int = -1
    ) -> bytes:
        def once() -> bytes:
            content = bytes(fs.cat_file(path, start=start, end=stop, **self._limit(fs)))
            if start is not None and stop is not None and len(content) != size:
                require_length(len(content), stop - start)
            return content

        return self.patience.read(url, once)

    def _limit(self, fs: Any) -> dict[str, float]:
        return {"timeout": self.patience.timeout} if fs.async_impl else {}
