"""Turns for parsing: what a round may take, and whose turn comes when."""

import asyncio

import pytest
from uvicorn.server import ServerState

from transports.serving import turns as module
from transports.serving.turns import ROUND_SECONDS, Turns, turns_of


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(module, "perf_counter", lambda: self.now)


async def rounds(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_one_round_a_step_of_the_loop_takes_no_more_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, turns = Clock(monkeypatch), Turns()
    done = 0

    def work() -> None:
        nonlocal done
        done += 1
        clock.now += ROUND_SECONDS / 3.99
        turns.ask("a", work, rest=True)

    for _ in range(100):
        turns.ask("a", work)
    await rounds(1)
    for step in range(1, 20):
        assert done == 4 * step
        await rounds(1)


async def test_clients_take_turns_however_much_each_has(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, turns = Clock(monkeypatch), Turns()
    order = ""

    def work(client: str) -> None:
        nonlocal order
        order += client
        clock.now += ROUND_SECONDS / 2

    for client in "aaaaaaaabbc":
        turns.ask(client, lambda client=client: work(client))  # type: ignore[misc]
    await rounds(10)
    assert order == "abcabaaaaaa"


async def test_who_comes_new_goes_before_what_is_left_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, turns = Clock(monkeypatch), Turns()
    order = ""

    def work(client: str) -> None:
        nonlocal order
        order += client
        clock.now += ROUND_SECONDS
        if client == "a":
            turns.ask("a", lambda: work("a"), rest=True)

    turns.ask("a", lambda: work("a"))
    await rounds(3)
    turns.ask("b", lambda: work("b"))
    await rounds(3)
    assert order == "aaabaa"


async def test_what_was_done_without_a_turn_counts_until_the_next_round(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns()
    assert turns.has_time()
    turns.note(ROUND_SECONDS)
    assert not turns.has_time()
    await rounds(2)
    assert turns.has_time()


async def test_a_turn_that_raises_is_logged_and_keeps_nobody_from_theirs(caplog: pytest.LogCaptureFixture) -> None:
    turns = Turns()
    order = ""

    def work(client: str) -> None:
        nonlocal order
        order += client
        if client == "a":
            raise RuntimeError("of a")

    for client in "abab":
        turns.ask(client, lambda client=client: work(client))  # type: ignore[misc]
    turns.ask("b", lambda: work("b"), rest=True)
    await rounds(3)
    assert order == "ababb"
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["of a", "of a"]
    assert turns.has_time()


async def test_connections_of_one_server_share_their_turns_and_no_others() -> None:
    server, other = ServerState(), ServerState()
    assert turns_of(server) is turns_of(server)
    assert turns_of(server) is not turns_of(other)
