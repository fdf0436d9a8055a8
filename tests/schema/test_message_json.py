"""Pages written at once look as if each value had been written by its type."""

from datetime import UTC, datetime

import orjson

from resolvers.chat import Chat
from schema.context import Context
from schema.operations import Operations
from tests.fakes import MemoryLog, fill


async def test_moment_of_a_whole_second_has_six_digits_of_fraction(chat: Chat) -> None:
    assert isinstance(chat.log, MemoryLog)
    await fill(chat, "c", 1)
    chat.log._now = datetime(2026, 1, 1, 0, 0, 0, 999_000, tzinfo=UTC)
    await fill(chat, "c", 2)
    operations = Operations()
    text = '{ channel(id: "c") { messages(first: 3) { edges { node { at: timestamp sequence } } } } }'
    result = await operations.run(operations.prepare(text, None), None, Context(chat))
    edges = orjson.loads(orjson.dumps(result))["data"]["channel"]["messages"]["edges"]
    assert [edge["node"]["at"] for edge in edges] == [
        "2026-01-01T00:00:00.001000+00:00",
        "2026-01-01T00:00:01.000000+00:00",
        "2026-01-01T00:00:01.001000+00:00",
    ]
