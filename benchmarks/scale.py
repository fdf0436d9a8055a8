"""Measures what workers cost: one server with one, two, four and eight workers, all of its processes on one core.

    uv run python -m benchmarks.scale [--rounds 5] [--seconds 5] [--workers 1 2 4 8] [--tree DIRECTORY] [--resume]

On one core, more workers cannot make the server faster. So the ratios say how much of one core's work is left when it
is split among workers. The CPU time of the log's owner for each post says how many posts one owner can take on a
machine with many cores. `--tree` measures one process of another working tree of this repository in the same rounds, as
`before`. Results are written after each round. So `--resume` continues a run that was interrupted, and `--render`
prints the last results again. Prints a Markdown table and writes `benchmarks/results/scale.json` and `scale.md`, and a
plot.
"""

import json
import statistics
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import machine, plots
from benchmarks.load_generator import Load, run
from benchmarks.machine import process_cpu_seconds
from benchmarks.processes import raise_file_limit, running
from benchmarks.runner import RESULTS
from benchmarks.servers import ROOT, SERVERS, Server, add_before

LOADS = {"fanout": Load(5000, publishers=16, channels=200), "posting": Load(2, publishers=16)}
BEFORE = "before"
QUIET_CORES = 0.1
"""A row is marked if other programs used more than this many cores while it was measured."""

Row = dict[str, Any]


def server(workers: int | str) -> Server:
    """RAQCOON with this many workers, or the server of the other working tree."""
    if workers == BEFORE:
        return SERVERS["raqcoon-before"]
    alone = SERVERS["raqcoon"]
    return replace(
        alone,
        key=f"workers-{workers}",
        label=f"{workers} workers",
        environment={**alone.environment, "RAQCOON_WORKERS": str(workers)},
    )


def processes(pid: int) -> dict[str, int]:
    """The processes of the server by name. A server without workers has one process, `w1`."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if not children:
        return {"w1": pid}
    named = {Path(f"/proc/{child}/comm").read_text().strip().removeprefix("raqcoon "): int(child) for child in children}
    return {"supervisor": pid, **named}


def complete(pid: int, workers: int | str) -> dict[str, int]:
    """Waits until all processes are there, and returns `processes`."""
    while True:
        found = processes(pid)
        if workers in (1, BEFORE) or len(found) == int(workers) + 2:
            return found
        time.sleep(0.05)


def proportional_bytes(pid: int) -> int:
    """The memory of a process. Memory that several processes share is divided among them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def measured(workers: int | str, load: Load) -> Row:
    """One round of one load: rates, the CPU time of each kind of process for a post, and the memory before the load.

    The CPU time includes the opening of the subscriptions, which matters only if there are thousands of them.
    """
    started = time.monotonic()
    with running(server(workers)) as found:
        pids = complete(found.pid, workers)
        start_seconds = time.monotonic() - started
        memory = sum(map(proportional_bytes, pids.values()))
        before = {name: process_cpu_seconds(pid) for name, pid in pids.items()}
        began = time.monotonic()
        report = run(found, load)
        took = time.monotonic() - began
        spent = {name: process_cpu_seconds(pid) - before[name] for name, pid in pids.items()}
    posts = max(1, report["posts"])
    of_children = sum(seconds for name, seconds in spent.items() if pids[name] != found.pid)
    return {
        "workers": workers,
        "posts_per_second": report["posts_per_second"],
        "deliveries_per_second": report["deliveries_per_second"],
        "p50_ms": report["latency_ms"]["p50"],
        "p99_ms": report["latency_ms"]["p99"],
        "owner_us_per_post": 1e6 * spent.get("owner", 0.0) / posts,
        "workers_us_per_post": 1e6 * sum(s for name, s in spent.items() if name.startswith("w")) / posts,
        "start_seconds": start_seconds,
        "memory_mib": memory / 2**20,
        "load_cpu_share": report["load_cpu_share"],
        "elsewhere_cores": max(0.0, report["elsewhere_cpu_share"] - of_children / took),
        "complete": report.get("complete", False),
    }


def median(rows: Sequence[Row], workers: int | str, figure: str) -> float:
    return float(statistics.median(row[figure] for row in rows if row["workers"] == workers))


def ratio(rows: Sequence[Row], workers: int | str, figure: str) -> float:
    """The median, over the rounds, of the rate with this many workers divided by the rate with one in the same
    round."""
    of_these, of_one = ([row[figure] for row in rows if row["workers"] == each] for each in (workers, 1))
    return float(statistics.median(these / one for these, one in zip(of_these, of_one, strict=False)))


def table(rows: dict[str, list[Row]], counts: Sequence[int | str]) -> str:
    """The medians, and for each number of workers its ratio to one worker in the same rounds."""
    lines = [
        "| workers | deliveries/s, 200 channels of 25 | of one | posts/s, 2 subscribers | of one "
        "| owner, µs CPU a post | workers, µs CPU a post | memory MiB | start s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    fanout, posting = rows["fanout"], rows["posting"]
    for count in counts:
        whole = all(row["complete"] for kind in rows.values() for row in kind if row["workers"] == count)
        lines.append(
            f"| {'1, before workers' if count == BEFORE else count}{'' if whole else ' (incomplete)'} "
            f"| {median(fanout, count, 'deliveries_per_second'):,.0f} "
            f"| {ratio(fanout, count, 'deliveries_per_second'):.2f} "
            f"| {median(posting, count, 'posts_per_second'):,.0f} "
            f"| {ratio(posting, count, 'posts_per_second'):.2f} "
            f"| {median(posting, count, 'owner_us_per_post'):.0f} "
            f"| {median(posting, count, 'workers_us_per_post'):.0f} "
            f"| {median(posting, count, 'memory_mib'):.0f} | {median(posting, count, 'start_seconds'):.1f} |"
        )
    return "\n".join(lines)


def render(document: dict[str, Any]) -> None:
    """Prints the table, writes it, and draws the plot."""
    rows = document["rows"]
    counts = list(dict.fromkeys(row["workers"] for row in rows["posting"]))
    described = ", ".join(f"{name} {value}" for name, value in document["machine"].items())
    noisy = [row for kind in rows.values() for row in kind if row["elsewhere_cores"] > QUIET_CORES]
    text = (
        f"{table(rows, counts)}\n\nMedians of {len(rows['posting']) // len(counts)} rounds of "
        f"{document['seconds']:g} s; ratios are medians of those of each round. In {len(noisy)} of "
        f"{sum(map(len, rows.values()))} measurements other programs took more than {QUIET_CORES:g} cores."
    )
    print(text)
    (RESULTS / "scale.md").write_text(f"# Workers on one core\n\n{described}\n\n{text}\n")
    numbers = [count for count in counts if count != BEFORE]
    plots.scale(
        {
            "deliveries/s": [(n, ratio(rows["fanout"], n, "deliveries_per_second")) for n in numbers],
            "posts/s": [(n, ratio(rows["posting"], n, "posts_per_second")) for n in numbers],
        },
        ROOT / "docs" / "images" / "scale.svg",
    )


def main() -> int:
    parser = ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement; the table shows medians")
    parser.add_argument("--seconds", type=float, default=5, help="length of each measurement")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--tree", type=Path, help="another working tree, measured beside this one as `before`")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was interrupted")
    parser.add_argument("--render", action="store_true", help="print table and plot of the last results again")
    parsed = parser.parse_args()
    results = RESULTS / "scale.json"
    if parsed.render:
        render(json.loads(results.read_text()))
        return 0
    raise_file_limit()
    counts: list[int | str] = list(parsed.workers)
    if parsed.tree:
        add_before(parsed.tree.resolve())
        counts.insert(1, BEFORE)
    document: dict[str, Any] = {
        "machine": machine.describe(),
        "seconds": parsed.seconds,
        "rows": {kind: [] for kind in LOADS},
    }
    if parsed.resume and results.exists():
        document["rows"] = json.loads(results.read_text())["rows"]
    done = len(document["rows"]["posting"]) // len(counts)
    for number in tqdm(range(done, parsed.rounds), unit="round"):
        for kind, load in LOADS.items():
            # Every second round goes in the opposite order. So if the machine becomes slower, this affects all alike.
            order = counts if number % 2 == 0 else counts[::-1]
            found = [measured(count, replace(load, seconds=parsed.seconds)) for count in order]
            document["rows"][kind] += sorted(found, key=lambda row: counts.index(row["workers"]))
        RESULTS.mkdir(exist_ok=True)
        results.write_text(json.dumps(document, indent=1) + "\n")
    render(document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
