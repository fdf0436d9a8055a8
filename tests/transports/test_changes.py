"""The life of a message over every way in: GraphQL, its three kinds of streams, REST and the plain WebSocket."""

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from messages import Viewer, encode_cursor
from patterns import NO_CHANNEL
from tests.fakes import fill, memory_chat
from tests.transports.graphql_ws_client import graphql_server, open_acknowledged
from tests.transports.http_client import in_process, over_a_socket
from tests.transports.live_server import RawSocket, serve
from tests.transports.test_event_streams import Stream
from transports.shims.plain_websocket import PlainWebSocket

LIFE = "id content lane provider tokenCount revision complete editedAt erasedAt"
CHANGES = """
subscription ($c: ID!, $a: Cursor) {
  changes(channelId: $c, after: $a) {
    cursor sequence channelId messageId kind revision piece content author timestamp __typename
  }
}
"""


async def ask(client: httpx.AsyncClient, query: str, **variables: Any) -> Any:
    return (await client.post("/graphql", json={"query": query, "variables": variables})).json()


async def grow(client: httpx.AsyncClient, channel: str = "c") -> None:
    """Four changes of the message `<channel>:1`."""
    post = f'mutation {{ postMessage(channelId: "{channel}", author: "ada", content: "It", complete: false) {{ id }} }}'
    assert (await ask(client, post))["data"]["postMessage"]["id"] == f"{channel}:1"
    append = (
        "mutation ($i: ID!, $r: Int!, $p: String!) { appendToMessage(id: $i, revision: $r, piece: $p) { revision } }"
    )
    for revision, piece in enumerate((" was", " dark")):
        answer = await ask(client, append, i=f"{channel}:1", r=revision, p=piece)
        assert answer["data"]["appendToMessage"]["revision"] == revision + 1
    complete = f'mutation {{ completeMessage(id: "{channel}:1") {{ revision complete }} }}'
    assert (await ask(client, complete))["data"] == {"completeMessage": {"revision": 3, "complete": True}}
    edit = f'mutation {{ editMessage(id: "{channel}:1", content: "Bright.", revision: 3) {{ content }} }}'
    assert (await ask(client, edit))["data"] == {"editMessage": {"content": "Bright."}}


async def test_mutations_say_what_the_message_is_now_and_queries_see_it() -> None:
    async with in_process() as (_, client):
        cursor = '{ channel(id: "c") { changesCursor } }'
        before = (await ask(client, cursor))["data"]["channel"]["changesCursor"]
        await grow(client)
        message = (await ask(client, f'{{ message(id: "c:1") {{ {LIFE} }} }}'))["data"]["message"]
        assert message.pop("editedAt") is not None
        assert message == {
            "id": "c:1",
            "content": "Bright.",
            "lane": None,
            "provider": None,
            "tokenCount": None,
            "revision": 4,
            "complete": True,
            "erasedAt": None,
        }
        page = await ask(
            client, "{ channels { edges { node { changesCursor messages { edges { node { content } } } } } } }"
        )
        node = page["data"]["channels"]["edges"][0]["node"]
        assert node["messages"]["edges"] == [{"node": {"content": "Bright."}}]
        assert node["changesCursor"] == (await ask(client, cursor))["data"]["channel"]["changesCursor"] != before
        erased = await ask(client, f'mutation {{ eraseMessage(id: "c:1") {{ {LIFE} }} }}')
        assert erased["data"]["eraseMessage"]["content"] == ""
        assert erased["data"]["eraseMessage"]["erasedAt"] is not None
        assert (await ask(client, 'mutation { eraseAuthor(author: "ada") }'))["data"] == {"eraseAuthor": 0}
        assert (await ask(client, '{ message(id: "c:1") { author } }'))["data"]["message"]["author"] == "erased"


@pytest.mark.parametrize(
    ("mutation", "extensions"),
    [
        ('appendToMessage(id: "c:1", revision: 1, piece: "x")', {"code": "MESSAGE_COMPLETE"}),
        ('appendToMessage(id: "c:2", revision: 7, piece: "x")', {"code": "REVISION_CONFLICT", "revision": 0}),
        ('editMessage(id: "c:1", content: "x", revision: 7)', {"code": "REVISION_CONFLICT", "revision": 4}),
        ('editMessage(id: "d:1", content: "x")', {"code": "BAD_USER_INPUT", "argument": "id"}),
        ('appendToMessage(id: "c:2", revision: 0, piece: "")', {"code": "BAD_USER_INPUT", "argument": "piece"}),
        ('eraseMessage(id: "c")', {"code": "BAD_USER_INPUT", "argument": "id"}),
    ],
)
async def test_refusals_have_their_codes(mutation: str, extensions: dict[str, object]) -> None:
    async with in_process() as (_, client):
        await grow(client)
        await ask(client, 'mutation { postMessage(channelId: "c", author: "a", content: "b", complete: false) { id } }')
        (error,) = (await ask(client, f"mutation {{ {mutation} {{ id }} }}"))["errors"]
        assert error["extensions"] == extensions


def kinds(changes: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(c["sequence"], c["kind"], c["revision"], c["piece"], c["content"]) for c in changes]


GROWN = [
    (1, "APPENDED", 1, " was", None),
    (2, "APPENDED", 2, " dark", None),
    (3, "COMPLETED", 3, None, None),
    (4, "EDITED", 4, None, "Bright."),
]


async def test_changes_over_a_graphql_socket_from_a_cursor_and_live() -> None:
    async with graphql_server() as (chat, port):
        start = encode_cursor(chat.log.changes.epoch, "c", 0)
        opened = await open_acknowledged(port)
        payload = {"query": CHANGES, "variables": {"c": "c", "a": start}}
        await opened.send({"id": "s", "type": "subscribe", "payload": payload})
        async with in_process_on(chat) as client:
            await grow(client)
        changes = [(await opened.expect())["payload"]["data"]["changes"] for _ in range(4)]
        assert kinds(changes) == GROWN
        assert {(c["messageId"], c["channelId"], c["author"], c["__typename"]) for c in changes} == {
            ("c:1", "c", "ada", "MessageChange")
        }
        again = {"query": CHANGES, "variables": {"c": "c", "a": changes[1]["cursor"]}}
        await opened.send({"id": "t", "type": "subscribe", "payload": again})
        assert kinds([(await opened.expect())["payload"]["data"]["changes"] for _ in range(2)]) == GROWN[2:]
        (message,) = await fill(chat, "c", 1)
        foreign = {"query": CHANGES, "variables": {"c": "c", "a": message.cursor}}
        await opened.send({"id": "u", "type": "subscribe", "payload": foreign})
        error = await opened.expect()
        assert (error["type"], error["payload"][0]["extensions"]["code"]) == ("error", "CURSOR_INVALID")
        await opened.close()


def in_process_on(chat: Any) -> httpx.AsyncClient:
    from schema.operations import Operations
    from transports.app import build_app

    transport = httpx.ASGITransport(build_app(chat, Operations()))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8010")


async def test_changes_over_server_sent_events_go_on_after_the_last_event_id() -> None:
    async with over_a_socket() as (chat, client, _):
        await grow(client)
        request = {"query": CHANGES, "variables": {"c": "c", "a": encode_cursor(chat.log.changes.epoch, "c", 0)}}
        headers = {"accept": "text/event-stream"}
        async with client.stream("POST", "/graphql", json=request, headers=headers) as response:
            stream = Stream(response)
            events = [await stream.event() for _ in range(4)]
        assert kinds([json.loads(event["data"])["data"]["changes"] for event in events]) == GROWN
        headers["last-event-id"] = events[2]["id"]
        async with client.stream("POST", "/graphql", json=request, headers=headers) as response:
            event = await Stream(response).event()
        assert event["id"] == events[3]["id"]


async def test_changes_over_multipart() -> None:
    async with over_a_socket() as (chat, client, _):
        await grow(client)
        request = {"query": CHANGES, "variables": {"c": "c", "a": encode_cursor(chat.log.changes.epoch, "c", 0)}}
        headers = {"accept": 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0,application/json'}
        async with client.stream("POST", "/graphql", json=request, headers=headers) as response:
            stream = Stream(response)
            await stream.until(b"--graphql")
            parts = [await stream.part() for _ in range(4)]
        assert kinds([part["payload"]["data"]["changes"] for part in parts]) == GROWN


async def test_rest_changes_a_message_and_answers_it() -> None:
    async with in_process() as (_, client):
        post = {"channel_id": "né:w", "author": "ada", "content": "It", "complete": False}
        posted = (await client.post("/api/messages", json=post)).json()["message"]
        assert (posted["complete"], posted["revision"]) == (False, 0)
        path = f"/api/messages/{quote(posted['id'], safe='')}"
        append = {"revision": 0, "piece": " was", "token_count": 4}
        for _ in range(2):  # a piece that comes again is answered, not appended again
            answer = await client.post(f"{path}/append", json=append)
            item = answer.json()["message"]
            assert (item["content"], item["revision"], item["token_count"]) == ("It was", 1, 4)
        conflict = await client.post(f"{path}/append", json={**append, "piece": "!"})
        assert (conflict.status_code, conflict.json()["code"], conflict.json()["revision"]) == (
            409,
            "REVISION_CONFLICT",
            1,
        )
        last = await client.post(f"{path}/append", json={"revision": 1, "piece": ".", "complete": True})
        assert (last.json()["message"]["complete"], last.json()["message"]["revision"]) == (True, 3)
        assert (await client.post(f"{path}/complete")).json()["message"]["revision"] == 3
        late = await client.post(f"{path}/append", json={"revision": 3, "piece": "."})
        assert (late.status_code, late.json()["code"]) == (409, "MESSAGE_COMPLETE")
        edited = (await client.patch(path, json={"content": "new", "revision": 3})).json()["message"]
        assert (edited["content"], edited["erased_at"]) == ("new", None)
        assert edited["edited_at"] is not None
        erased = await client.delete(path)
        assert erased.json()["success"] is True
        assert erased.json()["message"]["content"] == ""
        listed = (await client.get("/api/messages", params={"channel_id": "né:w"})).json()["messages"]
        assert listed == [erased.json()["message"]]
        assert (await client.patch(path, json={"content": "back"})).status_code == 422
        for wrong in ({}, {"content": 1}, {"content": "x", "revision": True}, {"content": ""}):
            assert (await client.patch(path, json=wrong)).status_code == 422
        assert (await client.request("PUT", path)).headers["allow"] == "DELETE, PATCH"
        [unknown] = (await client.delete("/api/messages/general:99")).json()["detail"]
        assert unknown["loc"] == ["path", "id"]


async def test_plain_socket_is_told_of_changes_only_when_it_asks() -> None:
    async with memory_chat() as chat, serve(PlainWebSocket(chat)) as port, in_process_on(chat) as client:
        asking = await RawSocket.open(port, "/api/ws/c?changes=1")
        silent = await RawSocket.open(port, "/api/ws/c")
        await grow(client)
        await fill(chat, "c", 1)
        frames = [await asking.expect() for _ in range(6)]
        assert kinds([frame["data"] for frame in frames if frame["type"] == "change"]) == GROWN
        assert {frame["data"]["message_id"] for frame in frames if frame["type"] == "change"} == {"c:1"}
        messages = [frame["data"] for frame in frames if frame["type"] == "message"]
        assert [message["sequence"] for message in messages] == [1, 2]
        assert [(await silent.expect())["data"]["sequence"] for _ in range(2)] == [1, 2]
        await asking.close()
        await silent.close()


async def test_who_may_not_read_the_channel_hears_of_no_change() -> None:
    async def authenticate(*_: Any) -> Viewer:
        return Viewer(author="eve", read=NO_CHANNEL)

    async with in_process(authenticate=authenticate) as (chat, client):
        await fill(chat, "c", 1)
        cursor = (await ask(client, '{ channel(id: "c") { changesCursor } }'))["data"]["channel"]["changesCursor"]
        assert cursor == encode_cursor(chat.log.changes.epoch, "c", 0)
        headers = {"accept": "text/event-stream"}
        answer = await client.post("/graphql", json={"query": CHANGES, "variables": {"c": "c"}}, headers=headers)
        assert "FORBIDDEN" in answer.text
