"""How changes are stored in rows, and how the rows of one message are found.

Pieces of one message that were committed together are one row, which is called a *run*. Its sequence and its revision
are those of its last piece. Its text is the text of all its pieces, and `cuts` says where one piece ends and the next
begins. So a stored piece costs little more than its text.

If every row were in the index by message, each commit would write one more page of the database. So only some rows are
in that index. They are called *marks*. The `span` of a mark says how many sequences it covers, from its own on: the
rows of its message within them are found through the mark. In all other rows `span` is 0. When a row is written that no
mark of its message covers, it becomes a mark. A row may be covered by two marks.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, literal_column, select

from changes import MessageChange, MessageChangeKind
from message_log.tables import changes, typed
from message_rows import from_microseconds, to_microseconds

KINDS = (
    MessageChangeKind.APPENDED,
    MessageChangeKind.COMPLETED,
    MessageChangeKind.EDITED,
    MessageChangeKind.ERASED,
)
"""A kind is stored as the number of its place here."""

COLUMNS = (
    changes.c.channel_id,
    changes.c.sequence,
    changes.c.message_sequence,
    changes.c.kind,
    changes.c.revision,
    changes.c.text,
    changes.c.author,
    changes.c.timestamp,
    changes.c.token_count,
    changes.c.edition,
    changes.c.run,
    changes.c.cuts,
)

WRITTEN = typed(changes)
"""The columns of the rows that `rows_of` makes, with their types."""

RUN_BYTES = 800
"""The longest text of a run, unless a single piece is longer. If a row is longer than 1,002 bytes, SQLite puts the rest
into other pages."""
_NO_CHARACTERS = 32
"""`cuts` has one character for each piece. Its code is this number plus the length of the piece in characters."""
SPAN_RUNS = 16
"""A mark covers as many sequences as this number of runs, if they are as long as its own run. So about this many rows
are read for each mark."""
SPAN_MAX = 1024
"""The largest number of sequences that a mark covers."""

Place = tuple[str, int]
"""(channel_id, sequence) of a message."""


def rows_of(made: Sequence[MessageChange], covered: dict[Place, int]) -> list[tuple[object, ...]]:
    """The rows of the changes that one transaction has made, in the order of `made`.

    Args:
        covered: for each message, the first sequence that its newest mark does not cover. It is 0 or missing if that is
            unknown. This function updates it.
    """
    rows: list[tuple[object, ...]] = []
    for run in _runs(made):
        last = run[-1]
        place = last.channel_id, last.message_sequence
        span = 0
        if last.sequence >= covered.get(place, 0):
            span = min(SPAN_RUNS * len(run), SPAN_MAX)
            covered[place] = last.sequence + span
        if len(run) == 1:
            text, cuts = last.new_author or last.piece or last.content, None
        else:
            pieces = [change.piece or "" for change in run]
            text, cuts = "".join(pieces), "".join(chr(_NO_CHARACTERS + len(piece)) for piece in pieces)
        rows.append(
            (
                last.channel_id,
                last.sequence,
                last.message_sequence,
                last.revision,
                KINDS.index(last.kind),
                last.edition,
                to_microseconds(last.timestamp),
                last.token_count,
                last.author,
                text,
                len(run),
                cuts,
                span,
            )
        )
    return rows


def as_changes(rows: Iterable[Any], epoch: str) -> Iterator[MessageChange]:
    """The changes that rows of `COLUMNS` hold. A run gives one change for each piece. `epoch` is that of the
    changes."""
    for channel_id, sequence, of, kind_number, revision, text, author, timestamp, tokens, edition, run, cuts in rows:
        kind, at = KINDS[kind_number], from_microseconds(timestamp)
        if run > 1:
            pieces = _cut(text, cuts) if cuts is not None else [None] * run
            for before, piece in zip(range(run - 1, -1, -1), pieces, strict=True):
                yield MessageChange(
                    channel_id,
                    sequence - before,
                    of,
                    kind,
                    revision - before,
                    piece,
                    None,
                    author,
                    at,
                    epoch,
                    tokens,
                    edition,
                )
            continue
        yield MessageChange(
            channel_id,
            sequence,
            of,
            kind,
            revision,
            text if kind is MessageChangeKind.APPENDED else None,
            text if kind is MessageChangeKind.EDITED else None,
            author,
            at,
            epoch,
            tokens,
            edition,
            text if kind is MessageChangeKind.ERASED else None,
        )


def marked(mark: str, row: str) -> str:
    """The condition in SQL that `mark` covers `row` and both belong to the same message.

    A statement that looks for the marks of a message must also bound their revision. Otherwise SQLite reads the whole
    channel.
    """
    return (
        f"{mark}.span > 0 AND {row}.channel_id = {mark}.channel_id AND {row}.sequence >= {mark}.sequence "
        f"AND {row}.sequence < {mark}.sequence + {mark}.span AND {row}.message_sequence = {mark}.message_sequence"
    )


def of_message(
    columns: Iterable[ColumnElement[Any]], channel_id: Any, message_sequence: Any, after_revision: Any
) -> Select[Any]:
    """Selects these columns of the rows of one message whose revision is larger than `after_revision`.

    The rows are in no order, and a row may come twice.
    """
    mark = changes.alias("mark")
    covers = and_(
        changes.c.channel_id == mark.c.channel_id,
        changes.c.sequence >= mark.c.sequence,
        changes.c.sequence < mark.c.sequence + mark.c.span,
        changes.c.message_sequence == mark.c.message_sequence,
    )
    found = select(*columns).select_from(mark.join(changes, covers))
    found = found.where(
        mark.c.channel_id == channel_id, mark.c.message_sequence == message_sequence, mark.c.span > literal_column("0")
    )
    return found.where(mark.c.revision > after_revision - SPAN_MAX, changes.c.revision > after_revision)


def _runs(made: Iterable[MessageChange]) -> Iterator[list[MessageChange]]:
    """The changes of each row, in order. Pieces that follow each other are cut into runs of about the same size,
    because pages of the database are filled better by rows of the same size."""
    pieces: list[MessageChange] = []
    for change in made:
        if pieces and not _continues(pieces[-1], change):
            yield from _even(pieces)
            pieces = []
        pieces.append(change)
    if pieces:
        yield from _even(pieces)


def _even(pieces: list[MessageChange]) -> Iterator[list[MessageChange]]:
    if len(pieces) == 1:
        yield pieces
        return
    whole = sum(piece.text_bytes for piece in pieces)
    most = whole / math.ceil(whole / RUN_BYTES) if whole else RUN_BYTES
    run: list[MessageChange] = []
    size = 0
    for piece in pieces:
        size += piece.text_bytes
        if run and size > most + 1:
            yield run
            run, size = [], piece.text_bytes
        run.append(piece)
    yield run


def _continues(before: MessageChange, change: MessageChange) -> bool:
    return (
        change.kind is MessageChangeKind.APPENDED
        and before.kind is MessageChangeKind.APPENDED
        and change.message_sequence == before.message_sequence
        and change.channel_id == before.channel_id
        and change.sequence == before.sequence + 1
        and change.author == before.author
        and change.token_count == before.token_count
        and change.edition == before.edition == 0
    )


def _cut(text: str, cuts: str) -> Iterator[str]:
    start = 0
    for each in cuts:
        length = ord(each) - _NO_CHARACTERS
        yield text[start : start + length]
        start += length
