"""`server.py revoke`, `restore` and `revocations`, beside a server that holds the file."""

import asyncio
import sys
import time
from pathlib import Path

import pytest

from tests.server_process import REPOSITORY, ServerProcess, running
from tests.transports.graphql_ws_client import SUBSCRIBE, operation
from tests.transports.live_server import Closed, RawSocket
from tests.transports.tokens import SECRET, token


async def command(*arguments: str, url: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(REPOSITORY / "server.py"),
        *arguments,
        "--database-url",
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def subscribed(server: ServerProcess) -> RawSocket:
    opened = await RawSocket.open(server.port, "/graphql", subprotocol="graphql-transport-ws")
    await opened.send({"type": "connection_init", "payload": {"token": token(sub="eve")}})
    assert await opened.expect() == {"type": "connection_ack"}
    await opened.send(operation("1", SUBSCRIBE, channel="general"), {"type": "ping"})
    assert await opened.expect() == {"type": "pong"}
    return opened


@pytest.mark.alone
async def test_commands_act_on_the_running_server_within_a_second(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/raqcoon.db"
    server = ServerProcess(tmp_path, auth="jwt", jwt_secret=SECRET)
    async with running(server):
        eve = await subscribed(server)
        code, printed = await command("revoke", "eve", "--channel", "general", url=url)
        returned_at = time.monotonic()
        assert (code, printed.startswith("revoked: eve: general, without end")) == (0, True), printed
        assert (await eve.expect())["payload"][0]["extensions"]["code"] == "FORBIDDEN"
        assert time.monotonic() - returned_at < 1
        code, _ = await command("revoke", "eve", "--until", "2999-01-01T00:00:00Z", url=url)
        assert await eve.expect_close() == Closed(4403, "Forbidden")
        assert code == 0
        code, printed = await command("revocations", url=url)
        assert (code, [line.split(",")[0] for line in printed.splitlines()]) == (
            0,
            ["eve: every channel", "eve: general"],
        )
        await server.restart()
        for arguments in (("eve",), ("eve", "--channel", "general")):
            assert (await command("restore", *arguments, url=url))[0] == 0
        code, printed = await command("restore", "eve", url=url)
        assert (code, "there was no revocation" in printed) == (1, True)
        async with asyncio.timeout(1):
            while True:
                try:
                    opened = await subscribed(server)
                    break
                except AssertionError:
                    await asyncio.sleep(0.05)
        opened.reset()
        await server.stop()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("revoke", ""), "author"),
        (("revoke", "eve", "--channel", "a b"), "channelId"),
        (("revoke", "eve", "--until", "tomorrow"), "tomorrow"),
        (("revoke", "eve", "--until", "2001-01-01T00:00:00Z"), "until must be in the future"),
        (("revoke", "eve"), "no SQLite file"),
        (("revocations",), "no SQLite file"),
    ],
)
async def test_command_that_cannot_be_done_says_so_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    code, printed = await command(*arguments, url=f"sqlite:///{tmp_path}/raqcoon.db")
    (line,) = printed.splitlines()
    assert (code, problem in line) == (2, True), printed
