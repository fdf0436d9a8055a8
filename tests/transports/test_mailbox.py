import asyncio
from datetime import UTC, datetime

from delivery.sink import Batch
from errors import CursorExpired
from messages import Message
from transports.graphql.mailbox import Mailbox

MESSAGE = Message("c", 1, "a", "x", None, None, None, datetime.now(UTC), "e")


def batch(position: int) -> Batch:
    return Batch(position, [MESSAGE], [b"{}"])


async def test_mailbox_holds_one_batch_and_refuses_the_next() -> None:
    mailbox = Mailbox()
    first, second = batch(1), batch(2)
    await mailbox.writable()
    assert mailbox.write(first)
    assert not mailbox.write(second)
    waiting = asyncio.ensure_future(mailbox.writable())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert await mailbox.take(1) is first
    await waiting
    assert mailbox.write(second)
    assert await mailbox.take(1) is second


async def test_mailbox_takes_a_batch_without_bytes_at_once() -> None:
    mailbox = Mailbox()
    assert mailbox.write(Batch(5, [], []))
    assert mailbox.write(batch(6))


async def test_reader_waits_for_the_next_batch() -> None:
    mailbox = Mailbox()
    reading = asyncio.ensure_future(mailbox.take(10))
    await asyncio.sleep(0)
    mailbox.write(batch(1))
    taken = await reading
    assert taken is not None
    assert taken.position == 1


async def test_reader_gets_none_when_nothing_comes_in_time() -> None:
    mailbox = Mailbox()
    assert await mailbox.take(0.001) is None
    assert not mailbox.ended
    assert not mailbox.gone


async def test_end_comes_after_what_was_written_before_it() -> None:
    mailbox = Mailbox()
    error = CursorExpired("x")
    mailbox.write(batch(1))
    mailbox.end(error)
    assert await mailbox.take(10) is not None
    assert await mailbox.take(10) is None
    assert mailbox.ended
    assert mailbox.error is error


async def test_mailbox_whose_reader_left_takes_nothing() -> None:
    mailbox = Mailbox()
    reading = asyncio.ensure_future(mailbox.take(10))
    await asyncio.sleep(0)
    mailbox.leave()
    assert await reading is None
    assert not mailbox.write(batch(1))


async def test_mailbox_gives_back_what_was_not_taken() -> None:
    mailbox = Mailbox()
    reading = asyncio.ensure_future(mailbox.take(10))
    await asyncio.sleep(0)
    mailbox.write(batch(1))
    assert mailbox.unsent() == [MESSAGE]
    mailbox.take_back()  # Before the reader, who was woken, had its turn.
    assert mailbox.unsent() == ()
    await asyncio.wait_for(mailbox.writable(), 1)
    await asyncio.sleep(0)
    assert not reading.done()
    second = batch(1)
    mailbox.write(second)
    assert await reading is second
    assert mailbox.unsent() == ()
