"""Revocations: stored with the log, known in memory by every process, obeyed by posts that wait for their commit."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from errors import BadUserInput, Forbidden, Unavailable
from message_log import revocations
from message_log.revocation_watch import RevocationWatch
from message_log.revocations import RevocationSet
from message_log.sql import SqlMessageLog, dialect_of
from messages import Draft, Revocation
from tests.message_log.conftest import NewLog
from tests.message_log.recorder import Recorder

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def revocation(author: str = "eve", channel_id: str | None = None, until: datetime | None = None) -> Revocation:
    return Revocation(author, channel_id, until, NOW, "ada")


async def test_revocation_is_in_force_and_told_before_it_is_acknowledged(
    log: SqlMessageLog, recorder: Recorder
) -> None:
    one, every = revocation(channel_id="general"), revocation("mallory")
    await log.revoke(one)
    await log.revoke(every)
    await recorder.thrown_out.wait()
    assert {one, every} <= set(recorder.revocations)
    assert log.revoked.listed() == [one, every]
    assert log.revoked.forbids("eve", "general")
    assert not log.revoked.forbids("eve", "other")
    assert not log.revoked.forbids("eve", None)
    assert log.revoked.forbids("mallory", "other")
    assert log.revoked.forbids("mallory", None)
    assert not log.revoked.forbids("ada", "general")
    assert not log.revoked.forbids(None, "general")
    with pytest.raises(Forbidden):
        await log.append(Draft("general", "eve", "x"))
    with pytest.raises(Forbidden):
        await log.append(Draft("other", "bridged", "x", sender="mallory"))
    assert (await log.append(Draft("other", "eve", "x"))).created
    assert await log.last_sequence("general") == 0


async def test_second_revocation_takes_the_place_of_the_first(log: SqlMessageLog) -> None:
    await log.revoke(revocation())
    until = datetime.now(UTC) + timedelta(hours=1)
    await log.revoke(revocation(until=until))
    assert log.revoked.listed() == [revocation(until=until)]
    assert await log.restore("eve", None)
    assert not await log.restore("eve", None)
    assert not await log.restore("eve", "general")
    assert not log.revoked.forbids("eve", None)
    assert (await log.append(Draft("general", "eve", "x"))).created


async def test_revocations_survive_a_restart_and_are_known_before_anybody_is_served(new_log: NewLog) -> None:
    log = new_log()
    await log.open(Recorder())
    await log.revoke(revocation(channel_id="general"))
    await log.close()
    again = new_log()
    await again.open(Recorder())
    assert again.revoked.listed() == [revocation(channel_id="general")]
    await again.close()


@pytest.mark.alone
async def test_what_another_process_revokes_is_told_within_a_second_without_any_hint(
    log: SqlMessageLog, recorder: Recorder, request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.params["new_log"]
    url = request.getfixturevalue("postgres_url" if kind == "postgresql" else "sqlite_url")
    engine = dialect_of(url).engine(1)  # As the command does it: beside the server, without its lock.

    def revoke_beside(connection: Connection) -> None:
        revocations.revoke(connection, revocation(channel_id="general"), datetime.now(UTC))

    try:
        with engine.connect() as connection:
            await asyncio.to_thread(revoke_beside, connection)
            async with asyncio.timeout(1):
                await recorder.thrown_out.wait()
            assert log.revoked.forbids("eve", "general")
            await asyncio.to_thread(revocations.restore, connection, "eve", "general", datetime.now(UTC))
            async with asyncio.timeout(1):
                while log.revoked.forbids("eve", "general"):
                    await asyncio.sleep(0.01)
    finally:
        engine.dispose()


async def test_post_that_waits_for_its_commit_while_its_author_is_revoked_is_refused(sqlite_url: str) -> None:
    log = SqlMessageLog(sqlite_url)
    await log.open(Recorder())
    writer = log._open_parts().writer
    held = asyncio.Event()
    go_on = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        loop.call_soon_threadsafe(held.set)
        asyncio.run_coroutine_threadsafe(asyncio.wait_for(go_on, 10), loop).result()

    holding = asyncio.ensure_future(writer.run(hold))
    await held.wait()
    # Both were allowed when they came, and wait behind what holds the writer.
    posted = asyncio.ensure_future(log.append(Draft("general", "eve", "x")))
    other = asyncio.ensure_future(log.append(Draft("general", "ada", "y")))
    await asyncio.sleep(0)
    log.revoked.add(1, revocation())  # As another node's revocation comes to be known.
    go_on.set_result(None)
    await holding
    with pytest.raises(Forbidden):
        await posted
    assert (await other).message.sequence == 1
    await log.close()


async def test_caller_that_goes_away_while_it_revokes_leaves_it_told(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, stored, go_on = Recorder(), asyncio.Event(), threading.Event()
    log = SqlMessageLog(sqlite_url)
    await log.open(recorder)
    loop, original = asyncio.get_running_loop(), revocations.revoke

    def slowly(*args: Any) -> int:
        version = original(*args)
        loop.call_soon_threadsafe(stored.set)
        go_on.wait(10)
        return version

    monkeypatch.setattr(revocations, "revoke", slowly)
    caller = asyncio.ensure_future(log.revoke(revocation()))
    await stored.wait()
    caller.cancel()
    go_on.set()
    async with asyncio.timeout(5):
        await recorder.thrown_out.wait()
    assert log.revoked.forbids("eve", None)
    await log.close()


async def test_one_revocation_too_many_is_refused(log: SqlMessageLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations, "REVOCATIONS_MAX", 2)
    for author in ("a", "b"):
        await log.revoke(revocation(author))
    with pytest.raises(BadUserInput):
        await log.revoke(revocation("c"))
    await log.revoke(revocation("b"))
    assert await log.restore("a", None)
    await log.revoke(revocation("c"))
    assert [each.author for each in log.revoked.listed()] == ["b", "c"]


def test_revocation_ends_by_the_clock_alone() -> None:
    now = [NOW.timestamp()]
    known = RevocationSet(lambda: now[0])
    known.replace(1, [revocation(until=NOW + timedelta(seconds=10)), revocation("bob", "general")])
    assert known.forbids("eve", "x")
    assert known.concerns("eve")
    now[0] += 10
    assert not known.forbids("eve", "x")
    assert not known.concerns("eve")
    assert known.listed() == [revocation("bob", "general")]
    assert known.concerns("bob")


def test_list_that_was_read_before_an_own_change_does_not_undo_it() -> None:
    known = RevocationSet()
    assert known.add(5, revocation()) == [revocation()]
    assert known.replace(4, []) == []
    assert known.forbids("eve", None)
    assert known.replace(5, [revocation(), revocation("bob")]) == [revocation("bob")]
    known.discard(6, "eve", None)
    assert not known.forbids("eve", None)


NAMES = st.sampled_from(["a", "b"])
CHANNELS = st.sampled_from([None, "c", "d"])


@given(st.lists(st.tuples(st.booleans(), NAMES, CHANNELS), max_size=12))
def test_set_says_what_the_last_change_of_each_pair_says(steps: list[tuple[bool, str, str | None]]) -> None:
    known, model = RevocationSet(), set()
    for version, (revoked, author, channel) in enumerate(steps, 1):
        if revoked:
            known.add(version, revocation(author, channel))
            model.add((author, channel))
        else:
            known.discard(version, author, channel)
            model.discard((author, channel))
    for author in ("a", "b"):
        assert known.concerns(author) is any(name == author for name, _ in model)
        for channel in (None, "c", "d"):
            assert known.forbids(author, channel) is ((author, None) in model or (author, channel) in model)


async def test_watch_goes_on_when_the_log_was_away() -> None:
    known, told = RevocationSet(), asyncio.Event()
    listed: list[Revocation] = []
    looks = 0

    async def version() -> int:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise Unavailable
        return len(listed)

    async def read() -> tuple[int, list[Revocation]]:
        return len(listed), listed

    watch = RevocationWatch(version, read, known, lambda found: told.set())
    await watch.start()
    listed.append(revocation())
    watch.hint()
    async with asyncio.timeout(5):
        await told.wait()
    await watch.stop()
    assert looks > 2
    assert known.forbids("eve", None)


async def test_revocations_take_turns_and_posts_come_in_between(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("message_log.sql.REVOKING_MAX", 20)
    log = SqlMessageLog(sqlite_url)
    await log.open(Recorder())
    outcomes = []

    async def revoking(number: int) -> None:
        try:
            await log.revoke(revocation(str(number)))
            outcomes.append("revoked")
        except Unavailable:
            outcomes.append("refused")

    tasks = [asyncio.ensure_future(revoking(number)) for number in range(30)]
    await asyncio.sleep(0)
    assert outcomes == ["refused"] * 10
    await log.append(Draft("general", "ada", "x"))
    assert outcomes.count("revoked") < 5, "a post waits for the one that is under way, not for all of them"
    await asyncio.gather(*tasks)
    assert outcomes.count("revoked") == 20
    await log.close()


def remove_file(location: str) -> None:
    Path(location).unlink()


async def test_revocation_in_a_file_that_was_removed_is_not_acknowledged(sqlite_url: str) -> None:
    log = SqlMessageLog(sqlite_url)
    await log.open(Recorder())
    remove_file(log.location)
    with pytest.raises(Unavailable):
        await log.revoke(revocation())
    assert log.revoked.listed() == []
    await log.close()
