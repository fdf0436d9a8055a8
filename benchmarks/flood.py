"""What a flood on one limit costs everybody else: latencies beside each flood, and without one, in the same run.

    uv run python -m benchmarks.flood [--seconds 5] [--runs 3] [--only posts documents]

500 subscribers are served 20 posts a second, another socket is pinged every 20 ms and another channel is posted to
every 50 ms. Meanwhile a client at another address does one thing past its limit as often as it can. Server and load are
pinned to a core each; the flood shares the load's, behind it. Prints a Markdown table.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from statistics import median
from typing import Any

from tqdm import tqdm

from benchmarks.flooder import KINDS, SUBSCRIPTIONS
from benchmarks.load_generator import Load, LoadFailed, run
from benchmarks.machine import LOAD_CORE, describe, pinned
from benchmarks.processes import Running, ServerFailed, raise_file_limit, running
from benchmarks.servers import ROOT, SERVERS

CALM = "(no flood)"
SUBSCRIBERS = 500
LIMITS = {
    "RAQCOON_POSTS_PER_SECOND": "100",
    "RAQCOON_MAX_SUBSCRIPTIONS_PER_CONNECTION": str(SUBSCRIPTIONS),
}
FLOOD_NICENESS = 10
"""The load generator goes first on the core that both share: it is what measures."""


def measure(kind: str, seconds: float) -> dict[str, Any]:
    """One report of the load generator; `refused_per_second` and `otherwise` are what the flood was told."""
    limits = dict(LIMITS)
    held = 0
    if kind == "filters":
        limits["RAQCOON_MAX_SUBSCRIPTIONS_PER_CONNECTION"] = "1000"
    if kind == "connections":
        # The limit must leave room for the load. The flood holds as many at its own address, and then asks for more.
        held = SUBSCRIBERS + 50
        limits["RAQCOON_MAX_CONNECTIONS_PER_ADDRESS"] = str(held)
    load = Load(SUBSCRIBERS, rate=20, seconds=seconds, ping_interval_ms=20, post_probe_interval_ms=50)
    with running(replace(SERVERS["raqcoon"], environment=limits)) as target:
        if kind == CALM:
            return {**run(target, load), "refused_per_second": 0.0, "otherwise": 0}
        flood = _start(target, kind, held)
        try:
            report = run(target, load)
            told = json.loads(flood.communicate("", timeout=30)[0])
        finally:
            flood.kill()
            flood.wait()
    return {**report, "refused_per_second": told["refused"] / told["seconds"], "otherwise": told["otherwise"]}


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
    label = kind if kind == CALM else KINDS[kind].limit
    return f"| {label}{mark} | {refused} | {busy:.0%} | {' | '.join(times)} |"


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
        "| flood on | refused/s | server's core | delivery p50 / p99 ms | ping p50 / p99 ms | post p50 / p99 ms |\n"
        "|---|---:|---:|---:|---:|---:|"
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
