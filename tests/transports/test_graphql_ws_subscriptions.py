"""Subscriptions over a raw graphql-transport-ws socket, and how sockets end."""

import asyncio
import time
from typing import Any

import pytest
from starlette.types import Scope

from errors import CursorExpired
from messages import Viewer
from tests.fakes import fill
from tests.transports.graphql_ws_client import (
    HEAD,
    POST,
    GatedSubscribing,
    both_servers,
    complete,
    graphql_server,
    next_message,
    open_acknowledged,
    open_socket,
    operation,
    post,
    settle,
    subscription,
)
from tests.transports.live_server import Closed, RawSocket, Refused, until
from transports.gate.connections import Connections
from transports.gate.limits import Limits

# -- subscriptions -------------------------------------------------------------------------------------------------


@both_servers
async def test_subscription_gets_what_follows_its_cursor_then_what_is_posted(ws: Any) -> None:
    async with graphql_server(ws) as (chat, port):
        messages = await fill(chat, "general", 20)
        opened = await open_acknowledged(port)
        await opened.send(subscription("s", after=messages[4].cursor))
        await post(chat, "new")
        expected = [next_message("s", number, str(number)) for number in range(6, 21)] + [next_message("s", 21, "new")]
        assert [await opened.expect() for _ in range(16)] == expected
        await opened.close()


@both_servers
async def test_pong_after_subscribe_means_that_the_subscription_stands(ws: Any) -> None:
    async with graphql_server(ws) as (chat, port):
        opened = await open_acknowledged(port)
        for number in range(1, 21):
            await opened.send(subscription(str(number)))
            await settle(opened)
            await post(chat, "x")
            received = [await opened.expect() for _ in range(number)]
            assert received == [next_message(str(n), number, "x") for n in range(1, number + 1)]
        await opened.close()


async def test_subscribe_while_subscribing_takes_long_waits_with_the_next_frame() -> None:
    async with graphql_server(operations=GatedSubscribing) as (_, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("s"), {"type": "ping"})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await opened.receive()
        GatedSubscribing.gate.set()
        assert await opened.expect() == {"type": "pong"}
        await opened.close()


@both_servers
async def test_complete_from_the_client_stops_at_once_and_says_nothing(ws: Any) -> None:
    async with graphql_server(ws) as (chat, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("s"))
        await settle(opened)
        assert chat.hub.subscribers == 1
        await opened.send(complete("s"), complete("s"), complete("never"))
        await settle(opened)
        assert chat.hub.subscribers == 0
        await post(chat, "nobody hears")
        await settle(opened)
        await opened.close()


@both_servers
async def test_complete_right_behind_subscribe_leaves_nothing(ws: Any) -> None:
    async with graphql_server(ws) as (chat, port):
        messages = await fill(chat, "general", 5)
        opened = await open_acknowledged(port)
        await opened.send(subscription("s", after=messages[0].cursor), complete("s"))
        await settle_past_next(opened)
        assert chat.hub.subscribers == 0
        await post(chat, "nobody hears")
        await settle(opened)
        await opened.close()


async def settle_past_next(opened: RawSocket) -> None:
    """Like `settle`, passing over `next` frames that were under way."""
    await opened.send({"type": "ping"})
    while (received := await opened.expect()) != {"type": "pong"}:
        assert received["type"] == "next"


@both_servers
async def test_id_reused_in_the_same_packet_is_the_new_subscription_only(ws: Any) -> None:
    async with graphql_server(ws) as (chat, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("s", "old"), complete("s"), subscription("s", "new"))
        await settle(opened)
        await post(chat, "old one", channel="old")
        await post(chat, "new one", channel="new")
        assert await opened.expect() == next_message("s", 1, "new one")
        await settle(opened)
        assert chat.hub.subscribers == 1
        await opened.close()


@pytest.mark.parametrize("id_", ["s", "__proto__", "é" * 300])
async def test_id_in_use_closes_4409_and_ends_every_subscription(id_: str) -> None:
    async with graphql_server() as (chat, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("other"), subscription(id_), subscription(id_))
        closed = await opened.expect_close()
        assert closed.code == 4409
        assert closed.reason == f"Subscriber for {id_} already exists".encode()[:123].decode(errors="ignore")
        assert chat.hub.subscribers == 0


@both_servers
async def test_twenty_subscriptions_on_one_socket_stay_apart(ws: Any) -> None:
    ids = [f"id-{'x' * number}" for number in range(19)] + ["__proto__"]
    async with graphql_server(ws) as (chat, port):
        opened = await open_acknowledged(port)
        await opened.send(*(subscription(id_, f"channel-{number % 5}") for number, id_ in enumerate(ids)))
        await settle(opened)
        await asyncio.gather(*(post(chat, *map(str, range(50)), channel=f"channel-{n}") for n in range(5)))
        received: dict[str, list[Any]] = {id_: [] for id_ in ids}
        for _ in range(20 * 50):
            frame_ = await opened.expect()
            received[frame_["id"]].append(frame_)
        for id_ in ids:
            assert received[id_] == [next_message(id_, n + 1, str(n)) for n in range(50)]
        await opened.close()


async def test_subscription_past_the_limit_gets_an_error_frame_and_the_socket_lives() -> None:
    async with graphql_server(limits=Limits(subscriptions=3)) as (chat, port):
        opened = await open_acknowledged(port)
        await opened.send(*(subscription(str(number)) for number in range(4)))
        error = await opened.expect()
        assert (error["id"], error["type"]) == ("3", "error")
        assert error["payload"][0]["extensions"] == {"code": "TOO_MANY_SUBSCRIPTIONS", "limit": 3}
        assert "3" in error["payload"][0]["message"]
        await opened.send(complete("0"), subscription("4"), operation("q", HEAD))
        assert [(await opened.expect())["id"] for _ in range(2)] == ["q", "q"]
        assert chat.hub.subscribers == 3
        await opened.close()


@both_servers
@pytest.mark.parametrize("error", [CursorExpired("cursor"), None], ids=["error", "complete"])
async def test_subscription_ended_by_the_server_says_so_after_its_last_message(ws: Any, error: Any) -> None:
    async with graphql_server(ws) as (chat, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("s"))
        await settle(opened)
        await post(chat, "last")
        assert await opened.expect() == next_message("s", 1, "last")
        (cohort,) = chat.hub.channels["general"].cohorts.values()
        (subscriber,) = cohort.members
        subscriber.end(error)
        end = await opened.expect()
        if error is None:
            assert end == complete("s")
        else:
            assert (end["id"], end["type"]) == ("s", "error")
            assert end["payload"][0]["extensions"] == {"code": "CURSOR_EXPIRED", "resumeCursor": "cursor"}
        await opened.send(subscription("s"))
        await settle(opened)
        await opened.close()


async def test_token_that_ends_ends_every_subscription_then_the_socket() -> None:
    async def authenticate(connection_params: dict[str, Any] | None, scope: Scope) -> Viewer:
        return Viewer(expires_at=time.time() + 0.3)

    async with graphql_server(authenticate=authenticate) as (chat, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("a"), subscription("b"))
        for id_ in "ab":
            error = await opened.expect()
            assert (error["id"], error["type"]) == (id_, "error")
            assert error["payload"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        assert chat.hub.subscribers == 0
        assert await opened.expect_close() == Closed(4403, "Forbidden")


async def test_token_that_has_ended_gets_no_ack() -> None:
    async def authenticate(connection_params: dict[str, Any] | None, scope: Scope) -> Viewer:
        return Viewer(expires_at=time.time() - 1)

    async with graphql_server(authenticate=authenticate) as (_, port):
        opened = await open_socket(port)
        await opened.send({"type": "connection_init"})
        assert await opened.expect_close() == Closed(4403, "Forbidden")


# -- how sockets end -----------------------------------------------------------------------------------------------


async def test_disconnect_in_whatever_state_leaves_nothing() -> None:
    async with graphql_server() as (chat, port):
        for how in ("close", "reset", "half-close"):
            for frames in (
                [],
                [{"type": "connection_init"}],
                [{"type": "connection_init"}, subscription("s")],
                [
                    {"type": "connection_init"},
                    subscription("s"),
                    operation("q", HEAD),
                    operation("m", POST, content="a"),
                ],
            ):
                opened = await open_socket(port)
                await opened.send(*frames)
                if how == "close":
                    await opened.close()
                elif how == "reset":
                    opened.reset()
                else:
                    opened.writer.write_eof()
                    while not isinstance(await opened.receive(), Closed):
                        pass
                    opened.writer.close()
        await until(lambda: chat.hub.subscribers == 0)


@both_servers
async def test_client_that_resets_while_messages_flow_leaves_nothing_and_others_go_on(ws: Any) -> None:
    async with graphql_server(ws) as (chat, port):
        stays = await open_acknowledged(port)
        await stays.send(subscription("s"))
        await settle(stays)
        sequence = 0
        for _ in range(10):
            goes = await open_acknowledged(port)
            await goes.send(*(subscription(str(number)) for number in range(10)))
            await settle(goes)
            sender = asyncio.gather(*(post(chat, "x") for _ in range(20)))
            await goes.send(operation("q", HEAD), operation("m", POST, content="x"))
            goes.reset()
            await sender
            await until(lambda: chat.hub.subscribers == 1)
            head = await chat.log.last_sequence("general")
            for expected in range(sequence + 1, head + 1):
                assert await stays.expect() == next_message("s", expected, "x")
            sequence = head
        await stays.close()


async def test_close_of_the_registry_reaches_every_client_with_its_code() -> None:
    connections = Connections()
    async with graphql_server(connections=connections) as (chat, port):
        sockets = [await open_acknowledged(port) for _ in range(10)]
        for opened in sockets:
            await opened.send(subscription("s"))
            await settle(opened)
        for connection in connections:
            connection.close(1012, "Service restart")
            connection.close(1000, "again")
        assert chat.hub.subscribers == 0
        for opened in sockets:
            assert await opened.expect_close() == Closed(1012, "Service restart")


async def test_server_that_drains_refuses_new_sockets_and_posts_but_not_reading() -> None:
    async with graphql_server() as (chat, port):
        opened = await open_acknowledged(port)
        chat.accepting = False
        with pytest.raises(Refused) as refused:
            await open_socket(port)
        assert refused.value.status == 503
        await opened.send(operation("m", POST, content="late"))
        result = await opened.expect()
        assert result["payload"]["errors"][0]["extensions"]["code"] == "UNAVAILABLE"
        assert await opened.expect() == complete("m")
        await opened.send(operation("q", HEAD))
        assert (await opened.expect())["payload"] == {"data": {"channel": {"lastSequence": 0}}}
        assert await opened.expect() == complete("q")
        await opened.close()


@both_servers
async def test_client_that_does_not_read_holds_up_itself_alone(ws: Any) -> None:
    async with graphql_server(ws) as (chat, port):
        slow, quick = await open_acknowledged(port), await open_acknowledged(port)
        for opened in (slow, quick):
            await opened.send(subscription("s"))
            await settle(opened)
        content = "x" * 60_000
        for number in range(1, 201):
            await post(chat, content)
            assert await quick.expect() == next_message("s", number, content)
        for number in range(1, 201):
            assert await slow.expect() == next_message("s", number, content)
        await slow.close()
        await quick.close()
