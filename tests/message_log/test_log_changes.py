"""What the protocol promises of changes, held by every implementation."""

import asyncio
from datetime import UTC, datetime, timedelta, tzinfo

import pytest

from changes import ChangeDraft, MessageChange, MessageChangeKind, apply_change
from errors import BadUserInput, Forbidden, IdempotencyConflict, MessageComplete, RaqcoonError, RevisionConflict
from message_log.sql import SqlMessageLog
from messages import Draft, Message
from tests.message_log.recorder import Recorder, append, everything, post

APPENDED, COMPLETED, EDITED, ERASED = MessageChangeKind


def piece(revision: int, text: str, of: int = 1, **more: object) -> ChangeDraft:
    return ChangeDraft("general", of, APPENDED, revision=revision, text=text, **more)  # type: ignore[arg-type]


def edit(text: str, of: int = 1, **more: object) -> ChangeDraft:
    return ChangeDraft("general", of, EDITED, text=text, **more)  # type: ignore[arg-type]


def erase(of: int = 1, **more: object) -> ChangeDraft:
    return ChangeDraft("general", of, ERASED, **more)  # type: ignore[arg-type]


async def grow(log: SqlMessageLog, *pieces: str, content: str = "It", **more: object) -> Message:
    """A message that grows by these pieces, one after the other."""
    draft = Draft("general", "ada", content, complete=False, **more)  # type: ignore[arg-type]
    message = (await log.append(draft)).message
    for text in pieces:
        message = (await log.change(piece(message.revision, text, message.sequence))).message
    return message


async def all_changes(log: SqlMessageLog, channel_id: str = "general") -> list[MessageChange]:
    return list(await log.changes.read(channel_id, after=0, limit=10_000, max_bytes=10**8))  # type: ignore[arg-type]


async def test_message_grows_piece_by_piece_and_every_reader_sees_what_is_there(
    log: SqlMessageLog, recorder: Recorder
) -> None:
    message = await grow(log, " was", " a dark ", "and stormy\n", "night 🌩")
    assert message.content == "It was a dark and stormy\nnight 🌩"
    assert (message.revision, message.complete) == (4, False)
    assert await log.message("general", 1) == message
    assert await everything(log) == [message]
    assert (await log.history("general", limit=5, backwards=True)).messages == [message]
    assert await log.oldest_of_all(limit=5) == [message]
    found = await all_changes(log)
    assert [(change.sequence, change.kind, change.revision, change.piece) for change in found] == [
        (1, APPENDED, 1, " was"),
        (2, APPENDED, 2, " a dark "),
        (3, APPENDED, 3, "and stormy\n"),
        (4, APPENDED, 4, "night 🌩"),
    ]
    assert {change.author for change in found} == {"ada"}
    assert recorder.changes == found
    assert await log.changes.last_sequence("general") == 4
    assert await log.changes.last_sequences(["general", "other"]) == {"general": 4}


async def test_append_that_completes_is_two_changes(log: SqlMessageLog) -> None:
    await grow(log, " was")
    done = (await log.change(piece(1, " night.", complete=True, token_count=9))).message
    assert (done.content, done.revision, done.complete, done.token_count) == ("It was night.", 3, True, 9)
    assert [change.kind for change in await all_changes(log)] == [APPENDED, APPENDED, COMPLETED]
    assert await log.message("general", 1) == done
    assert (await log.totals()).tokens == 9
    with pytest.raises(MessageComplete):
        await log.change(piece(3, "More"))


async def test_long_message_in_many_pieces_is_byte_for_byte_what_was_sent(log: SqlMessageLog) -> None:
    pieces = [f"{number}-é😀 " * 3 for number in range(400)]
    first = (await log.append(Draft("general", "ada", "begin ", complete=False))).message
    sent = [piece(first.revision + number, text) for number, text in enumerate(pieces)]
    done = await asyncio.gather(*map(log.change, sent))  # they wait at the same time
    assert done[-1].message.content == "begin " + "".join(pieces)
    assert await log.message("general", 1) == done[-1].message
    assert [change.revision for change in await all_changes(log)] == list(range(1, 401))


async def test_change_and_message_converge_whatever_moment_was_read(log: SqlMessageLog) -> None:
    seen = [await grow(log)]
    seen += [(await log.change(piece(number, f"<{number}>" * 40))).message for number in range(60)]
    seen.append((await log.change(ChangeDraft("general", 1, COMPLETED))).message)
    seen.append((await log.change(edit("shorter"))).message)
    found = await all_changes(log)
    for begun in seen:
        message = begun
        for change in [*found, *found]:
            message = apply_change(message, change)
        assert message == seen[-1]


async def test_append_with_another_revision_is_refused_with_the_one_it_has(log: SqlMessageLog) -> None:
    await grow(log, " was", " dark")
    for revision in (0, 1, 3, 2**31 - 1):
        with pytest.raises(RevisionConflict) as refusal:
            await log.change(piece(revision, "other"))
        assert refusal.value.extensions == {"code": "REVISION_CONFLICT", "revision": 2}
    assert await log.changes.last_sequence("general") == 2


async def test_append_that_comes_again_is_answered_with_the_message_as_it_is(log: SqlMessageLog) -> None:
    await grow(log, " was", " dark")
    for draft, of in ((piece(0, " was"), 2), (piece(1, " dark"), 2)):
        again = await log.change(draft)
        assert (again.created, again.message.revision) == (False, of)
    await log.change(ChangeDraft("general", 1, COMPLETED, by="reader"))
    assert not (await log.change(piece(1, " dark"))).created
    with pytest.raises(MessageComplete):
        await log.change(piece(1, " light"))
    outcomes = await asyncio.gather(*(log.change(piece(2, " x")) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(outcome, MessageComplete) for outcome in outcomes)


async def test_same_pieces_that_wait_together_are_one(log: SqlMessageLog) -> None:
    await grow(log)
    outcomes = await asyncio.gather(*(log.change(piece(0, " was")) for _ in range(10)))
    assert [outcome.created for outcome in outcomes].count(True) == 1
    assert {outcome.message.content for outcome in outcomes} == {"It was"}


async def test_piece_of_another_author_is_refused(log: SqlMessageLog) -> None:
    await grow(log)
    for draft in (piece(0, "!", by="eve", others=False), edit("!", by="eve", others=False)):
        with pytest.raises(Forbidden):
            await log.change(draft)
    assert (await log.change(piece(0, " was", by="ada", others=False))).created
    assert await log.changes.last_sequence("general") == 1


async def test_piece_that_exceeds_the_bound_is_refused(log: SqlMessageLog) -> None:
    await grow(log, content="é" * 40)
    with pytest.raises(BadUserInput) as refusal:
        await log.change(piece(0, "é" * 11, content_bytes_max=101))
    assert refusal.value.argument == "piece"
    assert (await log.change(piece(0, "é" * 10, content_bytes_max=100))).message.text_bytes == 100


@pytest.mark.parametrize("place", [("general", 2), ("other", 1), ("nowhere", 1), ("general", 2**53 - 1)])
async def test_change_of_a_message_that_is_not_there_is_refused_and_makes_no_channel(
    log: SqlMessageLog, place: tuple[str, int]
) -> None:
    await post(log, "x")
    for kind, text, revision in (
        (APPENDED, "x", 0),
        (EDITED, "x", None),
        (COMPLETED, None, None),
        (ERASED, None, None),
    ):
        with pytest.raises(BadUserInput) as refusal:
            await log.change(ChangeDraft(*place, kind, text=text, revision=revision))
        assert refusal.value.argument == "id"
    assert [head.channel_id for head in await log.channels(limit=10)] == ["general"]


async def test_edit_is_what_is_read_from_then_on(log: SqlMessageLog) -> None:
    await append(log, Draft("general", "ada", "helo", "main", "openai", 3, "k"))
    edited = (await log.change(edit("hello", revision=0, by="moderator"))).message
    assert (edited.content, edited.revision, edited.author, edited.lane) == ("hello", 1, "ada", "main")
    assert edited.edited_at is not None
    assert edited.edited_at.tzinfo is UTC
    assert await log.message("general", 1) == edited
    (change,) = await all_changes(log)
    assert (change.kind, change.content, change.author, change.timestamp) == (
        EDITED,
        "hello",
        "moderator",
        edited.edited_at,
    )
    with pytest.raises(RevisionConflict):
        await log.change(edit("bye", revision=0))


async def test_repeat_of_a_key_compares_with_what_was_posted(log: SqlMessageLog) -> None:
    draft = Draft("general", "ada", "helo", "main", "openai", 3, "k")
    growing = Draft("general", "ada", "begin", idempotency_key="g", complete=False)
    await append(log, draft, growing)
    await log.change(edit("hello"))
    for number in range(3):
        await log.change(piece(number, "x" * 3000, of=2))
        repeat = await log.append(growing)
        assert (repeat.created, repeat.message.revision) == (False, number + 1)
    repeat = await log.append(draft)
    assert (repeat.created, repeat.message.content) == (False, "hello")
    assert await log.repeated(draft) == repeat.message
    await log.change(erase())
    assert (await log.append(draft)).message.content == ""
    for other in (
        Draft("general", "ada", "hello", "main", "openai", 3, "k"),
        Draft("general", "ada", "x", None, None, 0, "g"),
    ):
        with pytest.raises(IdempotencyConflict):
            await log.append(other)
        with pytest.raises(IdempotencyConflict):
            await log.repeated(other)


async def test_erased_message_keeps_its_number_and_loses_everything_else(log: SqlMessageLog) -> None:
    await grow(log, " secret-1", " secret-2", lane="main", provider="openai", token_count=4)
    await log.change(edit("secret-3"))
    erased = (await log.change(erase(by="ada"))).message
    assert (erased.content, erased.lane, erased.provider, erased.token_count) == ("", None, None, None)
    assert (erased.sequence, erased.author, erased.complete, erased.revision) == (1, "ada", True, 4)
    assert erased.erased_at is not None
    assert await log.message("general", 1) == erased
    assert [(c.kind, c.piece, c.content) for c in await all_changes(log)] == [
        (APPENDED, None, None),
        (APPENDED, None, None),
        (EDITED, None, None),
        (ERASED, None, None),
    ]
    assert (await log.totals()).messages == 1
    assert not (await log.change(erase())).created
    for draft, code in ((edit("back"), BadUserInput), (piece(4, "back"), MessageComplete)):
        with pytest.raises(code):
            await log.change(draft)
    assert (await post(log, "next"))[0].sequence == 2


async def test_erasure_that_takes_the_name_leaves_none_of_it(log: SqlMessageLog) -> None:
    await append(log, Draft("general", "ada", "one", idempotency_key="k"), Draft("general", "bob", "two"))
    await log.change(edit("uno"))
    await log.change(edit("due", of=2, by="ada"))
    for of in (1, 2):
        await log.change(erase(of, by="root", forgets_author=True))
    assert {message.author for message in await everything(log)} == {"erased"}
    assert [change.author for change in await all_changes(log)] == ["erased", "ada", "root", "root"]
    # The key went with the name: what bears it now is a new post.
    assert (await log.append(Draft("general", "ada", "again", idempotency_key="k"))).created
    assert (await log.append(Draft("general", "erased", "again", idempotency_key="k"))).created


async def test_posts_and_changes_of_one_batch_all_count(log: SqlMessageLog, recorder: Recorder) -> None:
    await grow(log)
    outcomes = await asyncio.gather(
        *(log.append(Draft("general", "bob", str(n))) for n in range(5)),
        *(log.change(piece(n, str(n))) for n in range(5)),
        log.change(piece(0, "late")),
        *(log.append(Draft("other", "bob", str(n))) for n in range(5)),
        return_exceptions=True,
    )
    refusals = [outcome for outcome in outcomes if isinstance(outcome, RaqcoonError)]
    assert [type(refusal) for refusal in refusals] == [RevisionConflict]
    assert (await log.message("general", 1) or outcomes).content == "It01234"
    assert await log.last_sequences(["general", "other"]) == {"general": 6, "other": 5}
    assert recorder.messages[-1] in await everything(log, "other")


async def test_messages_that_nobody_has_touched_are_found(log: SqlMessageLog) -> None:
    await grow(log, " was")
    await grow(log, content="two")
    await post(log, "complete")
    soon = datetime.now(UTC) + timedelta(minutes=1)
    assert sorted(await log.growing_since(soon, limit=10)) == [("general", 1, 1), ("general", 2, 0)]
    assert await log.growing_since(soon - timedelta(hours=1), limit=10) == []
    await log.change(ChangeDraft("general", 1, COMPLETED, revision=1))
    with pytest.raises(RevisionConflict):
        await log.change(ChangeDraft("general", 2, COMPLETED, revision=7))
    assert await log.growing_since(soon, limit=10) == [("general", 2, 0)]


@pytest.mark.parametrize("off_by", [timedelta(days=-1), timedelta(days=1)])
async def test_clock_of_a_node_that_is_wrong_completes_nothing(
    off_by: timedelta, postgres_url: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = SqlMessageLog(postgres_url, now=lambda: datetime.now(UTC) + off_by)
    await wrong.open(recorder)
    await grow(wrong, " was")
    await wrong.close()
    right = SqlMessageLog(postgres_url)
    await right.open(recorder)
    now = datetime.now(UTC)
    assert await right.growing_since(now - timedelta(minutes=10), limit=10) == []
    assert await right.growing_since(now + timedelta(minutes=10), limit=10) == [("general", 1, 1)]

    class WrongClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "WrongClock":
            return super().now(tz) + off_by

    # The node that looks for such messages may be the one whose clock is wrong.
    monkeypatch.setattr("message_log.sql_reads.datetime", WrongClock)
    assert await right.growing_since(WrongClock.now(UTC) - timedelta(minutes=10), limit=10) == []
    await right.close()


async def test_retention_takes_changes_with_their_messages(log: SqlMessageLog) -> None:
    for number in range(6):
        await grow(log, f"{number}", "!")
    await log.change(edit("late", of=1))
    assert await log.remove_before("general", 4, batch=2) == 3
    found = await all_changes(log)
    assert found[0].sequence == await log.changes.oldest_sequence("general") == 7
    assert [change.message_sequence for change in found] == [4, 4, 5, 5, 6, 6, 1]
    soon = datetime.now(UTC) + timedelta(minutes=1)
    assert len(await log.growing_since(soon, limit=10)) == 3
    await log.remove_before("general", 7)
    assert await log.changes.oldest_sequence("general") == 14
    assert await log.changes.last_sequence("general") == 13


async def test_draft_that_the_database_refuses_fails_alone_among_posts_and_changes(
    log: SqlMessageLog, recorder: Recorder
) -> None:
    await append(log, Draft("general", "ada", "one"), Draft("general", "ada", "two"), Draft("general", "ada", "three"))
    outcomes = await asyncio.gather(
        log.append(Draft("general", "ada", "four")),
        log.change(edit("one, edited", 1)),
        log.append(Draft("general", "ada", "refused", token_count=2**70)),
        log.change(erase(2)),
        log.change(piece(0, "refused", 2**70)),
        log.append(Draft("general", "ada", "five")),
        log.change(edit("three, edited", 3)),
        return_exceptions=True,
    )
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, False, True, False, True, False, False]
    assert [(m.sequence, m.content) for m in await everything(log)] == [
        (1, "one, edited"),
        (2, ""),
        (3, "three, edited"),
        (4, "four"),
        (5, "five"),
    ]
    made = await all_changes(log)
    assert [(change.sequence, change.message_sequence) for change in made] == [(1, 1), (2, 2), (3, 3)]
    assert recorder.changes == made
    assert [message.sequence for message in recorder.messages] == [1, 2, 3, 4, 5]
