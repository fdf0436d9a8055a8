"""What processes that share a log tell each other of their commits: one codec for hints and for workers.

A payload is a JSON list: a tag, then entries. The tag names the form's version and the log; whoever reads for another
log refuses the whole payload, so neither another epoch's nor a copy's messages are ever taken for this log's own. An
entry is a head `[channel_id, sequence]`, and behind it, where the message travels along, its body. A head alone says
that the channel has come as far as that; its messages are in the log.

Heads keep their form in every version. So a node of another version, which skips what it does not know, still learns
how far each channel has come; the payloads of versions before this one, which had no tag, are heads and nothing else.

A message travels as it was posted. What was done to it since is in the log, and is told as a change of its own.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import orjson

from message_log.batch import from_microseconds, to_microseconds
from messages import SEQUENCE_MAX, Message

VERSION = 1


class Reached(NamedTuple):
    """A channel has come as far as `sequence`; what it holds is not told."""

    channel_id: str
    sequence: int


Entry = Message | Reached


class NotForThisLog(ValueError):
    """Raised when a payload is no payload of this log: it is garbage, or another log's."""


def encode(entries: Iterable[Entry], log_name: str, *, bytes_max: int | None = None) -> Iterator[bytes]:
    """Payloads of at most `bytes_max` bytes that carry all entries, in order; without a bound, one.

    A message that no payload of that size could hold goes without its body. `log_name` is at most 64 characters.
    """
    tag = orjson.dumps(f"{VERSION}:{log_name}")
    parts, size = [tag], len(tag) + 2
    for entry in entries:
        part = _part(entry)
        if bytes_max is not None:
            if len(tag) + len(part) + 3 > bytes_max:
                part = _part(Reached(entry.channel_id, entry.sequence))
            if size + len(part) + 1 > bytes_max:
                yield b"[%b]" % b",".join(parts)
                parts, size = [tag], len(tag) + 2
        parts.append(part)
        size += len(part) + 1
    if len(parts) > 1:
        yield b"[%b]" % b",".join(parts)


def decode(payload: str | bytes, log_name: str, epoch: str) -> list[Entry]:
    """The entries of a payload, in order; messages are given the epoch of the log that it was made for.

    A payload of another version yields heads alone.

    Raises:
        NotForThisLog: nothing in it may be believed.
    """
    items = _items(payload)
    tag = items[0] if items else None
    version, _, name = tag.partition(":") if isinstance(tag, str) else ("", "", "")
    if name != log_name:
        raise NotForThisLog("it is of another log, or has no tag")
    if version != str(VERSION):
        return list(_heads(items))
    entries: list[Entry] = []
    index, end = 1, len(items)
    while index < end:
        head = _reached(items[index])
        index += 1
        if head is None:
            raise NotForThisLog("a head was expected")
        if index < end and isinstance(items[index], list) and len(items[index]) == 6:
            entries.append(_message(head, items[index], epoch))
            index += 1
        else:
            entries.append(head)
    return entries


def decode_heads(payload: str | bytes) -> list[Reached]:
    """How far channels have come by a payload that has no tag, which versions before this one send.

    Nothing binds it to a log: it is a reason to look, and no more.

    Raises:
        NotForThisLog: it is no such payload.
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


def _part(entry: Entry) -> bytes:
    """An entry as it stands between the commas of a payload."""
    if isinstance(entry, Reached):
        return orjson.dumps(tuple(entry))
    return orjson.dumps(
        (
            (entry.channel_id, entry.sequence),
            (
                to_microseconds(entry.timestamp),
                entry.author,
                entry.content,
                entry.lane,
                entry.provider,
                entry.token_count,
            ),
        )
    )[1:-1]


def _heads(items: list[Any]) -> Iterator[Reached]:
    for item in items:
        if (head := _reached(item)) is not None:
            yield head


def _reached(item: Any) -> Reached | None:
    match item:
        case [str(channel_id), int(sequence)] if 0 < sequence <= SEQUENCE_MAX and sequence is not True:
            return Reached(channel_id, sequence)
    return None


def _message(head: Reached, body: list[Any], epoch: str) -> Message:
    match body:
        case [
            int(microseconds),
            str(author),
            str(content),
            str() | None as lane,
            str() | None as provider,
            int() | None as token_count,
        ] if token_count is not True and token_count is not False:
            try:
                timestamp = from_microseconds(microseconds)
            except OverflowError:
                raise NotForThisLog("its time is none") from None
            return Message(
                head.channel_id, head.sequence, author, content, lane, provider, token_count, timestamp, epoch
            )
    raise NotForThisLog("a message's body was expected")
