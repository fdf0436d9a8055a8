"""What a message log promises. Everything above this room is written against this page alone.

Ordering. In each channel, sequences are 1, 2, 3 … without gaps, and commit order is sequence order: whoever reads
sequence N can read every sequence below N that retention has not removed. Across channels nothing is promised.

Durability. `append` returns after the commit. What it returned survives `kill -9` and power loss.

Publishing. After each commit of this process the listener's `committed` is called once on the event loop, before any
of the posts in that commit is acknowledged, with what is new in commit order. What other processes commit is told by
`heard` and `hinted` at any time: late, twice, in any order or never. What was heard is true, but what precedes it may
not have come; a hint is only a reason to look.

Two logs of one kind. A channel has messages, and beside them the changes of its messages: both are an `EntryLog`, a
change is committed together with what it changes, and what is said above holds for both.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from changes import ChangeDraft, MessageChange
from messages import ChannelHead, Draft, Message, MessageFilter, Revocation, Totals


class Entry(Protocol):
    """What stands at one place of a log of entries. Never mutated; it may be stated anew, in another edition."""

    @property
    def channel_id(self) -> str: ...

    @property
    def sequence(self) -> int:
        """Its number in its channel: 1, 2, 3 … without gaps."""

    @property
    def edition(self) -> int:
        """Raised whenever the entry is stated anew."""

    @property
    def timestamp(self) -> datetime:
        """When the log accepted it, UTC."""

    @property
    def cursor(self) -> str:
        """Its position: everything after it follows."""

    @property
    def size_bytes(self) -> int:
        """About how much memory it holds, in bytes."""

    @property
    def text_bytes(self) -> int:
        """Its text in bytes of UTF-8: what `EntryLog.read` counts."""


class EntryLog(Protocol):
    """A durable, ordered store of the entries of many channels: what delivering needs to know of a log.

    Every coroutine may raise `errors.Unavailable`; each gives up by itself within a few seconds. Where what is stored
    cannot be read, and asking again would not help, it raises `errors.LogDamaged`.
    """

    @property
    def epoch(self) -> str:
        """Identity of the log's numbering, known once it is open. A new database has a new one."""

    @property
    def exclusive(self) -> bool:
        """True when no other process can append: what this one committed is all there is."""

    async def last_sequence(self, channel_id: str) -> int:
        """The channel's head as committed now, 0 while there is no entry."""

    async def last_sequences(self, channel_ids: Collection[str]) -> dict[str, int]:
        """The heads of many channels by one query; channels without an entry are left out."""

    async def read(self, channel_id: str, *, after: int, limit: int, max_bytes: int) -> Sequence[Entry]:
        """What follows position `after`: sequence > `after`, ascending, at most `limit` entries.

        Stops after the entry with which the texts exceed `max_bytes`, so one entry is always returned when there is
        one. When retention has removed what follows, the first entry's sequence is above `after` + 1.
        """

    async def read_many(
        self, positions: Mapping[str, int], *, limit: int, max_bytes: int
    ) -> Mapping[str, Sequence[Entry]]:
        """`read` for many channels at once, by one query: what follows the position of each.

        `limit` and `max_bytes` hold for each channel. Channels in which nothing follows are left out.
        """

    async def oldest_sequence(self, channel_id: str) -> int:
        """The sequence of the oldest entry still held; the head + 1 when none is."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What one transaction has added, both in commit order (ascending within each channel)."""

    messages: Sequence[Message] = ()
    changes: Sequence[MessageChange] = ()


class LogListener(Protocol):
    """Who wants to know what was committed. All methods are synchronous, quick and never raise."""

    def committed(self, commit: Commit) -> None:
        """What one commit of this process has added; never nothing."""

    def hinted(self, channel_id: str, sequence: int) -> None:
        """Another process has committed messages of `channel_id` up to `sequence`, or so it says."""

    def hinted_changes(self, channel_id: str, sequence: int) -> None:
        """Another process has committed changes in `channel_id` up to `sequence`, or so it says."""

    def heard(self, commit: Commit) -> None:
        """What another process has committed to this log, or a part of it, as it was then. May have been changed since,
        and the change may have been told already."""

    def misheard(self) -> None:
        """Something was said that is not of this log, or is garbage. It was dropped."""

    def missed(self) -> None:
        """What told of commits was away for a while: any channel may have moved. The log has everything."""

    def revoked(self, revocations: Sequence[Revocation]) -> None:
        """These are newly in force, by whomever. `MessageLog.revoked` knows them already."""


class Revoked(Protocol):
    """The revocations in force, as this process knows them: looked up in memory, by any thread.

    What this process revokes it knows before that is acknowledged; what another one revokes, within a second.
    """

    def forbids(self, author: str | None, channel_id: str | None) -> bool:
        """Whether the author's access to the channel was revoked, or to every channel; None asks for the latter.

        An author of None, which is anybody, is never forbidden anything.
        """

    def concerns(self, author: str | None) -> bool:
        """Whether anything of this author's was revoked: a channel, or all of them."""

    def listed(self) -> Sequence[Revocation]:
        """Those in force now, by (author, channel); what holds for every channel comes first."""


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of a draft. `created` is False when its idempotency key named an earlier message."""

    message: Message
    created: bool


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A stretch of a channel's history, ascending, and how far the search for it looked.

    `stopped_at` is the sequence of the last message looked at in the direction of travel, or None when there was
    nothing to look at. `exhausted` is True when nothing lies beyond it within the range asked for. `looked_at` is how
    many messages a filter was tried on.
    """

    messages: list[Message]
    stopped_at: int | None
    exhausted: bool
    looked_at: int = 0


TOTALS_NAMES_MAX = 1_000
"""Providers, and lanes, that totals tell apart."""
LOOK_AT_MAX = 10_000
"""How many messages a filtered page of history looks at."""


@dataclass(frozen=True, slots=True)
class StoredPage:
    """A page of history, and the channel's ends around it, read together.

    `head` was read before `found`. `bounds` are the channel's oldest sequence that is held and its head, read after
    it: what retention removes in between is noticed, not lost. They are None where the page needs neither.
    """

    head: int
    found: HistoryPage
    bounds: tuple[int, int] | None = None


class MessageLog(Protocol):
    """The durable, ordered store of all messages.

    Every coroutine may raise `errors.Unavailable` or `errors.LogDamaged`; each gives up by itself within a few seconds.
    A cancelled reader leaves nothing behind; a cancelled `append` may still have posted.
    """

    @property
    def epoch(self) -> str:
        """Identity of the log's numbering, known once it is open. A new database has a new one."""

    @property
    def exclusive(self) -> bool:
        """True when no other process can append: what this one committed is all there is."""

    @property
    def location(self) -> str:
        """Where the log lies, for people: a path or an address without credentials."""

    @property
    def changes(self) -> EntryLog:
        """The changes of the messages, as the second log of each channel. Open while this log is."""

    async def open(self, listener: LogListener) -> None:
        """Migrates and opens the log, and begins to tell `listener`.

        Raises:
            StartupError: another running server holds the SQLite file, or the database cannot be used.
        """

    async def close(self) -> None:
        """Finishes the appends under way, then lets go of every connection and thread. Idempotent."""

    async def append(self, draft: Draft) -> Appended:
        """Stores a draft and gives it the next sequence of its channel.

        Raises:
            Forbidden: the access of its author or its sender was revoked before the commit began. Nothing was stored.
            IdempotencyConflict: its key names an earlier message that says something else. Nothing was stored.
            Unavailable: the outcome is unknown; a retry with the same idempotency key settles it.
        """

    @property
    def revoked(self) -> Revoked:
        """Whose access was taken away, known as soon as the log is open."""

    async def revoke(self, revocation: Revocation) -> None:
        """Stores a revocation, in place of an earlier one of the same author and channel. When it returns, it is in
        force in this process, and the listener has been told.

        Raises:
            BadUserInput: too many are in force already.
            Unavailable: the outcome is unknown. It may be repeated.
        """

    async def restore(self, author: str, channel_id: str | None) -> bool:
        """Takes a revocation back; False where there was none of exactly this author and channel in force.

        Raises:
            Unavailable: the outcome is unknown. It may be repeated.
        """

    async def change(self, draft: ChangeDraft) -> Appended:
        """Changes a message, and says what it is now. `created` is False where there was nothing to change: a piece
        that came again, a completed message to be completed, an erased one to be erased.

        Raises:
            BadUserInput: no such message is held (`id`), it was erased (`id`), or it would grow too long (`piece`).
            Forbidden: it is another author's, and the draft says that they may not.
            RevisionConflict, MessageComplete: the message is not what the caller took it for.
            Unavailable: the outcome is unknown; a retry settles it.
        """

    async def growing_since(self, moment: datetime, *, limit: int) -> list[tuple[str, int, int]]:
        """Messages that may grow and were last touched before `moment`: channel, sequence and revision."""

    async def posted_by(
        self, author: str, *, after: tuple[str, int] | None, limit: int
    ) -> tuple[list[tuple[str, int]], tuple[str, int] | None]:
        """Which of the `limit` messages that follow a place (channel, sequence), over all channels, an author has
        posted; and the place of the last one looked at, None when there was none left."""

    async def take_name(self, author: str, channel_id: str, after: int, until: int) -> int:
        """Takes an author's name from the changes of a channel with `after` < sequence <= `until`; says how many."""

    async def names_taken(self) -> int:
        """A counter that rises, in the same transaction, when `take_name` has taken a name anywhere."""

    async def scrub(self) -> bool:
        """Overwrites what was erased in the log's files, where it could not be done at once because readers were in
        the way. False: they still are."""

    async def last_sequence(self, channel_id: str) -> int:
        """The channel's head as committed now, 0 while nothing was posted."""

    async def last_sequences(self, channel_ids: Collection[str]) -> dict[str, int]:
        """The heads of many channels by one query; channels nobody posted to are left out."""

    async def read(self, channel_id: str, *, after: int, limit: int, max_bytes: int) -> list[Message]:
        """What follows position `after`: sequence > `after`, ascending, at most `limit` messages.

        Stops after the message with which the contents exceed `max_bytes`, so one message is always returned when
        there is one. When retention has removed what follows, the first message's sequence is above `after` + 1.
        """

    async def read_many(self, positions: Mapping[str, int], *, limit: int, max_bytes: int) -> dict[str, list[Message]]:
        """`read` for many channels at once, by one query: what follows the position of each.

        `limit` and `max_bytes` hold for each channel. Channels in which nothing follows are left out.
        """

    async def history(
        self,
        channel_id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int,
        backwards: bool = False,
        filter: MessageFilter | None = None,
    ) -> HistoryPage:
        """At most `limit` messages with `after` < sequence < `before`, always returned ascending.

        Forwards, the oldest of the range; backwards, the newest. With a filter, at most 10,000 messages are looked at.
        """

    async def page(
        self,
        channel_id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int,
        backwards: bool = False,
        filter: MessageFilter | None = None,
        look_at_max: int = LOOK_AT_MAX,
    ) -> StoredPage:
        """`history`, and the channel's ends around it, by one reader in one go. `limit` 0 looks at nothing.

        The bounds are read where there is an `after` or `before`, or `limit` is 0.
        """

    async def oldest_sequence(self, channel_id: str) -> int:
        """The sequence of the oldest message still held; the head + 1 when none is."""

    async def oldest_of_all(
        self, *, limit: int, channel_ids: Collection[str] | None = None, after: Message | None = None
    ) -> list[Message]:
        """The oldest messages of all channels, or of those named, by (timestamp, channel_id, sequence); with `after`,
        of those that follow it in this order.

        At most `limit`. Over named channels the time it takes grows with what they and their neighbours hold.
        """

    async def message(self, channel_id: str, sequence: int) -> Message | None:
        """One message, or None when it was never posted or is no longer held."""

    async def repeated(self, draft: Draft) -> Message | None:
        """The message that a draft's idempotency key names, as it stands, or None while it names none.

        Raises:
            IdempotencyConflict: something else was posted under that key.
        """

    async def channels(self, *, after: str | None = None, limit: int) -> list[ChannelHead]:
        """Channels that were posted to, by code point order of their ids, ids > `after`, at most `limit`."""

    async def totals(self, channel_ids: Collection[str] | None = None) -> Totals:
        """Totals over all channels, or over those named. Never counts the messages themselves.

        Of providers and of lanes, the `TOTALS_NAMES_MAX` with the most messages.
        """

    async def ready(self) -> bool:
        """Whether the log answers now (it is asked, within a second). Never raises."""
