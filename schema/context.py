"""What a resolver of one operation may use."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from errors import Unavailable
from messages import ANYONE, Viewer
from resolvers.budget import Budget
from resolvers.chat import Chat
from resolvers.fair_queue import Client


@dataclass(slots=True)
class Context:
    """The chat, who is asking, from which address (None if the transport does not tell it) and over which connection.

    Each operation has one. Whoever makes it calls `release` once the answer was sent, or when it will not be sent.
    """

    chat: Chat
    viewer: Viewer = ANYONE
    address: str | None = None
    connection: Hashable = None
    budget: Budget = field(default_factory=Budget)
    contents: int = 1
    """How often the document may ask for the content of one message."""
    waits_for_room: bool = True
    """Whether a read waits until the client has taken earlier answers. If False, it is refused instead."""
    _held_bytes: int = 0
    _reading: asyncio.Lock | None = None

    @property
    def client(self) -> Client:
        """Who this is when clients take turns."""
        return Client((self.address, self.viewer.author), self.connection)

    @property
    def has_room(self) -> bool:
        """Whether the client has taken enough of its answers for another one to be made."""
        return self.chat.untaken_answers.has_room((self.address, self.viewer.author), self._held_bytes)

    async def wait_for_room(self) -> None:
        """Returns when the client has room for another answer. Raises Unavailable when it takes too long."""
        await self.chat.untaken_answers.room((self.address, self.viewer.author), self._held_bytes)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Inside it, one read of history may be under way. An operation may have one at a time, a client a few.

        Raises:
            Unavailable: the client does not take the answers that it has.
        """
        client, chat = self.client, self.chat
        if self._reading is None:
            self._reading = asyncio.Lock()
        async with self._reading:
            if not self.has_room:
                if not self.waits_for_room:
                    raise Unavailable("Earlier answers to this client have not been taken.")
                await self.wait_for_room()
            await chat.reads.enter(client)
            try:
                yield
            finally:
                chat.reads.leave(client)

    def hold(self, argument: str, size_bytes: int) -> None:
        """Counts bytes that the answer is going to hold.

        Raises:
            BadUserInput: the answer becomes too long; `argument` asks for it.
        """
        self.budget.take_bytes(argument, size_bytes)
        self.chat.untaken_answers.hold((self.address, self.viewer.author), size_bytes)
        self._held_bytes += size_bytes

    def release(self) -> None:
        """Stops counting what the answer held. Idempotent."""
        if self._held_bytes:
            held, self._held_bytes = self._held_bytes, 0
            self.chat.untaken_answers.release((self.address, self.viewer.author), held)
