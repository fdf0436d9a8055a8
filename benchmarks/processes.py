"""Starts servers as processes and ends them."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import native
from benchmarks.machine import SERVER_CORE, pinned
from benchmarks.servers import ROOT, Server

START_SECONDS = 60.0


class ServerFailed(RuntimeError):
    """Raised when a server ends or does not listen in time. The end of its output is in the text."""


@dataclass(frozen=True)
class Running:
    """A server that listens."""

    server: Server
    port: int
    pid: int


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_listening(process: "subprocess.Popen[bytes]", port: int, log: Path, label: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerFailed(f"{label} ended with {process.returncode}: {log.read_text()[-2000:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise ServerFailed(f"{label} does not listen after {START_SECONDS:.0f} s: {log.read_text()[-2000:]}")


def raise_file_limit() -> None:
    """Raises the soft limit of open files to the hard limit, for this process and all that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def running(server: Server) -> Iterator[Running]:
    """Starts the server on a free port, pinned to the server's core, and kills it at the end.

    A durable server gets a new, empty log on the disk that holds this repository.

    Raises:
        ServerFailed: it ended, or does not listen within `START_SECONDS`.
    """
    server.prepare()
    native.BUILD.mkdir(exist_ok=True)
    log = native.BUILD / f"{server.key}.log"
    with tempfile.TemporaryDirectory(dir=native.BUILD, prefix="data-") as data, log.open("wb") as output:
        port = _free_port()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAQCOON_")},
            **server.environment,
            "PORT": str(port),
            "NODE_ENV": "production",
            "PYTHONPATH": str(ROOT),
        }
        if server.durable:
            environment["RAQCOON_PORT"] = str(port)
            environment["RAQCOON_DATABASE_URL"] = f"sqlite:///{data}/raqcoon.db"
        with pinned(SERVER_CORE):
            process = subprocess.Popen(
                server.command(port),
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait_until_listening(process, port, log, server.label)
            yield Running(server, port, process.pid)
            if process.poll() is not None:
                raise ServerFailed(f"{server.label} ended with {process.returncode}: {log.read_text()[-2000:]}")
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
