"""An address at which there is no scheduler is told in a sentence, in a time that has a bound."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from weatherdiff.errors import ConfigError, StorageError
from weatherdiff.tasks import running
from weatherdiff.tasks.running import open_cluster


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "ANSWER", 0.2)


@pytest.fixture
def listening() -> Iterator[Callable[[bytes], str]]:
    """Give addresses at which something listens, and says this to all that call."""
    servers: list[socket.socket] = []

    def talk(server: socket.socket, text: bytes) -> None:
        calls = []
        while True:
            try:
                calls.append(server.accept()[0])
            except OSError:
                break
            calls[-1].sendall(text)
        for call in calls:
            call.close()

    def listen(text: bytes) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)
        threading.Thread(target=talk, args=(server, text), daemon=True).start()
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"

    yield listen
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def refused(address: str) -> str:
    start = time.monotonic()
    with pytest.raises(StorageError) as caught, open_cluster(address):
        pass
    assert time.monotonic() - start < 5
    assert caught.value.exit_code == 74
    return str(caught.value)


def test_where_nothing_listens_there_is_no_scheduler() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    assert refused(address).startswith(f"There is no dask scheduler at {address}, or none that ")
    assert "no-such-host.invalid" in refused("no-such-host.invalid:8786")


@pytest.mark.parametrize(
    "text", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 64], ids=["silent", "web", "noise"]
)
def test_what_is_silent_or_says_something_else_is_no_scheduler(
    listening: Callable[[bytes], str], text: bytes
) -> None:
    assert "There is no dask scheduler at" in refused(listening(text))


@pytest.mark.parametrize("address", ["nonsense", "foo://x:1", "tcp://127.0.0.1", "127.0.0.1:http"])
def test_what_is_no_address_is_named(address: str) -> None:
    with (
        pytest.raises(ConfigError, match=f"scheduler '{address}' is neither"),
        open_cluster(address),
    ):
        pass
