"""graphql-transport-ws over a raw socket against a real server: malformed input first, then the handshake."""

import asyncio
import json
import time
from typing import Any

import pytest
from starlette.types import Scope

from errors import Forbidden, Unauthenticated, Unavailable
from messages import ANYONE, Viewer
from schema.operations import Operations
from tests.fakes import memory_chat
from tests.transports.graphql_ws_client import (
    ACK,
    graphql_server,
    open_acknowledged,
    open_socket,
    settle,
    subscription,
)
from tests.transports.graphql_ws_frames import MALFORMED
from tests.transports.live_server import Closed, Refused, frame, until
from transports.gate.connections import Connections
from transports.gate.limits import Limits
from transports.graphql.connection import INIT_WAITS_MAX
from transports.graphql.endpoint import GraphQLWebSocket
from transports.wire.sinks import DIRECT

# -- malformed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("acknowledged", [False, True], ids=["before-ack", "after-ack"])
async def test_text_frame_malformed_closes_4400(text: str, acknowledged: bool) -> None:
    async with graphql_server() as (_, port):
        opened = await (open_acknowledged if acknowledged else open_socket)(port)
        await opened.send(text)
        closed = await opened.expect_close()
        assert closed.code == 4400
        assert closed.reason
        assert len(closed.reason.encode()) <= 123


async def test_frame_malformed_beside_a_live_subscription_ends_it() -> None:
    async with graphql_server() as (chat, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("1"), "[]", {"type": "ping"})
        assert (await opened.expect_close()).code == 4400
        assert chat.hub.subscribers == 0


async def test_binary_frame_closes_4400() -> None:
    async with graphql_server() as (_, port):
        opened = await open_acknowledged(port)
        await opened.send(b'{"type":"ping"}')
        assert (await opened.expect_close()).code == 4400


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"\xff\xfe", opcode=1), 1007),
        (frame(b"", opcode=5), 1002),
        (b"\xf1\x80\0\0\0\0", 1002),
        (b"\x81\x02{}", 1002),
        (frame(b"more", opcode=0), 1002),
        (frame("x" * 2_000_000), 1009),
    ],
    ids=["not-utf-8", "reserved-opcode", "reserved-bits", "not-masked", "stray-continuation", "too-long"],
)
async def test_bytes_that_are_no_websocket_frame_close_with_a_code(data: bytes, code: int) -> None:
    async with graphql_server() as (_, port):
        opened = await open_acknowledged(port)
        opened.writer.write(data)
        closed = await opened.receive()
        assert isinstance(closed, Closed)
        assert closed.code == code
        opened.writer.close()


@pytest.mark.parametrize("subprotocol", [None, "graphql-ws", "graphql-transport-ws2", "GRAPHQL-TRANSPORT-WS", "a, b"])
async def test_subprotocol_other_closes_4406(subprotocol: str | None) -> None:
    async with graphql_server() as (_, port):
        opened = await open_socket(port, subprotocol)
        assert "sec-websocket-protocol" not in opened.head.lower()
        closed = await opened.expect_close()
        assert closed.code == 4406
        assert closed.reason is not None
        assert "graphql-transport-ws" in closed.reason
        assert len(closed.reason) <= 123


async def test_subprotocol_other_is_logged_once_for_its_address(caplog: pytest.LogCaptureFixture) -> None:
    async with graphql_server() as (_, port):
        for offered in ("graphql-ws", "graphql-ws", "x" * 5_000):
            await (await open_socket(port, offered)).expect_close()
    told = [record.getMessage() for record in caplog.records if "4406" in record.getMessage()]
    assert len(told) == 1
    assert "'graphql-ws'" in told[0]
    assert "graphql-transport-ws" in told[0]


async def test_subprotocol_offered_is_logged_short_and_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async with graphql_server() as (_, port):
        await (await open_socket(port, "x" * 5_000)).expect_close()
    (told,) = [record.getMessage() for record in caplog.records if "4406" in record.getMessage()]
    assert len(told) < 300
    assert "\n" not in told


async def test_handshake_with_a_browsers_cookies_is_accepted() -> None:
    async with graphql_server() as (_, port):
        opened = await open_socket(port, headers={"Cookie": "a=" + "b" * 8_000})
        await opened.close()


async def test_subprotocol_among_others_is_chosen() -> None:
    async with graphql_server() as (_, port):
        opened = await open_socket(port, "graphql-ws, graphql-transport-ws")
        assert "sec-websocket-protocol: graphql-transport-ws\r\n" in opened.head.lower()
        await opened.close()


# -- initialisation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", [{}, {"payload": None}, {"payload": {}}, {"payload": {"token": "t"}}])
async def test_init_is_acknowledged_and_its_payload_handed_on(member: dict[str, Any]) -> None:
    seen: list[Any] = []

    async def authenticate(connection_params: dict[str, Any] | None, scope: Scope) -> Viewer:
        seen.append((connection_params, dict(scope["headers"])[b"x-test"]))
        return ANYONE

    async with graphql_server(authenticate=authenticate) as (_, port):
        opened = await open_socket(port, headers={"X-Test": "yes"})
        await opened.send({"type": "connection_init", **member})
        assert await opened.expect() == ACK
        await opened.close()
    assert seen == [(member.get("payload"), b"yes")]


@pytest.mark.alone
async def test_init_missing_closes_4408_however_much_is_pinged() -> None:
    async with graphql_server(limits=Limits(init_timeout_seconds=0.3)) as (_, port):
        opened = await open_socket(port)
        started = time.monotonic()
        closed: Any = None
        while not isinstance(closed, Closed):
            await opened.send({"type": "ping"})
            closed = await opened.receive()
            await asyncio.sleep(0.02)
        assert closed == Closed(4408, "Connection initialisation timeout")
        assert 0.25 < time.monotonic() - started < 1
        opened.writer.close()


async def test_init_that_takes_too_long_to_authenticate_closes_4408() -> None:
    cancelled = asyncio.Event()

    async def authenticate(connection_params: dict[str, Any] | None, scope: Scope) -> Viewer:
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    async with graphql_server(limits=Limits(init_timeout_seconds=0.1), authenticate=authenticate) as (_, port):
        opened = await open_socket(port)
        await opened.send({"type": "connection_init"})
        assert (await opened.expect_close()).code == 4408
        assert cancelled.is_set()


class Unread:
    """A server's socket in which bytes of the client wait, as often as it is asked so many times."""

    def __init__(self, times: int) -> None:
        self.asked = 0
        self._times = times

    def has_unread(self) -> bool:
        self.asked += 1
        return self.asked <= self._times

    def write_frames(self, data: bytes) -> bool:
        return False


@pytest.mark.parametrize(("unread", "answer"), [(3, ACK), (0, 4408), (99, 4408)])
async def test_init_that_the_server_has_not_read_yet_is_not_late(unread: int, answer: Any) -> None:
    direct = Unread(unread)
    sent: list[Any] = []
    events: asyncio.Queue[Any] = asyncio.Queue()
    events.put_nowait({"type": "websocket.connect"})

    async def receive() -> Any:
        if events.empty() and answer is ACK and direct.asked == unread:
            return {"type": "websocket.receive", "text": '{"type":"connection_init"}'}
        return await events.get()

    async def send(event: Any) -> None:
        sent.append(event)
        if event["type"] == "websocket.send":
            events.put_nowait({"type": "websocket.disconnect", "code": 1000})

    async with memory_chat() as chat:
        endpoint = GraphQLWebSocket(Operations(), chat, limits=Limits(init_timeout_seconds=0.02))
        scope: Any = {"type": "websocket", "subprotocols": ["graphql-transport-ws"], "headers": []}
        scope["extensions"] = {DIRECT: direct}
        await endpoint(scope, receive, send)
    assert sent[0]["type"] == "websocket.accept"
    if answer is ACK:
        assert json.loads(sent[1]["text"]) == ACK
    else:
        assert (sent[1]["type"], sent[1]["code"]) == ("websocket.close", 4408)
    assert direct.asked == min(unread, INIT_WAITS_MAX - 2) + 1 if answer != ACK else direct.asked == unread


async def test_init_timeout_does_not_touch_an_acknowledged_socket() -> None:
    async with graphql_server(limits=Limits(init_timeout_seconds=0.1)) as (_, port):
        opened = await open_acknowledged(port)
        await asyncio.sleep(0.3)
        await settle(opened)
        await opened.close()


@pytest.mark.alone
async def test_init_timeout_is_three_seconds_by_default() -> None:
    async with graphql_server() as (_, port):
        opened = await open_socket(port)
        started = time.monotonic()
        assert (await opened.expect_close()).code == 4408
        assert 2.9 < time.monotonic() - started < 4


async def test_init_twice_closes_4429() -> None:
    async with graphql_server() as (_, port):
        opened = await open_acknowledged(port)
        await opened.send({"type": "connection_init"})
        assert await opened.expect_close() == Closed(4429, "Too many initialisation requests")


async def test_init_twice_in_one_packet_closes_4429() -> None:
    async with graphql_server() as (_, port):
        opened = await open_socket(port)
        await opened.send({"type": "connection_init"}, {"type": "connection_init"})
        assert await opened.expect() == ACK
        assert (await opened.expect_close()).code == 4429


async def test_subscribe_before_the_ack_closes_4401() -> None:
    async with graphql_server() as (_, port):
        opened = await open_socket(port)
        await opened.send(subscription("1"))
        assert await opened.expect_close() == Closed(4401, "Unauthorized")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Unauthenticated("secret"), Closed(4403, "Forbidden")),
        (Forbidden("secret"), Closed(4403, "Forbidden")),
        (Unavailable("secret"), Closed(1013, "Try again later")),
        (KeyError("secret"), Closed(4500, "Internal server error")),
        (TimeoutError("secret"), Closed(4500, "Internal server error")),
    ],
)
async def test_client_not_welcome_is_closed_without_an_ack(error: Exception, expected: Closed) -> None:
    async def authenticate(connection_params: dict[str, Any] | None, scope: Scope) -> Viewer:
        raise error

    async with graphql_server(authenticate=authenticate) as (_, port):
        opened = await open_socket(port)
        await opened.send({"type": "connection_init"})
        assert await opened.expect_close() == expected


async def test_origin_not_allowed_is_refused_with_403() -> None:
    def allow(scope: Scope) -> bool:
        return (b"origin", b"https://evil.example") not in scope["headers"]

    async with graphql_server(allow=allow) as (_, port):
        with pytest.raises(Refused) as refused:
            await open_socket(port, headers={"Origin": "https://evil.example"})
        assert refused.value.status == 403
        await (await open_socket(port)).close()


async def test_connections_past_the_limits_are_refused_until_one_leaves() -> None:
    connections = Connections(max_connections=2)
    async with graphql_server(connections=connections) as (_, port):
        first, second = await open_acknowledged(port), await open_socket(port)
        with pytest.raises(Refused) as refused:
            await open_socket(port)
        assert refused.value.status == 503
        await first.close()
        await until(lambda: len(connections) == 1)
        await (await open_acknowledged(port)).close()
        await second.close()


# -- ping and pong -------------------------------------------------------------------------------------------------


async def test_ping_is_answered_before_and_after_the_ack_with_its_payload() -> None:
    async with graphql_server() as (_, port):
        opened = await open_socket(port)
        await opened.send({"type": "ping"}, {"type": "ping", "payload": {"a": ["é"]}}, {"type": "pong"})
        assert await opened.expect() == {"type": "pong"}
        assert await opened.expect() == {"type": "pong", "payload": {"a": ["é"]}}
        await opened.send({"type": "connection_init"}, {"type": "pong", "payload": {}}, {"type": "ping", "payload": {}})
        assert await opened.expect() == ACK
        assert await opened.expect() == {"type": "pong", "payload": {}}
        await opened.close()
