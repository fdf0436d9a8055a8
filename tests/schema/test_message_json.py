"""Pages written at once look as if each value had been written by its type."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from message_rows import MessageRows
from messages import SEQUENCE_MAX, Message, encode_cursor, encode_cursors
from resolvers.chat import Chat
from schema.context import Context
from schema.contract import schema
from schema.documents import Documents
from schema.message_json import CHUNK_BYTES, MessageJson, NotPlain, stretches
from schema.operations import Operations
from schema.query_plan import Step, plan_query
from schema.rendering import build_executor
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


NODE = """{ id channelId sequence cursor author content lane provider tokenCount timestamp revision complete editedAt
  erasedAt __typename again: content }"""
EPOCH = "an epoch"
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
MOMENTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))


def json_of(selection: str) -> MessageJson:
    """What the plan of a page with this selection on its edges makes of messages."""
    graphql_schema = schema._schema
    text = f'{{ channel(id: "c") {{ messages {{ edges {selection} }} }} }}'
    prepared = Documents(graphql_schema).prepare(text, None)
    executor = build_executor(graphql_schema, prepared, None)
    assert not isinstance(executor, list)
    plan = plan_query(graphql_schema, prepared, executor)
    assert plan is not None
    steps: list[Step] = list(plan.steps)
    while steps:
        step = steps.pop()
        if step.message is not None:
            return step.message
        steps += step.steps
    raise AssertionError("no edges")


WHOLE = json_of(f"{{ cursor node {NODE} __typename }}")


@st.composite
def runs(draw: st.DrawFn) -> list[Message]:
    channel_id = draw(st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=9))
    first = draw(st.integers(1, 9000) | st.integers(SEQUENCE_MAX - 9, SEQUENCE_MAX - 5))
    return [
        Message(
            channel_id,
            first + place,
            draw(TEXTS),
            draw(TEXTS),
            draw(st.none() | TEXTS),
            draw(st.none() | TEXTS),
            draw(st.none() | st.integers(0, 2**31 - 1)),
            draw(MOMENTS),
            EPOCH,
            draw(st.integers(1, 2**31)),
            draw(st.booleans()),
            draw(st.none() | MOMENTS),
            draw(st.none() | MOMENTS),
        )
        for place in range(draw(st.integers(1, 5)))
    ]


@settings(max_examples=200, deadline=None)
@given(runs())
def test_rows_are_written_as_their_messages_are(messages: list[Message]) -> None:
    rows = MessageRows.of(messages)
    assert b",".join(WHOLE.encode_rows(rows)) == WHOLE.encode(messages)
    # Nobody has looked at a message for it.
    assert rows._messages is None
    assert list(rows) == messages


@given(st.lists(st.integers(0, SEQUENCE_MAX), max_size=9), st.text(max_size=5))
def test_cursors_made_together_are_those_made_alone(sequences: list[int], channel_id: str) -> None:
    alone = [encode_cursor(EPOCH, channel_id, sequence).encode() for sequence in sequences]
    assert encode_cursors(EPOCH, channel_id, sequences) == alone


GOOD: tuple[Any, ...] = ("c", 1, "ann", "hello", None, None, None, 1_767_225_600_000_000, 0, 1, None, None)


@pytest.mark.parametrize(("place", "value"), [(2, None), (3, b"x"), (6, "many"), (6, -(2**60))])
def test_row_that_is_not_plain_is_left_to_who_says_what_is_wrong(place: int, value: object) -> None:
    odd = (*GOOD[:place], value, *GOOD[place + 1 :])
    with pytest.raises(NotPlain):
        list(WHOLE.encode_rows(MessageRows.of_rows([GOOD, odd], EPOCH)))
    # What nobody has asked for is not looked at.
    assert list(json_of("{ cursor }").encode_rows(MessageRows.of_rows([odd], EPOCH)))


def test_selection_without_values_is_written_for_each_message() -> None:
    assert list(json_of("{ t: __typename }").encode_rows(MessageRows.of_rows([GOOD] * 2, EPOCH))) == [
        b'{"t":"MessageEdge"},{"t":"MessageEdge"}'
    ]
    assert list(WHOLE.encode_rows(MessageRows.of_rows([], EPOCH))) == []


def test_long_contents_are_written_in_more_parts() -> None:
    long = (*GOOD[:3], "x" * CHUNK_BYTES, *GOOD[4:])
    rows = MessageRows.of_rows([GOOD, long, GOOD, GOOD, long], EPOCH)
    assert [len(part) for part in stretches(rows, 256)] == [1, 1, 2, 1]
    assert [len(part) for part in stretches(MessageRows.of_rows([GOOD] * 5, EPOCH), 2)] == [2, 2, 1]
