"""The table of close codes is what graphql-ws does with them, and names every code that the server sends."""

import asyncio
import json
import re
import shutil
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve

from tests import node
from tests.clients.workspace import make_workspace
from tests.docs.blocks import REPOSITORY
from transports.graphql.frames import SUBPROTOCOL, CloseCode

PAGE = REPOSITORY / "docs" / "never-miss-a-message.md"


async def close_as_asked(socket: ServerConnection) -> None:
    """Acknowledges, waits for a subscription, and closes with the code that the path names."""
    assert socket.request is not None
    code = int(socket.request.path.lstrip("/"))
    await socket.recv()
    await socket.send('{"type":"connection_ack"}')
    await socket.recv()
    if code == 1006:
        socket.transport.abort()
    elif code == 1005:
        socket.transport.write(b"\x88\x00")  # A close frame without a code.
        await socket.wait_closed()
    else:
        await socket.close(code)


async def test_close_codes_table_is_what_graphql_ws_does(tmp_path: Path) -> None:
    rows = re.findall(r"^\| (\d{4}) \| .+ \| (retries|gives up)\b.*\|$", PAGE.read_text(), re.M)
    table = dict(rows)
    assert {str(code.value) for code in CloseCode} <= set(table)
    workspace = await asyncio.to_thread(make_workspace, tmp_path / "node")
    shutil.copy(Path(__file__).parent / "close_codes.mjs", workspace)
    async with serve(close_as_asked, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL]) as server:  # type: ignore[list-item]
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = await asyncio.create_subprocess_exec(
            "node",
            str(workspace / "close_codes.mjs"),
            address,
            json.dumps([int(code) for code in table]),
            stdout=asyncio.subprocess.PIPE,
            env=node.environment(),
        )
        output, _ = await client.communicate()
    assert json.loads(output) == table
