"""Preparing documents: the cache, the limits, which operation is meant, what its variables feed."""

import time

import pytest

from errors import BadUserInput, DocumentInvalid, DocumentUnparsable
from schema.contract import schema
from schema.documents import ALIASES_MAX, TOKENS_MAX, Documents
from schema.operations import Operations


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


def test_document_at_the_limits_is_prepared_and_beyond_them_refused(documents: Documents) -> None:
    aliases = " ".join(f"a{number}: __typename" for number in range(ALIASES_MAX))
    documents.prepare(f"{{ {aliases} }}", None)
    with pytest.raises(DocumentInvalid, match=f"at most {ALIASES_MAX} aliases"):
        documents.prepare(f"{{ {aliases} b: __typename }}", None)
    documents.prepare(f"{{ {'__typename ' * (TOKENS_MAX - 2)} }}", None)
    with pytest.raises(DocumentUnparsable, match=f"more than {TOKENS_MAX} tokens"):
        documents.prepare(f"{{ {'__typename ' * (TOKENS_MAX - 1)} }}", None)


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
