"""What a resolver of one operation may use."""

from dataclasses import dataclass

from messages import ANYONE, Viewer
from resolvers.chat import Chat


@dataclass(frozen=True, slots=True)
class Context:
    """The chat, who is asking, and from which address (None where the transport does not tell)."""

    chat: Chat
    viewer: Viewer = ANYONE
    address: str | None = None
