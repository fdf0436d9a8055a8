"""The queue that wakes the writer: nothing is lost, nothing is out of order, and nobody waits who need not."""

from collections.abc import Iterator
from queue import Empty
from threading import Thread

import pytest

from message_log.woken_queue import WokenQueue


@pytest.fixture
def queue() -> Iterator[WokenQueue[int]]:
    made: WokenQueue[int] = WokenQueue()
    yield made
    made.close()


def test_items_come_in_the_order_of_the_calls(queue: WokenQueue[int]) -> None:
    queue.put(1, 2)
    queue.put(3)
    assert [queue.get(), queue.get_nowait(), queue.get(0.0)] == [1, 2, 3]
    with pytest.raises(Empty):
        queue.get_nowait()


def test_empty_queue_is_waited_for_no_longer_than_asked(queue: WokenQueue[int]) -> None:
    with pytest.raises(Empty):
        queue.get(0.01)
    queue.put(1)
    assert queue.get(10.0) == 1


def test_reader_that_sleeps_is_woken_for_every_item(queue: WokenQueue[int]) -> None:
    count = 2000
    taken: list[int] = []
    back: WokenQueue[int] = WokenQueue()

    def read() -> None:
        while len(taken) < count:
            taken.append(queue.get(5.0 if len(taken) % 3 else None))
            back.put(taken[-1])

    reader = Thread(target=read, daemon=True)
    reader.start()
    for number in range(count):
        queue.put(number)
        if number % 2:  # The reader is asleep again before the next one is put.
            while back.get(5.0) != number:
                pass
    reader.join(5.0)
    assert taken == list(range(count))
    back.close()


def test_queue_that_is_closed_takes_items_that_nobody_reads(queue: WokenQueue[int]) -> None:
    queue.close()
    queue.put(1)
    queue.close()
