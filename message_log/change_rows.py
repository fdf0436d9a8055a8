"""How changes lie in rows, and how the rows of one message are found.

Pieces of one message that were committed together are one row, a *run*: its sequence and its revision are those of its
last piece, its text is all of them, and `cuts` tells where it is cut. A stored piece then costs little more than its
text.

An index over every row would be a page more for each commit. So only some rows are in it, the *marks*: a row says by
`span` that it and what follows within so many sequences may be of its message, and a row that no mark of its message
covers is made one. `span` is 0 in all others. A row may be covered twice.
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
"""How a kind is stored: by its place here."""

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
"""The columns of what `rows_of` makes, with their types."""

RUN_BYTES = 800
"""Text of a run, at most. SQLite puts what exceeds 1,002 bytes of a row into pages of its own."""
_NO_CHARACTERS = 32
"""`cuts` has one character for each piece, whose code is this and the piece's length in characters."""
SPAN_RUNS = 16
"""A mark covers as many sequences as so many runs of its length have: about so many rows are read for each mark."""
SPAN_MAX = 1024
"""What a mark covers at most, in sequences."""

Place = tuple[str, int]
"""(channel_id, sequence): where a message stands."""


def rows_of(made: Sequence[MessageChange], covered: dict[Place, int]) -> list[tuple[object, ...]]:
    """The rows of what one transaction has made, in the order of `made`.

    Args:
        covered: for each message the sequence of changes up to which its newest mark covers, itself not included; 0
            where that is unknown. It is brought up to date.
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
    """Rows of `COLUMNS` as changes, those of a run one by one; `epoch` is the changes' own."""
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
    """The condition, in SQL, that `mark` covers `row` and both are of one message.

    Whoever asks for the marks of a message also bounds their revision: SQLite walks the whole channel otherwise.
    """
    return (
        f"{mark}.span > 0 AND {row}.channel_id = {mark}.channel_id AND {row}.sequence >= {mark}.sequence "
        f"AND {row}.sequence < {mark}.sequence + {mark}.span AND {row}.message_sequence = {mark}.message_sequence"
    )


def of_message(
    columns: Iterable[ColumnElement[Any]], channel_id: Any, message_sequence: Any, after_revision: Any
) -> Select[Any]:
    """Selects these columns of the rows of one message above a revision, in no order; a row may come twice."""
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
    """What becomes a row each, in order. Pieces that go on are cut into runs of about the same size: rows that are
    alike fill pages better."""
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
