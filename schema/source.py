"""The subscriptions' sources as async generators, for Strawberry's own pipeline (`schema.subscribe`)."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

from changes import MessageChange
from delivery.sink import Batch, Sink
from errors import RaqcoonError
from messages import Message, MessageFilter
from resolvers.subscribe import subscribe
from schema.context import Context


class _Slot(Sink):
    """A sink for one batch. It takes the next one when the generator has yielded all of this one."""

    def __init__(self) -> None:
        self.entries: deque[Any] = deque()
        self.ended = False
        self.error: RaqcoonError | None = None
        self.filled = asyncio.Event()
        self.emptied = asyncio.Event()

    def write(self, batch: Batch) -> bool:
        if self.entries:
            return False
        if batch.entries:
            self.entries.extend(batch.entries)
            self.filled.set()
        return True

    async def writable(self) -> None:
        while self.entries:
            self.emptied.clear()
            await self.emptied.wait()

    def end(self, error: RaqcoonError | None) -> None:
        self.ended = True
        self.error = error
        self.filled.set()


def _nothing(entry: object) -> bytes:
    return b""


def message_source(
    context: Context, channel_id: str, after: str | None, filter: MessageFilter | None
) -> AsyncGenerator[Message, None]:
    """Yields the messages of a subscription, in order. At most one batch of them waits here.

    Raises:
        RaqcoonError: what `resolvers.subscribe` raises, or the reason for which the engine ended the subscription.
    """
    return _source(context, channel_id, after, filter, changes=False)


def change_source(context: Context, channel_id: str, after: str | None) -> AsyncGenerator[MessageChange, None]:
    """Like `message_source`, for what is done to the messages."""
    return _source(context, channel_id, after, None, changes=True)


async def _source(
    context: Context, channel_id: str, after: str | None, filter: MessageFilter | None, *, changes: bool
) -> AsyncGenerator[Any, None]:
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
        changes=changes,
    )
    try:
        while True:
            while slot.entries:
                yield slot.entries.popleft()
            slot.emptied.set()
            if slot.ended:
                break
            slot.filled.clear()
            await slot.filled.wait()
    finally:
        subscriber.close()
    if slot.error is not None:
        raise slot.error
