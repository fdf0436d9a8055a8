"""Running operations: results, error codes, subscriptions, Strawberry's pipelines beside ours."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from strawberry.extensions import SchemaExtension

from delivery.sink import Batch, Sink
from errors import BadUserInput, CursorInvalid, Forbidden, RaqcoonError, Unavailable
from messages import Viewer, encode_cursor
from resolvers import history
from resolvers.chat import Chat
from schema.context import Context
from schema.contract import build_schema, schema
from schema.operations import Operations
from tests.fakes import MemoryLog, fill, viewer_of_patterns

POST = """
mutation Post($channel: ID!, $author: String!, $content: String!, $lane: String, $tokens: Int, $key: String) {
  postMessage(channelId: $channel, author: $author, content: $content, lane: $lane, tokenCount: $tokens,
              idempotencyKey: $key) { id sequence cursor author content lane provider tokenCount timestamp }
}
"""
GOOD = {"channel": "c", "author": "ann", "content": "hello"}


async def run(operations: Operations, context: Context, text: str, **variables: Any) -> dict[str, Any]:
    return await operations.execute(operations.prepare(text, None), variables, context)


def only_error(result: dict[str, Any]) -> dict[str, Any]:
    (error,) = result["errors"]
    assert isinstance(error, dict)
    return error


async def test_post_message_answers_the_message_as_stored(operations: Operations, context: Context, chat: Chat) -> None:
    result = await run(operations, context, POST, **GOOD, lane="", tokens=0)
    stored = await chat.log.message("c", 1)
    assert stored is not None
    assert result == {
        "data": {
            "postMessage": {
                "id": "c:1",
                "sequence": 1,
                "cursor": stored.cursor,
                "author": "ann",
                "content": "hello",
                "lane": None,
                "provider": None,
                "tokenCount": 0,
                "timestamp": stored.timestamp.isoformat(),
            }
        }
    }


@pytest.mark.parametrize(
    ("wrong", "argument"),
    [
        ({"channel": "a b"}, "channelId"),
        ({"author": ""}, "author"),
        ({"content": "\ud800"}, "content"),
        ({"content": None}, "content"),
        ({"author": 7}, "author"),
        ({"lane": ["x"]}, "lane"),
        ({"tokens": 2**31}, "tokenCount"),
        ({"tokens": -1}, "tokenCount"),
        ({"tokens": 1.5}, "tokenCount"),
        ({"tokens": float("inf")}, "tokenCount"),
        ({"key": ""}, "idempotencyKey"),
    ],
)
async def test_post_message_with_a_wrong_value_names_its_argument(
    operations: Operations, context: Context, chat: Chat, wrong: dict[str, Any], argument: str
) -> None:
    result = await run(operations, context, POST, **{**GOOD, **wrong})
    error = only_error(result)
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": argument}
    assert result.get("data") is None
    assert "None" not in error["message"]
    assert await chat.log.last_sequence("c") == 0


async def test_post_message_errors_carry_their_codes(operations: Operations, context: Context, chat: Chat) -> None:
    await run(operations, context, POST, **GOOD, key="k")
    conflict = only_error(await run(operations, context, POST, **GOOD, key="k", lane="other"))
    assert conflict["extensions"] == {"code": "IDEMPOTENCY_CONFLICT"}
    assert conflict["path"] == ["postMessage"]
    forbidden = only_error(await run(operations, Context(chat, viewer_of_patterns(())), POST, **GOOD))
    assert forbidden["extensions"] == {"code": "FORBIDDEN"}
    assert isinstance(chat.log, MemoryLog)
    chat.log.failing = True
    unavailable = only_error(await run(operations, context, POST, **GOOD))
    assert unavailable["extensions"] == {"code": "UNAVAILABLE", "retryAfterMs": 1000}


async def test_failure_nobody_foresaw_is_masked_and_logged(
    operations: Operations, context: Context, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_args: Any, **_kwargs: Any) -> None:
        raise KeyError("/secret/path")

    monkeypatch.setattr(history, "last_sequence", fail)
    result = await run(operations, context, '{ channel(id: "c") { id } }')
    assert only_error(result)["message"] == "Internal server error."
    assert "secret" not in json.dumps(result)
    assert "secret" in caplog.text


async def test_explicit_null_for_a_required_argument_is_bad_input(operations: Operations, context: Context) -> None:
    text = 'query ($id: ID = "c") { channel(id: $id) { id } }'
    assert (await run(operations, context, text))["data"] == {"channel": {"id": "c"}}
    error = only_error(await run(operations, context, text, id=None))
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "id"}


async def test_channel_shows_its_head_and_pages_of_messages(
    operations: Operations, context: Context, chat: Chat
) -> None:
    messages = await fill(chat, "c", 5)
    result = await run(
        operations,
        context,
        """query ($last: Int, $filter: MessageFilter) {
          channel(id: "c") {
            id lastSequence headCursor
            messages(last: $last, filter: $filter) {
              edges { cursor node { sequence } }
              pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
            }
          }
        }""",
        last=2,
        filter={"authors": ["ann"], "lanes": None},
    )
    assert result["data"]["channel"] == {
        "id": "c",
        "lastSequence": 5,
        "headCursor": messages[-1].cursor,
        "messages": {
            "edges": [{"cursor": m.cursor, "node": {"sequence": m.sequence}} for m in messages[3:]],
            "pageInfo": {
                "hasNextPage": False,
                "hasPreviousPage": True,
                "startCursor": messages[3].cursor,
                "endCursor": messages[4].cursor,
            },
        },
    }


async def test_channel_nobody_posted_to_has_a_head_to_subscribe_after(
    operations: Operations, context: Context, chat: Chat
) -> None:
    result = await run(operations, context, '{ channel(id: "new") { lastSequence headCursor } }')
    assert result["data"]["channel"] == {"lastSequence": 0, "headCursor": encode_cursor(chat.log.epoch, "new", 0)}


async def test_channels_are_listed_page_by_page(operations: Operations, context: Context, chat: Chat) -> None:
    for channel in ("b", "a", "c"):
        await fill(chat, channel, 1)
    text = """query ($after: String) {
      channels(first: 2, after: $after) { edges { cursor node { id } } pageInfo { hasNextPage endCursor } }
    }"""
    first = (await run(operations, context, text))["data"]["channels"]
    assert [edge["node"]["id"] for edge in first["edges"]] == ["a", "b"]
    rest = (await run(operations, context, text, after=first["pageInfo"]["endCursor"]))["data"]["channels"]
    assert [edge["cursor"] for edge in rest["edges"]] == ["c"]
    assert rest["pageInfo"] == {"hasNextPage": False, "endCursor": "c"}


async def test_operation_that_asks_for_too_many_messages_is_refused(
    operations: Operations, context: Context, chat: Chat
) -> None:
    for number in range(60):
        await fill(chat, f"c{number}", 1)
    text = "query ($n: Int) { channels(first: 60) { edges { node { messages(last: $n) { edges { cursor } } } } } }"
    assert "errors" not in await run(operations, context, text, n=100)
    error = (await run(operations, Context(chat), text, n=200))["errors"][0]
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "last"}


async def test_message_by_id_is_null_when_it_names_nothing(
    operations: Operations, context: Context, chat: Chat
) -> None:
    await fill(chat, "c", 1)
    result = await run(operations, context, '{ a: message(id: "c:1") { content } b: message(id: "nonsense") { id } }')
    assert result == {"data": {"a": {"content": "1"}, "b": None}}


async def test_request_error_has_no_data_member(operations: Operations, context: Context) -> None:
    result = await run(operations, context, "query ($n: Int!) { channels(first: $n) { edges { cursor } } }", n="x")
    assert set(result) == {"errors"}
    assert only_error(result)["extensions"] == {"code": "BAD_USER_INPUT", "argument": "first"}


class Spy(SchemaExtension):
    """What a tracing extension does: hooks around every step, and around every resolver."""

    steps: list[str]

    def on_operation(self) -> Iterator[None]:
        Spy.steps = ["operation"]
        yield

    def on_execute(self) -> Iterator[None]:
        Spy.steps.append("execute")
        yield

    async def resolve(self, _next: Any, root: Any, info: Any, *args: Any, **kwargs: Any) -> Any:
        Spy.steps.append(info.field_name)
        result = _next(root, info, *args, **kwargs)
        return await result if asyncio.iscoroutine(result) else result


async def test_strawberry_extensions_see_every_step_and_results_are_the_same(
    operations: Operations, context: Context
) -> None:
    extended = Operations(build_schema([Spy]))
    for variables in (GOOD, {**GOOD, "channel": "a b"}, {**GOOD, "author": 7}):
        expected = await run(operations, context, POST, **variables, key="same")
        assert await run(extended, context, POST, **variables, key="same") == expected
    await run(extended, context, '{ channel(id: "c") { id } }')
    assert Spy.steps == ["operation", "execute", "channel", "id"]


class Collected(Sink):
    """A sink that takes everything."""

    def __init__(self) -> None:
        self.results: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.ended: list[RaqcoonError | None] = []

    def write(self, batch: Batch) -> bool:
        for payload in batch.payloads:
            self.results.put_nowait(json.loads(payload))
        return True

    async def writable(self) -> None: ...

    def end(self, error: RaqcoonError | None) -> None:
        self.ended.append(error)


SUBSCRIBE = """
subscription S($c: ID!, $a: Cursor, $f: MessageFilter) {
  messages(channelId: $c, after: $a, filter: $f) { sequence content }
}
"""


async def test_subscription_is_sent_what_matches_after_its_cursor(
    operations: Operations, context: Context, chat: Chat
) -> None:
    messages = await fill(chat, "c", 3)
    sink = Collected()
    variables = {"c": "c", "a": messages[0].cursor, "f": {"authors": ["ann"]}}
    subscriber = await operations.subscribe(operations.prepare(SUBSCRIBE, "S"), variables, context, sink)
    await fill(chat, "c", 1, author="bob")
    await fill(chat, "c", 1)
    sequences = [(await sink.results.get())["data"]["messages"]["sequence"] for _ in range(3)]
    subscriber.close()
    assert sequences == [2, 3, 5]


async def test_subscription_may_be_told_to_go_on_elsewhere(
    operations: Operations, context: Context, chat: Chat
) -> None:
    messages = await fill(chat, "c", 3)
    sink = Collected()
    prepared = operations.prepare(SUBSCRIBE, None)
    subscriber = await operations.subscribe(
        prepared, {"c": "c", "a": messages[0].cursor}, context, sink, after=messages[1].cursor
    )
    assert (await sink.results.get())["data"]["messages"]["sequence"] == 3
    subscriber.close()


async def test_subscriptions_that_differ_in_their_cursor_only_are_one_cohort(
    operations: Operations, context: Context, chat: Chat
) -> None:
    messages = await fill(chat, "c", 2)
    prepared = operations.prepare(SUBSCRIBE, None)
    subscribers = [
        await operations.subscribe(prepared, {"c": "c", "a": after, "f": wanted}, context, Collected())
        for after, wanted in (
            (None, {"authors": ["a", "b"]}),
            (messages[0].cursor, {"authors": ["b", "a", "a"]}),
            (messages[1].cursor, {"authors": ["b", "a"], "lanes": None}),
        )
    ]
    assert chat.hub.cohorts == 1
    for subscriber in subscribers:
        subscriber.close()


@pytest.mark.parametrize(
    ("variables", "viewer", "error"),
    [
        ({"c": "a b"}, Viewer(), BadUserInput),
        ({"c": "c", "a": "junk"}, Viewer(), CursorInvalid),
        ({"c": "c", "a": 7}, Viewer(), CursorInvalid),
        ({"c": "c", "f": {"authors": ["a"] * 101}}, Viewer(), BadUserInput),
        ({"c": "c", "f": {"authors": "\ud800"}}, Viewer(), BadUserInput),
        ({"c": "c", "f": {"nothing": 1}}, Viewer(), BadUserInput),
        ({"c": None}, Viewer(), BadUserInput),
        ({}, Viewer(), BadUserInput),
        (None, Viewer(), BadUserInput),
        ({"c": "c"}, viewer_of_patterns(()), Forbidden),
    ],
)
async def test_subscription_that_may_not_be_is_refused(
    operations: Operations,
    chat: Chat,
    variables: dict[str, Any] | None,
    viewer: Viewer,
    error: type[RaqcoonError],
) -> None:
    prepared = operations.prepare(SUBSCRIBE, None)
    with pytest.raises(error) as refusal:
        await operations.subscribe(prepared, variables, Context(chat, viewer), Collected())
    assert "None" not in str(refusal.value)
    assert chat.hub.channels == {}


async def stock(context: Context, text: str, variables: dict[str, Any]) -> AsyncIterator[Any]:
    stream = await schema.subscribe(text, variables, context)
    async for result in stream:
        yield result
    await stream.aclose()


async def test_strawberrys_own_subscription_sends_history_then_live_then_ends(context: Context, chat: Chat) -> None:
    messages = await fill(chat, "c", 3)
    stream = stock(context, SUBSCRIBE, {"c": "c", "a": messages[0].cursor})
    seen = [(await anext(stream)).data["messages"]["sequence"] for _ in range(2)]
    await fill(chat, "c", 2)
    seen += [(await anext(stream)).data["messages"]["sequence"] for _ in range(2)]
    assert seen == [2, 3, 4, 5]
    await chat.hub.stop()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_strawberrys_own_subscription_tells_why_it_was_refused(context: Context) -> None:
    (result,) = [result async for result in stock(context, SUBSCRIBE, {"c": "c", "a": "junk"})]
    assert isinstance(result.errors[0].original_error, CursorInvalid)


async def test_unavailable_head_refuses_a_subscription(operations: Operations, context: Context, chat: Chat) -> None:
    assert isinstance(chat.log, MemoryLog)
    chat.log.failing = True
    with pytest.raises(Unavailable):
        await operations.subscribe(operations.prepare(SUBSCRIBE, None), {"c": "c"}, context, Collected())
