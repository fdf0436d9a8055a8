"""Values that clients meet on every way in alike: sequences beyond 32 bits, and moments in one form."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import insert

from delivery.hubs import Hubs
from message_log.database_url import dialect_of
from message_log.sql import SqlMessageLog
from message_log.tables import channels
from messages import SEQUENCE_MAX, encode_cursor
from resolvers.chat import Chat
from schema.operations import Operations
from tests.fakes import MemoryLog, fill, memory_chat
from tests.transports.live_server import RawSocket, serve, until
from tests.transports.test_event_streams import MULTIPART, SSE, Stream
from transports.app import build_app

FIELDS = "id channelId sequence cursor author content timestamp"
SUBSCRIBE = f'subscription ($after: Cursor) {{ messages(channelId: "c", after: $after) {{ {FIELDS} }} }}'
POST = f'mutation ($content: String!) {{ postMessage(channelId: "c", author: "a", content: $content) {{ {FIELDS} }} }}'
POST_OTHERWISE = f"""mutation {{ a: postMessage(channelId: "c", author: "a", content: "x") {{ ...M }} }}
fragment M on Message {{ {FIELDS} }}"""
PAGE = f"""query ($after: Cursor, $id: ID!) {{
  message(id: $id) {{ {FIELDS} }}
  channels {{ edges {{ node {{ lastSequence }} }} }}
  channel(id: "c") {{
    lastSequence headCursor
    last: messages(last: 10) {{ edges {{ cursor node {{ {FIELDS} }} }} }}
    first: messages(first: 10, after: $after, filter: {{ authors: ["a"] }}) {{
      edges {{ cursor node {{ {FIELDS} }} }} pageInfo {{ endCursor hasNextPage }}
    }}
  }}
}}"""
INIT = {"type": "connection_init"}


class Ways:
    """Every way in to one server. What comes of a message is brought to GraphQL's names."""

    def __init__(self, chat: Chat, port: int, http: httpx.AsyncClient) -> None:
        self.chat = chat
        self.port = port
        self.http = http

    async def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = (await self.http.post("/graphql", json={"query": query, "variables": variables})).json()
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    async def post_on_each(self) -> list[dict[str, Any]]:
        """Four posts, by GraphQL twice, REST and a plain WebSocket, as each was answered or echoed."""
        answered = [(await self.ask(POST, content="x"))["postMessage"], (await self.ask(POST_OTHERWISE))["a"]]
        body = {"channel_id": "c", "author": "a", "content": "x"}
        answered.append(
            renamed((await self.http.post("/api/messages", json=body)).raise_for_status().json()["message"])
        )
        plain = await RawSocket.open(self.port, "/api/ws/c")
        await plain.send({"type": "message", "author": "a", "content": "x"})
        answered.append(renamed((await plain.expect())["data"]))
        await plain.close()
        return answered

    @asynccontextmanager
    async def following(self, after: str | None) -> AsyncIterator[list[Callable[[], Awaitable[dict[str, Any]]]]]:
        """What reads the next message of a subscription, on each way in."""
        async with AsyncExitStack() as stack:
            graphql = await RawSocket.open(self.port, "/graphql", subprotocol="graphql-transport-ws")
            stack.push_async_callback(graphql.close)
            payload = {"query": SUBSCRIBE, "variables": {"after": after}}
            await graphql.send(INIT, {"id": "1", "type": "subscribe", "payload": payload}, {"type": "ping"})
            assert (await graphql.expect())["type"] == "connection_ack"
            if after is None:
                assert (await graphql.expect())["type"] == "pong"
            plain = await RawSocket.open(self.port, "/api/ws/c" + (f"?after={after}" if after else ""))
            stack.push_async_callback(plain.close)

            async def stream(headers: dict[str, str]) -> Stream:
                sent = self.http.stream("POST", "/graphql", json=payload, headers=headers)
                return Stream(await stack.enter_async_context(sent))

            sse, multipart = await stream(SSE), await stream(MULTIPART)
            await multipart.until(b"\r\n--graphql")

            async def by_graphql() -> dict[str, Any]:
                while (frame := await graphql.expect())["type"] == "pong":
                    pass
                return of(frame["payload"])

            async def by_plain() -> dict[str, Any]:
                return renamed((await plain.expect())["data"])

            async def by_sse() -> dict[str, Any]:
                return of(json.loads((await sse.event())["data"]))

            async def by_multipart() -> dict[str, Any]:
                return of((await multipart.part())["payload"])

            yield [by_graphql, by_plain, by_sse, by_multipart]


def of(result: dict[str, Any]) -> dict[str, Any]:
    assert "errors" not in result, result
    message: dict[str, Any] = result["data"]["messages"]
    return message


def renamed(item: dict[str, Any]) -> dict[str, Any]:
    return {name: item["channel_id" if name == "channelId" else name] for name in FIELDS.split()}


@asynccontextmanager
async def served(chat: Chat) -> AsyncIterator[Ways]:
    app = build_app(chat, Operations())
    async with serve(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        yield Ways(chat, port, http)
        await http.aclose()
        await until(lambda: chat.hub.channels == {} and not len(app.connections))


@asynccontextmanager
async def stored(url: str, last_sequence: int) -> AsyncIterator[Ways]:
    """A server on a log whose channel "c" has come so far, and holds nothing of it any more."""
    log = SqlMessageLog(url)
    hubs = Hubs(log)
    await log.open(hubs)
    engine = dialect_of(url).engine(1)
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        connection.execute(insert(channels).values(channel_id="c", last_sequence=last_sequence))
        connection.exec_driver_sql("COMMIT")
    engine.dispose()
    await hubs.start()
    try:
        async with served(Chat(log, hubs)) as ways:
            yield ways
    finally:
        await hubs.stop()
        await log.close()


@pytest.mark.parametrize("last_sequence", [2**31 - 3, SEQUENCE_MAX - 4], ids=["2^31", "2^53"])
async def test_sequence_beyond_32_bits_is_posted_delivered_paged_and_resumed(log_url: str, last_sequence: int) -> None:
    async with stored(log_url, last_sequence) as ways:
        expected = [last_sequence + number for number in range(1, 5)]
        async with ways.following(None) as reads:
            posted = await ways.post_on_each()
            assert [message["sequence"] for message in posted] == expected
            for read in reads:
                assert [await read() for _ in range(4)] == posted
        async with ways.following(posted[0]["cursor"]) as reads:
            for read in reads:
                assert [await read() for _ in range(3)] == posted[1:]
        page = await ways.ask(PAGE, after=posted[1]["cursor"], id=f"c:{expected[-1]}")
        assert page["message"] == posted[-1]
        assert page["channels"] == {"edges": [{"node": {"lastSequence": expected[-1]}}]}
        assert page["channel"]["lastSequence"] == expected[-1]
        assert page["channel"]["headCursor"] == posted[-1]["cursor"]
        assert [edge["node"] for edge in page["channel"]["last"]["edges"]] == posted
        assert [edge["node"] for edge in page["channel"]["first"]["edges"]] == posted[2:]
        assert page["channel"]["first"]["pageInfo"] == {"endCursor": posted[-1]["cursor"], "hasNextPage": False}
        found = (await ways.http.get("/api/messages", params={"channel_id": "c", "after": posted[0]["cursor"]})).json()
        assert [renamed(item) for item in found["messages"]] == posted[1:]
        assert (await ways.http.get("/api/summary")).json()["summary"]["total_messages"] == 4


async def test_channel_that_is_full_refuses_the_post_and_goes_on(log_url: str) -> None:
    async with stored(log_url, SEQUENCE_MAX - 1) as ways:
        body = {"channel_id": "c", "author": "a", "content": "x"}
        both = await asyncio.gather(*(ways.http.post("/api/messages", json=body) for _ in range(2)))
        assert sorted(answer.status_code for answer in both) == [200, 422]
        again = await ways.http.post("/graphql", json={"query": POST, "variables": {"content": "x"}})
        (error,) = again.json()["errors"]
        assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "channelId"}
        head = await ways.ask('{ channel(id: "c") { lastSequence headCursor } }')
        cursor = encode_cursor(ways.chat.log.epoch, "c", SEQUENCE_MAX)
        assert head == {"channel": {"lastSequence": SEQUENCE_MAX, "headCursor": cursor}}


async def test_integers_that_clients_send_stay_within_32_bits() -> None:
    async with memory_chat() as chat, served(chat) as ways:
        for query, variables, problem in (
            ('{ channel(id: "c") { messages(first: 2147483648) { edges { cursor } } } }', {}, "32-bit"),
            ("query ($n: Int) { channels(first: $n) { edges { cursor } } }", {"n": 2**31}, "its type is Int"),
            ("query ($n: Int) { channels(first: $n) { edges { cursor } } }", {"n": True}, "its type is Int"),
        ):
            answer = await ways.http.post("/graphql", json={"query": query, "variables": variables})
            assert problem in answer.json()["errors"][0]["message"]


async def test_timestamp_has_six_digits_of_fraction_at_a_whole_second_too() -> None:
    async with memory_chat() as chat, served(chat) as ways:
        log = chat.log
        assert isinstance(log, MemoryLog)
        whole = datetime(2026, 11, 27, 12, 0, 0, tzinfo=UTC)

        class Stopped:
            def __iadd__(self, other: object) -> datetime:
                return whole

        log._now = Stopped()  # type: ignore[assignment]
        async with ways.following(None) as reads:
            await fill(chat, "c", 1)
            live = [await read() for read in reads]
        answered = await ways.post_on_each()
        page = await ways.ask(PAGE, id="c:1")
        listed = (await ways.http.get("/api/messages")).json()["messages"]
        everything = [
            *live,
            *answered,
            page["message"],
            *(edge["node"] for edge in page["channel"]["last"]["edges"]),
            *listed,
        ]
        assert len(everything) == 4 + 4 + 1 + 5 + 5
        for message in everything:
            assert re.fullmatch(r"2026-11-27T12:00:00\.\d{6}\+00:00", message["timestamp"]), message
