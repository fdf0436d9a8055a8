"""Preparing documents: the cache, the limits, which operation is meant, what its variables feed."""

import asyncio
import contextlib
import json
import time
from itertools import pairwise

import pytest
from graphql import get_introspection_query

from errors import BadUserInput, DocumentInvalid, DocumentUnparsable
from resolvers.fair_queue import Client
from schema.contract import schema
from schema.documents import Documents
from schema.operations import Operations
from schema.proportions import DocumentLimits
from tests.standstill import STANDSTILL_SECONDS_MAX, slowness


@pytest.fixture
def documents() -> Documents:
    return Documents(schema._schema)


def test_text_seen_before_is_neither_parsed_nor_validated_again(documents: Documents) -> None:
    first = documents.prepare("{ channels { pageInfo { endCursor } } }", None)
    again = documents.prepare("".join(["{ channels ", "{ pageInfo { endCursor } } }"]), None)
    assert again is first


def test_cache_is_bounded_by_the_length_of_its_texts() -> None:
    documents = Documents(schema._schema, cached_characters=1000)
    for number in range(200):
        documents.prepare(f"query Q{number} {{ __typename }}", None)
    assert 10 < len(documents) < 50
    documents.prepare("{ __typename }" + " " * 2000, None)


def test_refused_document_is_not_kept(documents: Documents) -> None:
    for text in ("{", "{ nothing }"):
        with pytest.raises((DocumentUnparsable, DocumentInvalid)):
            documents.prepare(text, None)
    assert len(documents) == 0


@pytest.mark.parametrize("text", ["{", "{" * 5000, "query", "\ud800", "{ a } }", "\x00"])
def test_text_that_is_not_graphql_is_unparsable(documents: Documents, text: str) -> None:
    with pytest.raises(DocumentUnparsable) as refusal:
        documents.prepare(text, None)
    assert [error["extensions"] for error in refusal.value.errors] == [{"code": "GRAPHQL_PARSE_FAILED"}]
    assert refusal.value.errors[0]["locations"]


@pytest.mark.parametrize(
    "text",
    [
        "{ nothing }",
        "{ channel { id } }",
        "mutation { postMessage(channelId: 1, author: 2, content: 3) { id } }",
        "subscription { a: messages(channelId: 1) { id } b: messages(channelId: 1) { id } }",
        "subscription { __typename }",
        "subscription ($x: Boolean!) { messages(channelId: 1) @skip(if: $x) { id } }",
        "{ channel(id: 1) { ...f } } fragment f on Channel { ...f }",
        "fragment f on Channel { id }",
        "query ($a: String) { channel(id: 1) { messages(after: $a) { edges { cursor } } } }",
    ],
)
def test_document_that_does_not_fit_the_schema_is_invalid(documents: Documents, text: str) -> None:
    with pytest.raises(DocumentInvalid) as refusal:
        documents.prepare(text, None)
    assert {error["extensions"]["code"] for error in refusal.value.errors} == {"GRAPHQL_VALIDATION_FAILED"}


@pytest.mark.parametrize(
    ("limits", "at", "past", "problem"),
    [
        (DocumentLimits(characters=20), "{ __typename }".ljust(20), "{ __typename }".ljust(21), "20 characters"),
        (
            DocumentLimits(tokens=20),
            '{ message(id: "## #") { id } }' + "\n#" * 20,
            "{ __typename }" + "\n#" * 21,
            "20 comments",
        ),
        (DocumentLimits(tokens=20), "{ " + "a: __typename " * 6 + "}", "{ " + "a: __typename " * 7 + "}", "20 tokens"),
        (
            DocumentLimits(aliases=2),
            "{ a: __typename b: __typename }",
            "{ a: __typename b: __typename c: __typename }",
            "2 aliases",
        ),
        (DocumentLimits(repeats=3), "{ " + "__typename " * 3 + "}", "{ " + "__typename " * 4 + "}", "3 times"),
        (
            DocumentLimits(depth=3),
            "{ channels { edges { cursor } } }",
            "{ channels { edges { node { id } } } }",
            "3 fields deep",
        ),
        (
            DocumentLimits(depth=3),
            "{ channels { ...a } } fragment a on ChannelConnection { ... { edges { ...b } } } "
            "fragment b on ChannelEdge { cursor }",
            "{ channels { ...a } } fragment b on ChannelEdge { node { id } } "
            "fragment a on ChannelConnection { edges { ...b } }",
            "3 fields deep",
        ),
    ],
    ids=["characters", "comments", "tokens", "aliases", "repeats", "depth", "depth through fragments"],
)
def test_document_at_a_limit_is_prepared_and_one_past_it_refused(
    limits: DocumentLimits, at: str, past: str, problem: str
) -> None:
    documents = Documents(schema._schema, limits=limits)
    documents.prepare(at, None)
    with pytest.raises((DocumentInvalid, DocumentUnparsable), match=problem) as refusal:
        documents.prepare(past, None)
    assert refusal.value.errors[0]["extensions"]["code"] in ("GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED")


@pytest.mark.parametrize(
    "text",
    [
        'mutation { postMessage(channelId: "c", author: "a", content: "%s") { id } }' % ("x" * 65_536),
        'mutation { postMessage(channelId: "c", author: "a", content: "%s") { id } }' % ("# one\\n" * 9_000),
        'mutation { postMessage(channelId: "c", author: "a", content: """%s""") { id } }' % ('# one\n\\"""\n' * 6_000),
    ],
)
def test_message_of_the_greatest_length_may_be_written_into_its_document(documents: Documents, text: str) -> None:
    documents.prepare(text, None)


@pytest.mark.parametrize(
    "text",
    [
        "#" + "x" * 2**20 + "\n{ __typename }",
        "#\n" * 2**19 + "{ __typename }",
        "{ __typename }" + " " * 2**20,
        '{ message(id: "' + "x" * 2**20 + '") { id } }',
        "#\n" * 65_000 + "{ __typename }",
        '{ message(id: "' + "\\u00e9" * 21_000 + '") { id } }',
        '{ message(id: """' + "x\n" * 65_000 + '""") { id } }',
        '{ message(id: "' + '\\"#' * 40_000 + '") { id } }',
        "#" * 131_000,
    ],
    ids=["long", "comments", "padding", "string", "short comments", "escapes", "lines", "quotes", "signs"],
)
@pytest.mark.alone
def test_no_text_keeps_the_loop_for_longer_than_a_standstill(documents: Documents, text: str) -> None:
    took = []
    for _ in range(3):
        began = time.thread_time()
        with contextlib.suppress(DocumentUnparsable, DocumentInvalid):
            documents.prepare(text, None)
        took.append((time.thread_time() - began) / slowness())
    assert min(took) < STANDSTILL_SECONDS_MAX


def test_padded_document_leaves_those_of_others_in_the_cache(documents: Documents) -> None:
    known = [f"query Q{number} {{ __typename }}" for number in range(100)]
    for text in known:
        documents.prepare(text, None, "others")
    for number in range(50):
        documents.prepare(f"query P{number} {{ __typename }}" + " " * 130_000, None, "one")
        documents.prepare(f"query R{number} {{ __typename }}" + " " * 32_000, None, "one")
    assert all(text in documents for text in known)


def test_long_name_is_not_repeated_in_twenty_errors(documents: Documents) -> None:
    name = "N" * 100_000
    text = f"query {name} {{ channel(id: 1) {{ {' '.join(f'x{number}' for number in range(30))} }} }}"
    for wrong in (
        text,
        f"query {name}({', '.join(f'$v{n}: Int' for n in range(20))}) {{ __typename }}",
        f"{{ {name} }}",
    ):
        with pytest.raises(DocumentInvalid) as refusal:
            documents.prepare(wrong, None)
        assert len(json.dumps(refusal.value.errors)) < 20 * 1_500


def test_default_limits_leave_room_for_the_tools_that_introspect(documents: Documents) -> None:
    query = get_introspection_query(specified_by_url=True, directive_is_repeatable=True, input_value_deprecation=True)
    documents.prepare(query, None)


@pytest.mark.parametrize(
    "text",
    [
        "{ " + "__typename " * 998 + "}",
        "{ " + " ".join('channel(id: "x") { ' + "id " * 16 + "}" for _ in range(20)) + " }",
        '{ channel(id: "x") { '
        + " ".join(f"...f{n}" for n in range(45))
        + " } }"
        + " ".join(f"fragment f{n} on Channel {{ id }}" for n in range(45)),
        "subscription { messages(channelId: 1) { "
        + " ".join(["id channelId author content lane provider"] * 80)
        + " } }",
    ],
)
@pytest.mark.alone
def test_no_document_within_the_tokens_takes_long(documents: Documents, text: str) -> None:
    took = []
    for _ in range(3):
        started = time.thread_time()
        with contextlib.suppress(DocumentInvalid):
            documents.prepare(text, None)
        took.append(time.thread_time() - started)
    assert min(took) < 0.08, "it takes 0.02 s at most on the machine that this was written on"


async def test_unknown_documents_are_read_one_after_the_other_with_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    operations = Operations()
    loop = asyncio.get_running_loop()
    began: list[float] = []
    prepare = operations._documents.prepare

    def slow(text: str, operation_name: str | None, who: object) -> object:
        began.append(loop.time())
        time.sleep(0.01)
        return prepare(text, operation_name, who)

    monkeypatch.setattr(operations._documents, "prepare", slow)
    texts = [f"query Q{number} {{ __typename }}" for number in range(4)]
    prepared = await asyncio.gather(*(operations.prepare_in_turn(text, None) for text in texts))
    assert [each.text for each in prepared] == texts, "in the order of asking"
    assert all(later - earlier > 0.035 for earlier, later in pairwise(began)), "three times what the last one took"
    # What is known by now waits for nobody, though the last turn has hardly ended.
    for text in texts:
        coroutine = operations.prepare_in_turn(text, None)
        with pytest.raises(StopIteration):
            coroutine.send(None)


async def test_client_with_many_unknown_documents_is_waited_for_by_itself_alone() -> None:
    operations = Operations()
    flood = [
        asyncio.ensure_future(
            operations.prepare_in_turn(f"query Q{number} {{ __typename }}", None, client=Client("one", number))
        )
        for number in range(200)
    ]
    await asyncio.sleep(0)
    await operations.prepare_in_turn("query A { __typename }", None, client=Client("other"))
    assert sum(task.done() for task in flood) < 5
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)


async def test_unknown_document_that_is_refused_or_given_up_ends_its_turn() -> None:
    operations = Operations()
    with pytest.raises(DocumentInvalid):
        await operations.prepare_in_turn("{ nothing }", None)
    waiting = asyncio.ensure_future(operations.prepare_in_turn("query A { __typename }", None))
    await asyncio.sleep(0)
    waiting.cancel()
    async with asyncio.timeout(10):
        assert (await operations.prepare_in_turn("query B { __typename }", None)).operation.name.value == "B"


@pytest.mark.alone
def test_fragments_that_double_each_other_take_no_time(documents: Documents) -> None:
    spreads = " ".join(f"fragment f{n} on Channel {{ ...f{n + 1} ...f{n + 1} }}" for n in range(30))
    started = time.perf_counter()
    documents.prepare(f'{{ channel(id: "c") {{ ...f0 }} }} {spreads} fragment f30 on Channel {{ id }}', None)
    assert time.perf_counter() - started < 2


def test_operation_is_chosen_by_name_when_there_are_several(documents: Documents) -> None:
    text = "query A { __typename } mutation B { __typename } subscription C { messages(channelId: 1) { id } }"
    assert [documents.prepare(text, name).kind for name in "ABC"] == ["query", "mutation", "subscription"]
    for name in (None, "D", ""):
        with pytest.raises(DocumentInvalid):
            documents.prepare(text, name)
    with pytest.raises(DocumentInvalid):
        documents.prepare("{ __typename }", "D")


@pytest.mark.parametrize("query", [None, "", 7, {}])
def test_request_without_a_query_is_bad_input(operations: Operations, query: object) -> None:
    with pytest.raises(BadUserInput) as refusal:
        operations.prepare(query, None)  # type: ignore[arg-type]
    assert refusal.value.argument == "query"


def test_variables_that_feed_only_the_root_field_do_not_count_for_its_events(documents: Documents) -> None:
    prepared = documents.prepare(
        """
        subscription ($c: ID!, $a: Cursor, $names: [String!], $w: Boolean!, $x: Boolean = true) {
          ...root
        }
        fragment root on Subscription {
          messages(channelId: $c, after: $a, filter: { authors: $names }) { id ...rest lane @skip(if: $x) }
        }
        fragment rest on Message { author @include(if: $w) }
        """,
        None,
    )
    assert prepared.event_variables == ("w", "x")
    assert prepared.arguments["c"] == "channelId"
    assert prepared.arguments["names"] == "filter"


def test_variable_used_above_and_below_the_root_field_counts(documents: Documents) -> None:
    prepared = documents.prepare(
        "query Q($x: Boolean!) { a: __typename @skip(if: $x) } "
        "subscription S($x: Boolean!) { messages(channelId: 1) { id @skip(if: $x) } }",
        "S",
    )
    assert prepared.event_variables == ("x",)
