"""What workers cost: the same server with one, two, four and eight workers, all of its processes on one core.

    uv run python -m benchmarks.scale [--rounds 5] [--seconds 5] [--workers 1 2 4 8]

On one core workers can only cost: the ratios say how much of it is left when the work is split. The CPU time of the
log's owner for each post says what one owner can carry on a machine of many cores. Prints a Markdown table and writes
`benchmarks/results/scale.json` and `scale.md`.
"""

import json
import os
import statistics
import sys
import time
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.load_generator import Load, run
from benchmarks.machine import process_cpu_seconds
from benchmarks.processes import raise_file_limit, running
from benchmarks.runner import RESULTS
from benchmarks.servers import SERVERS, Server

FANOUT = Load(5000, publishers=16, channels=200)
POSTING = Load(2, publishers=16)


def server(workers: int) -> Server:
    """RAQCOON with so many workers."""
    alone = SERVERS["raqcoon"]
    return replace(
        alone,
        key=f"workers-{workers}",
        label=f"{workers} workers",
        environment={**alone.environment, "RAQCOON_WORKERS": str(workers)},
    )


def processes(pid: int) -> dict[str, int]:
    """The server's processes by name; one that has no workers is `w1`."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if not children:
        return {"w1": pid}
    named = {Path(f"/proc/{child}/comm").read_text().strip().removeprefix("raqcoon "): int(child) for child in children}
    return {"supervisor": pid, **named}


def complete(pid: int, workers: int) -> dict[str, int]:
    """`processes`, once all are there."""
    while True:
        found = processes(pid)
        if len(found) == (1 if workers == 1 else workers + 2):
            return found
        time.sleep(0.05)


def proportional_bytes(pid: int) -> int:
    """A process's memory, with what it shares divided among those who share it."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def measured(workers: int, load: Load) -> dict[str, Any]:
    """One round of one load: rates, CPU by kind of process for each post, and memory before the load."""
    started = time.monotonic()
    with running(server(workers)) as found:
        pids = complete(found.pid, workers)
        start_seconds = time.monotonic() - started
        memory = sum(map(proportional_bytes, pids.values()))
        before = {name: process_cpu_seconds(pid) for name, pid in pids.items()}
        report = run(found, load)
        spent = {name: process_cpu_seconds(pid) - before[name] for name, pid in pids.items()}
    posts = max(1, report["posts"])
    return {
        "workers": workers,
        "posts_per_second": report["posts_per_second"],
        "deliveries_per_second": report["deliveries_per_second"],
        "owner_us_per_post": 1e6 * spent.get("owner", 0.0) / posts,
        "workers_us_per_post": 1e6 * sum(s for name, s in spent.items() if name.startswith("w")) / posts,
        "start_seconds": start_seconds,
        "memory_mib": memory / 2**20,
        "complete": report.get("complete", False),
    }


def table(rows: dict[str, list[dict[str, Any]]], counts: list[int]) -> str:
    """Medians, and each count's ratio to one worker in the same rounds."""

    def median(kind: str, workers: int, figure: str) -> float:
        return statistics.median(row[figure] for row in rows[kind] if row["workers"] == workers)

    lines = [
        "| workers | deliveries/s, 200 channels of 25 | of one | posts/s, 2 subscribers | of one "
        "| owner, µs CPU a post | workers, µs CPU a post | memory MiB | start s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for count in counts:
        delivered, posted = (
            median("fanout", count, "deliveries_per_second"),
            median("posting", count, "posts_per_second"),
        )
        lines.append(
            f"| {count} | {delivered:,.0f} | {delivered / median('fanout', counts[0], 'deliveries_per_second'):.2f} "
            f"| {posted:,.0f} | {posted / median('posting', counts[0], 'posts_per_second'):.2f} "
            f"| {median('posting', count, 'owner_us_per_post'):.0f} "
            f"| {median('posting', count, 'workers_us_per_post'):.0f} "
            f"| {median('posting', count, 'memory_mib'):.0f} | {median('posting', count, 'start_seconds'):.1f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--only", choices=["fanout", "posting"], nargs="+", default=["fanout", "posting"])
    parsed = parser.parse_args()
    raise_file_limit()
    loads = {"fanout": FANOUT, "posting": POSTING}
    rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in loads}
    for _ in range(parsed.rounds):
        for kind in parsed.only:
            for count in parsed.workers:
                row = measured(count, replace(loads[kind], seconds=parsed.seconds))
                print(kind, json.dumps(row), file=sys.stderr, flush=True)
                rows[kind].append(row)
    RESULTS.mkdir(exist_ok=True)
    document = {"machine": machine.describe(), "rounds": parsed.rounds, "seconds": parsed.seconds, "rows": rows}
    (RESULTS / "scale.json").write_text(json.dumps(document, indent=1) + "\n")
    text = table(rows, parsed.workers)
    print(text)
    (RESULTS / "scale.md").write_text(f"# Workers on one core ({os.cpu_count()} cores in all)\n\n{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
