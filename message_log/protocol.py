"""What a message log promises. Everything above this room relies on this page alone.

Ordering. In each channel, sequences are 1, 2, 3 … without gaps, and commit order is sequence order: whoever reads
sequence N can read every sequence below N that retention has not removed. Between channels no order is promised.

Durability. `append` returns after the commit. What it returned survives `kill -9` and power loss.

Publishing. After each commit of this process the listener's `committed` is called once on the event loop, with what is
new in commit order, before any of the posts in that commit is acknowledged. What other processes commit is told by
`heard` and `hinted` at any time: late, twice, in any order or never. What was heard is true, but what precedes it may
not have been told yet. A hint is only a reason to read the log.

Two logs of one kind. A channel has messages, and also the changes of its messages. Both are an `EntryLog`. A change is
committed together with what it changes, and everything above holds for both.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from changes import ChangeDraft, MessageChange
from message_rows import MessageRows
from messages import ChannelHead, Draft, Message, MessageFilter, Revocation, Totals


class Entry(Protocol):
    """What a log has at one place: a message or a change. The object is never mutated. When it changes in the log, it
    is stated anew: a new object with another edition takes its place."""

    @property
    def channel_id(self) -> str: ...

    @property
    def sequence(self) -> int:
        """Its number in its channel: 1, 2, 3 … without gaps."""

    @property
    def edition(self) -> int:
        """Incremented whenever the entry is stated anew."""

    @property
    def timestamp(self) -> datetime:
        """When the log accepted it, UTC."""

    @property
    def cursor(self) -> str:
        """Its position, after which a client can resume."""

    @property
    def size_bytes(self) -> int:
        """About how much memory it holds, in bytes."""

    @property
    def text_bytes(self) -> int:
        """The length of its text in bytes of UTF-8, which `EntryLog.read` counts."""


class EntryLog(Protocol):
    """A durable, ordered store of the entries of many channels: what the delivery engine needs to know of a log.

    Every coroutine may raise `errors.Unavailable`; each gives up by itself within a few seconds. If what is stored
    cannot be read, and a repeat would not help, it raises `errors.LogDamaged`.
    """

    @property
    def epoch(self) -> str:
        """Identity of the log's numbering, known once it is open. A new database has a new one."""

    @property
    def exclusive(self) -> bool:
        """True when no other process can append: what this one committed is all there is."""

    async def last_sequence(self, channel_id: str) -> int:
        """The channel's newest sequence as committed now; 0 while there is no entry."""

    async def last_sequences(self, channel_ids: Collection[str]) -> dict[str, int]:
        """The newest sequences of many channels by one query. Channels without an entry are left out."""

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
        """The sequence of the oldest entry that is still held; if there is none, the newest sequence + 1."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What one transaction has added, both in commit order (ascending within each channel)."""

    messages: Sequence[Message] = ()
    changes: Sequence[MessageChange] = ()


class LogListener(Protocol):
    """Whoever wants to know what was committed. All methods are synchronous, quick and never raise."""

    def committed(self, commit: Commit) -> None:
        """What one commit of this process has added; it is never empty."""

    def hinted(self, channel_id: str, sequence: int) -> None:
        """Another process has committed messages of `channel_id` up to `sequence`, or so it says."""

    def hinted_changes(self, channel_id: str, sequence: int) -> None:
        """Another process has committed changes in `channel_id` up to `sequence`, or so it says."""

    def heard(self, commit: Commit) -> None:
        """What another process has committed to this log, or a part of that, as it was then. It may have been changed
        since, and the change may have been told already."""

    def misheard(self) -> None:
        """A hint came that is about another log, or cannot be read. It was dropped."""

    def missed(self) -> None:
        """The source of hints was lost for a while: any channel may have new entries. The log has everything."""

    def revoked(self, revocations: Sequence[Revocation]) -> None:
        """These are newly in force, whoever has revoked. `MessageLog.revoked` knows them already."""


class Revoked(Protocol):
    """The revocations in force, as this process knows them: looked up in memory, by any thread.

    This process knows its own revocations before they are acknowledged, and those of other processes within a second.
    """

    def forbids(self, author: str | None, channel_id: str | None) -> bool:
        """Whether the author's access to the channel was revoked, or to every channel; None asks for the latter.

        An author of None, which is anybody, is never forbidden anything.
        """

    def concerns(self, author: str | None) -> bool:
        """Whether any access of this author was revoked: to a channel, or to all of them."""

    def listed(self) -> Sequence[Revocation]:
        """Those in force now, by (author, channel). Of an author, the one for every channel comes first."""


@dataclass(frozen=True, slots=True)
class Appended:
    """The outcome of a draft. `created` is False when its idempotency key named an earlier message."""

    message: Message
    created: bool


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A stretch of a channel's history, ascending, and how far the search for it went.

    `stopped_at` is the sequence of the last message that the search looked at, or None when there was nothing to look
    at. `exhausted` is True when nothing follows it within the range that was asked for. `looked_at` is the number of
    messages that were compared with a filter.
    """

    messages: MessageRows
    stopped_at: int | None
    exhausted: bool
    looked_at: int = 0


TOTALS_NAMES_MAX = 1_000
"""How many providers, and how many lanes, totals list."""
LOOK_AT_MAX = 10_000
"""How many messages a filtered page of history looks at."""


@dataclass(frozen=True, slots=True)
class StoredPage:
    """A page of history, and the channel's ends around it, read together.

    `head` was read before `found`. `oldest` is the oldest sequence that the channel holds. It was read after `found`,
    so that it is noticed when retention has removed something in between. It is None if the page does not need it.
    """

    head: int
    found: HistoryPage
    oldest: int | None = None


class MessageLog(EntryLog, Protocol):
    """The durable, ordered store of all messages.

    A cancelled reader leaves nothing behind. A cancelled `append` may still have posted.
    """

    @property
    def location(self) -> str:
        """Where the log is, for people: a path, or an address without credentials."""

    @property
    def changes(self) -> EntryLog:
        """The changes of the messages, as the second log of each channel. Open while this log is."""

    async def open(self, listener: LogListener) -> None:
        """Migrates and opens the log, and begins to tell `listener`.

        Raises:
            StartupError: another running server holds the SQLite file, or the database cannot be used.
        """

    async def close(self) -> None:
        """Finishes the appends under way, then closes every connection and ends every thread. Idempotent."""

    async def append(self, draft: Draft) -> Appended:
        """Stores a draft and gives it the next sequence of its channel.

        Raises:
            Forbidden: the access of its author or its sender was revoked before the commit began. Nothing was stored.
            IdempotencyConflict: its key names an earlier message with other content. Nothing was stored.
            Unavailable: the outcome is unknown; a retry with the same idempotency key settles it.
        """

    @property
    def revoked(self) -> Revoked:
        """Whose access is revoked. It is known as soon as the log is open."""

    async def revoke(self, revocation: Revocation) -> None:
        """Stores a revocation, which replaces an earlier one of the same author and channel. When this returns, it is
        in force in this process, and the listener has been told.

        Raises:
            BadUserInput: too many are in force already.
            Unavailable: the outcome is unknown. It may be repeated.
        """

    async def restore(self, author: str, channel_id: str | None) -> bool:
        """Takes a revocation back. False if none of exactly this author and channel was in force.

        Raises:
            Unavailable: the outcome is unknown. It may be repeated.
        """

    async def change(self, draft: ChangeDraft) -> Appended:
        """Changes a message, and returns it as it is now. `created` is False if there was nothing to change: the piece
        was appended before, or the message was completed or erased already.

        Raises:
            BadUserInput: no such message is held (`id`), it was erased (`id`), or it would grow too long (`piece`).
            Forbidden: another author wrote it, and the draft does not allow for that.
            RevisionConflict, MessageComplete: the message has another state than the caller believed.
            Unavailable: the outcome is unknown; a retry settles it.
        """

    async def growing_since(self, moment: datetime, *, limit: int) -> list[tuple[str, int, int]]:
        """Messages that may grow and were last touched before `moment`: channel, sequence and revision.

        `moment` is by this process's clock. Where several processes write, whose clocks may differ, it counts how long
        ago that is, by the database's clock.
        """

    async def posted_by(
        self, author: str, *, after: tuple[str, int] | None, limit: int
    ) -> tuple[list[tuple[str, int]], tuple[str, int] | None]:
        """Looks at the `limit` messages that follow a place (channel, sequence), over all channels. Returns the places
        of those that the author has posted, and the place of the last one looked at, or None when none is left."""

    async def take_name(self, author: str, channel_id: str, after: int, until: int) -> int:
        """Removes an author's name from the changes of a channel with `after` < sequence <= `until`. Returns from how
        many."""

    async def names_taken(self) -> int:
        """A counter that `take_name` increments in the same transaction when it removes a name."""

    async def scrub(self) -> bool:
        """Overwrites in the log's files what was erased, if that could not be done at once because readers were in the
        way. False: they still are."""

    async def read(self, channel_id: str, *, after: int, limit: int, max_bytes: int) -> list[Message]:
        """See `EntryLog.read`."""

    async def read_many(self, positions: Mapping[str, int], *, limit: int, max_bytes: int) -> dict[str, list[Message]]:
        """See `EntryLog.read_many`."""

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
        """`history`, and the oldest and newest sequence of the channel, read together by one reader. With `limit` 0 no
        message is looked at.

        The oldest one is read if there is an `after` or `before`, or if `limit` is 0.
        """

    async def oldest_of_all(
        self, *, limit: int, channel_ids: Collection[str] | None = None, after: Message | None = None
    ) -> list[Message]:
        """The oldest messages of all channels, or of those named, by (timestamp, channel_id, sequence). With `after`,
        only those that follow it in this order.

        At most `limit`. For named channels the time grows with the number of messages in them and in channels whose
        messages have the same times.
        """

    async def message(self, channel_id: str, sequence: int) -> Message | None:
        """One message, or None when it was never posted or is no longer held."""

    async def repeated(self, draft: Draft) -> Message | None:
        """The message that a draft's idempotency key names, as it is now, or None while the key names none.

        Raises:
            IdempotencyConflict: something else was posted under that key.
        """

    async def channels(self, *, after: str | None = None, limit: int) -> list[ChannelHead]:
        """Channels that were posted to, by code point order of their ids, ids > `after`, at most `limit`."""

    async def totals(self, channel_ids: Collection[str] | None = None) -> Totals:
        """Totals over all channels, or over those named. They are kept up to date, not counted when asked for.

        Of providers and of lanes, the `TOTALS_NAMES_MAX` with the most messages are listed.
        """

    async def ready(self) -> bool:
        """Whether the log can store posts now. It is tried, within about a second. Never raises."""
