"""What processes that share a log tell each other about their commits.

A payload is a JSON list: a tag, then entries. The tag names the version of the format and the log. Whoever reads for
another log refuses the whole payload, so entries of another epoch or of a copy are never taken for entries of this log.
An entry is a head, `[channel_id, sequence]` for a message or `[channel_id, sequence, "change"]` for a change. Its body
may follow the head. A head without a body says that the channel has come that far; the entry is in the log.

Heads keep their form in every version. So a node of another version, which skips what it does not know, still learns
how far each channel has come. The payloads of versions before this one had no tag and consist of heads only.

A message is sent as it was posted, a change as it was made. An entry that was stated anew since then is sent without
its body.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from changes import MessageChange, MessageChangeKind, changes_epoch
from message_rows import from_microseconds, to_microseconds
from messages import SEQUENCE_MAX, Message

VERSION = 1
_CHANGE = "change"
_KINDS = {kind.value: kind for kind in MessageChangeKind}


class Reached(NamedTuple):
    """A channel's messages, or its changes, have come as far as `sequence`. Their content is not told."""

    channel_id: str
    sequence: int
    of_changes: bool = False

    @staticmethod
    def by(told: "Told") -> "Reached":
        """How far a channel has come, according to what is told."""
        if isinstance(told, Reached):
            return told
        return Reached(told.channel_id, told.sequence, isinstance(told, MessageChange))


Told = Message | MessageChange | Reached


class NotForThisLog(ValueError):
    """Raised when a payload does not belong to this log: it cannot be read, or is about another log."""


def encode(entries: Iterable[Told], log_name: str, *, bytes_max: int | None = None) -> Iterator[bytes]:
    """Payloads of at most `bytes_max` bytes that hold all entries, in order. Without a bound it is one payload.

    An entry that does not fit into any payload of that size is sent without its body. `log_name` has at most 64
    characters.
    """
    tag = orjson.dumps(f"{VERSION}:{log_name}")
    parts, size = [tag], len(tag) + 2
    for entry in entries:
        part = _part(entry)
        if bytes_max is not None:
            if len(tag) + len(part) + 3 > bytes_max:
                part = _part(Reached.by(entry))
            if size + len(part) + 1 > bytes_max:
                yield b"[%b]" % b",".join(parts)
                parts, size = [tag], len(tag) + 2
        parts.append(part)
        size += len(part) + 1
    if len(parts) > 1:
        yield b"[%b]" % b",".join(parts)


def decode(payload: str | bytes, log_name: str, epoch: str) -> list[Told]:
    """The entries of a payload, in order. `epoch` is that of the log that it was made for.

    A payload of another version yields only heads.

    Raises:
        NotForThisLog: nothing in it may be trusted.
    """
    items = _items(payload)
    tag = items[0] if items else None
    version, _, name = tag.partition(":") if isinstance(tag, str) else ("", "", "")
    if name != log_name:
        raise NotForThisLog("it is of another log, or has no tag")
    if version != str(VERSION):
        return list(_heads(items))
    entries: list[Told] = []
    index, end = 1, len(items)
    while index < end:
        head = _reached(items[index])
        index += 1
        if head is None:
            raise NotForThisLog("a head was expected")
        if index < end and isinstance(items[index], list) and len(items[index]) > 3:
            entry = _change if head.of_changes else _message
            entries.append(entry(head, items[index], epoch))
            index += 1
        else:
            entries.append(head)
    return entries


def decode_heads(payload: str | bytes) -> list[Reached]:
    """How far channels have come, from a payload without a tag, as versions before this one send it.

    It does not say which log it is about, so it is only a reason to read the log.

    Raises:
        NotForThisLog: it is not such a payload.
    """
    return list(_heads(_items(payload)))


def _items(payload: str | bytes) -> list[Any]:
    try:
        items = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise NotForThisLog("it is not JSON") from None
    if not isinstance(items, list):
        raise NotForThisLog("it is not a list")
    return items


def _part(told: Told) -> bytes:
    """An entry as it is written between the commas of a payload."""
    head: tuple[Any, ...] = (told.channel_id, told.sequence)
    body: tuple[Any, ...] | None = None
    if isinstance(told, Message):
        if told.edition == 0:
            body = (
                to_microseconds(told.timestamp),
                told.author,
                told.content,
                told.lane,
                told.provider,
                told.token_count,
                told.complete,
            )
    elif isinstance(told, MessageChange):
        head = (*head, _CHANGE)
        if told.edition == 0 and told.new_author is None:
            body = (
                told.message_sequence,
                told.kind.value,
                told.revision,
                told.piece,
                told.content,
                told.author,
                to_microseconds(told.timestamp),
                told.token_count,
            )
    elif told.of_changes:
        head = (*head, _CHANGE)
    return orjson.dumps(head) if body is None else orjson.dumps((head, body))[1:-1]


def _heads(items: list[Any]) -> Iterator[Reached]:
    for item in items:
        if (head := _reached(item)) is not None:
            yield head


def _reached(item: Any) -> Reached | None:
    match item:
        case [str(channel_id), int(sequence), *kind] if kind in ([], [_CHANGE]) and _is_sequence(sequence):
            return Reached(channel_id, sequence, bool(kind))
    return None


def _is_sequence(number: int) -> bool:
    return 0 < number <= SEQUENCE_MAX and number is not True


def _message(head: Reached, body: list[Any], epoch: str) -> Message:
    match body:
        case [
            int(microseconds),
            str(author),
            str(content),
            str() | None as lane,
            str() | None as provider,
            int() | None as token_count,
            bool(complete),
        ] if not isinstance(token_count, bool):
            return Message(
                head.channel_id,
                head.sequence,
                author,
                content,
                lane,
                provider,
                token_count,
                _moment(microseconds),
                epoch,
                complete=complete,
            )
    raise NotForThisLog("a message's body was expected")


def _change(head: Reached, body: list[Any], epoch: str) -> MessageChange:
    match body:
        case [
            int(message_sequence),
            str(kind),
            int(revision),
            str() | None as piece,
            str() | None as content,
            str(author),
            int(microseconds),
            int() | None as token_count,
        ] if kind in _KINDS and _is_sequence(message_sequence) and not isinstance(token_count, bool):
            return MessageChange(
                head.channel_id,
                head.sequence,
                message_sequence,
                _KINDS[kind],
                revision,
                piece,
                content,
                author,
                _moment(microseconds),
                changes_epoch(epoch),
                token_count,
            )
    raise NotForThisLog("a change's body was expected")


def _moment(microseconds: int) -> datetime:
    try:
        return from_microseconds(microseconds)
    except OverflowError:
        raise NotForThisLog("its time is none") from None
