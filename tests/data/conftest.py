"""A record that grows, and what is in a store."""

import contextlib
import http.client
import http.server
import json
import threading
import time

import numpy as np
import pytest
import xarray as xr

FRAMES = 60
DIMS = ("time", "latitude", "longitude")


@pytest.fixture(scope="session")
def grown():
    """Temperature with a cell without data, and rain; six-hourly, with two frames absent."""
    rng = np.random.default_rng(0)
    temperature = 280 + rng.normal(size=(FRAMES + 2, 3, 5))
    temperature[:, 1, 2] = np.nan
    rain = np.maximum(rng.normal(size=(FRAMES + 2, 3, 5)), 0) * 1e-4
    start, hours = np.datetime64("2020-03-01", "ns"), np.timedelta64(6, "h")
    return (
        xr.Dataset(
            {
                "2m_temperature": (DIMS, temperature, {"units": "K"}),
                "precipitation_flux": (DIMS, rain, {"units": "kg m**-2 s**-1"}),
            },
            {
                "time": start + np.arange(FRAMES + 2) * hours,
                "latitude": [40.0, 42.0, 45.0],
                "longitude": np.arange(-2.0, 3.0),
            },
        )
        .astype(np.float32)
        .isel(time=np.delete(np.arange(FRAMES + 2), [20, 48]))
    )


@pytest.fixture(scope="session")
def layered():
    """Make a variable with levels and one without, north to south, 0 to 360 degrees."""

    def make(frames):
        rng = np.random.default_rng(4)
        start = np.datetime64("2020-03-01", "ns")
        return xr.Dataset(
            {
                "temperature": (
                    ("time", "level", *DIMS[1:]),
                    280 + rng.normal(size=(frames, 2, 4, 6)),
                    {"units": "K"},
                ),
                "2m_temperature": (DIMS, 290 + rng.normal(size=(frames, 4, 6)), {"units": "K"}),
            },
            {
                "time": start + np.arange(frames) * np.timedelta64(6, "h"),
                "level": [500, 850],
                "latitude": [60.0, 50.0, 40.0, 30.0],
                "longitude": [0.0, 5.0, 10.0, 345.0, 350.0, 355.0],
            },
        ).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def content():
    def content(path):
        """All bytes of a store, but when it was made, what was planned, and what it cost."""
        found = {}
        for file in path.rglob("*"):
            if file.is_file() and file.suffix != ".lock":
                found[file.relative_to(path).as_posix()] = file.read_bytes()
        root = json.loads(found.pop("zarr.json"))
        for name in ("created", "plan"):
            root["attributes"]["weatherdiff"].pop(name)
        files = json.loads(found["fields/files.json"])  # it knows that of the root, too
        return found | {
            "zarr.json": json.dumps(root),
            "fields/files.json": [files["reaching"], files["files"] | {"zarr.json": None}],
        }

    return content


@pytest.fixture(scope="session")
def same():
    """Require that a store holds a data set."""

    def same(store, ds):
        np.testing.assert_array_equal(store.times, ds["time"].values.astype("M8[s]").astype(int))
        np.testing.assert_array_equal(
            store.read(np.arange(len(store.times))), store.channels.stack(ds)
        )

    return same


class Unreliable:
    """A server between a client and an object store, which spoils the answers it is told to.

    ``faults`` are taken one for each request whose path holds ``where``, in turn; ``always`` is for
    all the others of them. A fault is a status code, or "drop", "cut", "slow" or "short".
    """

    def __init__(self, target):
        self.faults, self.where, self.always, self.slowness = [], "", None, 0.0
        self.asked = []
        self._lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                fault = outer._next(self.path, self.command)
                if isinstance(fault, int):
                    self._give(fault, [], b"")
                    return
                if fault == "drop":
                    self.close_connection = True
                    return
                time.sleep(outer.slowness if fault == "slow" else 0)
                link = http.client.HTTPConnection(target)
                link.request(self.command, self.path, headers=dict(self.headers))
                reply = link.getresponse()
                content = reply.read()
                hop = ("connection", "content-length", "transfer-encoding", "date", "server")
                headers = [(k, v) for k, v in reply.getheaders() if k.lower() not in hop]
                size = reply.getheader("content-length") or len(content)
                link.close()
                if fault == "short":  # honest about its length, but not all that was asked for
                    content = content[:-1]
                    size = len(content)
                if fault == "cut":
                    content = content[: len(content) // 2]
                    self.close_connection = True
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self._give(reply.status, [*headers, ("Content-Length", str(size))], content)

            def _give(self, status, headers, content):
                self.send_response(status)
                for name, value in headers or [("Content-Length", "0")]:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content if self.command != "HEAD" else b"")

            do_GET = do_HEAD = answer  # noqa: N815

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _next(self, path, command):
        with self._lock:
            self.asked.append(f"{command} {path}")
            if self.where not in path:
                return None
            # a question for the size is spared, so that it is known how many readings fail
            return self.faults.pop(0) if self.faults and command == "GET" else self.always

    def reset(self):
        self.faults, self.where, self.always, self.slowness = [], "", None, 0.0
        self.asked = []

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="session")
def object_store():
    """Address of a real object-store server on this machine."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        server.start()
        try:
            yield ":".join(map(str, server.get_host_and_port()))
        finally:
            server.stop()


@pytest.fixture(scope="session")
def served(object_store):
    import s3fs

    fs = s3fs.S3FileSystem(endpoint_url=f"http://{object_store}")
    fs.mkdir("weather", acl="public-read")
    unreliable = Unreliable(object_store)
    yield fs, unreliable
    unreliable.close()


@pytest.fixture
def bucket(served):
    """A file system that writes to the bucket ``weather``, whatever the reader has to bear."""
    return served[0]


@pytest.fixture
def unreliable(served):
    """The server that readers ask."""
    served[1].reset()
    yield served[1]
    served[1].reset()
