"""GraphQL over HTTP beyond the audits: limits, odd bodies, codes and statuses, origins, persisted queries."""

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from errors import Forbidden, Unauthenticated
from messages import ANYONE, Viewer
from resolvers import history
from resolvers.chat import Chat
from tests.fakes import MemoryLog
from tests.transports.http_client import in_process, over_a_socket
from transports.gate.limits import Limits

POST = (
    "mutation ($channel: ID!, $author: String!, $content: String!, $tokens: Int) {"
    " postMessage(channelId: $channel, author: $author, content: $content, tokenCount: $tokens) { id content } }"
)
GOOD = {"channel": "c", "author": "ann", "content": "hello"}
SPEC = {"accept": "application/graphql-response+json"}


@pytest.fixture
async def served() -> AsyncIterator[tuple[Chat, httpx.AsyncClient]]:
    async with in_process() as served:
        yield served


@pytest.fixture
def client(served: tuple[Chat, httpx.AsyncClient]) -> httpx.AsyncClient:
    return served[1]


@pytest.fixture
def chat(served: tuple[Chat, httpx.AsyncClient]) -> Chat:
    return served[0]


def code(response: httpx.Response) -> str:
    (error,) = response.json()["errors"]
    assert isinstance(error["message"], str)
    return str(error["extensions"]["code"])


async def test_post_runs_a_mutation(client: httpx.AsyncClient) -> None:
    response = await client.post("/graphql", json={"query": POST, "variables": {**GOOD, "content": "é\u2028🦝"}})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.json() == {"data": {"postMessage": {"id": "c:1", "content": "é\u2028🦝"}}}


async def test_get_runs_a_query_with_variables(client: httpx.AsyncClient) -> None:
    response = await client.get(
        "/graphql",
        params={
            "query": "query A($id: ID!) { channel(id: $id) { id } } query B { __typename }",
            "variables": '{"id": "ü"}',
            "operationName": "A",
            "extensions": "{}",
        },
    )
    assert response.json() == {"data": {"channel": {"id": "ü"}}}


async def test_get_of_a_mutation_is_refused(client: httpx.AsyncClient, chat: Chat) -> None:
    response = await client.get("/graphql", params={"query": POST, "variables": json.dumps(GOOD)})
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert await chat.log.last_sequence("c") == 0


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD"])
async def test_other_methods_are_refused(client: httpx.AsyncClient, method: str) -> None:
    response = await client.request(method, "/graphql")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, POST, OPTIONS"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"NaN",
        b'{"query": NaN}',
        b"\xff\xfe",
        b'{"query": "\xff"}',
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"variables": {"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}}",
        b'[{"query": "{ __typename }"}]',
        b'{"query": "{ __typename }", "variables": []}',
        b'{"query": "{ __typename }", "extensions": 7}',
        b'{"query": "{ __typename }", "operationName": {}}',
        b'{"query": ""}',
        b"{}",
    ],
)
@pytest.mark.parametrize("accept", ["application/json", SPEC["accept"]])
async def test_body_that_is_no_request_is_a_clean_400(client: httpx.AsyncClient, body: bytes, accept: str) -> None:
    response = await client.post(
        "/graphql", content=body, headers={"content-type": "application/json", "accept": accept}
    )
    assert response.status_code == 400
    assert code(response) == "BAD_USER_INPUT"
    assert response.headers["content-type"].startswith(accept)


async def test_batch_is_refused_in_words(client: httpx.AsyncClient) -> None:
    response = await client.post("/graphql", json=[{"query": "{ __typename }"}])
    assert "Batches" in response.json()["errors"][0]["message"]


@pytest.mark.parametrize("escape", ["\\ud800", "\\udfff", "a\\ud83db"])
@pytest.mark.parametrize("name", ["channel", "author", "content"])
async def test_lone_surrogate_is_bad_user_input(client: httpx.AsyncClient, escape: str, name: str) -> None:
    body = json.dumps({"query": POST, "variables": {**GOOD, name: "HERE"}}).replace("HERE", escape)
    response = await client.post("/graphql", content=body, headers={"content-type": "application/json"})
    assert code(response) == "BAD_USER_INPUT"
    argument = {"channel": "channelId"}.get(name, name)
    assert response.json()["errors"][0]["extensions"]["argument"] == argument


async def test_lone_surrogate_in_a_document_can_be_answered(client: httpx.AsyncClient) -> None:
    for text in ("\\ud800", '{ channel(id: \\"\\ud800\\") { id } }', "{ a\\ud800 }"):
        body = f'{{"query": "{text}"}}'
        response = await client.post("/graphql", content=body, headers={"content-type": "application/json"})
        assert response.status_code == 400
        [error] = response.json()["errors"]
        assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "query"}


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "application/graphql"],
)
async def test_content_type_a_plain_form_could_send_is_refused(client: httpx.AsyncClient, content_type: str) -> None:
    response = await client.post(
        "/graphql", content=b'{"query": "{ __typename }"}', headers={"content-type": content_type}
    )
    assert response.status_code == 415


async def test_charset_other_than_utf8_and_compression_are_refused(client: httpx.AsyncClient) -> None:
    for headers in (
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ):
        response = await client.post("/graphql", content=b'{"query": "{ __typename }"}', headers=headers)
        assert response.status_code == 415


async def test_body_over_the_limit_is_413_whether_it_says_so_or_not() -> None:
    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * 500

    async with over_a_socket(limits=Limits(body_bytes=2000)) as (_, client, _app):
        request = json.dumps({"query": "{ __typename }"}).encode()
        fits = request + b" " * (2000 - len(request))
        headers = {"content-type": "application/json"}
        assert (await client.post("/graphql", content=fits, headers=headers)).status_code == 200
        assert (await client.post("/graphql", content=fits + b" ", headers=headers)).status_code == 413
        assert (await client.post("/graphql", content=unannounced(), headers=headers)).status_code == 413
        assert (await client.post("/graphql", content=fits, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("query A { __typename } query B { __typename }", "GRAPHQL_VALIDATION_FAILED"),
        ("query ($n: Int!) { channels(first: $n) { edges { cursor } } }", "BAD_USER_INPUT"),
    ],
)
async def test_request_error_has_its_status_by_media_type(client: httpx.AsyncClient, query: str, expected: str) -> None:
    by_spec = await client.post("/graphql", json={"query": query}, headers=SPEC)
    assert (by_spec.status_code, code(by_spec)) == (400, expected)
    legacy = await client.post("/graphql", json={"query": query}, headers={"accept": "application/json"})
    assert (legacy.status_code, code(legacy)) == (200, expected)
    assert "data" not in legacy.json()


async def test_field_error_is_a_result(client: httpx.AsyncClient, chat: Chat) -> None:
    assert isinstance(chat.log, MemoryLog)
    chat.log.failing = True
    response = await client.post("/graphql", json={"query": POST, "variables": GOOD}, headers=SPEC)
    assert response.status_code == 200
    assert response.json()["data"] is None
    assert response.json()["errors"][0]["extensions"] == {"code": "UNAVAILABLE", "retryAfterMs": 1000}


async def test_int_that_does_not_fit_is_bad_user_input(client: httpx.AsyncClient) -> None:
    for tokens in (2**31, 2**63, 2**70, 1e400, -1, 0.5):
        body = json.dumps({"query": POST, "variables": {**GOOD, "tokens": tokens}}).replace("Infinity", "1e400")
        response = await client.post("/graphql", content=body, headers={"content-type": "application/json"})
        assert response.json()["errors"][0]["extensions"] == {"code": "BAD_USER_INPUT", "argument": "tokenCount"}


async def test_nothing_of_python_leaves_when_a_resolver_breaks(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("File /secret.py, line 3")

    monkeypatch.setattr(history, "last_sequence", fail)
    response = await client.post("/graphql", json={"query": '{ channel(id: "c") { id } }'})
    assert code(response) == "INTERNAL_SERVER_ERROR"
    assert "secret" not in response.text
    assert "Runtime" not in response.text


async def test_nothing_acceptable_is_406(client: httpx.AsyncClient) -> None:
    query = {"query": "{ __typename }"}
    assert (await client.post("/graphql", json=query, headers={"accept": "image/png"})).status_code == 406
    subscription = {"query": "subscription { messages(channelId: 1) { id } }"}
    response = await client.post("/graphql", json=subscription, headers={"accept": "application/json"})
    assert response.status_code == 406
    assert "text/event-stream" in response.json()["errors"][0]["message"]


async def test_urql_gets_json_for_its_queries_though_it_lists_streams_too(client: httpx.AsyncClient) -> None:
    accept = "application/graphql-response+json, application/json, text/event-stream, multipart/mixed"
    response = await client.post("/graphql", json={"query": "{ __typename }"}, headers={"accept": accept})
    assert response.json() == {"data": {"__typename": "Query"}}


async def test_foreign_origin_is_403_and_its_page_may_not_read(client: httpx.AsyncClient, chat: Chat) -> None:
    response = await client.post(
        "/graphql", json={"query": POST, "variables": GOOD}, headers={"origin": "https://evil.example"}
    )
    assert (response.status_code, code(response)) == (403, "FORBIDDEN")
    assert "access-control-allow-origin" not in response.headers
    assert await chat.log.last_sequence("c") == 0
    preflight = await client.options("/graphql", headers={"origin": "https://evil.example"})
    assert preflight.status_code == 403


async def test_listed_origin_may_ask_and_read() -> None:
    async with in_process(allowed_origins=["https://chat.example"], bound_host="0.0.0.0") as (_, client):
        origin = {"origin": "https://chat.example"}
        preflight = await client.options(
            "/graphql",
            headers={
                **origin,
                "access-control-request-method": "POST",
                "access-control-request-headers": "content-type,apollo-require-preflight,x-mine",
            },
        )
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == "https://chat.example"
        assert preflight.headers["access-control-allow-credentials"] == "true"
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert preflight.headers["access-control-allow-headers"] == "content-type,apollo-require-preflight,x-mine"
        response = await client.post("/graphql", json={"query": "{ __typename }"}, headers=origin)
        assert response.headers["access-control-allow-origin"] == "https://chat.example"
        assert response.headers["vary"] == "Origin"
        failed = await client.post("/graphql", content=b"{", headers=origin)
        assert failed.headers["access-control-allow-origin"] == "https://chat.example"


async def test_persisted_query_by_get_and_post(client: httpx.AsyncClient) -> None:
    query = "{ __typename }"
    persisted = {"persistedQuery": {"version": 1, "sha256Hash": hashlib.sha256(query.encode()).hexdigest()}}
    params = {"extensions": json.dumps(persisted)}
    missing = await client.get("/graphql", params=params)
    assert (missing.status_code, code(missing)) == (200, "PERSISTED_QUERY_NOT_FOUND")
    assert missing.json()["errors"][0]["message"] == "PersistedQueryNotFound"
    await client.post("/graphql", json={"query": query, "extensions": persisted})
    assert (await client.get("/graphql", params=params)).json() == {"data": {"__typename": "Query"}}


async def test_browser_gets_the_playground_and_its_queries_get_json(client: httpx.AsyncClient) -> None:
    browser = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    page = await client.get("/graphql", headers=browser)
    assert page.headers["content-type"].startswith("text/html")
    assert (await client.head("/graphql", headers=browser)).status_code == 200
    query = await client.get("/graphql", params={"query": "{ __typename }"}, headers=browser)
    assert query.json() == {"data": {"__typename": "Query"}}


async def authenticate(_params: Any, scope: Any) -> Viewer:
    token = dict(scope["headers"]).get(b"authorization")
    if token is None:
        raise Unauthenticated
    if token == b"Bearer shut":
        raise Forbidden
    return ANYONE


async def test_client_without_a_token_is_401() -> None:
    async with in_process(authenticate=authenticate) as (_, client):
        response = await client.post("/graphql", json={"query": "{ __typename }"})
        assert (response.status_code, code(response)) == (401, "UNAUTHENTICATED")
        assert response.headers["www-authenticate"] == "Bearer"
        headers = {"authorization": "Bearer shut"}
        assert (await client.post("/graphql", json={"query": "{ __typename }"}, headers=headers)).status_code == 403
        headers = {"authorization": "Bearer good"}
        assert (await client.post("/graphql", json={"query": "{ __typename }"}, headers=headers)).status_code == 200
