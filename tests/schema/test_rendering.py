"""Shared executions: bytes equal to what Strawberry's own pipeline answers, keys that tell apart, flat memory."""

import dataclasses
import gc
import logging
import sys
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from graphql.execution import Executor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messages import Message
from schema import contract
from schema.documents import Documents
from schema.errors import format_graphql_errors
from schema.rendering import SharedRender, SharedRenders, build_executor

schema = contract.schema
FIELDS = (
    "id",
    "channelId",
    "sequence",
    "cursor",
    "author",
    "content",
    "lane",
    "provider",
    "tokenCount",
    "timestamp",
    "__typename",
)
GOOD = Message("c", 1, "ann", 'a "b"\n\u2028🦝', None, "p", 5, datetime(2026, 1, 2, 3, 4, 5, 678, UTC), "epoch")
BROKEN = (
    dataclasses.replace(GOOD, author=None),
    dataclasses.replace(GOOD, token_count="many"),
    dataclasses.replace(GOOD, sequence=2**40, lane="x"),
    dataclasses.replace(GOOD, timestamp="yesterday", content=None),
)

EVENTS = (GOOD, *BROKEN)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Broken events are logged, thousands of times here."""
    logger = logging.getLogger("schema.errors")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@st.composite
def selections(draw: st.DrawFn, depth: int = 0) -> str:
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        directive = draw(st.sampled_from(["", "", " @include(if: $yes)", " @skip(if: $no)", " @skip(if: $yes)"]))
        kind = draw(st.sampled_from(["field", "field", "alias", "inline", "spread"])) if depth < 2 else "field"
        if kind == "field":
            parts.append(draw(st.sampled_from(FIELDS)) + directive)
        elif kind == "alias":
            # An alias of its own for each field: one name for two fields is invalid.
            field = draw(st.sampled_from(FIELDS))
            parts.append(f"my_{field.strip('_')}: {field}{directive}")
        elif kind == "inline":
            condition = draw(st.sampled_from(["... on Message", "..."]))
            parts.append(f"{condition}{directive} {{ {draw(selections(depth=depth + 1))} }}")
        else:
            parts.append(f"...{draw(st.sampled_from(['one', 'two']))}{directive}")
    return " ".join(parts)


@st.composite
def subscriptions(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    root = draw(st.sampled_from(["messages", "mine: messages", "messages"]))
    text = f"""
        subscription S($yes: Boolean!, $no: Boolean = false, $a: Cursor) {{
          {root}(channelId: "c", after: $a) {{
            {draw(selections())} ...one ...two @include(if: $yes) a: author @skip(if: $no)
          }}
        }}
        fragment one on Message {{ {draw(selections(depth=2))} ...two }}
        fragment two on Message {{ {draw(selections(depth=2))} }}
    """
    return text, {"yes": draw(st.booleans()), **draw(st.sampled_from([{}, {"no": True}, {"no": False}]))}


async def by_strawberry(text: str, variables: dict[str, Any]) -> list[dict[str, Any]]:
    """What `schema.subscribe` answers, from its resolver on, for a source that sends `EVENTS`."""

    async def source(*_args: Any) -> AsyncGenerator[Message, None]:
        for message in EVENTS:
            yield message

    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contract, "message_source", source)
        async for result in await contract.schema.subscribe(text, variables):
            formatted: dict[str, Any] = {"data": result.data}
            if result.errors:
                formatted["errors"] = format_graphql_errors(result.errors)
            results.append(formatted)
    return results


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(subscriptions())
async def test_shared_result_is_what_strawberry_answers(generated: tuple[str, dict[str, Any]]) -> None:
    text, variables = generated
    prepared = Documents(schema._schema).prepare(text, None)
    render = SharedRender(schema._schema, prepared, variables)
    payloads = [render(message) for message in EVENTS]
    assert [orjson.loads(payload) for payload in payloads] == await by_strawberry(text, variables)  # type: ignore[arg-type]


async def test_broken_field_is_masked_and_told_with_its_path() -> None:
    prepared = Documents(schema._schema).prepare("subscription { messages(channelId: 1) { tokenCount author } }", None)
    render = SharedRender(schema._schema, prepared, None)
    nullable = orjson.loads(render(BROKEN[1]))  # type: ignore[arg-type]
    assert nullable["data"] == {"messages": {"tokenCount": None, "author": "ann"}}
    assert nullable["errors"] == [
        {
            "message": "Internal server error.",
            "locations": [{"line": 1, "column": 41}],
            "path": ["messages", "tokenCount"],
            "extensions": {"code": "INTERNAL_SERVER_ERROR"},
        }
    ]
    required = orjson.loads(render(BROKEN[0]))  # type: ignore[arg-type]
    assert required["data"] is None
    assert required["errors"][0]["path"] == ["messages", "author"]


DOCUMENT = """
subscription S($c: ID!, $a: Cursor, $f: MessageFilter, $w: Boolean! = true) {
  messages(channelId: $c, after: $a, filter: $f) { id lane @include(if: $w) }
}
"""


def find(renders: SharedRenders, documents: Documents, text: str, **variables: Any) -> SharedRender:
    prepared = documents.prepare(text, None)
    executor = build_executor(schema._schema, prepared, variables)
    assert isinstance(executor, Executor)
    return renders.find(prepared, executor.variable_values, variables)


def test_operations_that_differ_in_position_and_filter_only_share_their_results() -> None:
    renders, documents = SharedRenders(schema._schema), Documents(schema._schema)
    first = find(renders, documents, DOCUMENT, c="x", a="one")
    assert find(renders, documents, DOCUMENT, c="x", a="two", f={"authors": ["b", "a"]}) is first
    assert find(renders, documents, DOCUMENT, c="y", w=True) is first, "a default that is sent is no difference"
    assert find(renders, documents, DOCUMENT, c="x", w=False) is not first
    assert find(renders, documents, DOCUMENT + " ", c="x") is not first


def test_render_goes_with_its_last_user() -> None:
    renders, documents = SharedRenders(schema._schema), Documents(schema._schema)
    used = find(renders, documents, DOCUMENT, c="x")
    assert len(renders) == 1
    del used
    gc.collect()
    assert len(renders) == 0


@pytest.mark.parametrize(("message", "events"), [(GOOD, 100_000), (BROKEN[0], 2_000)])
def test_memory_is_flat_over_many_events(message: Message, events: int) -> None:
    prepared = Documents(schema._schema).prepare(DOCUMENT, None)
    render = SharedRender(schema._schema, prepared, {"c": "x"})
    for _ in range(1000):
        render(message)
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(events):
        render(message)
    gc.collect()
    # What graphql-core would keep is 25 blocks and more for each event.
    assert sys.getallocatedblocks() - before < 20_000


def test_memory_is_flat_over_many_events_by_the_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schema.rendering.message_selection", lambda *_: None)
    test_memory_is_flat_over_many_events(GOOD, 10_000)
