"""The first process of a server with workers. It starts the others, restarts those that have ended, and holds no
message.

It has no event loop and no thread, and never sees what clients send, so little can make it fail. It waits for file
descriptors: one for signals, and the pipes of its processes.
"""

import json
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from errors import StartupError
from workers.child import CUT_SIGNAL, READY, Lifeline, fork
from workers.listeners import Listeners

logger = logging.getLogger("raqcoon")

PAUSES_SECONDS = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
"""How long to wait before a process that has ended is started again, by how often it has ended lately. The last one
repeats."""
SOUND_SECONDS = 30.0
"""A process that has run for this long was healthy: when it ends, the pauses begin again with the first."""
PAUSE_WORTH_CLOSING_SECONDS = 1.0
"""When the pause is at least this long, connections go to other workers instead of waiting for this one."""
KILL_AFTER_SECONDS = 10.0
"""How much longer than a drain processes may take to end by themselves before they are killed."""


@dataclass(slots=True, eq=False)
class Process:
    """One role in the server, and the process that has it now. Workers have an `index`, from 0; the owner has none."""

    name: str
    run: Callable[[Lifeline], None]
    index: int | None = None
    pid: int | None = None
    status: int | None = None
    said: bytes = b""
    ready: bool = False
    problem: str | None = None
    started_at: float = 0.0
    failures: int = 0
    due_at: float | None = None
    """When it is to be started again."""

    def pause_seconds(self, now: float) -> float:
        """How long to wait until a process is started again that has ended now."""
        if now - self.started_at >= SOUND_SECONDS:
            self.failures = 0
        pause = PAUSES_SECONDS[min(self.failures, len(PAUSES_SECONDS) - 1)]
        self.failures += 1
        return pause


class Supervisor:
    """Runs until SIGTERM or SIGINT, or until the server cannot be started.

    Args:
        workers: what each worker does, by index.
        owner: what the log's owner does; None where there is none.
        listeners: what the workers listen on.
        drain_seconds: how long workers may take to end.
        forked: called in each new process before anything else, with the worker's index, or None for the owner.
        replaces: called with the index of a worker that has ended, before its successor is started.
        started: called once, when all are ready.
    """

    def __init__(
        self,
        workers: list[Callable[[Lifeline], None]],
        owner: Callable[[Lifeline], None] | None,
        listeners: Listeners,
        *,
        drain_seconds: float,
        forked: Callable[[int | None], None],
        replaces: Callable[[int], None],
        started: Callable[[], None],
    ) -> None:
        self._owner = [] if owner is None else [Process("owner", owner)]
        self._workers = [Process(f"worker {index + 1}", run, index) for index, run in enumerate(workers)]
        self._all = [*self._owner, *self._workers]
        self._listeners = listeners
        self._drain_seconds = drain_seconds
        self._forked = forked
        self._replaces = replaces
        self._started = started
        self._death = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._signals, self._wakes = socket.socketpair()
        self._asked_to_end = False
        self._asked_to_cut = False
        self._serving = False

    def run(self) -> None:
        """Returns when all processes have ended.

        Raises:
            StartupError: one of them could not start; none is left.
        """
        with self._signals_watched():
            try:
                self._start_all()
                while not self._asked_to_end:
                    self._step(restart=True)
            finally:
                self._end_all()

    # -- starting and ending ----------------------------------------------------------------------------------

    def _start_all(self) -> None:
        for group in (self._owner, self._workers):
            for process in group:
                self._start(process)
            while not self._asked_to_end and not all(process.ready for process in group):
                self._step()
                for process in group:
                    if process.pid is None:
                        raise StartupError(process.problem or f"the {process.name} ended while it started")
        if not self._asked_to_end:
            self._serving = True
            self._started()

    def _start(self, process: Process) -> None:
        if process.index is not None:
            self._listeners.of(process.index)
        process.due_at = None
        process.ready, process.said, process.problem = False, b"", None
        process.started_at = time.monotonic()
        process.pid, process.status = fork(
            process.name.replace("worker ", "w"), process.run, death=self._death, close=lambda: self._become(process)
        )
        self._selector.register(process.status, selectors.EVENT_READ, process)

    def _become(self, process: Process) -> None:
        """Called in the new process: closes what belongs to the supervisor."""
        self._selector.close()  # Not unregister: both processes have the same one.
        self._signals.close()
        self._wakes.close()
        for other in self._all:
            if other.status is not None:
                os.close(other.status)
        self._listeners.close(but=process.index)
        self._forked(process.index)

    def _end_all(self) -> None:
        self._listeners.close()
        deadline = time.monotonic() + self._drain_seconds + KILL_AFTER_SECONDS
        self._end(self._workers, deadline)
        # The owner ends last: it still has to store the posts that workers have under way.
        self._end(self._owner, time.monotonic() + KILL_AFTER_SECONDS)

    def _end(self, processes: list[Process], deadline: float) -> None:
        self._send(processes, signal.SIGTERM)
        cut = False
        while any(process.pid is not None for process in processes):
            left = deadline - time.monotonic()
            if left <= 0:
                logger.error("processes that do not end are killed")
                self._send(processes, signal.SIGKILL)
                left = 1.0
            if self._asked_to_cut and not cut:
                cut = True
                self._send(processes, CUT_SIGNAL)
            self._step(left)

    def _send(self, processes: list[Process], number: signal.Signals) -> None:
        for process in processes:
            if process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)

    # -- what happens meanwhile -------------------------------------------------------------------------------

    @contextmanager
    def _signals_watched(self) -> Iterator[None]:
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
        self._signals.setblocking(False)
        self._wakes.setblocking(False)
        self._selector.register(self._signals, selectors.EVENT_READ, None)
        for number in numbers:
            signal.signal(number, self._signalled)
        signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._asked_to_cut = self._asked_to_end and number == signal.SIGINT
            self._asked_to_end = True

    def _step(self, timeout_seconds: float | None = None, *, restart: bool = False) -> None:
        """Waits until something happens or the time is over, and does what follows from it."""
        now = time.monotonic()
        waits = [] if timeout_seconds is None else [timeout_seconds]
        if restart:
            waits += [process.due_at - now for process in self._all if process.due_at is not None]
        for key, _ in self._selector.select(max(0.0, min(waits)) if waits else None):
            if key.data is None:
                with suppress(BlockingIOError):
                    self._signals.recv(4096)
            else:
                self._hear(key.data)
        for process in self._all:
            self._see_to_end(process)
        if restart and not self._asked_to_end:
            for process in self._all:
                if process.due_at is not None and process.due_at <= time.monotonic():
                    if process.index is not None:
                        self._replaces(process.index)
                    self._start(process)

    def _hear(self, process: Process) -> None:
        """Reads what a process says about itself."""
        assert process.status is not None
        try:
            said = os.read(process.status, 65536)
        except BlockingIOError:  # Happens only if it has ended and a process that it started still holds the pipe.
            said = b""
        if not said:
            self._selector.unregister(process.status)
            os.close(process.status)
            process.status = None
            return
        *lines, process.said = (process.said + said).split(b"\n")
        for line in lines:
            what = json.loads(line)
            process.ready = process.ready or what["state"] == READY
            process.problem = what.get("problem", process.problem)

    def _see_to_end(self, process: Process) -> None:
        """Notes when a process has ended, and when it is to be started again."""
        if process.pid is None:
            return
        pid, status = os.waitpid(process.pid, os.WNOHANG)
        if not pid:
            return
        while process.status is not None:  # Reads what it still said. This ends, since the process has ended.
            self._hear(process)
        process.pid = None
        if self._asked_to_end or not self._serving:
            return
        code = os.waitstatus_to_exitcode(status)
        why = process.problem or (f"signal {-code}" if code < 0 else f"exit code {code}")
        now = time.monotonic()
        pause = process.pause_seconds(now)
        process.due_at = now + pause
        logger.warning("the %s has ended (%s) and is started again in %g s", process.name, why, pause)
        if process.index is not None and pause >= PAUSE_WORTH_CLOSING_SECONDS:
            self._listeners.pause(process.index)
