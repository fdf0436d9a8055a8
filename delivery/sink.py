"""What the engine knows of a connection: it takes a batch at once, or says that it cannot take it now."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from errors import RaqcoonError
from message_log.protocol import Entry as Entry

T = TypeVar("T")


class Batch:
    """A stretch of a channel as one cohort sees it: the entries that passed its filter, each encoded once.

    `position` is the sequence that a subscriber has reached once it has taken the batch; `payloads[i]` is the encoded
    result for `entries[i]`. Both may be empty when the filter let nothing through.
    """

    __slots__ = ("_laid_out", "entries", "payloads", "position")

    def __init__(self, position: int, entries: Sequence[Entry], payloads: list[bytes]) -> None:
        self.position = position
        self.entries = entries
        self.payloads = payloads
        self._laid_out: dict[Callable[[Batch], object], object] = {}

    def wire(self, layout: Callable[["Batch"], T]) -> T:
        """What `layout` makes of this batch, made once however many subscribers share batch and layout."""
        wire = self._laid_out.get(layout)
        if wire is None:
            wire = self._laid_out[layout] = layout(self)
        return wire  # type: ignore[return-value]


class Frames(Protocol):
    """A batch in a wire format, without the part that differs between two subscribers."""

    def joined(self, head: bytes) -> bytes:
        """The bytes for a subscriber with this `head`, which holds, for example, the id of its operation."""


class Claim(NamedTuple):
    """How a subscriber is written to without asking its sink: `write(batch.wire(layout).joined(head))`.

    `write` takes all bytes in the same loop step. After it has taken them it may tell its holder that it is `blocked`,
    and the other holders of the same connection, but nobody else. The writes of one connection's claims are equal.
    """

    layout: Callable[[Batch], Frames]
    head: bytes
    write: Callable[[bytes], object]


class Holder(Protocol):
    """Who holds a claim."""

    def blocked(self) -> None:
        """The claim has ended: from this step on the sink has to be asked again. Called at most once a claim."""


class Sink(Protocol):
    """A subscriber's side of a connection."""

    __slots__ = ()

    def write(self, batch: Batch) -> bool:
        """Takes the whole batch in this loop step and returns True, or takes nothing of it and returns False.

        Never raises and never suspends. False means: not now (above the high-water mark) or never again (gone).
        """

    async def writable(self) -> None:
        """Returns when it makes sense to try `write` again. If the connection is gone it never returns: whoever owns
        the connection closes its subscribers."""

    def end(self, error: RaqcoonError | None) -> None:
        """The engine ended this subscription, because of `error` or (None) because the server is done with it.

        Called at most once, never after the subscriber was closed by its owner. Never raises.
        """

    def unsent(self) -> Sequence[Entry]:
        """The newest entries that it has taken and that can still be taken back, since nothing of them was sent."""
        return ()

    def take_back(self) -> None:
        """Throws away the entries that `unsent` names. The caller makes sure that they are written again."""
        return

    def claim(self, holder: Holder) -> Claim | None:
        """The way to write without asking, until the holder is told that it is blocked or releases it. None if the sink
        has to be asked."""
        return None

    def release(self, holder: Holder) -> None:
        """Ends the claim of `holder`, which is not told."""
        return
