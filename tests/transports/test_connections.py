"""The registry of open sockets: its counts and its limits."""

from transports.gate.connections import Connections
from transports.sight.logs import ConnectionFigures


class FakeConnection:
    def __init__(self) -> None:
        self.figures = ConnectionFigures("plain")

    def close(self, code: int, reason: str) -> None:
        raise AssertionError("the registry closes nothing by itself")


def test_connections_are_counted_in_all_and_by_address() -> None:
    connections = Connections()
    one, two, three = (FakeConnection() for _ in range(3))
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
    connections.add(FakeConnection(), "10.0.0.1")
    assert connections.refusal("10.0.0.1") == (429, "This address has its maximum of 1 connections.")
    assert connections.refusal("10.0.0.2") is None
    assert connections.refusal(None) is None
    connections.add(FakeConnection(), "10.0.0.2")
    assert connections.refusal("10.0.0.3") == (503, "This server has its maximum of 2 connections.")
