"""What cohorts keep of their results, and that it stays within the bound of them all."""

import asyncio
import tracemalloc
from datetime import UTC, datetime

import orjson

from delivery.budget import CacheBudget
from delivery.cohort import KEPT_OVERHEAD_BYTES, Cohort
from messages import Message
from tests.delivery.recorder import render

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def messages(first: int, count: int) -> list[Message]:
    return [Message("c", first + n, "a", "x" * 100, None, None, None, NOW, "e") for n in range(count)]


def kept_bytes(payload: bytes) -> int:
    return len(payload) + KEPT_OVERHEAD_BYTES


async def test_results_kept_stay_within_the_whole_though_most_cohorts_are_idle() -> None:
    budget = CacheBudget(10_000, 1_000)
    cohorts = []
    for number in range(40):
        cohort = Cohort(number, None, render, budget)
        budget.add(cohort)
        cohorts.append(cohort)
        await cohort.encode(messages(1, 20))  # 5,000 bytes, of which a share is kept
        assert sum(each._kept_bytes for each in cohorts) == budget.kept_bytes <= 10_000
        assert all(sum(map(kept_bytes, each._kept.values())) == each._kept_bytes for each in cohorts)
    assert max(each._kept_bytes for each in cohorts) <= 1_000
    for cohort in cohorts:
        budget.remove(cohort)
    assert (len(budget), budget.kept_bytes) == (0, 0)


async def test_cohort_that_ends_while_it_executes_keeps_nothing() -> None:
    budget = CacheBudget(10_000, 1_000)
    gate = asyncio.Event()

    async def slow(message: Message) -> bytes:
        await gate.wait()
        return render(message)

    cohort = Cohort("key", None, slow, budget)
    budget.add(cohort)
    encoding = asyncio.create_task(cohort.encode(messages(1, 3)))
    await asyncio.sleep(0)
    budget.remove(cohort)
    gate.set()
    assert len((await encoding).payloads) == 3
    assert budget.kept_bytes == 0


async def test_result_kept_is_not_executed_again() -> None:
    executed: list[int] = []

    def counted(message: Message) -> bytes:
        executed.append(message.sequence)
        return render(message)

    budget = CacheBudget(100_000, 10_000)
    cohort = Cohort("key", None, counted, budget)
    budget.add(cohort)
    await cohort.encode(messages(1, 10))
    await cohort.encode(messages(6, 5))
    assert executed == list(range(1, 11))
    await cohort.encode(messages(1, 12))
    assert executed == [*range(1, 11), 11, 12]


async def test_results_kept_take_the_memory_that_is_accounted_for_them() -> None:
    budget = CacheBudget(10_000_000, 10_000_000)
    cohort = Cohort("key", None, lambda message: orjson.dumps({"sequence": message.sequence}), budget)
    budget.add(cohort)
    batch = messages(1, 2_000)
    tracemalloc.start()
    await cohort.encode(batch)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < budget.kept_bytes * 1.1
