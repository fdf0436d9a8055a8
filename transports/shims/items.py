"""A message as the REST and plain WebSocket shims show it: one shape, made in one place."""

from typing import Any

import orjson

from messages import Message, iso_timestamp


def message_item(message: Message) -> dict[str, Any]:
    """The JSON-ready item of a message: the earlier server's members, then `id`, `sequence` and `cursor`.

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
    }


def encode_message_frame(message: Message) -> bytes:
    """What a plain WebSocket carries for a message: `{"type":"message","data":item}` as JSON in UTF-8."""
    return orjson.dumps({"type": "message", "data": message_item(message)})
