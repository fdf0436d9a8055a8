"""A post run by the selection walked once says what graphql-core's executor says, to the letter."""

from typing import Any

import pytest

from delivery.hubs import Hubs
from resolvers.chat import Chat
from schema.context import Context
from schema.operations import Operations
from schema.posting import Posting
from tests.fakes import MemoryLog

VARIABLES = {"c": "general", "a": "ann", "t": "Hello!"}
PLAIN = "mutation ($c: ID!, $a: String!, $t: String!) { postMessage(channelId: $c, author: $a, content: $t) "
OPTIONAL = """mutation ($c: ID!, $a: String!, $t: String!, $l: String, $k: String) {
  postMessage(channelId: $c, author: $a, content: $t, lane: $l, idempotencyKey: $k) { lane channelId }
}"""
MUTATIONS: list[tuple[str, dict[str, Any]]] = [
    (PLAIN + "{ id channelId sequence cursor author content lane provider tokenCount timestamp } }", VARIABLES),
    (PLAIN + "{ again: id id kind: __typename } }", VARIABLES),
    (PLAIN + "{ ...f ... on Message { lane } } } fragment f on Message { sequence }", VARIABLES),
    (PLAIN + "{ id @skip(if: true) content @include(if: true) } }", VARIABLES),
    ('mutation { mine: postMessage(channelId: "general", author: "ann", content: "x", lane: null) { lane } }', {}),
    ('mutation { a: postMessage(channelId: "g", author: "a", content: "x", tokenCount: 7) { tokenCount } }', {}),
    # String variables that are null, left out, given by a default or coerced; a variable more than is declared.
    (OPTIONAL, VARIABLES | {"l": "code", "k": "once"}),
    (OPTIONAL, VARIABLES | {"l": None}),
    (OPTIONAL, VARIABLES),
    (OPTIONAL.replace("$l: String", '$l: String = "mail"'), VARIABLES),
    (OPTIONAL, VARIABLES | {"l": 7}),
    (PLAIN + "{ channelId } }", VARIABLES | {"c": 7, "more": [1]}),
    (PLAIN + "{ id } }", VARIABLES | {"a": None}),
    (
        PLAIN.replace("$t: String!", "$t: String!, $n: Int").replace("$t)", "$t, tokenCount: $n)") + "{ tokenCount } }",
        VARIABLES | {"n": 7},
    ),
    # Refused by the input rules, with a path.
    (PLAIN + "{ id } }", VARIABLES | {"t": ""}),
    (PLAIN + "{ id } }", VARIABLES | {"c": "two words"}),
    # Left to the executor: wrong variables, selections that depend on variables, more than one field.
    (PLAIN + "{ id } }", VARIABLES | {"t": 7}),
    (PLAIN + "{ id } }", {"c": "general"}),
    (PLAIN.replace("$t: String!", "$t: String!, $w: Boolean!") + "{ id @include(if: $w) } }", VARIABLES | {"w": False}),
    (
        'mutation ($n: Int) { postMessage(channelId: "g", author: "a", content: "x", tokenCount: $n) { id } }',
        {"n": 1e9},
    ),
    (
        'mutation ($n: Int) { postMessage(channelId: "g", author: "a", content: "x", tokenCount: $n) { id } }',
        {"n": 1e10},
    ),
    (
        'mutation { a: postMessage(channelId: "g", author: "a", content: "x") { id }'
        ' b: postMessage(channelId: "g", author: "a", content: "y") { id } }',
        {},
    ),
    ("mutation { __typename }", {}),
]


async def result(mutation: str, variables: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, int]]:
    log = MemoryLog(epoch="epoch")
    chat = Chat(log, Hubs(log))
    operations = Operations()
    given = await operations.execute(operations.prepare(mutation, None), variables, Context(chat))
    return given, log.appends, dict(chat.refusals)


@pytest.mark.parametrize(("mutation", "variables"), MUTATIONS)
async def test_posting_result_is_the_executors(
    mutation: str, variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = await result(mutation, variables)

    async def leave_it_to_the_executor(*_: object) -> None:
        return None

    monkeypatch.setattr(Posting, "run", leave_it_to_the_executor)
    assert planned == await result(mutation, variables)


@pytest.mark.parametrize("mutation", [MUTATIONS[0][0], OPTIONAL])
async def test_posting_plain_mutation_does_not_reach_graphql_core(
    mutation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schema.operations.execute", None)
    monkeypatch.setattr("schema.posting.get_variable_values", None)
    answered, appends, _ = await result(mutation, VARIABLES)
    assert answered["data"]["postMessage"]["channelId"] == "general"
    assert appends == 1


async def test_posting_unforeseen_failure_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(MemoryLog, "append", broken)
    answered, _, refusals = await result(*MUTATIONS[0])
    [error] = answered["errors"]
    assert answered["data"] is None
    assert error["extensions"] == {"code": "INTERNAL_SERVER_ERROR"}
    assert error["path"] == ["postMessage"]
    assert "secret" not in str(answered)
    assert refusals == {"INTERNAL_SERVER_ERROR": 1}
