"""A few threads that run calls for an event loop."""

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")

_Call = tuple["asyncio.Future[Any]", Callable[[], Any]]


class ReaderThreads:
    """Does what `ThreadPoolExecutor` does, for a third of the CPU. The executor makes two futures, two callbacks and
    four locks for each call, which cost as much as a short query.

    Args:
        count: how many calls run at the same time. Further calls wait, in the order in which they came.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads: list[Thread] = []

    def run(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        """What `call` returns or raises. If the future is done before, the call is not begun, or its result is lost."""
        if not self._threads:
            self._threads = [
                Thread(target=self._work, name=f"raqcoon-reader_{number}", daemon=True) for number in range(self._count)
            ]
            for thread in self._threads:
                thread.start()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put((future, call))
        return future

    def stop(self) -> None:
        """Runs what waits and ends the threads. It blocks until then. Idempotent."""
        threads, self._threads = self._threads, []
        for _ in threads:
            self._calls.put(None)
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            _run(*item)
            del item  # The result holds what was read, so it must not be kept until the next call.


def _run(future: "asyncio.Future[Any]", call: Callable[[], Any]) -> None:
    if future.done():
        return
    result: Any = None
    error: BaseException | None = None
    try:
        result = call()
    except BaseException as raised:
        error = raised
    try:
        future.get_loop().call_soon_threadsafe(_tell, future, result, error)
    except RuntimeError:
        pass  # The loop is closed, so nobody waits.
    finally:
        error = None  # The error refers to this frame, and this frame to the error: such a cycle must not stay.


def _tell(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
