"""What a slow subscriber's side has taken and not sent is taken back when a message of it is erased."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from changes import ChangeDraft, MessageChange, MessageChangeKind
from delivery.hubs import Hubs
from delivery.sink import Sink
from messages import Draft, Message
from tests.fakes import MemoryLog
from transports.graphql.event_streams import SSE, run_stream
from transports.graphql.mailbox import Mailbox
from transports.wire.sinks import SendSink

SECRET = b"secret"


def render(entry: Message | MessageChange) -> bytes:
    text = entry.content if isinstance(entry, Message) else entry.piece or entry.content
    return f"{entry.sequence}:{text}".encode()


@pytest.fixture
async def node() -> AsyncIterator[tuple[MemoryLog, Hubs]]:
    log = MemoryLog()
    hubs = Hubs(log)
    await log.open(hubs)
    await hubs.start()
    for number in (1, 2, 3):
        await log.append(Draft("c", "ada", "secret" if number == 2 else f"m{number}"))
    yield log, hubs
    await hubs.stop()


class Slow:
    """An ASGI `send` whose client takes nothing until it is told to, as uvicorn's: it waits before it writes."""

    def __init__(self, *, first: int) -> None:
        self.written: list[bytes] = []
        self.goes_on = asyncio.Event()
        self._first = first

    async def __call__(self, event: Any) -> None:
        if len(self.written) >= self._first:
            await self.goes_on.wait()
        self.written.append(event["text"].encode() if "text" in event else event["body"])

    async def until(self, held: Callable[[bytes], bool]) -> bytes:
        async with asyncio.timeout(5):
            while not held(b"".join(self.written)):
                await asyncio.sleep(0)
        return b"".join(self.written)


async def erase(log: MemoryLog) -> None:
    await log.change(ChangeDraft("c", 2, MessageChangeKind.ERASED))


async def settled(sink: Sink) -> None:
    """Returns once the sink holds something."""
    async with asyncio.timeout(5):
        while not sink.unsent():
            await asyncio.sleep(0)


async def test_batch_in_the_mailbox_of_a_slow_stream_is_sent_without_what_was_erased(
    node: tuple[MemoryLog, Hubs],
) -> None:
    log, hubs = node
    mailbox = Mailbox()
    subscriber = await hubs.messages.subscribe("c", 0, cohort="s", filter=None, render=render, sink=mailbox)
    await settled(mailbox)
    await erase(log)
    sent = []
    while subscriber.position < 3 or mailbox.unsent():
        taken = await mailbox.take(5)
        assert taken is not None
        sent += taken.payloads
    assert sent == [b"1:m1", b"2:", b"3:m3"]
    assert subscriber.delivered == 3


async def test_other_erasure_leaves_the_batch_where_it_is(node: tuple[MemoryLog, Hubs]) -> None:
    log, hubs = node
    mailbox = Mailbox()
    await log.append(Draft("c", "ada", "m4"))
    await hubs.messages.subscribe("c", 2, cohort="s", filter=None, render=render, sink=mailbox)
    await settled(mailbox)
    await erase(log)
    assert [entry.sequence for entry in mailbox.unsent()] == [3, 4]


async def test_change_in_the_mailbox_loses_its_text_too(node: tuple[MemoryLog, Hubs]) -> None:
    log, hubs = node
    mailbox = Mailbox()
    await log.change(ChangeDraft("c", 2, MessageChangeKind.EDITED, text="secret"))
    subscriber = await hubs.changes.subscribe("c", 0, cohort="s", filter=None, render=render, sink=mailbox)
    await settled(mailbox)
    await erase(log)
    sent = []
    while subscriber.position < 2 or mailbox.unsent():
        taken = await mailbox.take(5)
        assert taken is not None
        sent += taken.payloads
    assert sent == [b"1:None", b"2:None"]


async def test_everything_is_taken_back_where_it_is_not_known_what_was_changed(node: tuple[MemoryLog, Hubs]) -> None:
    _, hubs = node
    mailbox = Mailbox()
    subscriber = await hubs.messages.subscribe("c", 0, cohort="s", filter=None, render=render, sink=mailbox)
    await settled(mailbox)
    first = mailbox.unsent()
    hubs.forget_everything()
    assert mailbox.unsent() == ()
    assert (subscriber.position, subscriber.delivered) == (0, 0)
    await settled(mailbox)
    assert mailbox.unsent() == first


async def test_stream_waits_for_its_client_before_it_takes_the_next_batch(node: tuple[MemoryLog, Hubs]) -> None:
    log, hubs = node
    mailbox, send = Mailbox(), Slow(first=1)
    subscriber = await hubs.messages.subscribe("c", 0, cohort="s", filter=None, render=render, sink=mailbox)

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def stream() -> None:
        await run_stream(receive, send, SSE, mailbox, format_errors=lambda _: [], heartbeat_seconds=9, stuck_seconds=9)

    running = asyncio.create_task(stream())
    await send.until(lambda data: b"3:m3" in data)
    await log.append(Draft("c", "ada", "a second secret"))
    await settled(mailbox)
    for _ in range(20):
        await asyncio.sleep(0)
    await log.change(ChangeDraft("c", 4, MessageChangeKind.ERASED))
    await log.append(Draft("c", "ada", "m5"))
    send.goes_on.set()
    assert b"a second secret" not in await send.until(lambda data: b"5:m5" in data)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    subscriber.close()


async def test_frames_behind_the_one_that_a_slow_socket_is_sent_are_taken_back(node: tuple[MemoryLog, Hubs]) -> None:
    log, hubs = node
    send = Slow(first=0)
    sink = SendSink(send, "", "", lambda error: None)
    subscriber = await hubs.messages.subscribe("c", 0, cohort="s", filter=None, render=render, sink=sink)
    async with asyncio.timeout(5):
        while len(sink.unsent()) != 2:  # The first one is under way.
            await asyncio.sleep(0)
    await erase(log)
    send.goes_on.set()
    assert await send.until(lambda data: b"3:" in data) == b"1:m12:3:m3"
    assert subscriber.position == 3
