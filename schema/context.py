"""What a resolver of one operation may use."""

from dataclasses import dataclass, field

from errors import BadUserInput
from messages import ANYONE, Viewer
from resolvers.chat import Chat

MESSAGES_MAX = 10_000
"""Messages that one operation may ask for in all its pages: 200 channels with 50 each. Each costs some 50 µs."""


@dataclass(slots=True)
class Context:
    """The chat, who is asking, and from which address (None where the transport does not tell). One an operation."""

    chat: Chat
    viewer: Viewer = ANYONE
    address: str | None = None
    _messages_left: int = field(default=MESSAGES_MAX, repr=False)

    def reserve(self, argument: str, messages: int) -> None:
        """Takes a page's size off what the operation may still ask for; negative gives back.

        Raises:
            BadUserInput: the operation asks for more than `MESSAGES_MAX` messages.
        """
        if messages > self._messages_left:
            raise BadUserInput(argument, f"asks for too much: one operation may read {MESSAGES_MAX} messages")
        self._messages_left -= messages
