"""Many cohorts in one channel: they share results, the largest is served first, and there is a bound on them."""

import pytest

from delivery.hub import Hub
from delivery.shares import CohortBounds
from delivery.sink import Batch
from delivery.subscriber import Subscriber
from errors import TooManyFilters
from messages import Message, MessageFilter
from tests.delivery.recorder import Recorder, render
from tests.delivery.test_hub import post, running


def by(author: object) -> MessageFilter:
    return MessageFilter(authors=frozenset({f"{author}", "ann"}))


async def join(
    hub: Hub, filter: MessageFilter | None, *, client: object = None, cohort: object = 0, sink: Recorder | None = None
) -> Subscriber:
    return await hub.subscribe(
        "c", None, cohort=cohort, filter=filter, render=render, sink=sink or Recorder(), client=client
    )


async def test_filters_choose_from_results_that_are_made_once() -> None:
    executed: list[int] = []

    def counted(message: Message) -> bytes:
        executed.append(message.sequence)
        return render(message)

    async with running() as (log, hub):
        sinks = [Recorder() for _ in range(100)]
        subscribers = [
            await hub.subscribe("c", None, cohort=0, filter=by(number), render=counted, sink=sink)
            for number, sink in enumerate(sinks)
        ]
        assert len(hub.channels["c"].cohorts) == 100
        assert hub.cohorts == 1
        await post(log, "one", "two")
        for sink in sinks:
            await sink.reached(2)
        assert executed == [1, 2]
        for subscriber in subscribers:
            subscriber.close()
        assert hub.cohorts == 0


class Ordered(Recorder):
    """Notes when it was written to, among others."""

    def __init__(self, order: list[str], name: str) -> None:
        super().__init__()
        self.order = order
        self.name = name

    def _take(self, batch: Batch) -> None:
        self.order.append(self.name)
        super()._take(batch)


async def test_largest_cohort_is_served_first() -> None:
    order: list[str] = []
    async with running() as (log, hub):
        subscribers = [await join(hub, by(number), sink=Ordered(order, "few")) for number in range(300)]
        last = Ordered(order, "many")
        subscribers += [
            await join(hub, None, sink=sink) for sink in (*(Ordered(order, "many") for _ in range(4)), last)
        ]
        await post(log, "x")
        await last.reached(1)
        assert order[:5] == ["many"] * 5
        for subscriber in subscribers:
            subscriber.close()


async def test_client_that_opens_one_cohort_too_many_is_refused_and_others_are_not() -> None:
    async with running(bounds=CohortBounds(channel=8, client=3)) as (log, hub):
        first = [await join(hub, by(number), client="one") for number in range(3)]
        with pytest.raises(TooManyFilters) as refused:
            await join(hub, by(3), client="one")
        assert "3" in str(refused.value)
        # What is there already costs nothing more, and no filter is counted apart from filters.
        first += [await join(hub, by(0), client="one"), await join(hub, None, client="one")]
        others = [await join(hub, by(3 + number), client=f"other {number}") for number in range(5)]
        with pytest.raises(TooManyFilters):
            await join(hub, by(9), client="late")
        others += [await join(hub, by(7), client="late"), await join(hub, None, client="late", cohort=1)]
        await post(log, "x")
        # A cohort is counted until its last member has left, whoever opened it.
        first[0].close()
        with pytest.raises(TooManyFilters):
            await join(hub, by(10), client="one")
        first[3].close()
        first.append(await join(hub, by(10), client="one"))
        for subscriber in first + others:
            subscriber.close()
        again = [await join(hub, by(number), client="one") for number in range(3)]
        for subscriber in again:
            subscriber.close()


async def test_refused_subscription_leaves_nothing() -> None:
    async with running(bounds=CohortBounds(channel=0, client=0)) as (_, hub):
        with pytest.raises(TooManyFilters):
            await join(hub, None)
