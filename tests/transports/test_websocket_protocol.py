"""A socket while it opens and while it closes, and what of it is counted."""

import asyncio
from collections import Counter
from functools import partial
from typing import Any

import pytest
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from tests.transports.live_server import Closed, RawSocket, Refused, frame, serve, until
from transports.serving.held_bytes import HeldBytes
from transports.serving.http_protocol import HttpProtocol
from transports.serving.keepalive import Keepalive
from transports.serving.turns import ROUND_SECONDS
from transports.serving.websocket_protocol import WebSocketProtocol
from transports.wire.sinks import DIRECT


async def test_socket_that_is_sent_away_before_it_is_accepted_is_closed_as_soon_as_it_is() -> None:
    told: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told.append(await receive())
        scope["extensions"][DIRECT].send_away()
        await send({"type": "websocket.accept"})
        told.append(await receive())

    async with serve(app) as port:
        opened = await RawSocket.open(port, "/")
        assert await opened.expect_close() == Closed(1012, "Service restart")
    assert told == [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1012}]


async def test_socket_that_is_sent_away_and_then_refused_is_refused() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"][DIRECT].send_away()
        await send({"type": "websocket.close", "code": 1008})

    async with serve(app) as port:
        with pytest.raises(Refused) as refused:
            await RawSocket.open(port, "/")
        assert refused.value.status == 403


def captured(made: list[WebSocketProtocol]) -> Any:
    class Noted(WebSocketProtocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    return Noted


async def accept_and_wait(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def test_what_waits_for_its_turn_is_counted_before_it_has_it() -> None:
    made: list[WebSocketProtocol] = []
    held = HeldBytes()
    async with serve(accept_and_wait, ws=captured(made), http=partial(HttpProtocol, held_bytes=held)) as port:
        opened = await RawSocket.open(port, "/")
        begun = frame("x" * 100_000)[:50_000]
        made[0].data_received(begun)
        assert held.total == len(begun)
        opened.reset()
        await until(lambda: not made[0].connections)
        assert held.total == 0


async def test_socket_that_closes_while_more_is_held_reads_on_to_the_clients_answer() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.close", "code": 1000})

    made: list[WebSocketProtocol] = []
    async with serve(app, ws=captured(made)) as port:
        opened = await RawSocket.open(port, "/")
        made[0].close_timeout = 3600.0
        opened.writer.write(frame("x") * 3000 + frame(b"\x03\xe8", opcode=8))
        async with asyncio.timeout(10):
            await opened.reader.read()
        opened.writer.close()


async def test_socket_whose_end_waits_for_a_client_that_takes_nothing_is_cut() -> None:
    made: list[WebSocketProtocol] = []
    async with serve(accept_and_wait, ws=captured(made)) as port:
        opened = await RawSocket.open(port, "/")
        keepalive = Keepalive(made[0].connections, slow_timeout_seconds=60.0)  # type: ignore[arg-type]
        transport = made[0].transport
        made[0].transport = Closing(transport)
        now = asyncio.get_running_loop().time()
        keepalive.look([made[0]], now)
        keepalive.look([made[0]], now + 59)
        assert not transport.is_closing()
        keepalive.look([made[0]], now + 61)
        assert transport.is_closing()
        assert keepalive.slow_cut == 1
        opened.writer.close()


class Closing:
    """A transport that is closed, with bytes in its buffer that are not taken."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return True


async def test_what_was_read_in_one_piece_is_parsed_for_as_long_as_a_round_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, round_, slices = 0.0, 0, Counter[int]()
    parse = WebSocketsSansIOProtocol.data_received

    def slow(self: Any, data: bytes) -> None:
        nonlocal now
        now += ROUND_SECONDS / 4
        if self.handshake_initiated:
            slices[round_] += 1
        parse(self, data)

    monkeypatch.setattr(WebSocketsSansIOProtocol, "data_received", slow)
    for module in ("turns", "websocket_protocol"):
        monkeypatch.setattr(f"transports.serving.{module}.perf_counter", lambda: now)

    async def count() -> None:
        nonlocal round_
        while True:
            await asyncio.sleep(0)
            round_ += 1

    counting = asyncio.create_task(count())
    fragment = frame("a")
    async with serve(accept_and_wait) as port:
        opened = await RawSocket.open(port, "/")
        opened.writer.write(b"\x01" + fragment[1:] + (b"\x00" + fragment[1:]) * 20_000 + b"\x80" + fragment[1:])
        await until(lambda: slices.total() > 65)
        opened.writer.transport.abort()
    counting.cancel()
    assert max(slices.values()) <= 5
