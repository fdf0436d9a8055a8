"""A process that the supervisor starts. It is forked, so that all processes share the memory of what was imported.

It ends when the supervisor ends, for whatever reason: on Linux the kernel kills it, elsewhere it sees the end of a pipe
that only the supervisor holds.
"""

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from errors import StartupError

logger = logging.getLogger("raqcoon.workers")

READY = "ready"
REFUSED_CODE = 2
CUT_SIGNAL = signal.SIGUSR1
"""Tells a process that drains to wait for nobody any more. It is not SIGINT: a terminal sends that to all processes of
a server, and the supervisor passes it on. So it would arrive twice, and the second one means: end at once."""
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


@dataclass(frozen=True, slots=True)
class Lifeline:
    """How a forked process and its supervisor hear of each other: a pipe to the supervisor, and one that ends when the
    supervisor does."""

    status: int
    death: int

    def ready(self) -> None:
        """Tells the supervisor that this process has begun its work. Called on the event loop.

        From now on the loop also watches for the supervisor's end.
        """
        asyncio.get_running_loop().add_reader(self.death, os._exit, 1)
        self._tell({"state": READY})

    def _tell(self, what: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            os.write(self.status, json.dumps(what).encode() + b"\n")

    def refuse(self, problem: str) -> None:
        """Tells the supervisor why this process cannot work at all."""
        self._tell({"state": "refused", "problem": problem[:3000]})


def fork(
    name: str, run: Callable[[Lifeline], None], *, death: tuple[int, int], close: Callable[[], None]
) -> tuple[int, int]:
    """Starts a process that runs `run` and ends; returns its id, and the pipe that its status comes from.

    Where the system lists processes by name (Linux: `ps -C`, `top`), it is called `raqcoon ` and `name`, shortened to
    15 bytes.
    `death` is the pipe that ends with the supervisor: nothing is ever written to it. `close` is called in the new
    process and closes what belongs to the supervisor alone.
    """
    supervisor = os.getpid()
    reads, writes = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.close(writes)
        os.set_blocking(reads, False)
        return pid, reads
    code = 1
    lifeline = Lifeline(writes, death[0])
    try:
        _die_with(supervisor)
        _call_itself(f"raqcoon {name}")
        os.close(reads)
        os.close(death[1])
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        close()
        run(lifeline)
        code = 0
    except StartupError as error:
        lifeline.refuse(str(error))
        code = REFUSED_CODE
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # It must never return into the supervisor's code.


def _die_with(supervisor: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # The supervisor had ended before the kernel was asked.
        os._exit(1)


def _call_itself(name: str) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15])
