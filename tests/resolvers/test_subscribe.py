import asyncio

import pytest

from delivery.sink import Batch, Sink
from errors import BadUserInput, CursorInvalid, Forbidden, RaqcoonError
from messages import ANYONE, Message, Viewer, encode_cursor
from resolvers.chat import Chat
from resolvers.subscribe import subscribe
from tests.fakes import fill, viewer_of_patterns


class Collected(Sink):
    """A sink that takes everything."""

    def __init__(self, expected: int) -> None:
        self.payloads: list[bytes] = []
        self.expected = expected
        self.full = asyncio.Event()

    def write(self, batch: Batch) -> bool:
        self.payloads += batch.payloads
        if len(self.payloads) >= self.expected:
            self.full.set()
        return True

    async def writable(self) -> None: ...

    def end(self, error: RaqcoonError | None) -> None: ...


def render(message: Message) -> bytes:
    return message.content.encode()


async def test_subscribe_after_a_cursor_sends_history_then_live(chat: Chat) -> None:
    messages = await fill(chat, "c", 5)
    sink = Collected(6)
    subscriber = await subscribe(
        chat,
        ANYONE,
        channel_id="c",
        after=messages[1].cursor,
        filter=None,
        cohort="x",
        render=render,
        sink=sink,
    )
    await fill(chat, "c", 3)
    await sink.full.wait()
    subscriber.close()
    assert sink.payloads == [b"3", b"4", b"5", b"1", b"2", b"3"]


@pytest.mark.parametrize(
    ("viewer", "channel", "after", "error"),
    [
        (ANYONE, "a b", None, BadUserInput),
        (ANYONE, None, None, BadUserInput),
        (viewer_of_patterns(("x",)), "c", None, Forbidden),
        (ANYONE, "c", "junk", CursorInvalid),
        (ANYONE, "c", 7, CursorInvalid),
        (ANYONE, "c", "past the head", CursorInvalid),
    ],
)
async def test_subscribe_that_may_not_be_leaves_nothing_behind(
    chat: Chat, viewer: Viewer, channel: object, after: object, error: type[RaqcoonError]
) -> None:
    if after == "past the head":
        after = encode_cursor(chat.log.epoch, "c", 1)
    with pytest.raises(error):
        await subscribe(
            chat,
            viewer,
            channel_id=channel,
            after=after,
            filter=None,
            cohort="x",
            render=render,
            sink=Collected(1),
        )
    assert chat.hub.channels == {}
