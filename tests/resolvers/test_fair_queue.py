"""Who is let in when: bounds, turns of clients and of their connections, clients that give up."""

import asyncio

from resolvers.fair_queue import Client, FairQueue


async def enter_in_order(queue: FairQueue, *clients: Client) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(queue.enter(client)) for client in clients]
    await asyncio.sleep(0)
    return tasks


def inside(tasks: list[asyncio.Task[None]]) -> list[int]:
    return [index for index, task in enumerate(tasks) if task.done()]


async def leave(queue: FairQueue, client: Client) -> None:
    queue.leave(client)
    await asyncio.sleep(0)


async def test_client_has_no_more_places_than_it_may_though_others_are_free() -> None:
    queue = FairQueue(4, 2)
    one, other = Client("one"), Client("other")
    tasks = await enter_in_order(queue, one, one, one, other)
    assert inside(tasks) == [0, 1, 3]
    assert len(queue) == 1
    await leave(queue, one)
    assert inside(tasks) == [0, 1, 2, 3]


async def test_clients_take_turns_however_many_places_one_of_them_waits_for() -> None:
    queue = FairQueue(1, 1)
    many, few = Client("many"), Client("few")
    tasks = await enter_in_order(queue, *[many] * 100, few, few)
    assert inside(tasks) == [0]
    await leave(queue, many)
    await leave(queue, many)
    assert inside(tasks) == [0, 1, 100], "the other client's first place comes second"
    await leave(queue, few)
    await leave(queue, many)
    assert inside(tasks) == [0, 1, 2, 100, 101]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_connections_of_one_client_take_turns() -> None:
    queue = FairQueue(1, 1)
    first, second = Client("one", 1), Client("one", 2)
    tasks = await enter_in_order(queue, *[first] * 50, second)
    await leave(queue, first)
    await leave(queue, first)
    assert inside(tasks) == [0, 1, 50]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_places_that_are_given_up_are_passed_over_and_kept_for_nobody() -> None:
    queue = FairQueue(1, 1)
    clients = [Client(number) for number in range(3000)]
    tasks = await enter_in_order(queue, *clients)
    for task in tasks[1:-1]:
        task.cancel()
    await asyncio.gather(*tasks[1:-1], return_exceptions=True)
    await leave(queue, clients[0])
    assert tasks[-1].done()
    await leave(queue, clients[-1])
    # One that is cancelled in the very step in which it was let in leaves again.
    [first, second, third] = await enter_in_order(queue, *clients[:3])
    queue.leave(clients[0])
    second.cancel()
    await asyncio.gather(first, second, third, return_exceptions=True)
    assert second.cancelled()
    assert third.done()
    assert not third.cancelled()
    queue.leave(clients[2])
    assert len(queue) == 0
    assert not queue._inside
