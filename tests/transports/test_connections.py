"""The registry of open sockets: its counts, its limits, its drain."""

import asyncio

from transports.connections import Connections


class FakeConnection:
    """Leaves the registry when it is told to close, unless it is stubborn."""

    def __init__(self, connections: Connections, *, stubborn: bool = False) -> None:
        self.connections = connections
        self.stubborn = stubborn
        self.told: list[tuple[int, str]] = []

    def close(self, code: int, reason: str) -> None:
        self.told.append((code, reason))
        if not self.stubborn:
            self.connections.remove(self)


def test_connections_are_counted_in_all_and_by_address() -> None:
    connections = Connections()
    one, two, three = (FakeConnection(connections) for _ in range(3))
    connections.add(one, "10.0.0.1")
    connections.add(two, "10.0.0.1")
    connections.add(three, None)
    assert (len(connections), connections.at_address("10.0.0.1"), connections.at_address("10.0.0.2")) == (3, 2, 0)
    assert set(connections) == {one, two, three}
    connections.remove(one)
    connections.remove(one)
    connections.remove(three)
    assert (len(connections), connections.at_address("10.0.0.1")) == (1, 1)


def test_refusal_past_a_limit_says_which() -> None:
    connections = Connections(max_connections=2, max_per_address=1)
    assert connections.refusal("10.0.0.1") is None
    connections.add(FakeConnection(connections), "10.0.0.1")
    assert connections.refusal("10.0.0.1") == (429, "This address has its maximum of 1 connections.")
    assert connections.refusal("10.0.0.2") is None
    assert connections.refusal(None) is None
    connections.add(FakeConnection(connections), "10.0.0.2")
    assert connections.refusal("10.0.0.3") == (503, "This server has its maximum of 2 connections.")


async def test_drain_tells_everyone_once_in_paced_steps_and_refuses_newcomers() -> None:
    connections = Connections()
    all_of_them = [FakeConnection(connections, stubborn=number == 0) for number in range(10)]
    for connection in all_of_them:
        connections.add(connection, None)
    draining = asyncio.create_task(connections.drain(1012, "Service restart", seconds=0.2))
    await asyncio.sleep(0)
    assert sum(len(connection.told) for connection in all_of_them) == 5
    assert connections.refusal("10.0.0.1") == (503, "This server is shutting down.")
    await draining
    assert [connection.told for connection in all_of_them] == [[(1012, "Service restart")]] * 10


async def test_drain_without_time_or_connections_returns_at_once() -> None:
    await Connections().drain(1012, "Service restart", seconds=60)
    connections = Connections()
    connection = FakeConnection(connections)
    connections.add(connection, None)
    await connections.drain(1012, "Service restart", seconds=0)
    assert connection.told
