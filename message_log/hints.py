"""Hints between the processes that share one PostgreSQL log: "channel C has reached sequence S", by NOTIFY.

A hint is disposable: losing one delays a message until the next sweep reads the heads. So nothing here is retried,
nothing is stored, and nothing a hint says is believed; it is only a reason to look.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import orjson
import psycopg

from messages import Message

logger = logging.getLogger(__name__)

NOTIFY_CHANNEL = "raqcoon_hints"
PAYLOAD_BYTES_MAX = 7_900
"""PostgreSQL takes less than 8,000 bytes. One hint has at most about 1,060: 128 characters, each of them escaped or of
four bytes, and a sequence."""
WINDOW_SECONDS = 0.003
"""How long hints gather. NOTIFY takes one lock for the whole cluster while it commits: not one for each post."""
_BACKOFF_SECONDS = (0.1, 5.0)

Connect = Callable[[], Awaitable[psycopg.AsyncConnection[Any]]]


class Hints:
    """Tells the other processes of this one's commits and listens to theirs, on two connections of its own.

    NOTIFY runs outside the posting transaction, where its lock would make every commit of the cluster wait in line.
    """

    def __init__(self, connect: Connect, hinted: Callable[[str, int], None]) -> None:
        self._connect = connect
        self._hinted = hinted
        self._reached: dict[str, int] = {}
        self._news = asyncio.Event()
        self._own_pid: int | None = None
        self._tasks = [
            asyncio.create_task(self._again_and_again(self._tell), name="raqcoon-notify"),
            asyncio.create_task(self._again_and_again(self._listen), name="raqcoon-listen"),
        ]

    def announce(self, messages: Iterable[Message]) -> None:
        """Says, soon, how far these channels have come. Never blocks, never fails."""
        reached = self._reached
        for message in messages:  # ascending within a channel: the last one counts
            reached[message.channel_id] = message.sequence
        self._news.set()

    async def stop(self) -> None:
        """Ends both connections; hints not yet sent are lost, as any hint may be. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _again_and_again(self, work: Callable[[psycopg.AsyncConnection[Any]], Awaitable[None]]) -> None:
        first, longest = _BACKOFF_SECONDS
        pause = first
        while True:
            try:
                async with await self._connect() as connection:
                    pause = first
                    await work(connection)
            except (psycopg.Error, OSError) as error:
                level = logging.WARNING if pause == first else logging.DEBUG  # once an outage
                logger.log(level, "hints pause: %s", " ".join(str(error).split()))
            self._reached.clear()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, longest)

    async def _tell(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._own_pid = connection.info.backend_pid
        while True:
            await self._news.wait()
            await asyncio.sleep(WINDOW_SECONDS)
            self._news.clear()
            reached, self._reached = self._reached, {}
            if payloads := list(encode_hints(reached.items())):
                await connection.execute(
                    "SELECT pg_notify(%s, p) FROM unnest(%s::text[]) AS p", (NOTIFY_CHANNEL, payloads)
                )

    async def _listen(self, connection: psycopg.AsyncConnection[Any]) -> None:
        await connection.execute(f"LISTEN {NOTIFY_CHANNEL}")
        async for notification in connection.notifies():
            if notification.pid == self._own_pid:
                continue
            for channel_id, sequence in decode_hints(notification.payload):
                self._hinted(channel_id, sequence)


def encode_hints(hints: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Payloads of at most `PAYLOAD_BYTES_MAX` bytes that carry all hints, in order."""
    parts: list[bytes] = []
    size = 2
    for hint in hints:
        part = orjson.dumps(hint)
        if parts and size + len(part) + 1 > PAYLOAD_BYTES_MAX:
            yield f"[{b','.join(parts).decode()}]"
            parts, size = [], 2
        parts.append(part)
        size += len(part) + 1
    if parts:
        yield f"[{b','.join(parts).decode()}]"


def decode_hints(payload: str) -> Iterator[tuple[str, int]]:
    """The hints in a payload; what is not a hint is skipped, since anybody may NOTIFY."""
    with suppress(orjson.JSONDecodeError):
        hints = orjson.loads(payload)
        for hint in hints if isinstance(hints, list) else ():
            match hint:
                case [str(channel_id), int(sequence)]:
                    yield channel_id, sequence
