"""What a freshly installed wheel must do: run by ``make wheels`` and cibuildwheel, away from the source tree.

Needs nothing but pytest and the wheel: the S3 server here is forty lines that keep objects in a dictionary.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import obstore as obs
from obstore.store import LocalStore, MemoryStore, S3Store


class Handler(BaseHTTPRequestHandler):
    """Objects by path; puts, gets with or without a range, heads, deletes."""

    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self) -> None:
        self.objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, ETag='"1"')

    def do_GET(self) -> None:
        body = self.objects.get(self.path)
        if body is None:
            return self._answer(404, b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>")
        about = {"ETag": '"1"', "Last_Modified": "Sun, 06 Nov 1994 08:49:37 GMT"}
        if "Range" not in self.headers:
            return self._answer(200, body, Content_Length=str(len(body)), **about)
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        about["Content_Range"] = f"bytes {first}-{last}/{len(body)}"
        return self._answer(206, body[first : last + 1], **about)

    do_HEAD = do_GET  # noqa: N815

    def do_DELETE(self) -> None:
        self.objects.pop(self.path, None)
        self._answer(204)

    def log_message(self, *args: object) -> None:
        """Be quiet."""


class Server(ThreadingHTTPServer):
    """Takes as many connections at once as a test opens; the default of 5 loses some, which TCP mends in seconds."""

    request_queue_size = 128


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Store]:
    handler = type("Handler", (Handler,), {"objects": {}})
    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield S3Store(
            "bucket",
            endpoint=f"http://127.0.0.1:{server.server_port}",
            region="us-east-1",
            access_key_id="key",
            secret_access_key="secret",
            client_options={"allow_http": True},
        )
        server.shutdown()
        thread.join()


def test_version_is_the_distributions() -> None:
    assert obs.__version__ == importlib.metadata.version("obstore")


def test_import_comes_from_the_installed_wheel() -> None:
    assert Path(obs.__file__).is_relative_to(sys.prefix)


def test_wheel_has_types_and_no_sources() -> None:
    names = {path.name for path in importlib.metadata.files("obstore") or ()}
    assert "py.typed" in names
    assert "_core.pyi" in names
    assert not [name for name in names if name.endswith((".pyx", ".c", ".pxd"))]


def test_licence_is_in_the_wheel() -> None:
    assert importlib.metadata.metadata("obstore")["License-Expression"] == "MIT"
    assert any(path.name == "LICENSE" for path in importlib.metadata.files("obstore") or ())


def test_libcurl_is_the_one_of_pycurl(s3: S3Store) -> None:
    obs.put(s3, "any", b"")  # loading waits for the first request
    assert obs._object_store_version.startswith("libcurl/")
    files = [str(file.locate()) for file in importlib.metadata.files("pycurl") or ()]
    carried = [name for name in files if Path(name).name.startswith("libcurl")]
    path = obs.debug_info()["libcurl"]["path"]
    if carried:
        assert Path(path).resolve() in {Path(name).resolve() for name in carried}
    else:  # built from source, as on musl: the system's, which it is linked to
        assert Path(path).name.startswith("libcurl")


def test_memory_round_trip() -> None:
    store = MemoryStore()
    obs.put(store, "a", b"1")
    assert bytes(obs.get(store, "a").bytes()) == b"1"


def test_local_round_trip(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    obs.put(store, "a/b", b"1")
    assert [item["path"] for item in obs.list(store)] == ["a/b"]
    assert bytes(obs.get(store, "a/b").bytes()) == b"1"


def test_s3_round_trip(s3: S3Store) -> None:
    body = bytes(range(256)) * 1000
    obs.put(s3, "key", body)
    assert bytes(obs.get(s3, "key").bytes()) == body
    assert obs.head(s3, "key")["size"] == len(body)
    assert bytes(obs.get_range(s3, "key", start=255, end=258)) == b"\xff\x00\x01"


def test_s3_streams(s3: S3Store) -> None:
    body = bytes(3_000_000)
    obs.put(s3, "streamed", body)
    assert b"".join(obs.get(s3, "streamed").stream(min_chunk_size=100_000)) == body


def test_s3_missing_key_is_file_not_found(s3: S3Store) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        obs.get(s3, "absent")
    assert isinstance(caught.value, obs.NotFoundError)


def test_s3_async_round_trips_at_once(s3: S3Store) -> None:
    async def main() -> list[bytes]:
        await asyncio.gather(*(obs.put_async(s3, f"n/{n}", str(n).encode()) for n in range(50)))
        results = await asyncio.gather(*(obs.get_async(s3, f"n/{n}") for n in range(50)))
        return [bytes(await result.bytes_async()) for result in results]

    assert asyncio.run(main()) == [str(n).encode() for n in range(50)]


def test_s3_round_trips_from_many_threads(s3: S3Store) -> None:
    def work(thread: int) -> list[bytes]:
        for n in range(30):
            obs.put(s3, f"t/{thread}/{n}", f"{thread}.{n}".encode())
        return [bytes(obs.get(s3, f"t/{thread}/{n}").bytes()) for n in range(30)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(8)))
    assert found == [[f"{thread}.{n}".encode() for n in range(30)] for thread in range(8)]


def test_what_was_asked_for_is_what_was_installed() -> None:
    requirements = importlib.metadata.requires("obstore") or []
    assert [line.partition(">")[0] for line in requirements if "extra ==" not in line] == ["pycurl"]
    about = importlib.metadata.metadata("obstore")
    assert set(about.get_all("Provides-Extra") or []) == {"arrow", "azure", "cli", "fsspec", "google"}


def test_command_line_says_what_it_lacks() -> None:
    command = Path(sys.executable).parent / "obstore"
    done = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "obstore[cli]" in done.stderr


def test_process_ends_quietly_with_a_request_under_way() -> None:
    code = (
        "import socket, obstore, threading, time\n"
        "from obstore.store import S3Store\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "store = S3Store('b', endpoint=f'http://127.0.0.1:{server.getsockname()[1]}', region='us-east-1',\n"
        "                access_key_id='a', secret_access_key='b', client_options={'allow_http': True})\n"
        "threading.Thread(target=lambda: obstore.get(store, 'k'), daemon=True).start()\n"
        "server.accept()\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_gil_is_what_the_interpreter_was_built_for(s3: S3Store) -> None:
    """Last: by now everything was imported. A module that does not declare itself safe turns the GIL on."""
    obs.put(s3, "any", b"")
    code = "import sys, obstore, obstore.store, obstore._engine; print(getattr(sys, '_is_gil_enabled', lambda: True)())"
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    assert (done.stdout.strip(), done.stderr) == (str(not free), "")
    assert getattr(sys, "_is_gil_enabled", lambda: True)() is not free
    assert "pycurl" not in sys.modules
