"""A published forecast as a store that Zarr reads: nothing of it goes missing in silence.

Zarr takes a chunk that is absent for one of fill values, that is, missing ones. A forecast may be
removed by retention, or exchanged by ``--overwrite``, between its being opened and its chunks being
read, which is when somebody computes: the reader is then told, and given neither NaN nor parts of
two forecasts.
"""

from __future__ import annotations

from pathlib import Path

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from weatherdiff.data.sources.zarr_guard import GuardedStore
from weatherdiff.errors import InputError, MissingInputError
from weatherdiff.sealed import MANIFEST

__all__ = ["PublishedStore"]


class PublishedStore(GuardedStore):
    """A forecast, or the group of products in one, read-only.

    It gives out nothing from outside of it, see :class:`GuardedStore`.

    Parameters
    ----------
    store : LocalStore
        Of the forecast, or of a group in it.
    name : str
        Folder of the forecast.
    files : frozenset of str
        What the manifest lists, relative to the group.

    Raises
    ------
    MissingInputError
        On reading: the forecast was removed, or replaced, since this was made.
    InputError
        On reading: a file that the manifest lists has gone, or leads out of the folder.
    """

    def __init__(
        self, store: Store, *, name: str, files: frozenset[str], made: tuple[int, int] | None = None
    ) -> None:
        super().__init__(store, name=name)
        self._files = files
        self._made = made or _made(Path(name))

    @classmethod
    def of(cls, path: Path, group: str, files: frozenset[str]) -> PublishedStore:
        """Give the store of a group of a forecast, with what the manifest of the forecast lists."""
        prefix = f"{group}/" if group else ""
        inside = (name.removeprefix(prefix) for name in files if name.startswith(prefix))
        store = LocalStore(path / group, read_only=True)
        return cls(store, name=str(path.absolute()), files=frozenset(inside))

    def _with_store(self, store: Store) -> PublishedStore:
        return type(self)(store, name=self.name, files=self._files, made=self._made)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Bytes of a key; what was promised is there, or an error."""
        data = await super().get(key, prototype, byte_range)
        if key in self._files:
            # After reading: a folder of the same name may have taken the place just before.
            now = _made(Path(self.name))
            if now is None:
                raise MissingInputError(f"{self.name} was removed while it was read.")
            if now != self._made:
                raise MissingInputError(
                    f"{self.name} was replaced while it was read; open it again."
                )
            if data is None:
                raise InputError(f"{self.name} is damaged: {key} is absent.")
        return data


def _made(path: Path) -> tuple[int, int] | None:
    """Tell one forecast from another that takes its name, by its manifest."""
    try:
        status = (path / MANIFEST).stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
