"""What was erased is in no memory that the server's process holds, seen from outside."""

import asyncio
import re
import sys
import uuid
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.cluster.chat_client import ChatClient
from tests.server_process import ServerProcess, running

OVERWRITES_WHAT_IS_FREED = {
    "PYTHONMALLOC": "malloc",
    "GLIBC_TUNABLES": "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0",
}
"""What docs/changes.md tells operators: the C library then fills memory with one byte when it is freed."""
SUBSCRIBE = (
    """{"id":"%s","type":"subscribe","payload":{"query":"subscription { %s(channelId: \\"g\\") { content } }"}}"""
)
POST = """mutation ($c: String!, $e: Boolean!) {
  postMessage(channelId: "g", author: "ada", content: $c, complete: $e) { id }
}"""
APPEND = "mutation ($i: ID!, $r: Int!, $p: String!) { appendToMessage(id: $i, revision: $r, piece: $p) { id } }"
EDIT = "mutation ($i: ID!, $t: String!) { editMessage(id: $i, content: $t) { id } }"
ERASE = "mutation ($i: ID!) { eraseMessage(id: $i) { id } }"
PAGE = """{ channel(id: "g") { messages(last: 50) { edges { node { content } } } } }"""


def dumped(pid: int, needle: bytes) -> list[bytes]:
    """Every place of a process's memory that holds `needle`, with what is around it."""
    found = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for begin, end, region in re.findall(r"(\w+)-(\w+) r(.*)", maps.read()):
            if "[vvar" in region or "[vsyscall" in region:
                continue
            content, size = bytearray(), int(end, 16) - int(begin, 16)
            with suppress(OSError):  # It was given back since.
                memory.seek(int(begin, 16))
                while len(content) < size and (part := memory.read(size - len(content))):
                    content += part
            found += [
                content[max(0, at.start() - 40) : at.end() + 40] for at in re.finditer(re.escape(needle), content)
            ]
    return found


async def read(client: ChatClient, url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as rest:
        await asyncio.gather(*(client.ask(PAGE) for _ in range(8)), rest.get("/api/messages?channel_id=g"))


@pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is read from /proc")
@pytest.mark.timeout(120)
async def test_erased_text_is_in_no_memory_that_the_process_holds(tmp_path: Path) -> None:
    """What is freed is overwritten in this process, so what is found is held. The buffer into which the network is read
    keeps what came last until as much comes again."""
    server = ServerProcess(tmp_path, environment=OVERWRITES_WHAT_IS_FREED)
    needle = uuid.uuid4().hex
    protocols = [Subprotocol("graphql-transport-ws")]
    async with (
        running(server),
        ChatClient(server.url) as client,
        connect(server.socket_url, subprotocols=protocols, max_queue=None) as socket,
    ):
        await socket.send('{"type":"connection_init"}')
        for field in ("messages", "changes"):
            await socket.send(SUBSCRIBE % (field, field))
        await client.ask(POST, c="before", e=True)
        id_ = (await client.ask(POST, c=f"<{needle}>", e=False))["postMessage"]["id"]
        for number in range(20):
            await client.ask(APPEND, i=id_, r=number, p=f"{needle} {number} " * 10)
        await read(client, server.url)
        await client.ask(EDIT, i=id_, t=needle * 9)
        await client.ask(POST, c="after", e=True)
        await read(client, server.url)
        assert dumped(server.pid, needle.encode())
        await client.ask(ERASE, i=id_)
        await client.ask(POST, c="x" * 60_000, e=True)
        async with asyncio.timeout(10):  # Reads that were under way end, and a sweep comes.
            while dumped(server.pid, needle.encode()):
                await asyncio.sleep(0.1)
