"""What becomes of a batch of changes: pure decisions, made inside the transaction between its reads and its writes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from changes import (
    ERASED_AUTHOR,
    ChangeDraft,
    MessageChange,
    MessageChangeKind,
    apply_change,
    changes_epoch,
)
from errors import BadUserInput, Forbidden, MessageComplete, RevisionConflict
from message_log.change_rows import Place
from message_log.protocol import Appended
from messages import Message, text_size_bytes

Outcome = Appended | Exception

ASSEMBLED_BYTES_MIN = 4096
"""A message that grows is written again when it has doubled since it was written last, and by this much at least. So
all that is written for it is about twice its size."""


@dataclass(slots=True)
class Held:
    """A message as a transaction finds it, and how much of it is in its row.

    `stored_revision` and `stored_bytes` are those of the row: what was added later is in changes. `digest` is None if
    the message has no idempotency key. `covered` says up to where its rows of changes are found (see
    `change_rows.rows_of`). `noted_at` is when its row in `growing` was last written, in microseconds since 1970. Both
    are 0 if that is unknown.
    """

    message: Message
    stored_revision: int
    stored_bytes: int
    bytes: int
    digest: str | None
    covered: int = 0
    noted_at: int = 0


@dataclass(slots=True)
class ChangeBatch:
    """The changes that one transaction writes, and its answers. `outcomes[i]` answers the i-th draft.

    `rows` are the messages to be written again, by place. `grown` are those that may still grow, with the revision that
    they have reached; `settled` are those that cannot grow any more. `blanked` are places whose changes lose their
    text, with the name that is to be removed from them, or None. `heads` are the new last changes of the channels.
    `tokens` is to be added to the totals of (channel, provider, lane).
    """

    outcomes: list[Outcome]
    changes: list[MessageChange] = field(default_factory=list)
    rows: dict[Place, Held] = field(default_factory=dict)
    grown: dict[Place, int] = field(default_factory=dict)
    settled: set[Place] = field(default_factory=set)
    blanked: dict[Place, str | None] = field(default_factory=dict)
    heads: dict[str, int] = field(default_factory=dict)
    tokens: dict[tuple[str, str, str], int] = field(default_factory=dict)


def place_of(draft: ChangeDraft) -> Place:
    return draft.channel_id, draft.message_sequence


def places_of(drafts: Iterable[ChangeDraft]) -> list[Place]:
    """The distinct messages that some drafts are about, in order."""
    return list(dict.fromkeys(map(place_of, drafts)))


class ChangePlan:
    """Decides about drafts in the order in which they came. Each one sees what those before it have done.

    Args:
        held: the messages of the drafts, as locked by this transaction. A message that is missing is not held.
        made: changes that may be the earlier result of an append that is repeated, by place and revision.
        heads: last changes as locked; a channel that is missing has none.
        timestamp: when the log accepts the batch.
        epoch: the log's (that of the messages).
    """

    def __init__(
        self,
        held: Mapping[Place, Held],
        made: Mapping[tuple[str, int, int], MessageChange],
        heads: Mapping[str, int],
        *,
        timestamp: datetime,
        epoch: str,
    ) -> None:
        self.batch = ChangeBatch(outcomes=[])
        self.held = dict(held)
        self._made = dict(made)
        self._heads = heads
        self._timestamp = timestamp
        self._epoch = changes_epoch(epoch)

    def run(self, drafts: Sequence[ChangeDraft]) -> ChangeBatch:
        for draft in drafts:
            try:
                self.batch.outcomes.append(self._decide(draft))
            except (BadUserInput, Forbidden, MessageComplete, RevisionConflict) as refusal:
                self.batch.outcomes.append(refusal)
        return self.batch

    def _decide(self, draft: ChangeDraft) -> Appended:
        held = self.held.get(place_of(draft))
        if held is None:
            raise BadUserInput("id", "names no message that is stored: it never was, or retention has removed it")
        message = held.message
        if not draft.others and draft.by != message.author:
            raise Forbidden("You may change only what you have posted yourself.")
        if draft.kind is MessageChangeKind.APPENDED:
            return self._append(draft, message)
        if draft.kind is MessageChangeKind.COMPLETED:
            if message.complete:
                return Appended(message, created=False)
            if draft.revision is not None and draft.revision != message.revision:
                raise RevisionConflict(message.revision)
            return self._changed(draft, message)
        if draft.kind is MessageChangeKind.EDITED:
            if message.erased_at is not None:
                raise BadUserInput("id", "names a message that was erased")
            if draft.revision is not None and draft.revision != message.revision:
                raise RevisionConflict(message.revision)
            return self._changed(draft, message)
        if message.erased_at is not None and not (draft.forgets_author and message.author != ERASED_AUTHOR):
            return Appended(message, created=False)
        return self._changed(draft, message)

    def _append(self, draft: ChangeDraft, message: Message) -> Appended:
        assert draft.revision is not None
        if draft.revision < message.revision:
            made = self._made.get((*place_of(draft), draft.revision + 1))
            if (
                made is not None
                and made.kind is MessageChangeKind.APPENDED
                and made.piece == draft.text
                and made.author == _who(draft, message)
            ):
                return Appended(message, created=False)
        if message.complete:
            raise MessageComplete
        if draft.revision != message.revision:
            raise RevisionConflict(message.revision)
        size = self.held[place_of(draft)].bytes + text_size_bytes(draft.text or "")
        if size > draft.content_bytes_max:
            raise BadUserInput("piece", f"would make the content longer than {draft.content_bytes_max} bytes of UTF-8")
        appended = self._changed(draft, message)
        if draft.complete:
            completing = replace(draft, kind=MessageChangeKind.COMPLETED, text=None, token_count=None)
            appended = self._changed(completing, appended.message)
        return appended

    def _changed(self, draft: ChangeDraft, message: Message) -> Appended:
        kind, place, batch = draft.kind, place_of(draft), self.batch
        head = batch.heads.get(draft.channel_id)
        sequence = (self._heads.get(draft.channel_id, 0) if head is None else head) + 1
        batch.heads[draft.channel_id] = sequence
        who = _who(draft, message)
        change = MessageChange(
            draft.channel_id,
            sequence,
            draft.message_sequence,
            kind,
            message.revision + 1,
            draft.text if kind is MessageChangeKind.APPENDED else None,
            draft.text if kind is MessageChangeKind.EDITED else None,
            ERASED_AUTHOR if draft.forgets_author and who == message.author else who,
            self._timestamp,
            self._epoch,
            draft.token_count,
            new_author=ERASED_AUTHOR if draft.forgets_author else None,
        )
        after = apply_change(message, change)
        before = self.held[place]
        if kind is MessageChangeKind.APPENDED:
            size = before.bytes + change.text_bytes
        else:
            size = text_size_bytes(after.content)
        # When the name is removed, the key is removed too, so nobody can ask for what was posted under it.
        digest = None if draft.forgets_author else before.digest
        held = replace(before, message=after, bytes=size, digest=digest)
        self._count_tokens(message, after, kind)
        grown_bytes = size - before.stored_bytes
        enough = grown_bytes >= max(before.stored_bytes, ASSEMBLED_BYTES_MIN)
        if kind is not MessageChangeKind.APPENDED or enough or place in batch.rows:
            # Written once for each batch, as it is at the end of the batch.
            held.stored_revision, held.stored_bytes = after.revision, size
            batch.rows[place] = held
        if not after.complete:
            batch.grown[place] = after.revision
        elif not message.complete:
            batch.settled.add(place)
            batch.grown.pop(place, None)
        if kind is MessageChangeKind.ERASED:
            self._blank(place, message.author if draft.forgets_author else None)
        self.held[place] = held
        self._made[(*place, after.revision)] = change
        batch.changes.append(change)
        return Appended(after, created=True)

    def _count_tokens(self, before: Message, after: Message, kind: MessageChangeKind) -> None:
        """Totals say what was posted: an erasure does not reduce them."""
        added = (after.token_count or 0) - (before.token_count or 0)
        if added and kind is MessageChangeKind.APPENDED:
            group = (after.channel_id, after.provider or "", after.lane or "")
            self.batch.tokens[group] = self.batch.tokens.get(group, 0) + added

    def _blank(self, place: Place, name: str | None) -> None:
        batch = self.batch
        batch.blanked[place] = name or batch.blanked.get(place)
        for index, change in enumerate(batch.changes):
            if (change.channel_id, change.message_sequence) == place:
                author = ERASED_AUTHOR if name is not None and change.author == name else change.author
                batch.changes[index] = replace(change, piece=None, content=None, edition=1, author=author)


def _who(draft: ChangeDraft, message: Message) -> str:
    return message.author if draft.by is None else draft.by
