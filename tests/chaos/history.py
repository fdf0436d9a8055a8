"""What happened in a run: what everybody who took part has done and was told."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Posted:
    """A publisher tries to post `content`. It has its own idempotency key, or none. Another try is another event."""

    at: float
    channel_id: str
    publisher: str
    content: str
    node: str

    def __str__(self) -> str:
        return f"{self.publisher} posts {self.content!r} to {self.channel_id} on node {self.node}"


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The publisher is told that `content` has `sequence`."""

    at: float
    channel_id: str
    publisher: str
    content: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.publisher} is told that {self.content!r} is {self.channel_id}:{self.sequence}"


@dataclass(frozen=True, slots=True)
class Unknown:
    """The publisher does not learn the outcome of a try."""

    at: float
    channel_id: str
    publisher: str
    content: str
    problem: str

    def __str__(self) -> str:
        return f"{self.publisher} is not told what became of {self.content!r}: {self.problem}"


@dataclass(frozen=True, slots=True)
class Began:
    """A subscriber begins at the position `sequence`."""

    at: float
    channel_id: str
    subscriber: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.subscriber} begins after {self.channel_id}:{self.sequence}"


@dataclass(frozen=True, slots=True)
class Delivered:
    """A subscriber receives a message. `content` is None if the message was erased already."""

    at: float
    channel_id: str
    subscriber: str
    sequence: int
    content: str | None

    def __str__(self) -> str:
        return f"{self.subscriber} receives {self.channel_id}:{self.sequence} {self.content!r}"


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A subscriber's connection ends or cannot be opened. It will connect again with its newest cursor."""

    at: float
    channel_id: str
    subscriber: str
    code: int | None

    def __str__(self) -> str:
        return f"{self.subscriber} is disconnected ({self.code or 'no close frame'})"


@dataclass(frozen=True, slots=True)
class Ended:
    """A subscriber listened until all faults were over and everything had time to arrive."""

    at: float
    channel_id: str
    subscriber: str

    def __str__(self) -> str:
        return f"{self.subscriber} has had time to hear everything"


@dataclass(frozen=True, slots=True)
class Changing:
    """An author tries to make `revision` of a message. Another try is another event.

    `text` is the piece or the new content, and is unique. None if the change has no text.
    """

    at: float
    channel_id: str
    author: str
    message: int
    revision: int
    kind: str
    text: str | None

    def __str__(self) -> str:
        return f"{self.author} tries {_change(self)}"


@dataclass(frozen=True, slots=True)
class Changed:
    """The author is told that the change was made."""

    at: float
    channel_id: str
    author: str
    message: int
    revision: int
    kind: str
    text: str | None

    def __str__(self) -> str:
        return f"{self.author} is told of {_change(self)}"


@dataclass(frozen=True, slots=True)
class ChangeUnknown:
    """The author does not learn the outcome of a try."""

    at: float
    channel_id: str
    author: str
    message: int
    revision: int
    problem: str

    def __str__(self) -> str:
        return f"{self.author} is not told what became of revision {self.revision} of {self.message}: {self.problem}"


@dataclass(frozen=True, slots=True)
class BeganChanges:
    """A follower begins at the position `sequence` among the channel's changes."""

    at: float
    channel_id: str
    subscriber: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.subscriber} begins after change {self.sequence} of {self.channel_id}"


@dataclass(frozen=True, slots=True)
class ChangeDelivered:
    """A follower receives a change."""

    at: float
    channel_id: str
    subscriber: str
    sequence: int
    message: int
    revision: int
    kind: str
    text: str | None

    def __str__(self) -> str:
        return f"{self.subscriber} receives change {self.sequence}: {_change(self)}"


@dataclass(frozen=True, slots=True)
class Shows:
    """How a follower shows a message in the end, after everything had time to arrive."""

    at: float
    channel_id: str
    subscriber: str
    sequence: int
    text: str
    revision: int
    complete: bool
    erased: bool

    def __str__(self) -> str:
        return f"{self.subscriber} shows {_standing(self)}"


@dataclass(frozen=True, slots=True)
class Revoked:
    """A revocation was acknowledged, of a subscriber's access to this channel or to every channel."""

    at: float
    channel_id: str
    subscriber: str

    def __str__(self) -> str:
        return f"{self.subscriber} is thrown out of {self.channel_id}"


@dataclass(frozen=True, slots=True)
class Restoring:
    """From now on a subscriber may have access again."""

    at: float
    channel_id: str
    subscriber: str

    def __str__(self) -> str:
        return f"{self.subscriber} is let into {self.channel_id} again"


@dataclass(frozen=True, slots=True)
class Fault:
    """What the nemesis does."""

    at: float
    what: str

    def __str__(self) -> str:
        return f"-- {self.what}"


@dataclass(frozen=True, slots=True)
class Stored:
    """A message that the log has in the end."""

    channel_id: str
    sequence: int
    content: str

    def __str__(self) -> str:
        return f"the log holds {self.channel_id}:{self.sequence} {self.content!r}"


@dataclass(frozen=True, slots=True)
class StoredChange:
    """A change that the log has in the end. `text` is None if it has no text, or if the message was erased."""

    channel_id: str
    sequence: int
    message: int
    revision: int
    kind: str
    text: str | None

    def __str__(self) -> str:
        return f"the log holds change {self.sequence}: {_change(self)}"


@dataclass(frozen=True, slots=True)
class Standing:
    """A message as the log has it in the end."""

    channel_id: str
    sequence: int
    text: str
    revision: int
    complete: bool
    erased: bool

    def __str__(self) -> str:
        return f"the log says {_standing(self)}"


def _change(each: Changing | Changed | ChangeDelivered | StoredChange) -> str:
    return f"{each.kind} {each.text!r}, revision {each.revision} of {each.channel_id}:{each.message}"


def _standing(each: Shows | Standing) -> str:
    state = "erased" if each.erased else "complete" if each.complete else "growing"
    return f"{each.channel_id}:{each.sequence} at revision {each.revision}, {state}, {each.text!r}"


Event = (
    Posted
    | Acknowledged
    | Unknown
    | Began
    | Delivered
    | Disconnected
    | Ended
    | Changing
    | Changed
    | ChangeUnknown
    | BeganChanges
    | ChangeDelivered
    | Shows
    | Revoked
    | Restoring
    | Fault
)
Held = Stored | StoredChange | Standing


@dataclass(slots=True)
class History:
    """The events in the order of their times, and the content of the log afterwards, by channel and sequence."""

    events: list[Event] = field(default_factory=list)
    log: list[Held] = field(default_factory=list)
