"""A message log in memory, and a chat on it. The log keeps every promise of `message_log.protocol` except
durability."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from changes import ERASED_AUTHOR, ChangeDraft, MessageChange, changes_epoch, without_text
from delivery.hubs import Hubs
from errors import Forbidden, IdempotencyConflict, Unavailable
from message_log.change_batch import ChangePlan, Held
from message_log.protocol import LOOK_AT_MAX, Appended, Commit, HistoryPage, LogListener, StoredPage
from message_log.revocations import RevocationSet
from message_rows import NOTHING, MessageRows
from messages import ANYONE, ChannelHead, Draft, Message, MessageFilter, Revocation, Totals, Viewer
from patterns import NO_CHANNEL, ChannelPatterns
from resolvers.chat import Chat
from resolvers.post_message import post_message


@dataclass
class MemoryLog:
    """If `failing` is set, every coroutine raises `Unavailable`. `forget` does what retention does."""

    failing: bool = False
    epoch: str = field(default_factory=lambda: uuid4().hex)
    exclusive: bool = True
    location: str = "memory"

    def __post_init__(self) -> None:
        self.changes = MemoryChanges(self)
        self._held: dict[str, list[Message]] = {}
        self._heads: dict[str, int] = {}
        self._keys: dict[tuple[str, str, str], Message] = {}
        self._listener: LogListener | None = None
        self._now = datetime(2026, 1, 1, tzinfo=UTC)
        self.appends = 0
        self.revoked = RevocationSet()
        self.pages = 0
        self.taken = 0

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.failing:
            raise Unavailable

    def forget(self, channel_id: str, *, up_to: int) -> None:
        """Removes the messages of a channel up to a sequence."""
        self._held[channel_id] = [m for m in self._held[channel_id] if m.sequence > up_to]

    async def open(self, listener: LogListener) -> None:
        self._listener = listener

    async def close(self) -> None:
        self._listener = None

    async def append(self, draft: Draft) -> Appended:
        await self._answer()
        if self.revoked.forbids_post(draft):
            raise Forbidden
        self.appends += 1
        key = draft.idempotency_key and (draft.channel_id, draft.author, draft.idempotency_key)
        if key and (first := self._keys.get(key)):
            if not draft.same_post(first):
                raise IdempotencyConflict
            return Appended(self._standing(first), created=False)
        self._now += timedelta(milliseconds=1)
        sequence = self._heads[draft.channel_id] = self._heads.get(draft.channel_id, 0) + 1
        message = Message(
            draft.channel_id,
            sequence,
            draft.author,
            draft.content,
            draft.lane,
            draft.provider,
            draft.token_count,
            self._now,
            self.epoch,
            complete=draft.complete,
        )
        self._held.setdefault(draft.channel_id, []).append(message)
        if key:
            self._keys[key] = message
        if self._listener is not None:
            self._listener.committed(Commit([message]))
        return Appended(message, created=True)

    async def revoke(self, revocation: Revocation) -> None:
        await self._answer()
        found = self.revoked.add(0, revocation)
        if self._listener is not None:
            self._listener.revoked(found)

    async def restore(self, author: str, channel_id: str | None) -> bool:
        await self._answer()
        there = any((each.author, each.channel_id) == (author, channel_id) for each in self.revoked.listed())
        self.revoked.discard(0, author, channel_id)
        return there

    async def growing_since(self, moment: datetime, *, limit: int) -> list[tuple[str, int, int]]:
        await self._answer()
        growing = [m for held in self._held.values() for m in held if not m.complete]
        return [(m.channel_id, m.sequence, m.revision) for m in growing][:limit]

    async def posted_by(
        self, author: str, *, after: tuple[str, int] | None, limit: int
    ) -> tuple[list[tuple[str, int]], tuple[str, int] | None]:
        await self._answer()
        places = sorted((m.channel_id, m.sequence, m.author) for held in self._held.values() for m in held)
        looked = [place for place in places if after is None or place[:2] > after][:limit]
        return [place[:2] for place in looked if place[2] == author], looked[-1][:2] if looked else None

    async def take_name(self, author: str, channel_id: str, after: int, until: int) -> int:
        await self._answer()
        held = self.changes.held.get(channel_id, [])
        taken = [after < c.sequence <= until and c.author == author for c in held]
        held[:] = [replace(c, author=ERASED_AUTHOR) if took else c for c, took in zip(held, taken, strict=True)]
        self.taken += any(taken)
        return sum(taken)

    async def names_taken(self) -> int:
        await self._answer()
        return self.taken

    async def scrub(self) -> bool:
        await self._answer()
        return True

    async def last_sequence(self, channel_id: str) -> int:
        await self._answer()
        return self._heads.get(channel_id, 0)

    async def last_sequences(self, channel_ids: Collection[str]) -> dict[str, int]:
        await self._answer()
        return {channel: self._heads[channel] for channel in channel_ids if channel in self._heads}

    def _between(self, channel_id: str, after: int | None, before: int | None) -> list[Message]:
        return [
            m
            for m in self._held.get(channel_id, [])
            if (after is None or m.sequence > after) and (before is None or m.sequence < before)
        ]

    async def read(self, channel_id: str, *, after: int, limit: int, max_bytes: int) -> list[Message]:
        await self._answer()
        taken: list[Message] = []
        size = 0
        for message in self._between(channel_id, after, None)[:limit]:
            taken.append(message)
            size += len(message.content.encode())
            if size > max_bytes:
                break
        return taken

    async def read_many(self, positions: Mapping[str, int], *, limit: int, max_bytes: int) -> dict[str, list[Message]]:
        runs = {
            id_: await self.read(id_, after=after, limit=limit, max_bytes=max_bytes) for id_, after in positions.items()
        }
        return {channel_id: run for channel_id, run in runs.items() if run}

    async def history(
        self,
        channel_id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int,
        backwards: bool = False,
        filter: MessageFilter | None = None,
        look_at_max: int = LOOK_AT_MAX,
    ) -> HistoryPage:
        await self._answer()
        candidates = self._between(channel_id, after, before)
        if backwards:
            candidates.reverse()
        found: list[Message] = []
        looked_at = 0
        for message in candidates[:look_at_max]:
            looked_at += 1
            if filter is None or filter.matches(message):
                found.append(message)
                if len(found) == limit:
                    break
        stopped_at = candidates[looked_at - 1].sequence if looked_at else None
        if backwards:
            found.reverse()
        constrained = filter is not None and filter != MessageFilter()
        return HistoryPage(
            MessageRows.of(found), stopped_at, looked_at == len(candidates), looked_at if constrained else 0
        )

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
        self.pages += 1
        head = await self.last_sequence(channel_id)
        found = HistoryPage(NOTHING, None, False)
        if limit:
            found = await self.history(
                channel_id,
                after=after,
                before=before,
                limit=limit,
                backwards=backwards,
                filter=filter,
                look_at_max=look_at_max,
            )
        if after is None and before is None and limit:
            return StoredPage(head, found)
        return StoredPage(head, found, await self.oldest_sequence(channel_id))

    async def oldest_sequence(self, channel_id: str) -> int:
        await self._answer()
        held = self._held.get(channel_id)
        return held[0].sequence if held else self._heads.get(channel_id, 0) + 1

    async def oldest_of_all(
        self, *, limit: int, channel_ids: Collection[str] | None = None, after: Message | None = None
    ) -> list[Message]:
        await self._answer()
        held = self._held if channel_ids is None else {id_: self._held.get(id_, []) for id_ in set(channel_ids)}
        everything = [message for messages in held.values() for message in messages]

        def place(message: Message) -> tuple[datetime, str, int]:
            return message.timestamp, message.channel_id, message.sequence

        return sorted((m for m in everything if after is None or place(m) > place(after)), key=place)[:limit]

    async def message(self, channel_id: str, sequence: int) -> Message | None:
        await self._answer()
        return next((m for m in self._held.get(channel_id, []) if m.sequence == sequence), None)

    async def repeated(self, draft: Draft) -> Message | None:
        await self._answer()
        first = self._keys.get((draft.channel_id, draft.author, draft.idempotency_key or ""))
        if first is not None and not draft.same_post(first):
            raise IdempotencyConflict
        return first and self._standing(first)

    def _standing(self, message: Message) -> Message:
        return next(m for m in self._held[message.channel_id] if m.sequence == message.sequence)

    async def change(self, draft: ChangeDraft) -> Appended:
        await self._answer()
        place = draft.channel_id, draft.message_sequence
        messages = self._held.get(draft.channel_id, [])
        held = {(m.channel_id, m.sequence): Held(m, m.revision, 0, m.text_bytes, None) for m in messages}
        told = self.changes.held.setdefault(draft.channel_id, [])
        made = {(c.channel_id, c.message_sequence, c.revision): c for c in told}
        self._now += timedelta(milliseconds=1)
        plan = ChangePlan(held, made, self.changes.heads, timestamp=self._now, epoch=self.epoch)
        batch = plan.run([draft])
        if place in plan.held:
            messages[:] = [plan.held[place].message if m.sequence == place[1] else m for m in messages]
        if batch.blanked:
            told[:] = [without_text(c) if c.message_sequence == place[1] else c for c in told]
        told += batch.changes
        self.changes.heads.update(batch.heads)
        if batch.changes and self._listener is not None:
            self._listener.committed(Commit(changes=batch.changes))
        outcome = batch.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def channels(self, *, after: str | None = None, limit: int) -> list[ChannelHead]:
        await self._answer()
        ids = sorted(channel for channel in self._heads if after is None or channel > after)
        return [ChannelHead(channel, self._heads[channel]) for channel in ids[:limit]]

    async def totals(self, channel_ids: Collection[str] | None = None) -> Totals:
        await self._answer()
        by_provider: dict[str, int] = {}
        by_lane: dict[str, int] = {}
        messages = tokens = 0
        for channel, held in self._held.items():
            if channel_ids is not None and channel not in channel_ids:
                continue
            for message in held:
                messages += 1
                tokens += message.token_count or 0
                if message.provider:
                    by_provider[message.provider] = by_provider.get(message.provider, 0) + 1
                if message.lane:
                    by_lane[message.lane] = by_lane.get(message.lane, 0) + 1
        return Totals(messages, tokens, by_provider, by_lane)

    async def ready(self) -> bool:
        return not self.failing


class MemoryChanges:
    """The changes of a `MemoryLog`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self.held: dict[str, list[MessageChange]] = {}
        self.heads: dict[str, int] = {}

    @property
    def epoch(self) -> str:
        return changes_epoch(self._log.epoch)

    @property
    def exclusive(self) -> bool:
        return self._log.exclusive

    async def last_sequence(self, channel_id: str) -> int:
        await self._log._answer()
        return self.heads.get(channel_id, 0)

    async def last_sequences(self, channel_ids: Collection[str]) -> dict[str, int]:
        await self._log._answer()
        return {channel: self.heads[channel] for channel in channel_ids if channel in self.heads}

    async def read(self, channel_id: str, *, after: int, limit: int, max_bytes: int) -> list[MessageChange]:
        await self._log._answer()
        taken: list[MessageChange] = []
        for change in self.held.get(channel_id, []):
            if change.sequence > after and len(taken) < limit:
                taken.append(change)
                if sum(each.text_bytes for each in taken) > max_bytes:
                    break
        return taken

    async def read_many(
        self, positions: Mapping[str, int], *, limit: int, max_bytes: int
    ) -> dict[str, list[MessageChange]]:
        found = {}
        for channel_id, after in positions.items():
            if run := await self.read(channel_id, after=after, limit=limit, max_bytes=max_bytes):
                found[channel_id] = run
        return found

    async def oldest_sequence(self, channel_id: str) -> int:
        await self._log._answer()
        held = self.held.get(channel_id)
        return held[0].sequence if held else self.heads.get(channel_id, 0) + 1


@asynccontextmanager
async def memory_chat(**settings: object) -> AsyncIterator[Chat]:
    """A chat on a log in memory, with a running hub. At the end no channel may be left in the hub's registry."""
    log = MemoryLog()
    hubs = Hubs(log)
    await log.open(hubs)
    await hubs.start()
    try:
        yield Chat(log, hubs, **settings)  # type: ignore[arg-type]
        assert hubs.messages.channels == {}
        assert hubs.changes.channels == {}
    finally:
        await hubs.stop()
        await log.close()


def viewer_of_patterns(patterns: Collection[str], author: str | None = None) -> Viewer:
    """A viewer that may read and post to the channels of these patterns and manage none, as with the claim
    `channels`."""
    named = ChannelPatterns(patterns)
    return Viewer(author, read=named, post=named, manage=NO_CHANNEL)


async def fill(chat: Chat, channel_id: str, count: int, **fields: object) -> list[Message]:
    """Posts `count` messages `"1"`, `"2"` … to a channel, by author `ann` unless told otherwise."""
    fields = {"author": "ann", **fields}
    return [
        await post_message(chat, ANYONE, channel_id=channel_id, content=str(number), **fields)
        for number in range(1, count + 1)
    ]
