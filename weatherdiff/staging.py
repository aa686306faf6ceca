"""Write under a temporary name, publish by one rename: partial output is never visible.

Everything weatherdiff leaves on disk (stores, models, forecasts, scores, reports) goes through
here. The temporary name is a hidden sibling of the final one, so the rename stays on one file
system and is atomic; whatever dies half-way leaves only that sibling behind, which the next run of
the same job removes.

A folder that is replaced exchanges its name with the new one, in one step (``renameat2`` of Linux):
at every moment one of the two is there. Where the system or the file system cannot (macOS, Windows,
some network file systems), it takes two renames, between which neither is; a run that is killed
there leaves the former one hidden, and the next run of the same job puts it back.
"""

import ctypes
import errno
import glob
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from weatherdiff.errors import DISK_ERRORS, LockedError, StorageError

__all__ = [
    "DISK_ERRORS",
    "PARTIAL_SUFFIX",
    "disk_errors",
    "flush",
    "hidden_beside",
    "locked",
    "publish",
    "remove_leftovers",
    "staged",
]

PARTIAL_SUFFIX = ".partial"
FORMER_SUFFIX = ".former"

# of <fcntl.h> and <linux/fs.h>
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
#: How systems say that they cannot exchange names; the last, of containers that forbid the call.
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


@contextmanager
def staged(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path to write a file or folder to; rename it to ``path`` at the end.

    Parameters
    ----------
    path : path
        The final name. Its parent is created.
    overwrite : bool
        Replace what is there. A folder is removed after the rename.

    Yields
    ------
    Path
        A sibling that does not exist yet, to be created as a file or a folder.

    Raises
    ------
    StorageError
        ``path`` exists and ``overwrite`` is false, or is a folder that a file would replace; or
        the system reports an I/O error (disk full,
        permission), which is passed on with the name of the output. The temporary is removed on
        any error.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with staged(folder / "answer.txt") as temporary:
    ...     _ = temporary.write_text("42")
    >>> [p.name for p in folder.iterdir()]
    ['answer.txt']
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise StorageError(f"{path} exists already; remove it, or ask for it to be overwritten.")
    temporary = hidden_beside(path)
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            publish(temporary, path)
    except BaseException:
        _remove(temporary)
        raise


def hidden_beside(path: Path, suffix: str = PARTIAL_SUFFIX) -> Path:
    """Give a new hidden name beside a final one, by which :func:`remove_leftovers` knows it."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{suffix}")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the system says of the disk into one sentence, a :class:`StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_ERRORS:
            reason = error.strerror or os.strerror(error.errno)
            raise StorageError(f"Could not write {path}: {reason}.") from error
        raise


def remove_leftovers(folder: str | os.PathLike[str], *, of: str | None = None) -> list[Path]:
    """Remove what killed runs have left in ``folder``; return the names.

    An output that was moved aside to be replaced, and never was, is put back. Call this only while
    no other run writes there.

    Parameters
    ----------
    folder : path
    of : str, optional
        Name of the output whose leftovers to remove; those of all unless given.
    """
    folder = Path(folder)
    pattern = ".*" if of is None else f".{glob.escape(of)}.????????"
    for former in folder.glob(f"{pattern}{FORMER_SUFFIX}"):
        final = folder / former.name[1 : -len(FORMER_SUFFIX) - 9]
        if final.exists():
            _remove(former)
        else:
            os.rename(former, final)
    leftovers = sorted(folder.glob(f"{pattern}{PARTIAL_SUFFIX}"))
    for leftover in leftovers:
        _remove(leftover)
    return leftovers


@contextmanager
def locked(path: str | os.PathLike[str], *, shared: bool = False) -> Iterator[Path]:
    """Hold a lock on an output while it is written; the system frees it if the holder dies.

    The lock is a hidden file beside ``path``, which stays; only its holder may remove it. Where
    the system has no ``flock`` (Windows) nothing is locked.

    Parameters
    ----------
    path : path
        The output.
    shared : bool
        Exclude only those that lock it for themselves.

    Yields
    ------
    Path
        The hidden file.

    Raises
    ------
    LockedError
        Another process holds it.
    """
    path = Path(path)
    lock = path.with_name(f".{path.name}.lock")
    try:
        import fcntl
    except ImportError:
        yield lock
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        with open(lock, "a") as handle:
            try:
                fcntl.flock(handle, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LockedError(
                    f"Another process is writing {path}; wait for it, or choose another output."
                ) from None
            try:
                if not os.path.samestat(os.fstat(handle.fileno()), os.stat(lock)):
                    continue
            except FileNotFoundError:  # its holder removed it between our opening and locking it
                continue
            yield lock
            return


def publish(temporary: Path, path: Path, *, replace: bool = True) -> None:
    """Force a file or folder to the disk and give it its final name, by one rename.

    Parameters
    ----------
    temporary : path
        On the same file system.
    path : path
        The final name.
    replace : bool
        Whether what is there is replaced; a folder is removed after. Otherwise a folder that holds
        files is an ``OSError``.

    Raises
    ------
    StorageError
        A file would replace a folder.
    """
    flush([temporary, *temporary.rglob("*")] if temporary.is_dir() else [temporary])
    if path.is_dir() and not temporary.is_dir():
        raise StorageError(f"Could not write {path}: there is a folder of that name.")
    if path.is_dir() and replace:
        _replace_folder(temporary, path)
    else:
        os.replace(temporary, path)
        _sync(path.parent)


def _replace_folder(temporary: Path, path: Path) -> None:
    """Do what rename(2) does not, if there is a folder that holds files."""
    # Under this name, whichever of the two a run leaves that is killed here, the next removes.
    aside = hidden_beside(path)
    os.rename(temporary, aside)
    try:
        _exchange(aside, path)
    except OSError:
        os.rename(aside, temporary)
        raise
    except BaseException:
        _remove(aside)
        raise
    _sync(path.parent)
    _remove(aside)


def _exchange(hidden: Path, path: Path) -> None:
    """Exchange two folders at once; where that cannot be, put one in the place of the other."""
    try:
        _exchange_at_once(hidden, path)
        return
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    former = hidden_beside(path, FORMER_SUFFIX)
    os.rename(path, former)
    try:
        os.rename(hidden, path)
    except BaseException:
        os.rename(former, path)
        raise
    _remove(former)


def _exchange_at_once(hidden: Path, path: Path) -> None:
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not the C library of Linux
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    names = os.fsencode(hidden), os.fsencode(path)
    if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(path))


def flush(paths: Iterable[Path]) -> None:
    """Force files and folders to the disk."""
    paths = list(paths)
    if len(paths) == 1:
        _sync(paths[0])
        return
    with ThreadPoolExecutor(8) as pool:  # waiting for the disk, which likes to wait for many
        list(pool.map(_sync, paths))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
