"""What an operator sees of a real server: metrics, request ids, and the line at a connection's end."""

import json
import re
from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.engine.client import Client
from tests.engine.engine_server import EngineServer

StartServer = Callable[..., Any]


async def test_metrics_tell_what_happened(start_server: StartServer) -> None:
    server: EngineServer = await start_server()
    async with await Client.open(server.port) as client:
        await client.subscribe()
        assert (await client.next_frame())["type"] == "pong"
        for number in range(3):
            await server.post(f"{number}")
        await client.read_run(1, 3)
        refused = await server.http.post("/graphql", json={"query": "{ nothing }"})
        assert refused.json()["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
        seen = await server.metrics()
        for name, value in {
            "messages_posted_total": 3,
            "messages_delivered_total": 3,
            "commits_total": 3,
            "posts_per_commit_sum": 3,
            "subscribers": 1,
            "subscribers_behind": 0,
            "cohorts": 1,
            "channels": 1,
            "connections{graphql-ws}": 1,
            "refusals_total{GRAPHQL_VALIDATION_FAILED}": 1,
            "accepting": 1,
        }.items():
            assert seen[f"raqcoon_{name}"] == value, name
        # Observed once a batch for each subscriber, and posts that follow closely share one.
        assert 1 <= seen["raqcoon_delivery_latency_seconds_count"] <= 3
    seen = await server.until_empty()
    assert seen["raqcoon_connections_ended_total{1006}"] == 1


async def test_metrics_are_well_formed_and_no_label_is_a_clients(start_server: StartServer) -> None:
    server: EngineServer = await start_server()
    secret = "a-name-that-only-a-client-knows"
    await server.post("x", channel=secret, author=secret)
    await server.http.post("/graphql", json={"query": f"query {secret.replace('-', '_')} {{ {secret[:6]} }}"})
    async with await Client.open(server.port, headers=(f"X-Request-ID: {secret}",)) as client:
        await client.send(client.operation(secret, "{ __typename }"))
        assert (await client.next_frame())["id"] == secret
        # A close code of the client's own is not told apart.
        await client.send_bytes(b"\x88\x82\0\0\0\0" + (4_321).to_bytes(2, "big"))
        assert await client.until_closed() == 4_321
    await server.until_empty()
    answer = await server.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(answer.text))
    assert len(families) > 25
    assert all(family.name.startswith("raqcoon_") and family.documentation for family in families)
    assert "name_that" not in answer.text
    assert "name-that" not in answer.text
    assert 'raqcoon_connections_ended_total{code="other"} 1.0' in answer.text


async def test_metrics_switched_off_are_not_there(start_server: StartServer) -> None:
    server: EngineServer = await start_server(metrics="false")
    assert (await server.http.get("/metrics")).status_code == 404


async def test_request_id_is_echoed_or_made(start_server: StartServer) -> None:
    server: EngineServer = await start_server()
    given = await server.http.get("/healthz", headers={"X-Request-ID": "from-the-proxy:1"})
    assert given.headers["x-request-id"] == "from-the-proxy:1"
    made = [(await server.http.get("/api/health")).headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1]
    for hostile in ("a" * 129, "two words", '"quoted"', "{}"):
        answer = await server.http.get("/healthz", headers={"X-Request-ID": hostile})
        assert answer.headers["x-request-id"] != hostile


async def test_log_line_at_a_connections_end_has_its_figures_and_no_content(start_server: StartServer) -> None:
    server: EngineServer = await start_server(log_format="json")
    secret = "what-nobody-else-may-read"
    async with await Client.open(server.port, headers=("X-Request-ID: socket-7",)) as client:
        await client.send({"type": "ping", "payload": {"token": secret}})
        await client.next_frame()
        await client.subscribe()
        assert (await client.next_frame())["type"] == "pong"
        text = f'mutation {{ postMessage(channelId: "general", author: "ann", content: "{secret}") {{ sequence }} }}'
        await client.send(client.operation("post", text))
        seen = [await client.next_frame() for _ in range(3)]
        assert {frame["type"] for frame in seen} == {"next", "complete"}
        await client.send_bytes(b"\x88\x82\0\0\0\0" + (1_000).to_bytes(2, "big"))
        await client.until_closed()
    await server.until_empty()
    lines = [json.loads(line) for line in server.log().splitlines()]
    (listening,) = [line for line in lines if line["message"] == "listening"]
    assert listening["address"] == server.url
    assert listening["log"].endswith("/raqcoon.db")
    (ended,) = [line for line in lines if line["message"] == "connection ended"]
    assert ended.pop("seconds") >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*", ended.pop("time"))
    assert ended == {
        "level": "info",
        "logger": "raqcoon.connections",
        "message": "connection ended",
        "kind": "graphql-ws",
        "posts": 1,
        "subscriptions": 1,
        "delivered": 1,
        "code": 1000,
        "request_id": "socket-7",
    }
    assert secret not in server.log()
