"""Results: made once for whatever filters choose from them, kept within the bound of them all."""

import asyncio
import dataclasses
import tracemalloc
from datetime import UTC, datetime

import orjson

from delivery.budget import CacheBudget
from delivery.results import KEPT_OVERHEAD_BYTES, Results, Stretch
from delivery.sink import Batch
from messages import Message, MessageFilter
from tests.delivery.recorder import render

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def messages(first: int, count: int) -> list[Message]:
    return [Message("c", first + n, "a", "x" * 100, None, None, None, NOW, "e") for n in range(count)]


async def encode(results: Results, entries: list[Message], filter: MessageFilter | None = None) -> Batch:
    return await Stretch(entries).batch(results, filter)


def kept_bytes(payload: bytes) -> int:
    return len(payload) + KEPT_OVERHEAD_BYTES


async def test_results_kept_stay_within_the_whole_though_most_are_idle() -> None:
    budget = CacheBudget(10_000, 1_000)
    each_results = []
    for number in range(40):
        results = Results(number, render, budget)
        budget.add(results)
        each_results.append(results)
        await encode(results, messages(1, 20))  # 5,000 bytes, of which a share is kept
        assert sum(each._kept_bytes for each in each_results) == budget.kept_bytes <= 10_000
        assert all(sum(map(kept_bytes, each._kept.values())) == each._kept_bytes for each in each_results)
    assert max(each._kept_bytes for each in each_results) <= 1_000
    for results in each_results:
        budget.remove(results)
    assert (len(budget), budget.kept_bytes) == (0, 0)


async def test_results_that_end_while_they_execute_keep_nothing() -> None:
    budget = CacheBudget(10_000, 1_000)
    gate = asyncio.Event()

    async def slow(message: Message) -> bytes:
        await gate.wait()
        return render(message)

    results = Results("key", slow, budget)
    budget.add(results)
    encoding = asyncio.create_task(encode(results, messages(1, 3)))
    await asyncio.sleep(0)
    budget.remove(results)
    gate.set()
    assert len((await encoding).payloads) == 3
    assert budget.kept_bytes == 0


async def test_result_kept_is_not_executed_again() -> None:
    executed: list[int] = []

    def counted(message: Message) -> bytes:
        executed.append(message.sequence)
        return render(message)

    budget = CacheBudget(100_000, 10_000)
    results = Results("key", counted, budget)
    budget.add(results)
    await encode(results, messages(1, 10))
    await encode(results, messages(6, 5))
    assert executed == list(range(1, 11))
    await encode(results, messages(1, 12))
    assert executed == [*range(1, 11), 11, 12]


async def test_results_kept_take_the_memory_that_is_accounted_for_them() -> None:
    budget = CacheBudget(10_000_000, 10_000_000)
    results = Results("key", lambda message: orjson.dumps({"sequence": message.sequence}), budget)
    budget.add(results)
    batch = messages(1, 2_000)
    tracemalloc.start()
    await encode(results, batch)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < budget.kept_bytes * 1.1


async def test_stretch_executes_once_for_all_filters_though_nothing_is_kept() -> None:
    executed: list[int] = []

    def counted(message: Message) -> bytes:
        executed.append(message.sequence)
        return render(message)

    results = Results("key", counted, CacheBudget(0, 0))
    entries = [dataclasses.replace(message, author=f"a{message.sequence % 3}") for message in messages(1, 9)]
    stretch = Stretch(entries)
    batches = {}
    for wanted in ("a0", "a1", "a0 a1", "a0 a1 a2", "nobody", "a1 nobody"):
        batches[wanted] = await stretch.batch(results, MessageFilter(authors=frozenset(wanted.split())))
    batches["all"] = await stretch.batch(results, None)
    assert sorted(executed) == list(range(1, 10))
    assert [entry.sequence for entry in batches["a0 a1"].entries] == [1, 3, 4, 6, 7, 9]
    assert batches["a0 a1"].payloads == [render(entry) for entry in batches["a0 a1"].entries]
    assert batches["a0 a1 a2"] is batches["all"]
    assert batches["a1 nobody"] is batches["a1"], "the same entries are laid out once"
    assert not batches["nobody"].payloads
    assert {batch.position for batch in batches.values()} == {9}


async def test_stretch_tells_apart_what_two_operations_make_of_it() -> None:
    stretch = Stretch(messages(1, 3))
    one, two = (Results(key, lambda _, key=key: key, CacheBudget(0, 0)) for key in (b"one", b"two"))
    assert (await stretch.batch(one, None)).payloads == [b"one"] * 3
    assert (await stretch.batch(two, None)).payloads == [b"two"] * 3
