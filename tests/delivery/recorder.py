"""A sink that records what it takes and can be made slow."""

import asyncio

from delivery.sink import Batch
from errors import RaqcoonError
from messages import Message


class Recorder:
    """Takes every batch while `open`; afterwards `sequences` is what the subscriber was sent."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.payloads: list[bytes] = []
        self.batches = 0
        self.ended: list[RaqcoonError | None] = []
        self._open = asyncio.Event()
        self._open.set()
        self._grew = asyncio.Condition()

    @property
    def sequences(self) -> list[int]:
        return [message.sequence for message in self.messages]

    def slow(self) -> None:
        self._open.clear()

    def fast(self) -> None:
        self._open.set()

    def write(self, batch: Batch) -> bool:
        assert not self.ended, "written to after the end"
        if not self._open.is_set():
            return False
        self.batches += 1
        self.messages += batch.messages
        self.payloads += batch.payloads
        return True

    async def writable(self) -> None:
        await self._open.wait()

    def end(self, error: RaqcoonError | None) -> None:
        self.ended.append(error)

    async def reached(self, sequence: int) -> None:
        """Waits, a loop step at a time, until the message of `sequence` was taken or the subscription has ended."""
        while not self.ended and (not self.messages or self.messages[-1].sequence < sequence):
            await asyncio.sleep(0)


def render(message: Message) -> bytes:
    return message.content.encode()
