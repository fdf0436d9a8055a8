"""The item of the compatibility shims."""

from datetime import UTC, datetime

import orjson

from messages import Message
from transports.shims.items import encode_message_frame, message_item

MESSAGE = Message("general", 7, "ann", "hé\n", None, "p", 3, datetime(2026, 11, 5, 12, 0, 0, 250, UTC), "epoch")


def test_item_has_the_earlier_members_then_the_new_ones() -> None:
    assert message_item(MESSAGE) == {
        "channel_id": "general",
        "author": "ann",
        "content": "hé\n",
        "timestamp": "2026-11-05T12:00:00.000250+00:00",
        "lane": None,
        "provider": "p",
        "token_count": 3,
        "id": "general:7",
        "sequence": 7,
        "cursor": MESSAGE.cursor,
        "revision": 0,
        "complete": True,
        "edited_at": None,
        "erased_at": None,
    }


def test_frame_wraps_the_item() -> None:
    assert orjson.loads(encode_message_frame(MESSAGE)) == {"type": "message", "data": message_item(MESSAGE)}
