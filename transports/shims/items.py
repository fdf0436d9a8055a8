"""A message as the REST and plain WebSocket shims show it: one shape, made in one place."""

from typing import Any

import orjson

from changes import MessageChange
from messages import Message, iso_timestamp


def message_item(message: Message) -> dict[str, Any]:
    """The JSON-ready item of a message: the earlier server's members, then `id`, `sequence`, `cursor` and its life.

    `timestamp` is ISO 8601 with six digits of fraction and its UTC offset; `lane`, `provider` and `token_count` are
    null when not given.
    """
    return {
        "channel_id": message.channel_id,
        "author": message.author,
        "content": message.content,
        "timestamp": iso_timestamp(message.timestamp),
        "lane": message.lane,
        "provider": message.provider,
        "token_count": message.token_count,
        "id": message.id,
        "sequence": message.sequence,
        "cursor": message.cursor,
        "revision": message.revision,
        "complete": message.complete,
        "edited_at": None if message.edited_at is None else iso_timestamp(message.edited_at),
        "erased_at": None if message.erased_at is None else iso_timestamp(message.erased_at),
    }


def encode_message_frame(message: Message) -> bytes:
    """What a plain WebSocket carries for a message: `{"type":"message","data":item}` as JSON in UTF-8."""
    return orjson.dumps({"type": "message", "data": message_item(message)})


def change_item(change: MessageChange) -> dict[str, Any]:
    """The JSON-ready item of a change: what `MessageChange` of the GraphQL contract has, under this shim's names."""
    return {
        "channel_id": change.channel_id,
        "message_id": change.message_id,
        "sequence": change.sequence,
        "cursor": change.cursor,
        "kind": change.kind.value,
        "revision": change.revision,
        "piece": change.piece,
        "content": change.content,
        "author": change.author,
        "timestamp": iso_timestamp(change.timestamp),
    }


def encode_change_frame(change: MessageChange) -> bytes:
    """What a plain WebSocket that asks for changes carries for one: `{"type":"change","data":item}`."""
    return orjson.dumps({"type": "change", "data": change_item(change)})
