"""What the engine knows of a connection: a place that takes a batch at once, or says that it cannot now."""

from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar

from errors import RaqcoonError
from messages import Message

T = TypeVar("T")


class Batch:
    """A stretch of a channel as one cohort sees it: the messages that passed its filter, each encoded once.

    `position` is the sequence that a subscriber has reached once it has taken the batch; `payloads[i]` is the encoded
    result for `messages[i]`. Both may be empty when the filter let nothing through.
    """

    __slots__ = ("_wires", "messages", "payloads", "position")

    def __init__(self, position: int, messages: list[Message], payloads: list[bytes]) -> None:
        self.position = position
        self.messages = messages
        self.payloads = payloads
        self._wires: dict[Hashable, object] = {}

    def wire(self, key: Hashable, build: Callable[["Batch"], T]) -> T:
        """What `build` makes of this batch, made once per `key` however many subscribers share the batch.

        `key` names a wire format and whatever of the subscriber the bytes depend on (the length of its id, say).
        """
        wire = self._wires.get(key)
        if wire is None:
            wire = self._wires[key] = build(self)
        return wire  # type: ignore[return-value]


class Sink(Protocol):
    """A subscriber's side of a connection."""

    def write(self, batch: Batch) -> bool:
        """Takes the whole batch in this loop step and returns True, or takes nothing of it and returns False.

        Never raises and never suspends. False means: not now (above the high-water mark) or never again (gone).
        """

    async def writable(self) -> None:
        """Returns when `write` is worth another try. On a connection that is gone it waits for ever: whoever owns
        the connection closes its subscribers."""

    def end(self, error: RaqcoonError | None) -> None:
        """The engine ended this subscription, because of `error` or (None) because the server is done with it.

        Called at most once, never after the subscriber was closed by its owner. Never raises.
        """
