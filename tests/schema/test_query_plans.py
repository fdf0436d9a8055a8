"""Queries by their plans answer what graphql-core answers, whatever is selected: data, errors, the order of names."""

import asyncio
import itertools
import json
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from graphql import ExecutionResult, execute, get_introspection_query
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from errors import RaqcoonError
from messages import ANYONE, Viewer
from patterns import ChannelPatterns
from resolvers.change_message import append_to_message, edit_message, erase_message
from resolvers.chat import Chat
from resolvers.post_message import post_message
from schema.context import Context
from schema.contract import schema
from schema.documents import Prepared
from schema.operations import Operations, _formatted
from schema.reading import EXPENSIVE_SECONDS
from tests.fakes import MemoryLog, fill, memory_chat
from tests.standstill import STANDSTILL_SECONDS_MAX, slowness, watching

MESSAGE = ["id", "channelId", "sequence", "cursor", "author", "content", "lane", "provider", "tokenCount", "timestamp"]
MESSAGE += ["revision", "complete", "editedAt", "erasedAt"]
PAGE_INFO = ["hasNextPage", "hasPreviousPage", "startCursor", "endCursor", "__typename"]


async def by_graphql_core(prepared: Prepared, variables: dict[str, Any] | None, context: Context) -> dict[str, Any]:
    done = execute(
        schema._schema,
        prepared.document,
        context_value=context,
        variable_values=variables,
        operation_name=prepared.operation_name,
    )
    result: ExecutionResult = done if isinstance(done, ExecutionResult) else await done
    return json.loads(orjson.dumps(_formatted(result.data, result.errors, prepared, context)))  # type: ignore[no-any-return]


def selection(names: list[str]) -> st.SearchStrategy[str]:
    """Some of the names, in any order, some twice, some under aliases, some by fragments or left out by a directive."""

    def written(parts: list[tuple[str, int]]) -> str:
        text = []
        for place, (name, how) in enumerate(parts):
            text.append(
                {
                    0: name,
                    1: f"a{place}: {name}",
                    2: f"... {{ {name} }}",
                    3: f"{name} @include(if: $yes)",
                    4: f"{name} @skip(if: $yes)",
                    5: f"x{place % 2}{name.strip('_')}: {name}",
                }[how]
            )
        return "{ " + " ".join(["__typename", *text] if len(parts) % 2 else text) + " }"

    return st.lists(st.tuples(st.sampled_from(names), st.integers(0, 5)), min_size=1, max_size=6).map(written)


ARGUMENTS = [
    "",
    "(first: 3)",
    "(last: 2)",
    "(first: $n)",
    "(last: $n)",
    "(first: 0)",
    "(last: 0)",
    "(first: 1, after: $after)",
    "(last: 3, before: $after)",
    "(after: $after)",
    "(after: $after, before: $after)",
    "(first: 2, last: 2)",
    "(first: 201)",
    "(first: -1)",
    '(after: "junk")',
    '(first: 5, filter: { authors: ["ann"] })',
    "(last: 5, filter: { authors: $names, lanes: null })",
    "(filter: { authors: [] })",
]


@st.composite
def connections(draw: st.DrawFn) -> str:
    parts = []
    for number in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(["edges", f"e{number}: edges"]))
        node = draw(selection(MESSAGE))
        inner = draw(st.sampled_from([f"cursor node {node}", f"node {node}", "cursor", f"n: node {node} c: cursor"]))
        parts.append(f"{name} {{ {inner} }}")
    if draw(st.booleans()):
        parts.insert(draw(st.integers(0, len(parts))), f"pageInfo {draw(selection(PAGE_INFO))}")
    return "{ " + " ".join(parts) + " }"


@st.composite
def channels(draw: st.DrawFn) -> str:
    parts = list(draw(st.lists(st.sampled_from(["id", "lastSequence", "headCursor", "__typename"]), max_size=4)))
    for number in range(draw(st.integers(0, 2))):
        page = f"p{number}: messages{draw(st.sampled_from(ARGUMENTS))} {draw(connections())}"
        parts.insert(draw(st.integers(0, len(parts))), page)
    return "{ " + " ".join(parts or ["id"]) + " }"


@st.composite
def queries(draw: st.DrawFn) -> str:
    roots = []
    for number in range(draw(st.integers(1, 3))):
        kind = draw(st.integers(0, 4))
        if kind <= 1:
            id_ = draw(st.sampled_from(['"c"', "$id", '"nobody"', "7", '"100%d\\"c"']))
            roots.append(f"r{number}: channel(id: {id_}) {draw(channels())}")
        elif kind == 2:
            id_ = draw(st.sampled_from(['"c:3"', '"c:99"', '"junk"', '"b:1"']))
            roots.append(f"r{number}: message(id: {id_}) {draw(selection(MESSAGE))}")
        elif kind == 3:
            arguments = draw(st.sampled_from(["", "(first: 1)", '(after: "b")', "(first: $n)", "(first: 0)"]))
            edges = f"edges {{ cursor node {draw(channels())} }}"
            roots.append(f"r{number}: channels{arguments} {{ {edges} pageInfo {draw(selection(PAGE_INFO))} }}")
        else:
            roots.append("__typename")
    uses = "$id: ID!, $n: Int, $after: Cursor, $names: [String!], $yes: Boolean!"
    # Every variable has to be used somewhere.
    unused = (
        "... @skip(if: true) { u: channel(id: $id) { messages(first: $n, after: $after, filter: { authors: $names }) "
        "{ pageInfo { endCursor } } } v: __typename @include(if: $yes) }"
    )
    return f"query ({uses}) {{ {' '.join(roots)} {unused} }}"


def test_generated_queries_are_answered_as_graphql_core_answers_them() -> None:
    operations = Operations()
    planned = 0

    async def compare(text: str, variables: dict[str, Any], viewer: Viewer) -> None:
        nonlocal planned
        async with memory_chat() as chat:
            await fill(chat, "c", 4, lane="l", token_count=5)
            await fill(chat, "c", 3, author="bob", provider='quo"te\u2028 \x01')
            await fill(chat, "b", 1)
            await fill(chat, '100%d"c', 3, lane="%b")
            await edit_message(chat, ANYONE, message_id="c:2", content="edited, 100 %")
            await erase_message(chat, ANYONE, message_id="c:4")
            await post_message(chat, ANYONE, channel_id="c", author="ann", content="it gr", complete=False)
            await append_to_message(chat, ANYONE, message_id="c:8", revision=0, piece="ows")
            if variables["after"] == "a cursor":
                message = await chat.log.message("c", 3)
                assert message is not None
                variables = {**variables, "after": message.cursor}
            try:
                prepared = operations.prepare(text, None)
            except RaqcoonError:
                return  # Two selections of one name do not agree.
            context = Context(chat, viewer)
            read = await operations._reading.run(prepared, variables, context)
            expected = await by_graphql_core(prepared, variables, Context(chat, viewer))
            if read is None:
                assert set(expected) == {"errors"}, "only what is no request at all has no plan"
                return
            planned += 1
            given = json.loads(orjson.dumps(_formatted(*read, prepared, context)))
            assert json.dumps(given.get("data")) == json.dumps(expected.get("data"))
            if "r1" not in text:
                # Where several fields fail, graphql-core tells which did so first, and here it is the first written.
                assert expected.get("errors", [])[:1] == given.get("errors", [])[:1]
            assert bool(expected.get("errors")) == bool(given.get("errors"))
            assert chat.untaken_answers.bytes >= 0
            context.release()

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        queries(),
        st.fixed_dictionaries(
            {
                "id": st.sampled_from(["c", "b", "no such", "a b", 7]),
                "n": st.sampled_from([None, 0, 1, 5, 200, 201, 2**40]),
                "after": st.sampled_from([None, "a cursor", "junk"]),
                "names": st.sampled_from([None, [], ["bob"], "bob", [7]]),
                "yes": st.sampled_from([True, False, None]),
            }
        ),
        st.sampled_from([Viewer(), Viewer(read=ChannelPatterns(("b",)))]),
    )
    def check(text: str, variables: dict[str, Any], viewer: Viewer) -> None:
        runner.run(compare(text, variables, viewer))

    with asyncio.Runner() as runner:
        check()
    assert planned > 10


async def test_introspection_is_remembered_and_answered_beside_other_fields(chat: Chat) -> None:
    operations = Operations()
    await fill(chat, "c", 2)
    text = """{ a: __typename s: __schema { queryType { name } } channel(id: "c") { lastSequence }
      __type(name: "Message") { name } }"""
    for query in (text, get_introspection_query(specified_by_url=True, input_value_deprecation=True)):
        prepared = operations.prepare(query, None)
        expected = await by_graphql_core(prepared, None, Context(chat))
        for _ in range(2):
            assert json.dumps(await operations.execute(prepared, None, Context(chat))) == json.dumps(expected)
        # Known by now: it is not executed again.
        assert prepared.digest in operations._reading._introspected


def listed(number: int, text: str) -> str:
    """The text so many times, with the numbers 0, 1, 2 … in place of `#`."""
    return " ".join(text.replace("#", str(each)) for each in range(number))


NODE = "{ edges { cursor node { id content author } } }"
EXPENSIVE = {
    "introspection": f"{{ {listed(30, 'a#: __schema { types { ...F } }')} }} fragment F on __Type {{ name kind "
    "fields(includeDeprecated: true) { name args { name type { name ofType { name } } } "
    "type { name kind ofType { name ofType { name } } } } }",
    "heads": f"{{ {listed(15, 'a#: channels(first: 200) { edges { node { ...F } } }')} }} "
    f"fragment F on Channel {{ {listed(14, 'b#: headCursor')} }}",
    "filters": "{ channels(first: 200) { edges { node { "
    + listed(30, 'a#: messages(first: 1, filter: { authors: ["nobody"] }) { edges { cursor } }')
    + " } } } }",
    "pages": f"{{ channels(first: 200) {{ edges {{ node {{ messages(last: 50) {NODE} }} }} }} }}",
    "channels": "{ " + listed(30, 'a#: channel(id: "c0") { messages(last: 200) { edges { cursor } } }') + " }",
}


@pytest.mark.parametrize("text", EXPENSIVE.values(), ids=EXPENSIVE)
@pytest.mark.alone
async def test_no_query_keeps_the_loop_for_longer_than_a_standstill(chat: Chat, text: str) -> None:
    operations = Operations()
    for number in range(200):
        await fill(chat, f"c{number}", 60)
    prepared = operations.prepare(text, None)
    longest = []
    for _ in range(2):
        async with watching() as watch:
            await operations.run(prepared, None, Context(chat))
        longest.append(watch.longest_seconds / slowness())
    assert min(longest) < STANDSTILL_SECONDS_MAX


async def test_document_that_took_long_takes_turns_from_then_on(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    operations = Operations()
    await fill(chat, "c", 1)
    step_seconds = 0.0
    now = itertools.count()

    def clock() -> float:
        return next(now) * step_seconds

    monkeypatch.setattr("schema.pace.time", SimpleNamespace(perf_counter=clock, thread_time=clock))
    turns = operations._reading._turns
    take, taken = turns.turn, []
    monkeypatch.setattr(turns, "turn", lambda client: taken.append(client) or take(client))
    page = '{ channel(id: "c") { messages(last: 1) { edges { cursor } } } }'
    cheap, costly = operations.prepare(page, None), operations.prepare(f"query Costly {page}", None)
    for _ in range(2):
        await operations.run(cheap, None, Context(chat))
    step_seconds = 2 * EXPENSIVE_SECONDS
    context = Context(chat, address="192.0.2.1")
    await operations.run(costly, None, context)
    assert not taken
    await operations.run(costly, None, context)
    assert taken == [context.client]
    # One that is cheap after all, and those that always were, wait for nobody.
    step_seconds = 0.0
    await operations.run(costly, None, context)
    await operations.run(costly, None, context)
    await operations.run(cheap, None, context)
    assert len(taken) == 2


async def test_pages_that_find_nothing_are_counted(chat: Chat) -> None:
    operations = Operations()
    for number in range(200):
        await fill(chat, f"c{number}", 1)
    result = await operations.execute(operations.prepare(EXPENSIVE["filters"], None), None, Context(chat))
    assert result["data"] is None
    assert result["errors"][0]["extensions"] == {"code": "BAD_USER_INPUT", "argument": "first"}
    assert isinstance(chat.log, MemoryLog)
    assert chat.log.pages <= 1_000
    page = "{ channels(first: 200) { edges { node { messages(last: 50) { edges { cursor } } } } } }"
    assert "errors" not in await operations.execute(operations.prepare(page, None), None, Context(chat))


async def test_answer_is_bounded_in_bytes_and_what_it_holds_is_counted_until_it_was_sent(chat: Chat) -> None:
    operations = Operations()
    for _ in range(40):
        await fill(chat, "c", 1)
        await post_message(chat, ANYONE, channel_id="c", author="ann", content="x" * 65_536)
    many = listed(30, "a#: content")
    text = '{ channel(id: "c") { messages(last: 40) { edges { node { contents } } } } }'
    context = Context(chat)
    result = await operations.run(operations.prepare(text.replace("contents", many), None), None, context)
    assert result["data"] is None
    assert result["errors"][0]["extensions"] == {"code": "BAD_USER_INPUT", "argument": "messages"}
    assert chat.untaken_answers.bytes == 0
    result = await operations.run(operations.prepare(text.replace("contents", "content"), None), None, context)
    assert chat.untaken_answers.bytes >= len(orjson.dumps(result)) - 1_000
    context.release()
    assert chat.untaken_answers.bytes == 0


async def test_other_fields_of_the_root_are_executed_by_themselves(chat: Chat) -> None:
    operations = Operations()
    await fill(chat, "c", 2)
    text = """query ($n: Int) {
      revocations(first: $n) { edges { cursor } } r: revocations(first: 500) { edges { cursor } }
      channel(id: "c") { messages(first: $n) { edges { node { sequence } } } } }"""
    for query in (text, text.replace("first: 500", "first: 5")):
        prepared = operations.prepare(query, None)
        read = await operations._reading.run(prepared, {"n": 1}, Context(chat))
        assert read is not None
        given = json.loads(orjson.dumps(_formatted(*read, prepared, Context(chat))))
        assert json.dumps(given) == json.dumps(await by_graphql_core(prepared, {"n": 1}, Context(chat)))
