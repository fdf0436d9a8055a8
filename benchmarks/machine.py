"""The machine on which the figures are measured, and which core is for what."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE: int | None = _CORES[0] if len(_CORES) > 1 else None
LOAD_CORE: int | None = _CORES[1] if len(_CORES) > 1 else None
"""With a single core nothing is pinned. Then the figures mean little, because server and load take turns."""


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Processes that are started inside run only on this core. None binds nothing."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class RealtimePriority(RuntimeError):
    """Raised under a real-time policy. There, a thread that spins while it waits for another thread of its process
    keeps that thread from the core. Node's main thread does this: V8's workers were ready and never ran, and Node took
    up to twice as long."""

    def __init__(self) -> None:
        super().__init__("real-time priority stalls servers of several threads on one core: use `nice -n -20` instead")


def refuse_realtime_priority() -> None:
    """Raises `RealtimePriority` if the servers would inherit such a policy."""
    if os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR):
        raise RealtimePriority


def describe() -> dict[str, str | int]:
    """What a reader must know to judge the figures."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(memory_kib / 1024**2),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "pinned": "server and load on a core each" if SERVER_CORE is not None else "nothing (one core)",
    }


@dataclass(frozen=True)
class CpuClock:
    """For how many seconds the cores of the machine were busy, added up. It shows how much other programs used."""

    busy_seconds: float

    @classmethod
    def now(cls) -> "CpuClock":
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        idle = fields[3] + fields[4]
        return cls((sum(fields[:8]) - idle) / os.sysconf("SC_CLK_TCK"))


def process_cpu_seconds(pid: int) -> float:
    """User and system time of a process so far. 0.0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def anonymous_bytes(pid: int) -> int:
    """Memory that a process has allocated itself.

    This is not the unique set size, which counts the pages of libraries that no other process maps. That falls by 20
    MiB when another server of the same installation starts, and rises when that server ends.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024
