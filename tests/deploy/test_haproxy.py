"""The HAProxy configuration of `deploy/`, in a real HAProxy. It passes trailers on, and the server does not take them
for headers."""

import asyncio
import contextlib
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.server_process import REPOSITORY, ServerProcess, free_port, running
from tests.transports.tokens import SECRET, token

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
pytestmark = pytest.mark.skipif(HAPROXY is None, reason="no haproxy on this machine (Debian: apt-get install haproxy)")

POSTS_PER_SECOND = 2


class Balancer:
    """HAProxy in front of a server. What it sends to the server is recorded on the way."""

    def __init__(self, port: int, server_port: int) -> None:
        self.port = port
        self.passed_on = b""
        self._server_port = server_port

    async def note(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)

        async def answers() -> None:
            with contextlib.suppress(ConnectionError):
                while data := await server_reader.read(65_536):
                    writer.write(data)
            writer.close()

        answering = asyncio.create_task(answers())
        with contextlib.suppress(ConnectionError):  # HAProxy resets the connections of its checks.
            while data := await reader.read(65_536):
                self.passed_on += data
                server_writer.write(data)
        server_writer.close()
        await answering

    async def post(self, author: str, headers: str, trailers: str) -> int:
        """The status of a post whose body is chunked."""
        body = json.dumps({"channel_id": "c", "author": author, "content": "x"}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = "POST /api/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}{headers}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        writer.write(b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailers.encode()))
        status = int((await reader.readline()).split()[1])
        await reader.read()
        writer.close()
        return status


@asynccontextmanager
async def balancer(directory: Path, server: ServerProcess) -> AsyncIterator[Balancer]:
    shown = Balancer(free_port(), server.port)
    listener = await asyncio.start_server(shown.note, "127.0.0.1", 0)
    between = listener.sockets[0].getsockname()[1]
    shipped = (REPOSITORY / "deploy" / "haproxy.cfg").read_text()
    shipped, changed = re.subn(r"\bnode-\w:8010", f"127.0.0.1:{between}", shipped)
    assert changed == 6
    shipped = shipped.replace("bind :8010", f"bind 127.0.0.1:{shown.port}")
    # HAProxy needs two open files for each connection, and a machine that runs tests may not allow so many.
    shipped = shipped.replace("maxconn 50000", "maxconn 500")
    (directory / "haproxy.cfg").write_text(shipped)
    with (directory / "haproxy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(str(HAPROXY), "-f", str(directory / "haproxy.cfg"), stdout=log)
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", shown.port)
                    break
                except ConnectionError:
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
        writer.close()
        yield shown
    finally:
        process.kill()
        await process.wait()
        listener.close()


async def test_trailers_that_haproxy_passes_on_are_no_headers(tmp_path: Path) -> None:
    server = ServerProcess(
        tmp_path, auth="jwt", jwt_secret=SECRET, trusted_proxies="127.0.0.1", posts_per_second=POSTS_PER_SECOND
    )
    bearer = {author: f"Authorization: Bearer {token(sub=author)}\r\n" for author in "abcdefgh"}
    async with running(server), balancer(tmp_path, server) as haproxy:
        assert await haproxy.post("a", "", bearer["a"]) == 401
        assert b"authorization: Bearer " in haproxy.passed_on
        # All of them come from one address, whatever address their trailers name.
        answers = [
            await haproxy.post(author, header, f"X-Forwarded-For: 198.51.100.{number}\r\n")
            for number, (author, header) in enumerate(bearer.items())
        ]
        assert b"x-forwarded-for: 198.51.100.7\r\n" in haproxy.passed_on
        assert answers[:POSTS_PER_SECOND] == [200] * POSTS_PER_SECOND
        assert 429 in answers
        # A header is replaced.
        assert await haproxy.post("a", f"X-Forwarded-For: 198.51.100.99\r\n{bearer['a']}", "") == 429
        assert b"198.51.100.99" not in haproxy.passed_on
