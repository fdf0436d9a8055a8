"""The part of a transaction that changes messages: what it reads, and what it writes, on either database.

Each statement gets many rows as one JSON array, as for posts. Of a message that grows, a transaction writes the pieces
(see `change_rows`), and one small row if other processes write too. The message itself is written again only now and
then (see `change_batch`). The newest of these messages are remembered here, so that a piece need not read what is there
already. If other processes write too, a remembered message is used only if the transaction finds the same revision.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

import orjson
from cachetools import LRUCache

from changes import ERASED_AUTHOR, ChangeDraft, MessageChange, MessageChangeKind, apply_change, changes_epoch
from message_log.batch import Key, Named
from message_log.change_batch import ChangeBatch, ChangePlan, Held, places_of
from message_log.change_rows import COLUMNS, KINDS, SPAN_MAX, WRITTEN, Place, as_changes, marked, rows_of
from message_log.posted import posted_digest
from message_log.tables import messages, typed
from message_rows import ROW, message_of, row_of, to_microseconds
from messages import Message, text_size_bytes

TOUCH_SECONDS = 10
"""How old the row in `growing` of a message that grows may be, if it is not written with every piece."""
REMEMBERED_BYTES = 16 * 1024 * 1024
"""Memory for the messages that grow and are remembered."""

Rows = Callable[[str, tuple[tuple[str, str], ...]], str]
"""Writes a table expression: (its name, columns with their types) for one parameter, a JSON array of arrays."""

STORED_COLUMNS = ", ".join(f"m.{name}" for name in (*ROW, "posted_digest", "idempotency_key"))
"""What a transaction reads of a message that is stored. `m` is the table `messages`."""

_PLACE = typed(messages, "channel_id", "sequence")
_REWRITTEN = typed(messages, *ROW, "posted_digest")
_NEVER_CHANGED = ("channel_id", "sequence", "timestamp")
_CHANGE_COLUMNS = ", ".join(f"c.{column.name}" for column in COLUMNS)


class Result(Protocol):
    def fetchall(self) -> list[Any]: ...


Execute = Callable[[str, str], Result]
"""Runs a statement with its one parameter."""


def _json(rows: Iterable[Sequence[object]]) -> str:
    return orjson.dumps(list(rows)).decode()


class Changing:
    """Changes messages inside transactions of one process. Used by the writer's thread.

    Args:
        counts_changes: see `Dialect`. If it is False, no other process writes the log.
    """

    def __init__(self, rows: Rows, *, counts_changes: bool, clock: str | None = None) -> None:
        self._counts_changes = counts_changes
        places = rows("k", _PLACE)
        last_change = "last_change"
        if not counts_changes:
            newest = "SELECT sequence FROM changes WHERE channel_id = h.channel_id ORDER BY sequence DESC LIMIT 1"
            last_change = f"max(last_change, coalesce(({newest}), 0))"
        self._heads = (
            f"SELECT channel_id, {last_change} FROM channels AS h WHERE channel_id IN (SELECT channel_id FROM {places})"
        )
        self._reached = (
            f"SELECT g.channel_id, g.sequence, g.revision FROM {places} "
            "JOIN growing AS g ON g.channel_id = k.channel_id AND g.sequence = k.sequence"
        )
        self._messages = (
            f"SELECT {STORED_COLUMNS} "
            f"FROM {places} JOIN messages AS m ON m.channel_id = k.channel_id AND m.sequence = k.sequence"
        )
        since = rows("k", (*_PLACE, ("revision", "integer")))
        marks = "JOIN changes AS s ON s.channel_id = k.channel_id AND s.message_sequence = k.sequence"
        of_message = f"{marks} AND s.revision > k.revision - {SPAN_MAX} JOIN changes AS c ON {marked('s', 'c')}"
        self._since = (
            f"SELECT {_CHANGE_COLUMNS} FROM {since} {of_message} AND c.revision > k.revision ORDER BY c.revision"
        )
        self._made = (
            f"SELECT {_CHANGE_COLUMNS} FROM {since} {of_message} "
            "AND c.revision >= k.revision AND c.revision - c.run < k.revision"
        )
        names = ", ".join(name for name, _ in WRITTEN)
        self._insert = f"INSERT INTO changes ({names}) SELECT {names} FROM {rows('k', WRITTEN)}"
        head = rows("k", (("channel_id", "text"), ("last_change", "bigint")))
        self._raise_heads = (
            f"UPDATE channels SET last_change = k.last_change FROM {head} WHERE channels.channel_id = k.channel_id"
        )
        growth = rows("k", (*_PLACE, ("revision", "integer"), ("touched_at", "bigint")))
        self._grow = (
            "INSERT INTO growing (channel_id, sequence, revision, touched_at) "
            f"SELECT channel_id, sequence, revision, {clock or 'touched_at'} FROM {growth} WHERE true "
            "ON CONFLICT (channel_id, sequence) DO UPDATE SET revision = excluded.revision, "
            "touched_at = excluded.touched_at"
        )
        self._settle = (
            f"DELETE FROM growing WHERE (channel_id, sequence) IN (SELECT channel_id, sequence FROM {places})"
        )
        set_columns = ", ".join(f"{name} = k.{name}" for name, _ in _REWRITTEN if name not in _NEVER_CHANGED)
        at_place = "messages.channel_id = k.channel_id AND messages.sequence = k.sequence"
        # An idempotency key belongs to an author: when the name is removed, the key is removed too.
        self._rewrite = (
            f"UPDATE messages SET {set_columns}, idempotency_key = CASE WHEN k.author = messages.author "
            f"THEN messages.idempotency_key END FROM {rows('k', _REWRITTEN)} WHERE {at_place}"
        )
        blank = rows("k", (*_PLACE, ("name", "text")))
        self._blank = (
            f"UPDATE changes SET text = CASE WHEN changes.kind = {KINDS.index(MessageChangeKind.ERASED)} "
            "THEN changes.text END, "
            "edition = 1, cuts = NULL, "
            f"author = CASE WHEN changes.author = k.name THEN '{ERASED_AUTHOR}' ELSE changes.author END "
            f"FROM {blank} {marks} AND s.revision > 0 WHERE {marked('s', 'changes')}"
        )
        tokens = rows("k", (("channel_id", "text"), ("provider", "text"), ("lane", "text"), ("tokens", "bigint")))
        self._add_tokens = (
            f"UPDATE totals SET tokens = totals.tokens + k.tokens FROM {tokens} WHERE totals.channel_id = k.channel_id "
            "AND totals.provider = k.provider AND totals.lane = k.lane"
        )
        self._may_grow = f"UPDATE messages SET complete = 0 FROM {places} WHERE {at_place}"
        self._remembered: LRUCache[Place, Held] = LRUCache(REMEMBERED_BYTES, getsizeof=lambda held: held.bytes + 1024)

    def forget(self) -> None:
        """Forgets what is remembered: messages are read again."""
        self._remembered.clear()

    def run(
        self, execute: Execute, drafts: Sequence[ChangeDraft], timestamp: datetime, epoch: str
    ) -> tuple[ChangeBatch, Callable[[], None]]:
        """Reads and writes what `drafts` change, in a transaction that holds their channels.

        Returns the batch, and a function that has to be called when the transaction is committed.
        """
        places = places_of(drafts)
        heads = dict(execute(self._heads, _json(places)).fetchall())
        held = self._held(execute, places, epoch)
        plan = ChangePlan(held, self._earlier(execute, drafts, held, epoch), heads, timestamp=timestamp, epoch=epoch)
        batch = plan.run(drafts)
        if batch.changes:
            self._write(execute, batch, plan.held, to_microseconds(timestamp))

        def remember() -> None:
            for place in places:
                after = plan.held.get(place)
                if after is None or after.message.complete:
                    self._remembered.pop(place, None)
                elif after.bytes + 1024 <= REMEMBERED_BYTES:
                    self._remembered[place] = after

        return batch, remember

    def begin_growing(self, execute: Execute, messages: Iterable[Message], timestamp: datetime) -> None:
        """Notes that messages of this transaction may grow."""
        messages, touched_at = list(messages), to_microseconds(timestamp)
        execute(self._may_grow, _json((m.channel_id, m.sequence) for m in messages))
        execute(self._grow, _json((m.channel_id, m.sequence, m.revision, touched_at) for m in messages))

    def earlier(self, execute: Execute, statement: str, keys: str, epoch: str) -> dict[Key, Named]:
        """The messages that `statement` finds under idempotency keys, as they are now, with their digests."""
        return self.named(execute, execute(statement, keys).fetchall(), epoch)

    def named(self, execute: Execute, rows: Iterable[Any], epoch: str) -> dict[Key, Named]:
        """Rows of `STORED_COLUMNS` with keys, as messages that repeats of their posts are compared with.

        Those messages are also the answers to the repeats.
        """
        found: dict[Key, Named] = {}
        standing: dict[Place, Message] = {}
        keys: dict[Place, Key] = {}
        for row in rows:
            message, digest, name = _message(row, epoch)
            assert name is not None
            key = message.channel_id, message.author, name
            if not message.complete:
                digest = digest or posted_digest(message)
                place = message.channel_id, message.sequence
                standing[place] = message
                keys[place] = key
            found[key] = message, digest
        self._apply(execute, standing, epoch)
        for place, message in standing.items():
            found[keys[place]] = message, found[keys[place]][1]
        return found

    def _held(self, execute: Execute, places: list[Place], epoch: str) -> dict[Place, Held]:
        reached = {
            (channel, sequence): revision for channel, sequence, revision in self._rows(execute, self._reached, places)
        }
        held = {}
        for place in places:
            known, found = self._remembered.get(place), reached.get(place)
            if known is None or found is None:
                continue
            # If nobody else writes, it is enough that the message still exists.
            if found == known.message.revision or not self._counts_changes:
                held[place] = known
        missing = [place for place in places if place not in held]
        rows = self._rows(execute, self._messages, missing)
        standing = {}
        for row in rows:
            message, digest, key = _message(row, epoch)
            place = message.channel_id, message.sequence
            if digest is None and key is not None and message.revision == 0:
                digest = posted_digest(message)
            size = text_size_bytes(message.content)
            held[place] = Held(message, message.revision, size, size, digest)
            if not message.complete:
                standing[place] = message
        self._apply(execute, standing, epoch)
        for place, message in standing.items():
            before = held[place]
            held[place] = replace(before, message=message, bytes=text_size_bytes(message.content))
        return held

    def _apply(self, execute: Execute, standing: dict[Place, Message], epoch: str) -> None:
        places = [(*place, message.revision) for place, message in standing.items()]
        for change in as_changes(self._rows(execute, self._since, places), changes_epoch(epoch)):
            place = change.channel_id, change.message_sequence
            standing[place] = apply_change(standing[place], change)

    def _earlier(
        self, execute: Execute, drafts: Sequence[ChangeDraft], held: dict[Place, Held], epoch: str
    ) -> dict[tuple[str, int, int], MessageChange]:
        """The changes that appends of an old revision may repeat."""
        wanted = []
        for draft in drafts:
            found = held.get((draft.channel_id, draft.message_sequence))
            if found is None or draft.kind is not MessageChangeKind.APPENDED or draft.revision is None:
                continue
            if draft.revision < found.message.revision:
                wanted.append((draft.channel_id, draft.message_sequence, draft.revision + 1))
        made = as_changes(self._rows(execute, self._made, wanted), changes_epoch(epoch))
        return {(change.channel_id, change.message_sequence, change.revision): change for change in made}

    @staticmethod
    def _rows(execute: Execute, statement: str, parameters: Sequence[Sequence[object]]) -> list[Any]:
        return execute(statement, _json(parameters)).fetchall() if parameters else []

    def _write(self, execute: Execute, batch: ChangeBatch, held: dict[Place, Held], microseconds: int) -> None:
        if batch.blanked:
            execute(self._blank, _json((*place, name) for place, name in batch.blanked.items()))
        covered = {place: each.covered for place, each in held.items()}
        execute(self._insert, _json(rows_of(batch.changes, covered)))
        for place, each in held.items():
            each.covered = covered[place]
        if self._counts_changes:
            execute(self._raise_heads, _json(batch.heads.items()))
        if batch.rows:
            execute(self._rewrite, _json((*row_of(held.message), held.digest) for held in batch.rows.values()))
        grown = batch.grown
        if not self._counts_changes:
            oldest = microseconds - TOUCH_SECONDS * 1_000_000
            grown = {place: revision for place, revision in grown.items() if held[place].noted_at <= oldest}
        if grown:
            execute(self._grow, _json((*place, revision, microseconds) for place, revision in grown.items()))
            for place in grown:
                held[place].noted_at = microseconds
        if batch.settled:
            execute(self._settle, _json(batch.settled))
        if batch.tokens:
            execute(self._add_tokens, _json((*group, tokens) for group, tokens in batch.tokens.items()))


def _message(row: Sequence[Any], epoch: str) -> tuple[Message, str | None, str | None]:
    """The message of a row of `STORED_COLUMNS`, its digest and its idempotency key."""
    *columns, digest, key = row
    return message_of(tuple(columns), epoch), digest, key
