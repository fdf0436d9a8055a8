"""Measures two nodes on one PostgreSQL, and one node and SQLite in the same run.

    uv run python -m benchmarks.nodes [--seconds 5] [--runs 3] [--together]

Prints Markdown tables and writes `benchmarks/results/nodes.json`. With `--together` it measures only what a second
and a third node cost one PostgreSQL. That takes two to three minutes and writes no file.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.machine import CpuClock, describe, process_cpu_seconds
from benchmarks.nodes_load import Listening, Poster, listen
from delivery.hubs import Hubs
from message_log.sql import SqlMessageLog
from messages import Draft
from tests.cluster.postgres import PostgresProcess, own_postgres
from tests.server_process import REPOSITORY, ServerProcess, running

RESULTS = REPOSITORY / "benchmarks" / "results" / "nodes.json"
POSTERS = 16
LIGHT_POSTS_PER_SECOND = 20
SWEPT_CHANNELS = 10_000


class Nodes:
    """Starts nodes, for one measurement after the other. Each measurement has a new, empty log."""

    def __init__(self, postgres: PostgresProcess, directory: Path, seconds: float) -> None:
        self._postgres = postgres
        self._directory = directory
        self._seconds = seconds
        self._logs = 0

    async def measure(
        self, kind: str, nodes: int, channels: int, *, light: bool = False, spread: bool = False, variant: str = ""
    ) -> dict[str, Any]:
        """Posts to the first node, or with `spread` to all. Measures the deliveries on the first and on the last
        node."""
        self._logs += 1
        url = f"sqlite:///{self._directory}/{self._logs}.db"
        if kind == "PostgreSQL":
            url = self._postgres.new_database(f"bench_{self._logs}")
        command = (str(REPOSITORY / "benchmarks" / "hint_variants.py") if variant else "server.py",)
        made = [
            ServerProcess(
                self._directory,
                f"{self._logs}-{i}",
                command=command,
                environment={"HINT_VARIANT": variant} if variant else None,
                database_url=url,
            )
            for i in range(nodes)
        ]
        channel_ids = [f"c{i}" for i in range(channels)]
        async with running(*made), AsyncExitStack() as stack:
            heard = [Listening() for _ in made]
            ready = asyncio.Barrier(1 + len(made) * -(-channels // 100))
            listeners = [
                asyncio.create_task(listen(node.port, channel_ids, listening, ready))
                for node, listening in zip(made, heard, strict=True)
            ]
            for task in listeners:
                stack.callback(task.cancel)
            await ready.wait()
            count = 1 if light else POSTERS
            posters = [Poster(made[i % nodes if spread else 0].port) for i in range(count)]
            pause = 1 / LIGHT_POSTS_PER_SECOND if light else 0.0
            machine, began = CpuClock.now(), time.perf_counter()
            own = time.process_time() + sum(process_cpu_seconds(node.pid) for node in made)
            until = began + self._seconds
            await asyncio.gather(*(poster.run(channel_ids, i * 7, until, pause) for i, poster in enumerate(posters)))
            took = time.perf_counter() - began
            busy = CpuClock.now().busy_seconds - machine.busy_seconds
            own = time.process_time() + sum(process_cpu_seconds(node.pid) for node in made) - own
            await asyncio.sleep(1)
            posted = sum(poster.posted for poster in posters)
        here, there = heard[0].latencies, heard[-1].latencies
        return {
            "log": kind,
            "nodes": nodes,
            "channels": channels,
            "variant": variant,
            "light": light,
            "posts_per_second": posted / took,
            "here_ms": quantiles(here),
            "there_ms": quantiles(there),
            "complete": all(len(each.latencies) == posted and not each.confused for each in heard),
            "other_load_cores": max(0.0, (busy - own) / took),
        }


def quantiles(latencies: list[float]) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    cuts = statistics.quantiles(latencies, n=100)
    return cuts[49] * 1000, cuts[98] * 1000


async def measure_sweep(url: str) -> dict[str, float]:
    """How long it takes to read the heads of many channels once. The median of 15."""
    log = SqlMessageLog(url)
    hubs = Hubs(log)
    hub = hubs.messages
    await log.open(hubs)
    ids = [f"channel {i}" for i in range(SWEPT_CHANNELS)]
    for i in range(0, SWEPT_CHANNELS, 500):
        await asyncio.gather(*(log.append(Draft(id_, "bench", "x")) for id_ in ids[i : i + 500]))
    walls, cpus = [], []
    for _ in range(15):
        began, cpu = time.perf_counter(), time.process_time()
        heads = await log.last_sequences(ids)
        for channel_id, sequence in heads.items():
            hub.hinted(channel_id, sequence)
        walls.append(time.perf_counter() - began)
        cpus.append(time.process_time() - cpu)
    await log.close()
    return {"wall_ms": statistics.median(walls) * 1000, "cpu_ms": statistics.median(cpus) * 1000}


def table(rows: list[dict[str, Any]], name: str) -> str:
    lines = [
        f"| {name} | channels | posts/s | p50 / p99 ms, same node | p50 / p99 ms, other node | others' load |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        label = row["variant"] or f"{row['log']}, {row['nodes']} node{'s' * (row['nodes'] > 1)}"
        there = "{:.1f} / {:.1f}".format(*row["there_ms"]) if row["nodes"] > 1 else ""
        mark = "" if row["complete"] else " (incomplete)"
        lines.append(
            f"| {label}{', light' * row['light']}{mark} | {row['channels']} | {row['posts_per_second']:,.0f} | "
            f"{row['here_ms'][0]:.1f} / {row['here_ms'][1]:.1f} | {there} | {row['other_load_cores']:.1f} |"
        )
    return "\n".join(lines)


def middle(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The medians of the rounds of one measurement. It is complete only if each round was."""
    first = rounds[0]
    return {
        **first,
        "posts_per_second": statistics.median(each["posts_per_second"] for each in rounds),
        **{
            place: tuple(statistics.median(each[place][i] for each in rounds) for i in range(2))
            for place in ("here_ms", "there_ms")
        },
        "complete": all(each["complete"] for each in rounds),
        "other_load_cores": max(each["other_load_cores"] for each in rounds),
    }


async def measure(seconds: float, runs: int) -> dict[str, Any]:
    posting = [
        {"kind": kind, "nodes": nodes, "channels": channels}
        for channels in (1, 10, 100)
        for kind, nodes in (("SQLite", 1), ("PostgreSQL", 1), ("PostgreSQL", 2))
    ]
    light = [{"kind": "PostgreSQL", "nodes": 2, "channels": channels, "light": True} for channels in (1, 10)]
    hints = [
        {"kind": "PostgreSQL", "nodes": 2, "channels": 10, "spread": True, "variant": variant}
        for variant in ("with messages", "sequences alone", "in transaction", "sweep alone")
    ]
    steps: list[dict[str, Any]] = [*posting, *light, *hints]
    rounds: list[list[dict[str, Any]]] = [[] for _ in steps]
    with own_postgres() as postgres, tempfile.TemporaryDirectory(dir=REPOSITORY / "benchmarks") as directory:
        nodes = Nodes(postgres, Path(directory), seconds)
        # Each round measures everything once. So if the machine becomes slower or faster, this affects all alike.
        for number in tqdm([number for _ in range(runs) for number in range(len(steps))], unit="run"):
            rounds[number].append(await nodes.measure(**steps[number]))
        sweep = await measure_sweep(postgres.new_database("sweep"))
    rows = [middle(each) for each in rounds]
    print(table(rows[: -len(hints)], "log") + "\n")
    print(table(rows[-len(hints) :], "hints, both nodes posted to") + "\n")
    print(
        f"Medians of {runs} rounds of {seconds:g} s. Sweep of {SWEPT_CHANNELS:,} channels: {sweep['wall_ms']:.0f} ms, "
        f"of which {sweep['cpu_ms']:.0f} ms of CPU in the node."
    )
    return {"machine": describe(), "seconds": seconds, "runs": runs, "rows": rows, "rounds": rounds, "sweep": sweep}


async def measure_together(seconds: float, runs: int) -> None:
    """Compares one node with two (posts go to the first) and with three (posts go to all). Prints medians and
    ratios."""
    steps: list[dict[str, Any]] = [
        {"kind": "PostgreSQL", "nodes": nodes, "channels": 100, "spread": nodes == 3} for nodes in (1, 2, 3)
    ]
    rounds: list[list[dict[str, Any]]] = [[] for _ in steps]
    with own_postgres() as postgres, tempfile.TemporaryDirectory(dir=REPOSITORY / "benchmarks") as directory:
        nodes = Nodes(postgres, Path(directory), seconds)
        for number in tqdm([number for _ in range(runs) for number in range(len(steps))], unit="run"):
            rounds[number].append(await nodes.measure(**steps[number]))
    print(table([middle(each) for each in rounds], "log") + "\n")
    one = rounds[0]
    for each in rounds[1:]:
        ratios = [more["posts_per_second"] / alone["posts_per_second"] for more, alone in zip(each, one, strict=True)]
        print(
            f"{each[0]['nodes']} nodes to one, posts/s: {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f} in {runs} rounds of {seconds:g} s)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nodes", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
    parser.add_argument("--runs", type=int, default=3, help="rounds; the tables show medians")
    parser.add_argument("--together", action="store_true", help="only what more nodes cost")
    chosen = parser.parse_args()
    if chosen.together:
        asyncio.run(measure_together(chosen.seconds, chosen.runs))
        return
    outcome = asyncio.run(measure(chosen.seconds, chosen.runs))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(outcome, indent=1) + "\n")


if __name__ == "__main__":
    main()
