"""Who holds a connection's bare write hears of it in the very step in which the connection takes no more frames."""

import asyncio
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
from websockets.protocol import State

from tests.transports.graphql_ws_client import graphql_server, open_acknowledged, post, settle, subscription
from tests.transports.live_server import Closed, RawSocket, frame, serve
from transports.serving.websocket_protocol import WebSocketProtocol
from transports.wire.sinks import DIRECT, text_frame_header


class Holder:
    """Notices, step by step, whether the claim is as good as it says."""

    def __init__(self, direct: WebSocketProtocol) -> None:
        self.direct = direct
        self.ended = False
        self.write = direct.claim(self)
        assert self.write is not None

    def blocked(self) -> None:
        assert not self.ended, "told twice"
        self.ended = True

    async def watch(self) -> None:
        while not self.ended:
            direct = self.direct
            lost = direct.transport.is_closing() and direct.conn.state is State.OPEN and not direct.close_sent
            assert lost or direct._takes_frames(), "takes no more frames, and has not said so"
            await asyncio.sleep(0)


class Claimed:
    """An application that claims each connection's write and then does what it is told."""

    def __init__(self, then: Callable[[Holder, Any], Any]) -> None:
        self.then = then
        self.holder: Holder | None = None
        self.watched: asyncio.Future[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        self.holder = Holder(scope["extensions"][DIRECT])
        self.watched = asyncio.ensure_future(self.holder.watch())
        await self.then(self.holder, send)
        while (await receive())["type"] != "websocket.disconnect":
            pass

    def check(self) -> None:
        assert self.holder is not None
        assert self.watched is not None
        assert self.holder.ended
        assert self.watched.result() is None


async def nothing(holder: Holder, send: Any) -> None: ...


async def close(holder: Holder, send: Any) -> None:
    await send({"type": "websocket.close", "code": 4400})


async def send_away(holder: Holder, send: Any) -> None:
    holder.direct.send_away()


async def shut_down(holder: Holder, send: Any) -> None:
    holder.direct.shutdown()


async def abort(holder: Holder, send: Any) -> None:
    holder.direct.abort()


async def fill_up(holder: Holder, send: Any) -> None:
    assert holder.write is not None
    for _ in range(64):  # MiB: more than buffer and kernel take.
        if holder.ended:
            break
        holder.write(b"\x82\x7f" + (1024 * 1024).to_bytes(8, "big") + bytes(1024 * 1024))
        await asyncio.sleep(0)
    assert holder.ended
    assert holder.direct.claim(holder) is None
    holder.direct.abort()


CLOSE_FRAME = frame(struct.pack("!H", 1000), opcode=8)
UNMASKED = b"\x81\x02hi"
INVALID_UTF_8 = frame(b"\xff", opcode=1)


@pytest.mark.parametrize("then", [close, send_away, shut_down, abort, fill_up])
async def test_holder_hears_of_what_the_server_does(then: Callable[[Holder, Any], Any]) -> None:
    app = Claimed(then)
    async with serve(app) as port:
        opened = await RawSocket.open(port, "/")
        if then is not fill_up:
            assert isinstance(await opened.receive(), Closed)
        while app.watched is None or not app.watched.done():
            await asyncio.sleep(0.005)
        opened.writer.close()
    app.check()


@pytest.mark.parametrize(
    "sent", [CLOSE_FRAME, UNMASKED, INVALID_UTF_8, None], ids=["close", "unmasked", "utf8", "reset"]
)
async def test_holder_hears_of_what_the_client_does(sent: bytes | None) -> None:
    app = Claimed(nothing)
    async with serve(app) as port:
        opened = await RawSocket.open(port, "/")
        if sent is None:
            opened.reset()
        else:
            opened.writer.write(sent)
            assert isinstance(await opened.receive(), Closed)
            opened.writer.close()
    app.check()


async def test_holder_hears_of_a_half_close_though_bytes_are_still_to_be_sent() -> None:
    waiting = asyncio.Event()

    async def leave_some_unsent(holder: Holder, send: Any) -> None:
        assert holder.write is not None
        while holder.direct.transport.get_write_buffer_size() == 0:
            holder.write(b"\x82\x7e" + (1024).to_bytes(2, "big") + bytes(1024))
            await asyncio.sleep(0)
        assert not holder.ended, "the buffer is full, not only in use"
        waiting.set()

    app = Claimed(leave_some_unsent)
    async with serve(app) as port:
        opened = await RawSocket.open(port, "/")
        await waiting.wait()
        opened.writer.write_eof()
        assert app.holder is not None
        while not app.holder.direct.transport.is_closing():
            await asyncio.sleep(0)
        assert app.holder.ended
        assert not app.holder.direct.disconnected, "the connection was lost already"
        await opened.reader.read()
        opened.writer.close()
    app.check()


async def test_claim_that_was_released_is_not_told() -> None:
    told: list[int] = []

    class Other:
        def blocked(self) -> None:
            told.append(1)

    async def release_one(holder: Holder, send: Any) -> None:
        released, kept = Other(), Other()
        for each in (released, kept):
            assert holder.direct.claim(each) == holder.write
        holder.direct.release(released)
        await close(holder, send)

    async with serve(Claimed(release_one)) as port:
        opened = await RawSocket.open(port, "/")
        assert await opened.receive() == Closed(4400, "")
        opened.writer.close()
    assert told == [1]


async def test_members_of_a_block_see_their_own_operation_ids() -> None:
    async with graphql_server() as (chat, port):
        sockets = [await open_acknowledged(port) for _ in range(3)]
        for number, each in enumerate(sockets):
            await each.send(subscription(str(number)))
            await settle(each)
        await post(chat, "x")
        assert [(await each.expect())["id"] for each in sockets] == ["0", "1", "2"]
        for each in sockets:
            await each.close()


class Belated(WebSocketProtocol):
    """Tells its application of the end of a connection only when it may, as where the application is busy."""

    __slots__ = ()
    newest: "Belated"
    may_tell: asyncio.Event

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        Belated.newest = self

    async def receive(self) -> Any:
        event = await super().receive()
        if self.close_sent or self.conn.state in (State.CLOSING, State.CLOSED):
            await Belated.may_tell.wait()
        return event

    @property
    def waiting_bytes(self) -> int:
        return int(self.transport.get_write_buffer_size())


@pytest.mark.parametrize("sent", [CLOSE_FRAME, UNMASKED, INVALID_UTF_8, frame("no JSON")])
async def test_nothing_follows_the_close_frame_though_messages_never_stop(sent: bytes) -> None:
    """It waits in the buffer, behind messages: a transport that closes then still takes what is written to it."""
    Belated.may_tell = asyncio.Event()
    async with graphql_server(ws=Belated) as (chat, port):
        opened = await open_acknowledged(port)
        connection = Belated.newest
        await opened.send(subscription("1"), subscription("2"))
        await settle(opened)
        opened.writer.transport.pause_reading()  # type: ignore[attr-defined]
        filler = json.dumps({"type": "next", "id": "x" * 8_000}).encode()
        while not connection.waiting_bytes:  # The kernel takes megabytes first, and nobody reads in this step.
            connection.transport.write(text_frame_header(len(filler)) + filler)
        assert connection.paused_since is None, "a buffer that is full takes no frames anyway"
        opened.writer.write(sent)
        while connection.conn.state is State.OPEN and not connection.close_sent:
            await asyncio.sleep(0)
        assert connection.waiting_bytes
        for _ in range(20):
            await post(chat, "y")
        Belated.may_tell.set()
        opened.writer.transport.resume_reading()  # type: ignore[attr-defined]
        while isinstance(received := await opened.receive(), dict):
            assert received["type"] == "next"
        assert received.code in (1000, 1002, 1007, 4400)
        assert await opened.reader.read() == b"", "frames after the close frame"
        opened.writer.close()


async def test_bytes_that_a_defect_makes_unbearable_cut_their_connection(caplog: pytest.LogCaptureFixture) -> None:
    class Defective(WebSocketProtocol):
        __slots__ = ()

        def handle_ping(self) -> None:
            raise RuntimeError("defect")

    app = Claimed(nothing)
    async with serve(app, ws=Defective) as port:
        opened = await RawSocket.open(port, "/")
        # More than is parsed at once: the ping's turn comes in a callback of the loop.
        opened.writer.write(frame(bytes(100), opcode=10) * 100 + frame(b"", opcode=9))
        try:
            async with asyncio.timeout(10):
                assert await opened.receive() == Closed(None, None)
        finally:
            opened.reset()
    app.check()
    assert "could not be handled" in caplog.text


@pytest.mark.timeout(30)
async def test_invalid_text_before_a_close_frame_in_one_read_freezes_nobody() -> None:
    pongs = frame(bytes(100), opcode=10) * 100
    async with graphql_server() as (chat, port):
        other = await open_acknowledged(port)
        await other.send(subscription("other"))
        await settle(other)
        opened = await open_acknowledged(port)
        opened.writer.write(frame(json.dumps(subscription("1"))) + pongs + INVALID_UTF_8 + CLOSE_FRAME)
        assert isinstance(await opened.receive(), Closed)
        opened.writer.close()
        await post(chat, "x")
        assert (await other.expect())["type"] == "next"
        await other.close()
