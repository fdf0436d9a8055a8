"""Measures what a flood on one limit costs all other clients: their latencies during each flood, and without a flood.

    uv run python -m benchmarks.flood [--seconds 5] [--runs 3] [--only posts documents]

500 subscribers are sent 20 posts a second. Another socket gets a ping every 20 ms, and another channel gets a post
every 50 ms. Meanwhile a client at another address does one thing as often as it can, usually above a limit. The server
and the load each have a core. The flood uses the core of the load, with lower priority. Prints a Markdown table: the
latencies of the others, the longest time for which the server stood still (`benchmarks.standstill`), and how much more
memory it held than before, during the flood and afterwards.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from statistics import median
from typing import Any

from tqdm import tqdm

from benchmarks.floods import KINDS, SUBSCRIPTIONS
from benchmarks.load_generator import Load, LoadFailed, run
from benchmarks.machine import LOAD_CORE, anonymous_bytes, describe, pinned
from benchmarks.processes import Running, ServerFailed, raise_file_limit, running
from benchmarks.servers import ROOT, SERVERS

CALM = "(no flood)"
SUBSCRIBERS = 500
LIMITS = {
    "RAQCOON_POSTS_PER_SECOND": "100",
    "RAQCOON_MAX_SUBSCRIPTIONS_PER_CONNECTION": str(SUBSCRIPTIONS),
}
GONE_SECONDS = 2.0
FLOOD_NICENESS = 10
"""On the core that both share, the load generator has the higher priority, because it measures."""


def measure(kind: str, seconds: float) -> dict[str, Any]:
    """One report of the load generator. `refused_per_second` and `otherwise` count the answers to the flood."""
    limits = {**LIMITS, **dict(KINDS[kind].settings if kind in KINDS else ())}
    held = 0
    if kind == "connections":
        # The limit must leave room for the load. The flood opens as many from its own address, and then asks for more.
        held = SUBSCRIBERS + 50
        limits["RAQCOON_MAX_CONNECTIONS_PER_ADDRESS"] = str(held)
    load = Load(SUBSCRIBERS, rate=20, seconds=seconds, ping_interval_ms=20, post_probe_interval_ms=50)
    with running(replace(SERVERS["raqcoon"], environment=limits)) as target:
        standstill = _start_standstill(target)
        flood = None if kind == CALM else _start(target, kind, held)
        told = {"refused": 0, "otherwise": 0, "seconds": 1.0}
        memory = Memory(target.pid)
        try:
            report = run(target, load)
            memory.look()
            if flood is not None:
                told = json.loads(flood.communicate("", timeout=30)[0])
            stood = json.loads(standstill.communicate("", timeout=60)[0])
        finally:
            for process in (flood, standstill):
                if process is not None:
                    process.kill()
                    process.wait()
        left = memory.left_mib()
    return {
        **report,
        "refused_per_second": told["refused"] / told["seconds"],
        "otherwise": told["otherwise"],
        "standstill_ms": stood["worst_ms"],
        "grown_mib": memory.grown_mib,
        "left_mib": left,
    }


class Memory:
    """How much more memory a server has allocated than before."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = anonymous_bytes(pid)
        self.grown_mib = 0.0
        self._over = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._watching.start()

    def look(self) -> None:
        self.grown_mib = max(self.grown_mib, (anonymous_bytes(self._pid) - self._before) / 2**20)

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self.look()

    def left_mib(self) -> float:
        """How much of it is left a moment after all clients have gone."""
        self._over.set()
        self._watching.join()
        time.sleep(GONE_SECONDS)
        return (anonymous_bytes(self._pid) - self._before) / 2**20


def _start_standstill(target: Running) -> "subprocess.Popen[str]":
    with pinned(LOAD_CORE):
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.standstill", "--port", str(target.port), "--pid", str(target.pid)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    assert process.stdout is not None
    process.stdout.readline()  # The watching program has begun.
    return process


def _start(target: Running, kind: str, held: int) -> "subprocess.Popen[str]":
    command = ["nice", "-n", str(FLOOD_NICENESS), sys.executable, "-m", "benchmarks.flooder"]
    with pinned(LOAD_CORE):
        return subprocess.Popen(
            [*command, "--port", str(target.port), "--kind", kind, "--held", str(held)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


def _row(kind: str, reports: list[dict[str, Any]]) -> str:
    def middle(figure: str, share: str) -> float:
        return median(report[figure][share] for report in reports)

    times = [
        f"{middle(figure, 'p50'):.1f} / {middle(figure, 'p99'):.1f}"
        for figure in ("latency_ms", "ping_probe_ms", "post_probe_ms")
    ]
    refused = "" if kind == CALM else f"{median(report['refused_per_second'] for report in reports):,.0f}"
    busy = median(report["server_cpu_share"] for report in reports)
    mark = "" if all(report["complete"] and not report["otherwise"] for report in reports) else " *"
    label = kind if kind == CALM else KINDS[kind].label
    worst = max(report["standstill_ms"] for report in reports)
    grown, left = (median(report[figure] for report in reports) for figure in ("grown_mib", "left_mib"))
    return f"| {label}{mark} | {refused} | {busy:.0%} | {' | '.join(times)} | {worst:.0f} | {grown:.0f} / {left:.0f} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--runs", type=int, default=3, help="rounds; the table shows medians")
    parser.add_argument("--only", nargs="+", choices=sorted(KINDS), default=sorted(KINDS))
    options = parser.parse_args()
    raise_file_limit()
    reports: dict[str, list[dict[str, Any]]] = {kind: [] for kind in (CALM, *options.only)}
    with tqdm([kind for _ in range(options.runs) for kind in reports], unit="run", dynamic_ncols=True) as progress:
        for kind in progress:
            progress.set_description(kind)
            try:
                reports[kind].append(measure(kind, options.seconds))
            except (LoadFailed, ServerFailed) as failure:
                progress.write(f"{kind}: {failure}", file=sys.stderr)
                return 1
    print(
        "| flood on | requests/s | server's core | delivery p50 / p99 ms | ping p50 / p99 ms | post p50 / p99 ms "
        "| standstill ms | MiB more, left |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    for kind, measured in reports.items():
        print(_row(kind, measured))
    machine = describe()
    print(
        f"\nMedians of {options.runs} rounds of {options.seconds:g} s. {machine['cpu']}, {machine['cores']} cores, "
        f"Linux {machine['kernel']}, Python {machine['python']}. * not everything came, or the flood was told otherwise"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
