"""What a page of another site can do to a server on the visitor's machine, against a real server: nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from resolvers.chat import Chat
from tests.fakes import fill
from tests.transports.http_client import over_a_socket
from tests.transports.live_server import RawSocket, Refused

POST = 'mutation { postMessage(channelId: "c", author: "eve", content: "x") { id } }'
STREAM = 'subscription { messages(channelId: "c") { content } }'
ITEM = {"channel_id": "c", "author": "eve", "content": "x"}
JSON = {"content-type": "application/json"}
EVENTS = {"accept": "text/event-stream"}
PARTS = {"accept": "multipart/mixed;subscriptionSpec=1.0"}

REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "query": ("POST", "/graphql", {"json": {"query": "{ channels { edges { cursor } } }"}}),
    "query-by-get": ("GET", "/graphql", {"params": {"query": "{ channels { edges { cursor } } }"}}),
    "mutation": ("POST", "/graphql", {"json": {"query": POST}}),
    "mutation-by-get": ("GET", "/graphql", {"params": {"query": POST}}),
    "sse": ("POST", "/graphql", {"json": {"query": STREAM}, "headers": EVENTS}),
    "sse-by-get": ("GET", "/graphql", {"params": {"query": STREAM}, "headers": EVENTS}),
    "multipart": ("POST", "/graphql", {"json": {"query": STREAM}, "headers": PARTS}),
    "preflight": ("OPTIONS", "/graphql", {"headers": {"access-control-request-method": "POST"}}),
    "rest-post": ("POST", "/api/messages", {"json": ITEM}),
    "rest-preflight": ("OPTIONS", "/api/messages", {"headers": {"access-control-request-method": "POST"}}),
    "rest-list": ("GET", "/api/messages", {}),
    "rest-channels": ("GET", "/api/channels", {}),
    "rest-summary": ("GET", "/api/summary", {}),
}
SOCKETS = {"/graphql": "graphql-transport-ws", "/api/ws/c": None}


@asynccontextmanager
async def server(**settings: Any) -> AsyncIterator[tuple[Chat, httpx.AsyncClient, int]]:
    async with over_a_socket(**settings) as (chat, client, _):
        port = client.base_url.port
        assert port is not None
        await fill(chat, "c", 1, author="ann")
        yield chat, client, port
        assert await chat.log.last_sequence("c") == 1, "something was posted"


async def ask(client: httpx.AsyncClient, name: str, **headers: str) -> httpx.Response:
    method, path, options = REQUESTS[name]
    return await client.request(method, path, **{**options, "headers": {**options.get("headers", {}), **headers}})


# -- another site's page -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound_host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"])
async def test_foreign_page_is_refused_everywhere(bound_host: str, origin: str) -> None:
    async with server(bound_host=bound_host) as (_, client, port):
        for name in REQUESTS:
            answer = await ask(client, name, origin=origin)
            assert answer.status_code == 403, name
            assert not any(header.startswith("access-control") for header in answer.headers), name
            assert "ann" not in answer.text
        for path, subprotocol in SOCKETS.items():
            with pytest.raises(Refused) as refused:
                await RawSocket.open(port, path, subprotocol=subprotocol, headers={"Origin": origin})
            assert refused.value.status == 403


async def test_page_of_this_machine_and_of_a_listed_origin_are_served() -> None:
    async with server(allowed_origins=["https://chat.example"]) as (_, client, port):
        for origin in (f"http://127.0.0.1:{port}", "http://localhost:3000", "https://chat.example"):
            for name in ("query", "query-by-get", "rest-list", "rest-channels", "preflight", "rest-preflight"):
                answer = await ask(client, name, origin=origin)
                assert answer.status_code in (200, 204), name
                assert answer.headers["access-control-allow-origin"] == origin
            for path, subprotocol in SOCKETS.items():
                await (await RawSocket.open(port, path, subprotocol=subprotocol, headers={"Origin": origin})).close()


BY_GET = [name for name, (method, _, _) in REQUESTS.items() if method == "GET" and name != "mutation-by-get"]


@pytest.mark.parametrize("name", BY_GET)
async def test_what_a_foreign_page_embeds_is_refused_though_it_has_no_origin(name: str) -> None:
    embedded = {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    framed = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
    for bound_host, sites in (("127.0.0.1", {"cross-site"}), ("0.0.0.0", {"cross-site", "same-site"})):
        async with server(bound_host=bound_host) as (_, client, _port):
            for site in ("cross-site", "same-site", "same-origin", "none"):
                for how in (embedded, framed):
                    async with client.stream(
                        REQUESTS[name][0],
                        REQUESTS[name][1],
                        params=REQUESTS[name][2].get("params"),
                        headers={**REQUESTS[name][2].get("headers", {}), **how, "sec-fetch-site": site},
                    ) as answer:
                        assert answer.status_code == (403 if site in sites else 200), site


async def test_link_on_a_foreign_page_may_be_followed() -> None:
    async with server() as (_, client, _port):
        followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        for name in ("query-by-get", "rest-list"):
            assert (await ask(client, name, **followed)).status_code == 200
        for path in ("/", "/graphql", "/healthz"):
            assert (await client.get(path, headers={"accept": "text/html", **followed})).status_code == 200


async def test_answers_are_embedded_by_nobody_and_kept_by_no_browser() -> None:
    async with server() as (_, client, _port):
        for name, (method, path, options) in REQUESTS.items():
            if "preflight" in name or "mutation" in name or name == "rest-post":
                continue
            async with client.stream(method, path, **options) as answer:
                assert answer.headers["cross-origin-resource-policy"] == "same-origin", name
                assert "no-store" in answer.headers["cache-control"], name
        for wrong in (("POST", "/graphql"), ("GET", "/api/messages?limit=x"), ("POST", "/api/messages")):
            answer = await client.request(*wrong)
            assert answer.status_code >= 400
            assert answer.headers["cross-origin-resource-policy"] == "same-origin", wrong
            assert answer.headers["cache-control"] == "no-store", wrong


# -- a page whose own name was made to point here -------------------------------------------------------------------

PAGES = ("/", "/graphql", "/console/console.js", "/openapi.json", "/healthz", "/readyz", "/metrics", "/nothing")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8010", "192.168.1.7", "localhost.evil.example", "", "x" * 2000]
)
@pytest.mark.parametrize("origin", [None, "http://evil.example", "http://evil.example:8010"])
async def test_request_for_a_foreign_host_is_refused_while_on_loopback(host: str, origin: str | None) -> None:
    headers = {"host": host, **({} if origin is None else {"origin": origin})}
    async with server() as (_, client, port):
        for name in REQUESTS:
            assert (await ask(client, name, **headers)).status_code == 403, name
        for path in PAGES:
            assert (await client.get(path, headers={**headers, "accept": "text/html"})).status_code == 403, path
        for path, subprotocol in SOCKETS.items():
            with pytest.raises(Refused) as refused:
                await open_as(port, path, subprotocol, host, origin)
            assert refused.value.status == 403


async def open_as(port: int, path: str, subprotocol: str | None, host: str, origin: str | None) -> RawSocket:
    """A handshake whose only `Host` is `host`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    lines += [f"Origin: {origin}"] if origin else []
    lines += [f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status = int(head.split()[1])
    if status != 101:
        writer.close()
        raise Refused(status, head)
    return RawSocket(reader, writer, head)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:8010", "[::1]:8010", "app.localhost", "chat.example"]
)
async def test_request_for_a_name_of_its_own_is_served_on_loopback(host: str) -> None:
    async with server(allowed_origins=["https://chat.example:8443"]) as (_, client, port):
        assert (await ask(client, "rest-list", host=host)).status_code == 200
        for path, subprotocol in SOCKETS.items():
            await (await open_as(port, path, subprotocol, host, None)).close()


async def test_request_for_any_host_is_served_beyond_loopback_where_names_are_the_operators() -> None:
    async with server(bound_host="0.0.0.0") as (_, client, _port):
        assert (await ask(client, "rest-list", host="raqcoon.example")).status_code == 200
        same = {"host": "raqcoon.example", "origin": "https://raqcoon.example"}
        assert (await ask(client, "rest-list", **same)).status_code == 200


# -- requests that need no preflight -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/plain;charset=utf-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
    ],
)
async def test_post_as_a_page_may_send_it_unasked_is_refused_though_it_hides_its_origin(content_type: str) -> None:
    headers = {"content-type": content_type}
    async with server() as (_, client, _port):
        answer = await client.post("/graphql", content=json.dumps({"query": POST}), headers=headers)
        assert answer.status_code == 415
        answer = await client.post("/api/messages", content=json.dumps(ITEM), headers=headers)
        assert answer.status_code in (415, 422)


async def test_get_changes_nothing() -> None:
    async with server() as (_, client, _port):
        assert (await ask(client, "mutation-by-get")).status_code == 405


# -- what comes back -----------------------------------------------------------------------------------------------

SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", "/graphql", {"params": {"query": SCRIPT}}),
        ("GET", "/graphql", {"params": {"query": "{ __typename }", "operationName": SCRIPT}}),
        ("GET", "/graphql", {"params": {"query": f'{{ channel(id: "{SCRIPT}") {{ id }} }}'}}),
        ("GET", "/graphql", {"params": {"variables": SCRIPT}}),
        ("POST", "/graphql", {"json": {"query": SCRIPT}}),
        ("POST", "/graphql", {"content": SCRIPT, "headers": JSON}),
        ("GET", f"/{SCRIPT}", {}),
        ("GET", f"/api/{SCRIPT}", {}),
        ("GET", f"/console/{SCRIPT}", {}),
        ("GET", "/api/messages", {"params": {"channel_id": SCRIPT}}),
        ("GET", "/api/messages", {"params": {"channel_id": "c", "after": SCRIPT}}),
        ("GET", "/api/messages", {"params": {"limit": SCRIPT}}),
        ("POST", "/api/messages", {"json": {**ITEM, "lane": SCRIPT * 10}}),
        ("POST", "/api/messages", {"content": SCRIPT, "headers": JSON}),
        ("GET", "/?" + SCRIPT, {}),
        ("GET", "/healthz", {"headers": {"host": SCRIPT}}),
    ],
)
async def test_nothing_that_was_sent_comes_back_as_a_page(method: str, path: str, options: dict[str, Any]) -> None:
    async with server() as (_, client, _port):
        options["headers"] = {"accept": "text/html,*/*", **options.get("headers", {})}
        answer = await client.request(method, path, **options)
        if answer.headers["content-type"].startswith("text/html"):
            assert SCRIPT not in answer.text
        elif SCRIPT in answer.text:
            assert answer.headers["content-type"].startswith("application/")
            assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/graphql"])
async def test_pages_run_their_own_scripts_only_and_are_framed_by_nobody(path: str) -> None:
    async with server() as (_, client, _port):
        answer = await client.get(path, headers={"accept": "text/html"})
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'self'"
        scripts = policy.get("script-src", policy["default-src"])
        assert "unsafe" not in scripts
        assert "*" not in "".join(policy.values())
        assert "data:" not in scripts
        assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
