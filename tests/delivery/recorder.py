"""A sink that records what it is sent and can be made slow."""

import asyncio
from typing import Any, NamedTuple

from delivery.sink import Batch, Claim, Holder, Sink
from errors import RaqcoonError
from messages import Message


class Whole(NamedTuple):
    """The wire format of a recorder: the batch itself."""

    batch: Batch

    def joined(self, head: bytes) -> Any:
        return self.batch


VIOLATIONS: list[str] = []
"""Violations of the contract of `Sink` by the engine. The engine catches every error of a sink. So violations are also
recorded here, and checked after each test."""


def _demand(kept: bool, violation: str) -> None:
    if not kept:
        VIOLATIONS.append(violation)
        raise AssertionError(violation)


class Recorder(Sink):
    """Takes every batch while it is open. `sequences` is what the subscriber was sent.

    With `claims` it may be written to without being asked, while it is open. With `room` it becomes slow for a few
    steps of the loop after it has taken this many batches in a row.
    """

    def __init__(self, *, claims: bool = True, room: int | None = None) -> None:
        self.claims = claims
        self.room = room
        self.holder: Holder | None = None
        self.since_open = 0
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
        holder, self.holder = self.holder, None
        if holder is not None:
            holder.blocked()

    def fast(self) -> None:
        self.since_open = 0
        self._open.set()

    def write(self, batch: Batch) -> bool:
        _demand(self.holder is None, "asked although it need not be")
        if not self._open.is_set():
            return False
        self._take(batch)
        return True

    def claim(self, holder: Holder) -> Claim | None:
        _demand(self.holder is None, "claimed twice")
        if not self.claims or not self._open.is_set():
            return None
        self.holder = holder
        return Claim(Whole, b"", self._write_claimed)

    def release(self, holder: Holder) -> None:
        _demand(self.holder is holder, "released by another than its holder")
        self.holder = None

    def _write_claimed(self, batch: Any) -> None:
        _demand(self.holder is not None, "written to without a claim")
        self._take(batch)

    def _take(self, batch: Batch) -> None:
        _demand(not self.ended, "written to after the end")
        self.batches += 1
        self.messages += batch.entries
        self.payloads += batch.payloads
        self.since_open += 1
        if self.since_open == self.room:
            self.slow()
            asyncio.get_running_loop().call_later(0, self.fast)

    async def writable(self) -> None:
        await self._open.wait()

    def end(self, error: RaqcoonError | None) -> None:
        self.ended.append(error)

    async def reached(self, sequence: int) -> None:
        """Waits, step by step of the loop, until the message with `sequence` was taken or the subscription has
        ended."""
        while not self.ended and (not self.messages or self.messages[-1].sequence < sequence):
            await asyncio.sleep(0)


def render(message: Message) -> bytes:
    return message.content.encode()
