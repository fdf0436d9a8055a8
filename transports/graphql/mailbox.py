"""A sink for streams that a task writes: one batch waits here while the one before it is being sent."""

import asyncio
from collections.abc import Sequence

from delivery.sink import Batch, Entry, Sink
from errors import Forbidden, RaqcoonError, Unauthenticated


class Mailbox(Sink):
    """The engine writes to it, and a task reads from it.

    It holds one batch. As long as that was not taken, `write` refuses the next one. Then the subscriber reads the log
    at its own pace, and nothing piles up here.
    """

    __slots__ = ("_batch", "_changed", "_emptied", "ended", "error", "gone")

    def __init__(self) -> None:
        self.ended = False
        """The engine has ended the subscription; `error` says why, None when the server is done with it."""
        self.error: RaqcoonError | None = None
        self.gone = False
        """The reader has left, or was sent away."""
        self._batch: Batch | None = None
        self._changed = asyncio.Event()
        self._emptied = asyncio.Event()

    def write(self, batch: Batch) -> bool:
        if self._batch is not None or self.gone:
            return False
        # If the filter has left out all entries of a batch, it has no bytes, and there is nothing to wait for.
        if batch.payloads:
            self._batch = batch
            self._changed.set()
        return True

    async def writable(self) -> None:
        while self._batch is not None or self.gone:
            self._emptied.clear()
            await self._emptied.wait()

    def unsent(self) -> Sequence[Entry]:
        return () if self._batch is None else self._batch.entries

    def take_back(self) -> None:
        self._batch = None
        self._emptied.set()

    def end(self, error: RaqcoonError | None) -> None:
        if self.ended:
            return
        if isinstance(error, Forbidden | Unauthenticated):
            self._batch = None  # Whoever may not read any more is not sent what still waits here.
        self.ended = True
        self.error = error
        self._changed.set()

    def leave(self) -> None:
        """Wakes the reader, which then ends: the client has gone, or has to go."""
        self.gone = True
        self._changed.set()

    async def take(self, seconds: float) -> Batch | None:
        """The next batch. None after `seconds` without one, or when the stream has ended."""
        if not self._has_news():
            try:
                async with asyncio.timeout(seconds):
                    while not self._has_news():  # A batch may be taken back before this reader has its turn.
                        self._changed.clear()
                        await self._changed.wait()
            except TimeoutError:
                return None
        if self.gone:
            return None
        batch, self._batch = self._batch, None
        self._emptied.set()
        return batch

    def _has_news(self) -> bool:
        return self._batch is not None or self.ended or self.gone
