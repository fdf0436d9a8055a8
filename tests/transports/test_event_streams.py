"""Subscriptions over SSE and multipart, byte by byte, against a real server."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from messages import Message, encode_cursor
from resolvers.chat import Chat
from schema.operations import Operations
from tests.fakes import MemoryLog, fill, memory_chat
from tests.transports.http_client import over_a_socket
from tests.transports.live_server import RawSocket, serve, until
from transports.gate.connections import Connections
from transports.gate.origins import Origins
from transports.graphql import event_streams
from transports.graphql.http import GraphQLHTTP

SUBSCRIBE = """
subscription ($c: ID!, $a: Cursor, $f: MessageFilter) {
  messages(channelId: $c, after: $a, filter: $f) { sequence content }
}
"""
SSE = {"accept": "text/event-stream"}
MULTIPART = {"accept": 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0,application/json'}


class Stream:
    """A response read piece by piece."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._pieces = response.aiter_bytes()
        self._held = b""

    async def until(self, delimiter: bytes) -> bytes:
        """What comes up to and with the delimiter."""
        while delimiter not in self._held:
            self._held += await anext(self._pieces)
        piece, _, self._held = self._held.partition(delimiter)
        return piece + delimiter

    async def rest(self) -> bytes:
        async for piece in self._pieces:
            self._held += piece
        return self._held

    async def event(self) -> dict[str, str]:
        """The next server-sent event that is no comment, as EventSource reads it."""
        while True:
            lines = (await self.until(b"\n\n")).decode().split("\n")[:-2]
            split = (line.partition(":") for line in lines if not line.startswith(":"))
            fields = {name: value.removeprefix(" ") for name, _, value in split}
            if fields:
                return fields

    async def part(self) -> Any:
        """The next multipart part, as Apollo Client reads it: complete once the next delimiter is here."""
        headers, _, body = (await self.until(b"\r\n--graphql")).partition(b"\r\n\r\n")
        assert headers == b"\r\nContent-Type: application/json"
        return json.loads(body.removesuffix(b"\r\n--graphql"))


@asynccontextmanager
async def subscribed(
    client: httpx.AsyncClient, headers: dict[str, str], channel: str = "c", **variables: Any
) -> AsyncIterator[Stream]:
    request = {"query": SUBSCRIBE, "variables": {"c": channel, **variables}}
    async with client.stream("POST", "/graphql", json=request, headers=headers) as response:
        yield Stream(response)


def result(message: Message) -> dict[str, Any]:
    return {"data": {"messages": {"sequence": message.sequence, "content": message.content}}}


@pytest.fixture
async def served() -> AsyncIterator[tuple[Chat, httpx.AsyncClient]]:
    async with over_a_socket() as (chat, client, app):
        yield chat, client
        await until(lambda: chat.hub.channels == {} and not len(app.connections))


async def test_sse_sends_history_then_live_with_cursors_as_ids(served: tuple[Chat, httpx.AsyncClient]) -> None:
    chat, client = served
    messages = await fill(chat, "c", 3)
    async with subscribed(client, SSE, a=messages[0].cursor) as stream:
        assert stream.response.status_code == 200
        assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.response.headers["cache-control"] == "no-store, no-transform"
        events = [await stream.event() for _ in range(2)]
        (late,) = await fill(chat, "c", 1)
        events.append(await stream.event())
    for event, message in zip(events, [*messages[1:], late], strict=True):
        assert event["event"] == "next"
        assert event["id"] == message.cursor
        assert json.loads(event["data"]) == result(message)


async def test_sse_is_framed_by_line_feeds_alone(served: tuple[Chat, httpx.AsyncClient]) -> None:
    chat, client = served
    (message,) = await fill(chat, "c", 1)
    async with subscribed(client, SSE, a=_before(chat, message)) as stream:
        raw = await stream.until(b"}\n\n")
    data = json.dumps(result(message), separators=(",", ":"))
    assert raw.decode() == f":\nevent: next\nid: {message.cursor}\ndata: {data}\n\n"


def _before(chat: Chat, message: Message) -> str:
    return encode_cursor(chat.log.epoch, message.channel_id, message.sequence - 1)


async def test_sse_resumes_after_the_last_event_id_whatever_the_query_says(
    served: tuple[Chat, httpx.AsyncClient],
) -> None:
    chat, client = served
    messages = await fill(chat, "c", 3)
    headers = {**SSE, "last-event-id": messages[1].cursor}
    params = {"query": SUBSCRIBE, "variables": json.dumps({"c": "c", "a": messages[0].cursor})}
    async with client.stream("GET", "/graphql", params=params, headers=headers) as response:
        event = await Stream(response).event()
    assert event["id"] == messages[2].cursor


async def test_multipart_sends_each_message_as_a_complete_part(served: tuple[Chat, httpx.AsyncClient]) -> None:
    chat, client = served
    messages = await fill(chat, "c", 2)
    async with subscribed(client, MULTIPART, a=messages[0].cursor) as stream:
        content_type = stream.response.headers["content-type"]
        assert content_type == 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0'
        assert await stream.until(b"\r\n--graphql") == b"\r\n--graphql"
        assert await stream.part() == {"payload": result(messages[1])}
        (late,) = await fill(chat, "c", 1)
        assert await stream.part() == {"payload": result(late)}


@pytest.mark.parametrize("headers", [SSE, MULTIPART])
async def test_stream_that_may_not_be_tells_why_and_completes(
    served: tuple[Chat, httpx.AsyncClient], headers: dict[str, str]
) -> None:
    _, client = served
    async with subscribed(client, headers, a="junk") as stream:
        assert stream.response.status_code == 200
        if headers is SSE:
            failure = json.loads((await stream.event())["data"])
            assert await stream.rest() == b"event: complete\ndata:\n\n"
        else:
            await stream.until(b"\r\n--graphql")
            failure = await stream.part()
            assert failure.pop("payload") is None
            assert await stream.rest() == b"--\r\n"
    assert failure["errors"][0]["extensions"] == {"code": "CURSOR_INVALID"}


BAD_REQUESTS = [
    ({"query": "subscription {"}, "GRAPHQL_PARSE_FAILED"),
    ({"query": "subscription { nothing }"}, "GRAPHQL_VALIDATION_FAILED"),
    ({"query": SUBSCRIBE, "operationName": "Absent"}, "GRAPHQL_VALIDATION_FAILED"),
    ({"query": ""}, "BAD_USER_INPUT"),
    ({"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}}, "PERSISTED_QUERY_NOT_FOUND"),
]


@pytest.mark.parametrize(("request_", "code"), BAD_REQUESTS)
async def test_what_is_wrong_with_a_document_is_told_in_the_stream_that_was_asked_for(
    served: tuple[Chat, httpx.AsyncClient], request_: dict[str, Any], code: str
) -> None:
    _, client = served
    response = await client.post("/graphql", json=request_, headers=SSE)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    event, _, rest = response.text.removeprefix(":\n").partition("\n\n")
    assert event.startswith("event: next\ndata: ")
    assert json.loads(event.partition("data: ")[2])["errors"][0]["extensions"]["code"] == code
    assert rest == "event: complete\ndata:\n\n"
    multipart = {"accept": "multipart/mixed;subscriptionSpec=1.0"}
    parts = (await client.post("/graphql", json=request_, headers=multipart)).text.split("\r\n--graphql")
    part = json.loads(parts[1].partition("\r\n\r\n")[2])
    assert (part["payload"], part["errors"][0]["extensions"]["code"]) == (None, code)
    assert parts[-1] == "--\r\n"


@pytest.mark.parametrize(("request_", "code"), BAD_REQUESTS)
async def test_what_is_wrong_with_a_document_is_json_where_that_is_acceptable_too(
    served: tuple[Chat, httpx.AsyncClient], request_: dict[str, Any], code: str
) -> None:
    _, client = served
    response = await client.post("/graphql", json=request_, headers=MULTIPART)
    assert response.headers["content-type"].startswith("application/json")
    assert response.json()["errors"][0]["extensions"]["code"] == code


async def test_stream_that_retention_overtakes_ends_with_where_to_go_on(
    served: tuple[Chat, httpx.AsyncClient],
) -> None:
    chat, client = served
    messages = await fill(chat, "c", 5)
    assert isinstance(chat.log, MemoryLog)
    chat.log.forget("c", up_to=3)
    async with subscribed(client, SSE, a=messages[0].cursor) as stream:
        failure = json.loads((await stream.event())["data"])
        assert (await stream.event())["event"] == "complete"
    extensions = failure["errors"][0]["extensions"]
    assert extensions == {"code": "CURSOR_EXPIRED", "resumeCursor": messages[2].cursor}


async def test_sse_ends_without_complete_when_the_server_goes_so_that_clients_come_back(
    served: tuple[Chat, httpx.AsyncClient],
) -> None:
    chat, client = served
    async with subscribed(client, SSE) as stream:
        await stream.until(b":\n")
        await chat.hub.stop()
        assert b"complete" not in await stream.rest()


async def test_streams_are_sent_away_by_a_server_that_drains_and_further_ones_refused() -> None:
    async with over_a_socket() as (chat, client, app):
        async with subscribed(client, MULTIPART) as stream:
            await stream.until(b"\r\n--graphql")
            assert len(app.connections) == 1
            chat.accepting = False
            app.end_streams()
            assert await stream.rest() == b""
            async with subscribed(client, SSE) as refused:
                assert refused.response.status_code == 503
                assert refused.response.headers["retry-after"] == "1"
        await until(lambda: chat.hub.channels == {})


async def test_streams_count_towards_the_limit_of_connections() -> None:
    async with (
        over_a_socket(connections=Connections(max_per_address=1)) as (_, client, _app),
        subscribed(client, SSE) as stream,
    ):
        await stream.until(b":\n")
        async with subscribed(client, SSE) as second:
            assert second.response.status_code == 429


async def test_query_over_a_stream_is_one_result_and_complete(served: tuple[Chat, httpx.AsyncClient]) -> None:
    _, client = served
    query = {"query": "{ __typename }"}
    events = (await client.post("/graphql", json=query, headers=SSE)).text
    assert events == ':\nevent: next\ndata: {"data":{"__typename":"Query"}}\n\nevent: complete\ndata:\n\n'
    parts = (await client.post("/graphql", json=query, headers={"accept": "multipart/mixed"})).text
    assert parts == (
        "\r\n--graphql\r\nContent-Type: application/json\r\n\r\n"
        '{"payload":{"data":{"__typename":"Query"}}}\r\n--graphql--\r\n'
    )


@pytest.mark.parametrize(("headers", "heartbeat"), [(SSE, b":\n"), (MULTIPART, b"\r\n\r\n{}\r\n--graphql")])
async def test_silent_stream_says_that_it_lives(headers: dict[str, str], heartbeat: bytes) -> None:
    async with memory_chat() as chat:
        app = GraphQLHTTP(chat, Operations(), origins=Origins("127.0.0.1"), heartbeat_seconds=0.01)
        async with serve(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            async with subscribed(client, headers) as stream:
                for _ in range(3):
                    await stream.until(heartbeat)
            await until(lambda: chat.hub.channels == {})


async def test_client_that_vanishes_leaves_nothing_behind(served: tuple[Chat, httpx.AsyncClient]) -> None:
    chat, client = served
    url = client.base_url
    body = json.dumps({"query": SUBSCRIBE, "variables": {"c": "c"}}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", url.port)
    writer.write(
        b"POST /graphql HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )
    await reader.readuntil(b":\n")
    assert len(chat.hub.channels) == 1
    RawSocket(reader, writer, "").reset()
    await until(lambda: chat.hub.channels == {})
    await fill(chat, "c", 1)


async def test_client_that_does_not_read_gets_everything_once_it_does(
    served: tuple[Chat, httpx.AsyncClient],
) -> None:
    chat, client = served
    (first,) = await fill(chat, "c", 1)
    async with subscribed(client, SSE, a=first.cursor) as stream:
        await stream.until(b":\n")
        for _ in range(20):
            await fill(chat, "c", 50, lane="x" * 60)
        seen = [json.loads((await stream.event())["data"])["data"]["messages"]["sequence"] for _ in range(1000)]
    assert seen == list(range(2, 1002))


async def test_client_that_takes_nothing_for_long_is_left() -> None:
    stuck = asyncio.Event()

    async def send(event: Any) -> None:
        if event["type"] == "http.response.body" and b"next" in event["body"]:
            stuck.set()
            await asyncio.Event().wait()

    async with memory_chat() as chat:
        first, _ = await fill(chat, "c", 2)
        app = GraphQLHTTP(chat, Operations(), origins=Origins("127.0.0.1"), stuck_seconds=0.05)
        body = json.dumps({"query": SUBSCRIBE, "variables": {"c": "c", "a": first.cursor}}).encode()
        received = iter([{"type": "http.request", "body": body}])

        async def receive() -> Any:
            event = next(received, None)
            return event if event is not None else await asyncio.Event().wait()

        headers = [(b"accept", b"text/event-stream"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/graphql", "query_string": b"", "headers": headers}
        await app(scope, receive, send)
        assert stuck.is_set()
        assert chat.hub.channels == {}


async def test_many_streams_share_the_bytes_of_a_batch(
    served: tuple[Chat, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    chat, client = served
    built = 0

    def counted(build: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
        def counting(batch: Any) -> bytes:
            nonlocal built
            built += 1
            return build(batch)

        return counting

    form = dataclasses.replace(event_streams.SSE, batch=counted(event_streams.SSE.batch))
    monkeypatch.setitem(event_streams.FORMATS, "sse", form)
    async with (
        subscribed(client, SSE) as first,
        subscribed(client, SSE) as second,
        subscribed(client, SSE) as third,
    ):
        streams = (first, second, third)
        for stream in streams:
            await stream.until(b":\n")
        await fill(chat, "c", 1)
        for stream in streams:
            await stream.event()
    assert built == 1
