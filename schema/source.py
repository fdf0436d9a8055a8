"""The subscription's source as an async generator, for Strawberry's own pipeline (`schema.subscribe`)."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import cast

from delivery.sink import Batch, Sink
from errors import RaqcoonError
from messages import Message, MessageFilter
from resolvers.subscribe import subscribe
from schema.context import Context


class _Slot(Sink):
    """A sink of one batch: it takes the next one when the generator has yielded the last."""

    def __init__(self) -> None:
        self.messages: deque[Message] = deque()
        self.ended = False
        self.error: RaqcoonError | None = None
        self.filled = asyncio.Event()
        self.emptied = asyncio.Event()

    def write(self, batch: Batch) -> bool:
        if self.messages:
            return False
        if batch.entries:
            self.messages.extend(cast(Sequence[Message], batch.entries))
            self.filled.set()
        return True

    async def writable(self) -> None:
        while self.messages:
            self.emptied.clear()
            await self.emptied.wait()

    def end(self, error: RaqcoonError | None) -> None:
        self.ended = True
        self.error = error
        self.filled.set()


def _nothing(message: Message) -> bytes:
    return b""


async def message_source(
    context: Context, channel_id: str, after: str | None, filter: MessageFilter | None
) -> AsyncGenerator[Message, None]:
    """Yields the messages of a subscription, in order; at most one batch of them waits here.

    Raises:
        RaqcoonError: what `resolvers.subscribe` raises, or the reason for which the engine ended the subscription.
    """
    slot = _Slot()
    subscriber = await subscribe(
        context.chat,
        context.viewer,
        channel_id=channel_id,
        after=after,
        filter=filter,
        cohort="source",
        render=_nothing,
        sink=slot,
    )
    try:
        while True:
            while slot.messages:
                yield slot.messages.popleft()
            slot.emptied.set()
            if slot.ended:
                break
            slot.filled.clear()
            await slot.filled.wait()
    finally:
        subscriber.close()
    if slot.error is not None:
        raise slot.error
