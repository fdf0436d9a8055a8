"""Long answers: the same JSON in pieces, and little held for clients that do not read."""

import asyncio
import json
from typing import Any

import httpx

from messages import ANYONE
from resolvers.chat import READS_OF_CLIENT_AT_ONCE
from resolvers.post_message import post_message
from resolvers.untaken_answers import CLIENT_BYTES_MAX
from tests.fakes import fill
from tests.transports.http_client import over_a_socket
from tests.transports.live_server import RawSocket, until

LONG = "x" * 65_536


async def long_messages(chat: Any, count: int, channel_id: str = "c") -> None:
    for number in range(count):
        await post_message(chat, ANYONE, channel_id=channel_id, author="ann", content=f"{number} {LONG}"[:65_536])


async def test_long_lists_are_the_same_json_as_short_ones() -> None:
    async with over_a_socket() as (chat, client, _):
        await fill(chat, "a", 5)
        await long_messages(chat, 12)
        await fill(chat, "d", 40)
        of_channel = (await client.get("/api/messages", params={"channel_id": "c"})).json()["messages"]
        assert [item["sequence"] for item in of_channel] == list(range(1, 13))
        of_all = (await client.get("/api/messages", params={"limit": 1000})).json()["messages"]
        assert [(item["channel_id"], item["sequence"]) for item in of_all] == [
            *(("a", number) for number in range(1, 6)),
            *(("c", number) for number in range(1, 13)),
            *(("d", number) for number in range(1, 41)),
        ]
        assert [item["content"][:3] for item in of_all[5:8]] == ["0 x", "1 x", "2 x"]
        for limit in (1, 3, 7, 31, 32, 33):
            shorter = (await client.get("/api/messages", params={"limit": limit})).json()["messages"]
            assert shorter == of_all[:limit]
            shorter = (await client.get("/api/messages", params={"limit": limit, "channel_id": "c"})).json()["messages"]
            assert shorter == of_channel[:limit]
        empty = await client.get("/api/messages", params={"channel_id": "nobody"})
        assert empty.json() == {"messages": []}
        assert empty.headers["content-length"] == str(len(empty.content))
        assert chat.untaken_answers.bytes == 0


async def test_channels_are_listed_whole_or_page_by_page() -> None:
    async with over_a_socket() as (chat, client, _):
        ids = [f"c{number:04}" for number in range(2_500)]
        for channel_id in ids:
            await fill(chat, channel_id, 1)
        whole = await client.get("/api/channels")
        assert whole.json() == {"channels": ids}
        assert "content-length" not in whole.headers  # It came in pieces, so none of them was the whole.
        page = (await client.get("/api/channels", params={"after": "c0099", "limit": 3})).json()
        assert page == {"channels": ["c0100", "c0101", "c0102"]}
        assert (await client.get("/api/channels", params={"after": "c2499"})).json() == {"channels": []}
        for wrong in ({"limit": 0}, {"limit": 10_001}, {"limit": "x"}):
            assert (await client.get("/api/channels", params=wrong)).status_code == 422


async def test_clients_that_do_not_read_a_long_list_hold_little() -> None:
    async with over_a_socket() as (chat, client, _):
        await long_messages(chat, 200)
        port = client.base_url.port
        streams = []
        for path in ("?limit=1000&channel_id=c", "?limit=1000") * 10:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(f"GET /api/messages{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            streams.append((reader, writer))
        await until(lambda: len(chat.reads) == 0 and chat.untaken_answers.bytes > 1_000_000)
        await asyncio.sleep(0.3)
        # Two pieces each at most; those of all channels begin with 32 messages.
        assert chat.untaken_answers.bytes < 20 * 2_500_000
        # Everybody else's lists come all the same.
        assert len(json.loads((await client.get("/api/messages?channel_id=c&limit=50")).content)["messages"]) == 50
        for _reader, writer in streams:
            writer.transport.abort()
        await until(lambda: chat.untaken_answers.bytes == 0)


PAGE = '{ channel(id: "c") { messages(last: 200) { edges { node { content } } } } }'


async def ask_without_reading(port: int, accept: str) -> asyncio.StreamWriter:
    _reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    body = json.dumps({"query": PAGE}).encode()
    head = f"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: {accept}\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return writer


async def test_clients_that_do_not_read_long_answers_hold_what_a_client_may_and_others_are_answered() -> None:
    async with over_a_socket() as (chat, client, _):
        await long_messages(chat, 200)
        port = client.base_url.port
        assert port is not None
        accepts = ("application/json", "text/event-stream", "multipart/mixed;subscriptionSpec=1.0")
        writers = [await ask_without_reading(port, accepts[number % 3]) for number in range(20)]
        sockets = []
        for _ in range(5):
            opened = await RawSocket.open(port, "/graphql", subprotocol="graphql-transport-ws")
            await opened.send({"type": "connection_init"})
            await opened.expect()
            await opened.send({"id": "1", "type": "subscribe", "payload": {"query": PAGE}})
            sockets.append(opened)
        await until(lambda: chat.untaken_answers.bytes > CLIENT_BYTES_MAX)
        await asyncio.sleep(0.5)
        page_bytes = 200 * 65_600
        assert chat.untaken_answers.bytes <= CLIENT_BYTES_MAX + READS_OF_CLIENT_AT_ONCE * page_bytes
        transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(base_url=str(client.base_url), transport=transport, timeout=10) as other:
            answer = (await other.post("/graphql", json={"query": PAGE})).json()
            assert len(answer["data"]["channel"]["messages"]["edges"]) == 200
        for writer in writers:
            writer.transport.abort()
        for opened in sockets:
            opened.reset()
        await until(lambda: chat.untaken_answers.bytes == 0)
