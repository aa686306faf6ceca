"""The workers of a cluster of ``dask.distributed``: waited for if there are none, not for ever."""

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from weatherdiff.errors import StorageError

if TYPE_CHECKING:
    from dask.distributed import Client, Future

__all__ = ["ANSWER", "PATIENCE", "Crew", "IdleClusterError"]

#: Seconds that a cluster may be without workers. Those that died of a machine's restart, or that a
#: batch system has yet to start, come back in less; an operator should know before the next cycle.
PATIENCE = 300.0

#: Seconds that a scheduler has for an answer.
ANSWER = 30.0

_EVERY = 1.0  # seconds from look to look: each asks the scheduler


class IdleClusterError(StorageError):
    """A cluster had no workers for too long, or no scheduler."""


class Crew:
    """The workers of a cluster.

    Parameters
    ----------
    client : dask.distributed.Client
    patience : float
        Seconds that there may be none.
    """

    def __init__(self, client: Client, patience: float = PATIENCE) -> None:
        self.client, self.patience = client, patience
        self._looked = time.monotonic()
        self._absent: float | None = None  # since when

    def threads(self) -> int:
        """Tell how many tasks can be done at once; 0 if there are no workers now.

        Raises
        ------
        IdleClusterError
            There have been none for too long, or the scheduler is gone.
        """
        self.require_scheduler()
        scheduler: Any = self.client.scheduler
        try:
            found = self.client.sync(scheduler.ncores, callback_timeout=ANSWER)
        except OSError as error:
            raise IdleClusterError(_GONE) from error
        self._looked, threads = time.monotonic(), sum(found.values())
        if threads:
            self._absent = None
        elif self._absent is None:
            self._absent = self._looked
        elif self._looked - self._absent > self.patience:
            raise IdleClusterError(f"The cluster has had no workers for {self.patience:g} s")
        return threads

    def send(self, job: Any) -> Future:
        """Give every worker the job; wait for the first of them.

        Errors are those of :meth:`threads`; workers that take no job are as good as none.
        """
        end = time.monotonic() + self.patience
        while True:
            if self.threads():
                try:
                    return self.client.scatter(
                        job, broadcast=True, hash=False, timeout=self.patience
                    )
                # A worker died while it was given the job (or before the scheduler, which then
                # raises KeyError, looked it up), or is stuck.
                except (OSError, KeyError) as error:
                    if time.monotonic() > end:
                        raise IdleClusterError(
                            f"No worker of the cluster has taken its work for {self.patience:g} s"
                        ) from error
            time.sleep(min(0.5, self.patience))

    def first(self, running: Collection[Future]) -> list[Future]:
        """Wait until something has happened to one of them; give all that it has happened to.

        Errors are those of :meth:`threads`.
        """
        from dask.distributed import wait

        while not (ended := [future for future in running if future.status != "pending"]):
            self.require_scheduler()
            if time.monotonic() - self._looked > _EVERY:
                self.threads()
            with self.client.as_current(), suppress(TimeoutError, CancelledError):
                wait(running, timeout=min(_EVERY, self.patience), return_when="FIRST_COMPLETED")
        return ended

    def require_scheduler(self) -> None:
        """Refuse to go on without a scheduler.

        Raises
        ------
        IdleClusterError
            It is gone.
        """
        if self.client.status != "running":
            raise IdleClusterError(_GONE)


_GONE = "The dask scheduler is gone"
