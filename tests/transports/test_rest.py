"""The REST shim, call by call (design 2.3)."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from errors import Forbidden, RateLimited, Unauthenticated
from messages import ANYONE, Viewer, encode_cursor
from resolvers.chat import Chat
from tests.fakes import MemoryLog, fill, viewer_of_patterns
from tests.transports.http_client import in_process, over_a_socket
from transports.gate.limits import Limits
from transports.shims import calls, rest

GOOD = {"channel_id": "c", "author": "ann", "content": "hello"}
JSON = {"content-type": "application/json"}


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


async def test_post_answers_the_item_as_stored(client: httpx.AsyncClient, chat: Chat) -> None:
    response = await client.post("/api/messages", json={**GOOD, "lane": "", "provider": "openai", "token_count": 3})
    stored = await chat.log.message("c", 1)
    assert stored is not None
    assert response.status_code == 200
    assert response.json() == {
        "success": True,
        "message": {
            "channel_id": "c",
            "author": "ann",
            "content": "hello",
            "timestamp": stored.timestamp.isoformat(),
            "lane": None,
            "provider": "openai",
            "token_count": 3,
            "id": "c:1",
            "sequence": 1,
            "cursor": stored.cursor,
            "revision": 0,
            "complete": True,
            "edited_at": None,
            "erased_at": None,
        },
    }


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"channel_id": "a b"}, "channel_id"),
        ({"channel_id": None}, "channel_id"),
        ({"author": ""}, "author"),
        ({"author": 7}, "author"),
        ({"content": ""}, "content"),
        ({"content": "x" * 65_537}, "content"),
        ({"content": "a\0"}, "content"),
        ({"lane": "x" * 65}, "lane"),
        ({"provider": []}, "provider"),
        ({"token_count": -1}, "token_count"),
        ({"token_count": 2**31}, "token_count"),
        ({"token_count": 2**70}, "token_count"),
        ({"token_count": "many"}, "token_count"),
        ({"token_count": True}, "token_count"),
        ({"token_count": "3"}, "token_count"),
        ({"token_count": 1.5}, "token_count"),
        ({"idempotency_key": ""}, "idempotency_key"),
    ],
)
async def test_post_with_a_wrong_field_is_422_and_names_it(
    client: httpx.AsyncClient, chat: Chat, wrong: dict[str, Any], field: str
) -> None:
    response = await client.post("/api/messages", json={**GOOD, **wrong})
    assert response.status_code == 422
    (problem,) = response.json()["detail"]
    assert problem["loc"] == ["body", field]
    assert problem["type"]
    assert problem["msg"]
    assert await chat.log.last_sequence("c") == 0


async def test_post_without_its_fields_names_all_of_them(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/messages", json={})
    assert response.status_code == 422
    problems = response.json()["detail"]
    assert [problem["loc"] for problem in problems] == [["body", name] for name in ("channel_id", "author", "content")]
    assert {problem["type"] for problem in problems} == {"missing"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 50_000,
    ],
)
async def test_post_of_a_body_that_is_no_post_is_422(client: httpx.AsyncClient, chat: Chat, body: bytes) -> None:
    response = await client.post("/api/messages", content=body, headers=JSON)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"][0] == "body"
    assert await chat.log.last_sequence("c") == 0


@pytest.mark.parametrize("field", ["channel_id", "author", "content", "lane", "provider", "idempotency_key"])
async def test_post_with_a_lone_surrogate_names_its_field(client: httpx.AsyncClient, chat: Chat, field: str) -> None:
    body = json.dumps({**GOOD, field: "a\ud800b"})
    response = await client.post("/api/messages", content=body, headers=JSON)
    assert response.status_code == 422
    assert [problem["loc"] for problem in response.json()["detail"]] == [["body", field]]
    assert await chat.log.last_sequence("c") == 0


async def test_post_of_a_number_of_tokens_that_is_whole_is_stored(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/messages", content=json.dumps(GOOD)[:-1] + ',"token_count":5.0}', headers=JSON)
    assert response.json()["message"]["token_count"] == 5


async def test_post_as_a_form_could_send_it_is_refused(client: httpx.AsyncClient, chat: Chat) -> None:
    response = await client.post(
        "/api/messages", content=json.dumps(GOOD).encode(), headers={"content-type": "text/plain"}
    )
    assert response.status_code == 422
    assert await chat.log.last_sequence("c") == 0


async def test_post_repeated_with_a_key_in_header_or_body_is_the_first_message(
    client: httpx.AsyncClient, chat: Chat
) -> None:
    first = await client.post("/api/messages", json=GOOD, headers={"Idempotency-Key": "k"})
    again = await client.post("/api/messages", json={**GOOD, "idempotency_key": "k"})
    both = await client.post("/api/messages", json={**GOOD, "idempotency_key": "k"}, headers={"Idempotency-Key": "k"})
    assert first.json() == again.json() == both.json()
    assert await chat.log.last_sequence("c") == 1
    conflict = await client.post("/api/messages", json={**GOOD, "content": "x"}, headers={"Idempotency-Key": "k"})
    assert conflict.status_code == 409
    assert conflict.json()["code"] == "IDEMPOTENCY_CONFLICT"


@pytest.mark.parametrize(
    ("member", "headers"),
    [
        ({"idempotency_key": "a"}, [("Idempotency-Key", "b")]),
        ({}, [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]),
    ],
)
async def test_post_with_two_different_keys_is_422(
    client: httpx.AsyncClient, member: dict[str, str], headers: list[tuple[str, str]]
) -> None:
    response = await client.post("/api/messages", json={**GOOD, **member}, headers=headers)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body", "idempotency_key"]


async def test_post_over_the_limit_is_413() -> None:
    async with over_a_socket(limits=Limits(body_bytes=1000)) as (_, client, _app):
        response = await client.post("/api/messages", json={**GOOD, "content": "x" * 1000})
        assert response.status_code == 413
        assert (await client.post("/api/messages", json=GOOD)).status_code == 200


async def test_post_while_draining_or_without_a_log_is_503_with_retry_after(
    client: httpx.AsyncClient, chat: Chat
) -> None:
    chat.accepting = False
    draining = await client.post("/api/messages", json=GOOD)
    assert (draining.status_code, draining.headers["retry-after"]) == (503, "1")
    assert draining.json()["code"] == "UNAVAILABLE"
    chat.accepting = True
    assert isinstance(chat.log, MemoryLog)
    chat.log.failing = True
    for response in (await client.post("/api/messages", json=GOOD), await client.get("/api/channels")):
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (Unauthenticated(), 401, {"www-authenticate": "Bearer"}),
        (Forbidden(), 403, {}),
        (RateLimited("author", 5, 1200), 429, {"retry-after": "2"}),
    ],
)
async def test_error_has_its_status_and_headers(error: Exception, status: int, headers: dict[str, str]) -> None:
    async def authenticate(_params: Any, _scope: Any) -> Viewer:
        raise error

    async with in_process(authenticate=authenticate) as (_, client):
        for response in (await client.post("/api/messages", json=GOOD), await client.get("/api/messages")):
            assert response.status_code == status
            assert headers.items() <= dict(response.headers).items()


async def test_failure_nobody_foresaw_is_masked(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("/secret.py")

    monkeypatch.setattr(calls, "post_message", fail)
    response = await client.post("/api/messages", json=GOOD)
    assert response.status_code == 500
    assert response.json() == {"detail": "Internal server error.", "code": "INTERNAL_SERVER_ERROR"}


async def test_messages_of_a_channel_are_the_oldest_first_page_by_page(client: httpx.AsyncClient, chat: Chat) -> None:
    messages = await fill(chat, "c", 5)
    first = (await client.get("/api/messages", params={"channel_id": "c", "limit": 3})).json()["messages"]
    assert [item["sequence"] for item in first] == [1, 2, 3]
    params = {"channel_id": "c", "after": first[-1]["cursor"]}
    rest_of_it = (await client.get("/api/messages", params=params)).json()["messages"]
    assert [item["id"] for item in rest_of_it] == [message.id for message in messages[3:]]
    at_head = await client.get("/api/messages", params={"channel_id": "c", "after": messages[-1].cursor})
    assert at_head.json() == {"messages": []}
    assert (await client.get("/api/messages", params={"channel_id": "new"})).json() == {"messages": []}


async def test_messages_are_200_by_default_and_1000_at_most(client: httpx.AsyncClient, chat: Chat) -> None:
    await fill(chat, "c", 1001)
    for params, count in (({}, 200), ({"limit": 1000}, 1000), ({"channel_id": "c"}, 200)):
        assert len((await client.get("/api/messages", params=params)).json()["messages"]) == count
    for limit in ("1001", "0", "-1", "many", "1.5", ""):
        response = await client.get("/api/messages", params={"limit": limit})
        assert response.status_code == 422, limit
        assert response.json()["detail"][0]["loc"] == ["query", "limit"]


async def test_messages_of_all_channels_are_in_the_order_of_time(client: httpx.AsyncClient, chat: Chat) -> None:
    for channel in ("b", "a", "b"):
        await fill(chat, channel, 1)
    items = (await client.get("/api/messages")).json()["messages"]
    assert [item["id"] for item in items] == ["b:1", "a:1", "b:2"]


async def test_cursor_that_leads_nowhere_is_422_or_410(client: httpx.AsyncClient, chat: Chat) -> None:
    messages = await fill(chat, "c", 5)
    past_the_head = encode_cursor(chat.log.epoch, "c", 6)
    for params in (
        {"after": messages[0].cursor},
        {"channel_id": "c", "after": "junk"},
        {"channel_id": "c", "after": past_the_head},
        {"channel_id": "d", "after": messages[0].cursor},
    ):
        response = await client.get("/api/messages", params=params)
        assert response.status_code == 422
        assert response.json()["detail"][0]["loc"] == ["query", "after"]
    assert isinstance(chat.log, MemoryLog)
    chat.log.forget("c", up_to=3)
    expired = await client.get("/api/messages", params={"channel_id": "c", "after": messages[0].cursor})
    assert expired.status_code == 410
    assert expired.json()["resume_cursor"] == messages[2].cursor


async def test_bad_channel_id_is_422(client: httpx.AsyncClient) -> None:
    for channel in ("a b", "", "x" * 129):
        response = await client.get("/api/messages", params={"channel_id": channel})
        assert response.status_code == 422
        assert response.json()["detail"][0]["loc"] == ["query", "channel_id"]


async def test_channels_are_sorted(client: httpx.AsyncClient, chat: Chat) -> None:
    assert (await client.get("/api/channels")).json() == {"channels": []}
    for channel in ("b", "a", "C"):
        await fill(chat, channel, 1)
    assert (await client.get("/api/channels")).json() == {"channels": ["C", "a", "b"]}


async def test_summary_counts_by_provider_and_lane(client: httpx.AsyncClient, chat: Chat) -> None:
    await fill(chat, "c", 2, provider="p", token_count=5)
    await fill(chat, "d", 1, lane="l", provider="")
    assert (await client.get("/api/summary")).json() == {
        "summary": {"total_messages": 3, "total_tokens": 10, "by_provider": {"p": 2}, "by_lane": {"l": 1}}
    }


async def test_health_is_ok(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_viewer_sees_only_what_it_may_use() -> None:
    async def authenticate(_params: Any, _scope: Any) -> Viewer:
        return viewer_of_patterns(("open*",), "ann")

    async with in_process(authenticate=authenticate) as (chat, client):
        await fill(chat, "open", 1, token_count=1)
        await fill(chat, "shut", 1, token_count=1)
        assert (await client.get("/api/channels")).json() == {"channels": ["open"]}
        items = (await client.get("/api/messages")).json()["messages"]
        assert [item["channel_id"] for item in items] == ["open"]
        assert (await client.get("/api/messages", params={"channel_id": "shut"})).json() == {"messages": []}
        assert (await client.get("/api/summary")).json()["summary"]["total_messages"] == 1
        assert (await client.post("/api/messages", json={**GOOD, "channel_id": "shut"})).status_code == 403
        assert (await client.post("/api/messages", json={**GOOD, "channel_id": "open"})).status_code == 200
        assert ANYONE.may_read("shut")


async def test_openapi_describes_every_call_without_foreign_pages(client: httpx.AsyncClient) -> None:
    description = (await client.get("/openapi.json")).json()
    calls = {(path, method) for path, methods in description["paths"].items() for method in methods}
    assert calls == {
        ("/api/messages", "post"),
        ("/api/messages", "get"),
        ("/api/messages/{message_id}", "patch"),
        ("/api/messages/{message_id}", "delete"),
        ("/api/messages/{message_id}/append", "post"),
        ("/api/messages/{message_id}/complete", "post"),
        ("/api/channels", "get"),
        ("/api/summary", "get"),
        ("/api/health", "get"),
    }
    body = description["paths"]["/api/messages"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/Post"}
    for path in ("/docs", "/redoc"):
        assert (await client.get(path)).status_code == 404


async def test_openapi_gives_limits_answers_and_ways_to_send_a_token(client: httpx.AsyncClient) -> None:
    description = (await client.get("/openapi.json")).json()
    parts, paths = description["components"], description["paths"]
    members = parts["schemas"]["Post"]["properties"]
    for name, longest in (("channel_id", 128), ("author", 128), ("content", 65_536)):
        assert (members[name]["minLength"], members[name]["maxLength"]) == (1, longest)
    for name, longest in (("lane", 64), ("provider", 64), ("idempotency_key", 128)):
        assert members[name]["anyOf"][0]["maxLength"] == longest
    assert members["token_count"]["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
    assert parts["schemas"]["Item"]["properties"]["sequence"]["maximum"] == 2**53 - 1
    assert parts["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert {} in description["security"]
    (header,) = paths["/api/messages"]["post"]["parameters"]
    assert (header["name"], header["in"], header["schema"]["maxLength"]) == ("Idempotency-Key", "header", 128)
    for path in ("/api/messages", "/api/channels", "/api/summary"):
        call = paths[path]["get"]
        assert {"401", "403", "429", "503"} <= call["responses"].keys()
        assert "Retry-After" in call["responses"]["503"]["headers"]
    assert "410" in paths["/api/messages"]["get"]["responses"]
    names = {call["operationId"] for calls in paths.values() for call in calls.values()}
    assert {"post_message", "list_messages", "list_channels", "get_summary", "get_health"} <= names


async def test_openapi_describes_the_revision_of_a_conflict_as_it_is_answered(client: httpx.AsyncClient) -> None:
    description = (await client.get("/openapi.json")).json()
    schemas, paths = description["components"]["schemas"], description["paths"]
    edit = paths["/api/messages/{message_id}"]["patch"]["responses"]["409"]["content"]["application/json"]["schema"]
    assert edit == {"$ref": "#/components/schemas/Conflict"}
    revision = schemas["Conflict"]["properties"]["revision"]
    assert (revision["type"], revision["minimum"]) == ("integer", 0)
    assert schemas["Conflict"]["required"] == ["detail", "code"]
    posted = (await client.post("/api/messages", json=GOOD)).json()["message"]
    refused = await client.patch(f"/api/messages/{posted['id']}", json={"content": "y", "revision": 5})
    assert refused.status_code == 409
    assert refused.json().keys() == schemas["Conflict"]["properties"].keys()
    assert refused.json()["revision"] == 0
    append = f"/api/messages/{posted['id']}/append"
    complete = await client.post(append, json={"revision": 0, "piece": "y"})
    assert (complete.status_code, complete.json()["code"]) == (409, "MESSAGE_COMPLETE")
    assert "revision" not in complete.json()


async def test_openapi_of_a_server_with_tokens_asks_for_one() -> None:
    async def authenticate(connection_params: Any, scope: Any) -> Viewer:
        return ANYONE

    async with in_process(authenticate=authenticate) as (_, client):
        description = (await client.get("/openapi.json")).json()
    assert description["security"] == [{"bearer": []}, {"cookie": []}]


async def test_post_by_the_described_route_is_the_same_post(chat: Chat) -> None:
    app, _ = rest.build_rest(chat)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        response = await client.post("/api/messages", json=GOOD)
    assert response.json()["message"]["id"] == "c:1"


@pytest.mark.parametrize("name", ["pty", "kb", "flights", "git", "tasks", "gates", "config", "events"])
async def test_what_the_earlier_server_did_beside_messages_is_not_here(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/api/{name}")).status_code == 404


async def test_members_that_are_not_known_are_ignored_as_before(client: httpx.AsyncClient) -> None:
    assert (await client.post("/api/messages", json={**GOOD, "mood": "good"})).status_code == 200
