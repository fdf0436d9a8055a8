"""Threads that run calls for the loop: results, errors, and those for whom nobody waits any more."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from message_log.reader_threads import ReaderThreads


@pytest.fixture
def threads() -> Iterator[ReaderThreads]:
    threads = ReaderThreads(2)
    yield threads
    threads.stop()


async def test_results_and_errors_come_back(threads: ReaderThreads) -> None:
    def fail() -> None:
        raise KeyError("no")

    assert await threads.run(lambda: threading.current_thread().name.startswith("raqcoon-reader"))
    with pytest.raises(KeyError):
        await threads.run(fail)
    assert await asyncio.gather(*(threads.run(lambda number=number: number) for number in range(50))) == [*range(50)]


async def test_so_many_run_at_the_same_time(threads: ReaderThreads) -> None:
    together = threading.Barrier(2)
    await asyncio.gather(threads.run(lambda: together.wait(5)), threads.run(lambda: together.wait(5)))


async def test_call_for_which_nobody_waits_is_not_begun(threads: ReaderThreads) -> None:
    go_on = threading.Event()
    begun: list[int] = []
    blocking = [threads.run(lambda: go_on.wait(5)) for _ in range(2)]
    left, stayed = threads.run(lambda: begun.append(1)), threads.run(lambda: begun.append(2))
    left.cancel()
    go_on.set()
    await asyncio.gather(*blocking, stayed)
    assert begun == [2]


async def test_stop_lets_calls_finish_and_ends_the_threads(threads: ReaderThreads) -> None:
    thread = await threads.run(threading.current_thread)
    answer = threads.run(lambda: 7)
    await asyncio.to_thread(threads.stop)
    threads.stop()
    assert await answer == 7
    assert not thread.is_alive()


def test_loop_that_has_been_closed_meanwhile_is_left_alone() -> None:
    threads = ReaderThreads(1)
    go_on = threading.Event()

    async def leave() -> None:
        threads.run(lambda: go_on.wait(5)).cancel()
        threads.run(lambda: go_on.wait(5))

    asyncio.run(leave())
    go_on.set()
    threads.stop()
