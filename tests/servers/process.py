"""Server processes: free ports, readiness, logs, and an end that always comes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

PROJECT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("OBSTORE_TEST_CACHE") or PROJECT / ".cache")

_LEASH = Path(__file__).with_name("_leash.py")
# Below the kernel's ephemeral range: a client's outgoing connection cannot take the port before the server does.
_PORTS = range(18_000, 32_000)
_handed_out: set[int] = set()
# Write ends of the pipes that hold our servers; leak checks pass over them.
leashes: set[int] = set()


class ServerStartError(RuntimeError):
    """A server did not start; the message ends with its log."""


def free_ports(count: int) -> list[int]:
    """``count`` distinct TCP ports of 127.0.0.1 that nobody listens on and that this process has not handed out yet."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(_PORTS)
        if port in _handed_out:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _handed_out.add(port)
            found.append(port)
    return found


def clean_env(**extra: str) -> dict[str, str]:
    """The environment for a server: without the caller's clouds, proxies, CA files and Python paths."""
    dropped = ("AWS_", "GOOGLE_", "AZURE_", "MOTO_", "PYTHON", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    env = {k: v for k, v in os.environ.items() if not k.upper().startswith(dropped)}
    return {**env, **extra}


def http_answers(url: str, *, ca_file: str | None = None) -> Callable[[], bool]:
    """A readiness probe: does ``url`` answer with any HTTP status at all?"""
    parts = urllib.parse.urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname or "127.0.0.1"

    def probe() -> bool:
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                host, port, timeout=5, context=ssl.create_default_context(cafile=ca_file)
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=5)
        try:
            connection.request("GET", parts.path or "/")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True

    return probe


def port_listens(port: int) -> Callable[[], bool]:
    """A readiness probe: does something accept connections on ``port``?"""

    def probe() -> bool:
        with socket.socket() as client:
            client.settimeout(2)
            return client.connect_ex(("127.0.0.1", port)) == 0

    return probe


class ServerProcess:
    """One or more commands that form a server, started together and ended together.

    Attributes:
        log: file that gets standard output and error of all commands.
    """

    def __init__(
        self,
        name: str,
        commands: Sequence[Sequence[str | os.PathLike[str]]],
        ready: Callable[[], bool],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 60.0,
    ) -> None:
        """Start the commands and wait until ``ready()``.

        Args:
            name: what messages call the server.
            commands: argument lists; a relative program name is looked up in ``PATH``.
            ready: asked every 50 ms.
            log: file for the output of the commands.
            env: environment; default `clean_env`.
            cwd: working directory.
            timeout: seconds to wait for ``ready``.

        Raises:
            ServerStartError: a command ended, or the server was not ready in time.
        """
        self.name = name
        self.log = log
        read_end, self._write_end = os.pipe()
        leashes.add(self._write_end)
        texts = [[os.fspath(word) for word in command] for command in commands]
        try:
            with log.open("ab") as output:
                self._leash = subprocess.Popen(
                    [sys.executable, "-E", "-S", str(_LEASH), str(read_end), json.dumps(texts)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=dict(env) if env is not None else clean_env(),
                    cwd=cwd,
                    pass_fds=(read_end,),
                    start_new_session=True,  # Ctrl-C at the terminal is ours, not the server's
                )
        except BaseException:
            self._let_go()
            raise
        finally:
            os.close(read_end)
        deadline = time.monotonic() + timeout
        try:
            while not ready():
                if self._leash.poll() is not None:
                    raise ServerStartError(f"{name} ended with code {self._leash.returncode}\n{self.tail()}")
                if time.monotonic() > deadline:
                    raise ServerStartError(f"{name} was not ready after {timeout:.0f} s\n{self.tail()}")
                time.sleep(0.05)
        except BaseException:
            self.stop()
            raise

    def tail(self, lines: int = 40) -> str:
        """The last lines of the log."""
        text = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([f"--- {self.log}", *text[-lines:]])

    def alive(self) -> bool:
        """Whether all commands still run."""
        return self._leash.poll() is None

    def stop(self) -> None:
        """End all commands and whatever they started; harmless when called again."""
        self._let_go()
        self._leash.wait()

    def _let_go(self) -> None:
        if self._write_end >= 0:
            os.close(self._write_end)
            leashes.discard(self._write_end)
            self._write_end = -1


def _sweep(root: Path) -> None:
    """Remove what killed test runs left in ``root``: the directories of processes that are gone."""
    for path in root.glob("*-*-*"):
        try:
            os.kill(int(path.name.split("-")[-2]), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except (ValueError, PermissionError):
            continue  # not ours


class Server:
    """Base of the real servers: a context manager with a directory of its own.

    Subclasses implement `_start`, which may be called again when a port was taken meanwhile.
    """

    name = "server"

    def __init__(self) -> None:
        self.directory = Path()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        root = CACHE / "run"  # not the system's temporary directory: that may be a tmpfs without user xattrs
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        for attempt in range(3):
            self.directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-{os.getpid()}-", dir=root))
            self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            try:
                self._start()
            except ServerStartError as error:
                self._stack.close()
                if attempt == 2 or "ddress already in use" not in str(error):
                    raise
            except BaseException:
                self._stack.close()
                raise
            else:
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        raise NotImplementedError

    def _run(
        self,
        commands: Sequence[Sequence[str | os.PathLike[str]]],
        ready: Callable[[], bool],
        *,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        name: str | None = None,
    ) -> ServerProcess:
        """Start commands that end with this server."""
        name = name or self.name
        process = ServerProcess(
            name,
            commands,
            ready,
            log=self.directory / f"{name}.log",
            env=env,
            cwd=self.directory,
            timeout=timeout,
        )
        self._stack.callback(process.stop)
        return process
