"""A copied log is the same log: messages, keys, totals, epoch. Also from the earlier server's file."""

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from changes import ChangeDraft, MessageChangeKind
from delivery.hubs import Hubs
from errors import StartupError
from message_log.copy import copy_log
from message_log.copy_command import copy_command
from message_log.repairs import Repairs
from message_log.sql import SqlMessageLog
from messages import ANYONE, Draft, Message, Revocation, Totals
from resolvers import history, input_rules
from resolvers.chat import Chat
from tests.message_log.recorder import Recorder, append, everything, post
from tests.message_log.test_log_changes import all_changes
from transports.shims.items import message_item


@pytest.fixture(params=["to sqlite", "to postgresql"])
def target_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "to sqlite":
        return f"sqlite:///{tmp_path}/target.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(params=["from sqlite", "from postgresql"])
def source_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "from sqlite":
        return f"sqlite:///{tmp_path}/source.db"
    return str(request.getfixturevalue("other_postgres_url"))


CHANNELS = ("general", "😀", "emptied", "trimmed")


async def fill(url: str) -> tuple[str, Totals]:
    log = SqlMessageLog(url)
    await log.open(Recorder())
    drafts = [
        Draft(channel_id, f"a{i % 3}", f"\u0001 😀 {i}", "main" if i % 2 else None, "p" if i % 5 else None, i, f"k{i}")
        for channel_id in CHANNELS
        for i in range(25)
    ]
    await append(log, *drafts)
    await log.remove_before("emptied", 100)
    await log.remove_before("trimmed", 11)
    result = log.epoch, await log.totals()
    await log.close()
    return result


async def live(url: str) -> None:
    """Something happens to messages."""
    log = SqlMessageLog(url)
    await log.open(Recorder())
    await log.append(Draft("general", "bot", "It", complete=False, idempotency_key="g"))
    for number in range(9):
        grow = ChangeDraft("general", 26, MessageChangeKind.APPENDED, revision=number, text=f" {number}" * 400)
        await log.change(grow)
    await log.change(ChangeDraft("general", 2, MessageChangeKind.EDITED, text="edited"))
    await log.change(ChangeDraft("general", 3, MessageChangeKind.EDITED, text="erased soon"))
    await log.close()


async def held(url: str) -> dict[str, object]:
    log = SqlMessageLog(url)
    await log.open(Recorder())
    state: dict[str, object] = {channel_id: await everything(log, channel_id) for channel_id in CHANNELS}
    state["changes"] = await all_changes(log)
    state["last changes"] = await log.changes.last_sequences(CHANNELS)
    state["growing"] = await log.growing_since(datetime.now(UTC) + timedelta(days=1), limit=10)
    state |= {"heads": await log.channels(limit=100), "totals": await log.totals(), "epoch": log.epoch}
    await log.close()
    return state


async def test_copy_is_the_same_log_and_goes_on_as_one(source_url: str, target_url: str) -> None:
    await fill(source_url)
    seen: list[tuple[int, int]] = []
    assert copy_log(source_url, target_url, progress=lambda *told: seen.append(told), batch=7) == 65
    assert (seen[0], seen[-1]) == ((0, 65), (65, 65))
    assert await held(target_url) == await held(source_url)
    assert copy_log(source_url, target_url) == 0
    log = SqlMessageLog(target_url)
    await log.open(Recorder())
    (repeat,) = await append(log, Draft("general", "a1", "\u0001 😀 7", "main", "p", 7, "k7"))
    assert (repeat.created, repeat.message.sequence) == (False, 8)
    assert [message.sequence for message in await post(log, "x", channel_id="emptied")] == [26]
    await log.close()
    with pytest.raises(StartupError, match="gone its own way"):
        copy_log(source_url, target_url)


async def test_copy_interrupted_goes_on_where_it_stopped(source_url: str, target_url: str) -> None:
    await fill(source_url)

    def interrupt(held: int, total: int) -> None:
        if held >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_log(source_url, target_url, progress=interrupt, batch=10)
    assert 0 < copy_log(source_url, target_url) < 65
    assert await held(target_url) == await held(source_url)
    log = SqlMessageLog(source_url)
    await log.open(Recorder())
    await post(log, "new", "newer")
    await post(log, "first", channel_id="fresh")
    await log.close()
    assert copy_log(source_url, target_url) == 3
    assert await held(target_url) == await held(source_url)


async def test_copy_into_another_log_is_refused(tmp_path: Path) -> None:
    source, target = f"sqlite:///{tmp_path}/source.db", f"sqlite:///{tmp_path}/target.db"
    await fill(source)
    await fill(target)
    before = await held(target)
    with pytest.raises(StartupError, match="already holds another log"):
        copy_log(source, target)
    assert await held(target) == before


async def test_copy_again_after_retention_went_past_what_was_copied_leaves_no_gap(
    source_url: str, target_url: str
) -> None:
    source = SqlMessageLog(source_url)
    await source.open(Recorder())
    await post(source, *map(str, range(1, 11)))
    await source.close()
    assert copy_log(source_url, target_url) == 10
    await source.open(Recorder())
    await post(source, *map(str, range(11, 31)))
    await source.remove_before("general", 21)
    await source.close()
    assert copy_log(source_url, target_url, batch=3) == 10
    target = SqlMessageLog(target_url)
    await target.open(Recorder())
    assert [message.sequence for message in await everything(target)] == list(range(21, 31))
    assert await target.oldest_sequence("general") == 21
    assert [message.sequence for message in await post(target, "x")] == [31]
    await target.close()


async def test_copy_beside_a_running_server_is_refused(tmp_path: Path) -> None:
    log = SqlMessageLog(f"sqlite:///{tmp_path}/source.db")
    await log.open(Recorder())
    with pytest.raises(StartupError, match="another running server"):
        copy_log(f"sqlite:///{tmp_path}/source.db", f"sqlite:///{tmp_path}/target.db")
    await log.close()


@pytest.mark.parametrize("url", ["sqlite:///absent.db", "nonsense", "mysql://x/y"])
def test_copy_from_nowhere_is_refused(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartupError) as refused:
        copy_log(url, f"sqlite:///{tmp_path}/target.db")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


EARLIER = [
    (1, "general", "ada", "first 😀", "2025-03-01T10:00:00.123456", None, "openai", 5),
    (2, "other", "bob", "second", "2025-03-01 10:00:01", "", "", None),
    (5, "general", "bob", "third", "2025-03-01T12:00:02+02:00", "main", None, 7),
    (9, "general", None, "fourth", 1740823203.5, "main", "openai", 0),
    (10, "other", "ada", "fifth\u0001", 1740823204500, None, None, 1),
]


def write_earlier(path: Path, rows: list[tuple[object, ...]]) -> str:
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, channel_id TEXT, author TEXT, content TEXT, "
        "timestamp, lane TEXT, provider TEXT, token_count INTEGER)"
    )
    connection.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()
    return f"sqlite:///{path}"


async def test_copy_from_the_earlier_server(tmp_path: Path, target_url: str) -> None:
    source = write_earlier(tmp_path / "earlier.db", [*EARLIER])
    assert copy_log(source, target_url, batch=2) == 5
    assert copy_log(source, target_url) == 0
    log = SqlMessageLog(target_url)
    await log.open(Recorder())
    general, other = await everything(log, "general"), await everything(log, "other")
    assert [(m.sequence, m.author, m.content) for m in general] == [
        (1, "ada", "first 😀"),
        (2, "bob", "third"),
        (3, "unknown", "fourth"),
    ]
    assert [(m.sequence, m.content, m.lane, m.provider) for m in other] == [
        (1, "second", None, None),
        (2, "fifth\u0001", None, None),
    ]
    day = datetime(2025, 3, 1, 10, tzinfo=UTC)
    assert [(m.timestamp - day).total_seconds() for m in general] == [0.123456, 2, 3.5]
    assert [(m.timestamp - day).total_seconds() for m in other] == [1, 4.5]
    assert await log.totals() == Totals(5, 13, {"openai": 2}, {"main": 2})
    await log.close()


@pytest.mark.parametrize("timestamp", ["yesterday", None, 1.7e18, float("inf"), -float("inf")])
def test_copy_from_the_earlier_server_names_the_unreadable_message(tmp_path: Path, timestamp: object) -> None:
    source = write_earlier(tmp_path / "earlier.db", [(3, "c", "a", "x", timestamp, None, None, None)])
    with pytest.raises(StartupError, match=f"message 3 has an unreadable timestamp: {re.escape(repr(timestamp))}"):
        copy_log(source, f"sqlite:///{tmp_path}/target.db")


def test_copy_command_tells_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_earlier(tmp_path / "earlier.db", [*EARLIER])
    assert copy_command([source, f"sqlite:///{tmp_path}/target.db"]) == 0
    output = capsys.readouterr()
    assert output.out == "copied 5 messages\n"
    assert "5.00" in output.err


async def test_copy_that_is_run_again_brings_over_what_was_changed_since(source_url: str, target_url: str) -> None:
    await fill(source_url)
    await live(source_url)
    copy_log(source_url, target_url)
    assert await held(target_url) == await held(source_url)
    log = SqlMessageLog(source_url)
    await log.open(Recorder())
    await log.change(ChangeDraft("general", 26, MessageChangeKind.APPENDED, revision=9, text=".", complete=True))
    await log.change(ChangeDraft("general", 3, MessageChangeKind.ERASED))
    await log.change(ChangeDraft("general", 25, MessageChangeKind.EDITED, text="the newest but one"))
    await log.close()
    copy_log(source_url, target_url, batch=2)
    assert await held(target_url) == await held(source_url)
    assert "erased soon" not in str((await held(target_url))["changes"])


async def test_message_that_grows_goes_on_growing_in_the_copy(source_url: str, target_url: str) -> None:
    await fill(source_url)
    await live(source_url)
    if source_url.startswith("sqlite"):
        # There the row is not written with each piece, so it may be as old as the message.
        with closing(sqlite3.connect(source_url.removeprefix("sqlite:///"))) as source, source:
            source.execute("UPDATE growing SET revision = 0, touched_at = touched_at - 3600000000")
    copy_log(source_url, target_url)
    log = SqlMessageLog(target_url)
    await log.open(Recorder())
    long_ago = datetime.now(UTC) - timedelta(minutes=5)
    assert await log.growing_since(long_ago, limit=10) == []
    await log.change(ChangeDraft("general", 26, MessageChangeKind.APPENDED, revision=9, text="."))
    message = await log.message("general", 26)
    assert message is not None
    assert message.revision == 10
    await log.close()


async def test_copy_that_is_run_again_takes_names_from_changes_that_were_copied_before(
    source_url: str, target_url: str
) -> None:
    await fill(source_url)
    log = SqlMessageLog(source_url)
    await log.open(Recorder())
    for number in range(5):
        by = "eve" if number % 2 else "ada"
        await log.change(ChangeDraft("general", 1, MessageChangeKind.EDITED, by=by, text=f"edition {number}"))
    await log.close()
    copy_log(source_url, target_url)
    assert "eve" in str((await held(target_url))["changes"])
    log = SqlMessageLog(source_url)
    await log.open(Recorder())
    assert await log.take_name("eve", "general", 0, 100) == 2
    await log.close()
    copy_log(source_url, target_url, batch=1)
    assert "eve" not in str((await held(target_url))["changes"])
    assert await held(target_url) == await held(source_url)


async def test_copy_takes_revocations_along(source_url: str, target_url: str) -> None:
    await fill(source_url)
    revocation = Revocation("eve", "general", None, datetime(2026, 11, 27, tzinfo=UTC), "ada")
    log = SqlMessageLog(source_url)
    await log.open(Recorder())
    await log.revoke(revocation)
    await log.close()
    copy_log(source_url, target_url)
    copied = SqlMessageLog(target_url)
    await copied.open(Recorder())
    assert copied.revoked.listed() == [revocation]
    await copied.close()


STRANGE = [
    (1, "a b", "ada", "in a channel with a blank", "2025-03-01T10:00:00", None, None, 1),
    (2, "a/b", "ada", "in one with a slash", "2025-03-01T10:00:01", None, None, 2),
    (3, "", "ada", "in one without a name", "2025-03-01T10:00:02", None, None, 3),
    (4, None, "ada", "in none", "2025-03-01T10:00:03", None, None, 4),
    (5, "x" * 200, "ada", "in a long one", "2025-03-01T10:00:04", None, None, 5),
    (6, "x" * 201, "ada", "in a longer one", "2025-03-01T10:00:05", None, None, 6),
    (7, "a_b", "ada", "in a good one", "2025-03-01T10:00:06", None, None, 7),
    (8, "c", "", "of nobody", "2025-03-01T10:00:07", "l" * 70, "p" * 70, 2**31),
    (9, "c", "n" * 200, "", "2025-03-01T10:00:08", "l" * 71, "p\0", -1),
    (10, "c", "ada", "long" * 50_000, "2025-03-01T10:00:09", None, None, 2**31 - 1),
    (11, "c", "ada\0", "nul\0", "2025-03-01T10:00:10", None, None, "many"),
    (12, "c", b"ada", b"bytes", "2025-03-01T10:00:11", b"l", None, None),
]


def write_strange(path: Path) -> str:
    url = write_earlier(path, STRANGE)
    connection = sqlite3.connect(path)
    # No UTF-8: half a character, and a surrogate as CESU-8 writes it.
    for channel_id, content in ((b"d\xe2\x82", b"half"), (b"d", b"lone \xed\xa0\xbd")):
        connection.execute(
            "INSERT INTO messages (channel_id, author, content, timestamp) "
            "VALUES (CAST(? AS TEXT), 'ada', CAST(? AS TEXT), '2025-03-01T10:00:12')",
            (channel_id, content),
        )
    connection.commit()
    connection.close()
    return url


async def test_copy_from_the_earlier_server_makes_everything_reachable_and_tells_how(
    tmp_path: Path, target_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_strange(tmp_path / "earlier.db")
    assert copy_command([source, target_url]) == 3
    told = capsys.readouterr().out
    log = SqlMessageLog(target_url)
    await log.open(Recorder())
    heads = await log.channels(limit=100)
    assert sum(head.last_sequence for head in heads) == len(STRANGE) + 2
    held: dict[str, Message] = {}
    chat = Chat(log, Hubs(log))
    for head in heads:
        listed = await history.messages_page(chat, ANYONE, input_rules.channel_id(head.channel_id), last=50)
        assert len(listed.messages) == head.last_sequence
        for message in listed.messages:
            assert await history.message_by_id(chat, ANYONE, message.id) == message
            assert message_item(message)
            input_rules.author(message.author)
            input_rules.lane(message.lane)
            input_rules.provider(message.provider)
            input_rules.token_count(message.token_count)
            if message.content:
                input_rules.well_formed("content", message.content)
            held[message.content] = message
    assert held["in a good one"].channel_id == "a_b"
    names = {held[content].channel_id for content in ("in a channel with a blank", "in one with a slash")}
    assert len(names) == 2
    assert all(name.startswith("a_b~") for name in names)
    assert held["in one without a name"].channel_id == held["in none"].channel_id
    assert len(held["in a long one"].channel_id) == 128
    assert held["in a long one"].channel_id != held["in a longer one"].channel_id
    assert (held["of nobody"].author, held["of nobody"].token_count) == ("unknown", None)
    assert held["long" * 50_000].token_count == 2**31 - 1
    assert held["nul\ufffd"].author == "ada\ufffd"
    assert held["bytes"].lane == "l"
    assert "d" in held["lone \ufffd\ufffd\ufffd"].channel_id
    totals = await log.totals()
    assert (totals.messages, totals.tokens) == (len(STRANGE) + 2, 1 + 2 + 3 + 4 + 5 + 6 + 7 + 2**31 - 1)
    await log.close()
    for line in (
        "copied 14 messages",
        "6 channels renamed",
        "'a b' is 'a_b~",
        "3 token counts not within 0 to 2147483647, left out: c:1 (2147483648), c:2 (-1), c:4 ('many')",
        '1 authors without a name, called "unknown": c:1',
        "1 texts of author cut to 128 characters: c:2",
        "1 messages without content, kept: c:2",
    ):
        assert line in told
    assert copy_command([source, target_url]) == 3
    assert "copied 0 messages" in capsys.readouterr().out


async def test_copy_repairs_what_an_earlier_copy_took_in(tmp_path: Path, target_url: str) -> None:
    source = f"sqlite:///{tmp_path}/source.db"
    log = SqlMessageLog(source)
    await log.open(Recorder())
    await append(log, Draft("a b", "ada", "x"), Draft("c", "ada", "y"))
    await log.close()
    repairs = Repairs()
    assert copy_log(source, target_url, repairs=repairs) == 2
    assert [finding.count for finding in repairs.changed.values()] == [1]
    log = SqlMessageLog(target_url)
    await log.open(Recorder())
    renamed, whole = await log.channels(limit=9)
    assert (input_rules.channel_id(renamed.channel_id), whole.channel_id) == (renamed.channel_id, "c")
    await log.close()


@pytest.mark.parametrize("timestamp", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_copy_from_the_earlier_server_refuses_a_moment_beyond_the_calendar(tmp_path: Path, timestamp: str) -> None:
    source = write_earlier(tmp_path / "earlier.db", [(3, "c", "a", "x", timestamp, None, None, None)])
    with pytest.raises(StartupError, match="message 3 has an unreadable timestamp"):
        copy_log(source, f"sqlite:///{tmp_path}/target.db")
