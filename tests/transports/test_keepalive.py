"""The keepalive goes through all connections without holding up the event loop."""

import asyncio
from typing import Any

from transports.serving.connection_set import ConnectionSet
from transports.serving.http_protocol import HttpProtocol
from transports.serving.keepalive import AT_ONCE, Keepalive


class Looked(HttpProtocol):
    def __init__(self, steps: list[int]) -> None:
        self.looks = 0
        self._steps = steps
        self._idle_since = None

    def look(self, now: float, slow_timeout_seconds: float) -> None:
        self.looks += 1
        self._steps[-1] += 1


async def looked_at(count: int, seconds: float, passes: float) -> tuple[list[Looked], list[int]]:
    """Connections, and how many of them were looked at in each step of the loop."""
    steps = [0]
    everybody: list[Any] = [Looked(steps) for _ in range(count)]
    connections = ConnectionSet()
    for each in everybody:
        connections.add(each)
    keepalive = Keepalive(connections, slow_timeout_seconds=seconds * 4)
    task = asyncio.create_task(keepalive.run())
    while sum(steps) < passes * count:
        steps.append(0)
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return everybody, steps


async def test_fifty_thousand_connections_are_looked_at_in_small_steps() -> None:
    everybody, steps = await looked_at(50_000, 0.5, passes=1.2)
    assert max(steps) < 2 * AT_ONCE
    assert all(each.looks in (1, 2) for each in everybody)


async def test_a_thousand_connections_do_not_wake_the_server_more_often_than_needed() -> None:
    everybody, steps = await looked_at(1_000, 0.2, passes=2)
    assert sum(bool(step) for step in steps) <= 10
    assert all(each.looks == 2 for each in everybody)


async def test_few_connections_are_looked_at_together() -> None:
    everybody, steps = await looked_at(20, 0.1, passes=2)
    assert max(steps) == 20
    assert all(each.looks == 2 for each in everybody)


def test_connection_set_does_what_uvicorn_asks_of_a_set() -> None:
    connections = ConnectionSet()
    members = [object() for _ in range(1_000)]
    for each in members:
        connections.add(each)
        connections.add(each)
    assert len(connections) == 1_000
    assert set(connections) == set(members)
    connections.discard(members[0])
    connections.discard(members[0])
    connections.remove(members[1])
    assert len(connections) == 998
    assert members[0] not in connections
    assert members[2] in connections
    pieces = list(connections.pieces(300))
    assert sorted(id(each) for piece in pieces for each in piece) == sorted(map(id, members[2:]))
    assert len(pieces) == 4
    assert all(300 <= len(piece) < 400 for piece in pieces[:-1])
    assert list(ConnectionSet().pieces(300)) == [[]]
