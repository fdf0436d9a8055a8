"""What a resolver of one operation may use."""

from collections.abc import Hashable
from dataclasses import dataclass, field

from errors import BadUserInput
from messages import ANYONE, Viewer
from resolvers.chat import Chat
from resolvers.fair_queue import Client

MESSAGES_MAX = 10_000
"""Messages that one operation may ask for in all its pages: 200 channels with 50 each. Each costs some 50 µs."""


@dataclass(slots=True)
class Context:
    """The chat, who is asking, from which address (None where the transport does not tell) and over which connection.
    One an operation."""

    chat: Chat
    viewer: Viewer = ANYONE
    address: str | None = None
    connection: Hashable = None
    _messages_left: int = field(default=MESSAGES_MAX, repr=False)

    @property
    def client(self) -> Client:
        """Who waits, where clients take turns."""
        return Client((self.address, self.viewer.author), self.connection)

    def reserve(self, argument: str, messages: int) -> None:
        """Takes a page's size off what the operation may still ask for; negative gives back.

        Raises:
            BadUserInput: the operation asks for more than `MESSAGES_MAX` messages.
        """
        if messages > self._messages_left:
            raise BadUserInput(argument, f"asks for too much: one operation may read {MESSAGES_MAX} messages")
        self._messages_left -= messages
