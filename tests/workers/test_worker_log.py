"""What a worker's log and its owner do when one of them goes, is slow, or says what cannot be."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from changes import ChangeDraft, MessageChangeKind
from errors import IdempotencyConflict, InternalError, Unavailable
from message_log.protocol import LogListener
from message_log.writer import WriterLimits
from messages import Draft
from tests.message_log.recorder import Recorder, append, everything, post
from tests.message_log.served_log import ServedLog
from workers import link, owner
from workers.frames import HEAD_BYTES, Hello, Kind, Reader, decode, error_of, failure_of, frame
from workers.log import WorkerLog


@asynccontextmanager
async def served(url: str, listener: LogListener | None = None) -> AsyncIterator[ServedLog]:
    log = ServedLog(url)
    await log.open(listener or Recorder())
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def second_worker(log: ServedLog, listener: LogListener) -> AsyncIterator[WorkerLog]:
    other = WorkerLog(log.url, log.socket_path)
    await other.open(listener)
    try:
        yield other
    finally:
        await other.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def test_commit_is_told_to_every_worker_whole_in_order_and_before_its_answer(sqlite_url: str) -> None:
    first, second = Recorder(), Recorder()
    async with served(sqlite_url, first) as log, second_worker(log, second) as other:

        async def poster(worker: WorkerLog, heard: Recorder, number: int) -> None:
            for count in range(20):
                message = (await worker.append(Draft(f"c{count % 3}", f"p{number}", str(count)))).message
                assert message in heard.messages

        await asyncio.gather(*(poster(log, first, n) for n in range(8)), *(poster(other, second, n) for n in range(8)))
        await until(lambda: len(first.messages) == len(second.messages) == 320)
        assert first.commits == second.commits
        assert len(first.commits) < 320  # they are committed in groups, across workers
        for channel_id in ("c0", "c1", "c2"):
            assert [m for m in second.messages if m.channel_id == channel_id] == await everything(log, channel_id)


async def test_owner_gone_posts_are_unavailable_reads_go_on_and_it_all_comes_back(sqlite_url: str) -> None:
    recorder = Recorder()
    async with served(sqlite_url, recorder) as log:
        kept = await post(log, "before")
        under_way = [
            asyncio.ensure_future(log.append(Draft("general", "ada", f"{n}", idempotency_key=f"{n}")))
            for n in range(50)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await log.stop_owner()
        outcomes = await asyncio.gather(*under_way, return_exceptions=True)
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
        with pytest.raises(Unavailable, match="starting again") as refused:
            await log.append(Draft("general", "ada", "while away"))
        assert refused.value.retry_after_ms == link.RETRY_AFTER_MS
        assert not await log.ready()
        assert (await everything(log))[:1] == kept
        await log.start_owner()
        await recorder.gap.wait()  # what was committed meanwhile is to be looked for in the log
        assert await log.ready()
        again = await append(log, *(Draft("general", "ada", f"{n}", idempotency_key=f"{n}") for n in range(50)))
        assert sorted(appended.message.sequence for appended in again) == list(range(2, 52))
        assert [message.sequence for message in await everything(log)] == list(range(1, 52))


async def test_worker_that_does_not_read_is_cut_and_costs_the_others_nothing(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "UNREAD_BYTES_MAX", 1_000_000)
    async with served(sqlite_url) as log:
        stuck = socket.socket(socket.AF_UNIX)
        stuck.setblocking(False)
        await asyncio.get_running_loop().sock_connect(stuck, log.socket_path)
        await until(lambda: len(log.owner.workers) == 2)
        for _ in range(10):
            await post(log, *("x" * 60_000 for _ in range(5)))
        assert len(log.owner.workers) == 1
        assert len(await everything(log)) == 50
        stuck.close()


async def test_owner_that_does_not_read_posts_are_refused_before_they_are_many(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(link, "UNSENT_BYTES_MAX", 1_000_000)
    async with served(sqlite_url) as log:
        epoch = log.epoch
        await log.stop_owner()
        connections = []

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            connections.append(writer)
            writer.write(frame(Kind.HELLO, Hello(1, epoch)))

        server = await asyncio.start_unix_server(greet, log.socket_path)
        await until(lambda: bool(connections))
        tasks = []
        refused = 0
        while not refused:
            tasks.append(asyncio.ensure_future(log.append(Draft("general", "ada", "x" * 60_000))))
            await asyncio.sleep(0.001)
            refused = sum(isinstance(t.exception(), Unavailable) for t in tasks if t.done())
            assert len(tasks) < 100
        connections[0].transport.abort()
        server.close()
        assert all(isinstance(o, Unavailable) for o in await asyncio.gather(*tasks, return_exceptions=True))


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 100,
        frame(Kind.HELLO, Hello(1, "x")),
        b"\0\0\0\x01\x02\xc1",
        frame(Kind.POSTS, {}),
    ],
)
async def test_garbage_costs_whoever_sent_it_the_connection(sqlite_url: str, garbage: bytes) -> None:
    async with served(sqlite_url) as log:
        reader, writer = await asyncio.open_unix_connection(log.socket_path)
        assert await reader.readexactly(HEAD_BYTES)
        writer.write(garbage)
        while await reader.read(1000):
            pass
        writer.close()
        assert len(await post(log, "still there")) == 1


async def test_unknown_method_of_the_log_is_refused_without_a_word_of_why(sqlite_url: str) -> None:
    async with served(sqlite_url) as log:
        for method in ("close", "open", "__class__", "nothing"):
            with pytest.raises(InternalError):
                await log.call(method)


async def test_process_of_another_user_is_turned_away(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(sqlite_url) as log:
        monkeypatch.setattr(owner.os, "geteuid", lambda: 12345)
        reader, writer = await asyncio.open_unix_connection(log.socket_path)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
        writer.close()
        assert len(log.owner.workers) == 1


async def test_log_that_was_replaced_ends_the_worker(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = asyncio.Event()
    monkeypatch.setattr(signal, "raise_signal", lambda number: raised.set())
    async with served(sqlite_url) as log:
        await log.stop_owner()
        monkeypatch.setattr(log, "_epoch", "another")
        await log.start_owner()
        await raised.wait()
        with pytest.raises(Unavailable):
            await log.append(Draft("general", "ada", "x"))


async def test_post_without_an_answer_gives_up_in_time(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ServedLog(sqlite_url, limits=WriterLimits(timeout_seconds=0.2))
    await log.open(Recorder())
    monkeypatch.setattr(log.owner.log, "append_for", lambda draft, poster: None)
    with pytest.raises(Unavailable, match="in time"):
        await log.append(Draft("general", "ada", "x"))
    await log.close()


@pytest.mark.parametrize("error", [Unavailable("No.", 7), IdempotencyConflict()])
def test_errors_travel_with_their_details(error: Exception) -> None:
    other = error_of(failure_of(error))
    assert type(other) is type(error)
    assert (str(other), other.extensions) == (str(error), error.extensions)  # type: ignore[attr-defined]


def test_frames_cut_anywhere_are_read_whole() -> None:
    frames = frame(Kind.HELLO, Hello(1, "e")) + frame(Kind.STORED, list(range(100))) + frame(Kind.HELLO, Hello(2, "f"))
    for size in (1, 2, 3, 7, 100, 1000):
        reader = Reader()
        read = [decode(k, b) for i in range(0, len(frames), size) for k, b in reader.feed(frames[i : i + size])]
        assert read == [Hello(1, "e"), list(range(100)), Hello(2, "f")]


async def test_call_that_cannot_be_sent_leaves_nothing_behind(sqlite_url: str) -> None:
    async with served(sqlite_url) as log:
        with pytest.raises(OverflowError):
            await log.change(ChangeDraft("general", 2**70, MessageChangeKind.ERASED))
        assert log._link is not None
        assert not log._link._calls
