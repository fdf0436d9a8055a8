"""What leaves for one answer, and in how many pieces."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from transports.serving.http_cycle import Cycle


class Transport:
    """Notes each write."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False
        self.on_write: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.on_write()

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        self.closed = True


def cycle(method: str = "POST", *, keep_alive: bool = True) -> tuple[Cycle, Transport]:
    transport: Any = Transport()
    made = Cycle(
        scope={"method": method, "http_version": "1.1"},  # type: ignore[arg-type,typeddict-item]
        transport=transport,
        flow=FlowControl(transport),
        logger=logging.getLogger("test"),
        access_logger=logging.getLogger("test"),
        access_log=False,
        default_headers=[(b"date", b"today")],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=lambda: None,
    )
    return made, transport


def start(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": 200, "headers": list(headers)}


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


LENGTH = (b"content-length", b"2")


async def test_answer_with_its_whole_body_leaves_in_one_piece() -> None:
    answering, transport = cycle()
    await answering.send(start((b"content-type", b"application/json"), LENGTH))
    assert not transport.written
    await answering.send(body(b"{}"))
    (sent,) = transport.written
    assert sent == (b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
    assert answering.response_complete
    assert not transport.closed


async def test_answer_that_ends_the_connection_says_so_once() -> None:
    for headers, keep_alive in (((LENGTH,), False), ((LENGTH, (b"connection", b"close")), True)):
        answering, transport = cycle(keep_alive=keep_alive)
        await answering.send(start(*headers))
        await answering.send(body(b"{}"))
        assert transport.written[0].count(b"connection: close\r\n") == 1
        assert transport.closed


async def test_head_leaves_before_a_body_that_comes_in_parts() -> None:
    answering, transport = cycle()
    await answering.send(start((b"content-length", b"4")))
    await answering.send(body(b"ab", more=True))
    assert transport.written == [b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 4\r\n\r\n", b"ab"]
    await answering.send(body(b"cd"))
    assert transport.written[2:] == [b"cd"]
    assert answering.response_complete


async def test_head_of_a_stream_leaves_at_once() -> None:
    answering, transport = cycle()
    await answering.send(start((b"content-type", b"text/event-stream")))
    (sent,) = transport.written
    assert sent.endswith(b"transfer-encoding: chunked\r\n\r\n")


async def test_part_of_a_stream_is_written_and_then_waits_for_the_client() -> None:
    answering, transport = cycle()
    await answering.send(start((b"content-type", b"text/event-stream")))
    await answering.send(body(b"one", more=True))
    answering.flow.pause_writing()  # As the transport does while it writes, when its buffer is full.
    waiting = [asyncio.ensure_future(answering.send(body(b"two", more=True)))]
    await asyncio.sleep(0)
    assert transport.written[1:] == [b"3\r\none\r\n"]
    answering.flow.resume_writing()
    await waiting[0]
    assert transport.written[2:] == [b"3\r\ntwo\r\n"]
    transport.on_write = answering.flow.pause_writing
    waiting = [asyncio.ensure_future(answering.send(body(b"three", more=True)))]
    await asyncio.sleep(0)
    assert transport.written[3:] == [b"5\r\nthree\r\n"]
    assert not waiting[0].done()
    answering.flow.resume_writing()
    await waiting[0]
    transport.on_write = lambda: None
    await answering.send(body(b"", more=True))
    await answering.send(body(b"end"))
    assert transport.written[4:] == [b"3\r\nend\r\n0\r\n\r\n"]
    assert answering.response_complete
    with pytest.raises(RuntimeError, match="after response already completed"):
        await answering.send(body(b"more", more=True))


async def test_answer_to_head_has_no_body() -> None:
    answering, transport = cycle("HEAD")
    await answering.send(start(LENGTH))
    await answering.send(body(b""))
    assert b"".join(transport.written).endswith(b"content-length: 2\r\n\r\n")


@pytest.mark.parametrize("header", [(b"x-a", b"b\r\nx-c: d"), (b"x-a", b"b\nc"), (b"x-a\r\nx-b", b"c"), (b"x a", b"b")])
async def test_header_that_would_be_two_is_refused(header: tuple[bytes, bytes]) -> None:
    answering, transport = cycle()
    with pytest.raises(RuntimeError, match="Invalid HTTP header"):
        await answering.send(start(LENGTH, header))
    assert not transport.written


@pytest.mark.parametrize("data", [b"{", b"{}}"])
async def test_body_of_another_length_is_refused(data: bytes) -> None:
    answering, _ = cycle()
    await answering.send(start(LENGTH))
    with pytest.raises(RuntimeError, match="than Content-Length"):
        await answering.send(body(data))


async def test_answer_to_a_client_that_has_gone_is_not_written() -> None:
    answering, transport = cycle()
    await answering.send(start(LENGTH))
    answering.disconnected = True
    await answering.send(body(b"{}"))
    assert not transport.written
