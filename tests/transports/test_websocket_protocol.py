"""What a drain does to a socket whose handshake is still under way."""

from typing import Any

import pytest

from tests.transports.live_server import Closed, RawSocket, Refused, serve
from transports.wire.sinks import DIRECT


async def test_socket_that_is_sent_away_before_it_is_accepted_is_closed_as_soon_as_it_is() -> None:
    told: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told.append(await receive())
        scope["extensions"][DIRECT].send_away()
        await send({"type": "websocket.accept"})
        told.append(await receive())

    async with serve(app) as port:
        opened = await RawSocket.open(port, "/")
        assert await opened.expect_close() == Closed(1012, "Service restart")
    assert told == [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1012}]


async def test_socket_that_is_sent_away_and_then_refused_is_refused() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"][DIRECT].send_away()
        await send({"type": "websocket.close", "code": 1008})

    async with serve(app) as port:
        with pytest.raises(Refused) as refused:
            await RawSocket.open(port, "/")
        assert refused.value.status == 403
