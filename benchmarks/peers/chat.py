"""What the Python peers share: how a message is made, and how it is passed on through one queue for each subscriber."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One post. It is not stored: the peers keep everything in memory."""

    id: str
    channel_id: str
    sequence: int
    author: str
    content: str
    lane: str | None
    provider: str | None
    token_count: int | None
    timestamp: datetime


class Chat:
    """A channel server in memory, as the documentation of the libraries shows it: one queue for each subscriber,
    without a bound."""

    def __init__(self) -> None:
        self._sequences: dict[str, int] = defaultdict(int)
        self._queues: dict[str, set[asyncio.Queue[ChatMessage]]] = defaultdict(set)

    def post(
        self,
        channel_id: str,
        author: str,
        content: str,
        lane: str | None = None,
        provider: str | None = None,
        token_count: int | None = None,
    ) -> ChatMessage:
        sequence = self._sequences[channel_id] = self._sequences[channel_id] + 1
        message = ChatMessage(
            id=f"{channel_id}:{sequence}",
            channel_id=channel_id,
            sequence=sequence,
            author=author,
            content=content,
            lane=lane,
            provider=provider,
            token_count=token_count,
            timestamp=datetime.now(UTC),
        )
        for queue in self._queues[channel_id]:
            queue.put_nowait(message)
        return message

    async def messages(self, channel_id: str) -> AsyncIterator[ChatMessage]:
        queue: asyncio.Queue[ChatMessage] = asyncio.Queue()
        self._queues[channel_id].add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues[channel_id].discard(queue)
