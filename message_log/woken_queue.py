"""A queue from the event loop to one thread. Waking the thread does not make it wait for the GIL."""

import os
import selectors
from collections import deque
from queue import Empty
from typing import Generic, TypeVar

T = TypeVar("T")


class WokenQueue(Generic[T]):
    """What the writer needs of `queue.SimpleQueue`: several may put, one thread gets, in the order of the calls.

    `SimpleQueue.put` wakes its reader while it holds the GIL. If both threads share a core, the system often runs the
    reader at once. It finds the GIL taken, sleeps again, and has to be woken a second time. Here the reader is woken by
    a byte in a pipe. Python releases the GIL for that system call, so the reader can go on at once.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._sleeps = False
        """The reader has found nothing and waits for a byte."""
        self._reads, self._writes = os.pipe()
        self._selector: selectors.BaseSelector | None = None

    def put(self, *items: T) -> None:
        """Adds items. The reader finds them together. After `close` nobody takes them."""
        self._items.extend(items)
        if self._sleeps:
            self._sleeps = False
            os.write(self._writes, b"\0")

    def get(self, timeout: float | None = None) -> T:
        """The next item; waits for it, or at most `timeout` seconds.

        Raises:
            queue.Empty: none came in time.
        """
        while not self._items:
            # The order matters: what is put after this line is either seen by the next line, or writes a byte.
            self._sleeps = True
            if not self._items:
                if timeout is not None and not self._readable(timeout):
                    self._sleeps = False
                    if self._items:  # It was put just now. Its byte only makes a later read return early.
                        break
                    raise Empty
                os.read(self._reads, 4096)
            self._sleeps = False
        return self._items.popleft()

    def qsize(self) -> int:
        """How many items wait."""
        return len(self._items)

    def get_nowait(self) -> T:
        """The next item.

        Raises:
            queue.Empty: there is none.
        """
        if not self._items:
            raise Empty
        return self._items.popleft()

    def close(self) -> None:
        """Closes the pipe. The reader calls it when it ends. Idempotent."""
        self._sleeps = False
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        if self._reads >= 0:
            os.close(self._reads)
            os.close(self._writes)
            self._reads = self._writes = -1

    def _readable(self, timeout: float) -> bool:
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
            self._selector.register(self._reads, selectors.EVENT_READ)
        return bool(self._selector.select(timeout))
