"""JSON that takes long to read is read in turns, at every way in, and what holds too many lists is not read at all."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from schema.operations import Operations
from tests.fakes import memory_chat
from tests.transports.live_server import RawSocket, frame, serve, until
from transports.app import build_app
from transports.gate.heavy_json import HEAVY_BYTES, HEAVY_SEPARATORS, is_heavy
from transports.serving.held_bytes import HeldBytes
from transports.serving.http_protocol import HttpProtocol
from transports.shims import calls
from transports.wire import json_codec
from transports.wire.json_codec import CONTAINERS_MAX

CLIENTS = 8
VALUES = [0] * 5_000
BRACKETS: list[Any] = [[]] * CONTAINERS_MAX
ITEM = {"channel_id": "c", "author": "ann", "content": "x"}


class Rounds:
    """Counts the rounds of the loop, and notes in which of them something happened."""

    def __init__(self) -> None:
        self.now = 0
        self.noted: list[int] = []

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.now += 1

    def note(self) -> None:
        self.noted.append(self.now)


@asynccontextmanager
async def rounds_of_the_loop() -> Any:
    rounds = Rounds()
    task = asyncio.create_task(rounds._count())
    yield rounds
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("text", "heavy"),
    [
        ("," * HEAVY_SEPARATORS + " ", False),
        ("," * (HEAVY_SEPARATORS + 1), True),
        ("[" * 800 + "{" * 800 + "," * 401, True),
        ("x" * HEAVY_BYTES, False),
        ("x" * (HEAVY_BYTES + 1), True),
    ],
)
def test_text_is_heavy_by_what_can_be_seen_of_it(text: str, heavy: bool) -> None:
    assert is_heavy(text) == is_heavy(text.encode()) == heavy


# -- every way in ----------------------------------------------------------------------------------------------------

Way = Callable[[Any, Any], Awaitable[list[str]]]
"""Sends `more` to an application by one way, in a place where it is passed over; returns what was said to it."""


async def _http(app: Any, method: str, path: str, body: bytes, query: bytes = b"", accept: bytes = b"*/*") -> list[str]:
    said: list[str] = []
    events = [{"type": "http.request", "body": body}]

    async def receive() -> Any:
        if events:
            return events.pop()
        return {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        said.append(str(event.get("status", "")) + event.get("body", b"").decode())

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"accept", accept)]
    await app(_scope("http", path, headers, method=method, query_string=query), receive, send)
    return said


def _scope(kind: str, path: str, headers: Any, **more: Any) -> dict[str, Any]:
    return {
        "type": kind, "path": path, "raw_path": path.encode(), "headers": headers, "client": ("127.0.0.1", 1),
        "query_string": b"", "http_version": "1.1", "root_path": "", "extensions": {}, **more,
    }  # fmt: skip


async def _socket(app: Any, path: str, *frames: dict[str, Any]) -> list[str]:
    said: list[str] = []
    events: list[Any] = [{"type": "websocket.disconnect", "code": 1000}]
    events += [{"type": "websocket.receive", "text": json.dumps(each)} for each in reversed(frames)]
    events.append({"type": "websocket.connect"})

    async def receive() -> Any:
        return events.pop()

    async def send(event: Any) -> None:
        said.append(f"{event.get('code', '')}{event.get('text', '')}")

    subprotocols = ["graphql-transport-ws"] if path == "/graphql" else []
    await app(_scope("websocket", path, [(b"host", b"localhost")], subprotocols=subprotocols), receive, send)
    return said


def is_refused(said: list[str]) -> bool:
    """Whether it was told that what it sent cannot be: by a status, a close code or an error frame."""
    return any(each.startswith(("400", "422", "4400")) or "BAD_USER_INPUT" in each for each in said)


def _json(**members: Any) -> bytes:
    return json.dumps(members).encode()


QUERY = "{ __typename }"
INIT = {"type": "connection_init"}
SUBSCRIBED = {"query": 'subscription { messages(channelId: "c") { id } }'}
WAYS: dict[str, Way] = {
    "GraphQL POST": lambda app, more: _http(app, "POST", "/graphql", _json(query=QUERY, extensions={"m": more})),
    "GraphQL GET": lambda app, more: _http(
        app, "GET", "/graphql", b"", f'query={QUERY}&extensions={{"m":{json.dumps(more)}}}'.encode()
    ),
    "event stream": lambda app, more: _http(
        app, "POST", "/graphql", _json(**SUBSCRIBED, extensions={"m": more}), accept=b"text/event-stream"
    ),
    "REST post": lambda app, more: _http(app, "POST", "/api/messages", _json(**ITEM, more=more)),
    "REST edit": lambda app, more: _http(app, "PATCH", "/api/messages/c:1", _json(content="y", more=more)),
    "REST append": lambda app, more: _http(
        app, "POST", "/api/messages/c:1/append", _json(revision=0, piece="y", more=more)
    ),
    "socket's init": lambda app, more: _socket(app, "/graphql", {**INIT, "payload": {"m": more}}),
    "socket's ping": lambda app, more: _socket(app, "/graphql", INIT, {"type": "ping", "payload": {"m": more}}),
    "subscribe": lambda app, more: _socket(
        app, "/graphql", INIT, {"id": "1", "type": "subscribe", "payload": {**SUBSCRIBED, "extensions": {"m": more}}}
    ),
    "plain socket": lambda app, more: _socket(app, "/api/ws/c", {"type": "message", "content": "x", "more": more}),
}


@pytest.mark.parametrize("name", WAYS)
async def test_one_heavy_text_is_read_in_a_round_of_the_loop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with memory_chat() as chat, rounds_of_the_loop() as rounds:
        app = build_app(chat, Operations())
        await _http(app, "POST", "/api/messages", _json(**{**ITEM, "complete": False}))
        check = json_codec.check_containers

        def noted(text: str | bytes) -> None:
            if len(text) > len(VALUES):
                rounds.note()
            check(text)

        monkeypatch.setattr(json_codec, "check_containers", noted)
        monkeypatch.setattr(calls, "check_containers", noted)
        said = await asyncio.gather(*(WAYS[name](app, VALUES) for _ in range(CLIENTS)))
        assert len(rounds.noted) == CLIENTS
        assert len(set(rounds.noted)) == CLIENTS, rounds.noted
        # What it holds is no reason to refuse it.
        assert not any(map(is_refused, said)), said


@pytest.mark.parametrize("name", WAYS)
async def test_text_with_too_many_lists_is_refused_before_it_is_read(name: str) -> None:
    async with memory_chat() as chat:
        app = build_app(chat, Operations())
        await _http(app, "POST", "/api/messages", _json(**ITEM))
        said = await WAYS[name](app, BRACKETS)
        assert is_refused(said), said
        assert await chat.log.last_sequence("c") == 1


# -- what is read from connections -----------------------------------------------------------------------------------

LONG = b"x" * 200_000


@pytest.mark.parametrize("way", ["body", "chunked body", "URL", "WebSocket message"])
async def test_one_long_request_begins_in_a_round_of_the_loop(way: str) -> None:
    async with rounds_of_the_loop() as rounds:

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.accept"})
                if (await receive())["type"] == "websocket.receive":
                    rounds.note()
                    await receive()
                return
            while (await receive()).get("more_body"):
                pass
            rounds.note()
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        sent = {
            "body": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(LONG), LONG),
            "chunked body": b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(LONG), LONG),
            "URL": b"GET /?%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % LONG[:60_000],
            "WebSocket message": frame(LONG, opcode=1),
        }[way]
        async with serve(app) as port:
            writers = []
            for _ in range(CLIENTS):
                if way == "WebSocket message":
                    writer = (await RawSocket.open(port, "/")).writer
                else:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                writers.append(writer)
                writer.write(sent[:-1])
            # All that came is parsed, and waits for its last byte.
            for writer in writers:
                await writer.drain()
            await asyncio.sleep(0.1)
            for writer in writers:
                writer.write(sent[-1:])
            await until(lambda: len(rounds.noted) == CLIENTS)
            for writer in writers:
                writer.transport.abort()
        assert len(set(rounds.noted)) == CLIENTS, rounds.noted


async def test_message_counts_as_held_until_the_application_takes_the_next() -> None:
    held = HeldBytes()
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await go_on.wait()
        await receive()

    async with serve(app, http=partial(HttpProtocol, held_bytes=held)) as port:
        socket = await RawSocket.open(port, "/")
        socket.writer.write(frame(LONG, opcode=1))
        await until(lambda: held.total == len(LONG))
        await asyncio.sleep(0.05)
        assert held.total == len(LONG)
        go_on.set()
        await until(lambda: held.total == 0)
        socket.writer.transport.abort()
